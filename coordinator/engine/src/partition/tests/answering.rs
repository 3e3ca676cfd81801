//! Answers: one transaction each, released when durable.

use satchel_protocol::reqreply::from_function::{InvocationResponse, expiration_spec::ExpireMode};

use super::scene::*;
use crate::address::Address;
use crate::input::{EgressMark, Input};
use crate::invocation::AttemptId;
use crate::output::{Answer, Output};

#[test]
fn a_call_is_answered_when_the_state_behind_the_answer_is_durable_and_not_before() {
    let mut scene = Scene::new();
    let request = scene.call("alice", "hello");
    let first = scene.batch();
    assert_eq!(
        (texts(&first), first.state.len()),
        (vec!["hello".to_owned()], 0)
    );
    scene.declare(first.attempt, ExpireMode::None, 0);
    let second = scene.batch();
    assert_eq!(
        second.state.len(),
        1,
        "the same message again, with the declared state"
    );
    assert_eq!(second.messages, first.messages);
    let caller = second.messages[0].caller.clone().unwrap();
    scene.complete(
        second.attempt,
        effects(InvocationResponse {
            outgoing_messages: vec![message_to(&caller, "hi")],
            state_mutations: vec![mutation("seen", "t/text", "1")],
            ..Default::default()
        }),
    );
    assert_eq!(scene.answers(), []);
    assert_eq!(
        scene.sealed.len(),
        1,
        "sealed at once, because a reply waits"
    );
    scene.commit();
    assert_eq!(scene.answers(), [(request, Answer::Replied(value("hi")))]);
    assert_eq!(scene.seen("alice").as_deref(), Some("1"));
}

#[test]
fn one_batch_is_in_flight_and_what_arrives_meanwhile_goes_together_in_the_next() {
    let mut scene = Scene::new();
    scene.send("alice", "1");
    let first = scene.batch();
    scene.send("alice", "2");
    scene.send("alice", "3");
    scene.send("bob", "4");
    assert_eq!(
        texts(&scene.batch()),
        ["4"],
        "another address does not wait"
    );
    scene.complete(first.attempt, nothing());
    assert_eq!(texts(&scene.batch()), ["2", "3"]);
}

#[test]
fn a_chain_of_hops_needs_one_commit_and_leaves_no_trace_of_the_messages_between() {
    let mut scene = Scene::new();
    scene.tell(Input::TimeReached);
    let request = scene.call("hop-0", "go");
    let mut batch = scene.batch();
    let caller = batch.messages[0].caller.clone().unwrap();
    for hop in 1..=10 {
        let next = address(&format!("hop-{hop}"));
        let hand_on = InvocationResponse {
            outgoing_messages: vec![message_to(&next, "go on")],
            ..Default::default()
        };
        scene.complete(batch.attempt, effects(hand_on));
        batch = scene.batch();
    }
    assert_eq!(scene.sealed, [], "nothing had to leave yet");
    let done = InvocationResponse {
        outgoing_messages: vec![message_to(&caller, "done")],
        outgoing_egresses: vec![egress("out", "done")],
        ..Default::default()
    };
    scene.complete(batch.attempt, effects(done));
    assert_eq!(scene.sealed.len(), 1);
    assert_eq!(
        scene.sealed[0].changes.len(),
        2,
        "the outbox entry and the counter: {:?}",
        scene.sealed
    );
    scene.commit();
    assert_eq!(
        scene.answer_to(request),
        Some(Answer::Replied(value("done")))
    );
    assert_eq!(scene.emissions().len(), 1);
}

#[test]
fn rule_11_late_second_and_foreign_answers_are_dropped_and_counted() {
    let mut scene = Scene::new();
    scene.send("alice", "1");
    let batch = scene.batch();
    let foreign = AttemptId {
        epoch: 9,
        ..batch.attempt
    };
    scene.complete(foreign, emit("foreign"));
    scene.complete(batch.attempt, emit("first"));
    scene.complete(batch.attempt, emit("second"));
    scene.fail(batch.attempt, "late");
    scene.settle();
    let emitted: Vec<_> = scene
        .emissions()
        .iter()
        .map(|emission| text_of(&emission.value))
        .collect();
    assert_eq!(emitted, ["first"]);
    assert_eq!(scene.partition.counts().stale_answers, 3);
}

#[test]
fn an_answer_that_breaks_a_rule_has_no_effect_at_all() {
    let unknown_egress = InvocationResponse {
        outgoing_messages: vec![message_to(&address("bob"), "x")],
        outgoing_egresses: vec![egress("nowhere", "x")],
        ..Default::default()
    };
    let undeclared_state = InvocationResponse {
        outgoing_messages: vec![message_to(&address("bob"), "x")],
        state_mutations: vec![mutation("other", "t/text", "1")],
        ..Default::default()
    };
    let other_type = InvocationResponse {
        state_mutations: vec![mutation("seen", "t/number", "1")],
        outgoing_messages: vec![message_to(&address("bob"), "x")],
        ..Default::default()
    };
    let no_target = InvocationResponse {
        outgoing_messages: vec![message_to(&address("bob"), "x"), Default::default()],
        ..Default::default()
    };
    for (broken, reason) in [
        (unknown_egress, "no egress is named example/nowhere"),
        (undeclared_state, "the state \"other\" was never declared"),
        (
            other_type,
            "the state \"seen\" was declared as t/text, its new value is a t/number",
        ),
        (no_target, "a message has no target"),
    ] {
        let mut scene = Scene::new();
        scene.send("alice", "1");
        let batch = scene.batch();
        scene.declare(batch.attempt, ExpireMode::None, 0);
        let mut attempts = 0;
        while scene.partition.counts().dead_letters == 0 {
            let batch = scene.batch();
            assert_eq!(batch.messages[0].failed_attempts, attempts);
            attempts += 1;
            scene.complete(batch.attempt, effects(broken.clone()));
            scene.later(1000);
        }
        assert_eq!(attempts, 3);
        let reason = format!("the answer was not accepted: {reason}");
        assert_eq!(scene.dead_letters(), [("1".to_owned(), reason)]);
        assert_eq!(scene.batches(), []);
    }
}

#[test]
fn a_function_that_never_stops_declaring_and_one_that_changes_a_type_are_failures() {
    for (answer, reason) in [
        (
            incomplete("seen", "t/text", ExpireMode::None, 0),
            "it asks for states that the request held",
        ),
        (
            incomplete("seen", "t/number", ExpireMode::None, 0),
            "the state \"seen\" is a t/text, it can not be declared as t/number",
        ),
    ] {
        let mut scene = Scene::new();
        scene.send("alice", "1");
        let batch = scene.batch();
        scene.declare(batch.attempt, ExpireMode::None, 0);
        for _ in 0..3 {
            let batch = scene.batch();
            scene.complete(batch.attempt, answer.clone());
            scene.later(1000);
        }
        let reason = format!("the answer was not accepted: {reason}");
        assert_eq!(scene.dead_letters(), [("1".to_owned(), reason)]);
    }
}

#[test]
fn rule_11_an_id_is_the_same_at_every_attempt_and_derives_from_the_cause_of_a_message() {
    let mut scene = Scene::new();
    scene.send("alice", "1");
    let first = scene.batch();
    scene.fail(first.attempt, "no");
    scene.later(1000);
    let second = scene.batch();
    assert_eq!(first.messages[0].id, second.messages[0].id);
    let mut to_bob = message_to(&address("bob"), "x");
    to_bob.cause = 1;
    let twice = InvocationResponse {
        outgoing_messages: vec![to_bob.clone(), to_bob],
        ..Default::default()
    };
    scene.complete(second.attempt, effects(twice));
    let bob = scene.batch();
    assert_ne!(bob.messages[0].id, bob.messages[1].id);
}

#[test]
fn rule_13_an_egress_record_leaves_after_its_commit_in_order_and_again_after_a_crash_until_acknowledged()
 {
    let mut scene = Scene::new();
    scene.send("alice", "1");
    let batch = scene.batch();
    let two = InvocationResponse {
        outgoing_egresses: vec![egress("out", "a"), egress("out", "b")],
        ..Default::default()
    };
    scene.complete(batch.attempt, effects(two));
    assert_eq!(scene.emissions(), []);
    scene.commit();
    let emissions = scene.emissions();
    let sent: Vec<_> = emissions
        .iter()
        .map(|emission| text_of(&emission.value))
        .collect();
    assert_eq!(sent, ["a", "b"]);
    let numbers = vec![emissions[0].number];
    scene.tell(Input::EgressAcked { numbers });
    scene.settle();
    scene.crash();
    assert_eq!(
        scene.emissions(),
        emissions[1..],
        "the same number, id and bytes"
    );
    assert_eq!(scene.partition.gauges().outbox, 1);
}

#[test]
fn rule_13_what_an_egress_notes_with_an_acknowledgement_is_durable_with_it_or_not_at_all() {
    let mut scene = Scene::new();
    scene.send("alice", "1");
    let batch = scene.batch();
    let two = InvocationResponse {
        outgoing_egresses: vec![egress("out", "a"), egress("out", "b")],
        ..Default::default()
    };
    scene.complete(batch.attempt, effects(two));
    scene.commit();
    let numbers: Vec<u64> = scene.emissions().iter().map(|it| it.number).collect();
    let arrived = |number, mark: Option<&'static str>| Input::EgressMarked {
        egress: "example/out".into(),
        numbers: vec![number],
        marks: vec![EgressMark {
            name: "shard-1".into(),
            value: mark.map(Into::into),
        }],
        confirm: false,
    };
    let known = |scene: &Scene| {
        let partition = &scene.partition;
        let marks = partition.egress_marks("example/out").into_iter();
        let marks: Vec<_> = marks.map(|(name, mark)| (name.to_string(), mark)).collect();
        (partition.outbox_of("example/out"), marks)
    };
    let mark = |text: &'static str| vec![("shard-1".to_owned(), bytes::Bytes::from(text))];
    scene.tell(arrived(numbers[0], Some("17")));
    scene.settle();
    scene.tell(arrived(numbers[1], Some("18")));
    scene.crash();
    assert_eq!(known(&scene), ([numbers[1]].into(), mark("17")));
    scene.tell(arrived(numbers[1], Some("19")));
    scene.settle();
    scene.crash();
    assert_eq!(known(&scene), ([].into(), mark("19")));
    assert_eq!(scene.partition.egress_marks("example/other"), []);
    scene.tell(arrived(0, None));
    scene.settle();
    scene.crash();
    assert_eq!(known(&scene), ([].into(), vec![]));
}

#[test]
fn an_egress_that_waits_for_what_it_noted_hears_of_it_when_that_is_durable() {
    let mut scene = Scene::new();
    scene.tell(Input::EgressMarked {
        egress: "example/out".into(),
        numbers: Vec::new(),
        marks: vec![EgressMark {
            name: "since".into(),
            value: Some(bytes::Bytes::from_static(b"17")),
        }],
        confirm: true,
    });
    let durable = Output::MarksDurable {
        egress: "example/out".into(),
    };
    assert!(!scene.outputs.contains(&durable), "nothing is durable yet");
    scene.settle();
    assert!(scene.outputs.contains(&durable));
}

#[test]
fn an_egress_record_that_is_refused_becomes_a_dead_letter_and_can_be_retried() {
    let mut scene = Scene::new();
    scene.send("alice", "1");
    let batch = scene.batch();
    scene.complete(batch.attempt, emit("a"));
    scene.commit();
    let number = scene.emissions()[0].number;
    let reason = "larger than the stream takes".to_owned();
    scene.tell(Input::EgressRefused { number, reason });
    let letters = scene.dead_letters();
    assert_eq!(
        letters,
        [("a".to_owned(), "larger than the stream takes".to_owned())]
    );
    scene.retry_first_letter();
    let again = scene.emissions();
    assert_eq!((again.len(), text_of(&again[0].value)), (1, "a".to_owned()));
    assert_eq!(scene.dead_letters(), []);
}

#[test]
fn a_message_to_a_function_that_nothing_serves_becomes_a_dead_letter() {
    let mut scene = Scene::new();
    let request = scene.call("alice", "1");
    let batch = scene.batch();
    let nowhere = Address::new("elsewhere/unknown".parse().unwrap(), "1");
    let lost = InvocationResponse {
        outgoing_messages: vec![message_to(&nowhere, "x")],
        ..Default::default()
    };
    scene.complete(batch.attempt, effects(lost));
    let reason = "no endpoint serves the function elsewhere/unknown".to_owned();
    assert_eq!(scene.dead_letters(), [("x".to_owned(), reason)]);
    assert_eq!(
        scene.answer_to(request),
        None,
        "the caller still waits for its reply"
    );
}

#[test]
fn addresses_that_declare_the_same_states_at_once_are_all_served_without_a_failure() {
    let mut scene = Scene::new();
    scene.send("alice", "1");
    scene.send("bob", "2");
    let batches = scene.batches();
    for batch in &batches {
        scene.declare(batch.attempt, ExpireMode::None, 0);
    }
    let again = scene.batches();
    assert_eq!(again.len(), 2, "both are sent again at once");
    for batch in &again {
        assert_eq!(batch.messages[0].failed_attempts, 0);
        assert_eq!(batch.state.len(), 1);
        scene.complete(batch.attempt, set_seen("x"));
    }
    assert_eq!(scene.seen("bob").as_deref(), Some("x"));
}
