//! The rules of a lease, as a state machine without a clock, a table or tasks.
//!
//! ```text
//!            Look: absent, released, or not moved for the lease time
//! Watching ──────────────────────────────────────────────────────────► Claiming
//!    ▲  ▲                                                              │     │ written
//!    │  └──────────────────── refused, unknown ───────────────────────┘     ▼
//!    │                                                                   Holding ──release──► Releasing ──► Over
//!    │                                                                      │ refused, and another owner stands there
//!    └── (nobody comes back: a process that lost its lease ends)            └──► Over
//! ```
//!
//! One request is under way at a time. `now_ms` is a clock that counts while the machine sleeps and that nobody sets; readings of two
//! machines are never compared.

use std::collections::VecDeque;

/// A lease as it stands in its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseItem {
    /// The process that holds or held it: 128 random bits in hexadecimal, new with every process.
    pub owner: String,
    /// The number of this holding; grows by one whenever somebody else begins to hold.
    pub epoch: u64,
    /// Moves with every renewal.
    pub counter: u64,
    /// How long the owner wants to be waited for, in milliseconds.
    pub lease_ms: u64,
    /// Whether the owner is done: then nobody needs to wait.
    pub released: bool,
    /// Where the owner can be asked whether it is done.
    pub address: Option<String>,
}

/// Who wants the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimant {
    /// Names this process and no other, ever.
    pub id: String,
    /// Where it can be asked whether it is done, if anywhere.
    pub address: Option<String>,
}

/// How soon a process that is to end tries again to give the lease back: whoever waits for the application waits for this.
const RELEASE_AGAIN_MS: u64 = 100;

/// How old the confirmation of a lease may become while the table answers.
const CONFIRMED_MS: u64 = 3_333;

/// How patient a claimant is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long the counter must stand still before a watcher takes over, in milliseconds.
    pub lease_ms: u64,
    /// How often a watcher looks, in milliseconds.
    pub poll_ms: u64,
}

impl Timing {
    /// The usual way to watch a lease of `lease_ms`: once a second, or more often where the lease is short.
    pub fn of(lease_ms: u64) -> Self {
        Self {
            lease_ms,
            poll_ms: (lease_ms / 4).clamp(1, 1_000),
        }
    }

    /// A holder renews three times in a lease time, so that two renewals may fail; and not more rarely than every few seconds, because some send only
    /// while ownership was confirmed that recently.
    fn renewal_ms(&self) -> u64 {
        (self.lease_ms / 3).clamp(1, CONFIRMED_MS)
    }

    /// How soon a holder tries again that got no answer.
    fn again_ms(&self) -> u64 {
        (self.lease_ms / 10).clamp(1, 1_000)
    }

    /// A watcher that has not seen the item for longer than this may not conclude anything from its standing still: the table may have been
    /// out of reach for the holder too.
    fn gap_max_ms(&self) -> u64 {
        (self.lease_ms / 2).max(2 * self.poll_ms)
    }
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseInput {
    /// The answer to [`LeaseOutput::Look`].
    Found(Option<LeaseItem>),
    /// [`LeaseOutput::Look`] got no answer.
    NotFoundOut,
    /// The answer to [`LeaseOutput::Write`].
    Written(WriteOutcome),
    /// It is worth looking now: the holder said that it is done.
    Hinted,
    /// The process is to end: give the lease back.
    ReleaseRequested,
    /// Nothing happened but time.
    TimeReached,
}

/// What became of a conditional write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The condition held and the item stands.
    Done,
    /// The condition did not hold; nothing was written.
    Refused,
    /// No answer: it may have been written.
    Unknown,
}

/// One imperative.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseOutput {
    /// Read the item, strongly consistent; answer with `Found` or `NotFoundOut`, always.
    Look,
    /// Write the item; answer with `Written`, always.
    Write(Write),
    /// Send `TimeReached` at this time; replaces an earlier wish.
    WakeAt(u64),
    /// The lease is held, for the first time.
    Acquired {
        /// The number of this holding.
        epoch: u64,
    },
    /// Another process holds the lease. Nothing more comes.
    Lost {
        /// Who.
        to: String,
    },
    /// The lease is given back, or was never held. Nothing more comes.
    Released,
}

/// A conditional write of the whole item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// What must stand there.
    pub condition: Condition,
    /// What is to stand there.
    pub item: LeaseItem,
}

/// What must stand in the table for a write to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// No item.
    Absent,
    /// Exactly what a watcher saw: this owner, this epoch, this counter.
    Unmoved {
        /// Its owner.
        owner: String,
        /// Its epoch.
        epoch: u64,
        /// Its counter.
        counter: u64,
    },
    /// The holder's own item, with a counter below that of the item to be written: a renewal whose answer was lost may have moved it, and one that
    /// arrives after a later write must change nothing.
    Mine {
        /// Its owner.
        owner: String,
        /// Its epoch.
        epoch: u64,
    },
}

/// One process's part in one lease.
#[derive(Debug)]
pub struct Lease {
    me: Claimant,
    timing: Timing,
    state: State,
    /// What is under way, and when it was begun.
    request: Option<(Request, u64)>,
    release_wanted: bool,
    release_at_ms: u64,
    outputs: VecDeque<LeaseOutput>,
    asked_for_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Look,
    Claim { epoch: u64, counter: u64 },
    Renew,
    Release,
}

#[derive(Debug)]
enum State {
    Watching {
        /// What was seen last, and since when it has stood like that.
        seen: Option<Seen>,
        look_at_ms: u64,
    },
    Holding {
        epoch: u64,
        counter: u64,
        /// When the last write that the table took was begun.
        confirmed_ms: u64,
        renew_at_ms: u64,
        /// A renewal was refused: what stands there must be looked at.
        doubtful: bool,
    },
    Over,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    item: LeaseItem,
    since_ms: u64,
    last_ms: u64,
}

impl Lease {
    /// A claimant that looks at once.
    pub fn new(me: Claimant, timing: Timing) -> Self {
        Self {
            me,
            timing,
            state: State::Watching {
                seen: None,
                look_at_ms: 0,
            },
            request: None,
            release_wanted: false,
            release_at_ms: 0,
            outputs: VecDeque::new(),
            asked_for_ms: None,
        }
    }

    /// When this process surely held the lease last: a write that the table took was begun then, or later. `None` if it does not hold it.
    pub fn confirmed_ms(&self) -> Option<u64> {
        match &self.state {
            State::Holding { confirmed_ms, .. } => Some(*confirmed_ms),
            State::Watching { .. } | State::Over => None,
        }
    }

    /// Who held it when it was last seen, for a watcher.
    pub fn holder(&self) -> Option<&LeaseItem> {
        match &self.state {
            State::Watching { seen, .. } => seen.as_ref().map(|seen| &seen.item),
            State::Holding { .. } | State::Over => None,
        }
    }

    /// Takes one fact.
    pub fn handle_input(&mut self, now_ms: u64, input: LeaseInput) {
        self.asked_for_ms = self.asked_for_ms.filter(|asked_ms| *asked_ms > now_ms);
        match input {
            LeaseInput::Found(item) => {
                if let Some((Request::Look, begun_ms)) = self.request.take() {
                    self.found(now_ms, begun_ms, item);
                }
            }
            LeaseInput::NotFoundOut => {
                if let Some((Request::Look, _)) = self.request.take() {
                    self.look_later(now_ms);
                }
            }
            LeaseInput::Written(outcome) => match self.request.take() {
                Some((Request::Claim { epoch, counter }, begun_ms)) => match outcome {
                    WriteOutcome::Done => self.hold(epoch, counter, begun_ms),
                    _ => self.not_claimed(now_ms, outcome),
                },
                Some((Request::Renew, begun_ms)) => self.renewed(now_ms, begun_ms, outcome),
                Some((Request::Release, _)) => self.given_back(now_ms, outcome),
                Some((Request::Look, _)) | None => {}
            },
            LeaseInput::Hinted => {
                if let State::Watching { look_at_ms, .. } = &mut self.state {
                    *look_at_ms = now_ms;
                }
            }
            LeaseInput::ReleaseRequested => self.release_wanted = true,
            LeaseInput::TimeReached => self.asked_for_ms = None,
        }
        self.go_on(now_ms);
    }

    /// The next thing to do, or `None` until the next input.
    pub fn poll_output(&mut self) -> Option<LeaseOutput> {
        self.outputs.pop_front()
    }

    /// Begins what may be begun.
    fn go_on(&mut self, now_ms: u64) {
        if self.request.is_some() {
            return;
        }
        match &self.state {
            State::Over => {}
            State::Watching { .. } if self.release_wanted => {
                self.state = State::Over;
                self.outputs.push_back(LeaseOutput::Released);
            }
            State::Watching { look_at_ms, .. } => {
                let look_at_ms = *look_at_ms;
                if look_at_ms <= now_ms {
                    self.begin(now_ms, Request::Look, LeaseOutput::Look);
                } else {
                    self.wake_at(look_at_ms);
                }
            }
            State::Holding {
                epoch,
                counter,
                renew_at_ms,
                doubtful,
                ..
            } => {
                let (epoch, counter, renew_at_ms) = (*epoch, *counter, *renew_at_ms);
                if *doubtful && renew_at_ms <= now_ms {
                    self.begin(now_ms, Request::Look, LeaseOutput::Look);
                } else if self.release_wanted && !*doubtful {
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

    fn found(&mut self, now_ms: u64, begun_ms: u64, item: Option<LeaseItem>) {
        match &self.state {
            State::Watching { .. } => self.watched(now_ms, begun_ms, item),
            State::Holding { .. } => self.looked_again(now_ms, item),
            State::Over => {}
        }
    }

    /// A watcher saw what stands there.
    fn watched(&mut self, now_ms: u64, begun_ms: u64, item: Option<LeaseItem>) {
        let State::Watching { seen, .. } = &mut self.state else {
            return;
        };
        let Some(item) = item else {
            *seen = None;
            return self.claim(now_ms, Condition::Absent, 1, 1);
        };
        if item.owner == self.me.id && !item.released {
            // A claim of mine whose answer was lost; it stood when this look was begun, or later.
            return self.hold(item.epoch, item.counter, begun_ms);
        }
        let unchanged = seen.take().filter(|seen| {
            seen.item == item && begun_ms.saturating_sub(seen.last_ms) <= self.timing.gap_max_ms()
        });
        let since_ms = unchanged.map_or(now_ms, |seen| seen.since_ms);
        // Whoever holds it for longer at a time is waited for as long as it says.
        let expires_ms = since_ms.saturating_add(self.timing.lease_ms.max(item.lease_ms));
        *seen = Some(Seen {
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
        self.look_at(poll_at_ms.min(expires_ms));
    }

    /// A holder whose renewal was refused saw what stands there.
    fn looked_again(&mut self, now_ms: u64, item: Option<LeaseItem>) {
        let State::Holding {
            epoch,
            counter,
            doubtful,
            ..
        } = &mut self.state
        else {
            return;
        };
        *doubtful = false;
        let (mine, next) = (*epoch, *counter + 1);
        match item {
            Some(item) if item.owner == self.me.id && item.epoch == mine => {
                *counter = item.counter.max(*counter);
            }
            Some(item) => {
                self.state = State::Over;
                self.outputs.push_back(LeaseOutput::Lost { to: item.owner });
            }
            // Somebody removed the item, or the table was made anew: nobody else holds the lease.
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

    /// Somebody was quicker, or it is not known who was: what stands there tells.
    fn not_claimed(&mut self, now_ms: u64, outcome: WriteOutcome) {
        let again_ms = match outcome {
            WriteOutcome::Refused => now_ms,
            _ => now_ms + self.timing.again_ms(),
        };
        match &mut self.state {
            State::Watching { look_at_ms, .. } => *look_at_ms = again_ms,
            State::Holding {
                doubtful,
                renew_at_ms,
                ..
            } => {
                *doubtful = true;
                *renew_at_ms = again_ms;
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
            doubtful: false,
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
            doubtful,
            ..
        } = &mut self.state
        else {
            return;
        };
        // It may have landed even without an answer, and a number that is skipped does no harm.
        *counter += 1;
        match outcome {
            WriteOutcome::Done => {
                *confirmed_ms = begun_ms;
                *renew_at_ms = begun_ms + self.timing.renewal_ms();
            }
            WriteOutcome::Refused => {
                *doubtful = true;
                *renew_at_ms = now_ms;
            }
            WriteOutcome::Unknown => *renew_at_ms = now_ms + self.timing.again_ms(),
        }
    }

    fn given_back(&mut self, now_ms: u64, outcome: WriteOutcome) {
        match outcome {
            // Refused means that another one holds it already.
            WriteOutcome::Done | WriteOutcome::Refused => {
                self.state = State::Over;
                self.outputs.push_back(LeaseOutput::Released);
            }
            WriteOutcome::Unknown => {
                self.release_at_ms = now_ms + RELEASE_AGAIN_MS;
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
        }
    }

    fn begin(&mut self, now_ms: u64, request: Request, output: LeaseOutput) {
        self.request = Some((request, now_ms));
        self.outputs.push_back(output);
    }

    fn look_later(&mut self, now_ms: u64) {
        match &mut self.state {
            State::Watching { .. } => self.look_at(now_ms + self.timing.poll_ms),
            State::Holding { renew_at_ms, .. } => *renew_at_ms = now_ms + self.timing.again_ms(),
            State::Over => {}
        }
    }

    fn look_at(&mut self, at_ms: u64) {
        if let State::Watching { look_at_ms, .. } = &mut self.state {
            *look_at_ms = at_ms;
        }
    }

    fn wake_at(&mut self, at_ms: u64) {
        if self.asked_for_ms.is_none_or(|asked_ms| asked_ms != at_ms) {
            self.asked_for_ms = Some(at_ms);
            self.outputs.push_back(LeaseOutput::WakeAt(at_ms));
        }
    }
}

#[cfg(test)]
mod tests;
