//! A fork is held until an operator releases it.

use super::fixture::*;
use crate::durable::{Change, Hold, Key, Value};
use crate::input::Input;
use crate::output::{Delta, Output};
use crate::partition::Partition;
use crate::position::ShardPosition;
use crate::queue::{QueuedId, QueuedMessage};

const BEGINNING: ShardPosition = ShardPosition::Beginning;

/// State of an application when it is copied: record 7 is applied, "sent" was not delivered, and a
/// timer is due soon.
fn copied() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.find_shard(BEGINNING);
    fixture.settle();
    fixture.read("alice", [7]);
    let batch = fixture.batch();
    fixture.complete(batch.attempt, emit("sent"));
    fixture.send("bob", "later");
    let batch = fixture.batch();
    fixture.complete(
        batch.attempt,
        later_messages(vec![delayed("bob", 5_000, "ring", "")]),
    );
    fixture.settle();
    assert_eq!(sent(&mut fixture), ["sent"]);
    let hold = Hold {
        origin: "shop@monday".into(),
        since_ms: 1_000,
        filling: false,
    };
    fixture.log.push(Delta {
        number: 1,
        committed_at_ms: fixture.now_ms,
        clean: true,
        changes: vec![Change {
            key: Key::Hold,
            value: Some(Value::Hold(hold)),
        }],
    });
    fixture.crash();
    fixture.find_shard(BEGINNING);
    fixture
}

fn sent(fixture: &mut Fixture) -> Vec<String> {
    let emissions = fixture.emissions();
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
    let mut fixture = copied();
    for _ in 0..2 {
        assert!(is_held(&fixture.partition));
        fixture.later(10_000);
        fixture.settle();
        assert_eq!(fixture.outputs, [], "no output follows");
        assert_eq!(fixture.partition.gauges().timers, 1);
        fixture.crash();
        fixture.find_shard(BEGINNING);
    }
}

#[test]
fn calls_are_served_under_a_hold_but_their_records_and_timers_are_held() {
    let mut fixture = copied();
    let call = fixture.call("carol", "hello");
    // The process before this one died, so a message is tried once it is durable.
    fixture.commit();
    let batch = fixture.batch();
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
    fixture.complete(batch.attempt, effects(response));
    fixture.commit();
    let answer = fixture.answer_to(call).expect("the call is answered");
    assert!(format!("{answer:?}").starts_with("Replied("), "{answer:?}");
    fixture.later(60_000);
    fixture.settle();
    assert_eq!(fixture.outputs, []);
    assert_eq!(fixture.partition.gauges().outbox, 2);
    assert_eq!(fixture.partition.gauges().timers, 2);
}

#[test]
fn held_effects_continue_once_the_lifted_hold_is_durable() {
    let mut fixture = copied();
    fixture.later(10_000);
    fixture.settle();
    fixture.handle(Input::HoldLifted { drop_outbox: false });
    assert!(!is_held(&fixture.partition));
    assert_eq!(texts(&fixture.batch()), ["ring"], "the timer was due");
    assert_eq!(fixture.outputs, [], "nothing leaves before it is durable");
    fixture.commit();
    assert_eq!(sent(&mut fixture), ["sent"]);
    assert_eq!(fixture.reads(), [applied_through(7)]);

    fixture.crash();
    assert!(!is_held(&fixture.partition));
    fixture.settle();
    assert_eq!(sent(&mut fixture), ["sent"], "it was never acknowledged");
    // A flag that stays on the command line has no effect now.
    fixture.handle(Input::HoldLifted { drop_outbox: true });
    fixture.settle();
    assert_eq!(fixture.partition.gauges().outbox, 1);
}

#[test]
fn a_lifted_hold_that_was_not_durable_is_still_in_place() {
    let mut fixture = copied();
    fixture.handle(Input::HoldLifted { drop_outbox: true });
    fixture.crash();
    assert!(is_held(&fixture.partition));
    assert_eq!(fixture.partition.gauges().outbox, 1);
    assert_eq!(fixture.outputs, []);
}

#[test]
fn the_outbox_can_be_dropped_with_the_hold() {
    let mut fixture = copied();
    fixture.handle(Input::HoldLifted { drop_outbox: true });
    fixture.commit();
    assert_eq!(sent(&mut fixture), [""; 0]);
    assert_eq!(fixture.partition.counts().dropped_records, 1);
    assert_eq!(fixture.partition.gauges().pending_bytes, 0);
    fixture.crash();
    assert_eq!(fixture.partition.gauges().outbox, 0);
    fixture.find_shard(BEGINNING);
    fixture.settle();
    assert_eq!(fixture.reads(), [applied_through(7)]);
    let number = fixture.log.iter().flat_map(|delta| &delta.changes);
    let removed = number.filter(|change| change.key == Key::Hold && change.value.is_none());
    assert_eq!(removed.count(), 1);
}

#[test]
fn the_partition_wide_image_contains_the_hold() {
    let mut fixture = copied();
    fixture.settle();
    let buckets = fixture.config.placement.buckets();
    fixture.handle(Input::ImagesWanted(vec![buckets]));
    let image = fixture.outputs.pop();
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
fn a_queue_is_received_from_only_after_the_hold_is_lifted() {
    let mut fixture = copied();
    let ingress: std::sync::Arc<str> = "example/tasks".into();
    let received = Input::MessagesReceived {
        ingress: ingress.clone(),
        messages: vec![QueuedMessage {
            id: QueuedId([1; 16]),
            name: "message-1".into(),
            routed: Ok(vec![(address("alice"), value("1"))]),
            trace: None,
        }],
        keep_ms: 1_000,
    };
    fixture.handle(Input::QueueFound {
        ingress: ingress.clone(),
    });
    // The partition requests nothing, and its queue redelivers the message.
    fixture.handle(received.clone());
    fixture.settle();
    let receive = Output::Receive {
        ingress: ingress.clone(),
    };
    let taken = Output::Deletable {
        ingress,
        ids: vec![QueuedId([1; 16])],
    };
    assert!(!fixture.outputs.contains(&receive));
    assert!(!fixture.outputs.contains(&taken));
    assert_eq!(fixture.partition.gauges().received_ids, 0);
    fixture.handle(Input::HoldLifted { drop_outbox: false });
    fixture.settle();
    assert!(fixture.outputs.contains(&receive));
    fixture.handle(received);
    fixture.settle();
    assert!(fixture.outputs.contains(&taken));
}
