//! A fork is held until a person lets it go on.

use super::scene::*;
use crate::durable::{Change, Hold, Key, Value};
use crate::input::Input;
use crate::output::{Delta, Output};
use crate::partition::Partition;
use crate::position::ShardPosition;
use crate::queue::{QueuedId, QueuedMessage};

const BEGINNING: ShardPosition = ShardPosition::Beginning;

/// What is left of an application when it is copied: record 7 is applied, "sent" has not arrived, a timer is due soon.
fn copied() -> Scene {
    let mut scene = Scene::new();
    scene.find_shard(BEGINNING);
    scene.settle();
    scene.read("alice", [7]);
    let batch = scene.batch();
    scene.complete(batch.attempt, emit("sent"));
    scene.send("bob", "later");
    let batch = scene.batch();
    scene.complete(
        batch.attempt,
        later_messages(vec![delayed("bob", 5_000, "ring", "")]),
    );
    scene.settle();
    assert_eq!(sent(&mut scene), ["sent"]);
    let hold = Hold {
        origin: "shop@monday".into(),
        since_ms: 1_000,
        filling: false,
    };
    scene.log.push(Delta {
        number: 1,
        committed_at_ms: scene.now_ms,
        clean: true,
        changes: vec![Change {
            key: Key::Hold,
            value: Some(Value::Hold(hold)),
        }],
    });
    scene.crash();
    scene.find_shard(BEGINNING);
    scene
}

fn sent(scene: &mut Scene) -> Vec<String> {
    let emissions = scene.emissions();
    emissions.iter().map(|sent| text_of(&sent.value)).collect()
}

fn is_held(partition: &Partition) -> bool {
    assert_eq!(partition.gauges().held, partition.held().is_some());
    partition.gauges().held
}

fn applied_through(number: u64) -> ShardPosition {
    ShardPosition::After {
        sequence: number.into(),
        sub_sequence: 0,
    }
}

#[test]
fn rule_16_under_a_hold_no_shard_is_read_no_timer_fires_and_nothing_leaves_over_restarts_too() {
    let mut scene = copied();
    for _ in 0..2 {
        assert!(is_held(&scene.partition));
        scene.later(10_000);
        scene.settle();
        assert_eq!(scene.outputs, [], "not a thing is wanted");
        assert_eq!(scene.partition.gauges().timers, 1);
        scene.crash();
        scene.find_shard(BEGINNING);
    }
}

#[test]
fn calls_are_served_under_a_hold_and_what_they_emit_and_set_is_held() {
    let mut scene = copied();
    let call = scene.call("carol", "hello");
    // The process before this one died: a message is tried when it is durable.
    scene.commit();
    let batch = scene.batch();
    let mut response = match emit("held").response.unwrap() {
        satchel_protocol::reqreply::from_function::Response::InvocationResult(result) => result,
        other => panic!("{other:?}"),
    };
    response
        .delayed_invocations
        .push(delayed("carol", 0, "at once", ""));
    response
        .outgoing_messages
        .push(message_to(batch.messages[0].caller.as_ref().unwrap(), "hi"));
    scene.complete(batch.attempt, effects(response));
    scene.commit();
    let answer = scene.answer_to(call).expect("the call is answered");
    assert!(format!("{answer:?}").starts_with("Replied("), "{answer:?}");
    scene.later(60_000);
    scene.settle();
    assert_eq!(scene.outputs, []);
    assert_eq!(scene.partition.gauges().outbox, 2);
    assert_eq!(scene.partition.gauges().timers, 2);
}

#[test]
fn what_was_held_goes_on_once_the_end_of_the_hold_is_durable_and_it_stays_ended() {
    let mut scene = copied();
    scene.later(10_000);
    scene.settle();
    scene.tell(Input::HoldLifted { drop_outbox: false });
    assert!(!is_held(&scene.partition));
    assert_eq!(texts(&scene.batch()), ["ring"], "the timer was due");
    assert_eq!(scene.outputs, [], "nothing leaves before it is durable");
    scene.commit();
    assert_eq!(sent(&mut scene), ["sent"]);
    assert_eq!(scene.reads(), [applied_through(7)]);

    scene.crash();
    assert!(!is_held(&scene.partition));
    scene.settle();
    assert_eq!(sent(&mut scene), ["sent"], "it was never acknowledged");
    // A flag that stays on the command line means nothing now.
    scene.tell(Input::HoldLifted { drop_outbox: true });
    scene.settle();
    assert_eq!(scene.partition.gauges().outbox, 1);
}

#[test]
fn an_end_of_the_hold_that_was_not_durable_did_not_happen() {
    let mut scene = copied();
    scene.tell(Input::HoldLifted { drop_outbox: true });
    scene.crash();
    assert!(is_held(&scene.partition));
    assert_eq!(scene.partition.gauges().outbox, 1);
    assert_eq!(scene.outputs, []);
}

#[test]
fn the_outbox_can_be_dropped_with_the_hold() {
    let mut scene = copied();
    scene.tell(Input::HoldLifted { drop_outbox: true });
    scene.commit();
    assert_eq!(sent(&mut scene), [""; 0]);
    assert_eq!(scene.partition.counts().dropped_records, 1);
    assert_eq!(scene.partition.gauges().pending_bytes, 0);
    scene.crash();
    assert_eq!(scene.partition.gauges().outbox, 0);
    scene.find_shard(BEGINNING);
    scene.settle();
    assert_eq!(scene.reads(), [applied_through(7)]);
    let number = scene.log.iter().flat_map(|delta| &delta.changes);
    let removed = number.filter(|change| change.key == Key::Hold && change.value.is_none());
    assert_eq!(removed.count(), 1);
}

#[test]
fn an_image_of_what_belongs_to_the_partition_holds_the_hold() {
    let mut scene = copied();
    scene.settle();
    let buckets = scene.config.buckets;
    scene.tell(Input::ImagesWanted(vec![buckets]));
    let image = scene.outputs.pop();
    let Some(Output::Image(image)) = image else {
        panic!("{image:?}");
    };
    let held = image.content.iter().find(|change| change.key == Key::Hold);
    assert!(
        held.is_some_and(|change| change.value.is_some()),
        "{held:?}"
    );
}

#[test]
fn a_queue_is_received_from_when_the_hold_is_lifted_and_nothing_is_taken_from_it_before() {
    let mut scene = copied();
    let ingress: std::sync::Arc<str> = "example/tasks".into();
    let received = Input::MessagesReceived {
        ingress: ingress.clone(),
        messages: vec![QueuedMessage {
            id: QueuedId([1; 16]),
            name: "message-1".into(),
            routed: Ok(vec![(address("alice"), value("1"))]),
        }],
        keep_ms: 1_000,
    };
    scene.tell(Input::QueueFound {
        ingress: ingress.clone(),
    });
    // It asks nobody, and its queue hands the message out again.
    scene.tell(received.clone());
    scene.settle();
    let receive = Output::Receive {
        ingress: ingress.clone(),
    };
    let taken = Output::Deletable {
        ingress,
        ids: vec![QueuedId([1; 16])],
    };
    assert!(!scene.outputs.contains(&receive));
    assert!(!scene.outputs.contains(&taken));
    assert_eq!(scene.partition.gauges().received_ids, 0);
    scene.tell(Input::HoldLifted { drop_outbox: false });
    scene.settle();
    assert!(scene.outputs.contains(&receive));
    scene.tell(received);
    scene.settle();
    assert!(scene.outputs.contains(&taken));
}
