//! Plan of a run, drawn from its seed: the rates of faults, and the settings of the partition and
//! its log.

use std::sync::Arc;

use satchel_engine::endpoint::{Endpoint, Endpoints, FunctionPattern, Linger, OnPoison, Retries};
use satchel_engine::partition::Config;
use satchel_engine::placement::Placement;
use satchel_engine::sink::exactly_once::ExactlyOnceTiming;
use satchel_engine::source::shards::Startup;
use satchel_log::{Condensation, Options, Retry, SnapshotPolicy};
use satchel_log_simulation::Random;

use crate::functions::{FRAIL, STEADY, STIFF};
use crate::store::StoreFaults;
use crate::world::BEGINNING_MS;

/// Grace of the log in ms. It is short, so that runs see collections.
const GRACE_MS: u64 = 30_000;

/// Rates of faults, per mille unless stated otherwise, and settings.
#[derive(Debug, Clone)]
pub(crate) struct FaultPlan {
    pub(crate) store: StoreFaults,
    /// Time during which faults occur, in ms.
    pub(crate) faulty_ms: u64,
    /// Mean time between two faults of processes, in ms; 0 for never.
    pub(crate) fault_every_ms: u64,
    pub(crate) pause_min_ms: u64,
    pub(crate) pause_max_ms: u64,
    /// True if pauses are longer than the grace. No process is disturbed while another one sleeps,
    /// so that an owner wakes whose numbers were collected.
    pub(crate) long_pauses: bool,
    pub(crate) second_owner: u64,
    pub(crate) requests: RequestFaults,
    pub(crate) read_again: u64,
    pub(crate) ack_lost: u64,
    pub(crate) abandon: u64,
    pub(crate) send_twice: u64,
    pub(crate) callers: u64,
    pub(crate) operations: u64,
    pub(crate) kills: u64,
    pub(crate) config: Config,
    pub(crate) log: Options,
    pub(crate) clock_error_max_ms: u64,
    /// Timing of the egress, if it delivers exactly once.
    pub(crate) exactly_once: Option<ExactlyOnceTiming>,
    /// True if the egress puts records with equal keys and bytes.
    pub(crate) equal_records: bool,
    /// Duration of a lease in ms, if processes acquire one before they take over.
    pub(crate) lease_ms: Option<u64>,
    pub(crate) startup: Startup,
    /// Longest time between two changes of the stream's shards, in ms; 0 for never.
    pub(crate) reshard_every_ms: u64,
    /// Share of buckets that a takeover leaves unread, per mille.
    pub(crate) unread: u64,
    /// Rate of process starts with another version, per mille.
    pub(crate) deploys: u64,
    /// True if an operator creates savepoints and reads history.
    pub(crate) has_operator: bool,
    /// Minimum retention of history in ms; 0 for none.
    pub(crate) retention_min_ms: u64,
    /// Number of roots that are made from this one.
    pub(crate) forks: u64,
}

/// Rates of faults of requests to functions, per mille.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RequestFaults {
    pub(crate) throttled: u64,
    pub(crate) unreachable: u64,
    pub(crate) failed: u64,
    pub(crate) hangs: u64,
    pub(crate) batch_failed: u64,
    pub(crate) garbage: u64,
    pub(crate) missing: u64,
    pub(crate) foreign: u64,
    pub(crate) twice: u64,
    pub(crate) late: u64,
    pub(crate) latency_max_ms: u64,
}

impl FaultPlan {
    /// Returns the timing of a process's exactly-once egress. Some processes assume another request
    /// time-out.
    pub(crate) fn exactly_once_of(&self, process: u64) -> Option<ExactlyOnceTiming> {
        let timing = self.exactly_once?;
        let more_ms = if process % 3 == 1 { 700 } else { 0 };
        Some(ExactlyOnceTiming {
            request_timeout_ms: timing.request_timeout_ms + more_ms,
            ..timing
        })
    }

    pub(crate) fn draw(random: &Random) -> Self {
        let mut faults = Self::draw_owners(random);
        crate::deploys::draw(random, &mut faults);
        crate::history::draw(random, &mut faults);
        crate::forks::draw(random, &mut faults);
        faults
    }

    fn draw_owners(random: &Random) -> Self {
        let rate = |max| {
            if random.chance(500) {
                random.below(max)
            } else {
                0
            }
        };
        let long_pauses = random.chance(150);
        Self {
            store: StoreFaults::draw(random),
            faulty_ms: if long_pauses {
                2 * GRACE_MS + random.below(2 * GRACE_MS)
            } else {
                5_000 + random.below(40_000)
            },
            fault_every_ms: if long_pauses {
                2_000 + random.below(8_000)
            } else if random.chance(850) {
                200 + random.below(8_000)
            } else {
                0
            },
            pause_min_ms: if long_pauses { GRACE_MS } else { 1 },
            pause_max_ms: if long_pauses {
                2 * GRACE_MS
            } else {
                1 + random.below(8_000)
            },
            long_pauses,
            second_owner: rate(300),
            requests: RequestFaults {
                throttled: rate(100),
                unreachable: rate(60),
                failed: rate(100),
                hangs: rate(20),
                batch_failed: rate(100),
                garbage: rate(60),
                missing: rate(40),
                foreign: rate(60),
                twice: rate(100),
                late: rate(200),
                latency_max_ms: 1 + random.below(80),
            },
            read_again: rate(300),
            ack_lost: rate(150),
            abandon: rate(80),
            send_twice: rate(200),
            callers: 1 + random.below(4),
            operations: 4 + random.below(if long_pauses { 200 } else { 24 }),
            kills: if random.chance(250) { 1 } else { 0 },
            config: draw_config(random),
            log: draw_log(random),
            clock_error_max_ms: if random.chance(500) {
                random.below(2_000)
            } else {
                0
            },
            exactly_once: random.chance(600).then(|| ExactlyOnceTiming {
                confirmation_ms: 300 + random.below(2_000),
                request_timeout_ms: 100 + random.below(1_000),
                settling_ms: 50 + random.below(500),
                ordering_ms: 1 + random.below(3_000),
            }),
            equal_records: random.chance(500),
            lease_ms: random.chance(400).then(|| 300 + random.below(3_000)),
            startup: match random.below(10) {
                0..3 => Startup::Latest,
                3 => Startup::Date(BEGINNING_MS - random.below(1_000)),
                _ => Startup::Earliest,
            },
            reshard_every_ms: if random.chance(500) {
                1_000 + random.below(8_000)
            } else {
                0
            },
            unread: if random.chance(700) {
                1_000
            } else {
                random.below(1_000)
            },
            deploys: 0,
            has_operator: false,
            retention_min_ms: 0,
            forks: 0,
        }
    }
}

/// Maximum linger of an endpoint in ms.
pub(crate) const LINGER_MAX_MS: u64 = 50;

/// Draws the placement of a root, of an earlier version or of this one.
pub(crate) fn draw_placement(random: &Random) -> Placement {
    let key_groups = 1 + random.below(12) as u16;
    match random.below(3) {
        0 => Placement::xxh3(key_groups),
        choice => Placement::id_md5(key_groups, choice == 1),
    }
}

pub(crate) fn draw_config(random: &Random) -> Config {
    let endpoint = |namespace: &str, attempts_max, on_poison| Endpoint {
        functions: vec![FunctionPattern::Namespace(namespace.to_owned())],
        batch_messages_max: 1 + random.below(30) as usize,
        bundle_batches_max: 1 + random.below(10) as usize,
        bundle_bytes_max: 1 << 16,
        concurrency_max: 1 + random.below(6) as usize,
        linger: match random.below(3) {
            0 => Linger::Fixed(0),
            1 => Linger::Fixed(1 + random.below(LINGER_MAX_MS)),
            _ => Linger::Measured,
        },
        retries: Retries {
            attempts_max,
            backoff_initial_ms: 1 + random.below(200),
            backoff_max_ms: 1_000,
        },
        on_poison,
    };
    let endpoints = vec![
        endpoint(STEADY, u32::MAX, OnPoison::DeadLetter),
        endpoint(FRAIL, 1 + random.below(4) as u32, OnPoison::DeadLetter),
        endpoint(STIFF, 1 + random.below(3) as u32, OnPoison::Suspend),
    ];
    let egress: Arc<str> = "steady/out".into();
    Config {
        partition: 0,
        placement: draw_placement(random),
        endpoints: Endpoints::new(endpoints),
        egresses: [egress].into(),
        commit_depth: 1 + random.below(5),
        commit_interval_ms: 1 + random.below(200),
        commit_pace_ms: if random.chance(500) {
            0
        } else {
            random.below(60)
        },
        pending_bytes_max: if random.chance(200) { 4_000 } else { 256 << 10 },
        // Some of the dead letters of a world stay until its end.
        dead_letter_bytes_max: usize::MAX,
        idempotency_ttl_ms: if random.chance(500) {
            // This is longer than any client repeats a request.
            300_000
        } else {
            24 * 60 * 60 * 1000
        },
        image_bytes_per_seal: 200 + random.below(4_000) as usize,
        memory_limit_bytes: random
            .chance(600)
            .then(|| 500 + random.below(30_000) as usize),
        loads_at_once: Some(1 + random.below(4) as usize),
        declarations_renewed_ms: Some(5_000),
        ..Config::default()
    }
}

pub(crate) fn draw_log(random: &Random) -> Options {
    Options {
        depth: 1 + random.below(8),
        window_ms: 100 + random.below(GRACE_MS / 6 - 100),
        grace_ms: GRACE_MS,
        retry: Retry {
            initial_ms: 10,
            max_ms: 500,
            give_up_ms: None,
        },
        takeover_give_up_ms: random.chance(500).then_some(5_000),
        parallel_reads: 1 + random.below(5) as usize,
        snapshots: SnapshotPolicy {
            floor_bytes: 1_000 + random.below(8_000),
            log_percent: 70,
            segment_bytes: 100 + random.below(3_000),
            ..SnapshotPolicy::default()
        },
        condensation: random.chance(700).then(|| Condensation {
            objects: 2 + random.below(6),
            runs: 1 + random.below(4),
            object_bytes_max: 200 + random.below(2_000),
        }),
        ..Options::default()
    }
}
