//! Several claimants, clocks of their own speed, and a table that is slow, loses answers and is out of reach: seeded, in virtual time.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// SplitMix64, so that a run is replayed from its seed.
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

/// What goes wrong.
#[derive(Clone, Copy)]
struct Weather {
    /// How long one way to the table takes at most, in ms.
    way_max_ms: u64,
    /// One request in so many is lost before the table, and one answer after it; 0 for none.
    lost_one_in: u64,
    /// Whether the table is out of reach between these times.
    out_of_reach: Option<(u64, u64)>,
}

enum Event {
    Wake(usize),
    /// A request that was sent at a time reaches the table.
    AtTable(usize, Ask, u64),
    /// Its answer comes back.
    Back(usize, LeaseInput),
}

#[derive(Clone)]
enum Ask {
    Look,
    Write(Write),
}

struct Process {
    lease: Lease,
    /// Its clock runs at this speed, in thousandths.
    speed: u64,
    dead: bool,
    /// The time at which its wish to be woken comes true, by the world's clock; later wishes replace it.
    wake_at: Option<u64>,
    holding: Option<u64>,
}

struct World {
    now: u64,
    dice: Dice,
    weather: Weather,
    events: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    table: Option<LeaseItem>,
    processes: Vec<Process>,
    /// (time, process, epoch) of every beginning.
    acquired: Vec<(u64, usize, u64)>,
    lost: usize,
}

const ANSWER_MAX_MS: u64 = 2_000;

impl World {
    fn new(seed: u64, processes: usize, weather: Weather) -> Self {
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
            weather,
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
                    self.tell(number, LeaseInput::TimeReached);
                }
            }
            Event::AtTable(number, ask, sent) => self.arrive(number, &ask, sent),
            Event::Back(number, answer) => self.tell(number, answer),
        }
    }

    fn is_out_of_reach(&self) -> bool {
        self.weather
            .out_of_reach
            .is_some_and(|(from, to)| (from..to).contains(&self.now))
    }

    fn ask_table(&mut self, ask: Ask) -> LeaseInput {
        match ask {
            Ask::Look => LeaseInput::Found(self.table.clone()),
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

    fn tell(&mut self, number: usize, input: LeaseInput) {
        let process = &mut self.processes[number];
        if process.dead {
            return;
        }
        let speed = process.speed;
        let clock = self.now * speed / 1_000;
        process.lease.handle_input(clock, input);
        while let Some(output) = self.processes[number].lease.poll_output() {
            match output {
                LeaseOutput::Look => self.send(number, Ask::Look),
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
        if self.dice.one_in(self.weather.lost_one_in) || self.is_out_of_reach() {
            self.no_answer(number, &ask, sent);
        } else {
            let arrives = sent + self.dice.below(self.weather.way_max_ms);
            self.at(arrives, Event::AtTable(number, ask, sent));
        }
    }

    /// The table does what it is asked also when nobody waits for it any more.
    fn arrive(&mut self, number: usize, ask: &Ask, sent: u64) {
        if self.is_out_of_reach() {
            return self.no_answer(number, ask, sent);
        }
        let answer = self.ask_table(ask.clone());
        let back = self.now + self.dice.below(self.weather.way_max_ms);
        if self.dice.one_in(self.weather.lost_one_in) || back > sent + ANSWER_MAX_MS {
            self.no_answer(number, ask, sent);
        } else {
            self.at(back, Event::Back(number, answer));
        }
    }

    /// Every request is answered: if by nobody else, then by the limit of its time.
    fn no_answer(&mut self, number: usize, ask: &Ask, sent: u64) {
        let silent = match ask {
            Ask::Look => LeaseInput::NotFoundOut,
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

    /// No two holdings have the same number. Their order is that of the table: who is slow to hear may learn that he has had the lease when the next one
    /// has it already.
    fn check(&self) {
        let epochs: BTreeSet<u64> = self.acquired.iter().map(|(_, _, epoch)| *epoch).collect();
        assert_eq!(epochs.len(), self.acquired.len(), "{:?}", self.acquired);
    }
}

const FAIR: Weather = Weather {
    way_max_ms: 50,
    lost_one_in: 0,
    out_of_reach: None,
};

proptest! {
    #[test]
    fn without_faults_one_process_holds_the_lease_for_ever(seed: u64, processes in 1_usize..5) {
        let mut world = World::new(seed, processes, FAIR);
        world.run_until(2_000_000);
        prop_assert_eq!(world.acquired.len(), 1);
        prop_assert_eq!(world.lost, 0);
    }

    #[test]
    fn a_dead_holder_is_replaced_after_the_lease_time_and_at_most_two_seconds(seed: u64) {
        let mut world = World::new(seed, 3, FAIR);
        world.run_until(1_100_000);
        let holder = world.holder().expect("somebody holds it");
        let last = world.now;
        world.kill(holder);
        world.run_until(last + 20_000);
        world.check();
        let (at, by, _) = *world.acquired.last().expect("somebody began");
        prop_assert_ne!(by, holder);
        let took = at - last;
        // The last renewal may be a third of the lease time old.
        prop_assert!((6_000..12_500).contains(&took), "{}", took);
    }

    #[test]
    fn a_process_that_stops_is_followed_within_a_poll_and_a_hint_makes_it_quicker(seed: u64, hinted: bool) {
        let mut world = World::new(seed, 2, FAIR);
        world.run_until(1_100_000);
        let holder = world.holder().expect("somebody holds it");
        world.tell(holder, LeaseInput::ReleaseRequested);
        let stopped = world.now;
        if hinted {
            world.run_until(stopped + 110);
            world.tell(1 - holder, LeaseInput::Hinted);
        }
        world.run_until(stopped + 5_000);
        let (at, by, epoch) = *world.acquired.last().expect("somebody began");
        prop_assert_eq!((by, epoch), (1 - holder, 2));
        let limit = if hinted { 400 } else { 1_400 };
        prop_assert!(at - stopped < limit, "{}", at - stopped);
    }

    #[test]
    fn a_table_that_nobody_reaches_costs_nobody_the_lease(seed: u64, minutes in 1_u64..5) {
        let out = Some((1_100_000, 1_100_000 + minutes * 60_000));
        let mut world = World::new(seed, 3, Weather { out_of_reach: out, ..FAIR });
        world.run_until(2_000_000);
        prop_assert_eq!(world.acquired.len(), 1, "{:?}", world.acquired);
        prop_assert_eq!(world.lost, 0);
    }

    #[test]
    fn whatever_is_lost_no_two_holdings_have_one_number_and_somebody_holds_it_in_the_end(
        seed: u64,
        lost_one_in in 2_u64..20,
        kills in 0_usize..3,
    ) {
        let mut world = World::new(seed, 4, Weather { way_max_ms: 2_500, lost_one_in, out_of_reach: None });
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
        // A process that lost the lease ends, and its environment starts it again; here it stays away, so some are left only if not all lost.
        world.weather = FAIR;
        let later = world.now + 60_000;
        world.run_until(later);
        world.check();
        let left = world.processes.iter().filter(|process| !process.dead).count() - world.lost;
        if left > 0 {
            prop_assert!(world.holder().is_some());
        }
    }
}
