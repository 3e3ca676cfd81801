//! Which shards may be read, from where, and whether reading is paused.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use satchel_engine::position::{ShardId, ShardPosition};
use tokio::sync::{oneshot, watch};

/// Between the partition, which says from where a shard is read, and the ingresses, which read. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reading {
    waiting: Arc<Mutex<HashMap<ShardId, oneshot::Sender<ShardPosition>>>>,
    paused: watch::Sender<bool>,
}

impl Reading {
    /// Nothing is read, nothing is paused.
    pub fn new() -> Self {
        Self {
            waiting: Arc::default(),
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

    pub(super) fn pause(&self, paused: bool) {
        self.paused.send_replace(paused);
    }
}

impl Default for Reading {
    fn default() -> Self {
        Self::new()
    }
}
