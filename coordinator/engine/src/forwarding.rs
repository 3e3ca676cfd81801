//! Fate of a request that any process of an application may receive, as a state machine without a
//! clock or a network.
//!
//! ```text
//!               the owner is here ──► Serve
//!  Choosing ──► the owner is there ─► Ask ──► NotMine, Unreached, Lost (repeatable) ──► Choosing
//!     ▲                               │ └───► Lost (not repeatable) ──► Refuse(Unknown)
//!     └──── Wait ◄── no owner         └─────► answered
//!            └── patience is over ──► Refuse(NoOwner); after a Lost, Refuse(Unknown)
//! ```
//!
//! A request is forwarded once: the process that its client reached asks the owner, and a process
//! that was asked never asks another one. Rule 32 closes the way in which forwarding would double a
//! request: the owner applied it, the link broke, and the forwarder asked the next owner. After an
//! answer that was lost, a request is repeated only if repeating it is harmless. It is repeated
//! freely if it was certainly not taken. An error says that a request had no effect only if no
//! answer was lost.

use std::mem;

/// Pause before the same process is asked again, in ms.
const PAUSE_MS: u64 = 250;

/// Owner of the partition, as far as a process knows it. `P` names a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner<P> {
    /// This process, which serves.
    Here,
    /// This process, which is taking over.
    Arriving,
    /// Another process.
    There(P),
    /// Another process, which has no peer port: one without `--peer`, or of an older version.
    Unreachable,
    /// No process is known to own the partition.
    Unknown,
}

/// Next step of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<P> {
    /// Serve it in this process.
    Serve,
    /// Forward it to this process, then report the end with [`Forwarding::asked`].
    Ask(P),
    /// Wait until the owner changes or this time, in ms, is reached.
    Wait(u64),
    /// Answer it with an error.
    Refuse(Refusal<P>),
}

/// Reason why a request is answered with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal<P> {
    /// No process took the request in time. It had no effect.
    NoOwner,
    /// The owner may have taken the request, and its answer is lost.
    Unknown,
    /// The owner cannot be asked. The request had no effect.
    Unreachable,
    /// The request came from another process, and this one is not the owner. It had no effect.
    NotMine {
        /// Owner that this process knows.
        knows: Option<P>,
    },
}

/// End of an attempt to forward a request, other than an answer for its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked<P> {
    /// The process said that it is not the owner. Nothing was taken.
    NotMine {
        /// Owner that the process knows.
        knows: Option<P>,
    },
    /// The process was not reached. Nothing was sent.
    Unreached,
    /// The request was sent, and its answer is lost or says that the outcome is unknown.
    Lost,
}

/// State machine of one request.
#[derive(Debug)]
pub struct Forwarding<P> {
    origin: Origin,
    patience_ms: u64,
    /// Time at which the patience ends.
    until_ms: u64,
    /// Processes that were asked, the last one at the end, and when each may be asked again.
    asked: Vec<(P, u64)>,
    /// Owner that this process knew when it asked it.
    owner: Option<P>,
    /// Owner that the last asked process named, until it was asked.
    named: Option<P>,
    /// True once the owner named by another process was asked, until the owner changes.
    redirected: bool,
    /// True once an answer was lost: the request may have been taken.
    lost: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Client { repeatable: bool },
    Peer,
}

impl<P: Clone + PartialEq> Forwarding<P> {
    /// A request that a client sent to this process. It waits for an owner for at most
    /// `patience_ms`. `repeatable` says that taking it twice has the effect of taking it once.
    pub fn from_client(now_ms: u64, patience_ms: u64, repeatable: bool) -> Self {
        Self::new(now_ms, patience_ms, Origin::Client { repeatable })
    }

    /// A request that another process forwarded to this one.
    pub fn from_peer(now_ms: u64, patience_ms: u64) -> Self {
        Self::new(now_ms, patience_ms, Origin::Peer)
    }

    fn new(now_ms: u64, patience_ms: u64, origin: Origin) -> Self {
        Self {
            origin,
            patience_ms,
            until_ms: now_ms.saturating_add(patience_ms),
            asked: Vec::new(),
            owner: None,
            named: None,
            redirected: false,
            lost: false,
        }
    }

    /// Decides what to do next, if `owner` is what this process knows now.
    pub fn next(&mut self, now_ms: u64, owner: &Owner<P>) -> Step<P> {
        let is_over = self.lost && self.origin != Origin::Client { repeatable: true };
        match self.choose(now_ms, owner) {
            _ if is_over => Step::Refuse(Refusal::Unknown),
            Step::Refuse(_) if self.lost => Step::Refuse(Refusal::Unknown),
            step => step,
        }
    }

    /// Returns true if the answer of an attempt was lost. Whatever ends the request now, the owner
    /// may have taken it.
    pub fn may_have_been_taken(&self) -> bool {
        self.lost
    }

    fn choose(&mut self, now_ms: u64, owner: &Owner<P>) -> Step<P> {
        match (owner, self.origin) {
            (Owner::Here, _) => Step::Serve,
            (Owner::Arriving, _) => self.wait(now_ms, u64::MAX),
            (Owner::There(peer), Origin::Peer) => Step::Refuse(Refusal::NotMine {
                knows: Some(peer.clone()),
            }),
            (Owner::Unreachable | Owner::Unknown, Origin::Peer) => {
                Step::Refuse(Refusal::NotMine { knows: None })
            }
            (Owner::There(peer), Origin::Client { .. }) => self.ask(now_ms, peer),
            (Owner::Unreachable, Origin::Client { .. }) => match self.named.take() {
                Some(named) => self.begin(named),
                None => Step::Refuse(Refusal::Unreachable),
            },
            (Owner::Unknown, Origin::Client { .. }) => match self.named.take() {
                Some(named) => self.begin(named),
                None => self.wait(now_ms, u64::MAX),
            },
        }
    }

    /// Handles the end of an attempt that brought no answer for the client.
    pub fn asked(&mut self, now_ms: u64, end: Asked<P>) {
        if let Some((_, again_ms)) = self.asked.last_mut() {
            *again_ms = now_ms.saturating_add(PAUSE_MS);
        }
        match end {
            Asked::NotMine { knows } => {
                let other = knows.filter(|knows| self.again_ms(knows) <= now_ms);
                if other.is_some() && !mem::replace(&mut self.redirected, true) {
                    self.named = other;
                }
            }
            Asked::Unreached => {}
            Asked::Lost => {
                self.lost = true;
                // There was an owner until now. The next one needs time to take over.
                self.until_ms = now_ms.saturating_add(self.patience_ms);
            }
        }
    }

    fn ask(&mut self, now_ms: u64, owner: &P) -> Step<P> {
        if let Some(named) = self.named.take() {
            return self.begin(named);
        }
        let again_ms = self.again_ms(owner);
        if now_ms < again_ms {
            return self.wait(now_ms, again_ms);
        }
        if now_ms >= self.until_ms {
            return Step::Refuse(Refusal::NoOwner);
        }
        if self.owner.as_ref() != Some(owner) {
            self.owner = Some(owner.clone());
            self.redirected = false;
        }
        self.begin(owner.clone())
    }

    fn begin(&mut self, peer: P) -> Step<P> {
        self.asked.retain(|(asked, _)| *asked != peer);
        self.asked.push((peer.clone(), 0));
        Step::Ask(peer)
    }

    /// Time from which `peer` may be asked, in ms.
    fn again_ms(&self, peer: &P) -> u64 {
        let mut asked = self.asked.iter();
        let asked = asked.find(|(asked, _)| asked == peer);
        asked.map_or(0, |(_, again_ms)| *again_ms)
    }

    fn wait(&self, now_ms: u64, until_ms: u64) -> Step<P> {
        if now_ms >= self.until_ms {
            return Step::Refuse(Refusal::NoOwner);
        }
        Step::Wait(until_ms.min(self.until_ms))
    }
}

#[cfg(test)]
mod tests;
