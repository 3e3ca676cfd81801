//! The sending side of a pair of partitions.

use std::collections::VecDeque;

use super::{AHEAD_MAX_MS, Answer, Frame, Number, Refusal};

/// Sending side of a pair, at one owner of the sending partition. `M` is a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sender<M> {
    /// Durable at the receiver, and removed here.
    acknowledged: Number,
    /// Highest epoch of the receiver that answered, over changes of this side's owner too.
    receiver_epoch: u64,
    /// Entries after `acknowledged`, without gaps. All are durable here.
    entries: VecDeque<Entry<M>>,
    connection: Option<Connection>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Entry<M> {
    message: M,
    bytes: u64,
    time_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Connection {
    id: u64,
    /// Last number sent over it.
    sent: Number,
    /// Last number that its answers named as taken.
    taken: Number,
    /// Room of the receiver for messages after `taken`, in bytes.
    credit: u64,
}

/// Consequence of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// Nothing, or further frames can be sent.
    Proceed,
    /// Entries up to this number are durable at the receiver. They leave the sender's state in a
    /// delta that is not earlier than `time_ms`, together with the epoch that said so.
    Acknowledged {
        /// Last such number.
        upto: Number,
        /// Epoch of the receiver that acknowledged.
        epoch: u64,
        /// Commit time at the receiver, in ms since the epoch.
        time_ms: u64,
    },
    /// The other end is a former owner of the receiver. The connection is closed, and the next one
    /// goes to whoever owns the partition now.
    FormerOwner,
    /// The receiver's time is too far behind, or too far ahead. The pair waits and tries again
    /// later; a person should look at the clocks.
    ClocksDiffer,
    /// The receiver has taken numbers that this side never made. Either this side is a former owner
    /// and its successor made them, or its state is older than the receiver's. The partition looks
    /// whether it still owns its log: if it does, the application is damaged and the pair stops.
    Unmade {
        /// Last number that the receiver has.
        taken: Number,
    },
    /// The receiver's newest owner lacks numbers that an owner before it acknowledged. Its state is
    /// older than what the sender has removed: the receiver is damaged, and the pair stops.
    Lost {
        /// First number that is missing.
        number: Number,
    },
}

impl<M: Clone> Sender<M> {
    /// Begins an ownership period. `acknowledged` and `receiver_epoch` are those of the last
    /// durable [`Reaction::Acknowledged`], or zero. The entries after it follow by
    /// [`release`](Self::release).
    #[must_use]
    pub fn start(acknowledged: Number, receiver_epoch: u64) -> Self {
        Self {
            acknowledged,
            receiver_epoch,
            entries: VecDeque::new(),
            connection: None,
        }
    }

    /// Last number that the receiver acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> Number {
        self.acknowledged
    }

    /// Last number that was released.
    #[must_use]
    pub fn released(&self) -> Number {
        self.acknowledged + self.entries.len() as u64
    }

    /// Connection in use, if there is one.
    #[must_use]
    pub fn connection(&self) -> Option<u64> {
        self.connection.as_ref().map(|connection| connection.id)
    }

    /// The delta that made message `number` is durable, with this commit time: the message may
    /// leave. Numbers follow each other without gaps.
    pub fn release(&mut self, number: Number, message: M, bytes: u64, time_ms: u64) {
        assert!(
            number == self.released() + 1,
            "numbers of a pair have no gaps"
        );
        self.entries.push_back(Entry {
            message,
            bytes,
            time_ms,
        });
    }

    /// A connection was made. It replaces the one before, whose answers no longer count. Sending
    /// begins with the first number that is not acknowledged, once the receiver's greeting gives
    /// credit.
    pub fn connected(&mut self, id: u64) {
        self.connection = Some(Connection {
            id,
            sent: self.acknowledged,
            taken: self.acknowledged,
            credit: 0,
        });
    }

    /// The connection broke, or was closed.
    pub fn disconnected(&mut self, id: u64) {
        if self.connection.as_ref().is_some_and(|one| one.id == id) {
            self.connection = None;
        }
    }

    /// Returns the next frame, of about `bytes_max` bytes. A frame may overdraw a credit that is
    /// not used up, and has at least one message, so that one of any size passes.
    pub fn poll(&mut self, bytes_max: u64) -> Option<Frame<M>> {
        let released = self.released();
        let connection = self.connection.as_mut()?;
        if connection.sent >= released {
            return None;
        }
        let index = |number: Number| (number - self.acknowledged) as usize;
        let taken = connection.taken.max(self.acknowledged);
        let under_way = self
            .entries
            .range(index(taken)..index(connection.sent.max(taken)));
        if under_way.map(|entry| entry.bytes).sum::<u64>() >= connection.credit {
            return None;
        }
        let first = connection.sent + 1;
        let mut bytes = 0;
        let mut time_ms = 0;
        let mut messages = Vec::new();
        for entry in self.entries.range(index(connection.sent)..) {
            bytes += entry.bytes;
            if bytes > bytes_max && !messages.is_empty() {
                break;
            }
            time_ms = time_ms.max(entry.time_ms);
            messages.push(entry.message.clone());
        }
        connection.sent += messages.len() as u64;
        Some(Frame {
            first,
            messages,
            time_ms,
        })
    }

    /// Handles an answer that came over connection `id`. `now_ms` is the sending partition's time.
    pub fn answered(&mut self, id: u64, answer: &Answer, now_ms: u64) -> Reaction {
        let released = self.released();
        let Some(connection) = self.connection.as_mut().filter(|one| one.id == id) else {
            return Reaction::Proceed;
        };
        if answer.epoch < self.receiver_epoch {
            self.connection = None;
            return Reaction::FormerOwner;
        }
        if answer.taken > released {
            self.connection = None;
            return Reaction::Unmade {
                taken: answer.taken,
            };
        }
        if answer.taken < self.acknowledged {
            if answer.epoch == self.receiver_epoch {
                // The owner that acknowledged: it gave this answer before it took those numbers,
                // which it did over another connection. Its room is known nevertheless.
                connection.credit = answer.credit;
                return Reaction::Proceed;
            }
            self.connection = None;
            return Reaction::Lost {
                number: answer.taken + 1,
            };
        }
        if answer.time_ms > now_ms.saturating_add(AHEAD_MAX_MS) {
            self.connection = None;
            return Reaction::ClocksDiffer;
        }
        connection.taken = answer.taken;
        connection.credit = answer.credit;
        if answer.refused == Some(Refusal::Gap) {
            connection.sent = answer.taken;
        }
        connection.sent = connection.sent.max(answer.taken);
        let refused_as_ahead = answer.refused == Some(Refusal::Ahead);
        if refused_as_ahead {
            self.connection = None;
        }
        if answer.durable > self.acknowledged {
            let removed = (answer.durable - self.acknowledged) as usize;
            self.entries.drain(..removed);
            self.acknowledged = answer.durable;
            self.receiver_epoch = answer.epoch;
            return Reaction::Acknowledged {
                upto: answer.durable,
                epoch: answer.epoch,
                time_ms: answer.time_ms,
            };
        }
        if refused_as_ahead {
            return Reaction::ClocksDiffer;
        }
        Reaction::Proceed
    }
}
