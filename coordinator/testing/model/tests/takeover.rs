//! Owners of one log, in every order of events.

use satchel_model::check;
use satchel_model::takeover::{Mutant, Takeover};

fn world(mutant: Option<Mutant>) -> Takeover {
    Takeover {
        processes: std::env::var("PROCESSES").map_or(3, |n| n.parse().unwrap()),
        deltas: std::env::var("DELTAS").map_or(2, |n| n.parse().unwrap()),
        snapshots: 1,
        mutant,
    }
}

#[test]
fn what_was_called_durable_stays_whatever_happens() {
    let checked = check(world(None));
    println!("{} states", checked.states);
    assert_eq!(checked.broken, []);
}

#[test]
fn leaving_any_rule_out_is_found() {
    for mutant in Mutant::ALL {
        let checked = check(world(Some(mutant)));
        println!("{mutant:?}: {} states: {:#?}", checked.states, checked.broken);
        assert!(!checked.broken.is_empty(), "{mutant:?} is not found");
    }
}
