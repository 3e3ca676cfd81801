//! Random histories of owners over a store that loses requests and answers: the recovered state is
//! always the fold of the durable prefix.

use std::sync::Arc;

use satchel_log::{MemoryStore, MemoryTable};
use satchel_log_simulation::{Mutant, Plan, Report, run, run_in_table};

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

fn run_in_memory_table(plan: &Plan) -> Result<Report, String> {
    let objects = Arc::new(MemoryStore::new());
    run_in_table(plan, objects, Arc::new(MemoryTable::new()))
}

/// Runs worlds with their logs in a table whose owners make a mistake until one run fails: 3,000 at
/// most. `first` is a seed that notices it today.
fn assert_noticed_in_table(mutant: Mutant, turns: u64, first: u64) {
    let noticed = (first..first + 3_000).find_map(|seed| {
        let plan = Plan {
            mutant: Some(mutant),
            turns,
            ..plan(seed)
        };
        run_in_memory_table(&plan).err()
    });
    let noticed = noticed.unwrap_or_else(|| panic!("no run of 3,000 noticed {mutant:?}"));
    println!("{mutant:?}, {noticed:.300}");
}

/// `SATCHEL_SIMULATION_SEEDS=FIRST..END` selects other worlds. A world of 20,000 turns takes about
/// a second.
fn seeds() -> std::ops::Range<u64> {
    satchel_log_simulation::seeds(0..30)
}

#[test]
fn whatever_happens_the_recovered_state_is_the_fold_of_the_durable_prefix() {
    assert_worth_running(seeds().map(run_in_memory));
}

#[test]
fn the_same_holds_with_the_log_in_a_table() {
    let seeds = satchel_log_simulation::seeds(0..6);
    let run = |seed| run_in_memory_table(&plan(seed)).unwrap_or_else(|broken| panic!("{broken}"));
    assert_worth_running(seeds.map(run));
}

/// Checks that the worlds are worth running: owners follow each other, commit, and snapshot.
fn assert_worth_running(reports: impl Iterator<Item = Report>) {
    let mut total = Report::default();
    let mut count = 0;
    for report in reports {
        count += 1;
        total.acknowledged += report.acknowledged;
        total.takeovers += report.takeovers;
        total.snapshots += report.snapshots;
        total.loads += report.loads;
        total.savepoints.0 += report.savepoints.0;
        total.savepoints.1 += report.savepoints.1;
        total.requests += report.requests;
    }
    println!("{total:?}");
    let (created, read) = total.savepoints;
    assert!(total.takeovers > 5 * count, "{total:?}");
    assert!(total.snapshots > count, "{total:?}");
    assert!(created > count && read > count, "{total:?}");
    assert!(total.loads > 10 * count, "{total:?}");
    assert!(total.acknowledged > 100 * count, "{total:?}");
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

#[test]
fn a_pointer_that_is_put_before_its_body_is_noticed() {
    assert_noticed_in_table(Mutant::PointerBeforeBody, 3_000, 4);
}

#[test]
fn a_body_that_is_collected_before_its_pointer_comes_is_noticed() {
    assert_noticed_in_table(Mutant::BodyBeforeItsPointerCollected, 20_000, 0);
}

#[test]
fn items_that_are_deleted_before_they_are_archived_durably_are_noticed() {
    assert_noticed_in_table(Mutant::ItemsDeletedBeforeArchived, 20_000, 13);
}

#[test]
fn an_item_that_is_read_instead_of_the_archived_one_is_noticed() {
    assert_noticed_in_table(Mutant::ItemBeatsArchived, 20_000, 19);
}

#[test]
fn an_item_that_is_put_without_a_condition_is_noticed() {
    assert_noticed_in_table(Mutant::UnconditionalPut, 3_000, 0);
}
