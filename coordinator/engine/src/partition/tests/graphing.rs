//! The graph of the application as observed.

use std::sync::Arc;

use satchel_protocol::reqreply::from_function::{DelayedInvocation, InvocationResponse};

use super::fixture::*;
use crate::address::{Address, FunctionType};
use crate::input::{Administration, Input, Record};
use crate::output::{Answer, FlightView};
use crate::partition::{GraphEdge, GraphNode, NodeKind};
use crate::position::ShardPosition;

fn node(name: &str) -> GraphNode {
    let (kind, name) = name.split_once(' ').unwrap_or((name, ""));
    let kind = match kind {
        "ingress" => NodeKind::Ingress,
        "callers" => NodeKind::Callers,
        "function" => NodeKind::Function,
        "egress" => NodeKind::Egress,
        kind => panic!("{kind}"),
    };
    GraphNode {
        kind,
        name: name.to_owned(),
    }
}

fn edges(expected: &[(&str, &str, u64)]) -> Vec<GraphEdge> {
    let edges = expected.iter().map(|(from, to, messages)| GraphEdge {
        from: node(from),
        to: node(to),
        messages: *messages,
    });
    let mut edges: Vec<_> = edges.collect();
    edges.sort();
    edges
}

#[test]
fn messages_count_where_they_are_made_and_each_once() {
    let mut fixture = Fixture::new();
    fixture.find_shard(ShardPosition::Beginning);
    fixture.commit();
    fixture.read("alice", 1..=3);
    // A record that was applied before is no message.
    fixture.read("alice", 3..=3);
    let batch = fixture.batch();
    let elsewhere = Address::new(FunctionType::new("example", "other"), "x");
    let answer = InvocationResponse {
        outgoing_messages: vec![message_to(&elsewhere, "one"), message_to(&elsewhere, "two")],
        delayed_invocations: vec![
            delayed("bob", 1_000, "later", "token"),
            cancellation("token"),
            DelayedInvocation {
                target: Some(elsewhere.to_wire()),
                ..delayed("bob", 1_000, "later", "")
            },
        ],
        outgoing_egresses: vec![egress("out", "record")],
        ..InvocationResponse::default()
    };
    fixture.complete(batch.attempt, effects(answer));
    let call = fixture.call("bob", "hello");
    let batches = fixture.batches();
    let asked = batches.iter().find(|batch| *batch.target.id == *"bob");
    let asked = asked.expect("the call is under way");
    fixture.complete(asked.attempt, reply(asked, "hi"));
    fixture.send("bob", "bye");
    fixture.commit();
    assert_eq!(fixture.answer_to(call), Some(Answer::Replied(value("hi"))));
    let greeter = "function example/greeter";
    let view = fixture.partition.graph();
    let expected = edges(&[
        ("ingress example/in", greeter, 3),
        (greeter, "function example/other", 3),
        (greeter, greeter, 1),
        (greeter, "egress example/out", 1),
        ("callers", greeter, 2),
        (greeter, "callers", 1),
    ]);
    assert_eq!(view.edges, expected);
    assert_eq!(view.other, 0);
    fixture.crash();
    assert_eq!(fixture.partition.graph().edges, [], "it is an observation");
}

#[test]
fn an_answer_that_is_not_applied_counts_nothing() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "hello");
    let batch = fixture.batch();
    let answer = InvocationResponse {
        outgoing_messages: vec![message_to(&address("bob"), "one")],
        outgoing_egresses: vec![egress("unknown", "record")],
        ..InvocationResponse::default()
    };
    fixture.complete(batch.attempt, effects(answer));
    let expected = edges(&[("callers", "function example/greeter", 1)]);
    assert_eq!(fixture.partition.graph().edges, expected);
}

#[test]
fn edges_beyond_the_limit_and_with_huge_names_count_together() {
    let mut fixture = Fixture::new();
    fixture.find_shard(ShardPosition::Beginning);
    fixture.commit();
    let record = |number: u64, name: String| Record {
        sequence: number.into(),
        sub_sequence: 0,
        trace: None,
        headers: None,
        key: "k".into(),
        routed: Ok(vec![(
            Address::new(FunctionType::new("example", &name), "x"),
            value("v"),
        )]),
    };
    let named = (0..600).map(|number| record(number + 1, format!("f{number}")));
    let huge = record(601, "x".repeat(2_000));
    fixture.handle(Input::RecordsRead {
        shard: shard(),
        records: named.chain([huge]).collect(),
    });
    let view = fixture.partition.graph();
    assert_eq!((view.edges.len(), view.other), (512, 89));
    assert!(view.edges.iter().all(|edge| edge.messages == 1));
    fixture.handle(Input::RecordsRead {
        shard: shard(),
        records: vec![record(602, "f0".to_owned()), record(603, "f599".to_owned())],
    });
    let view = fixture.partition.graph();
    assert_eq!((view.edges.len(), view.other), (512, 90));
}

#[test]
fn a_mailbox_is_shown_message_by_message_with_what_it_waits_for() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "one");
    let batch = fixture.batch();
    fixture.later(50);
    for text in ["two", "three"] {
        fixture.send("alice", text);
    }
    let show = |fixture: &mut Fixture, after, limit| {
        let address = address("alice");
        let asked = Administration::ShowMailbox {
            address,
            after,
            limit,
        };
        match fixture.administer(asked) {
            Some(Answer::Mailbox(view)) => *view,
            other => panic!("{other:?}"),
        }
    };
    let view = show(&mut fixture, None, 2);
    let texts: Vec<_> = view
        .messages
        .iter()
        .map(|it| text_of(&it.message))
        .collect();
    assert_eq!(
        (texts, view.more),
        (vec!["one".to_owned(), "two".to_owned()], true)
    );
    let flight = FlightView {
        messages: 1,
        since_ms: 1_000,
    };
    assert_eq!(view.in_flight, Some(flight));
    assert_eq!(
        Arc::from(view.messages[0].id.to_string()),
        batch.messages[0].id
    );
    let rest = show(&mut fixture, Some(view.messages[1].number), 2);
    let texts: Vec<_> = rest
        .messages
        .iter()
        .map(|it| text_of(&it.message))
        .collect();
    assert_eq!((texts, rest.more), (vec!["three".to_owned()], false));

    fixture.fail(batch.attempt, "no");
    let view = show(&mut fixture, None, 1);
    let next_try_ms = view.next_try_ms.expect("it tries again later");
    assert!((1_100..=1_150).contains(&next_try_ms), "{next_try_ms}");
    assert_eq!(view.in_flight, None);
    fixture.later(1_000);
    let again = fixture.batch();
    let later = later_messages(vec![
        delayed("bob", 2_000, "second", ""),
        delayed("alice", 1_000, "first", "token"),
    ]);
    fixture.complete(again.attempt, later);
    let view = show(&mut fixture, None, 10);
    let due: Vec<_> = view
        .timers
        .iter()
        .map(|it| it.due_ms - fixture.now_ms)
        .collect();
    assert_eq!((due, view.timers_total), (vec![1_000, 2_000], 2));
    let asked = Administration::ShowMailbox {
        address: address("unknown"),
        after: None,
        limit: 1,
    };
    assert!(matches!(
        fixture.administer(asked),
        Some(Answer::NotFound(_))
    ));
}
