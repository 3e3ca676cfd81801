//! The whole content of a root, as it is, as it was at a moment, or as a savepoint keeps it.

use std::collections::BTreeMap;

use satchel_engine::durable::{Change, Hold, Key, Value};
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
    /// Facts of each partition.
    partitions: Vec<Facts>,
    /// Partition time of the last record read of any partition, in ms since the epoch; 0 if only
    /// images were read.
    pub committed_at_ms: u64,
    /// Partition time of the newest record of the root, as of [`satchel_log::Reading`].
    pub newest_ms: Option<u64>,
}

/// Encoded facts of a partition by their encoded keys.
type Facts = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// Reason why the content of a root could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// An entry is unknown to this software, or lies in a bucket to which it does not belong.
    #[error("{0}")]
    Malformed(String),
    /// The partitions were read at different moments, and messages passed between them meanwhile.
    #[error(
        "partitions {sender} and {receiver} were read at different moments: {receiver} took \
         messages up to {taken} of {sender}, which had acknowledgements up to {acknowledged} and \
         messages up to {assigned}"
    )]
    NoCut {
        /// Partition that sends.
        sender: u32,
        /// Partition that takes.
        receiver: u32,
        /// Last number that the sender knew to be durable at the receiver.
        acknowledged: u64,
        /// Last number that the receiver took.
        taken: u64,
        /// Last number that the sender gave.
        assigned: u64,
    },
    /// As of [`satchel_log::read()`].
    #[error(transparent)]
    History(#[from] HistoryError),
}

impl Content {
    /// Reads the root of an application. An owner may be serving the root meanwhile. `progress`
    /// receives the share read, from 0 to 1.
    ///
    /// # Errors
    /// [`ReadError`] names what is damaged, missing or no longer reachable, or reports that the
    /// store does not answer. [`ReadError::NoCut`]: several partitions were read as they are now,
    /// and an owner serves them; those of a moment are always a cut.
    pub async fn read(
        source: &Source,
        application: &Application,
        at: At,
        mut progress: impl FnMut(f64) + Send,
    ) -> Result<Self, ReadError> {
        let mut content = Self::default();
        let count = f64::from(application.partitions.max(1));
        for partition in 0..application.partitions {
            let mut reader = Reader {
                placement: CachedPlacement::new(recorded(application)),
                facts: BTreeMap::new(),
                out: BTreeMap::new(),
                acknowledged: BTreeMap::new(),
                problem: None,
                progress: |share: f64| progress((f64::from(partition) + share) / count),
            };
            let reading =
                satchel_log::read(source, application, partition, at, &mut reader).await?;
            if let Some(problem) = reader.problem {
                return Err(ReadError::Malformed(problem));
            }
            content.partitions.push(reader.facts);
            let committed_at_ms = reading.committed_at_ms.unwrap_or_default();
            content.committed_at_ms = content.committed_at_ms.max(committed_at_ms);
            content.newest_ms = content.newest_ms.max(reading.newest_ms);
        }
        content.check_cut()?;
        Ok(content)
    }

    /// Checks that no partition took a message that its sender does not know, and that no sender
    /// knows of more than was taken (rule 35).
    fn check_cut(&self) -> Result<(), ReadError> {
        let links: Vec<Links> = self.partitions.iter().map(Links::of).collect();
        for (sender, sent) in (0..).zip(&links) {
            for (receiver, received) in (0..).zip(&links) {
                let number = |numbers: &BTreeMap<u32, u64>, peer| {
                    numbers.get(&peer).copied().unwrap_or_default()
                };
                let acknowledged = number(&sent.acknowledged, receiver);
                let taken = number(&received.taken, sender);
                let assigned = number(&sent.assigned, receiver);
                if !(acknowledged <= taken && taken <= assigned) {
                    return Err(ReadError::NoCut {
                        sender,
                        receiver,
                        acknowledged,
                        taken,
                        assigned,
                    });
                }
            }
        }
        Ok(())
    }

    /// Number of partitions.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.partitions.len() as u32
    }

    /// Returns all facts with their partitions, in the order of their keys.
    pub fn facts(&self) -> impl Iterator<Item = (u32, Change)> {
        (0..)
            .zip(&self.partitions)
            .flat_map(|(partition, facts)| decoded(facts).map(move |change| (partition, change)))
    }

    /// Writes a whole root with this content under a [`Hold`] that names `origin`. Returns the
    /// number of facts.
    ///
    /// # Errors
    /// As of [`RootWriter::push`].
    pub async fn fork(self, mut writer: RootWriter, origin: &str) -> Result<u64, CreateError> {
        let mut count = 0;
        for (partition, facts) in (0..).zip(self.partitions) {
            for (key, value) in facts {
                let fact = Change::decode(&key, Some(&value));
                let fact = of_fork(fact.expect("it was decoded when it was read"));
                writer.push(partition, &fact).await?;
                count += 1;
            }
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

fn decoded(facts: &Facts) -> impl Iterator<Item = Change> {
    facts
        .iter()
        .filter_map(|(key, value)| Change::decode(key, Some(value)).ok())
}

/// Returns a fact as a fork keeps it. The epochs of its logs begin anew, so a sender has not seen
/// any owner of the receiver yet.
fn of_fork(mut fact: Change) -> Change {
    if let Some(Value::Acknowledged(acknowledged)) = &mut fact.value {
        acknowledged.epoch = 0;
    }
    fact
}

/// Numbers of a partition's links, by the other partition.
#[derive(Default)]
struct Links {
    assigned: BTreeMap<u32, u64>,
    acknowledged: BTreeMap<u32, u64>,
    taken: BTreeMap<u32, u64>,
}

impl Links {
    fn of(facts: &Facts) -> Self {
        let mut links = Self::default();
        for Change { key, value } in decoded(facts) {
            match (key, value) {
                (Key::Assigned { peer }, Some(Value::LinkNumber(number))) => {
                    links.assigned.insert(peer, number);
                }
                (Key::Taken { peer }, Some(Value::LinkNumber(number))) => {
                    links.taken.insert(peer, number);
                }
                (Key::Acknowledged { peer }, Some(Value::Acknowledged(acknowledged))) => {
                    links.acknowledged.insert(peer, acknowledged.upto);
                }
                _ => {}
            }
        }
        links
    }
}

/// Collects facts by key. The key of a fact determines its bucket. An acknowledgement removes the
/// messages up to its number, which have no removals of their own.
struct Reader<P> {
    placement: CachedPlacement,
    facts: Facts,
    /// Keys of the messages to each other partition, by number.
    out: BTreeMap<u32, BTreeMap<u64, Box<[u8]>>>,
    /// Last acknowledged number, by the other partition.
    acknowledged: BTreeMap<u32, u64>,
    problem: Option<String>,
    progress: P,
}

impl<P> Reader<P> {
    fn insert(&mut self, change: &Change, key: &[u8], value: &[u8]) {
        match (&change.key, &change.value) {
            (Key::Out { peer, number }, _) => {
                let acknowledged = self.acknowledged.get(peer).copied();
                if *number <= acknowledged.unwrap_or_default() {
                    // A delta that is older than the image that was read before it.
                    return;
                }
                let waiting = self.out.entry(*peer).or_default();
                waiting.insert(*number, key.into());
            }
            (Key::Acknowledged { peer }, Some(Value::Acknowledged(acknowledged))) => {
                self.acknowledged.insert(*peer, acknowledged.upto);
                let waiting = self.out.entry(*peer).or_default();
                let later = waiting.split_off(&(acknowledged.upto + 1));
                for key in std::mem::replace(waiting, later).into_values() {
                    self.facts.remove(&key);
                }
            }
            _ => {}
        }
        self.facts.insert(key.into(), value.into());
    }
}

impl<P: FnMut(f64)> Fold for Reader<P> {
    fn clear(&mut self) {
        self.facts.clear();
        self.out.clear();
        self.acknowledged.clear();
        self.problem = None;
    }

    fn apply(&mut self, entry: Entry<'_>) {
        match (decode_entry(&mut self.placement, entry), entry.value) {
            (Ok(change), Some(value)) => self.insert(&change, entry.key, value),
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
