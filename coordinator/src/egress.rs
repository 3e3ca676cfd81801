//! Egresses: how records leave. The partition hands over only what is durable, and keeps it until it is acknowledged.

pub mod aws;
pub mod local_stream;

use std::collections::HashMap;
use std::sync::Arc;

use satchel_engine::input::Input;
use satchel_engine::output::Emission;
use tokio::sync::{mpsc, watch};

use crate::metrics::Metrics;

/// The egresses of an application, each with what leads to the task that serves it.
pub struct Egresses {
    queues: HashMap<Arc<str>, Queue>,
    facts: mpsc::UnboundedSender<Input>,
    metrics: Metrics,
}

struct Queue {
    emissions: mpsc::UnboundedSender<Emission>,
    noted: watch::Sender<bool>,
}

/// What a task that serves an egress hears of the partition.
pub struct Heard {
    /// What is to leave, in order.
    pub emissions: mpsc::UnboundedReceiver<Emission>,
    /// Becomes true when what the egress waits for is durable.
    pub noted: watch::Receiver<bool>,
}

impl Egresses {
    /// No egress yet. `facts` is where the partition is told.
    pub fn new(facts: mpsc::UnboundedSender<Input>, metrics: Metrics) -> Self {
        Self {
            queues: HashMap::new(),
            facts,
            metrics,
        }
    }

    /// Adds the egress `id`, `namespace/name`.
    pub fn add(&mut self, id: Arc<str>) -> Heard {
        let (queue, emissions) = mpsc::unbounded_channel();
        let (notes, noted) = watch::channel(false);
        let queue = Queue {
            emissions: queue,
            noted: notes,
        };
        self.queues.insert(id, queue);
        Heard { emissions, noted }
    }

    /// What this egress waits for is durable.
    pub fn noted(&self, egress: &str) {
        if let Some(queue) = self.queues.get(egress) {
            queue.noted.send_replace(true);
        }
    }

    /// Hands records to their egresses, in order. They are bounded by the partition's limit for its outbox.
    pub fn emit(&self, emissions: Vec<Emission>) {
        for emission in emissions {
            match self.queues.get(&emission.egress) {
                Some(queue) => {
                    self.metrics.observe_egress_emitted(&emission.egress, 1);
                    // The task that serves the egress ends only with the process.
                    let _ = queue.emissions.send(emission);
                }
                None => {
                    // The module that named it is gone since the record was made.
                    self.metrics.observe_egress_refused(&emission.egress);
                    let reason = format!("no egress is named {}", emission.egress);
                    let number = emission.number;
                    let _ = self.facts.send(Input::EgressRefused { number, reason });
                }
            }
        }
    }
}
