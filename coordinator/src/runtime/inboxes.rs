//! Queues of the partitions that run in this process.

use std::sync::{Arc, PoisonError, RwLock};

use satchel_engine::input::Input;
use tokio::sync::mpsc;

/// Queues of the results of the partitions' outputs, by number. Partitions come and go. Cheap to
/// clone.
#[derive(Debug, Clone)]
pub struct Inboxes(Arc<RwLock<Queues>>);

/// Queue of each partition; none for a partition that does not run here.
type Queues = Vec<Option<mpsc::UnboundedSender<Input>>>;

impl Inboxes {
    /// Creates the queues of this number of partitions, none of which runs yet.
    #[must_use]
    pub fn new(partitions: usize) -> Self {
        Self(Arc::new(RwLock::new(vec![None; partitions])))
    }

    /// Adds the queue of a partition that starts.
    pub(super) fn put(&self, partition: u32, queue: mpsc::UnboundedSender<Input>) {
        self.set(partition, Some(queue));
    }

    /// Removes the queue of a partition that has left.
    #[cfg(feature = "aws")]
    pub(super) fn remove(&self, partition: u32) {
        self.set(partition, None);
    }

    fn set(&self, partition: u32, queue: Option<mpsc::UnboundedSender<Input>>) {
        let mut queues = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = queues.get_mut(partition as usize) {
            *place = queue;
        }
    }

    /// Returns true if a partition runs here, or starts.
    pub(super) fn has(&self, partition: u32) -> bool {
        let queues = self.0.read().unwrap_or_else(PoisonError::into_inner);
        matches!(queues.get(partition as usize), Some(Some(_)))
    }

    /// Sends an input to a partition. A partition that has stopped, or runs elsewhere, expects
    /// none.
    pub(super) fn send(&self, partition: u32, input: Input) {
        let queues = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(Some(queue)) = queues.get(partition as usize) {
            let _ = queue.send(input);
        }
    }
}
