//! Random histories of owners over a store that loses requests and answers: what is recovered is always the fold of the durable prefix.

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

/// Runs worlds whose owners make a mistake until one of them notices.
fn assert_noticed(mutant: Mutant) {
    let noticed = (0..100).find_map(|seed| {
        let plan = Plan {
            mutant: Some(mutant),
            ..plan(seed)
        };
        run(&plan, Arc::new(MemoryStore::new())).err()
    });
    let noticed = noticed.unwrap_or_else(|| panic!("nobody noticed {mutant:?} in 100 worlds"));
    println!("{mutant:?}: {noticed:.200}");
}

/// `SATCHEL_SIMULATION_SEEDS=FIRST..END` runs other worlds than the usual ones: a world of 20,000 turns takes about a second.
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

/// In this world somebody reads for longer than the grace, and the manifest that was an orphan as he began takes effect meanwhile: what he misses is
/// superfluous, and not lost.
#[test]
fn a_reader_who_is_slower_than_the_grace_begins_anew() {
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
    assert_noticed(Mutant::NoLookByOwner);
}

#[test]
fn a_savepoint_made_without_looking_for_condemnations_is_noticed() {
    assert_noticed(Mutant::NoLookByCreator);
}
