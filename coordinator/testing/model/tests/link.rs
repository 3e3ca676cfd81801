//! Messages between two partitions, in every order of events.

use satchel_model::check;
use satchel_model::link::{Link, Mutant};

fn world(mutant: Option<Mutant>) -> Link {
    Link {
        messages: 2,
        connections: 2,
        mutant,
    }
}

#[test]
fn each_message_is_taken_once_in_order_whatever_happens() {
    let checked = check(world(None));
    println!("{} states", checked.states);
    assert_eq!(checked.broken, []);
}

#[test]
fn leaving_any_rule_out_is_found() {
    for mutant in Mutant::ALL {
        let checked = check(world(Some(mutant)));
        println!(
            "{mutant:?}: {} states: {:#?}",
            checked.states, checked.broken
        );
        assert!(!checked.broken.is_empty(), "{mutant:?} is not found");
    }
}
