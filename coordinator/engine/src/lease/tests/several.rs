//! Several claimants whose clocks run at different speeds, and a table that is slow, loses answers
//! and becomes unreachable: seeded, in virtual time.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// SplitMix64, so that a run can be replayed from its seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut draw = self.0;
        draw = (draw ^ (draw >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        draw = (draw ^ (draw >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (draw ^ (draw >> 31)) % bound.max(1)
    }

    fn one_in(&mut self, count: u64) -> bool {
        count > 0 && self.below(count) == 0
    }
}

/// Faults of the table and of the way to it.
#[derive(Clone, Copy)]
struct FaultPlan {
    /// Maximum time of one way to the table, in ms.
    way_max_ms: u64,
    /// One in this many requests is lost before the table, and one in this many answers after it; 0
    /// for none.
    lost_one_in: u64,
    /// Start and end of a time in which the table is unreachable.
    out_of_reach: Option<(u64, u64)>,
}

enum Event {
    Wake(usize),
    /// A request, sent at the given time, reaches the table.
    AtTable(usize, Ask, u64),
    /// An answer comes back.
    Back(usize, LeaseInput),
}

#[derive(Clone)]
enum Ask {
    Read,
    Write(Write),
}

struct Process {
    lease: Lease,
    /// Speed of its clock, in thousandths.
    speed: u64,
    dead: bool,
    /// Requested wake-up by the world's clock. A later request replaces it.
    wake_at: Option<u64>,
    holding: Option<u64>,
}

struct World {
    now: u64,
    dice: Dice,
    faults: FaultPlan,
    events: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    table: Option<LeaseItem>,
    processes: Vec<Process>,
    /// Time, process and epoch of every acquisition.
    acquired: Vec<(u64, usize, u64)>,
    lost: usize,
}

const ANSWER_MAX_MS: u64 = 2_000;

impl World {
    fn new(seed: u64, processes: usize, faults: FaultPlan) -> Self {
        let mut dice = Dice(seed);
        let processes = (0..processes)
            .map(|number| Process {
                lease: Lease::new(claimant(&format!("p{number}")), Timing::of(LEASE_MS)),
                speed: 980 + dice.below(41),
                dead: false,
                wake_at: None,
                holding: None,
            })
            .collect::<Vec<_>>();
        let mut world = Self {
            now: 1_000_000,
            dice,
            faults,
            events: BTreeMap::new(),
            next_event: 0,
            table: None,
            acquired: Vec::new(),
            lost: 0,
            processes,
        };
        for number in 0..world.processes.len() {
            let at = world.now + world.dice.below(500);
            world.at(at, Event::Wake(number));
            world.processes[number].wake_at = Some(at);
        }
        world
    }

    fn at(&mut self, time: u64, event: Event) {
        self.next_event += 1;
        self.events.insert((time, self.next_event), event);
    }

    fn run_until(&mut self, end: u64) {
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((time, _), event) = entry.remove_entry();
            self.now = time;
            self.happen(event);
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake(number) => {
                if self.processes[number].wake_at == Some(self.now) {
                    self.processes[number].wake_at = None;
                    self.handle(number, LeaseInput::TimeReached);
                }
            }
            Event::AtTable(number, ask, sent) => self.arrive(number, &ask, sent),
            Event::Back(number, answer) => self.handle(number, answer),
        }
    }

    fn is_out_of_reach(&self) -> bool {
        self.faults
            .out_of_reach
            .is_some_and(|(from, to)| (from..to).contains(&self.now))
    }

    fn ask_table(&mut self, ask: Ask) -> LeaseInput {
        match ask {
            Ask::Read => LeaseInput::ItemRead(self.table.clone()),
            Ask::Write(Write { condition, item }) => {
                let holds = match (&condition, &self.table) {
                    (Condition::Absent, there) => there.is_none(),
                    (_, None) => false,
                    (
                        Condition::Unmoved {
                            owner,
                            epoch,
                            counter,
                        },
                        Some(there),
                    ) => (owner, *epoch, *counter) == (&there.owner, there.epoch, there.counter),
                    (Condition::Mine { owner, epoch }, Some(there)) => {
                        (owner, *epoch) == (&there.owner, there.epoch)
                            && there.counter < item.counter
                    }
                };
                if holds {
                    self.table = Some(item);
                    LeaseInput::Written(WriteOutcome::Done)
                } else {
                    LeaseInput::Written(WriteOutcome::Refused)
                }
            }
        }
    }

    fn handle(&mut self, number: usize, input: LeaseInput) {
        let process = &mut self.processes[number];
        if process.dead {
            return;
        }
        let speed = process.speed;
        let clock = self.now * speed / 1_000;
        process.lease.handle_input(clock, input);
        while let Some(output) = self.processes[number].lease.poll_output() {
            match output {
                LeaseOutput::Read => self.send(number, Ask::Read),
                LeaseOutput::Write(write) => self.send(number, Ask::Write(write)),
                LeaseOutput::WakeAt(at) => {
                    let at = (at * 1_000).div_ceil(speed).max(self.now + 1);
                    self.processes[number].wake_at = Some(at);
                    self.at(at, Event::Wake(number));
                }
                LeaseOutput::Acquired { epoch } => {
                    self.processes[number].holding = Some(epoch);
                    self.acquired.push((self.now, number, epoch));
                }
                LeaseOutput::Lost { .. } => {
                    self.lost += 1;
                    self.processes[number].holding = None;
                }
                LeaseOutput::Released => self.processes[number].holding = None,
            }
        }
    }

    fn send(&mut self, number: usize, ask: Ask) {
        let sent = self.now;
        if self.dice.one_in(self.faults.lost_one_in) || self.is_out_of_reach() {
            self.no_answer(number, &ask, sent);
        } else {
            let arrives = sent + self.dice.below(self.faults.way_max_ms);
            self.at(arrives, Event::AtTable(number, ask, sent));
        }
    }

    /// Handles a request at the table, even if its sender no longer waits.
    fn arrive(&mut self, number: usize, ask: &Ask, sent: u64) {
        if self.is_out_of_reach() {
            return self.no_answer(number, ask, sent);
        }
        let answer = self.ask_table(ask.clone());
        let back = self.now + self.dice.below(self.faults.way_max_ms);
        if self.dice.one_in(self.faults.lost_one_in) || back > sent + ANSWER_MAX_MS {
            self.no_answer(number, ask, sent);
        } else {
            self.at(back, Event::Back(number, answer));
        }
    }

    /// Delivers the failure of a request at its time limit: every request is answered.
    fn no_answer(&mut self, number: usize, ask: &Ask, sent: u64) {
        let silent = match ask {
            Ask::Read => LeaseInput::ReadFailed,
            Ask::Write(_) => LeaseInput::Written(WriteOutcome::Unknown),
        };
        let at = (sent + ANSWER_MAX_MS).max(self.now);
        self.at(at, Event::Back(number, silent));
    }

    fn kill(&mut self, number: usize) {
        self.processes[number].dead = true;
    }

    fn holder(&self) -> Option<usize> {
        (0..self.processes.len()).find(|number| {
            !self.processes[*number].dead && self.processes[*number].holding.is_some()
        })
    }

    /// Asserts that no two holdings have the same number. Their order is that of the table: a slow
    /// process may learn that it acquired the lease when the next one holds it already.
    fn check(&self) {
        let epochs: BTreeSet<u64> = self.acquired.iter().map(|(_, _, epoch)| *epoch).collect();
        assert_eq!(epochs.len(), self.acquired.len(), "{:?}", self.acquired);
    }
}

const NO_FAULTS: FaultPlan = FaultPlan {
    way_max_ms: 50,
    lost_one_in: 0,
    out_of_reach: None,
};

proptest! {
    #[test]
    fn without_faults_one_process_holds_the_lease_forever(seed: u64, processes in 1_usize..5) {
        let mut world = World::new(seed, processes, NO_FAULTS);
        world.run_until(2_000_000);
        prop_assert_eq!(world.acquired.len(), 1);
        prop_assert_eq!(world.lost, 0);
    }

    #[test]
    fn a_dead_holder_is_replaced_after_the_lease_time_and_at_most_two_seconds(seed: u64) {
        let mut world = World::new(seed, 3, NO_FAULTS);
        world.run_until(1_100_000);
        let holder = world.holder().expect("a process holds it");
        let last = world.now;
        world.kill(holder);
        world.run_until(last + 20_000);
        world.check();
        let (at, by, _) = *world.acquired.last().expect("a process acquired it");
        prop_assert_ne!(by, holder);
        let took = at - last;
        // The last renewal may be a third of the lease time old.
        prop_assert!((6_000..12_500).contains(&took), "{}", took);
    }

    #[test]
    fn a_stopping_process_is_followed_within_a_poll_and_sooner_after_a_hint(
        seed: u64,
        hinted: bool,
    ) {
        let mut world = World::new(seed, 2, NO_FAULTS);
        world.run_until(1_100_000);
        let holder = world.holder().expect("a process holds it");
        world.handle(holder, LeaseInput::ReleaseRequested);
        let stopped = world.now;
        if hinted {
            world.run_until(stopped + 110);
            world.handle(1 - holder, LeaseInput::Hinted);
        }
        world.run_until(stopped + 5_000);
        let (at, by, epoch) = *world.acquired.last().expect("a process acquired it");
        prop_assert_eq!((by, epoch), (1 - holder, 2));
        let limit = if hinted { 400 } else { 1_400 };
        prop_assert!(at - stopped < limit, "{}", at - stopped);
    }

    #[test]
    fn an_unreachable_table_costs_no_process_its_lease(seed: u64, minutes in 1_u64..5) {
        let out = Some((1_100_000, 1_100_000 + minutes * 60_000));
        let mut world = World::new(seed, 3, FaultPlan { out_of_reach: out, ..NO_FAULTS });
        world.run_until(2_000_000);
        prop_assert_eq!(world.acquired.len(), 1, "{:?}", world.acquired);
        prop_assert_eq!(world.lost, 0);
    }

    #[test]
    fn holdings_have_distinct_numbers_and_some_process_holds_the_lease_in_the_end(
        seed: u64,
        lost_one_in in 2_u64..20,
        kills in 0_usize..3,
    ) {
        let mut world = World::new(seed, 4, FaultPlan {
            way_max_ms: 2_500,
            lost_one_in,
            out_of_reach: None,
        });
        for _ in 0..kills {
            let later = world.now + world.dice.below(60_000);
            world.run_until(later);
            if let Some(holder) = world.holder() {
                world.kill(holder);
            }
            world.check();
        }
        let later = world.now + 120_000;
        world.run_until(later);
        // A process that lost the lease ends, and its environment restarts it. Here it stays away,
        // so a holder exists only if not all lost it.
        world.faults = NO_FAULTS;
        let later = world.now + 60_000;
        world.run_until(later);
        world.check();
        let left = world.processes.iter().filter(|process| !process.dead).count() - world.lost;
        if left > 0 {
            prop_assert!(world.holder().is_some());
        }
    }
}
