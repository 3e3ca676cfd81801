//! Which shards may be read, from where, and whether reading is paused.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use satchel_aws::kinesis::{Applied, ReadingPort};
use satchel_aws::sqs::{QueuePort, QueueWord};
use satchel_engine::position::{ShardId, ShardPosition};
use tokio::sync::{mpsc, oneshot, watch};

/// An ingress's id, and a stream that it reads.
type StreamOfIngress = (Arc<str>, Arc<str>);

/// Between the partition, which says from where a shard is read, and the ingresses, which read. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reading {
    waiting: Arc<Mutex<HashMap<ShardId, oneshot::Sender<ShardPosition>>>>,
    planning: Arc<Mutex<HashMap<StreamOfIngress, oneshot::Sender<Applied>>>>,
    queues: Arc<Mutex<HashMap<Arc<str>, mpsc::UnboundedSender<QueueWord>>>>,
    paused: watch::Sender<bool>,
}

impl Reading {
    /// Nothing is read, nothing is paused.
    pub fn new() -> Self {
        Self {
            waiting: Arc::default(),
            planning: Arc::default(),
            queues: Arc::default(),
            paused: watch::Sender::new(false),
        }
    }

    /// Waits for the word to read `shard`; to be called before the partition is told that the shard was found.
    pub fn expect(&self, shard: ShardId) -> oneshot::Receiver<ShardPosition> {
        let (start, started) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(shard, start);
        started
    }

    /// Waits for what is durable of the shards of a stream; to be called before the partition is told that the stream was found.
    pub fn expect_plan(&self, ingress: Arc<str>, stream: Arc<str>) -> oneshot::Receiver<Applied> {
        let (plan, planned) = oneshot::channel();
        let mut planning = self.planning.lock().unwrap_or_else(PoisonError::into_inner);
        planning.insert((ingress, stream), plan);
        planned
    }

    /// Whether reading is paused, now and later.
    pub fn paused(&self) -> watch::Receiver<bool> {
        self.paused.subscribe()
    }

    pub(super) fn start(&self, shard: &ShardId, after: ShardPosition) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(start) = waiting.remove(shard) {
            // An ingress that is gone reads nothing any more.
            let _ = start.send(after);
        }
    }

    pub(super) fn plan(&self, ingress: Arc<str>, stream: Arc<str>, applied: Applied) {
        let mut planning = self.planning.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = planning.remove(&(ingress, stream)) {
            let _ = plan.send(applied);
        }
    }

    pub(super) fn queue(&self, ingress: &str, word: QueueWord) {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(ingress) {
            // Without its ingress, a queue keeps its messages.
            let _ = queue.send(word);
        }
    }

    pub(super) fn pause(&self, paused: bool) {
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
    fn listen(&self, ingress: Arc<str>) -> mpsc::UnboundedReceiver<QueueWord> {
        let (words, heard) = mpsc::unbounded_channel();
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.insert(ingress, words);
        heard
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
