//! Egress of StateFun's playground: records wait in the outbox until a client takes them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use satchel_engine::input::Input;
use satchel_engine::output::Emission;
use serde::Deserialize;
use tokio::sync::{Notify, mpsc};

use super::EgressContext;
use crate::metrics::Metrics;

/// Typename of the playground's records.
const RECORD_TYPENAME: &str = "io.statefun.playground/EgressRecord";

/// Topics with the records that no client has taken yet. Cheap to clone; clones share the content.
///
/// The records stay in the partition's outbox until they are taken, so its limit bounds them, and
/// a new owner has them again.
#[derive(Debug, Clone)]
pub struct PlaygroundTopics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    topics: Mutex<HashMap<String, VecDeque<Waiting>>>,
    /// Wakes the clients when a record arrives.
    arrived: Notify,
    partition: Mutex<Option<Partition>>,
}

/// Record that no client has taken yet.
#[derive(Debug)]
struct Waiting {
    number: u64,
    payload: Bytes,
}

/// The partition whose records wait.
#[derive(Debug)]
struct Partition {
    egress: Arc<str>,
    inputs: mpsc::UnboundedSender<Input>,
    metrics: Metrics,
}

/// A record of the playground's egress.
#[derive(Debug, Deserialize)]
struct EgressRecord {
    topic: String,
    payload: String,
}

impl PlaygroundTopics {
    /// Creates these topics, without records.
    pub fn new(topics: impl IntoIterator<Item = String>) -> Self {
        let topics = topics.into_iter().map(|topic| (topic, VecDeque::new()));
        Self(Arc::new(Inner {
            topics: Mutex::new(topics.collect()),
            arrived: Notify::new(),
            partition: Mutex::default(),
        }))
    }

    /// Returns true if there is such a topic.
    pub fn contains(&self, topic: &str) -> bool {
        self.topics().contains_key(topic)
    }

    /// Names of the topics, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.topics().keys().cloned().collect();
        names.sort();
        names
    }

    /// Takes the oldest record of a topic, and waits for one. If this future is dropped, nothing
    /// was taken.
    pub async fn take(&self, topic: &str) -> Bytes {
        loop {
            let arrived = self.0.arrived.notified();
            tokio::pin!(arrived);
            // Registered before the look, so that no record arrives unseen in between.
            arrived.as_mut().enable();
            if let Some(record) = self.pop(topic) {
                return record;
            }
            arrived.await;
        }
    }

    /// Holds the records of a partition until clients take them, until `emissions` end.
    pub(super) async fn run(
        self,
        context: &EgressContext,
        mut emissions: mpsc::UnboundedReceiver<Emission>,
    ) {
        *self.partition() = Some(Partition {
            egress: Arc::clone(&context.id),
            inputs: context.inputs.clone(),
            metrics: context.metrics.clone(),
        });
        while let Some(emission) = emissions.recv().await {
            if let Err(reason) = self.add(&emission) {
                context.metrics.observe_egress_refused(&context.id);
                let number = emission.number;
                let refused = Input::EgressRefused { number, reason };
                // After a stop, the next owner refuses the record.
                let _ = context.inputs.send(refused);
            }
        }
        // The next owner emits them again.
        *self.partition() = None;
        self.topics().values_mut().for_each(VecDeque::clear);
    }

    fn add(&self, emission: &Emission) -> Result<(), String> {
        let value = &emission.value;
        if value.typename != RECORD_TYPENAME {
            return Err(format!(
                "a playground egress takes {RECORD_TYPENAME}, not {}",
                value.typename
            ));
        }
        let record: EgressRecord = serde_json::from_slice(&value.value)
            .map_err(|error| format!("not a record of the playground: {error}"))?;
        let mut topics = self.topics();
        let Some(topic) = topics.get_mut(&record.topic) else {
            return Err(format!(
                "the egress has no topic `{}`: add it to its `topics`",
                record.topic
            ));
        };
        topic.push_back(Waiting {
            number: emission.number,
            payload: record.payload.into(),
        });
        drop(topics);
        self.0.arrived.notify_waiters();
        Ok(())
    }

    fn pop(&self, topic: &str) -> Option<Bytes> {
        let waiting = self.topics().get_mut(topic)?.pop_front()?;
        if let Some(partition) = &*self.partition() {
            partition.metrics.observe_egress_acked(&partition.egress, 1);
            let numbers = vec![waiting.number];
            // After a stop, the next owner holds the record again.
            let _ = partition.inputs.send(Input::EgressAcked { numbers });
        }
        Some(waiting.payload)
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<String, VecDeque<Waiting>>> {
        self.0.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn partition(&self) -> MutexGuard<'_, Option<Partition>> {
        self.0
            .partition
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
