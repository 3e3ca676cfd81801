//! A run: owners over one root, one after the other and several at once.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use satchel_log::{
    Condensation, Contender, Identity, LogTable, ObjectStore, OnStoreFailure, Options, Placement,
    Retry, SnapshotPolicy, TabledStore, verify,
};

use crate::clock::SimulatedClock;
use crate::executor::Executor;
use crate::faults::Faults;
use crate::faulty_table::FaultyTable;
use crate::memory_root::simulated_table;
use crate::mistaken_parts::MistakenParts;
use crate::model::Model;
use crate::mutants::Mutant;
use crate::owner::{Shared, run_process};
use crate::random::Random;
use crate::readers::{Session, source};
use crate::stale_store::{StaleStore, Staleness};
use crate::store::FaultyStore;

/// Parameters of a run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Seed of all choices.
    pub seed: u64,
    /// Number of turns with faults and crashes.
    pub turns: u64,
    /// Maximum number of concurrent processes.
    pub owners_max: usize,
    /// A mistake that its owners make; the run must fail then.
    pub mutant: Option<Mutant>,
}

/// Counts of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Deltas reported durable.
    pub acknowledged: u64,
    /// Takeovers that returned.
    pub takeovers: u64,
    /// Snapshots that took effect.
    pub snapshots: u64,
    /// Buckets that were loaded after a takeover or an eviction.
    pub loads: u64,
    /// Savepoints created, and later reads of them.
    pub savepoints: (u64, u64),
    /// Requests to the store.
    pub requests: u64,
}

/// Seeds to run: those of `SATCHEL_SIMULATION_SEEDS=FIRST..END`, or `usual`. The same variable
/// selects the long form of every suite: over memory, a directory, S3.
///
/// # Panics
/// If the variable is set to anything else.
#[must_use]
pub fn seeds(usual: Range<u64>) -> Range<u64> {
    match std::env::var("SATCHEL_SIMULATION_SEEDS") {
        Err(_) => usual,
        Ok(range) => {
            let (first, end) = range.split_once("..").expect("FIRST..END");
            first.parse().expect("a number")..end.parse().expect("a number")
        }
    }
}

const BUCKETS: u16 = 4;
const GRACE_MS: u64 = 60_000;

/// Runs a plan over an empty store.
///
/// # Errors
/// The laws that were broken, one per line, with the seed.
pub fn run(plan: &Plan, inner: Arc<dyn ObjectStore>) -> Result<Report, String> {
    run_over(plan, inner, None)
}

/// Runs a plan over an empty store, with the log in an empty table.
///
/// # Errors
/// As for [`run`].
pub fn run_in_table(
    plan: &Plan,
    objects: Arc<dyn ObjectStore>,
    table: Arc<dyn LogTable>,
) -> Result<Report, String> {
    run_over(plan, objects, Some(table))
}

/// The stores of a run, which lose requests and answers.
#[derive(Clone)]
struct Stores {
    objects: Arc<FaultyStore>,
    table: Option<Arc<FaultyTable>>,
    /// Maximum size of an item in bytes.
    item_bytes_max: usize,
    mutant: Option<Mutant>,
}

impl Stores {
    fn heal(&self) {
        self.objects.heal();
        if let Some(table) = &self.table {
            table.heal();
        }
    }

    fn requests(&self) -> u64 {
        self.objects.requests() + self.table.as_ref().map_or(0, |table| table.requests())
    }

    async fn apply_late_write(&self) {
        self.objects.apply_late_write().await;
        if let Some(table) = &self.table {
            table.apply_late_put().await;
        }
    }

    /// Returns the store of one process.
    fn of_process(&self) -> Arc<dyn ObjectStore> {
        let Some(table) = &self.table else {
            return self.objects.clone();
        };
        let location = simulated_table();
        let mut objects: Arc<dyn ObjectStore> = self.objects.clone();
        let mut items: Arc<dyn LogTable> = table.clone();
        if let Some(mutant) = self.mutant {
            let parts = Arc::new(MistakenParts {
                objects,
                table: items,
                mutant,
                log: format!("{}#0", location.key),
                postponed: Arc::default(),
            });
            objects = parts.clone();
            items = parts;
        }
        let store = TabledStore::new(objects, items, "root", 1, location);
        Arc::new(store.with_item_bytes_max(self.item_bytes_max))
    }
}

fn run_over(
    plan: &Plan,
    inner: Arc<dyn ObjectStore>,
    table: Option<Arc<dyn LogTable>>,
) -> Result<Report, String> {
    let random = Random::new(plan.seed);
    let faults = draw_faults(&random);
    let faulty = |table| Arc::new(FaultyTable::new(table, faults, random.clone()));
    let stores = Stores {
        objects: Arc::new(FaultyStore::new(inner, faults, random.clone())),
        table: table.map(faulty),
        // Some logs have bodies for all but the smallest objects, some for hardly any.
        item_bytes_max: 100 + (plan.seed % 4) as usize * 80,
        mutant: plan.mutant,
    };
    let clock = SimulatedClock::default();
    let shared = Shared {
        model: RefCell::new(Model::new(BUCKETS)),
        snapshots: Cell::new(0),
        loads: Cell::new(0),
        savepoints: RefCell::default(),
        mutant: plan.mutant,
        random: random.clone(),
        buckets: BUCKETS,
    };
    let options = draw_options(&random);
    let mut processes = 0u64;
    let mut next_contender = |clock: &SimulatedClock| {
        processes += 1;
        let clock = clock.with_own_calendar();
        clock.shift_calendar(random.below(200_000) as i64 - 100_000);
        let store: Arc<dyn ObjectStore> = match plan.mutant {
            Some(Mutant::OwnerIgnoresSavepoints) => Arc::new(StaleStore {
                inner: stores.of_process(),
                staleness: Staleness::NoSavepoints,
                delay: None,
            }),
            _ => stores.of_process(),
        };
        contender(store, clock, options, processes)
    };
    let mut sessions = 0;
    let mut session = |give_up_ms: Option<u64>| {
        sessions += 1;
        // The creator of a savepoint may sleep until its base is collected.
        let sleeps = random.chance(500);
        let creators = Arc::new(StaleStore {
            inner: stores.of_process(),
            staleness: match plan.mutant {
                Some(Mutant::CreatorSkipsCheck) => Staleness::Frozen(Mutex::default()),
                _ => Staleness::Current,
            },
            delay: sleeps.then(|| (clock.clone(), random.below(2 * GRACE_MS))),
        });
        Session {
            shared: &shared,
            creator: source(creators, clock.clone(), give_up_ms),
            source: source(stores.of_process(), clock.clone(), give_up_ms),
            nonce: sessions,
        }
    };

    let mut executor = Executor::new();
    let crash = random.below(4);
    let pause = random.below(4);
    for turn in 0..plan.turns {
        if executor.is_empty() || (executor.len() < plan.owners_max && random.chance(3)) {
            executor.spawn(run_process(
                &shared,
                next_contender(&clock),
                5 + random.below(200),
            ));
        }
        if random.chance(crash) {
            executor.crash(&random);
        }
        if random.chance(pause) {
            executor.pause(turn + random.below(3000), &random);
        }
        if random.chance(4) {
            executor.spawn(session(Some(500)).run());
        }
        if random.chance(10) {
            let stores = stores.clone();
            executor.spawn(async move { stores.apply_late_write().await });
        }
        clock.advance(if random.chance(3) {
            random.below(2 * GRACE_MS)
        } else {
            random.below(20)
        });
        executor.poll_one(turn, &random);
    }

    stores.heal();
    executor.wake_all();
    let mut turn = plan.turns;
    finish(&mut executor, &clock, &random, &mut turn)?;
    // One more owner, undisturbed, reads the final durable state and must be able to continue.
    let before = shared.model.borrow().acknowledgements();
    executor.spawn(run_process(&shared, next_contender(&clock), 20));
    finish(&mut executor, &clock, &random, &mut turn)?;
    executor.spawn(run_process(&shared, next_contender(&clock), 1));
    finish(&mut executor, &clock, &random, &mut turn)?;

    let check = RootCheck {
        store: stores.of_process(),
        clock: clock.clone(),
    };
    executor.spawn(check.run(&shared));
    finish(&mut executor, &clock, &random, &mut turn)?;

    executor.spawn(session(None).read_history(options.retention_ms));
    finish(&mut executor, &clock, &random, &mut turn)?;

    let model = shared.model.borrow();
    if model.acknowledgements() != before + 21 {
        return Err(format!(
            "seed {}: the last owners were not acknowledged",
            plan.seed
        ));
    }
    if !model.violations.is_empty() {
        return Err(format!(
            "seed {}: {}",
            plan.seed,
            model.violations.join("\n")
        ));
    }
    Ok(Report {
        acknowledged: model.acknowledgements(),
        takeovers: model.takeovers(),
        snapshots: shared.snapshots.get(),
        loads: shared.loads.get(),
        savepoints: {
            let savepoints = shared.savepoints.borrow();
            (savepoints.created, savepoints.read)
        },
        requests: stores.requests(),
    })
}

/// A verification of the whole root, which must find nothing wrong.
struct RootCheck {
    store: Arc<dyn ObjectStore>,
    clock: SimulatedClock,
}

impl RootCheck {
    async fn run(self, shared: &Shared) {
        let retry = Retry {
            initial_ms: 1,
            max_ms: 1,
            give_up_ms: None,
        };
        let quiet: OnStoreFailure = Arc::new(|_| {});
        let verified = verify(self.store, "root", Arc::new(self.clock), retry, quiet).await;
        let violations = &mut shared.model.borrow_mut().violations;
        match verified {
            Ok(verified) => {
                // Crashed creators leave savepoints that no process relies on.
                let kept = shared.savepoints.borrow();
                let findings = verified.findings.iter().map(ToString::to_string);
                let relevant = findings.filter(|finding| kept.is_relevant(finding));
                violations.extend(relevant);
            }
            Err(error) => violations.push(error.to_string()),
        }
    }
}

fn finish(
    executor: &mut Executor<'_>,
    clock: &SimulatedClock,
    random: &Random,
    turn: &mut u64,
) -> Result<(), String> {
    let end = *turn + 10_000_000;
    while !executor.is_empty() {
        if *turn == end {
            return Err("owners do not end, with nothing in their way".to_owned());
        }
        clock.advance(random.below(20));
        executor.poll_one(*turn, random);
        *turn += 1;
    }
    Ok(())
}

fn draw_faults(random: &Random) -> Faults {
    let rate = |max| {
        if random.chance(500) {
            random.below(max)
        } else {
            0
        }
    };
    Faults {
        lost: rate(100),
        answer_lost: rate(100),
        delayed: rate(100),
        repeated: rate(100),
        conflict: rate(50),
        turns_max: rate(20),
    }
}

fn draw_options(random: &Random) -> Options {
    Options {
        depth: 1 + random.below(8),
        window_ms: 1 + random.below(GRACE_MS / 6),
        grace_ms: GRACE_MS,
        retry: Retry {
            initial_ms: 10,
            max_ms: 1000,
            give_up_ms: None,
        },
        takeover_give_up_ms: random.chance(500).then_some(5000),
        parallel_reads: 1 + random.below(5) as usize,
        snapshots: SnapshotPolicy {
            floor_bytes: 200 + random.below(5000),
            log_percent: 70,
            segment_bytes: 50 + random.below(500),
            tail_bytes_max: 1000 + random.below(20_000),
            object_bytes: 0,
            bytes_per_second: random.chance(300).then(|| 1 + random.below(5000)),
        },
        condensation: random.chance(700).then(|| Condensation {
            objects: 2 + random.below(5),
            runs: 1 + random.below(3),
            object_bytes_max: 100 + random.below(1000),
        }),
        retention_ms: if random.chance(500) {
            0
        } else {
            random.below(5 * GRACE_MS)
        },
    }
}

fn contender(
    store: Arc<dyn ObjectStore>,
    clock: SimulatedClock,
    options: Options,
    life: u64,
) -> Contender {
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&life.to_le_bytes());
    Contender {
        store,
        root: "root".to_owned(),
        identity: Identity {
            application: "simulated".to_owned(),
            partition: 0,
            partitions: 1,
            buckets: BUCKETS,
            placement: Placement::Xxh3,
        },
        nonce,
        clock: Arc::new(clock),
        options,
        on_store_failure: Arc::new(|_| {}),
    }
}
