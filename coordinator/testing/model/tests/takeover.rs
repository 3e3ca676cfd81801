//! Owners of one log, in every order of events.

use satchel_model::check;
use satchel_model::takeover::{Mutant, Takeover};

fn world(processes: usize, deltas: u8, mutant: Option<Mutant>) -> Takeover {
    Takeover {
        processes,
        deltas,
        snapshots: 1,
        mutant,
    }
}

fn assert_nothing_breaks(processes: usize, deltas: u8) {
    let checked = check(world(processes, deltas, None));
    println!("{} states", checked.states);
    assert_eq!(checked.broken, []);
}

#[test]
fn what_was_called_durable_stays_whatever_two_processes_do() {
    assert_nothing_breaks(2, 2);
}

#[test]
#[ignore = "takes minutes without optimisation; see coordinator/docs/testing.md"]
fn what_was_called_durable_stays_whatever_three_processes_do() {
    assert_nothing_breaks(3, 1);
}

#[test]
#[ignore = "takes minutes without optimisation; see coordinator/docs/testing.md"]
fn leaving_any_rule_out_is_found() {
    for mutant in Mutant::ALL {
        let checked = check(world(3, 2, Some(mutant)));
        println!(
            "{mutant:?}: {} states: {:#?}",
            checked.states, checked.broken
        );
        assert!(!checked.broken.is_empty(), "{mutant:?} is not found");
    }
}
