//! Random histories of owners over a store that loses requests and answers: the recovered state is
//! always the fold of the durable prefix.

use std::sync::Arc;

use satchel_log::MemoryStore;
use satchel_log_simulation::{Mutant, Plan, Report, run};

fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        turns: 20_000,
        owners_max: 3,
        mutant: None,
    }
}

fn run_in_memory(seed: u64) -> Report {
    let store = Arc::new(MemoryStore::new());
    run(&plan(seed), store).unwrap_or_else(|broken| panic!("{broken}"))
}

/// Runs worlds whose owners make a mistake until one run fails.
fn assert_noticed(mutant: Mutant) {
    assert_noticed_from(mutant, 0);
}

/// Begins with the world of this seed, for a mistake that few worlds show.
fn assert_noticed_from(mutant: Mutant, first: u64) {
    let noticed = (first..first + 300).find_map(|seed| {
        let plan = Plan {
            mutant: Some(mutant),
            ..plan(seed)
        };
        run(&plan, Arc::new(MemoryStore::new())).err()
    });
    let noticed = noticed.unwrap_or_else(|| panic!("no run of 300 noticed {mutant:?}"));
    println!("{mutant:?}: {noticed:.200}");
}

/// `SATCHEL_SIMULATION_SEEDS=FIRST..END` selects other worlds. A world of 20,000 turns takes about
/// a second.
fn seeds() -> std::ops::Range<u64> {
    satchel_log_simulation::seeds(0..30)
}

#[test]
fn whatever_happens_the_recovered_state_is_the_fold_of_the_durable_prefix() {
    let mut total = Report::default();
    for seed in seeds() {
        let report = run_in_memory(seed);
        total.acknowledged += report.acknowledged;
        total.takeovers += report.takeovers;
        total.snapshots += report.snapshots;
        total.loads += report.loads;
        total.savepoints.0 += report.savepoints.0;
        total.savepoints.1 += report.savepoints.1;
        total.requests += report.requests;
    }
    println!("{total:?}");
    // The worlds must be worth running: owners follow each other, commit, and snapshot.
    assert!(total.takeovers > 5 * seeds().count() as u64, "{total:?}");
    assert!(total.snapshots > seeds().count() as u64, "{total:?}");
    assert!(
        total.savepoints.0 > seeds().count() as u64 && total.savepoints.1 > seeds().count() as u64,
        "{total:?}"
    );
    assert!(total.loads > 10 * seeds().count() as u64, "{total:?}");
    assert!(
        total.acknowledged > 100 * seeds().count() as u64,
        "{total:?}"
    );
}

/// In this world a read takes longer than the grace period, and the manifest that was an orphan at
/// its beginning takes effect meanwhile. The objects that it misses are obsolete, not lost.
#[test]
fn a_reader_slower_than_the_grace_period_restarts() {
    run_in_memory(47);
}

#[test]
fn the_same_seed_gives_the_same_history() {
    assert_eq!(run_in_memory(7), run_in_memory(7));
}

#[test]
fn an_image_read_from_where_it_lay_before_is_noticed() {
    assert_noticed(Mutant::StaleLoad);
}

#[test]
fn changes_over_an_unread_bucket_that_are_forgotten_at_its_load_are_noticed() {
    assert_noticed(Mutant::OverlayLost);
}

#[test]
fn an_unread_bucket_that_is_imaged_without_being_read_is_noticed() {
    assert_noticed(Mutant::OverlayAsImage);
}

#[test]
fn a_changed_bucket_that_is_dropped_before_its_image_is_in_effect_is_noticed() {
    assert_noticed(Mutant::EvictDirty);
}

#[test]
fn an_owner_that_deletes_without_looking_for_savepoints_is_noticed() {
    assert_noticed(Mutant::OwnerIgnoresSavepoints);
}

#[test]
fn a_savepoint_made_without_looking_for_condemnations_is_noticed() {
    assert_noticed_from(Mutant::CreatorSkipsCheck, 100);
}
