//! What was received and is not deleted yet: the pure state machine that decides what is deleted, and what is kept from being handed out
//! again. It has no clock: `now_ms` is an argument, of any clock that never goes back.
//!
//! Each time that a message is handed out it has another receipt handle, and only the newest is sure to delete it. So a deletion counts only
//! if it was made with the newest handle that is known when it is answered.

use std::collections::BTreeSet;

use crate::map::Map;
use crate::queue::QueuedId;

/// So many messages are named in one request.
pub const BATCH_MAX: usize = 10;

/// How long SQS lets one message be kept from others, from when it was received.
const INVISIBLE_MAX_MS: u64 = 12 * 60 * 60 * 1000;

/// The first wait after a deletion that failed; each further one is twice as long.
const BACKOFF_INITIAL_MS: u64 = 100;

const BACKOFF_MAX_MS: u64 = 20_000;

/// What was received.
#[derive(Debug)]
pub struct ReceivedMessages {
    /// For so long a message is handed to nobody else.
    visibility_ms: u64,
    /// For so long an answer is waited for.
    patience_ms: u64,
    held: Map<QueuedId, Held>,
    deletions: BTreeSet<(u64, QueuedId)>,
    extensions: BTreeSet<(u64, QueuedId)>,
}

/// A message by its id and the receipt handle by which it is known to SQS.
pub type Handed = (QueuedId, String);

/// What became of one message of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is as was wished.
    Done,
    /// It is not, by chance or trouble; another try may do better.
    Again,
    /// The receipt handle is good for nothing any more: the message comes again, or it is gone.
    Lost,
}

#[derive(Debug)]
struct Held {
    handle: String,
    /// When SQS stops keeping it from others, whatever is asked.
    received_ms: u64,
    /// What it became is durable.
    taken: bool,
    /// When it is on the lists, so that it can be taken from them.
    deletion_ms: Option<u64>,
    extension_ms: Option<u64>,
    failures: u32,
}

impl ReceivedMessages {
    /// Nothing was received. An answer is waited for `patience_ms`.
    pub fn new(visibility_ms: u64, patience_ms: u64) -> Self {
        Self {
            visibility_ms,
            patience_ms,
            held: Map::default(),
            deletions: BTreeSet::new(),
            extensions: BTreeSet::new(),
        }
    }

    /// How many messages were received and are not deleted.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether an answer may be taken at `now_ms` that was asked for at `asked_ms`. One that lay in a process that slept may be so old that its messages
    /// are deleted since, and even their ids forgotten; whatever is not deleted is handed out again.
    pub fn is_fresh(&self, asked_ms: u64, now_ms: u64) -> bool {
        now_ms.saturating_sub(asked_ms) <= self.patience_ms
    }

    /// Takes a message that was handed out: for the first time, or once more with another handle.
    pub fn received(&mut self, now_ms: u64, id: QueuedId, handle: String) {
        self.forget(id);
        let held = Held {
            handle,
            received_ms: now_ms,
            taken: false,
            deletion_ms: None,
            extension_ms: None,
            failures: 0,
        };
        self.held.insert(id, held);
        self.extend_at(now_ms + self.renewal_ms(), id);
    }

    /// What these became is durable.
    pub fn taken(&mut self, now_ms: u64, ids: &[QueuedId]) {
        for id in ids {
            // One that is not held comes again.
            let Some(held) = self.held.get_mut(id) else {
                continue;
            };
            if !held.taken {
                held.taken = true;
                self.delete_at(now_ms, *id);
            }
        }
    }

    /// The next messages to be deleted with one request.
    pub fn poll_deletions(&mut self, now_ms: u64) -> Vec<Handed> {
        let due = take_due(&mut self.deletions, now_ms);
        self.handed(due, |held| held.deletion_ms = None)
    }

    /// Takes what became of a deletion. Returns what is deleted for good.
    pub fn deleted(&mut self, now_ms: u64, fates: Vec<(Handed, Fate)>) -> Vec<QueuedId> {
        let mut deleted = Vec::new();
        for ((id, handle), fate) in fates {
            let Some(held) = self.held.get_mut(&id).filter(|it| it.handle == handle) else {
                // It was handed out once more meanwhile, and is deleted by its newer handle.
                continue;
            };
            match fate {
                Fate::Done => {
                    self.forget(id);
                    deleted.push(id);
                }
                Fate::Lost => self.forget(id),
                Fate::Again => {
                    let wait_ms = BACKOFF_INITIAL_MS << held.failures.min(8);
                    held.failures += 1;
                    self.delete_at(now_ms + wait_ms.min(BACKOFF_MAX_MS), id);
                }
            }
        }
        deleted
    }

    /// The next messages that are to be kept from others for longer, with one request.
    pub fn poll_extensions(&mut self, now_ms: u64) -> Vec<Handed> {
        let due = take_due(&mut self.extensions, now_ms);
        self.handed(due, |held| held.extension_ms = None)
    }

    /// Takes what became of it.
    pub fn extended(&mut self, now_ms: u64, fates: Vec<(Handed, Fate)>) {
        for ((id, handle), fate) in fates {
            let Some(held) = self.held.get(&id).filter(|it| it.handle == handle) else {
                continue;
            };
            let wait_ms = match fate {
                Fate::Done => self.renewal_ms(),
                Fate::Again => (self.visibility_ms / 10).max(1),
                // It may be handed out again; its deletion is tried all the same.
                Fate::Lost => continue,
            };
            if now_ms + self.visibility_ms < held.received_ms + INVISIBLE_MAX_MS {
                self.extend_at(now_ms + wait_ms, id);
            }
        }
    }

    /// When one of the polls may have something.
    pub fn wake_at_ms(&self) -> Option<u64> {
        let first = |list: &BTreeSet<(u64, QueuedId)>| list.first().map(|(due_ms, _)| *due_ms);
        let due = [first(&self.deletions), first(&self.extensions)];
        due.into_iter().flatten().min()
    }

    /// After so long a message is kept from others anew.
    fn renewal_ms(&self) -> u64 {
        self.visibility_ms / 2
    }

    fn handed(&mut self, ids: Vec<QueuedId>, off_list: impl Fn(&mut Held)) -> Vec<Handed> {
        let handed = ids.into_iter().filter_map(|id| {
            let held = self.held.get_mut(&id)?;
            off_list(held);
            Some((id, held.handle.clone()))
        });
        handed.collect()
    }

    fn delete_at(&mut self, due_ms: u64, id: QueuedId) {
        if let Some(held) = self.held.get_mut(&id) {
            held.deletion_ms = Some(due_ms);
            self.deletions.insert((due_ms, id));
        }
    }

    fn extend_at(&mut self, due_ms: u64, id: QueuedId) {
        if let Some(held) = self.held.get_mut(&id) {
            held.extension_ms = Some(due_ms);
            self.extensions.insert((due_ms, id));
        }
    }

    fn forget(&mut self, id: QueuedId) {
        if let Some(held) = self.held.remove(&id) {
            if let Some(due_ms) = held.deletion_ms {
                self.deletions.remove(&(due_ms, id));
            }
            if let Some(due_ms) = held.extension_ms {
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
