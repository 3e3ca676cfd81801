//! Credit, congestion, and messages that are not sent or not served.

use super::super::fixture::*;
use super::pair::*;
use crate::address::{Address, FunctionType};
use crate::input::{Administration, Input, Record};
use crate::output::{Answer, Output};
use crate::partition::Limits;
use crate::position::ShardPosition;

#[test]
fn rule_23_credit_depends_on_runnable_mailboxes_and_not_on_messages_for_others() {
    let mut pair = Pair::with(|config| config.pending_bytes_max = 4_000);
    let credit = |pair: &mut Pair| {
        pair.connect(0);
        pair.greeting.unwrap().credit
    };
    assert_eq!(credit(&mut pair), 2_000);
    // Partition 1 is full of messages for partition 0, which does not take them.
    let (from, to) = (id(1, 0), address(&id(0, 0)));
    pair.sides[1].send(&from, "go");
    let batch = pair.sides[1].batch();
    let messages = (0..50).map(|_| message_to(&to, "something")).collect();
    pair.sides[1].complete(batch.attempt, sending(messages));
    pair.sides[1].settle();
    assert!(pair.sides[1].partition.gauges().peer_bytes > 4_000);
    assert_eq!(credit(&mut pair), 2_000);
    // Its own mailboxes take credit away.
    let (from, to) = (id(1, 1), address(&id(1, 2)));
    let own = Administration::PauseFunction {
        function: to.function.clone(),
        reason: "".into(),
    };
    let enqueue = |pair: &mut Pair| {
        let record = Record {
            sequence: 7.into(),
            sub_sequence: 0,
            trace: None,
            headers: None,
            key: from.as_str().into(),
            routed: Ok((0..15).map(|_| (to.clone(), value("something"))).collect()),
        };
        pair.sides[1].find_shard(ShardPosition::Beginning);
        pair.sides[1].handle(Input::RecordsRead {
            shard: shard(),
            records: vec![record],
        });
        pair.sides[1].settle();
    };
    enqueue(&mut pair);
    assert_eq!(credit(&mut pair), 0);
    // Messages that wait for a person do not, below the limit.
    let batch = pair.sides[1].batch();
    assert_eq!(pair.sides[1].administer(own), Some(Answer::Done));
    pair.sides[1].fail(batch.attempt, "busy");
    pair.sides[1].later(2_000);
    pair.sides[1].settle();
    assert!(credit(&mut pair) > 0);
}

#[test]
fn rule_47_a_partition_without_credit_gets_some_as_soon_as_there_is_room() {
    let mut pair = Pair::with(|config| {
        config.pending_bytes_max = 4_000;
        config.peer_frame_bytes = 1_000;
    });
    let numbers: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
    pair.connect(0);
    pair.carry();
    pair.send(&numbers);
    let mut seen = Vec::new();
    for _ in 0..40 {
        pair.sides[0].settle();
        pair.carry();
        pair.sides[1].settle();
        let mailboxes = pair.sides[1].partition.pending_bytes();
        assert!(mailboxes < 4_000 + 1_200, "{mailboxes} bytes");
        for batch in pair.sides[1].batches() {
            seen.append(&mut texts(&batch));
            pair.sides[1].complete(batch.attempt, nothing());
        }
    }
    assert_eq!(seen, numbers);
    assert_eq!(pair.sides[0].partition.gauges().peer_bytes, 0);
}

fn said(side: &mut Fixture) -> Vec<bool> {
    side.take(|output| match output {
        Output::Congested(congested) => Some(*congested),
        _ => None,
    })
}

#[test]
fn rule_41_a_partition_whose_limit_falls_does_not_make_the_others_wait() {
    let mut pair = Pair::with(|config| {
        config.pending_bytes_max = 100_000;
        config.peer_bytes_max = Some(100_000);
    });
    let texts: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    pair.send(&texts);
    // Another partition of the process is full.
    let limits = Limits {
        pending_bytes_max: 2_000,
        ..pair.sides[0].config.limits()
    };
    pair.sides[0].handle(Input::LimitsChanged(limits));
    pair.sides[0].settle();
    assert!(pair.sides[0].partition.gauges().peer_bytes > 2_000);
    assert!(pair.sides[0].partition.gauges().ingress_paused);
    assert_eq!(said(&mut pair.sides[0]), [false; 0]);
}

#[test]
fn rule_41_a_partition_with_too_much_for_others_makes_ingress_and_callers_wait() {
    let mut pair = Pair::with(|config| config.pending_bytes_max = 10_000);
    let texts: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    pair.send(&texts);
    pair.sides[0].settle();
    assert_eq!(said(&mut pair.sides[0]), [true]);
    assert!(pair.sides[0].partition.gauges().ingress_paused);
    let request = pair.sides[0].send(&id(0, 3), "hello");
    assert_eq!(pair.sides[0].answer_to(request), Some(Answer::Overloaded));
    pair.sides[1].handle(Input::ApplicationCongested(true));
    assert!(pair.sides[1].partition.gauges().ingress_paused);
    let request = pair.sides[1].send(&id(1, 3), "hello");
    assert_eq!(pair.sides[1].answer_to(request), Some(Answer::Overloaded));

    pair.connect(0);
    for _ in 0..10 {
        pair.carry();
        for batch in pair.sides[1].batches() {
            pair.sides[1].complete(batch.attempt, nothing());
        }
        pair.sides[1].settle();
        pair.carry();
        pair.sides[0].settle();
    }
    assert_eq!(said(&mut pair.sides[0]), [false]);
    assert!(!pair.sides[0].partition.gauges().ingress_paused);
    pair.sides[1].handle(Input::ApplicationCongested(false));
    assert!(!pair.sides[1].partition.gauges().ingress_paused);
}

#[test]
fn a_message_that_no_receiver_could_take_is_a_dead_letter_without_a_number() {
    let mut pair = Pair::new();
    pair.connect(0);
    pair.carry();
    let large = "x".repeat(10_000);
    pair.send(&["one", &large, "two"]);
    pair.sides[0].settle();
    let sent = frames(&mut pair.sides[0]);
    assert_eq!(frame_texts(&sent[0].2), ["one", "two"]);
    let letters = pair.sides[0].dead_letters();
    assert_eq!(letters.len(), 1);
    assert!(
        letters[0].1.contains("the endpoint takes 10000"),
        "{letters:?}"
    );
}

#[test]
fn a_function_that_nothing_serves_is_the_receivers_dead_letter_and_acknowledged() {
    let mut pair = Pair::new();
    pair.connect(0);
    pair.carry();
    pair.sides[0].send(&id(0, 0), "go");
    let batch = pair.sides[0].batch();
    let unknown = Address::new(FunctionType::new("other", "function"), id(1, 0));
    pair.sides[0].complete(batch.attempt, sending(vec![message_to(&unknown, "lost")]));
    pair.sides[0].settle();
    pair.carry();
    pair.sides[1].settle();
    pair.carry();
    assert_eq!(pair.sides[0].partition.gauges().peer_bytes, 0);
    assert_eq!(pair.sides[0].dead_letters(), []);
    assert_eq!(pair.sides[1].dead_letters()[0].0, "lost");
}

#[test]
fn requests_for_an_address_of_another_partition_are_not_accepted() {
    let mut pair = Pair::new();
    let elsewhere = Some(Answer::Elsewhere { partition: 1 });
    let request = pair.sides[0].send(&id(1, 0), "hello");
    assert_eq!(pair.sides[0].answer_to(request), elsewhere);
    let set = Administration::SetState {
        address: address(&id(1, 0)),
        state: "seen".into(),
        value: value("x"),
    };
    assert_eq!(pair.sides[0].administer(set), elsewhere);
    pair.sides[0].settle();
    assert_eq!(pair.sides[0].log.len(), 0);
}
