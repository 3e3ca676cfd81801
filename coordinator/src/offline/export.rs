//! Exporting the content of a root as a table: lines of NDJSON, or a Parquet file.
//!
//! ```text
//!  each partition, bucket by bucket ─► rows of the bucket, in order ─► row groups ─► output
//!                                                                                      │
//!                     FILE, once it is complete ◄─ rename ◄─ file beside it, or standard output
//! ```
//!
//! In memory are the log since the last snapshot, compressed, the content of a few buckets and one
//! row group.

mod ndjson;
mod output;
#[cfg(feature = "parquet")]
mod parquet;
mod rows;

use std::ops::ControlFlow;
use std::path::PathBuf;

use satchel_engine::address::{Address, FunctionType};
use satchel_engine::durable::{Change, Key};
use satchel_engine::partition::BucketProblem;
use satchel_engine::placement::{CachedPlacement, KeyGroup};
use satchel_log::{Application, At, BucketFold, Entry, Reading};
use satchel_storage::encode::decode_entry;
use satchel_storage::placement::recorded;

use self::output::Output;
use self::rows::{Place, Row};
use super::root::Root;
use super::states::{at_ms_of, read_failure};
use crate::clock::now_ms;
use crate::error::{Exit, Failure};

/// Maximum number of times that an export begins again.
const RESTARTS_MAX: u32 = 2;

/// Rows that an export has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// The states of all addresses.
    States,
    /// The messages that wait in the mailboxes of addresses.
    Messages,
    /// The pending delayed messages.
    Timers,
    /// The messages and egress records that were given up.
    DeadLetters,
}

/// Format of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line. Lines of [`Table::States`] are those that an import reads.
    Ndjson,
    /// A Parquet file.
    Parquet,
}

/// Settings of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Rows of the export.
    pub table: Table,
    /// Format of the output.
    pub format: Format,
    /// State of the root that is exported.
    pub at: At,
    /// Only rows of this function.
    pub function: Option<FunctionType>,
    /// File to write, which may exist; `None` for standard output.
    pub file: Option<PathBuf>,
}

/// Result of an export.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Number of rows.
    pub rows: u64,
    /// Partition time of the newest commit, whatever was asked for, in ms since the epoch; `None`
    /// if it is not known.
    pub newest_ms: Option<u64>,
}

/// Exports a table of `root`, partition by partition, key group by key group, and in the order of
/// addresses within each. The root must belong to the application `expected`, if one is given.
/// States that had expired at that time are left out.
///
/// A file gets its name when it is complete. If standard output is closed, the export ends early.
///
/// # Errors
/// [`Exit::Usage`] if the moment is in the future, or this binary does not know the format;
/// [`Exit::Environment`] if this is no root, or the store or the output fails; [`Exit::Damaged`] if
/// an object that must be read is damaged or missing, if the history no longer reaches back to the
/// moment, or if an owner deleted what is being read and the output cannot begin again.
pub async fn export(
    root: &Root,
    expected: Option<&str>,
    export: &Export,
) -> Result<Exported, Failure> {
    let application = root.application(expected).await?;
    check_moment(root, &application, export.at).await?;
    let output = Output::create(export.file.as_deref())?;
    let mut rows = Rows {
        placement: CachedPlacement::new(recorded(&application)),
        export,
        now_ms: now_ms(),
        at_ms: 0,
        partition: 0,
        bucket: Vec::new(),
        writer: writer(export, output)?,
        rows_before: 0,
        stopped: None,
    };
    let source = root.source();
    let mut newest_ms = None;
    let mut restarts = 0;
    while rows.partition < application.partitions {
        rows.rows_before = rows.writer.rows();
        let partition = rows.partition;
        let read =
            satchel_log::read_buckets(&source, &application, partition, export.at, &mut rows);
        if let Some(reading) = read.await.map_err(read_failure)? {
            newest_ms = newest_ms.max(reading.newest_ms);
            rows.partition += 1;
            continue;
        }
        match rows.stopped.take() {
            Some(Stopped::Failed(failure)) => return Err(failure),
            Some(Stopped::Malformed(problem)) => {
                let message = format!("the durable state: partition {partition}: {problem}");
                return Err(Failure::new(Exit::Damaged, message));
            }
            Some(Stopped::MovedOn) if restarts < RESTARTS_MAX => {
                restarts += 1;
                rows.writer.restart()?;
                rows.partition = 0;
            }
            Some(Stopped::MovedOn) => return Err(output::moved_on()),
            Some(Stopped::Closed) | None => {
                let rows = rows.writer.rows();
                return Ok(Exported { rows, newest_ms });
            }
        }
    }
    let rows = rows.writer.finish()?;
    Ok(Exported { rows, newest_ms })
}

/// Checks that a moment is not in the future, which it is not if any partition has a later commit.
async fn check_moment(root: &Root, application: &Application, at: At) -> Result<(), Failure> {
    /// Wants nothing.
    struct Newest;
    impl BucketFold for Newest {
        fn clear(&mut self) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }
        fn wants(&mut self, _: u16, _: bool) -> bool {
            false
        }
        fn apply(&mut self, _: Entry<'_>) {}
        fn end(&mut self, _: u16) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }
    }
    let At::Moment(moment_ms) = at else {
        return Ok(());
    };
    if moment_ms <= now_ms() {
        return Ok(());
    }
    let source = root.source();
    let mut newest = Newest;
    for partition in 0..application.partitions {
        let read =
            satchel_log::read_buckets(&source, application, partition, At::Latest, &mut newest);
        let reading = read.await.map_err(read_failure)?.unwrap_or_default();
        if reading.newest_ms.is_some_and(|ms| ms >= moment_ms) {
            return Ok(());
        }
    }
    Err(Failure::usage("--at is in the future"))
}

/// Writes rows in one format.
trait Writer {
    /// Adds a row.
    fn push(&mut self, row: &Row) -> Result<(), WriteError>;

    /// Number of rows so far.
    fn rows(&self) -> u64;

    /// Forgets all rows. Fails if some of them have left already.
    fn restart(&mut self) -> Result<(), Failure>;

    /// Completes the output, and returns the number of rows.
    fn finish(self: Box<Self>) -> Result<u64, Failure>;
}

/// Reason why a row was not written.
#[derive(Debug)]
enum WriteError {
    /// The reader of standard output has gone.
    Closed,
    /// Writing failed.
    Failed(Failure),
}

fn writer(export: &Export, output: Output) -> Result<Box<dyn Writer>, Failure> {
    match export.format {
        Format::Ndjson => Ok(Box::new(ndjson::Lines::new(export.table, output))),
        #[cfg(feature = "parquet")]
        Format::Parquet => Ok(Box::new(parquet::ParquetFile::new(export.table, output)?)),
        #[cfg(not(feature = "parquet"))]
        Format::Parquet => Err(Failure::usage(
            "this satchel was built without support for Parquet; build it with the cargo feature \
             `parquet`, which is on by default, or use --format ndjson",
        )),
    }
}

/// Reason why the fold ended the read.
enum Stopped {
    /// The reader of standard output has gone.
    Closed,
    /// An owner deleted what was being read, after some rows were written.
    MovedOn,
    Failed(Failure),
    Malformed(BucketProblem),
}

/// Fold that writes the rows of each bucket.
struct Rows<'a> {
    placement: CachedPlacement,
    export: &'a Export,
    now_ms: u64,
    /// Moment of the partition that is being read.
    at_ms: u64,
    partition: u32,
    /// Facts of the bucket that is being read.
    bucket: Vec<Change>,
    writer: Box<dyn Writer>,
    /// Number of rows before the first one of this partition.
    rows_before: u64,
    stopped: Option<Stopped>,
}

impl Rows<'_> {
    fn wants_key(&self, key: &Key) -> bool {
        let of_table = matches!(
            (self.export.table, key),
            (Table::States, Key::State { .. })
                | (Table::Messages, Key::Message { .. })
                | (Table::Timers, Key::Timer { .. })
                | (Table::DeadLetters, Key::DeadLetter { .. })
        );
        let function = self.export.function.as_ref();
        of_table
            && function.is_none_or(|function| {
                let address = key.address();
                address.is_some_and(|address| address.function == *function)
            })
    }

    fn write_bucket(&mut self, bucket: u16) -> Result<(), WriteError> {
        let mut facts = std::mem::take(&mut self.bucket);
        facts.sort_by(|one, other| order(&one.key).cmp(&order(&other.key)));
        let place = Place {
            moment_ms: self.at_ms,
            partition: self.partition,
            key_group: KeyGroup(bucket),
        };
        for fact in facts.drain(..) {
            if let Some(row) = rows::row(fact, &place) {
                self.writer.push(&row)?;
            }
        }
        self.bucket = facts;
        Ok(())
    }

    fn stop(&mut self, reason: Stopped) -> ControlFlow<()> {
        self.stopped.get_or_insert(reason);
        ControlFlow::Break(())
    }
}

/// Order of rows within a bucket.
fn order(key: &Key) -> (Option<&Address>, &str, u64) {
    match key {
        Key::State { address, name } => (Some(address), name, 0),
        Key::Message { address, number } => (Some(address), "", *number),
        Key::Timer { owner, number } => (Some(owner), "", *number),
        Key::DeadLetter { address, number } => (address.as_ref(), "", *number),
        _ => (None, "", 0),
    }
}

impl BucketFold for Rows<'_> {
    fn clear(&mut self) -> ControlFlow<()> {
        self.bucket.clear();
        if self.writer.rows() == self.rows_before {
            return ControlFlow::Continue(());
        }
        self.stop(Stopped::MovedOn)
    }

    fn begin(&mut self, reading: &Reading) -> ControlFlow<()> {
        self.at_ms = at_ms_of(self.export.at, reading, self.now_ms);
        ControlFlow::Continue(())
    }

    fn wants(&mut self, bucket: u16, pending: bool) -> bool {
        // What is in the tables is of addresses, never of the partition as a whole.
        let of_addresses = bucket < self.placement.placement().buckets();
        let may_hold = match self.export.table {
            Table::States | Table::Timers => true,
            Table::Messages | Table::DeadLetters => pending,
        };
        of_addresses && may_hold
    }

    fn apply(&mut self, entry: Entry<'_>) {
        match decode_entry(&mut self.placement, entry) {
            Ok(change) if self.wants_key(&change.key) => self.bucket.push(change),
            Ok(_) => {}
            Err(problem) => {
                self.stopped.get_or_insert(Stopped::Malformed(problem));
            }
        }
    }

    fn end(&mut self, bucket: u16) -> ControlFlow<()> {
        if self.stopped.is_some() {
            return ControlFlow::Break(());
        }
        match self.write_bucket(bucket) {
            Ok(()) => ControlFlow::Continue(()),
            Err(WriteError::Closed) => self.stop(Stopped::Closed),
            Err(WriteError::Failed(failure)) => self.stop(Stopped::Failed(failure)),
        }
    }
}
