//! Plan of a run over several partitions, and its faults: machines that die, sleep and are set to a
//! wrong time, owners that are joined by another one, and connections that break.

use satchel_engine::endpoint::{Endpoint, Endpoints, FunctionPattern, Linger, OnPoison, Retries};
use satchel_engine::input::Input;
use satchel_engine::partition::{Config, Limits};
use satchel_engine::placement::Placement;
use satchel_log::Options;
use satchel_log_simulation::Random;

use super::functions::NAMESPACE;
use super::{Event, KEY_GROUPS, PeersWorld};
use crate::fault_plan::draw_log;
use crate::process::ProcessId;
use crate::store::StoreFaults;

/// Settings of a run, and rates of faults per mille unless stated otherwise.
#[derive(Debug, Clone)]
pub(super) struct PeersPlan {
    pub(super) partitions: u32,
    pub(super) machines: usize,
    pub(super) store: StoreFaults,
    pub(super) log: Options,
    /// Without the number of the partition.
    pub(super) config: Config,
    /// Time during which faults occur, in ms.
    pub(super) faulty_ms: u64,
    /// Mean time between two faults, in ms; 0 for never.
    fault_every_ms: u64,
    pause_max_ms: u64,
    /// Largest error of a machine's calendar, in ms.
    error_max_ms: u64,
    pub(super) latency_max_ms: u64,
    /// Latency of a frame or an answer between two machines, in ms.
    pub(super) network_max_ms: u64,
    /// Rate of frames that are lost, which breaks their connection soon.
    pub(super) lost: u64,
    /// Rate of frames that arrive twice.
    pub(super) doubled: u64,
    /// Rate of connections to a former owner.
    pub(super) astray: u64,
    /// Rate of frames of another generation.
    pub(super) foreign: u64,
    /// Rate of requests to functions that fail.
    pub(super) failed: u64,
    pub(super) clients: u64,
    pub(super) operations: u64,
    /// Number of records of each shard.
    pub(super) records: u64,
    /// Share of buckets that a takeover leaves unread.
    pub(super) unread: u64,
    /// True if bursts fill mailboxes and outboxes over their limit.
    pub(super) bursts: bool,
}

impl PeersPlan {
    pub(super) fn draw(random: &Random) -> Self {
        let rate = |max| {
            if random.chance(500) {
                random.below(max)
            } else {
                0
            }
        };
        let partitions = 1 + random.below(8) as u32;
        let bursts = random.chance(500);
        Self {
            partitions,
            machines: 1 + random.below(5) as usize,
            store: StoreFaults::draw(random),
            log: draw_log(random),
            config: draw_config(random, partitions, bursts),
            faulty_ms: 3_000 + random.below(20_000),
            fault_every_ms: if random.chance(850) {
                100 + random.below(4_000)
            } else {
                0
            },
            pause_max_ms: 1 + random.below(6_000),
            error_max_ms: match random.below(4) {
                0 => 0,
                1 => 20_000,
                _ => random.below(4_500),
            },
            latency_max_ms: 1 + random.below(60),
            network_max_ms: 1 + random.below(40),
            lost: rate(60),
            doubled: rate(100),
            astray: rate(400),
            foreign: rate(100),
            failed: rate(100),
            clients: 1 + random.below(4),
            operations: 4 + random.below(16),
            records: random.below(20),
            unread: random.below(1_001),
            bursts,
        }
    }

    /// Draws the error of a machine's calendar, in ms.
    pub(super) fn draw_error(&self, random: &Random) -> i64 {
        random.below(2 * self.error_max_ms + 1) as i64 - self.error_max_ms as i64
    }
}

fn draw_config(random: &Random, partitions: u32, bursts: bool) -> Config {
    let endpoint = Endpoint {
        functions: vec![FunctionPattern::Namespace(NAMESPACE.to_owned())],
        batch_messages_max: 1 + random.below(20) as usize,
        bundle_batches_max: 1 + random.below(8) as usize,
        bundle_bytes_max: 1 << 16,
        concurrency_max: 1 + random.below(6) as usize,
        linger: Linger::Fixed(random.below(10)),
        retries: Retries {
            attempts_max: u32::MAX,
            backoff_initial_ms: 1 + random.below(100),
            backoff_max_ms: 500,
        },
        on_poison: OnPoison::DeadLetter,
    };
    Config {
        generation: Some(PeersWorld::generation(partitions as u16)),
        placement: Placement::id_md5(KEY_GROUPS, false),
        endpoints: Endpoints::new(vec![endpoint]),
        commit_depth: 1 + random.below(5),
        commit_interval_ms: 1 + random.below(150),
        commit_pace_ms: if random.chance(500) {
            0
        } else {
            random.below(60)
        },
        pending_bytes_max: if bursts {
            2_000 + random.below(4_000) as usize
        } else {
            256 << 10
        },
        peer_frame_bytes: 1 + random.below(2_000),
        // This is longer than any client repeats a request.
        idempotency_ttl_ms: 24 * 60 * 60 * 1000,
        image_bytes_per_seal: 200 + random.below(4_000) as usize,
        memory_limit_bytes: random
            .chance(400)
            .then(|| 2_000 + random.below(30_000) as usize),
        loads_at_once: Some(1 + random.below(4) as usize),
        ..Config::default()
    }
}

impl PeersWorld {
    pub(super) fn schedule_fault(&mut self) {
        if self.plan.fault_every_ms > 0 {
            let delay_ms = 1 + self.random.below(2 * self.plan.fault_every_ms);
            self.timeline.after(delay_ms, Event::Fault);
        }
    }

    /// Injects a random fault and schedules the next one.
    pub(super) fn inject_fault(&mut self) {
        if self.faults_ended {
            return;
        }
        self.schedule_fault();
        let machine = self.random.below(self.machines.len() as u64) as usize;
        let partition = self.random.below(self.plan.partitions.into()) as u32;
        if self.random.chance(300) {
            self.share_limits();
        }
        match self.random.below(12) {
            0 | 1 => {
                self.record(|| format!("machine {machine} dies"));
                for id in self.owners_on(machine) {
                    self.crash(id, "its machine died");
                }
            }
            2 | 3 => {
                let ms = 1 + self.random.below(self.plan.pause_max_ms);
                self.record(|| format!("machine {machine} sleeps for {ms} ms"));
                let until_ms = self.timeline.now_ms() + ms;
                let machine = &mut self.machines[machine];
                // A longer sleep would let what comes late overtake what waits already.
                if machine.paused_until_ms <= self.timeline.now_ms() {
                    machine.paused_until_ms = until_ms;
                }
            }
            4..7 => {
                // A planned change of owner, or one that takes the present owner for dead.
                let delay_ms = self.random.below(500);
                self.timeline.after(delay_ms, Event::OwnerStarts(partition));
            }
            7 => {
                if let Some(id) = self.newest_owner(partition) {
                    self.crash(id, "it crashes");
                }
            }
            8 => {
                if let Some(id) = self.newest_owner(partition) {
                    self.record(|| format!("owner {id} is asked to stop"));
                    let limit_ms = self.random.below(3_000);
                    self.timeline
                        .after(0, Event::Notify(id, Input::StopRequested));
                    self.timeline
                        .after(limit_ms, Event::Notify(id, Input::StopForced));
                }
            }
            9 => {
                let error_ms = self.plan.draw_error(&self.random);
                self.set_clock(machine, error_ms);
            }
            _ => self.break_one(),
        }
    }

    /// The process of a random partition shares its limits in another way. Each partition keeps at
    /// least a quarter of them.
    fn share_limits(&mut self) {
        let partition = self.random.below(self.plan.partitions.into()) as u32;
        let Some(id) = self.newest_owner(partition) else {
            return;
        };
        let mut part = |limit: usize| limit / 4 * (1 + self.random.below(4) as usize);
        let whole = self.plan.config.limits();
        let (pending_bytes_max, memory_limit_bytes) = (
            part(whole.pending_bytes_max),
            whole.memory_limit_bytes.map(&mut part),
        );
        let limits = Limits {
            commit_pace_ms: whole.commit_pace_ms * (1 + self.random.below(8)),
            pending_bytes_max,
            memory_limit_bytes,
        };
        self.record(|| format!("owner {id} has {limits:?}"));
        let changed = Input::LimitsChanged(limits);
        self.timeline.after(0, Event::Notify(id, changed));
    }

    /// Sets the error of a machine's calendar.
    fn set_clock(&mut self, machine: usize, error_ms: i64) {
        self.record(|| format!("the calendar of machine {machine} is wrong by {error_ms} ms"));
        let shift_ms = error_ms - self.machines[machine].error_ms;
        self.machines[machine].error_ms = error_ms;
        for id in self.owners_on(machine) {
            if let Some(owner) = self.owners.get(&id) {
                owner.process.clock.shift(shift_ms);
                self.allow_error(owner.partition, machine);
            }
        }
    }

    /// Remembers that a clock with the present error of this machine counts for a partition.
    pub(super) fn allow_error(&mut self, partition: u32, machine: usize) {
        let known = &mut self.errors_max_ms[partition as usize];
        *known = (*known).max(self.machines[machine].error_ms);
    }

    fn owners_on(&self, machine: usize) -> Vec<ProcessId> {
        let owners = self.owners.iter();
        owners
            .filter(|(_, owner)| owner.machine == machine)
            .map(|(id, _)| *id)
            .collect()
    }

    /// Ends all faults: calendars are right, and only the newest owners are left. Machines that
    /// sleep wake up in their time, because what waits for them must arrive in its order.
    pub(super) fn end_faults(&mut self) {
        self.record(|| "the faults end".to_owned());
        self.faults_ended = true;
        self.plan.store = self.plan.store.healed();
        self.plan.lost = 0;
        self.plan.doubled = 0;
        self.plan.astray = 0;
        self.plan.foreign = 0;
        self.plan.failed = 0;
        for machine in 0..self.machines.len() {
            self.set_clock(machine, 0);
        }
        // A former owner would learn that it is one only at a commit, which it may never have a
        // reason for.
        let ids: Vec<ProcessId> = self.owners.keys().copied().collect();
        for id in ids {
            let partition = self.owners[&id].partition;
            if self.newest_owner(partition) != Some(id) || !self.owns(id) {
                self.crash(id, "the faults end");
            }
        }
    }
}
