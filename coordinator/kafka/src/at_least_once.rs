//! Delivery at least once: rounds of records, each sent until the brokers have it.

use std::sync::Arc;

use crate::outbox::{Fate, Outbox};
use crate::record::ProducerRecord;
use crate::sink::{Progress, Sink};

/// Producer without transactions.
pub trait Producer: Send {
    /// Sends records in order, and waits for the result of each.
    fn send(
        &mut self,
        records: &[Arc<ProducerRecord>],
    ) -> impl Future<Output = Result<Vec<Fate>, String>> + Send;
}

/// Sends each record at least once.
pub struct AtLeastOnce<P> {
    producer: P,
    outbox: Outbox,
    /// True if a record that is not accepted is dropped.
    drops: bool,
}

impl<P: Producer> AtLeastOnce<P> {
    /// Sends the records of `outbox`, which is empty, through `producer`. With `drops`, a record
    /// that is not accepted at once is dropped (`deliverySemantic: none`).
    pub fn new(producer: P, outbox: Outbox, drops: bool) -> Self {
        Self {
            producer,
            outbox,
            drops,
        }
    }
}

impl<P: Producer> Sink for AtLeastOnce<P> {
    fn offer(&mut self, record: ProducerRecord) {
        self.outbox.offer(record);
    }

    async fn advance(&mut self, now_ms: u64) -> Progress {
        let round = self.outbox.round(now_ms);
        if round.is_empty() {
            return Progress::Idle;
        }
        let fates = match self.producer.send(&round).await {
            Ok(fates) => fates,
            Err(reason) => return Progress::Failed(reason),
        };
        let repeated = repeated(&fates);
        let fates = match self.drops {
            false => fates,
            true => fates.into_iter().map(dropped).collect(),
        };
        Progress::Sent {
            settled: self.outbox.answered(now_ms, &round, fates),
            repeated,
        }
    }

    fn wake_at_ms(&self) -> Option<u64> {
        self.outbox.wake_at_ms()
    }
}

/// Number of records that were not accepted and are sent again, with one of the reasons.
pub(crate) fn repeated(fates: &[Fate]) -> Option<(u64, String)> {
    let mut reasons = fates.iter().filter_map(|fate| match fate {
        Fate::Retry(reason) | Fate::Missing(reason) | Fate::Suspect(reason) => Some(reason),
        Fate::Delivered | Fate::Again | Fate::Refused(_) => None,
    });
    let first = reasons.next()?.clone();
    Some((1 + reasons.count() as u64, first))
}

/// Fate of a record that is sent only once.
fn dropped(fate: Fate) -> Fate {
    match fate {
        Fate::Refused(reason) => Fate::Refused(reason),
        _ => Fate::Delivered,
    }
}
