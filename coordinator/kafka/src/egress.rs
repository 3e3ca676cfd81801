//! Egress to topics: the loop around a [`Sink`], and the delivery guarantees of a module file.
//!
//! ```text
//!  none, at-least-once: idempotent producer ─┐
//!                                            ├─► Sink ─► loop ─► EgressAcked, EgressRefused
//!  exactly-once: transactions ───────────────┘
//! ```

mod produce;
mod producer;
mod transactions;

use std::sync::Arc;
use std::time::Duration;

use satchel_clock::Backoff;
use satchel_engine::input::Input;
use satchel_engine::output::Emission;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::at_least_once::AtLeastOnce;
use crate::client::Connection;
use crate::exactly_once::ExactlyOnce;
use crate::log_interval::LogInterval;
use crate::outbox::{Limits, Outbox, Settled};
use crate::record::ProducerRecord;
use crate::sink::{Progress, Sink};
use producer::PlainProducer;
use transactions::TransactionalProducer;

/// Limits of a round, and so of a transaction.
const LIMITS: Limits = Limits {
    records: 5_000,
    bytes: 16 << 20,
};

/// Receives metrics events of egresses.
pub trait EgressObserver: Send + Sync {
    /// Records were delivered.
    fn delivered(&self, egress: &str, records: u64);
    /// A record became a dead letter.
    fn refused(&self, egress: &str);
    /// Records were not accepted for `reason` and are sent again.
    fn retried(&self, egress: &str, records: u64, reason: &str);
}

/// Ownership of the partition by this process.
pub trait Ownership: Send + Sync {
    /// Time since it was certain that no other process had taken the partition over.
    fn confirmed_ago(&self) -> Duration;
}

/// Connection of an egress to its partition and its metrics.
#[derive(Clone)]
pub struct EgressHandle {
    /// The egress's id, `namespace/name`.
    pub id: Arc<str>,
    /// Channel for facts to the partition.
    pub facts: mpsc::UnboundedSender<Input>,
    /// Receiver of metrics events.
    pub observer: Arc<dyn EgressObserver>,
    /// Seed that spreads the waits of several processes.
    pub seed: u64,
}

/// Delivery guarantee: `deliverySemantic`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// A record that is not accepted is dropped.
    None,
    /// Each record is in its topic once, or more often if an answer is lost or a process dies.
    AtLeastOnce,
    /// Each record is in its topic once, for consumers that read committed records.
    ExactlyOnce {
        /// Name of the producer, which fences its former instances. It is also the consumer group
        /// that holds the marks. No other egress of any application has it.
        transactional_id: String,
        /// Time after which brokers abort a transaction that was not completed.
        transaction_timeout: Duration,
    },
}

/// An egress that is ready to run.
pub struct KafkaEgress {
    connection: Connection,
    delivery: Delivery,
}

impl KafkaEgress {
    /// Creates an egress.
    pub fn new(connection: Connection, delivery: Delivery) -> Self {
        Self {
            connection,
            delivery,
        }
    }

    /// Delivers until `emissions` end.
    ///
    /// # Errors
    ///
    /// The setting with which no producer can be made, and what is wrong with it.
    pub async fn run(
        self,
        handle: EgressHandle,
        ownership: Arc<dyn Ownership>,
        emissions: mpsc::UnboundedReceiver<Emission>,
    ) -> Result<(), String> {
        let outbox = Outbox::new(LIMITS, handle.seed);
        let (connection, delivery) = (self.connection, self.delivery);
        match delivery {
            Delivery::None | Delivery::AtLeastOnce => {
                let drops = delivery == Delivery::None;
                let producer = PlainProducer::new(connection, handle.clone(), drops)?;
                let sink = AtLeastOnce::new(producer, outbox, drops);
                deliver(sink, handle, emissions).await;
            }
            Delivery::ExactlyOnce {
                transactional_id,
                transaction_timeout,
            } => {
                let producer = TransactionalProducer::new(
                    connection,
                    handle.clone(),
                    transactional_id,
                    transaction_timeout,
                    ownership,
                )?;
                let sink = ExactlyOnce::new(producer, outbox);
                deliver(sink, handle, emissions).await;
            }
        }
        Ok(())
    }
}

/// Delivers through `sink` until `emissions` end.
async fn deliver(
    mut sink: impl Sink,
    handle: EgressHandle,
    mut emissions: mpsc::UnboundedReceiver<Emission>,
) {
    let started = Instant::now();
    let mut backoff = Backoff::default();
    let mut log = LogInterval::default();
    let mut taken = Vec::new();
    loop {
        while let Ok(emission) = emissions.try_recv() {
            offer(&mut sink, &handle, emission);
        }
        let now_ms = started.elapsed().as_millis() as u64;
        match sink.advance(now_ms).await {
            Progress::Idle => {
                let wake = sink
                    .wake_at_ms()
                    .map(|ms| started + Duration::from_millis(ms));
                let waiting = async {
                    match wake {
                        Some(wake) => tokio::time::sleep_until(wake).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    count = emissions.recv_many(&mut taken, LIMITS.records) => {
                        if count == 0 {
                            return;
                        }
                        for emission in taken.drain(..) {
                            offer(&mut sink, &handle, emission);
                        }
                    }
                    () = waiting => {}
                }
            }
            Progress::Sent { settled, repeated } => {
                backoff.reset();
                report(&handle, settled);
                if let Some((records, reason)) = repeated {
                    handle.observer.retried(&handle.id, records, &reason);
                    if log.admits() {
                        let egress = &*handle.id;
                        tracing::warn!(egress, records, reason, "records not accepted; retrying");
                    }
                }
            }
            Progress::Failed(reason) => {
                handle.observer.retried(&handle.id, 0, &reason);
                if log.admits() {
                    let egress = &*handle.id;
                    tracing::warn!(egress, reason, "Kafka egress failed; beginning anew");
                }
                backoff.wait().await;
            }
        }
    }
}

fn offer(sink: &mut impl Sink, handle: &EgressHandle, emission: Emission) {
    let number = emission.number;
    match ProducerRecord::of(emission) {
        Ok(record) => sink.offer(record),
        Err(reason) => refuse(handle, number, reason),
    }
}

fn report(handle: &EgressHandle, settled: Vec<Settled>) {
    let mut numbers = Vec::with_capacity(settled.len());
    for settled in settled {
        match settled {
            Settled::Delivered(number) => numbers.push(number),
            Settled::Refused {
                number,
                topic,
                reason,
            } => refuse(handle, number, format!("topic {topic}: {reason}")),
        }
    }
    if !numbers.is_empty() {
        handle.observer.delivered(&handle.id, numbers.len() as u64);
        // If the partition has ended, its successor finds out what was delivered.
        let _ = handle.facts.send(Input::EgressAcked { numbers });
    }
}

fn refuse(handle: &EgressHandle, number: u64, reason: String) {
    let egress = &*handle.id;
    handle.observer.refused(egress);
    tracing::warn!(egress, number, %reason, "record refused; it becomes a dead letter");
    let _ = handle.facts.send(Input::EgressRefused { number, reason });
}
