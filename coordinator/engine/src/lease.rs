//! The rules of a lease, as a state machine without a clock, a table or tasks.
//!
//! ```text
//!             Read: absent, released, or not moved for the lease time
//!  Watching ────────────────────────────────────────────────────────► Claiming
//!     ▲                                                                │    │ written
//!     └──────────────────────── refused, unknown ──────────────────────┘    ▼
//!                                                                        Holding
//!                                             refused, and another owner │    │ release
//!                                             stands in the table        ▼    ▼
//!                                                                      Over ◄── Releasing
//! ```
//!
//! A process that lost its lease ends; `Over` has no way back.
//!
//! At most one request is in flight. `now_ms` comes from a clock that counts while the machine
//! sleeps and that is never set. Readings of two machines are never compared.

pub mod members;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// A lease as stored in its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseItem {
    /// Process that holds or held the lease: 128 random bits in hexadecimal, new for every process.
    pub owner: String,
    /// Number of the holding. Grows by one whenever another process acquires the lease.
    pub epoch: u64,
    /// Counter that grows with every renewal.
    pub counter: u64,
    /// Lease time requested by the owner, in ms.
    pub lease_ms: u64,
    /// True if the owner has released the lease. A claimant then need not wait.
    pub released: bool,
    /// Address at which the owner reports its release.
    pub address: Option<String>,
    /// Peer port of the owner, if it has one.
    pub peer: Option<PeerPort>,
}

/// Peer port of a process: where other processes of the application forward requests to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerPort {
    /// Host and port.
    pub address: String,
    /// SHA-256 of the certificate that the process shows, in hexadecimal. The certificate holds
    /// the public key of the process.
    pub key: String,
}

/// A process that wants the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimant {
    /// Id of the process, unique among all processes.
    pub id: String,
    /// Address at which the process reports its release, if it has one.
    pub address: Option<String>,
    /// Peer port of the process, if it has one.
    pub peer: Option<PeerPort>,
}

/// Delay before a process that is stopping retries the release, in ms. Every standby waits for it.
const RELEASE_RETRY_MS: u64 = 100;

/// Maximum age of the lease confirmation while the table answers, in ms.
const CONFIRMED_MS: u64 = 3_333;

/// Timing of a claimant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Time for which the counter must stand still before a watcher takes over, in ms.
    pub lease_ms: u64,
    /// Polling interval of a watcher, in ms.
    pub poll_ms: u64,
}

impl Timing {
    /// Returns the usual timing for a lease of `lease_ms`: a poll per second, or more often for a
    /// short lease.
    pub fn of(lease_ms: u64) -> Self {
        Self {
            lease_ms,
            poll_ms: (lease_ms / 4).clamp(1, 1_000),
        }
    }

    /// Renewal interval of a holder. There are three renewals per lease time, so that two of them
    /// may fail. The interval is also limited to a few seconds, because some egresses send only
    /// while ownership was confirmed that recently.
    fn renewal_ms(&self) -> u64 {
        (self.lease_ms / 3).clamp(1, CONFIRMED_MS)
    }

    /// Delay before a holder retries a request without an answer.
    fn retry_ms(&self) -> u64 {
        (self.lease_ms / 10).clamp(1, 1_000)
    }

    /// Maximum gap between two observations of the same item. After a longer gap, a watcher must
    /// not conclude anything from a counter that stands still: the table may have been unreachable
    /// for the holder too.
    fn gap_max_ms(&self) -> u64 {
        (self.lease_ms / 2).max(2 * self.poll_ms)
    }
}

/// A fact handed to [`Lease::handle_input`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseInput {
    /// Answer to [`LeaseOutput::Read`].
    ItemRead(Option<LeaseItem>),
    /// [`LeaseOutput::Read`] got no answer.
    ReadFailed,
    /// Answer to [`LeaseOutput::Write`].
    Written(WriteOutcome),
    /// The holder reported its release: reading the table now is worthwhile.
    Hinted,
    /// The process is stopping: release the lease.
    ReleaseRequested,
    /// The requested wake-up time was reached (possibly early).
    TimeReached,
}

/// Result of a conditional write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The condition held and the item was written.
    Done,
    /// The condition did not hold. Nothing was written.
    Refused,
    /// There was no answer. The item may have been written.
    Unknown,
}

/// An imperative taken from [`Lease::poll_output`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseOutput {
    /// Read the item, strongly consistent; always answer with `ItemRead` or `ReadFailed`.
    Read,
    /// Write the item; always answer with `Written`.
    Write(Write),
    /// Send `TimeReached` at this time. Replaces an earlier request.
    WakeAt(u64),
    /// The lease was acquired.
    Acquired {
        /// Number of this holding.
        epoch: u64,
    },
    /// Another process holds the lease. No output follows.
    Lost {
        /// Id of the new owner.
        to: String,
    },
    /// The lease was released, or never held. No output follows.
    Released,
}

/// A conditional write of the whole item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Condition on the stored item.
    pub condition: Condition,
    /// Item to write.
    pub item: LeaseItem,
}

/// Condition on the stored item for a write to take effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// There is no item.
    Absent,
    /// The item is exactly the one that a watcher saw: same owner, epoch and counter.
    Unmoved {
        /// Owner of the item.
        owner: String,
        /// Epoch of the item.
        epoch: u64,
        /// Counter of the item.
        counter: u64,
    },
    /// The item is the holder's own, with a counter below that of the item to write. A renewal
    /// without an answer may have increased it, and a renewal that arrives after a later write must
    /// change nothing.
    Mine {
        /// Owner of the item.
        owner: String,
        /// Epoch of the item.
        epoch: u64,
    },
}

/// State machine of one process for one lease.
#[derive(Debug)]
pub struct Lease {
    me: Claimant,
    timing: Timing,
    state: State,
    /// Request in flight, with its start time.
    request: Option<(Request, u64)>,
    release_wanted: bool,
    release_at_ms: u64,
    outputs: VecDeque<LeaseOutput>,
    wake_requested_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Read,
    Claim { epoch: u64, counter: u64 },
    Renew,
    Release,
}

#[derive(Debug)]
enum State {
    Watching {
        /// Last observed item, with the times of its observation.
        observed: Option<Observation>,
        read_at_ms: u64,
    },
    Holding {
        epoch: u64,
        counter: u64,
        /// Start time of the last write that the table accepted.
        confirmed_ms: u64,
        renew_at_ms: u64,
        /// True if a renewal was refused, so that the item must be read.
        in_doubt: bool,
    },
    Over,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Observation {
    item: LeaseItem,
    since_ms: u64,
    last_ms: u64,
}

impl Lease {
    /// Creates a claimant that reads the table at once.
    pub fn new(me: Claimant, timing: Timing) -> Self {
        Self {
            me,
            timing,
            state: State::Watching {
                observed: None,
                read_at_ms: 0,
            },
            request: None,
            release_wanted: false,
            release_at_ms: 0,
            outputs: VecDeque::new(),
            wake_requested_ms: None,
        }
    }

    /// Returns the last time at which this process certainly held the lease: the start of a write
    /// that the table accepted. `None` if it does not hold the lease.
    pub fn confirmed_ms(&self) -> Option<u64> {
        match &self.state {
            State::Holding { confirmed_ms, .. } => Some(*confirmed_ms),
            State::Watching { .. } | State::Over => None,
        }
    }

    /// Returns the last observed item, while watching.
    pub fn holder(&self) -> Option<&LeaseItem> {
        match &self.state {
            State::Watching { observed, .. } => observed.as_ref().map(|observed| &observed.item),
            State::Holding { .. } | State::Over => None,
        }
    }

    /// Handles one fact.
    pub fn handle_input(&mut self, now_ms: u64, input: LeaseInput) {
        self.wake_requested_ms = self
            .wake_requested_ms
            .filter(|requested_ms| *requested_ms > now_ms);
        match input {
            LeaseInput::ItemRead(item) => {
                if let Some((Request::Read, begun_ms)) = self.request.take() {
                    self.item_read(now_ms, begun_ms, item);
                }
            }
            LeaseInput::ReadFailed => {
                if let Some((Request::Read, _)) = self.request.take() {
                    self.postpone_read(now_ms);
                }
            }
            LeaseInput::Written(outcome) => match self.request.take() {
                Some((Request::Claim { epoch, counter }, begun_ms)) => match outcome {
                    WriteOutcome::Done => self.hold(epoch, counter, begun_ms),
                    _ => self.claim_failed(now_ms, outcome),
                },
                Some((Request::Renew, begun_ms)) => self.renewed(now_ms, begun_ms, outcome),
                Some((Request::Release, _)) => self.release_written(now_ms, outcome),
                Some((Request::Read, _)) | None => {}
            },
            LeaseInput::Hinted => {
                if let State::Watching { read_at_ms, .. } = &mut self.state {
                    *read_at_ms = now_ms;
                }
            }
            LeaseInput::ReleaseRequested => self.release_wanted = true,
            LeaseInput::TimeReached => self.wake_requested_ms = None,
        }
        self.advance(now_ms);
    }

    /// Returns the next imperative, or `None` until the next input.
    pub fn poll_output(&mut self) -> Option<LeaseOutput> {
        self.outputs.pop_front()
    }

    /// Begins the next request, if one is due.
    fn advance(&mut self, now_ms: u64) {
        if self.request.is_some() {
            return;
        }
        match &self.state {
            State::Over => {}
            State::Watching { .. } if self.release_wanted => {
                self.state = State::Over;
                self.outputs.push_back(LeaseOutput::Released);
            }
            State::Watching { read_at_ms, .. } => {
                let read_at_ms = *read_at_ms;
                if read_at_ms <= now_ms {
                    self.begin(now_ms, Request::Read, LeaseOutput::Read);
                } else {
                    self.wake_at(read_at_ms);
                }
            }
            State::Holding {
                epoch,
                counter,
                renew_at_ms,
                in_doubt,
                ..
            } => {
                let (epoch, counter, renew_at_ms) = (*epoch, *counter, *renew_at_ms);
                if *in_doubt && renew_at_ms <= now_ms {
                    self.begin(now_ms, Request::Read, LeaseOutput::Read);
                } else if self.release_wanted && !*in_doubt {
                    if self.release_at_ms <= now_ms {
                        self.rewrite(now_ms, Request::Release, epoch, counter + 1, true);
                    } else {
                        self.wake_at(self.release_at_ms);
                    }
                } else if renew_at_ms <= now_ms {
                    self.rewrite(now_ms, Request::Renew, epoch, counter + 1, false);
                } else {
                    self.wake_at(renew_at_ms);
                }
            }
        }
    }

    fn item_read(&mut self, now_ms: u64, begun_ms: u64, item: Option<LeaseItem>) {
        match &self.state {
            State::Watching { .. } => self.watched(now_ms, begun_ms, item),
            State::Holding { .. } => self.reread(now_ms, item),
            State::Over => {}
        }
    }

    /// Handles an item read by a watcher.
    fn watched(&mut self, now_ms: u64, begun_ms: u64, item: Option<LeaseItem>) {
        let State::Watching { observed, .. } = &mut self.state else {
            return;
        };
        let Some(item) = item else {
            *observed = None;
            return self.claim(now_ms, Condition::Absent, 1, 1);
        };
        if item.owner == self.me.id && !item.released {
            // An own claim whose answer was lost. It was stored when this read began, or later.
            return self.hold(item.epoch, item.counter, begun_ms);
        }
        let unchanged = observed.take().filter(|observed| {
            observed.item == item
                && begun_ms.saturating_sub(observed.last_ms) <= self.timing.gap_max_ms()
        });
        let since_ms = unchanged.map_or(now_ms, |observed| observed.since_ms);
        // An owner with a longer lease time is given that time.
        let expires_ms = since_ms.saturating_add(self.timing.lease_ms.max(item.lease_ms));
        *observed = Some(Observation {
            item: item.clone(),
            since_ms,
            last_ms: now_ms,
        });
        if item.released || expires_ms <= begun_ms {
            let condition = Condition::Unmoved {
                owner: item.owner,
                epoch: item.epoch,
                counter: item.counter,
            };
            return self.claim(now_ms, condition, item.epoch.saturating_add(1), 1);
        }
        let poll_at_ms = now_ms + self.timing.poll_ms;
        self.read_at(poll_at_ms.min(expires_ms));
    }

    /// Handles an item read by a holder whose renewal was refused.
    fn reread(&mut self, now_ms: u64, item: Option<LeaseItem>) {
        let State::Holding {
            epoch,
            counter,
            in_doubt,
            ..
        } = &mut self.state
        else {
            return;
        };
        *in_doubt = false;
        let (mine, next) = (*epoch, *counter + 1);
        match item {
            Some(item) if item.owner == self.me.id && item.epoch == mine => {
                *counter = item.counter.max(*counter);
            }
            Some(item) => {
                self.state = State::Over;
                self.outputs.push_back(LeaseOutput::Lost { to: item.owner });
            }
            // The item was removed, or the table was recreated: no other process holds the lease.
            None => self.claim(now_ms, Condition::Absent, mine, next),
        }
    }

    fn claim(&mut self, now_ms: u64, condition: Condition, epoch: u64, counter: u64) {
        if self.release_wanted {
            return;
        }
        let item = self.item(epoch, counter, false);
        let write = LeaseOutput::Write(Write { condition, item });
        self.begin(now_ms, Request::Claim { epoch, counter }, write);
    }

    /// Handles a claim that was refused or got no answer: the next read shows the owner.
    fn claim_failed(&mut self, now_ms: u64, outcome: WriteOutcome) {
        let retry_ms = match outcome {
            WriteOutcome::Refused => now_ms,
            _ => now_ms + self.timing.retry_ms(),
        };
        match &mut self.state {
            State::Watching { read_at_ms, .. } => *read_at_ms = retry_ms,
            State::Holding {
                in_doubt,
                renew_at_ms,
                ..
            } => {
                *in_doubt = true;
                *renew_at_ms = retry_ms;
            }
            State::Over => {}
        }
    }

    fn hold(&mut self, epoch: u64, counter: u64, confirmed_ms: u64) {
        let first = matches!(self.state, State::Watching { .. });
        self.state = State::Holding {
            epoch,
            counter,
            confirmed_ms,
            renew_at_ms: confirmed_ms + self.timing.renewal_ms(),
            in_doubt: false,
        };
        if first {
            self.outputs.push_back(LeaseOutput::Acquired { epoch });
        }
    }

    fn renewed(&mut self, now_ms: u64, begun_ms: u64, outcome: WriteOutcome) {
        let State::Holding {
            counter,
            confirmed_ms,
            renew_at_ms,
            in_doubt,
            ..
        } = &mut self.state
        else {
            return;
        };
        // The write may have landed without an answer. A skipped number does no harm.
        *counter += 1;
        match outcome {
            WriteOutcome::Done => {
                *confirmed_ms = begun_ms;
                *renew_at_ms = begun_ms + self.timing.renewal_ms();
            }
            WriteOutcome::Refused => {
                *in_doubt = true;
                *renew_at_ms = now_ms;
            }
            WriteOutcome::Unknown => *renew_at_ms = now_ms + self.timing.retry_ms(),
        }
    }

    fn release_written(&mut self, now_ms: u64, outcome: WriteOutcome) {
        match outcome {
            // A refusal means that another process already holds the lease.
            WriteOutcome::Done | WriteOutcome::Refused => {
                self.state = State::Over;
                self.outputs.push_back(LeaseOutput::Released);
            }
            WriteOutcome::Unknown => {
                self.release_at_ms = now_ms + RELEASE_RETRY_MS;
                if let State::Holding { counter, .. } = &mut self.state {
                    *counter += 1;
                }
            }
        }
    }

    fn rewrite(&mut self, now_ms: u64, request: Request, epoch: u64, counter: u64, released: bool) {
        let write = LeaseOutput::Write(Write {
            condition: Condition::Mine {
                owner: self.me.id.clone(),
                epoch,
            },
            item: self.item(epoch, counter, released),
        });
        self.begin(now_ms, request, write);
    }

    fn item(&self, epoch: u64, counter: u64, released: bool) -> LeaseItem {
        LeaseItem {
            owner: self.me.id.clone(),
            epoch,
            counter,
            lease_ms: self.timing.lease_ms,
            released,
            address: self.me.address.clone(),
            peer: self.me.peer.clone(),
        }
    }

    fn begin(&mut self, now_ms: u64, request: Request, output: LeaseOutput) {
        self.request = Some((request, now_ms));
        self.outputs.push_back(output);
    }

    fn postpone_read(&mut self, now_ms: u64) {
        match &mut self.state {
            State::Watching { .. } => self.read_at(now_ms + self.timing.poll_ms),
            State::Holding { renew_at_ms, .. } => *renew_at_ms = now_ms + self.timing.retry_ms(),
            State::Over => {}
        }
    }

    fn read_at(&mut self, at_ms: u64) {
        if let State::Watching { read_at_ms, .. } = &mut self.state {
            *read_at_ms = at_ms;
        }
    }

    fn wake_at(&mut self, at_ms: u64) {
        if self
            .wake_requested_ms
            .is_none_or(|requested_ms| requested_ms != at_ms)
        {
            self.wake_requested_ms = Some(at_ms);
            self.outputs.push_back(LeaseOutput::WakeAt(at_ms));
        }
    }
}

#[cfg(test)]
mod tests;
