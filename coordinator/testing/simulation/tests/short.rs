//! The short form of the simulation: some hundred seeds, the same trace twice, and the mutants that
//! a few seeds catch. `simulate --mutant NAME` runs as many seeds as the other mutants need.

use satchel_simulation::{Mutant, Plan, Report, run};

fn plan(seed: u64) -> Plan {
    Plan { seed, mutant: None }
}

#[test]
fn under_any_faults_everything_takes_effect_exactly_once_and_in_order() {
    let mut total = Report::default();
    for seed in 1..=200 {
        match run(&plan(seed), false) {
            Ok((report, _)) => total.add(&report),
            Err(failure) => panic!(
                "seed {seed}: {}\nto replay it: \
                 cargo run --release --bin simulate -- --seed {seed} --trace",
                failure.what
            ),
        }
    }
    println!("{total:?}");
    // The worlds must be worth running.
    assert!(total.takeovers > 1_000, "{total:?}");
    assert!(total.fenced > 100, "{total:?}");
    assert!(total.snapshots > 500, "{total:?}");
    assert!(total.collected > 1_000, "{total:?}");
    assert!(total.void > 0, "{total:?}");
    assert!(total.clean > 0, "{total:?}");
    assert!(total.kills > 50, "{total:?}");
    assert!(total.operations > 3_000, "{total:?}");
    assert!(total.stale_answers > 100, "{total:?}");
    assert!(total.repeated_records > 100, "{total:?}");
    assert!(total.timers_fired > 100, "{total:?}");
    assert!(total.expired > 100, "{total:?}");
    assert!(total.dead_letters > 100, "{total:?}");
    assert!(total.rejected > 50, "{total:?}");
    assert!(total.retried_in_bulk > 20, "{total:?}");
    assert!(total.reshardings > 100, "{total:?}");
    assert!(total.emitted_again > 10, "{total:?}");
    assert!(total.savepoints_made > 200, "{total:?}");
    assert!(total.savepoints_read > 200, "{total:?}");
    assert!(total.savepoint_lists > 100, "{total:?}");
    assert!(total.moments_read > 200, "{total:?}");
    assert!(total.moments_refused > 20, "{total:?}");
    assert!(total.forks > 10, "{total:?}");
    assert!(total.imports > 2, "{total:?}");
    assert!(total.forks_refused > 20, "{total:?}");
    assert!(total.deploys > 100, "{total:?}");
    assert!(total.peer_worlds == 50, "{total:?}");
    assert!(total.peer_connections > 2_000, "{total:?}");
    assert!(total.peer_messages > 3_000, "{total:?}");
    assert!(total.moments_checked > 2_000, "{total:?}");
}

#[test]
fn a_seed_run_twice_gives_the_same_trace() {
    for seed in 1..=10 {
        let first = run(&plan(seed), true).expect("no law is broken");
        let second = run(&plan(seed), true).expect("no law is broken");
        assert!(first.1.len() > 10, "seed {seed}");
        assert_eq!(first, second, "seed {seed}");
    }
}

#[test]
fn most_mutants_are_caught_by_one_of_a_few_seeds() {
    let survives = |mutant| {
        let plan = |seed| Plan {
            seed,
            mutant: Some(mutant),
        };
        (1..=10).all(|seed| run(&plan(seed), false).is_ok())
    };
    let surviving = Mutant::ALL.iter().filter(|(_, mutant)| survives(*mutant));
    let surviving: Vec<&str> = surviving.map(|(name, _)| *name).collect();
    assert!(
        surviving.len() * 4 < Mutant::ALL.len(),
        "these survive: {surviving:?}"
    );
}
