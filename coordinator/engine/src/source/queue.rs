//! Received messages that are not deleted yet: the pure state machine that decides when to delete
//! them, and when to extend their invisibility.
//!
//! Each delivery of a message has another receipt handle, and only the newest handle is certain to
//! delete the message. A deletion therefore counts only if it used the newest handle known when it
//! is answered.
//!
//! The state machine has no clock: `now_ms` is an argument, from any clock that never goes back.

use std::collections::BTreeSet;

use crate::map::Map;
use crate::queue::QueuedId;

/// Maximum number of messages in one request.
pub const BATCH_MAX: usize = 10;

/// Time for which SQS keeps a message invisible to other receivers at most, counted from its
/// reception, in ms.
const INVISIBLE_MAX_MS: u64 = 12 * 60 * 60 * 1000;

/// Delay after the first failed deletion, in ms. It doubles with each further failure.
const BACKOFF_INITIAL_MS: u64 = 100;

const BACKOFF_MAX_MS: u64 = 20_000;

/// Received messages that are not deleted yet.
#[derive(Debug)]
pub struct ReceivedMessages {
    /// Visibility timeout of a received message, in ms.
    visibility_ms: u64,
    /// Time for which an answer is awaited, in ms.
    patience_ms: u64,
    messages: Map<QueuedId, Received>,
    deletions: BTreeSet<(u64, QueuedId)>,
    extensions: BTreeSet<(u64, QueuedId)>,
}

/// Id of a message, and the receipt handle by which SQS knows this delivery.
pub type Receipt = (QueuedId, String);

/// Result for one message of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiptOutcome {
    /// The request succeeded.
    Done,
    /// The request failed for a temporary reason. A retry may succeed.
    Retry,
    /// The receipt handle is no longer valid: the message is redelivered, or it is gone.
    Lost,
}

#[derive(Debug)]
struct Received {
    handle: String,
    /// Time of reception, from which the maximum invisibility counts.
    received_ms: u64,
    /// True if the messages that it became are durable.
    deletable: bool,
    /// Its keys in `deletions` and `extensions`, so that it can be removed from them.
    deletion_ms: Option<u64>,
    extension_ms: Option<u64>,
    failures: u32,
}

impl ReceivedMessages {
    /// Creates an empty set. `patience_ms` is the time for which an answer is awaited.
    pub fn new(visibility_ms: u64, patience_ms: u64) -> Self {
        Self {
            visibility_ms,
            patience_ms,
            messages: Map::default(),
            deletions: BTreeSet::new(),
            extensions: BTreeSet::new(),
        }
    }

    /// Number of received messages that are not deleted.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Returns whether an answer at `now_ms` to a request made at `asked_ms` may be used.
    ///
    /// A process that slept may find an answer so old that its messages were deleted in the
    /// meantime and even their ids forgotten. Messages that are not deleted are redelivered.
    pub fn is_fresh(&self, asked_ms: u64, now_ms: u64) -> bool {
        now_ms.saturating_sub(asked_ms) <= self.patience_ms
    }

    /// Adds a delivered message, which may be known under an earlier handle.
    pub fn received(&mut self, now_ms: u64, id: QueuedId, handle: String) {
        self.forget(id);
        let message = Received {
            handle,
            received_ms: now_ms,
            deletable: false,
            deletion_ms: None,
            extension_ms: None,
            failures: 0,
        };
        self.messages.insert(id, message);
        self.extend_at(now_ms + self.renewal_ms(), id);
    }

    /// Schedules the deletion of messages whose effects are durable.
    pub fn mark_deletable(&mut self, now_ms: u64, ids: &[QueuedId]) {
        for id in ids {
            // A message that is not in the map is redelivered.
            let Some(message) = self.messages.get_mut(id) else {
                continue;
            };
            if !message.deletable {
                message.deletable = true;
                self.delete_at(now_ms, *id);
            }
        }
    }

    /// Returns the next messages to delete with one request.
    pub fn poll_deletions(&mut self, now_ms: u64) -> Vec<Receipt> {
        let due = take_due(&mut self.deletions, now_ms);
        self.receipts(due, |message| message.deletion_ms = None)
    }

    /// Handles the results of a deletion. Returns the ids of the deleted messages.
    pub fn deleted(
        &mut self,
        now_ms: u64,
        outcomes: Vec<(Receipt, ReceiptOutcome)>,
    ) -> Vec<QueuedId> {
        let mut deleted = Vec::new();
        for ((id, handle), outcome) in outcomes {
            let Some(message) = self.messages.get_mut(&id).filter(|it| it.handle == handle) else {
                // The message was redelivered in the meantime, and is deleted by its newer handle.
                continue;
            };
            match outcome {
                ReceiptOutcome::Done => {
                    self.forget(id);
                    deleted.push(id);
                }
                ReceiptOutcome::Lost => self.forget(id),
                ReceiptOutcome::Retry => {
                    let wait_ms = BACKOFF_INITIAL_MS << message.failures.min(8);
                    message.failures += 1;
                    self.delete_at(now_ms + wait_ms.min(BACKOFF_MAX_MS), id);
                }
            }
        }
        deleted
    }

    /// Returns the next messages whose invisibility is to be extended with one request.
    pub fn poll_extensions(&mut self, now_ms: u64) -> Vec<Receipt> {
        let due = take_due(&mut self.extensions, now_ms);
        self.receipts(due, |message| message.extension_ms = None)
    }

    /// Handles the results of an extension.
    pub fn extended(&mut self, now_ms: u64, outcomes: Vec<(Receipt, ReceiptOutcome)>) {
        for ((id, handle), outcome) in outcomes {
            let Some(message) = self.messages.get(&id).filter(|it| it.handle == handle) else {
                continue;
            };
            let wait_ms = match outcome {
                ReceiptOutcome::Done => self.renewal_ms(),
                ReceiptOutcome::Retry => (self.visibility_ms / 10).max(1),
                // The message may be redelivered. Its deletion is tried nevertheless.
                ReceiptOutcome::Lost => continue,
            };
            if now_ms + self.visibility_ms < message.received_ms + INVISIBLE_MAX_MS {
                self.extend_at(now_ms + wait_ms, id);
            }
        }
    }

    /// Time at which one of the polls may return something.
    pub fn wake_at_ms(&self) -> Option<u64> {
        let first = |list: &BTreeSet<(u64, QueuedId)>| list.first().map(|(due_ms, _)| *due_ms);
        let due = [first(&self.deletions), first(&self.extensions)];
        due.into_iter().flatten().min()
    }

    /// Interval after which invisibility is extended, in ms.
    fn renewal_ms(&self) -> u64 {
        self.visibility_ms / 2
    }

    fn receipts(&mut self, ids: Vec<QueuedId>, unlist: impl Fn(&mut Received)) -> Vec<Receipt> {
        let receipts = ids.into_iter().filter_map(|id| {
            let message = self.messages.get_mut(&id)?;
            unlist(message);
            Some((id, message.handle.clone()))
        });
        receipts.collect()
    }

    fn delete_at(&mut self, due_ms: u64, id: QueuedId) {
        if let Some(message) = self.messages.get_mut(&id) {
            message.deletion_ms = Some(due_ms);
            self.deletions.insert((due_ms, id));
        }
    }

    fn extend_at(&mut self, due_ms: u64, id: QueuedId) {
        if let Some(message) = self.messages.get_mut(&id) {
            message.extension_ms = Some(due_ms);
            self.extensions.insert((due_ms, id));
        }
    }

    fn forget(&mut self, id: QueuedId) {
        if let Some(message) = self.messages.remove(&id) {
            if let Some(due_ms) = message.deletion_ms {
                self.deletions.remove(&(due_ms, id));
            }
            if let Some(due_ms) = message.extension_ms {
                self.extensions.remove(&(due_ms, id));
            }
        }
    }
}

fn take_due(list: &mut BTreeSet<(u64, QueuedId)>, now_ms: u64) -> Vec<QueuedId> {
    let mut due = Vec::new();
    while due.len() < BATCH_MAX
        && let Some((due_ms, id)) = list.first().copied()
        && due_ms <= now_ms
    {
        list.pop_first();
        due.push(id);
    }
    due
}

#[cfg(test)]
mod tests;
