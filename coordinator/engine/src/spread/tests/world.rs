//! Processes that share the partitions of an application, and their table.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::spread::{Decision, Member, Offer, PartitionItem, Spread, Timing, View};

/// Lease time of all stories, in ms.
pub(super) const LEASE_MS: u64 = 10_000;

/// Time of a takeover, of getting ready for one, and of a stop, in ms.
pub(super) const TAKEOVER_MS: u64 = 300;

/// Processes and their table.
pub(super) struct World {
    pub(super) now_ms: u64,
    pub(super) view: View,
    pub(super) processes: Vec<Process>,
    /// Number of times a partition got another owner.
    pub(super) moves: BTreeMap<u32, u64>,
    /// Partitions that no process serves, since when; and the longest such time.
    pub(super) silent: BTreeMap<u32, u64>,
    pub(super) longest_silence_ms: u64,
    /// Claims that came after another process's claim of the same look.
    pub(super) refused: u64,
}

pub(super) struct Process {
    pub(super) id: Arc<str>,
    pub(super) spread: Spread,
    pub(super) is_alive: bool,
    pub(super) is_paused: bool,
    pub(super) serving: BTreeSet<u32>,
    /// Actions under way, and when they end.
    pub(super) busy: BTreeMap<u32, (Decision, u64)>,
}

impl World {
    pub(super) fn new(partitions: u32) -> Self {
        let partitions = (0..partitions).map(|number| PartitionItem {
            number,
            ..PartitionItem::default()
        });
        Self {
            now_ms: 1_000_000,
            view: View {
                members: Vec::new(),
                partitions: partitions.collect(),
            },
            processes: Vec::new(),
            moves: BTreeMap::new(),
            silent: BTreeMap::new(),
            longest_silence_ms: 0,
            refused: 0,
        }
    }

    pub(super) fn join(&mut self, name: &str, software: u64) {
        let id: Arc<str> = name.into();
        self.view.members.push(Member {
            id: Arc::clone(&id),
            counter: 0,
            software,
            weight: 1,
            draining: false,
        });
        self.processes.push(Process {
            spread: Spread::new(Arc::clone(&id), Timing::of(LEASE_MS)),
            id,
            is_alive: true,
            is_paused: false,
            serving: BTreeSet::new(),
            busy: BTreeMap::new(),
        });
    }

    pub(super) fn process(&mut self, name: &str) -> &mut Process {
        let found = self.processes.iter_mut().find(|it| &*it.id == name);
        found.expect("the process was started")
    }

    pub(super) fn member(&mut self, name: &str) -> &mut Member {
        let found = self.view.members.iter_mut().find(|it| &*it.id == name);
        found.expect("the process is a member")
    }

    pub(super) fn kill(&mut self, name: &str) {
        self.process(name).is_alive = false;
    }

    pub(super) fn drain(&mut self, name: &str) {
        self.process(name).spread.drain();
        self.member(name).draining = true;
    }

    /// A process has nothing left and leaves the table.
    pub(super) fn leave(&mut self, name: &str) {
        assert!(self.owned_by(name).is_empty(), "{name} owns partitions");
        self.kill(name);
        self.view.members.retain(|member| &*member.id != name);
    }

    pub(super) fn item(&mut self, number: u32) -> &mut PartitionItem {
        &mut self.view.partitions[number as usize]
    }

    pub(super) fn owned_by(&self, name: &str) -> Vec<u32> {
        let items = self.view.partitions.iter();
        let owned = items.filter(|item| {
            !item.released && item.owner.as_ref().is_some_and(|owner| &**owner == name)
        });
        owned.map(|item| item.number).collect()
    }

    /// Runs for a while, in steps of half a second, in each of which all processes look.
    pub(super) fn run(&mut self, seconds: u64) {
        (0..seconds * 2).for_each(|_| self.step());
    }

    /// All processes see the same table, and act one after the other.
    pub(super) fn step(&mut self) {
        self.now_ms += 500;
        let seen = self.view.clone();
        for at in 0..self.processes.len() {
            if self.processes[at].is_alive && !self.processes[at].is_paused {
                self.turn(at, &seen);
            }
        }
        self.observe();
    }

    pub(super) fn turn(&mut self, at: usize, seen: &View) {
        let id = Arc::clone(&self.processes[at].id);
        let now_ms = self.now_ms;
        self.member(&id).counter += 1;
        let ended: Vec<(u32, Decision)> = {
            let process = &mut self.processes[at];
            let ended = process
                .busy
                .extract_if(.., |_, (_, end_ms)| *end_ms <= now_ms);
            ended
                .map(|(number, (decision, _))| (number, decision))
                .collect()
        };
        for (number, decision) in ended {
            self.finish(at, number, &decision);
        }
        // A process that was asleep finds out that others took over.
        let owned = self.owned_by(&id);
        let process = &mut self.processes[at];
        process.serving.retain(|number| owned.contains(number));
        let busy = process.busy.keys().copied().collect();
        let serving = process.serving.clone();
        let decisions = process.spread.look(now_ms, seen, &serving, &busy);
        for decision in decisions {
            self.begin(at, decision, seen);
        }
    }

    pub(super) fn begin(&mut self, at: usize, decision: Decision, seen: &View) {
        let id = Arc::clone(&self.processes[at].id);
        let end_ms = self.now_ms + TAKEOVER_MS;
        let (Decision::Claim(number)
        | Decision::Offer(number, _)
        | Decision::Withdraw(number)
        | Decision::Decline(number)
        | Decision::Prepare(number)
        | Decision::HandOver(number)) = decision;
        // Writes are conditional.
        if *self.item(number) != seen.partitions[number as usize] {
            self.refused += u64::from(matches!(decision, Decision::Claim(_)));
            return;
        }
        let number = match &decision {
            Decision::Claim(number) => {
                let item = self.item(*number);
                let before = item.owner.replace(Arc::clone(&id));
                item.released = false;
                item.offer = None;
                if before.is_some_and(|before| before != id) {
                    *self.moves.entry(*number).or_default() += 1;
                }
                *number
            }
            Decision::Offer(number, to) => {
                self.item(*number).offer = Some(Offer {
                    to: Arc::clone(to),
                    ready: false,
                });
                return;
            }
            Decision::Withdraw(number) | Decision::Decline(number) => {
                self.item(*number).offer = None;
                return;
            }
            Decision::Prepare(number) | Decision::HandOver(number) => *number,
        };
        self.processes[at].busy.insert(number, (decision, end_ms));
    }

    pub(super) fn finish(&mut self, at: usize, number: u32, decision: &Decision) {
        let id = Arc::clone(&self.processes[at].id);
        let item = self.item(number);
        let is_mine = item.owner.as_ref() == Some(&id) && !item.released;
        match decision {
            Decision::Claim(_) if is_mine => {
                self.processes[at].serving.insert(number);
            }
            Decision::Prepare(_) => {
                if let Some(offer) = item.offer.as_mut().filter(|offer| offer.to == id) {
                    offer.ready = true;
                }
            }
            Decision::HandOver(_) if is_mine => {
                item.released = true;
                self.processes[at].serving.remove(&number);
            }
            _ => {}
        }
    }

    pub(super) fn observe(&mut self) {
        for item in &self.view.partitions {
            let serve = self.processes.iter();
            let serve = serve.filter(|it| it.is_alive && it.serving.contains(&item.number));
            if serve.count() > 0 {
                self.silent.remove(&item.number);
                continue;
            }
            let since_ms = *self.silent.entry(item.number).or_insert(self.now_ms);
            let silence_ms = self.now_ms - since_ms;
            self.longest_silence_ms = self.longest_silence_ms.max(silence_ms);
        }
    }

    pub(super) fn counts(&self) -> BTreeMap<String, usize> {
        let alive = self.processes.iter().filter(|it| it.is_alive);
        alive
            .map(|it| (it.id.to_string(), self.owned_by(&it.id).len()))
            .collect()
    }

    /// Checks that each partition is served by its owner in the table, and by no other process.
    pub(super) fn all_are_served(&self) {
        for item in &self.view.partitions {
            let serve = self.processes.iter();
            let serve = serve.filter(|it| it.is_alive && it.serving.contains(&item.number));
            let serve: Vec<&Arc<str>> = serve.map(|it| &it.id).collect();
            let owner = item.owner.as_ref().filter(|_| !item.released);
            assert_eq!(serve, owner.into_iter().collect::<Vec<_>>(), "{item:?}");
        }
    }

    pub(super) fn total_moves(&self) -> u64 {
        self.moves.values().sum()
    }
}
