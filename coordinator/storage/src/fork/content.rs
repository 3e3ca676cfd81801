//! The whole content of a root, as it is, as it was at a moment, or as a savepoint keeps it.

use std::collections::BTreeMap;

use satchel_engine::durable::{Change, Hold};
use satchel_engine::placement::CachedPlacement;
use satchel_log::{Application, At, Entry, Fold, HistoryError, Source};

use super::root_writer::{CreateError, RootWriter};
use crate::encode::decode_entry;
use crate::placement::recorded;
use crate::recovery::share;

/// Everything that belongs to an application, in memory and in its durable form: state, mailboxes,
/// timers, outbox, answers under idempotency keys, dead letters, positions.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Content {
    facts: BTreeMap<Box<[u8]>, Box<[u8]>>,
    /// Partition time of the last record read, in ms since the epoch; 0 if only images were read.
    pub committed_at_ms: u64,
    /// Partition time of the newest record of the root, as of [`satchel_log::Reading`].
    pub newest_ms: Option<u64>,
}

/// Reason why the content of a root could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// An entry is unknown to this software, or lies in a bucket to which it does not belong.
    #[error("{0}")]
    Malformed(String),
    /// As of [`satchel_log::read()`].
    #[error(transparent)]
    History(#[from] HistoryError),
}

impl Content {
    /// Reads the root of an application with one partition. An owner may be serving the root
    /// meanwhile. `progress` receives the share read, from 0 to 1.
    ///
    /// # Errors
    /// [`ReadError`] names what is damaged, missing or no longer reachable, or reports that the
    /// store does not answer.
    pub async fn read(
        source: &Source,
        application: &Application,
        at: At,
        progress: impl FnMut(f64) + Send,
    ) -> Result<Self, ReadError> {
        let mut reader = Reader {
            placement: CachedPlacement::new(recorded(application)),
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
                newest_ms: reading.newest_ms,
            }),
        }
    }

    /// Returns all facts, in the order of their keys.
    pub fn facts(&self) -> impl Iterator<Item = Change> {
        self.facts
            .iter()
            .filter_map(|(key, value)| Change::decode(key, Some(value)).ok())
    }

    /// Writes a whole root with this content under a [`Hold`] that names `origin`. Returns the
    /// number of facts.
    ///
    /// # Errors
    /// As of [`RootWriter::push`].
    pub async fn fork(self, mut writer: RootWriter, origin: &str) -> Result<u64, CreateError> {
        let mut count = 0;
        for (key, value) in self.facts {
            let fact = Change::decode(&key, Some(&value)).expect("it was decoded when it was read");
            writer.push(&fact).await?;
            count += 1;
        }
        let hold = Hold {
            origin: origin.into(),
            since_ms: writer.begun_at_ms(),
            filling: false,
        };
        writer.finish(Some(hold)).await?;
        Ok(count)
    }
}

/// Collects facts by key. The key of a fact determines its bucket.
struct Reader<P> {
    placement: CachedPlacement,
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
        match (decode_entry(&mut self.placement, entry), entry.value) {
            (Ok(_), Some(value)) => {
                self.facts.insert(entry.key.into(), value.into());
            }
            (Ok(_), None) => {
                self.facts.remove(entry.key);
            }
            (Err(problem), _) => {
                self.problem.get_or_insert(problem.to_string());
            }
        }
    }

    fn progress(&mut self, done: u64, total: u64) {
        (self.progress)(share(done, total));
    }
}
