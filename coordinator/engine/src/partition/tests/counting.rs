//! What is counted as it goes. Every scene is audited after each fact, so most stories here only go where a count could drift.

use satchel_protocol::reqreply::from_function::expiration_spec::ExpireMode;
use satchel_protocol::reqreply::from_function::{InvocationResponse, PersistedValueMutation};

use super::scene::{Scene, address, effects, nothing, reply, set_seen};
use crate::input::Administration;

#[test]
fn a_value_that_is_deleted_is_not_remembered_until_it_would_have_expired() {
    let mut scene = Scene::new();
    for id in ["alice", "bob", "carol"] {
        scene.send(id, "1");
        let batch = scene.batch();
        if id == "alice" {
            scene.declare(batch.attempt, ExpireMode::AfterWrite, 3_600_000);
            let batch = scene.batch();
            scene.complete(batch.attempt, set_seen("x"));
        } else {
            scene.complete(batch.attempt, set_seen("x"));
        }
    }
    let on_agenda = |scene: &Scene| scene.partition.agenda.iter_others().count();
    assert_eq!(on_agenda(&scene), 3);
    scene.send("bob", "2");
    let batch = scene.batch();
    let deletion = PersistedValueMutation {
        state_name: "seen".into(),
        ..Default::default()
    };
    scene.complete(
        batch.attempt,
        effects(InvocationResponse {
            state_mutations: vec![deletion],
            ..Default::default()
        }),
    );
    scene.administer(Administration::DeleteState {
        address: address("carol"),
        state: "seen".into(),
    });
    scene.settle();
    assert_eq!(on_agenda(&scene), 1, "alice's value is still to expire");
    assert_eq!(scene.seen("alice").as_deref(), Some("x"));
}

#[test]
fn recovered_dead_letters_pin_their_bucket_from_the_beginning() {
    let mut scene = Scene::new();
    scene.send("alice", "1");
    while scene.partition.counts().dead_letters == 0 {
        let batch = scene.batch();
        scene.fail(batch.attempt, "poison");
        scene.later(1_000);
    }
    scene.settle();
    assert_eq!(scene.dead_letters().len(), 1);
    let pinned_bytes = scene.partition.gauges().pinned_bytes;
    scene.take_over();
    let gauges = scene.partition.gauges();
    assert!(pinned_bytes > 0 && gauges.pinned_bytes > 0, "{gauges:?}");
    assert_eq!(gauges.pinned_bytes, gauges.state_bytes);
}

#[test]
fn the_room_of_a_backlog_is_given_back_though_something_else_lives_at_the_address() {
    let mut scene = Scene::new();
    scene.call_with_key("alice", "first", "key");
    let batch = scene.batch();
    scene.settle();
    let before = scene.partition.gauges().state_bytes;
    for number in 0..1_000 {
        scene.send("alice", &number.to_string());
    }
    scene.settle();
    assert!(scene.partition.gauges().state_bytes > before + 100_000);
    scene.complete(batch.attempt, reply(&batch, "done"));
    while let [batch] = &scene.batches()[..] {
        scene.complete(batch.attempt, nothing());
        scene.settle();
    }
    let after = scene.partition.gauges().state_bytes;
    assert!(after < before + 1_000, "{before} bytes, then {after}");
}
