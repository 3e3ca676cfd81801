//! Port between the partition and the ingresses: start positions, deletions and pauses.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use satchel_aws::kinesis::{Applied, ReadingPort};
use satchel_aws::sqs::{QueueCommand, QueuePort};
use satchel_engine::position::{ShardId, ShardPosition};
use tokio::sync::{mpsc, oneshot, watch};

/// Id of an ingress, and a stream that it reads.
type StreamOfIngress = (Arc<str>, Arc<str>);

/// Carries the partition's instructions to the ingresses. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reading {
    waiting: Arc<Mutex<HashMap<ShardId, oneshot::Sender<ShardPosition>>>>,
    planning: Arc<Mutex<HashMap<StreamOfIngress, oneshot::Sender<Applied>>>>,
    queues: Arc<Mutex<HashMap<Arc<str>, mpsc::UnboundedSender<QueueCommand>>>>,
    paused: watch::Sender<bool>,
}

impl Reading {
    /// Creates a port that waits for nothing and is not paused.
    pub fn new() -> Self {
        Self {
            waiting: Arc::default(),
            planning: Arc::default(),
            queues: Arc::default(),
            paused: watch::Sender::new(false),
        }
    }

    /// Returns the start position of `shard`, once the partition sends it. Call this before the
    /// partition learns of the shard.
    pub fn expect(&self, shard: ShardId) -> oneshot::Receiver<ShardPosition> {
        let (start, started) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(shard, start);
        started
    }

    /// Returns the durable progress in a stream, once the partition sends it. Call this before the
    /// partition learns of the stream.
    pub fn expect_plan(&self, ingress: Arc<str>, stream: Arc<str>) -> oneshot::Receiver<Applied> {
        let (plan, planned) = oneshot::channel();
        let mut planning = self.planning.lock().unwrap_or_else(PoisonError::into_inner);
        planning.insert((ingress, stream), plan);
        planned
    }

    /// True while reading is paused.
    pub fn paused(&self) -> watch::Receiver<bool> {
        self.paused.subscribe()
    }

    pub(crate) fn start(&self, shard: &ShardId, after: ShardPosition) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(start) = waiting.remove(shard) {
            // An ingress that has ended reads nothing.
            let _ = start.send(after);
        }
    }

    pub(crate) fn plan(&self, ingress: Arc<str>, stream: Arc<str>, applied: Applied) {
        let mut planning = self.planning.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = planning.remove(&(ingress, stream)) {
            let _ = plan.send(applied);
        }
    }

    pub(crate) fn queue(&self, ingress: &str, command: QueueCommand) {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(ingress) {
            // Without its ingress, a queue keeps its messages.
            let _ = queue.send(command);
        }
    }

    pub(crate) fn pause(&self, paused: bool) {
        self.paused.send_replace(paused);
    }
}

impl ReadingPort for Reading {
    fn expect(&self, shard: ShardId) -> oneshot::Receiver<ShardPosition> {
        self.expect(shard)
    }

    fn expect_plan(&self, ingress: Arc<str>, stream: Arc<str>) -> oneshot::Receiver<Applied> {
        self.expect_plan(ingress, stream)
    }

    fn paused(&self) -> watch::Receiver<bool> {
        self.paused()
    }
}

impl QueuePort for Reading {
    fn listen(&self, ingress: Arc<str>) -> mpsc::UnboundedReceiver<QueueCommand> {
        let (commands, received) = mpsc::unbounded_channel();
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.insert(ingress, commands);
        received
    }

    fn paused(&self) -> watch::Receiver<bool> {
        self.paused()
    }
}

impl Default for Reading {
    fn default() -> Self {
        Self::new()
    }
}
