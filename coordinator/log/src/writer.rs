//! The rules of committing, without any I/O: which number a record gets, when it may be begun, when it counts.
//!
//! ```text
//! append ─► queue ─► begin(n) ─► Put ─┬─ stored ───────────────► answered ─┬─ epochs/<own+1> absent ─► Durable, in order
//!                      ▲              └─ exists ─► Get ─┬─ mine ──┘        └─ present ─► End
//!                      └───── next number ──────────────┴─ void, and still within the first numbers of the epoch
//! ```
//!
//! - A number is begun only when the one `depth` before it is durable, so an owner whose time is over reaches at most
//!   [`DEPTH_MAX`] − 1 numbers beyond the takeover. Up to there an epoch commits one record at a time and moves it past void
//!   objects; beyond, a refusal ends the epoch. So no record is renumbered once a later one was begun.
//! - A commit counts only if `epochs/<own+1>` was absent in a read begun less than the window before the answer, or after it:
//!   else the number may have been collected by later owners and created again.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::clock::Now;
use crate::control::Control;
use crate::entries::Entries;
use crate::error::LogError;
use crate::keys::Layout;
use crate::owner::Owner;
use crate::record::{Kind, Record, Unnumbered};
use crate::store::Created;

/// The most commits that an owner may have on their way at once: a constant of the format, because it bounds how far beyond a
/// takeover a former owner can reach.
pub const DEPTH_MAX: u64 = 8;

/// Everything that a partition changed since its last commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// The engine's number of this delta: 1, 2, 3, … in each epoch. The log finds the object's number.
    pub sequence: u64,
    /// Partition time in milliseconds since 1970; must not go back.
    pub committed_at_ms: u64,
    /// Whether it ends a clean stop. The log adds nothing of its own behind it.
    pub clean: bool,
    /// The changes.
    pub entries: Entries,
}

/// What a durable record was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The engine's delta of this sequence.
    Delta {
        /// Its sequence.
        sequence: u64,
    },
    /// A decision of the log's own.
    Control,
}

/// A record became durable, and everything before it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// What it was.
    pub what: What,
    /// Its place in the log.
    pub number: u64,
    /// Size of its object in bytes.
    pub stored_bytes: u64,
}

/// What the writer wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Create this object; answer with [`Writer::created`].
    Put {
        /// Its number.
        number: u64,
        /// Its key.
        key: String,
        /// Its content, never to be changed.
        bytes: Bytes,
    },
    /// Read this object; answer with [`Writer::fetched`].
    Get {
        /// Its number.
        number: u64,
        /// Its key.
        key: String,
    },
    /// Read the claim of the next epoch, beginning now or later; answer with [`Writer::next_epoch_read`].
    ReadNextEpoch {
        /// Its key.
        key: String,
    },
    /// A record and all before it are durable.
    Durable(Committed),
    /// This epoch is over; nothing that was not reported durable counts.
    End(LogError),
}

/// Where an epoch's writing begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The owner.
    pub owner: Owner,
    /// The number of the takeover record.
    pub takeover: u64,
    /// Time of the takeover record in milliseconds since 1970.
    pub committed_at_ms: u64,
}

/// The writer of one epoch of one partition. See the module's documentation.
#[derive(Debug)]
pub struct Writer {
    layout: Layout,
    partition: u32,
    owner: Owner,
    depth: u64,
    window_ms: u64,
    /// Up to here former owners may have left void objects.
    settled_at: u64,
    next: u64,
    durable: u64,
    last_sequence: u64,
    committed_at_ms: u64,
    closed: bool,
    ended: bool,
    queue: VecDeque<Unnumbered>,
    flights: BTreeMap<u64, Flight>,
    moment: u64,
    absent: Option<Reading>,
    reading: Option<Reading>,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
struct Flight {
    record: Unnumbered,
    bytes: Bytes,
    /// When its create was answered with "stored, and mine".
    answered: Option<Reading>,
}

/// A point in time, and in the order of the writer's events.
#[derive(Clone, Copy, Debug)]
struct Reading {
    now: Now,
    moment: u64,
}

impl Writer {
    /// A writer for the epoch that begins with `start`. `depth` commits at most are on their way at once (1 to [`DEPTH_MAX`]);
    /// `window_ms` is how old a sight of the absent next epoch may be.
    #[must_use]
    pub fn new(layout: Layout, partition: u32, start: &Start, depth: u64, window_ms: u64) -> Self {
        Self {
            layout,
            partition,
            owner: start.owner,
            depth: depth.clamp(1, DEPTH_MAX),
            window_ms,
            settled_at: start.takeover + DEPTH_MAX - 1,
            next: start.takeover + 1,
            durable: start.takeover,
            last_sequence: 0,
            committed_at_ms: start.committed_at_ms,
            closed: false,
            ended: false,
            queue: VecDeque::new(),
            flights: BTreeMap::new(),
            moment: 0,
            absent: None,
            reading: None,
            actions: VecDeque::new(),
        }
    }

    /// Hands a delta over. Its header's time is at least that of the record before, whatever it says.
    pub fn append(&mut self, delta: &Delta) {
        if self.ended {
            return;
        }
        if delta.sequence != self.last_sequence + 1 {
            return self.end(LogError::Misuse(format!(
                "delta {} comes after delta {}",
                delta.sequence, self.last_sequence
            )));
        }
        let time = self.time(delta.committed_at_ms);
        let Some(record) = Unnumbered::delta(delta.sequence, time, delta.clean, &delta.entries)
        else {
            return self.end(LogError::Misuse(format!(
                "delta {} is longer than any log object may be",
                delta.sequence
            )));
        };
        self.last_sequence = delta.sequence;
        self.closed = delta.clean;
        self.queue.push_back(record);
    }

    /// Appends a decision of the log's own; `false` if this epoch takes none any more.
    pub(crate) fn append_control(&mut self, control: &Control) -> bool {
        if self.ended || self.closed {
            return false;
        }
        let time = self.time(0);
        self.queue.push_back(Unnumbered::control(time, control));
        true
    }

    /// The next thing to do, if any.
    pub fn poll(&mut self, now: Now) -> Option<Action> {
        while !self.ended && !self.queue.is_empty() && self.may_begin() {
            self.begin(now);
        }
        self.actions.pop_front()
    }

    /// The time of the last record appended, in milliseconds since 1970.
    pub(crate) fn committed_at_ms(&self) -> u64 {
        self.committed_at_ms
    }

    /// Whether everything appended is durable, and nothing is to be done.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.flights.is_empty() && self.actions.is_empty()
    }

    /// The answer to [`Action::Put`].
    pub fn created(&mut self, number: u64, created: Created, now: Now) {
        match created {
            Created::Stored => self.answered(number, now),
            Created::Exists if self.flights.contains_key(&number) => {
                let key = self.layout.log(number);
                self.actions.push_back(Action::Get { number, key });
            }
            Created::Exists => {}
        }
    }

    /// The answer to [`Action::Get`]: what stands where a create was refused.
    pub fn fetched(&mut self, number: u64, found: Option<Bytes>, now: Now) {
        let Some(flight) = self.flights.get(&number) else {
            return;
        };
        let key = self.layout.log(number);
        let Some(found) = found else {
            return self.fenced(format!(
                "{key} was taken by another owner and collected since"
            ));
        };
        if found == flight.bytes {
            return self.answered(number, now);
        }
        let other = match Record::decode(&found, self.partition, number) {
            Ok(record) => record.header,
            Err(defect) => return self.end(LogError::Damaged { key, defect }),
        };
        if other.owner == self.owner {
            self.end(LogError::Unexpected {
                key,
                reason: "it is of this very epoch and process, but with another content".to_owned(),
            });
        } else if other.owner.epoch >= self.owner.epoch {
            self.fenced(format!("{key} is of epoch {}", other.owner.epoch));
        } else if number <= self.settled_at {
            self.pass_void();
        } else {
            self.end(LogError::Unexpected {
                key,
                reason: format!(
                    "it is of epoch {}, which cannot have come this far beyond the takeover at {}",
                    other.owner.epoch,
                    self.settled_at + 1 - DEPTH_MAX
                ),
            });
        }
    }

    /// The answer to [`Action::ReadNextEpoch`]: whether there is a claim of the next epoch.
    pub fn next_epoch_read(&mut self, present: bool, now: Now) {
        let begun = self.reading.take();
        if present {
            let epoch = self.owner.epoch + 1;
            return self.fenced(format!("epoch {epoch} is claimed"));
        }
        self.absent = begun;
        self.settle(now);
    }

    fn time(&mut self, asked_ms: u64) -> u64 {
        self.committed_at_ms = self.committed_at_ms.max(asked_ms);
        self.committed_at_ms
    }

    fn may_begin(&self) -> bool {
        match self.flights.keys().next() {
            None => true,
            // It may yet have to move past a void object: nothing may be begun behind it.
            Some(first) if *first <= self.settled_at => false,
            Some(_) => self.next <= self.durable + self.depth,
        }
    }

    fn begin(&mut self, now: Now) {
        let Some(record) = self.queue.pop_front() else {
            return;
        };
        let number = self.next;
        self.next += 1;
        let bytes = record.seal(self.partition, &self.owner, number);
        self.actions.push_back(Action::Put {
            number,
            key: self.layout.log(number),
            bytes: bytes.clone(),
        });
        self.flights.insert(
            number,
            Flight {
                record,
                bytes,
                answered: None,
            },
        );
        // Looking again beside the write, before the last look is too old, saves waiting for it after the answer.
        let aged = |read: Reading| now.elapsed_at_most_ms(&read.now) > self.window_ms / 2;
        if self.absent.is_none_or(aged) {
            self.look(now);
        }
    }

    fn look(&mut self, now: Now) {
        if self.reading.is_none() {
            self.reading = Some(self.mark(now));
            let key = self.layout.epoch(self.owner.epoch + 1);
            self.actions.push_back(Action::ReadNextEpoch { key });
        }
    }

    fn mark(&mut self, now: Now) -> Reading {
        self.moment += 1;
        Reading {
            now,
            moment: self.moment,
        }
    }

    fn answered(&mut self, number: u64, now: Now) {
        let at = self.mark(now);
        if let Some(flight) = self.flights.get_mut(&number) {
            flight.answered.get_or_insert(at);
        }
        self.settle(now);
    }

    /// Reports what became durable: the unbroken prefix of answered commits that count.
    fn settle(&mut self, now: Now) {
        while !self.ended
            && let Some(first) = self.flights.first_entry()
            && let Some(answered) = first.get().answered
        {
            let number = *first.key();
            let counts = self.absent.is_some_and(|read| {
                read.moment > answered.moment
                    || answered.now.elapsed_at_most_ms(&read.now) < self.window_ms
            });
            if !counts {
                return self.look(now);
            }
            let flight = first.remove();
            self.durable = number;
            self.actions.push_back(Action::Durable(Committed {
                what: match flight.record.kind {
                    Kind::Delta => What::Delta {
                        sequence: flight.record.sequence,
                    },
                    Kind::Takeover | Kind::Control => What::Control,
                },
                number,
                stored_bytes: flight.bytes.len() as u64,
            }));
        }
    }

    /// The number is taken by a void object. The record goes to the next one; no later one was begun, so its order is kept.
    fn pass_void(&mut self) {
        if let Some((number, flight)) = self.flights.pop_first() {
            self.next = number + 1;
            // What lies below is void: the window counts from here.
            self.durable = number;
            self.queue.push_front(flight.record);
        }
    }

    fn fenced(&mut self, reason: String) {
        self.end(LogError::Fenced {
            epoch: self.owner.epoch,
            reason,
        });
    }

    fn end(&mut self, error: LogError) {
        if !self.ended {
            self.ended = true;
            self.queue.clear();
            self.flights.clear();
            self.actions
                .retain(|action| matches!(action, Action::Durable(_)));
            self.actions.push_back(Action::End(error));
        }
    }
}

#[cfg(test)]
mod tests;
