//! What is kept over time: timers, expiring values, outcomes of requests.

use satchel_protocol::reqreply::from_function::{InvocationResponse, expiration_spec::ExpireMode};

use super::scene::*;
use crate::endpoint::OnPoison;
use crate::input::{Administration, Input, RequestId, Verb};
use crate::output::{Answer, Output};

/// Lets `alice` set these delayed messages.
fn set_timers(
    scene: &mut Scene,
    timers: Vec<satchel_protocol::reqreply::from_function::DelayedInvocation>,
) {
    scene.send("alice", "set");
    let batch = scene.batch();
    scene.complete(batch.attempt, later_messages(timers));
}

#[test]
fn rule_10_a_timer_fires_when_it_is_due_and_not_before_even_if_the_process_dies_meanwhile() {
    let mut scene = Scene::new();
    set_timers(&mut scene, vec![delayed("bob", 5_000, "tick", "")]);
    scene.settle();
    scene.crash();
    scene.later(4_800);
    assert_eq!(scene.batches(), []);
    scene.crash();
    scene.later(200);
    scene.commit();
    let batch = scene.batch();
    assert_eq!(texts(&batch), ["tick"]);
    assert_eq!(batch.messages[0].caller, Some(address("alice")));
    scene.complete(batch.attempt, nothing());
    scene.settle();
    scene.crash();
    scene.later(100_000);
    assert_eq!(scene.batches(), [], "it fired once");
}

#[test]
fn a_token_cancels_the_timer_of_its_own_address_only() {
    let mut scene = Scene::new();
    set_timers(&mut scene, vec![delayed("bob", 5_000, "tick", "token")]);
    scene.send("carol", "cancel");
    let batch = scene.batch();
    scene.complete(
        batch.attempt,
        later_messages(vec![cancellation("token"), cancellation("unknown")]),
    );
    assert_eq!(scene.partition.gauges().timers, 1);
    set_timers(&mut scene, vec![cancellation("token")]);
    assert_eq!(scene.partition.gauges().timers, 0);
    scene.later(10_000);
    assert_eq!(scene.batches(), []);
}

#[test]
fn a_pending_token_may_not_be_used_again_unless_it_is_cancelled_first() {
    let mut scene = Scene::new();
    set_timers(&mut scene, vec![delayed("bob", 5_000, "old", "token")]);
    let renewed = vec![cancellation("token"), delayed("bob", 6_000, "new", "token")];
    set_timers(&mut scene, renewed);
    scene.send("alice", "again");
    let batch = scene.batch();
    scene.complete(
        batch.attempt,
        later_messages(vec![delayed("bob", 1, "no", "token")]),
    );
    scene.later(100);
    let batch = scene.batch();
    assert_eq!(batch.messages[0].failed_attempts, 1);
    scene.complete(batch.attempt, nothing());
    scene.later(10_000);
    assert_eq!(texts(&scene.batch()), ["new"]);
}

#[test]
fn rule_10_a_value_expires_after_it_was_written_or_after_its_address_was_invoked() {
    for (mode, survives) in [
        (ExpireMode::AfterWrite, false),
        (ExpireMode::AfterInvoke, true),
    ] {
        let mut scene = Scene::new();
        scene.send("alice", "1");
        let batch = scene.batch();
        scene.declare(batch.attempt, mode, 1_000);
        let batch = scene.batch();
        scene.complete(batch.attempt, set_seen("x"));
        scene.later(600);
        scene.send("alice", "2");
        let batch = scene.batch();
        assert!(batch.state[0].value.is_some(), "still there after 600 ms");
        scene.complete(batch.attempt, nothing());
        scene.settle();
        scene.crash();
        scene.later(600);
        assert_eq!(scene.seen("alice").is_some(), survives, "{mode:?}");
        scene.send("alice", "3");
        scene.commit();
        let batch = scene.batch();
        assert_eq!(batch.state[0].value.is_some(), survives, "{mode:?}");
        scene.complete(batch.attempt, nothing());
        scene.later(1_000);
        scene.settle();
        assert_eq!(
            scene.partition.counts().expired,
            1,
            "nothing is kept: {mode:?}"
        );
    }
}

#[test]
fn a_repeat_under_the_same_key_waits_for_the_first_and_gets_its_answer() {
    let mut scene = Scene::new();
    let first = scene.call_with_key("alice", "hello", "key");
    let batch = scene.batch();
    let second = scene.call_with_key("alice", "hello", "key");
    scene.complete(batch.attempt, reply(&batch, "hi"));
    scene.commit();
    let hi = Answer::Replied(value("hi"));
    assert_eq!(scene.answers(), [(first, hi.clone()), (second, hi.clone())]);
    let third = scene.call_with_key("alice", "hello", "key");
    scene.commit();
    assert_eq!(scene.answers(), [(third, hi)]);
    assert_eq!(scene.batches(), [], "one message for three requests");
    let other = scene.call_with_key("alice", "another body", "key");
    scene.commit();
    assert_eq!(scene.answers(), [(other, Answer::KeyReused)]);
}

#[test]
fn keys_are_per_address_and_verb() {
    let mut scene = Scene::new();
    scene.call_with_key("alice", "1", "key");
    scene.call_with_key("bob", "2", "key");
    scene.request(Verb::Send, "alice", "3", Some("key".into()));
    assert_eq!(scene.batches().len(), 2);
    assert_eq!(scene.partition.counts().messages, 3);
}

#[test]
fn rule_12_a_repeat_after_a_crash_finds_the_outcome_or_the_message_or_begins_anew_with_the_same_id()
{
    // The first was lost with the crash: the repeat is processed, under the id of the first.
    let mut scene = Scene::new();
    scene.call_with_key("alice", "hello", "key");
    let lost = scene.batch();
    scene.crash();
    assert_eq!(scene.batches(), []);
    scene.call_with_key("alice", "hello", "key");
    let batch = scene.batch();
    assert_eq!(batch.messages[0].id, lost.messages[0].id);

    // The message is durable, the outcome is not: the repeat waits for it.
    scene.settle();
    scene.crash();
    scene.commit();
    let batch = scene.batch();
    let request = scene.call_with_key("alice", "hello", "key");
    scene.complete(batch.attempt, reply(&batch, "hi"));
    scene.commit();
    let hi = Some(Answer::Replied(value("hi")));
    assert_eq!(scene.answer_to(request), hi);

    // The outcome is durable.
    scene.crash();
    let request = scene.call_with_key("alice", "hello", "key");
    scene.commit();
    assert_eq!(scene.answer_to(request), hi);
    assert_eq!(scene.batches(), []);
}

#[test]
fn rule_12_a_repeat_is_never_answered_before_the_first_is_durable() {
    let mut scene = Scene::new();
    let first = scene.request(Verb::Send, "alice", "1", Some("key".into()));
    let second = scene.request(Verb::Send, "alice", "1", Some("key".into()));
    assert_eq!(scene.answers(), []);
    scene.commit();
    assert_eq!(
        scene.answers(),
        [(first, Answer::Accepted), (second, Answer::Accepted)]
    );
}

#[test]
fn rule_12_an_outcome_is_forgotten_after_its_time_counted_from_the_outcome() {
    let mut scene = Scene::new();
    let ttl_ms = scene.config.idempotency_ttl_ms;
    scene.call_with_key("alice", "1", "key");
    let batch = scene.batch();
    scene.later(ttl_ms);
    scene.complete(batch.attempt, reply(&batch, "hi"));
    scene.later(ttl_ms - 1);
    scene.call_with_key("alice", "1", "key");
    assert_eq!(scene.batches(), []);
    scene.later(1);
    scene.call_with_key("alice", "1", "key");
    assert_eq!(texts(&scene.batch()), ["1"], "a request of its own");
}

#[test]
fn a_correction_takes_its_turn_among_the_messages() {
    let mut scene = Scene::new();
    scene.send("alice", "1");
    let batch = scene.batch();
    scene.declare(batch.attempt, ExpireMode::None, 0);
    let batch = scene.batch();
    scene.send("alice", "2");
    let correct = Administration::SetState {
        address: address("alice"),
        state: "seen".into(),
        value: value("corrected"),
    };
    assert_eq!(scene.administer(correct), Some(Answer::Done));
    scene.send("alice", "3");
    scene.complete(batch.attempt, set_seen("one"));
    let batch = scene.batch();
    assert_eq!(texts(&batch), ["2"], "what came before the correction");
    assert_eq!(batch.state[0].value.as_ref().unwrap().1, "one");
    scene.complete(batch.attempt, set_seen("two"));
    let batch = scene.batch();
    assert_eq!(texts(&batch), ["3"]);
    assert_eq!(batch.state[0].value.as_ref().unwrap().1, "corrected");
    scene.complete(batch.attempt, effects(InvocationResponse::default()));
    let erase = Administration::DeleteState {
        address: address("alice"),
        state: "seen".into(),
    };
    assert_eq!(scene.administer(erase), Some(Answer::Done));
    assert_eq!(scene.seen("alice"), None);
}

#[test]
fn a_correction_of_a_suspended_address_takes_the_place_of_those_that_wait_there() {
    let mut scene = Scene::with(config(OnPoison::Suspend));
    scene.send("alice", "1");
    let batch = scene.batch();
    scene.declare(batch.attempt, ExpireMode::None, 0);
    let set = |text: &str| Administration::SetState {
        address: address("alice"),
        state: "seen".into(),
        value: value(text),
    };
    assert_eq!(scene.administer(set("old")), Some(Answer::Done));
    loop {
        let batch = scene.batch();
        scene.fail(batch.attempt, "poison");
        scene.later(1_000);
        if scene.partition.gauges().in_flight == 0 {
            break;
        }
    }
    scene.settle();
    assert_eq!(scene.seen("alice"), None, "the first one waits");
    assert_eq!(scene.administer(set("new")), Some(Answer::Done));
    scene.settle();
    scene.crash();
    let resumed = scene.administer(Administration::Resume(address("alice")));
    assert_eq!(resumed, Some(Answer::Done));
    scene.settle();
    let batch = scene.batch();
    assert_eq!(batch.state[0].value.as_ref().unwrap().1, "new");
    scene.complete(batch.attempt, effects(InvocationResponse::default()));
    scene.settle();
    assert_eq!(scene.seen("alice").as_deref(), Some("new"));
}

#[test]
fn the_key_of_a_call_that_is_never_answered_is_forgotten_in_its_time_unless_somebody_waits() {
    let mut scene = Scene::new();
    let ttl_ms = scene.config.idempotency_ttl_ms;
    let first = scene.call_with_key("alice", "1", "key");
    let batch = scene.batch();
    scene.complete(batch.attempt, effects(InvocationResponse::default()));
    scene.later(ttl_ms + 1);
    scene.settle();
    let repeat = scene.call_with_key("alice", "1", "key");
    scene.settle();
    assert_eq!(scene.batches(), [], "somebody waits, so it is known");
    for request in [first, repeat] {
        scene.tell(Input::RequestAbandoned(request));
    }
    scene.crash();
    scene.later(2 * ttl_ms);
    scene.settle();
    assert_eq!(scene.partition.gauges().pinned_bytes, 0);
    scene.call_with_key("alice", "1", "key");
    scene.commit();
    assert_eq!(texts(&scene.batch()), ["1"], "it is new");
}

#[test]
fn a_late_reply_to_a_call_whose_message_was_processed_is_its_answer() {
    let mut scene = Scene::new();
    let request = scene.call_with_key("alice", "1", "key");
    let asked = scene.batch();
    scene.complete(asked.attempt, effects(InvocationResponse::default()));
    scene.settle();
    scene.send("bob", "2");
    let batch = scene.batch();
    scene.complete(batch.attempt, reply(&asked, "at last"));
    scene.settle();
    let answer = Some(Answer::Replied(value("at last")));
    assert_eq!(scene.answer_to(request), answer);
    scene.crash();
    let repeat = scene.call_with_key("alice", "1", "key");
    scene.settle();
    assert_eq!(scene.answer_to(repeat), answer);
}

#[test]
fn a_value_that_would_expire_at_once_is_refused_by_name() {
    for (mode, ms) in [(ExpireMode::AfterWrite, 0), (ExpireMode::AfterInvoke, -1)] {
        let mut scene = Scene::new();
        scene.send("alice", "1");
        while scene.partition.counts().dead_letters == 0 {
            let batch = scene.batch();
            scene.declare(batch.attempt, mode, ms);
            scene.later(1_000);
        }
        let letters = scene.dead_letters();
        let reason = format!("the state \"seen\" would expire after {ms} ms");
        assert!(letters[0].1.contains(&reason), "{letters:?}");
    }
}

#[test]
fn a_correction_of_an_unknown_state_or_of_another_type_is_refused() {
    let mut scene = Scene::new();
    scene.send("alice", "1");
    let batch = scene.batch();
    scene.declare(batch.attempt, ExpireMode::None, 0);
    let set = |state: &str, typename: &str| Administration::SetState {
        address: address("alice"),
        state: state.into(),
        value: satchel_protocol::types::typed_value(typename, &b"1"[..]),
    };
    let unknown = scene.administer(set("other", "t/text"));
    assert_eq!(
        unknown,
        Some(Answer::NotFound(
            "the function example/greeter has no state \"other\"".into()
        ))
    );
    let other_type = scene.administer(set("seen", "t/number"));
    assert_eq!(
        other_type,
        Some(Answer::Refused(
            "the state \"seen\" is a t/text, not a t/number".into()
        ))
    );
}

#[test]
fn a_partition_that_is_woken_too_early_asks_to_be_woken_again() {
    let mut scene = Scene::new();
    set_timers(&mut scene, vec![delayed("bob", 300_000, "tick", "")]);
    scene.settle();
    let due_ms = scene.now_ms + 300_000 - scene.config.commit_interval_ms;
    let wishes = |scene: &mut Scene, input| {
        scene.partition.handle_input(scene.now_ms, input);
        let outputs = std::iter::from_fn(|| scene.partition.poll_output());
        outputs.collect::<Vec<_>>()
    };
    scene.now_ms += 60_000;
    let again = [Output::WakeAt(due_ms)];
    assert_eq!(wishes(&mut scene, Input::TimeReached), again);
    assert_eq!(
        wishes(&mut scene, Input::RequestAbandoned(RequestId(9))),
        [],
        "who was asked need not be asked again"
    );
    assert_eq!(wishes(&mut scene, Input::TimeReached), again);
}
