//! An owner that a test advances by hand.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use satchel_log::{
    BucketImage, Contender, Delta, Entries, EntriesBuilder, Entry, Log, LogError, Notice, Notices,
    Offload, Ownership, ReadAhead, Snapshot, read_ahead, take_over, take_over_from,
};

use crate::model::State;

/// Number of polls after which a future counts as stuck. Over real files each poll lets other
/// threads run.
const POLLS_MAX: usize = 2_000;

/// Polls `future` until it is ready or stuck; returns `None` if it is stuck.
pub fn drive<T>(future: &mut (impl Future<Output = T> + Unpin + ?Sized)) -> Option<T> {
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..POLLS_MAX {
        if let Poll::Ready(done) = Pin::new(&mut *future).poll(&mut context) {
            return Some(done);
        }
        std::thread::yield_now();
    }
    None
}

/// A takeover in progress.
pub type PendingTakeover = Pin<Box<dyn Future<Output = (Result<Ownership, LogError>, State)>>>;

/// Begins a takeover; [`drive`] advances it.
#[must_use]
pub fn begin_takeover(contender: Contender) -> PendingTakeover {
    Box::pin(async move {
        let mut state = State::default();
        let result = take_over(contender, &mut state).await;
        (result, state)
    })
}

/// Reads a partition ahead of a takeover.
///
/// # Errors
/// Those of [`read_ahead`].
///
/// # Panics
/// If the reading gets stuck.
pub fn read_ahead_now(contender: &Contender) -> Result<(ReadAhead, State), LogError> {
    let mut state = State::default();
    let mut reading = Box::pin(read_ahead(contender, &mut state, inline()));
    let ahead = drive(&mut reading).expect("nothing holds the reading up")?;
    drop(reading);
    Ok((ahead, state))
}

/// Begins a takeover that continues from what was read ahead; [`drive`] advances it.
#[must_use]
pub fn begin_takeover_from(
    (ahead, mut state): (ReadAhead, State),
    contender: Contender,
) -> PendingTakeover {
    Box::pin(async move {
        let result = take_over_from(ahead, contender, &mut state, inline()).await;
        (result, state)
    })
}

/// Runs the work at once, where it is handed over.
pub(crate) fn inline() -> Offload {
    Arc::new(|work| work())
}

/// An owner at work.
pub struct ManualOwner {
    /// Its epoch.
    pub epoch: u64,
    /// Number of its takeover record.
    pub takeover: u64,
    /// The state that it recovered, with everything that it sealed since.
    pub state: State,
    /// The sequences reported durable.
    pub durable: Vec<u64>,
    /// The log numbers of these deltas.
    pub numbers: Vec<u64>,
    /// Snapshots that took effect.
    pub snapshots: Vec<Snapshot>,
    /// Result of the driver, once it ended.
    pub ended: Option<Result<(), LogError>>,
    /// Buckets whose images are wanted.
    pub wanted: BTreeSet<u16>,
    /// Images that were loaded, in the order of their arrival.
    pub loaded: Vec<(u16, Entries)>,
    /// Errors that kept the owner from deleting.
    pub nothing_deleted: Vec<LogError>,
    /// Time of the next delta that it seals, in milliseconds since 1970.
    pub time_ms: u64,
    sealed: u64,
    log: Option<Log>,
    notices: Notices,
    driver: Pin<Box<dyn Future<Output = Result<(), LogError>>>>,
}

impl ManualOwner {
    /// Takes over at once.
    ///
    /// # Errors
    /// Those of [`take_over`].
    ///
    /// # Panics
    /// If the takeover gets stuck.
    pub fn take_over(contender: Contender) -> Result<Self, LogError> {
        let (ownership, state) =
            drive(&mut begin_takeover(contender)).expect("nothing holds the takeover up");
        Ok(Self::begin(ownership?, state))
    }

    /// Starts work after a takeover.
    #[must_use]
    pub fn begin(ownership: Ownership, state: State) -> Self {
        let (epoch, takeover) = (ownership.owner.epoch, ownership.takeover);
        let time_ms = ownership.committed_at_ms;
        let (log, notices, driver) = ownership.start();
        Self {
            epoch,
            takeover,
            state,
            durable: Vec::new(),
            numbers: Vec::new(),
            snapshots: Vec::new(),
            ended: None,
            wanted: BTreeSet::new(),
            loaded: Vec::new(),
            nothing_deleted: Vec::new(),
            time_ms,
            sealed: 0,
            log: Some(log),
            notices,
            driver: Box::pin(driver.run()),
        }
    }

    /// Seals a delta of changes `(bucket, key, value)` without advancing.
    pub fn seal(&mut self, changes: &[(u16, &str, Option<&str>)]) {
        let mut builder = EntriesBuilder::new();
        for (bucket, key, value) in changes {
            builder.push(*bucket, key.as_bytes(), value.map(str::as_bytes));
        }
        let entries = builder.finish();
        self.state.fold(&entries);
        self.sealed += 1;
        if let Some(log) = &self.log {
            log.commit(Delta {
                sequence: self.sealed,
                committed_at_ms: self.time_ms,
                clean: false,
                entries,
            });
        }
    }

    /// Polls the driver until it is stuck, and handles all notices.
    pub fn advance(&mut self) {
        if self.ended.is_none() {
            self.ended = drive(&mut self.driver);
        }
        while let Ok(notice) = self.notices.try_recv() {
            match notice {
                Notice::Durable {
                    sequence, number, ..
                } => {
                    self.durable.push(sequence);
                    self.numbers.push(number);
                }
                Notice::WantImages(buckets) => self.wanted.extend(buckets),
                Notice::Snapshot(snapshot) => self.snapshots.push(snapshot),
                Notice::Loaded {
                    bucket, entries, ..
                } => self.loaded.push((bucket, entries)),
                Notice::NothingDeleted(reason) => self.nothing_deleted.push(reason),
                Notice::StoreFailure(_) => {}
            }
        }
    }

    /// Seals a delta and advances.
    pub fn commit(&mut self, changes: &[(u16, &str, Option<&str>)]) {
        self.seal(changes);
        self.advance();
    }

    /// Hands over all wanted images, taken now.
    pub fn image(&mut self) {
        while let Some(bucket) = self.wanted.pop_first() {
            let content = self.state.0.iter().filter(|((at, _), _)| *at == bucket);
            let content = content.map(|((bucket, key), value)| Entry {
                bucket: *bucket,
                key,
                value: Some(value),
            });
            let image = BucketImage {
                bucket,
                sequence: self.sealed,
                earliest_due_ms: None,
                pending: false,
                entries: content.collect(),
            };
            if let Some(log) = &self.log {
                log.keep(image);
            }
        }
    }

    /// Hands over all wanted images and advances.
    pub fn image_and_advance(&mut self) {
        self.image();
        self.advance();
    }

    /// Requests the image of a bucket and advances.
    pub fn load(&mut self, bucket: u16) {
        if let Some(log) = &self.log {
            log.load(bucket);
        }
        self.advance();
    }

    /// Requests a snapshot and advances.
    pub fn want_snapshot(&mut self) {
        if let Some(log) = &self.log {
            log.want_snapshot();
        }
        self.advance();
    }

    /// Drops the log, as a clean stop does.
    pub fn stop(&mut self) {
        self.log = None;
        self.advance();
    }

    /// Returns true if it was fenced.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        matches!(self.ended, Some(Err(LogError::Fenced { .. })))
    }
}
