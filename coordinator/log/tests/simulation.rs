//! Random histories of owners over a store that loses requests and answers: what is recovered is always the fold of the durable prefix.

use std::sync::Arc;

use satchel_log::MemoryStore;
use satchel_log_simulation::{Plan, Report, run};

fn run_in_memory(seed: u64) -> Report {
    let plan = Plan {
        seed,
        turns: 20_000,
        owners_max: 3,
    };
    run(&plan, Arc::new(MemoryStore::new())).unwrap_or_else(|broken| panic!("{broken}"))
}

/// `SATCHEL_SIMULATION_SEEDS=FIRST..END` runs other seeds than the usual ones.
fn seeds() -> std::ops::Range<u64> {
    match std::env::var("SATCHEL_SIMULATION_SEEDS") {
        Err(_) => 0..40,
        Ok(range) => {
            let (first, end) = range.split_once("..").expect("FIRST..END");
            first.parse().expect("a number")..end.parse().expect("a number")
        }
    }
}

#[test]
fn whatever_happens_the_recovered_state_is_the_fold_of_the_durable_prefix() {
    let mut total = Report::default();
    for seed in seeds() {
        let report = run_in_memory(seed);
        total.acknowledged += report.acknowledged;
        total.takeovers += report.takeovers;
        total.snapshots += report.snapshots;
        total.requests += report.requests;
    }
    println!("{total:?}");
    // The worlds must be worth running: owners follow each other, commit, and snapshot.
    assert!(total.takeovers > 5 * seeds().count() as u64, "{total:?}");
    assert!(total.snapshots > seeds().count() as u64, "{total:?}");
    assert!(
        total.acknowledged > 100 * seeds().count() as u64,
        "{total:?}"
    );
}

#[test]
fn the_same_seed_gives_the_same_history() {
    assert_eq!(run_in_memory(7), run_in_memory(7));
}
