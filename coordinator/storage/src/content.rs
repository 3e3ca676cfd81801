//! Everything that a root holds, as it is, was at a moment, or as a savepoint keeps it; and a fork of that.

use std::collections::BTreeMap;

use satchel_engine::durable::{Change, Hold};
use satchel_log::{Application, At, Entry, Fold, HistoryError, Source};

use crate::filling::{Filling, MakeError};

/// Everything that belongs to an application: state, mailboxes, timers, outbox, answers under idempotency keys, dead letters, positions. In memory,
/// as it is stored.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Content {
    facts: BTreeMap<Box<[u8]>, Box<[u8]>>,
    /// Partition time of the last record that was read, in milliseconds since 1970; 0 if the images alone are the content.
    pub committed_at_ms: u64,
}

/// Why a root's content is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Something in it can not be understood.
    #[error("{0}")]
    Malformed(String),
    /// As of [`satchel_log::read()`].
    #[error(transparent)]
    History(#[from] HistoryError),
}

impl Content {
    /// Reads the root of an application that has one partition. Its owner may be at work. `progress` is told the share that was read.
    ///
    /// # Errors
    /// [`ReadError`] names what is damaged, missing or can not be reached any more, or says that the store does not answer.
    pub async fn read(
        source: &Source,
        application: &Application,
        at: At,
        progress: impl FnMut(f64) + Send,
    ) -> Result<Self, ReadError> {
        let mut reader = Reader {
            buckets: application.buckets,
            facts: BTreeMap::new(),
            problem: None,
            progress,
        };
        let reading = satchel_log::read(source, application, 0, at, &mut reader).await?;
        match reader.problem {
            Some(problem) => Err(ReadError::Malformed(problem)),
            None => Ok(Self {
                facts: reader.facts,
                committed_at_ms: reading.committed_at_ms.unwrap_or_default(),
            }),
        }
    }

    /// All facts, in the order of their keys.
    pub fn facts(&self) -> impl Iterator<Item = Change> {
        self.facts
            .iter()
            .filter_map(|(key, value)| Change::decode(key, Some(value)).ok())
    }

    /// Makes a whole root of it, held ([`Hold`]), that says to come from `origin`. Returns the number of facts.
    ///
    /// # Errors
    /// As of [`Filling::push`].
    pub async fn fork(self, mut filling: Filling, origin: &str) -> Result<u64, MakeError> {
        let mut count = 0;
        for (key, value) in self.facts {
            let fact = Change::decode(&key, Some(&value)).expect("it was decoded when it was read");
            filling.push(&fact).await?;
            count += 1;
        }
        let hold = Hold {
            origin: origin.into(),
            since_ms: filling.begun_at_ms(),
            filling: false,
        };
        filling.finish(Some(hold)).await?;
        Ok(count)
    }
}

/// Collects facts. The key of a fact says to which bucket it belongs.
struct Reader<P> {
    buckets: u16,
    facts: BTreeMap<Box<[u8]>, Box<[u8]>>,
    problem: Option<String>,
    progress: P,
}

impl<P: FnMut(f64)> Fold for Reader<P> {
    fn clear(&mut self) {
        self.facts.clear();
        self.problem = None;
    }

    fn apply(&mut self, entry: Entry<'_>) {
        let bucket = entry.bucket;
        let problem = match Change::decode(entry.key, entry.value) {
            Ok(change) if change.key.bucket(self.buckets) == bucket => {
                match entry.value {
                    Some(value) => self.facts.insert(entry.key.into(), value.into()),
                    None => self.facts.remove(entry.key),
                };
                return;
            }
            Ok(change) => format!("bucket {bucket} holds a fact of another: {:?}", change.key),
            Err(malformed) => {
                format!("bucket {bucket} holds an entry that can not be read: {malformed}")
            }
        };
        self.problem.get_or_insert(problem);
    }

    fn progress(&mut self, done: u64, total: u64) {
        let share = if total == 0 {
            1.0
        } else {
            done as f64 / total as f64
        };
        (self.progress)(share.min(1.0));
    }
}
