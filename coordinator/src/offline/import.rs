//! Making a new root of states that were written down as lines of NDJSON.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use satchel_engine::address::{FunctionType, RESERVED_NAMESPACE};
use satchel_engine::durable::{Change, Key, Value};
use satchel_log::{
    DEFAULT_BUCKETS, Delta, EntriesBuilder, Entry, Fold, Identity, Log, LogError, Notice, Notices,
    Options, Ownership, take_over,
};
use xxhash_rust::xxh3::xxh3_128;

use super::line::StateLine;
use super::place::{RETRY, Root, failure, on_trouble};
use crate::cli::{Exit, Failure};
use crate::runtime::node::random;
use crate::store::s3::S3Options;
use crate::store::{Place, SystemClock};

/// The size at which a delta is closed, in bytes.
const DELTA_BYTES: usize = 4 << 20;

/// The longest line, in bytes: a delta must be able to hold it, and an engine to send it.
const LINE_BYTES_MAX: usize = 64 << 20;

/// What was imported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// States.
    pub states: u64,
    /// Addresses that have them.
    pub addresses: u64,
}

/// Makes a root of `application` at `place` of the states in `file`, one JSON object a line.
///
/// The whole file is checked before anything is written. A state counts as undeclared until its function declares it, with the same typename.
///
/// # Errors
/// [`Exit::Usage`] names the line that is wrong; [`Exit::Damaged`] if there is a root already; [`Exit::Environment`] if file or store fail.
pub async fn import(
    file: &Path,
    place: &Place,
    s3: S3Options,
    application: &str,
) -> Result<Imported, Failure> {
    let mut lines = Lines::open(file)?;
    let mut check = Check::default();
    while let Some((number, line)) = lines.next()? {
        check
            .take(number, &line)
            .map_err(|problem| lines.problem(number, &problem))?;
    }
    lines.rewind()?;
    let root = Root::open_new(place, s3).await?;
    refuse_existing(&root).await?;
    // From here on there is a root, of which nobody may take a part for the whole.
    write(&root, application, &mut lines)
        .await
        .map_err(|failed| {
            let message = format!(
                "{}; the new state in {place} is not complete: remove it",
                failed.message
            );
            Failure::new(failed.exit, message)
        })?;
    Ok(check.imported())
}

/// The lines of a file, with their numbers. Empty ones are passed over.
struct Lines {
    name: String,
    reader: BufReader<File>,
    number: u64,
}

impl Lines {
    fn open(file: &Path) -> Result<Self, Failure> {
        let name = file.display().to_string();
        let opened = File::open(file).map_err(|error| unreadable(&name, &error))?;
        Ok(Self {
            name,
            reader: BufReader::new(opened),
            number: 0,
        })
    }

    fn next(&mut self) -> Result<Option<(u64, StateLine)>, Failure> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = self.reader.read_until(b'\n', &mut line);
            if read.map_err(|error| unreadable(&self.name, &error))? == 0 {
                return Ok(None);
            }
            self.number += 1;
            let number = self.number;
            if line.len() > LINE_BYTES_MAX {
                let problem = format!("it is longer than {LINE_BYTES_MAX} bytes");
                return Err(self.problem(number, &problem));
            }
            let text = line.trim_ascii();
            if !text.is_empty() {
                let parsed = StateLine::parse(text);
                let parsed = parsed.map_err(|problem| self.problem(number, &problem))?;
                return Ok(Some((number, parsed)));
            }
        }
    }

    fn rewind(&mut self) -> Result<(), Failure> {
        self.number = 0;
        let rewound = self.reader.seek(SeekFrom::Start(0));
        rewound.map_err(|error| unreadable(&self.name, &error))?;
        Ok(())
    }

    fn problem(&self, number: u64, problem: &str) -> Failure {
        Failure::new(Exit::Usage, format!("{}:{number}: {problem}", self.name))
    }
}

/// What only shows when lines are seen together. Keys are remembered as hashes of 128 bits, because there may be millions.
#[derive(Default)]
struct Check {
    seen: HashMap<u128, u64>,
    addresses: HashSet<u128>,
    typenames: HashMap<(FunctionType, Arc<str>), (Arc<str>, u64)>,
}

impl Check {
    fn take(&mut self, number: u64, line: &StateLine) -> Result<(), String> {
        let address = &line.address;
        if address.function.namespace() == RESERVED_NAMESPACE {
            return Err(format!(
                "{address}: the namespace {RESERVED_NAMESPACE:?} is reserved for callers outside"
            ));
        }
        let name = &line.name;
        let (change, mut key) = (change(line.clone()), Vec::new());
        change.encode_key(&mut key);
        if let Some(first) = self.seen.insert(xxh3_128(&key), number) {
            return Err(format!(
                "{address} has its state {name:?} on line {first} already"
            ));
        }
        let parts = [
            address.function.namespace(),
            address.function.name(),
            &*address.id,
        ];
        let parts = serde_json::to_vec(&parts).expect("texts are always JSON");
        self.addresses.insert(xxh3_128(&parts));
        let typename = &line.state.typename;
        let of_function = (address.function.clone(), name.clone());
        let (first, at) = self
            .typenames
            .entry(of_function)
            .or_insert_with(|| (typename.clone(), number));
        if first != typename {
            return Err(format!(
                "the state {name:?} of {} is a {typename}, but a {first} on line {at}",
                address.function
            ));
        }
        Ok(())
    }

    fn imported(&self) -> Imported {
        Imported {
            states: self.seen.len() as u64,
            addresses: self.addresses.len() as u64,
        }
    }
}

fn change(line: StateLine) -> Change {
    Change {
        key: Key::State {
            address: line.address,
            name: line.name,
        },
        value: Some(Value::State(line.state)),
    }
}

async fn refuse_existing(root: &Root) -> Result<(), Failure> {
    let key = root.layout(0).application().to_owned();
    let found = root.store().get(&key).await;
    let found = found.map_err(|error| failure(error.into()))?;
    if found.is_some() || root.holds_partitions().await? {
        return Err(occupied(root));
    }
    Ok(())
}

fn occupied(root: &Root) -> Failure {
    Failure::new(
        Exit::Damaged,
        format!(
            "{} holds the state of an application already: an import makes a new one",
            root.place()
        ),
    )
}

async fn write(root: &Root, application: &str, lines: &mut Lines) -> Result<(), Failure> {
    let ownership = own(root, application).await?;
    let checked = root.opened.check_conditional_create().await;
    checked.map_err(|error| failure(error.into()))?;
    let (log, notices, driver) = ownership.start();
    let mut writing = Writing {
        log,
        notices,
        driver: Box::pin(driver.run()),
        sequence: 0,
        entries: EntriesBuilder::new(),
    };
    while let Some((_, line)) = lines.next()? {
        writing.push(line).await?;
    }
    writing.finish().await
}

/// Takes the new root's only partition over. Somebody else may have been faster.
async fn own(root: &Root, application: &str) -> Result<Ownership, Failure> {
    struct Nothing(bool);
    impl Fold for Nothing {
        fn clear(&mut self) {
            self.0 = true;
        }
        fn apply(&mut self, _: Entry<'_>) {
            self.0 = false;
        }
    }
    let mut nothing = Nothing(true);
    let place = satchel_log::Place {
        store: Arc::clone(root.store()),
        root: root.prefix().to_owned(),
        identity: Identity {
            application: application.to_owned(),
            partition: 0,
            partitions: 1,
            buckets: DEFAULT_BUCKETS,
        },
        nonce: random(),
        clock: Arc::new(SystemClock),
        options: Options {
            retry: RETRY,
            takeover_give_up_ms: RETRY.give_up_ms,
            ..Options::default()
        },
        on_trouble: on_trouble(),
    };
    let ownership = take_over(place, &mut nothing).await.map_err(failure)?;
    if !nothing.0 || ownership.owner.epoch != 1 {
        return Err(occupied(root));
    }
    Ok(ownership)
}

/// Commits states, one delta after the other.
struct Writing {
    log: Log,
    notices: Notices,
    driver: futures::future::BoxFuture<'static, Result<(), LogError>>,
    sequence: u64,
    entries: EntriesBuilder,
}

impl Writing {
    async fn push(&mut self, line: StateLine) -> Result<(), Failure> {
        let change = change(line);
        let (mut key, mut value) = (Vec::new(), Vec::new());
        change.encode_key(&mut key);
        change.encode_value(&mut value);
        let bucket = change.key.bucket(DEFAULT_BUCKETS);
        self.entries.push(bucket, &key, Some(&value));
        if self.entries.len_bytes() >= DELTA_BYTES {
            self.commit(false);
            self.durable().await?;
        }
        Ok(())
    }

    fn commit(&mut self, clean: bool) {
        self.sequence += 1;
        self.log.commit(Delta {
            sequence: self.sequence,
            committed_at_ms: satchel_log::Clock::now(&SystemClock).wall_ms,
            clean,
            entries: std::mem::take(&mut self.entries).finish(),
        });
    }

    /// Waits until all that was committed is durable.
    async fn durable(&mut self) -> Result<(), Failure> {
        loop {
            tokio::select! {
                biased;
                notice = self.notices.next() => {
                    if matches!(notice, Some(Notice::Durable { sequence, .. }) if sequence == self.sequence) {
                        return Ok(());
                    }
                }
                ended = &mut self.driver => {
                    ended.map_err(failure)?;
                }
            }
        }
    }

    /// The last delta, which says that nothing is missing behind it.
    async fn finish(mut self) -> Result<(), Failure> {
        self.commit(true);
        self.durable().await?;
        drop(self.log);
        self.driver.await.map_err(failure)
    }
}

fn unreadable(name: &str, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Environment, format!("{name}: {error}"))
}
