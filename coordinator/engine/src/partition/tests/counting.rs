//! Running counters. Every fixture is audited after each input, so most tests here only provoke
//! situations in which a counter could drift.

use satchel_protocol::reqreply::from_function::expiration_spec::ExpireMode;
use satchel_protocol::reqreply::from_function::{InvocationResponse, PersistedValueMutation};

use super::fixture::{Fixture, address, effects, nothing, reply, set_seen};
use crate::input::Administration;

#[test]
fn a_deleted_value_leaves_no_entry_in_the_schedule() {
    let mut fixture = Fixture::new();
    for id in ["alice", "bob", "carol"] {
        fixture.send(id, "1");
        let batch = fixture.batch();
        if id == "alice" {
            fixture.declare(batch.attempt, ExpireMode::AfterWrite, 3_600_000);
            let batch = fixture.batch();
            fixture.complete(batch.attempt, set_seen("x"));
        } else {
            fixture.complete(batch.attempt, set_seen("x"));
        }
    }
    let on_schedule = |fixture: &Fixture| fixture.partition.schedule.iter_others().count();
    assert_eq!(on_schedule(&fixture), 3);
    fixture.send("bob", "2");
    let batch = fixture.batch();
    let deletion = PersistedValueMutation {
        state_name: "seen".into(),
        ..Default::default()
    };
    fixture.complete(
        batch.attempt,
        effects(InvocationResponse {
            state_mutations: vec![deletion],
            ..Default::default()
        }),
    );
    fixture.administer(Administration::DeleteState {
        address: address("carol"),
        state: "seen".into(),
    });
    fixture.settle();
    assert_eq!(on_schedule(&fixture), 1, "alice's value is still to expire");
    assert_eq!(fixture.seen("alice").as_deref(), Some("x"));
}

#[test]
fn recovered_dead_letters_are_counted_and_pin_nothing() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "1");
    while fixture.partition.counts().dead_letters == 0 {
        let batch = fixture.batch();
        fixture.fail(batch.attempt, "poison");
        fixture.later(1_000);
    }
    fixture.settle();
    assert_eq!(fixture.dead_letters().len(), 1);
    let before = fixture.partition.gauges();
    assert!(before.dead_letter_bytes > 0, "{before:?}");
    fixture.take_over();
    let gauges = fixture.partition.gauges();
    assert_eq!(gauges.dead_letter_bytes, before.dead_letter_bytes);
    assert_eq!((gauges.dead_letters, gauges.pinned_bytes), (1, 0));
}

#[test]
fn the_capacity_of_a_backlog_is_released_though_the_address_stays_active() {
    let mut fixture = Fixture::new();
    fixture.call_with_key("alice", "first", "key");
    let batch = fixture.batch();
    fixture.settle();
    let before = fixture.partition.gauges().state_bytes;
    for number in 0..1_000 {
        fixture.send("alice", &number.to_string());
    }
    fixture.settle();
    assert!(fixture.partition.gauges().state_bytes > before + 100_000);
    fixture.complete(batch.attempt, reply(&batch, "done"));
    while let [batch] = &fixture.batches()[..] {
        fixture.complete(batch.attempt, nothing());
        fixture.settle();
    }
    let after = fixture.partition.gauges().state_bytes;
    assert!(after < before + 1_000, "{before} bytes, then {after}");
}
