//! An owner that a test moves by hand: it goes on only when it is told to.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use satchel_log::{
    BucketImage, Delta, Entries, EntriesBuilder, Entry, Log, LogError, Notice, Notices, Ownership,
    Place, Snapshot, take_over,
};

use crate::model::State;

/// How often a future is polled before it counts as stuck. Over real files each poll lets other threads run.
const PATIENCE: usize = 2_000;

/// Polls `future` until it is ready, or stuck.
pub fn push<T>(future: &mut (impl Future<Output = T> + Unpin + ?Sized)) -> Option<T> {
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..PATIENCE {
        if let Poll::Ready(done) = Pin::new(&mut *future).poll(&mut context) {
            return Some(done);
        }
        std::thread::yield_now();
    }
    None
}

/// A takeover under way.
pub type Taking = Pin<Box<dyn Future<Output = (Result<Ownership, LogError>, State)>>>;

/// Begins a takeover; [`push`] moves it.
#[must_use]
pub fn taking(place: Place) -> Taking {
    Box::pin(async move {
        let mut state = State::default();
        let result = take_over(place, &mut state).await;
        (result, state)
    })
}

/// An owner at work.
pub struct Puppet {
    /// Its epoch.
    pub epoch: u64,
    /// The number of its takeover record.
    pub takeover: u64,
    /// What it recovered, and everything that it sealed since.
    pub state: State,
    /// The sequences reported durable.
    pub durable: Vec<u64>,
    /// The log numbers that they got.
    pub numbers: Vec<u64>,
    /// Snapshots that took effect.
    pub snapshots: Vec<Snapshot>,
    /// Why it ended, if it did.
    pub ended: Option<Result<(), LogError>>,
    /// Buckets of which images are wanted.
    pub wanted: BTreeSet<u16>,
    /// Images that were asked for, in the order in which they came.
    pub loaded: Vec<(u16, Entries)>,
    /// Why nothing was deleted.
    pub nothing_deleted: Vec<LogError>,
    /// The time of what it seals next, in milliseconds since 1970.
    pub time_ms: u64,
    sealed: u64,
    log: Option<Log>,
    notices: Notices,
    driver: Pin<Box<dyn Future<Output = Result<(), LogError>>>>,
}

impl Puppet {
    /// Takes over at once.
    ///
    /// # Errors
    /// Those of [`take_over`].
    ///
    /// # Panics
    /// If the takeover gets stuck.
    pub fn take_over(place: Place) -> Result<Self, LogError> {
        let (ownership, state) = push(&mut taking(place)).expect("nothing holds the takeover up");
        Ok(Self::begin(ownership?, state))
    }

    /// Goes to work after a takeover.
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

    /// Seals a delta of changes `(bucket, key, value)`, without doing anything about it yet.
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

    /// Goes on until it is stuck, and takes notice of everything.
    pub fn go_on(&mut self) {
        if self.ended.is_none() {
            self.ended = push(&mut self.driver);
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
                Notice::Trouble(_) => {}
            }
        }
    }

    /// Seals a delta and goes on.
    pub fn commit(&mut self, changes: &[(u16, &str, Option<&str>)]) {
        self.seal(changes);
        self.go_on();
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

    /// Hands over all wanted images and goes on.
    pub fn image_and_go_on(&mut self) {
        self.image();
        self.go_on();
    }

    /// Asks for the image of a bucket and goes on.
    pub fn load(&mut self, bucket: u16) {
        if let Some(log) = &self.log {
            log.load(bucket);
        }
        self.go_on();
    }

    /// Asks for a snapshot and goes on.
    pub fn want_snapshot(&mut self) {
        if let Some(log) = &self.log {
            log.want_snapshot();
        }
        self.go_on();
    }

    /// Lets go of the log, as a clean stop does.
    pub fn let_go(&mut self) {
        self.log = None;
        self.go_on();
    }

    /// Whether it was told that its time is over.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        matches!(self.ended, Some(Err(LogError::Fenced { .. })))
    }
}
