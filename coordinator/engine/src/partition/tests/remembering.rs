//! Facts kept over time: timers, expiring values, outcomes of requests.

use satchel_protocol::reqreply::from_function::{InvocationResponse, expiration_spec::ExpireMode};

use super::fixture::*;
use crate::endpoint::OnPoison;
use crate::input::{Administration, Input, RequestId, Verb};
use crate::output::{Answer, Output};

/// Makes `alice` set these delayed messages.
fn set_timers(
    fixture: &mut Fixture,
    timers: Vec<satchel_protocol::reqreply::from_function::DelayedInvocation>,
) {
    fixture.send("alice", "set");
    let batch = fixture.batch();
    fixture.complete(batch.attempt, later_messages(timers));
}

#[test]
fn rule_10_a_timer_fires_when_due_and_not_before_even_over_a_crash() {
    let mut fixture = Fixture::new();
    set_timers(&mut fixture, vec![delayed("bob", 5_000, "tick", "")]);
    fixture.settle();
    fixture.crash();
    fixture.later(4_800);
    assert_eq!(fixture.batches(), []);
    fixture.crash();
    fixture.later(200);
    fixture.commit();
    let batch = fixture.batch();
    assert_eq!(texts(&batch), ["tick"]);
    assert_eq!(batch.messages[0].caller, Some(address("alice")));
    fixture.complete(batch.attempt, nothing());
    fixture.settle();
    fixture.crash();
    fixture.later(100_000);
    assert_eq!(fixture.batches(), [], "it fired once");
}

#[test]
fn a_token_cancels_the_timer_of_its_own_address_only() {
    let mut fixture = Fixture::new();
    set_timers(&mut fixture, vec![delayed("bob", 5_000, "tick", "token")]);
    fixture.send("carol", "cancel");
    let batch = fixture.batch();
    fixture.complete(
        batch.attempt,
        later_messages(vec![cancellation("token"), cancellation("unknown")]),
    );
    assert_eq!(fixture.partition.gauges().timers, 1);
    set_timers(&mut fixture, vec![cancellation("token")]);
    assert_eq!(fixture.partition.gauges().timers, 0);
    fixture.later(10_000);
    assert_eq!(fixture.batches(), []);
}

#[test]
fn a_pending_token_may_not_be_reused_unless_it_is_cancelled_first() {
    let mut fixture = Fixture::new();
    set_timers(&mut fixture, vec![delayed("bob", 5_000, "old", "token")]);
    let renewed = vec![cancellation("token"), delayed("bob", 6_000, "new", "token")];
    set_timers(&mut fixture, renewed);
    fixture.send("alice", "again");
    let batch = fixture.batch();
    fixture.complete(
        batch.attempt,
        later_messages(vec![delayed("bob", 1, "no", "token")]),
    );
    fixture.later(100);
    let reason = "the answer was not accepted: the cancellation token \"token\" is still pending";
    let letter = ("again".to_owned(), reason.to_owned());
    assert_eq!(fixture.dead_letters(), [letter]);
    fixture.later(10_000);
    assert_eq!(texts(&fixture.batch()), ["new"]);
}

#[test]
fn rule_10_a_value_expires_after_it_was_written_or_after_its_address_was_invoked() {
    for (mode, survives) in [
        (ExpireMode::AfterWrite, false),
        (ExpireMode::AfterInvoke, true),
    ] {
        let mut fixture = Fixture::new();
        fixture.send("alice", "1");
        let batch = fixture.batch();
        fixture.declare(batch.attempt, mode, 1_000);
        let batch = fixture.batch();
        fixture.complete(batch.attempt, set_seen("x"));
        fixture.later(600);
        fixture.send("alice", "2");
        let batch = fixture.batch();
        assert!(batch.state[0].value.is_some(), "still there after 600 ms");
        fixture.complete(batch.attempt, nothing());
        fixture.settle();
        fixture.crash();
        fixture.later(600);
        assert_eq!(fixture.seen("alice").is_some(), survives, "{mode:?}");
        fixture.send("alice", "3");
        fixture.commit();
        let batch = fixture.batch();
        assert_eq!(batch.state[0].value.is_some(), survives, "{mode:?}");
        fixture.complete(batch.attempt, nothing());
        fixture.later(1_000);
        fixture.settle();
        assert_eq!(
            fixture.partition.counts().expired,
            1,
            "nothing is kept: {mode:?}"
        );
    }
}

#[test]
fn a_repeat_under_the_same_key_waits_for_the_first_and_gets_its_answer() {
    let mut fixture = Fixture::new();
    let first = fixture.call_with_key("alice", "hello", "key");
    let batch = fixture.batch();
    let second = fixture.call_with_key("alice", "hello", "key");
    fixture.complete(batch.attempt, reply(&batch, "hi"));
    fixture.commit();
    let hi = Answer::Replied(value("hi"));
    assert_eq!(
        fixture.answers(),
        [(first, hi.clone()), (second, hi.clone())]
    );
    let third = fixture.call_with_key("alice", "hello", "key");
    fixture.commit();
    assert_eq!(fixture.answers(), [(third, hi)]);
    assert_eq!(fixture.batches(), [], "one message for three requests");
    let other = fixture.call_with_key("alice", "another body", "key");
    fixture.commit();
    assert_eq!(fixture.answers(), [(other, Answer::KeyReused)]);
}

#[test]
fn keys_are_per_address_and_verb() {
    let mut fixture = Fixture::new();
    fixture.call_with_key("alice", "1", "key");
    fixture.call_with_key("bob", "2", "key");
    fixture.request(Verb::Send, "alice", "3", Some("key".into()));
    assert_eq!(fixture.batches().len(), 2);
    assert_eq!(fixture.partition.counts().messages, 3);
}

#[test]
fn rule_12_a_repeat_after_a_crash_finds_the_outcome_or_the_message_or_restarts_with_the_same_id() {
    // The first message was lost in the crash. The repeat is processed, under the id of the first.
    let mut fixture = Fixture::new();
    fixture.call_with_key("alice", "hello", "key");
    let lost = fixture.batch();
    fixture.crash();
    assert_eq!(fixture.batches(), []);
    fixture.call_with_key("alice", "hello", "key");
    let batch = fixture.batch();
    assert_eq!(batch.messages[0].id, lost.messages[0].id);

    // The message is durable, the outcome is not: the repeat waits for it.
    fixture.settle();
    fixture.crash();
    fixture.commit();
    let batch = fixture.batch();
    let request = fixture.call_with_key("alice", "hello", "key");
    fixture.complete(batch.attempt, reply(&batch, "hi"));
    fixture.commit();
    let hi = Some(Answer::Replied(value("hi")));
    assert_eq!(fixture.answer_to(request), hi);

    // The outcome is durable.
    fixture.crash();
    let request = fixture.call_with_key("alice", "hello", "key");
    fixture.commit();
    assert_eq!(fixture.answer_to(request), hi);
    assert_eq!(fixture.batches(), []);
}

#[test]
fn rule_12_a_repeat_is_never_answered_before_the_first_is_durable() {
    let mut fixture = Fixture::new();
    let first = fixture.request(Verb::Send, "alice", "1", Some("key".into()));
    let second = fixture.request(Verb::Send, "alice", "1", Some("key".into()));
    assert_eq!(fixture.answers(), []);
    fixture.commit();
    assert_eq!(
        fixture.answers(),
        [(first, Answer::Accepted), (second, Answer::Accepted)]
    );
}

#[test]
fn rule_12_an_outcome_is_forgotten_after_its_time_counted_from_the_outcome() {
    let mut fixture = Fixture::new();
    let ttl_ms = fixture.config.idempotency_ttl_ms;
    fixture.call_with_key("alice", "1", "key");
    let batch = fixture.batch();
    fixture.later(ttl_ms);
    fixture.complete(batch.attempt, reply(&batch, "hi"));
    fixture.later(ttl_ms - 1);
    fixture.call_with_key("alice", "1", "key");
    assert_eq!(fixture.batches(), []);
    fixture.later(1);
    fixture.call_with_key("alice", "1", "key");
    assert_eq!(texts(&fixture.batch()), ["1"], "a request of its own");
}

#[test]
fn a_correction_takes_its_turn_among_the_messages() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "1");
    let batch = fixture.batch();
    fixture.declare(batch.attempt, ExpireMode::None, 0);
    let batch = fixture.batch();
    fixture.send("alice", "2");
    let correct = Administration::SetState {
        address: address("alice"),
        state: "seen".into(),
        value: value("corrected"),
    };
    assert_eq!(fixture.administer(correct), Some(Answer::Done));
    fixture.send("alice", "3");
    fixture.complete(batch.attempt, set_seen("one"));
    let batch = fixture.batch();
    assert_eq!(texts(&batch), ["2"], "what came before the correction");
    assert_eq!(batch.state[0].value.as_ref().unwrap().1, "one");
    fixture.complete(batch.attempt, set_seen("two"));
    let batch = fixture.batch();
    assert_eq!(texts(&batch), ["3"]);
    assert_eq!(batch.state[0].value.as_ref().unwrap().1, "corrected");
    fixture.complete(batch.attempt, effects(InvocationResponse::default()));
    let erase = Administration::DeleteState {
        address: address("alice"),
        state: "seen".into(),
    };
    assert_eq!(fixture.administer(erase), Some(Answer::Done));
    assert_eq!(fixture.seen("alice"), None);
}

#[test]
fn a_correction_of_a_suspended_address_replaces_those_that_wait_there() {
    let mut fixture = Fixture::with(config(OnPoison::Suspend));
    fixture.send("alice", "1");
    let batch = fixture.batch();
    fixture.declare(batch.attempt, ExpireMode::None, 0);
    let set = |text: &str| Administration::SetState {
        address: address("alice"),
        state: "seen".into(),
        value: value(text),
    };
    assert_eq!(fixture.administer(set("old")), Some(Answer::Done));
    loop {
        let batch = fixture.batch();
        fixture.fail(batch.attempt, "poison");
        fixture.later(1_000);
        if fixture.partition.gauges().in_flight == 0 {
            break;
        }
    }
    fixture.settle();
    assert_eq!(fixture.seen("alice"), None, "the first one waits");
    assert_eq!(fixture.administer(set("new")), Some(Answer::Done));
    fixture.settle();
    fixture.crash();
    let resumed = fixture.administer(Administration::Resume(address("alice")));
    assert_eq!(resumed, Some(Answer::Done));
    fixture.settle();
    let batch = fixture.batch();
    assert_eq!(batch.state[0].value.as_ref().unwrap().1, "new");
    fixture.complete(batch.attempt, effects(InvocationResponse::default()));
    fixture.settle();
    assert_eq!(fixture.seen("alice").as_deref(), Some("new"));
}

#[test]
fn the_key_of_an_unanswered_call_expires_unless_a_request_waits() {
    let mut fixture = Fixture::new();
    let ttl_ms = fixture.config.idempotency_ttl_ms;
    let first = fixture.call_with_key("alice", "1", "key");
    let batch = fixture.batch();
    fixture.complete(batch.attempt, effects(InvocationResponse::default()));
    fixture.later(ttl_ms + 1);
    fixture.settle();
    let repeat = fixture.call_with_key("alice", "1", "key");
    fixture.settle();
    assert_eq!(fixture.batches(), [], "a request waits, so it is known");
    for request in [first, repeat] {
        fixture.handle(Input::RequestAbandoned(request));
    }
    fixture.crash();
    fixture.later(2 * ttl_ms);
    fixture.settle();
    assert_eq!(fixture.partition.gauges().pinned_bytes, 0);
    fixture.call_with_key("alice", "1", "key");
    fixture.commit();
    assert_eq!(texts(&fixture.batch()), ["1"], "it is new");
}

#[test]
fn a_late_reply_answers_a_call_whose_message_was_processed() {
    let mut fixture = Fixture::new();
    let request = fixture.call_with_key("alice", "1", "key");
    let asked = fixture.batch();
    fixture.complete(asked.attempt, effects(InvocationResponse::default()));
    fixture.settle();
    fixture.send("bob", "2");
    let batch = fixture.batch();
    fixture.complete(batch.attempt, reply(&asked, "at last"));
    fixture.settle();
    let answer = Some(Answer::Replied(value("at last")));
    assert_eq!(fixture.answer_to(request), answer);
    fixture.crash();
    let repeat = fixture.call_with_key("alice", "1", "key");
    fixture.settle();
    assert_eq!(fixture.answer_to(repeat), answer);
}

#[test]
fn a_value_that_would_expire_at_once_is_rejected_by_name() {
    for (mode, ms) in [(ExpireMode::AfterWrite, 0), (ExpireMode::AfterInvoke, -1)] {
        let mut fixture = Fixture::new();
        fixture.send("alice", "1");
        while fixture.partition.counts().dead_letters == 0 {
            let batch = fixture.batch();
            fixture.declare(batch.attempt, mode, ms);
            fixture.later(1_000);
        }
        let letters = fixture.dead_letters();
        let reason = format!("the state \"seen\" would expire after {ms} ms");
        assert!(letters[0].1.contains(&reason), "{letters:?}");
    }
}

#[test]
fn a_correction_of_an_unknown_state_or_of_another_type_is_refused() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "1");
    let batch = fixture.batch();
    fixture.declare(batch.attempt, ExpireMode::None, 0);
    let set = |state: &str, typename: &str| Administration::SetState {
        address: address("alice"),
        state: state.into(),
        value: satchel_protocol::types::typed_value(typename, &b"1"[..]),
    };
    let unknown = fixture.administer(set("other", "t/text"));
    assert_eq!(
        unknown,
        Some(Answer::NotFound(
            "the function example/greeter has no state \"other\"".into()
        ))
    );
    let other_type = fixture.administer(set("seen", "t/number"));
    assert_eq!(
        other_type,
        Some(Answer::Refused(
            "the state \"seen\" is a t/text, not a t/number".into()
        ))
    );
}

#[test]
fn a_partition_woken_too_early_requests_another_wake_up() {
    let mut fixture = Fixture::new();
    set_timers(&mut fixture, vec![delayed("bob", 300_000, "tick", "")]);
    fixture.settle();
    let due_ms = fixture.now_ms + 300_000 - fixture.config.commit_interval_ms;
    let wishes = |fixture: &mut Fixture, input| {
        fixture.partition.handle_input(fixture.now_ms, input);
        let outputs = std::iter::from_fn(|| fixture.partition.poll_output());
        outputs.collect::<Vec<_>>()
    };
    fixture.now_ms += 60_000;
    let again = [Output::WakeAt(due_ms)];
    assert_eq!(wishes(&mut fixture, Input::TimeReached), again);
    assert_eq!(
        wishes(&mut fixture, Input::RequestAbandoned(RequestId(9))),
        [],
        "a requested wake-up is not requested again"
    );
    assert_eq!(wishes(&mut fixture, Input::TimeReached), again);
}
