//! The rules of committing, without any I/O: the number of a record, when it may be begun, and when
//! it counts.
//!
//! ```text
//! append ─► queue ─► begin(n) ─► Put ─┬─ stored ─────────────────► answered
//!                      ▲              │                              ▲  │
//!                      │              └─ exists ─► Get ─┬─ mine ─────┘  │
//!                      │                                └─ void, in the first numbers of the epoch
//!                      │                                     │
//!                      └── next number ◄─ absent ─┬─ read of epochs/<own+1> after that
//!                                  End ◄─ present ┘
//!
//! answered ─► read of epochs/<own+1> ─┬─ absent ──► Durable, in order
//!                                     └─ present ─► End
//! ```
//!
//! - A number is begun only when the number `depth` before it is durable. A fenced owner therefore
//!   reaches at most [`DEPTH_MAX`] − 1 numbers beyond the takeover. Up to there an epoch commits
//!   one record at a time and moves it past void objects. Beyond, a refusal ends the epoch. So no
//!   record is renumbered once a later one was begun.
//! - A void object is passed only after a read, begun after the refusal, found `epochs/<own+1>`
//!   absent. A void object may also be a late write into a number that later owners collected.
//!   Past it, this epoch would reach numbers at which they no longer expect it.
//! - A commit counts only if a read found `epochs/<own+1>` absent. That read must have begun less
//!   than the window before the answer, or after it. Otherwise later owners may have collected the
//!   number, and this owner created it again.

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

/// Maximum number of commits that an owner may have in flight. It is a constant of the format,
/// because it bounds the reach of a former owner beyond a takeover.
pub const DEPTH_MAX: u64 = 8;

/// Everything that a partition changed since its last commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// Number that the engine gives this delta: 1, 2, 3, … in each epoch. The log chooses the
    /// number of the object.
    pub sequence: u64,
    /// Partition time in milliseconds since 1970; must not go back.
    pub committed_at_ms: u64,
    /// True for the last delta of a clean stop. The log adds no record of its own behind it.
    pub clean: bool,
    /// The changes.
    pub entries: Entries,
}

/// Kind of a durable record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommittedKind {
    /// The delta of this sequence.
    Delta {
        /// Its sequence.
        sequence: u64,
    },
    /// A decision of the log itself.
    Control,
}

/// A record that became durable, as did all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its kind.
    pub kind: CommittedKind,
    /// Its number in the log.
    pub number: u64,
    /// Size of its object in bytes.
    pub stored_bytes: u64,
}

/// A task for the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Create this object; answer with [`Writer::created`].
    Put {
        /// Its number.
        number: u64,
        /// Its key.
        key: String,
        /// Its content, which never changes.
        bytes: Bytes,
    },
    /// Read this object; answer with [`Writer::fetched`].
    Get {
        /// Its number.
        number: u64,
        /// Its key.
        key: String,
    },
    /// Read the claim of the next epoch, beginning now or later; answer with
    /// [`Writer::next_epoch_read`].
    ReadNextEpoch {
        /// Its key.
        key: String,
    },
    /// A record and all before it are durable.
    Durable(Committed),
    /// This epoch is over. A record that was not reported durable does not count.
    End(LogError),
}

/// The point at which an epoch begins to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The owner.
    pub owner: Owner,
    /// Number of the takeover record.
    pub takeover: u64,
    /// Time of the takeover record in milliseconds since 1970.
    pub committed_at_ms: u64,
}

/// The writer of one epoch of one partition. See the documentation of the module.
#[derive(Debug)]
pub struct Writer {
    layout: Layout,
    partition: u32,
    owner: Owner,
    depth: u64,
    window_ms: u64,
    /// Last number at which former owners may have left void objects.
    settled_at: u64,
    next: u64,
    durable: u64,
    last_sequence: u64,
    committed_at_ms: u64,
    closed: bool,
    ended: bool,
    queue: VecDeque<Unnumbered>,
    flights: BTreeMap<u64, Flight>,
    event: u64,
    absent: Option<Stamp>,
    reading: Option<Stamp>,
    /// When the create of the only record in flight met a void object.
    void: Option<Stamp>,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
struct Flight {
    record: Unnumbered,
    bytes: Bytes,
    /// The answer to its create, once that was "stored" and the object is this owner's.
    answered: Option<Stamp>,
}

/// A point in time, and in the order of the writer's events.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    now: Now,
    event: u64,
}

impl Writer {
    /// Creates a writer for the epoch that begins with `start`.
    ///
    /// `depth` is the maximum number of commits in flight (1 to [`DEPTH_MAX`]). `window_ms` is the
    /// maximum age in milliseconds of a read that found the next epoch unclaimed.
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
            event: 0,
            absent: None,
            reading: None,
            void: None,
            actions: VecDeque::new(),
        }
    }

    /// Appends a delta. The time in its header is at least that of the previous record.
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
                "delta {} exceeds the maximum length of a log object",
                delta.sequence
            )));
        };
        self.last_sequence = delta.sequence;
        self.closed = delta.clean;
        self.queue.push_back(record);
    }

    /// Appends a decision of the log itself. Returns `false` if this epoch accepts no more of them.
    pub(crate) fn append_control(&mut self, control: &Control) -> bool {
        if self.ended || self.closed {
            return false;
        }
        let time = self.time(0);
        self.queue.push_back(Unnumbered::control(time, control));
        true
    }

    /// Returns the next task, if any.
    pub fn poll(&mut self, now: Now) -> Option<Action> {
        while !self.ended && !self.queue.is_empty() && self.may_begin() {
            self.begin(now);
        }
        self.actions.pop_front()
    }

    /// Time of the last record appended, in milliseconds since 1970.
    pub(crate) fn committed_at_ms(&self) -> u64 {
        self.committed_at_ms
    }

    /// Returns true if everything appended is durable and no task is left.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.flights.is_empty() && self.actions.is_empty()
    }

    /// Handles the result of [`Action::Put`].
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

    /// Handles the result of [`Action::Get`]: the object that exists where a create was refused.
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
                reason: "this process wrote it in this epoch, but with other content".to_owned(),
            });
        } else if other.owner.epoch >= self.owner.epoch {
            self.fenced(format!("{key} is of epoch {}", other.owner.epoch));
        } else if number <= self.settled_at {
            self.void = Some(self.stamp(now));
            self.check_next_epoch(now);
        } else {
            self.end(LogError::Unexpected {
                key,
                reason: format!(
                    "it is of epoch {}, which cannot reach this far beyond the takeover at {}",
                    other.owner.epoch,
                    self.settled_at + 1 - DEPTH_MAX
                ),
            });
        }
    }

    /// Handles the result of [`Action::ReadNextEpoch`]: true if the next epoch is claimed.
    pub fn next_epoch_read(&mut self, present: bool, now: Now) {
        let begun = self.reading.take();
        if present {
            let epoch = self.owner.epoch + 1;
            return self.fenced(format!("epoch {epoch} is claimed"));
        }
        self.absent = begun;
        if let Some(void) = self.void {
            if begun.is_some_and(|read| read.event > void.event) {
                self.void = None;
                self.pass_void();
            } else {
                self.check_next_epoch(now);
            }
        }
        self.settle(now);
    }

    fn time(&mut self, asked_ms: u64) -> u64 {
        self.committed_at_ms = self.committed_at_ms.max(asked_ms);
        self.committed_at_ms
    }

    fn may_begin(&self) -> bool {
        match self.flights.keys().next() {
            None => true,
            // It may still have to move past a void object, so no later record may be begun.
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
        // Reading the claim again beside the write, before the last read is too old, avoids waiting
        // for it after the answer.
        let aged = |read: Stamp| now.elapsed_at_most_ms(&read.now) > self.window_ms / 2;
        if self.absent.is_none_or(aged) {
            self.check_next_epoch(now);
        }
    }

    fn check_next_epoch(&mut self, now: Now) {
        if self.reading.is_none() {
            self.reading = Some(self.stamp(now));
            let key = self.layout.epoch(self.owner.epoch + 1);
            self.actions.push_back(Action::ReadNextEpoch { key });
        }
    }

    fn stamp(&mut self, now: Now) -> Stamp {
        self.event += 1;
        Stamp {
            now,
            event: self.event,
        }
    }

    fn answered(&mut self, number: u64, now: Now) {
        let at = self.stamp(now);
        if let Some(flight) = self.flights.get_mut(&number) {
            flight.answered.get_or_insert(at);
        }
        self.settle(now);
    }

    /// Reports new durable records: the unbroken prefix of answered commits that count.
    fn settle(&mut self, now: Now) {
        while !self.ended
            && let Some(first) = self.flights.first_entry()
            && let Some(answered) = first.get().answered
        {
            let number = *first.key();
            let counts = self.absent.is_some_and(|read| {
                read.event > answered.event
                    || answered.now.elapsed_at_most_ms(&read.now) < self.window_ms
            });
            if !counts {
                return self.check_next_epoch(now);
            }
            let flight = first.remove();
            self.durable = number;
            self.actions.push_back(Action::Durable(Committed {
                kind: match flight.record.kind {
                    Kind::Delta => CommittedKind::Delta {
                        sequence: flight.record.sequence,
                    },
                    Kind::Takeover | Kind::Control => CommittedKind::Control,
                },
                number,
                stored_bytes: flight.bytes.len() as u64,
            }));
        }
    }

    /// Moves the record past a void object to the next number. No later record was begun, so the
    /// order is kept.
    fn pass_void(&mut self) {
        if let Some((number, flight)) = self.flights.pop_first() {
            self.next = number + 1;
            // Everything below is void: the window of `depth` counts from here.
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
