//! Answers: one transaction each, released when durable.

use satchel_protocol::reqreply::from_function::{InvocationResponse, expiration_spec::ExpireMode};

use super::fixture::*;
use crate::address::{Address, FunctionType};
use crate::input::{EgressMark, Input};
use crate::invocation::AttemptId;
use crate::output::{Answer, Output};

#[test]
fn a_call_is_answered_only_after_the_state_behind_the_answer_is_durable() {
    let mut fixture = Fixture::new();
    let request = fixture.call("alice", "hello");
    let first = fixture.batch();
    assert_eq!(
        (texts(&first), first.state.len()),
        (vec!["hello".to_owned()], 0)
    );
    fixture.declare(first.attempt, ExpireMode::None, 0);
    let second = fixture.batch();
    assert_eq!(
        second.state.len(),
        1,
        "the same message again, with the declared state"
    );
    assert_eq!(second.messages, first.messages);
    let caller = second.messages[0].caller.clone().unwrap();
    fixture.complete(
        second.attempt,
        effects(InvocationResponse {
            outgoing_messages: vec![message_to(&caller, "hi")],
            state_mutations: vec![mutation("seen", "t/text", "1")],
            ..Default::default()
        }),
    );
    assert_eq!(fixture.answers(), []);
    assert_eq!(
        fixture.sealed.len(),
        1,
        "sealed at once, because a reply waits"
    );
    fixture.commit();
    assert_eq!(fixture.answers(), [(request, Answer::Replied(value("hi")))]);
    assert_eq!(fixture.seen("alice").as_deref(), Some("1"));
}

/// A former owner that does not know of its successor has an old state. What it would tell must not
/// leave, even if nothing changed.
#[test]
fn an_answer_that_changed_nothing_waits_for_a_delta_that_only_the_owner_can_commit() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "hello");
    let batch = fixture.batch();
    fixture.complete(batch.attempt, set_seen("1"));
    fixture.settle();
    fixture.answers();
    let request = fixture.call("alice", "how many?");
    let batch = fixture.batch();
    let caller = batch.messages[0].caller.clone().unwrap();
    fixture.complete(
        batch.attempt,
        effects(InvocationResponse {
            outgoing_messages: vec![message_to(&caller, "1")],
            ..Default::default()
        }),
    );
    assert_eq!(fixture.answers(), []);
    assert_eq!(fixture.sealed.len(), 1);
    fixture.commit();
    assert_eq!(fixture.answers(), [(request, Answer::Replied(value("1")))]);
}

#[test]
fn one_batch_is_in_flight_and_later_messages_share_the_next_batch() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "1");
    let first = fixture.batch();
    fixture.send("alice", "2");
    fixture.send("alice", "3");
    fixture.send("bob", "4");
    assert_eq!(
        texts(&fixture.batch()),
        ["4"],
        "another address does not wait"
    );
    fixture.complete(first.attempt, nothing());
    assert_eq!(texts(&fixture.batch()), ["2", "3"]);
}

#[test]
fn a_chain_of_hops_needs_one_commit_and_leaves_no_trace_of_the_messages_between() {
    let mut fixture = Fixture::new();
    fixture.handle(Input::TimeReached);
    let request = fixture.call("hop-0", "go");
    let mut batch = fixture.batch();
    let caller = batch.messages[0].caller.clone().unwrap();
    for hop in 1..=10 {
        let next = address(&format!("hop-{hop}"));
        let hand_on = InvocationResponse {
            outgoing_messages: vec![message_to(&next, "go on")],
            ..Default::default()
        };
        fixture.complete(batch.attempt, effects(hand_on));
        batch = fixture.batch();
    }
    assert_eq!(fixture.sealed, [], "nothing had to leave yet");
    let done = InvocationResponse {
        outgoing_messages: vec![message_to(&caller, "done")],
        outgoing_egresses: vec![egress("out", "done")],
        ..Default::default()
    };
    fixture.complete(batch.attempt, effects(done));
    assert_eq!(fixture.sealed.len(), 1);
    assert_eq!(
        fixture.sealed[0].changes.len(),
        2,
        "the outbox entry and the counter: {:?}",
        fixture.sealed
    );
    fixture.commit();
    assert_eq!(
        fixture.answer_to(request),
        Some(Answer::Replied(value("done")))
    );
    assert_eq!(fixture.emissions().len(), 1);
}

#[test]
fn rule_11_late_second_and_foreign_answers_are_dropped_and_counted() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "1");
    let batch = fixture.batch();
    let foreign = AttemptId {
        epoch: 9,
        ..batch.attempt
    };
    fixture.complete(foreign, emit("foreign"));
    fixture.complete(batch.attempt, emit("first"));
    fixture.complete(batch.attempt, emit("second"));
    fixture.fail(batch.attempt, "late");
    fixture.settle();
    let emitted: Vec<_> = fixture
        .emissions()
        .iter()
        .map(|emission| text_of(&emission.value))
        .collect();
    assert_eq!(emitted, ["first"]);
    assert_eq!(fixture.partition.counts().stale_answers, 3);
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
    let no_target = InvocationResponse {
        outgoing_messages: vec![message_to(&address("bob"), "x"), Default::default()],
        ..Default::default()
    };
    for (broken, tries, reason) in [
        (unknown_egress, 1, "no egress is named example/nowhere"),
        (
            undeclared_state,
            1,
            "the state \"other\" was never declared",
        ),
        (no_target, 3, "a message has no target"),
    ] {
        let mut fixture = Fixture::new();
        fixture.send("alice", "1");
        let batch = fixture.batch();
        fixture.declare(batch.attempt, ExpireMode::None, 0);
        let mut attempts = 0;
        while fixture.partition.counts().dead_letters == 0 {
            let batch = fixture.batch();
            assert_eq!(batch.messages[0].failed_attempts, attempts);
            attempts += 1;
            fixture.complete(batch.attempt, effects(broken.clone()));
            fixture.later(1000);
        }
        assert_eq!(attempts, tries, "{reason}");
        let reason = format!("the answer was not accepted: {reason}");
        assert_eq!(fixture.dead_letters(), [("1".to_owned(), reason)]);
        assert_eq!(fixture.batches(), []);
    }
}

#[test]
fn a_function_that_never_stops_declaring_is_a_failure() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "1");
    let batch = fixture.batch();
    fixture.declare(batch.attempt, ExpireMode::None, 0);
    for _ in 0..3 {
        let batch = fixture.batch();
        let again = incomplete("seen", "t/text", ExpireMode::None, 0);
        fixture.complete(batch.attempt, again);
        fixture.later(1000);
    }
    let reason = "the answer was not accepted: it asks for states that the request held";
    assert_eq!(
        fixture.dead_letters(),
        [("1".to_owned(), reason.to_owned())]
    );
}

#[test]
fn rule_11_an_id_is_the_same_at_every_attempt_and_derives_from_the_cause_of_a_message() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "1");
    let first = fixture.batch();
    fixture.fail(first.attempt, "no");
    fixture.later(1000);
    let second = fixture.batch();
    assert_eq!(first.messages[0].id, second.messages[0].id);
    let mut to_bob = message_to(&address("bob"), "x");
    to_bob.cause = 1;
    let twice = InvocationResponse {
        outgoing_messages: vec![to_bob.clone(), to_bob],
        ..Default::default()
    };
    fixture.complete(second.attempt, effects(twice));
    let bob = fixture.batch();
    assert_ne!(bob.messages[0].id, bob.messages[1].id);
}

#[test]
fn rule_13_egress_records_leave_after_their_commit_in_order_until_acknowledged() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "1");
    let batch = fixture.batch();
    let two = InvocationResponse {
        outgoing_egresses: vec![egress("out", "a"), egress("out", "b")],
        ..Default::default()
    };
    fixture.complete(batch.attempt, effects(two));
    assert_eq!(fixture.emissions(), []);
    fixture.commit();
    let emissions = fixture.emissions();
    let sent: Vec<_> = emissions
        .iter()
        .map(|emission| text_of(&emission.value))
        .collect();
    assert_eq!(sent, ["a", "b"]);
    let numbers = vec![emissions[0].number];
    fixture.handle(Input::EgressAcked { numbers });
    fixture.settle();
    fixture.crash();
    assert_eq!(
        fixture.emissions(),
        emissions[1..],
        "the same number, id and bytes"
    );
    assert_eq!(fixture.partition.gauges().outbox, 1);
}

#[test]
fn rule_13_marks_and_their_acknowledgement_become_durable_together() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "1");
    let batch = fixture.batch();
    let two = InvocationResponse {
        outgoing_egresses: vec![egress("out", "a"), egress("out", "b")],
        ..Default::default()
    };
    fixture.complete(batch.attempt, effects(two));
    fixture.commit();
    let numbers: Vec<u64> = fixture.emissions().iter().map(|it| it.number).collect();
    let arrived = |number, mark: Option<&'static str>| Input::EgressMarked {
        egress: "example/out".into(),
        numbers: vec![number],
        marks: vec![EgressMark {
            name: "shard-1".into(),
            value: mark.map(Into::into),
        }],
        confirm: false,
    };
    let known = |fixture: &Fixture| {
        let partition = &fixture.partition;
        let marks = partition.egress_marks("example/out").into_iter();
        let marks: Vec<_> = marks.map(|(name, mark)| (name.to_string(), mark)).collect();
        (partition.outbox_of("example/out"), marks)
    };
    let mark = |text: &'static str| vec![("shard-1".to_owned(), bytes::Bytes::from(text))];
    fixture.handle(arrived(numbers[0], Some("17")));
    fixture.settle();
    fixture.handle(arrived(numbers[1], Some("18")));
    fixture.crash();
    assert_eq!(known(&fixture), ([numbers[1]].into(), mark("17")));
    fixture.handle(arrived(numbers[1], Some("19")));
    fixture.settle();
    fixture.crash();
    assert_eq!(known(&fixture), ([].into(), mark("19")));
    assert_eq!(fixture.partition.egress_marks("example/other"), []);
    fixture.handle(arrived(0, None));
    fixture.settle();
    fixture.crash();
    assert_eq!(known(&fixture), ([].into(), vec![]));
}

#[test]
fn an_egress_that_waits_for_its_marks_is_notified_once_they_are_durable() {
    let mut fixture = Fixture::new();
    fixture.handle(Input::EgressMarked {
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
    assert!(
        !fixture.outputs.contains(&durable),
        "nothing is durable yet"
    );
    fixture.settle();
    assert!(fixture.outputs.contains(&durable));
}

#[test]
fn an_answer_beyond_its_limits_is_rejected_by_name() {
    use satchel_protocol::effects::EFFECTS_MAX;
    let long = address(&"a".repeat(crate::address::ID_BYTES_MAX + 1));
    let one = message_to(&address("bob"), "1");
    for (messages, problem) in [
        (
            vec![message_to(&long, "1")],
            "a message to example/greeter has an id of 8193 bytes; at most 8192 are allowed",
        ),
        (
            vec![one; EFFECTS_MAX + 1],
            "it has 100001 effects; at most 100000 are allowed",
        ),
    ] {
        let mut fixture = Fixture::new();
        fixture.send("alice", "1");
        let response = InvocationResponse {
            outgoing_messages: messages,
            ..Default::default()
        };
        let answer = effects(response);
        while fixture.partition.counts().dead_letters == 0 {
            let batch = fixture.batch();
            fixture.complete(batch.attempt, answer.clone());
            fixture.later(1_000);
        }
        let reason = &fixture.dead_letters()[0].1;
        assert!(reason.contains(problem), "{reason}");
    }
}

#[test]
fn an_egress_record_that_is_refused_becomes_a_dead_letter_and_can_be_retried() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "1");
    let batch = fixture.batch();
    fixture.complete(batch.attempt, emit("a"));
    fixture.commit();
    let number = fixture.emissions()[0].number;
    let reason = "larger than the stream takes".to_owned();
    fixture.handle(Input::EgressRefused { number, reason });
    let letters = fixture.dead_letters();
    assert_eq!(
        letters,
        [("a".to_owned(), "larger than the stream takes".to_owned())]
    );
    fixture.retry_first_letter();
    let again = fixture.emissions();
    assert_eq!((again.len(), text_of(&again[0].value)), (1, "a".to_owned()));
    assert_eq!(fixture.dead_letters(), []);
}

#[test]
fn a_message_to_a_function_that_nothing_serves_becomes_a_dead_letter() {
    let mut fixture = Fixture::new();
    let request = fixture.call("alice", "1");
    let batch = fixture.batch();
    let nowhere = Address::new("elsewhere/unknown".parse().unwrap(), "1");
    let lost = InvocationResponse {
        outgoing_messages: vec![message_to(&nowhere, "x")],
        ..Default::default()
    };
    fixture.complete(batch.attempt, effects(lost));
    let reason = "no endpoint serves the function elsewhere/unknown".to_owned();
    assert_eq!(fixture.dead_letters(), [("x".to_owned(), reason)]);
    assert_eq!(
        fixture.answer_to(request),
        None,
        "the caller still waits for its reply"
    );
}

#[test]
fn addresses_that_declare_the_same_states_at_once_are_all_served_without_a_failure() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "1");
    fixture.send("bob", "2");
    let batches = fixture.batches();
    for batch in &batches {
        fixture.declare(batch.attempt, ExpireMode::None, 0);
    }
    let again = fixture.batches();
    assert_eq!(again.len(), 2, "both are sent again at once");
    for batch in &again {
        assert_eq!(batch.messages[0].failed_attempts, 0);
        assert_eq!(batch.state.len(), 1);
        fixture.complete(batch.attempt, set_seen("x"));
    }
    assert_eq!(fixture.seen("bob").as_deref(), Some("x"));
}

#[test]
fn an_answer_with_a_message_to_a_function_named_like_a_path_is_not_accepted() {
    let parent = Address::new(FunctionType::new("example", ".."), "bob");
    let mut fixture = Fixture::new();
    fixture.send("alice", "1");
    while fixture.partition.counts().dead_letters == 0 {
        let answer = InvocationResponse {
            outgoing_messages: vec![message_to(&address("bob"), "x"), message_to(&parent, "y")],
            ..Default::default()
        };
        let batch = fixture.batch();
        fixture.complete(batch.attempt, effects(answer));
        fixture.later(1000);
    }
    let letters = fixture.dead_letters();
    let (text, reason) = &letters[0];
    assert_eq!((letters.len(), text.as_str()), (1, "1"));
    assert!(reason.contains("no function is named `..`"), "{reason}");
    assert_eq!(fixture.batches(), [], "nothing of the answer is applied");
}
