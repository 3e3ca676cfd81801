//! Delivery exactly once, by transactions.
//!
//! ```text
//!  session: fence the former owner ─► read the mark of each topic ─► skip what it covers
//!     ▲                                                                    │
//!     │                                                                    ▼
//!     └──── in doubt, or fenced ◄──── transaction: records + marks ◄───────┘
//! ```
//!
//! Each transaction commits, for each of its topics, the last outbox number that it contains. The
//! mark is an offset of a consumer group that only this egress uses, so brokers make it durable
//! with the records or not at all. A topic's records are committed in the order of their numbers,
//! so the mark covers exactly what is in the topic.
//!
//! A session begins with `initTransactions`, by which the brokers complete or abort the transaction
//! of the former session of this transactional id, and fence it. What the marks say after that
//! stays true while the session lasts. Any doubt (a commit without an answer, a fenced producer)
//! ends the session, and the next one reads the marks before it sends. So a transaction that was
//! committed while its acknowledgement was lost is not repeated, whoever was to receive the
//! acknowledgement. Correctness depends on no clock and on no lease.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::at_least_once::repeated;
use crate::outbox::{Fate, Outbox, Settled};
use crate::record::ProducerRecord;
use crate::sink::{Progress, Sink};

/// Maximum number of refused records that a mark names. Earlier refusals are durable long before.
const REFUSED_MAX: usize = 150;

/// Producer with transactions.
pub trait Transactions: Send {
    /// Ends the current session, if there is one, and begins the next: fences all other producers
    /// of the transactional id, and waits until their last transaction is completed or aborted.
    fn begin_session(&mut self) -> impl Future<Output = Result<(), String>> + Send;

    /// Reads the committed marks of these topics. A topic without a mark is left out.
    fn marks(
        &mut self,
        topics: &[Arc<str>],
    ) -> impl Future<Output = Result<BTreeMap<Arc<str>, Mark>, String>> + Send;

    /// Sends records in order, and commits them together with these marks.
    fn transact(
        &mut self,
        records: &[Arc<ProducerRecord>],
        marks: &BTreeMap<Arc<str>, Mark>,
    ) -> impl Future<Output = Transacted> + Send;
}

/// Result of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transacted {
    /// All records are committed.
    Committed,
    /// No record is committed, for these reasons, one for each record.
    Aborted(Vec<Fate>),
    /// Nothing is known, or another producer has fenced this one. The session is over.
    InDoubt(String),
}

/// Content of a topic, as far as one egress has written it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mark {
    /// Highest committed number.
    pub last: u64,
    /// Lower numbers that were refused, and so are not in the topic. The partition may not know it
    /// yet.
    pub refused: Vec<u64>,
}

impl Mark {
    /// Returns whether the record with this number is in the topic.
    pub fn covers(&self, number: u64) -> bool {
        number <= self.last && !self.refused.contains(&number)
    }

    /// Text form of the refused numbers, for the metadata of an offset.
    pub fn metadata(&self) -> String {
        let numbers: Vec<String> = self.refused.iter().map(u64::to_string).collect();
        numbers.join(",")
    }

    /// Reads an offset with its metadata. None if the mark has another form.
    pub fn read(offset: i64, metadata: &str) -> Option<Self> {
        let numbers = metadata.split(',').filter(|number| !number.is_empty());
        Some(Self {
            last: u64::try_from(offset).ok()?,
            refused: numbers
                .map(|number| number.parse().ok())
                .collect::<Option<_>>()?,
        })
    }

    fn refuse(&mut self, number: u64) {
        if self.refused.len() >= REFUSED_MAX {
            self.refused.remove(0);
        }
        self.refused.push(number);
    }
}

/// Sends each record once.
pub struct ExactlyOnce<T> {
    transactions: T,
    outbox: Outbox,
    /// Marks of the topics that the current session has read; none without a session.
    session: Option<BTreeMap<Arc<str>, Mark>>,
}

impl<T: Transactions> ExactlyOnce<T> {
    /// Sends the records of `outbox`, which is empty, through `transactions`.
    pub fn new(transactions: T, outbox: Outbox) -> Self {
        Self {
            transactions,
            outbox,
            session: None,
        }
    }

    /// Begins a session if there is none, and reads the marks of the topics of `round`. Returns the
    /// records that are in their topics already.
    async fn reconcile(&mut self, round: &[Arc<ProducerRecord>]) -> Result<Vec<Settled>, String> {
        if self.session.is_none() {
            self.transactions.begin_session().await?;
        }
        let known = self.session.get_or_insert_default();
        let mut unread: Vec<Arc<str>> = Vec::new();
        for record in round {
            if !known.contains_key(&record.topic) && !unread.contains(&record.topic) {
                unread.push(Arc::clone(&record.topic));
            }
        }
        if !unread.is_empty() {
            let mut read = self.transactions.marks(&unread).await?;
            known.extend(unread.into_iter().map(|topic| {
                let mark = read.remove(&topic).unwrap_or_default();
                (topic, mark)
            }));
        }
        let mut covered: Vec<&Arc<str>> = Vec::new();
        for record in round {
            let is_covered = known
                .get(&record.topic)
                .is_some_and(|it| it.covers(record.number));
            if is_covered && !covered.contains(&&record.topic) {
                covered.push(&record.topic);
            }
        }
        let mut settled = Vec::new();
        for topic in covered {
            let mark = &known[topic];
            let delivered = self
                .outbox
                .take_delivered(topic, |number| mark.covers(number));
            settled.extend(delivered.into_iter().map(Settled::Delivered));
        }
        Ok(settled)
    }
}

impl<T: Transactions> Sink for ExactlyOnce<T> {
    fn offer(&mut self, record: ProducerRecord) {
        self.outbox.offer(record);
    }

    async fn advance(&mut self, now_ms: u64) -> Progress {
        let round = self.outbox.round(now_ms);
        if round.is_empty() {
            return Progress::Idle;
        }
        match self.reconcile(&round).await {
            Ok(settled) if settled.is_empty() => {}
            Ok(settled) => {
                return Progress::Sent {
                    settled,
                    repeated: None,
                };
            }
            Err(reason) => {
                self.session = None;
                return Progress::Failed(reason);
            }
        }
        let known = self.session.get_or_insert_default();
        let mut marks: BTreeMap<Arc<str>, Mark> = BTreeMap::new();
        for record in &round {
            let topic = &record.topic;
            let mark = marks
                .entry(Arc::clone(topic))
                .or_insert_with(|| known.get(topic).cloned().unwrap_or_default());
            mark.last = mark.last.max(record.number);
        }
        let fates = match self.transactions.transact(&round, &marks).await {
            Transacted::Committed => {
                known.extend(marks);
                vec![Fate::Delivered; round.len()]
            }
            // What was delivered is aborted with the rest.
            Transacted::Aborted(fates) => fates.into_iter().map(aborted).collect(),
            Transacted::InDoubt(reason) => {
                self.session = None;
                return Progress::Failed(reason);
            }
        };
        let repeated = repeated(&fates);
        let settled = self.outbox.answered(now_ms, &round, fates);
        for record in &settled {
            if let Settled::Refused { number, topic, .. } = record {
                known.entry(Arc::clone(topic)).or_default().refuse(*number);
            }
        }
        Progress::Sent { settled, repeated }
    }

    fn wake_at_ms(&self) -> Option<u64> {
        self.outbox.wake_at_ms()
    }
}

fn aborted(fate: Fate) -> Fate {
    match fate {
        Fate::Delivered => Fate::Again,
        other => other,
    }
}

#[cfg(test)]
mod tests;
