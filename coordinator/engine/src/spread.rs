//! Spreading of partitions over processes: which partitions this process should claim, offer and
//! hand over.
//!
//! ```text
//!  no live owner ──claim──► owned ──offer──► offered ──the other one is ready──► handing over
//!        ▲                    ▲                 │ deadline, declined                  │
//!        │                    └─────────────────┘                                     │
//!        └──────────────────────────── released, first for the other one ◄────────────┘
//! ```
//!
//! There is no leader. Every process looks at one table, which holds an item of each process (a
//! *member*) and one of each partition, and decides for itself alone. A wrong view costs a claim
//! that the table or the log refuses, never data: the log of a partition decides who owns it.
//!
//! A member is alive while its counter moves, by the clock of the one that looks. Its share of the
//! partitions is that of its weight among the live members that stay. Three habits follow:
//!
//! 1. *Claim*: a partition without a live owner goes to the live member that is first in the
//!    partition's own order and has room, and to the next one after a while. After a longer while,
//!    room does not count, because some process must own it (rule 46).
//! 2. *Offer*: a member with more than its share offers one partition to the member that has the
//!    least of its own share and runs the newest software. An offer changes nothing until the other
//!    one is ready, and ends by a deadline (rule 30). The next offer waits until the last one
//!    serves.
//! 3. *Drain*: a member that will stop offers all it has, two at a time, and gets no share.
//!
//! The machine has no clock: `now_ms` is a time that never goes back and counts while the machine
//! sleeps.

pub mod roster;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Maximum number of partitions that a process that stops offers at a time.
const DRAINED_AT_ONCE: usize = 2;

/// A member of the application: a process that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Id of the process, unique among all processes.
    pub id: Arc<str>,
    /// Counter that grows while the process lives and all its partitions make progress.
    pub counter: u64,
    /// Order of its software: larger is newer.
    pub software: u64,
    /// Weight of its share, such as its number of CPUs. At least 1.
    pub weight: u32,
    /// True if it will stop and gives its partitions away.
    pub draining: bool,
}

/// A partition in the table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartitionItem {
    /// Number of the partition.
    pub number: u32,
    /// Process that owned it last, if any did.
    pub owner: Option<Arc<str>>,
    /// Number of claims so far.
    pub claims: u64,
    /// Calendar time of the last claim, in ms since the epoch. For people; never compared.
    pub since_ms: u64,
    /// True if that process has released it.
    pub released: bool,
    /// Offer of its owner, or the process that it was released for.
    pub offer: Option<Offer>,
    /// Process that a person wants to own it while that process lives.
    pub pinned: Option<Arc<str>>,
    /// True if a person wants it to stay where it is while its owner lives.
    pub frozen: bool,
}

/// Offer of a partition to another process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Process to which the partition is offered.
    pub to: Arc<str>,
    /// True once that process has read what it can, and is ready to take over.
    pub ready: bool,
}

/// One look at the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Members, of which some may have died.
    pub members: Vec<Member>,
    /// Partitions of the application, all of them.
    pub partitions: Vec<PartitionItem>,
}

/// Times of the decisions, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Time for which the counter of a member stands still until the member counts as dead.
    pub lease_ms: u64,
    /// Maximum time between two looks. After a longer one, a counter that stands still means
    /// nothing yet.
    pub gap_max_ms: u64,
    /// Time for which each next member waits before it claims a partition without a live owner.
    pub claim_step_ms: u64,
    /// Time after which a partition without a live owner is claimed without regard to room.
    pub claim_anyway_ms: u64,
    /// Time for which the members must be the same before a partition is offered.
    pub settled_ms: u64,
    /// Time after which an offer is void.
    pub offer_ms: u64,
    /// Time for which a released partition waits for the process that it was offered to.
    pub reserved_ms: u64,
    /// Time for which nothing is offered to a process that let an offer become void.
    pub avoided_ms: u64,
}

impl Timing {
    /// Times that suit a lease time, in ms. Those of a lease of 10 s are the longest.
    #[must_use]
    pub fn of(lease_ms: u64) -> Self {
        Self {
            lease_ms,
            gap_max_ms: (lease_ms / 2).max(2_000),
            claim_step_ms: (lease_ms / 5).min(2_000),
            claim_anyway_ms: lease_ms.min(10_000),
            settled_ms: lease_ms.min(10_000),
            offer_ms: 30_000,
            reserved_ms: 2_000,
            avoided_ms: 120_000,
        }
    }
}

/// Something that this process should do about a partition. It may fail: another process may have
/// written the item meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Decision {
    /// Claim it, and take it over.
    Claim(u32),
    /// Offer it to another process: write [`Offer`] into its item.
    Offer(u32, Arc<str>),
    /// Remove this process's offer, which was not taken in time.
    Withdraw(u32),
    /// Remove another one's offer to this process, which has no room.
    Decline(u32),
    /// Read what is durable of it, then write that this process is ready.
    Prepare(u32),
    /// Stop it in this process, then release it for the process that is ready.
    HandOver(u32),
}

/// The decisions of one process.
#[derive(Debug, Clone)]
pub struct Spread {
    me: Arc<str>,
    timing: Timing,
    /// Last counter of each member, and when it moved.
    counters: BTreeMap<Arc<str>, (u64, u64)>,
    /// Time of the last look.
    looked_ms: Option<u64>,
    /// Live members that stay, and since when they are the same.
    settled: (BTreeSet<Arc<str>>, u64),
    /// Partitions without a live owner, and since when.
    unowned: BTreeMap<u32, u64>,
    /// This process's offers that were seen in the table, and when first.
    offers: BTreeMap<u32, u64>,
    /// Partition given away last, whose next owner does not serve yet, and when it was released.
    given: Option<(u32, u64)>,
    /// Processes that let an offer become void, and until when nothing is offered to them.
    avoided: BTreeMap<Arc<str>, u64>,
    draining: bool,
}

impl Spread {
    /// Creates the decisions of the process `me`.
    #[must_use]
    pub fn new(me: Arc<str>, timing: Timing) -> Self {
        Self {
            me,
            timing,
            counters: BTreeMap::new(),
            looked_ms: None,
            settled: (BTreeSet::new(), 0),
            unowned: BTreeMap::new(),
            offers: BTreeMap::new(),
            given: None,
            avoided: BTreeMap::new(),
            draining: false,
        }
    }

    /// The process will stop. From now on it gives away what it has and claims nothing.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Returns what to do after a look at the table, whose reads began at `now_ms`. `busy` holds
    /// the partitions for which an earlier decision is still being carried out, and `serving` those
    /// that run in this process.
    pub fn look(
        &mut self,
        now_ms: u64,
        view: &View,
        serving: &BTreeSet<u32>,
        busy: &BTreeSet<u32>,
    ) -> Vec<Decision> {
        let live = self.live(now_ms, view);
        self.settle(now_ms, &live);
        let shares = Shares::of(view, &live);
        let mut decisions = Vec::new();
        self.claim(now_ms, (view, &live), &shares, busy, &mut decisions);
        self.answer_offers(view, &shares, busy, &mut decisions);
        self.give_away(now_ms, view, &shares, (serving, busy), &mut decisions);
        decisions
    }

    /// Members whose counter moved lately, by the clock of this process.
    fn live<'a>(&mut self, now_ms: u64, view: &'a View) -> Vec<&'a Member> {
        let present = |id: &Arc<str>| view.members.iter().any(|member| member.id == *id);
        self.counters.retain(|id, _| present(id));
        let looked_ms = self.looked_ms.replace(now_ms);
        let gap_ms = looked_ms.map_or(0, |looked_ms| now_ms.saturating_sub(looked_ms));
        if gap_ms > self.timing.gap_max_ms {
            // The table may have been unreachable for the others too, or this process slept.
            for (_, since_ms) in self.counters.values_mut() {
                *since_ms = now_ms;
            }
        }
        let mut live = Vec::new();
        for member in &view.members {
            let known = self.counters.entry(Arc::clone(&member.id));
            let seen = known.or_insert((member.counter, now_ms));
            if seen.0 != member.counter {
                *seen = (member.counter, now_ms);
            }
            let is_silent = now_ms.saturating_sub(seen.1) >= self.timing.lease_ms;
            if member.id == self.me || !is_silent {
                live.push(member);
            }
        }
        live
    }

    fn settle(&mut self, now_ms: u64, live: &[&Member]) {
        let stay = live.iter().filter(|member| !member.draining);
        let stay: BTreeSet<Arc<str>> = stay.map(|member| Arc::clone(&member.id)).collect();
        if stay != self.settled.0 {
            self.settled = (stay, now_ms);
        }
    }

    fn is_me(&self, id: Option<&Arc<str>>) -> bool {
        id.is_some_and(|id| *id == self.me)
    }

    /// Claims partitions without a live owner.
    fn claim(
        &mut self,
        now_ms: u64,
        (view, live): (&View, &[&Member]),
        shares: &Shares,
        busy: &BTreeSet<u32>,
        decisions: &mut Vec<Decision>,
    ) {
        let is_live = |id: &Arc<str>| live.iter().any(|member| member.id == *id);
        let is_owned =
            |item: &PartitionItem| !item.released && item.owner.as_ref().is_some_and(is_live);
        let unowned = view.partitions.iter().filter(|item| !is_owned(item));
        let unowned: Vec<&PartitionItem> = unowned.collect();
        let numbers: BTreeSet<u32> = unowned.iter().map(|item| item.number).collect();
        self.unowned.retain(|number, _| numbers.contains(number));
        let mut room = shares.room(&self.me);
        for item in unowned {
            let since_ms = *self.unowned.entry(item.number).or_insert(now_ms);
            let waited_ms = now_ms.saturating_sub(since_ms);
            if self.draining || busy.contains(&item.number) {
                continue;
            }
            if let Some(first) = reserved(item).filter(|id| is_live(id)) {
                let is_mine = *first == self.me;
                if is_mine {
                    decisions.push(Decision::Claim(item.number));
                }
                if is_mine || waited_ms < self.timing.reserved_ms {
                    continue;
                }
            }
            let anyway = waited_ms >= self.timing.claim_anyway_ms;
            let before = shares.before(item.number, &self.me, anyway);
            let turn_ms = before as u64 * self.timing.claim_step_ms;
            if (room > 0 || anyway) && waited_ms >= turn_ms {
                room = room.saturating_sub(1);
                decisions.push(Decision::Claim(item.number));
            }
        }
    }

    /// Accepts or declines offers to this process.
    fn answer_offers(
        &self,
        view: &View,
        shares: &Shares,
        busy: &BTreeSet<u32>,
        decisions: &mut Vec<Decision>,
    ) {
        let mut room = shares.room(&self.me);
        for item in &view.partitions {
            let offer = item.offer.as_ref().filter(|offer| offer.to == self.me);
            let Some(offer) = offer.filter(|_| !item.released && !self.is_me(item.owner.as_ref()))
            else {
                continue;
            };
            let is_wanted = self.is_me(item.pinned.as_ref()) || room > 0;
            if self.draining || !is_wanted {
                decisions.push(Decision::Decline(item.number));
                continue;
            }
            room = room.saturating_sub(1);
            if !offer.ready && !busy.contains(&item.number) {
                decisions.push(Decision::Prepare(item.number));
            }
        }
    }

    /// Offers what this process has too much of, and hands over what the other one is ready for.
    fn give_away(
        &mut self,
        now_ms: u64,
        view: &View,
        shares: &Shares,
        (serving, busy): (&BTreeSet<u32>, &BTreeSet<u32>),
        decisions: &mut Vec<Decision>,
    ) {
        let mine = view.partitions.iter();
        let mine = mine.filter(|item| !item.released && self.is_me(item.owner.as_ref()));
        let mine: Vec<&PartitionItem> = mine.collect();
        let numbers: BTreeSet<u32> = mine.iter().map(|item| item.number).collect();
        self.offers.retain(|number, _| numbers.contains(number));
        let mut open = 0;
        for item in &mine {
            let Some(offer) = &item.offer else {
                self.offers.remove(&item.number);
                continue;
            };
            let since_ms = *self.offers.entry(item.number).or_insert(now_ms);
            let is_void = now_ms.saturating_sub(since_ms) >= self.timing.offer_ms;
            if busy.contains(&item.number) {
                open += 1;
            } else if offer.ready && shares.stays(&offer.to) && serving.contains(&item.number) {
                decisions.push(Decision::HandOver(item.number));
                self.given = Some((item.number, now_ms));
                open += 1;
            } else if is_void || !shares.stays(&offer.to) {
                let until_ms = now_ms + self.timing.avoided_ms;
                self.avoided.insert(Arc::clone(&offer.to), until_ms);
                decisions.push(Decision::Withdraw(item.number));
            } else {
                open += 1;
            }
        }
        self.avoided.retain(|_, until_ms| *until_ms > now_ms);
        self.forget_given(now_ms, view, shares);
        let may_offer = match self.draining {
            true => DRAINED_AT_ONCE.saturating_sub(open),
            false => usize::from(open == 0 && self.given.is_none()),
        };
        let candidates = mine.iter().filter(|item| {
            let is_free = item.offer.is_none() && !busy.contains(&item.number);
            is_free && serving.contains(&item.number)
        });
        let mut shares = shares.clone();
        let mut offered = 0;
        for item in candidates {
            if offered == may_offer {
                break;
            }
            if let Some(to) = self.taker(now_ms, item, &shares) {
                shares.moved(&self.me, &to);
                decisions.push(Decision::Offer(item.number, to));
                offered += 1;
            }
        }
    }

    /// Forgets the partition that was given away once its next owner serves, or after a time in
    /// which that should have happened.
    fn forget_given(&mut self, now_ms: u64, view: &View, shares: &Shares) {
        let Some((number, since_ms)) = self.given else {
            return;
        };
        let item = view.partitions.iter().find(|item| item.number == number);
        let is_served = item.is_some_and(|item| {
            let owner = item.owner.as_ref().filter(|_| !item.released);
            owner.is_some_and(|owner| *owner != self.me && shares.is_live(owner))
        });
        if is_served || now_ms.saturating_sub(since_ms) >= self.timing.offer_ms {
            self.given = None;
        }
    }

    /// Returns the process that one of this process's partitions should be offered to.
    fn taker(&self, now_ms: u64, item: &PartitionItem, shares: &Shares) -> Option<Arc<str>> {
        if let Some(pinned) = &item.pinned
            && shares.stays(pinned)
        {
            return (*pinned != self.me).then(|| Arc::clone(pinned));
        }
        if item.frozen && !self.draining {
            return None;
        }
        let is_settled = now_ms.saturating_sub(self.settled.1) >= self.timing.settled_ms;
        let has_too_much = shares.owned(&self.me) > shares.share(&self.me);
        let may_offer = self.draining || (is_settled && has_too_much);
        if !may_offer {
            return None;
        }
        let others = shares.without(&self.avoided);
        let taker = others.emptiest(&self.me, self.draining);
        // One that lets its offers become void is better than none.
        taker.or_else(|| shares.emptiest(&self.me, self.draining))
    }
}

/// Process that a released partition is kept for: that of its offer, or that of its pin.
fn reserved(item: &PartitionItem) -> Option<&Arc<str>> {
    let offered = item.offer.as_ref().filter(|_| item.released);
    let offered = offered.map(|offer| &offer.to);
    offered.or(item.pinned.as_ref())
}

/// Shares of the live members, and what they own.
#[derive(Debug, Clone)]
struct Shares {
    members: Vec<Holding>,
}

#[derive(Debug, Clone)]
struct Holding {
    id: Arc<str>,
    software: u64,
    draining: bool,
    owned: usize,
    share: usize,
}

impl Shares {
    fn of(view: &View, live: &[&Member]) -> Self {
        let stay = live.iter().filter(|member| !member.draining);
        let weights: u64 = stay.map(|member| u64::from(member.weight.max(1))).sum();
        let partitions = view.partitions.len() as u64;
        let members = live.iter().map(|member| {
            let owned = view.partitions.iter();
            let owned = owned.filter(|item| {
                let owner = item.owner.as_ref().filter(|_| !item.released);
                owner.is_some_and(|owner| *owner == member.id)
            });
            let weight = u64::from(member.weight.max(1));
            let share = match member.draining {
                true => 0,
                false => (partitions * weight).div_ceil(weights.max(1)) as usize,
            };
            Holding {
                id: Arc::clone(&member.id),
                software: member.software,
                draining: member.draining,
                owned: owned.count(),
                share,
            }
        });
        Self {
            members: members.collect(),
        }
    }

    fn get(&self, id: &Arc<str>) -> Option<&Holding> {
        self.members.iter().find(|member| member.id == *id)
    }

    fn is_live(&self, id: &Arc<str>) -> bool {
        self.get(id).is_some()
    }

    /// True for a live member that does not stop.
    fn stays(&self, id: &Arc<str>) -> bool {
        self.get(id).is_some_and(|member| !member.draining)
    }

    fn owned(&self, id: &Arc<str>) -> usize {
        self.get(id).map_or(0, |member| member.owned)
    }

    fn share(&self, id: &Arc<str>) -> usize {
        self.get(id).map_or(0, |member| member.share)
    }

    fn room(&self, id: &Arc<str>) -> usize {
        self.share(id).saturating_sub(self.owned(id))
    }

    /// Number of members that come before `me` in the order of a partition. Those without room do
    /// not count, unless `anyway`.
    fn before(&self, number: u32, me: &Arc<str>, anyway: bool) -> usize {
        let rank = |id: &Arc<str>| xxh3_64_with_seed(id.as_bytes(), number.into());
        let mine = (rank(me), me);
        let others = self.members.iter().filter(|member| {
            let counts = !member.draining && (anyway || member.owned < member.share);
            counts && (rank(&member.id), &member.id) > mine
        });
        others.count()
    }

    /// Returns the member with the smallest part of its share, among those with the newest software
    /// that have room. `anyway`: one without room if none has any.
    fn emptiest(&self, me: &Arc<str>, anyway: bool) -> Option<Arc<str>> {
        let others = || {
            let others = self.members.iter();
            others.filter(|member| member.id != *me && !member.draining)
        };
        let least = |members: &mut dyn Iterator<Item = &Holding>| {
            let newest = members.min_by(|one, other| {
                let newer = other.software.cmp(&one.software);
                // Compares parts of shares without division.
                let (owned, share) = (one.owned as u64, one.share.max(1) as u64);
                let part = owned * other.share.max(1) as u64;
                let part = part.cmp(&(other.owned as u64 * share));
                newer.then(part).then_with(|| one.id.cmp(&other.id))
            });
            newest.map(|member| Arc::clone(&member.id))
        };
        let mut with_room = others().filter(|member| member.owned < member.share);
        least(&mut with_room).or_else(|| anyway.then(|| least(&mut others())).flatten())
    }

    /// The same without some members.
    fn without(&self, avoided: &BTreeMap<Arc<str>, u64>) -> Self {
        let members = self.members.iter();
        let members = members.filter(|member| !avoided.contains_key(&member.id));
        Self {
            members: members.cloned().collect(),
        }
    }

    fn moved(&mut self, from: &Arc<str>, to: &Arc<str>) {
        for member in &mut self.members {
            if member.id == *from {
                member.owned = member.owned.saturating_sub(1);
            } else if member.id == *to {
                member.owned += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
