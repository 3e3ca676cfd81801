//! Owners of one log, in every order of events.

use satchel_model::check;
use satchel_model::takeover::{Mutant, Takeover};

fn world(processes: usize, mutant: Option<Mutant>) -> Takeover {
    Takeover {
        processes,
        deltas: 2,
        snapshots: 1,
        mutant,
    }
}

fn assert_nothing_breaks(processes: usize) {
    let checked = check(world(processes, None));
    println!("{} states", checked.states);
    assert_eq!(checked.broken, []);
}

#[test]
fn what_was_called_durable_stays_whatever_two_processes_do() {
    assert_nothing_breaks(2);
}

/// Millions of states.
#[test]
#[ignore = "takes minutes without optimisation; part of the step `simulate` of .ci/run"]
fn what_was_called_durable_stays_whatever_three_processes_do() {
    assert_nothing_breaks(3);
}

#[test]
#[ignore = "takes a minute without optimisation; part of the step `simulate` of .ci/run"]
fn leaving_any_rule_out_is_found() {
    for mutant in Mutant::ALL {
        let checked = check(world(3, Some(mutant)));
        println!(
            "{mutant:?}: {} states: {:#?}",
            checked.states, checked.broken
        );
        assert!(!checked.broken.is_empty(), "{mutant:?} is not found");
    }
}
