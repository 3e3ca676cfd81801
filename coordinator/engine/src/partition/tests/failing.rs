//! Failures: isolation of poison, suspension, what may have killed the process.

use satchel_protocol::reqreply::from_function::expiration_spec::ExpireMode;

use super::scene::*;
use crate::endpoint::OnPoison;
use crate::input::{Administration, Input, Verb};
use crate::invocation::{Failure, FailureKind};
use crate::message::MessageId;
use crate::output::Answer;

impl Scene {
    /// The id of the first dead letter.
    fn first_letter(&mut self) -> MessageId {
        let list = Administration::ListDeadLetters {
            function: None,
            after: None,
            limit: 1,
        };
        let Some(Answer::DeadLetters(letters)) = self.administer(list) else {
            panic!("a list of dead letters");
        };
        letters[0].id
    }

    /// Sends the first dead letter again.
    pub(super) fn retry_first_letter(&mut self) -> MessageId {
        let id = self.first_letter();
        let retried = self.administer(Administration::RetryDeadLetter(id));
        assert_eq!(retried, Some(Answer::Done));
        id
    }

    /// Processes batches until nothing is left: a batch that holds `poison` fails, the others succeed. Returns the batches.
    fn process(&mut self, poison: &str) -> Vec<Vec<String>> {
        let mut processed = Vec::new();
        for _ in 0..100 {
            for batch in self.batches() {
                let texts = texts(&batch);
                if texts.iter().any(|text| text == poison) {
                    self.fail(batch.attempt, "poison");
                } else {
                    self.complete(batch.attempt, nothing());
                }
                processed.push(texts);
            }
            self.later(1000);
        }
        processed
    }
}

#[test]
fn rule_14_the_poison_message_of_a_batch_is_isolated_and_the_others_are_processed_in_order() {
    let mut scene = Scene::new();
    scene.send("alice", "0");
    let first = scene.batch();
    for number in 1..=8 {
        scene.send("alice", &number.to_string());
    }
    scene.complete(first.attempt, nothing());
    let attempted = scene.process("6");
    let succeeded: Vec<_> = attempted
        .iter()
        .filter(|batch| !batch.contains(&"6".to_owned()))
        .flatten()
        .cloned()
        .collect();
    assert_eq!(succeeded, ["1", "2", "3", "4", "5", "7", "8"]);
    let alone = attempted.iter().filter(|batch| **batch == ["6"]).count();
    assert_eq!(
        alone, 3,
        "as many attempts as the endpoint gives, alone: {attempted:?}"
    );
    assert_eq!(
        scene.dead_letters(),
        [("6".to_owned(), "poison".to_owned())]
    );
}

#[test]
fn a_caller_learns_that_its_message_became_a_dead_letter_and_a_retry_answers_under_the_same_key() {
    let mut scene = Scene::new();
    let request = scene.call_with_key("alice", "1", "key");
    scene.process("1");
    scene.commit();
    let Some(Answer::Failed {
        dead_letter,
        reason,
    }) = scene.answer_to(request)
    else {
        panic!("a failure");
    };
    assert_eq!(reason, "poison");
    let repeat = scene.call_with_key("alice", "1", "key");
    scene.commit();
    let failed = Answer::Failed {
        dead_letter,
        reason,
    };
    assert_eq!(scene.answer_to(repeat), Some(failed));

    assert_eq!(scene.retry_first_letter(), dead_letter);
    let waiting = scene.call_with_key("alice", "1", "key");
    let batch = scene.batch();
    assert_eq!(
        texts(&batch),
        ["1"],
        "the repeat waits for the retry and is no message of its own"
    );
    scene.complete(batch.attempt, reply(&batch, "hi"));
    scene.commit();
    assert_eq!(scene.answer_to(waiting), Some(Answer::Replied(value("hi"))));
}

#[test]
fn rule_12_a_dead_letter_keeps_its_idempotency_key_from_expiring() {
    let mut scene = Scene::new();
    scene.call_with_key("alice", "1", "key");
    scene.process("1");
    scene.later(scene.config.idempotency_ttl_ms * 3);
    scene.settle();
    let repeat = scene.call_with_key("alice", "1", "key");
    scene.commit();
    assert!(matches!(
        scene.answer_to(repeat),
        Some(Answer::Failed { .. })
    ));
    assert_eq!(scene.batches(), []);
}

#[test]
fn rule_12_the_dead_letter_of_a_send_keeps_its_key_over_retries_until_it_is_dropped() {
    let mut scene = Scene::new();
    let ttl_ms = scene.config.idempotency_ttl_ms;
    let send = |scene: &mut Scene| {
        let request = scene.request(Verb::Send, "alice", "1", Some("key".into()));
        scene.settle();
        assert_eq!(scene.answer_to(request), Some(Answer::Accepted));
    };
    send(&mut scene);
    scene.process("1");
    for _ in 0..2 {
        scene.later(ttl_ms * 3);
        scene.settle();
        send(&mut scene);
        assert_eq!(scene.batches(), [], "it is known, and is a dead letter");
        scene.retry_first_letter();
        scene.process("1");
    }
    let letter = scene.first_letter();
    let dropped = scene.administer(Administration::DropDeadLetter(letter));
    assert_eq!(dropped, Some(Answer::Done));
    scene.later(ttl_ms * 3);
    scene.settle();
    send(&mut scene);
    assert_eq!(texts(&scene.batch()), ["1"], "it is new");
}

#[test]
fn being_throttled_or_out_of_reach_costs_no_attempt() {
    let mut scene = Scene::new();
    scene.send("alice", "1");
    for kind in [FailureKind::Throttled, FailureKind::Unreachable].repeat(10) {
        let batch = scene.batch();
        assert_eq!(batch.messages[0].failed_attempts, 0);
        let attempt = batch.attempt;
        let failure = Failure::new(kind, "not now");
        scene.tell(Input::InvocationFailed { attempt, failure });
        scene.later(1000);
    }
    assert_eq!(scene.dead_letters(), []);
}

#[test]
fn the_endpoint_may_choose_to_suspend_the_address_until_a_person_resumes_it() {
    let mut scene = Scene::with(config(OnPoison::Suspend));
    scene.send("alice", "1");
    scene.send("alice", "2");
    scene.process("1");
    scene.settle();
    assert_eq!(scene.dead_letters(), []);
    let inspect = || Administration::Inspect(address("alice"));
    let Some(Answer::Address(view)) = scene.administer(inspect()) else {
        panic!("an address");
    };
    assert_eq!(view.suspended.as_deref(), Some("poison"));
    assert_eq!(view.backlog_messages, 2);
    scene.settle();
    scene.crash();
    scene.later(10_000);
    assert_eq!(scene.batches(), [], "it stays suspended over a crash");

    let resumed = scene.administer(Administration::Resume(address("alice")));
    assert_eq!(resumed, Some(Answer::Done));
    let batch = scene.batch();
    assert_eq!(texts(&batch), ["1", "2"]);
    scene.complete(batch.attempt, nothing());
    let Some(Answer::NotFound(_)) = scene.administer(inspect()) else {
        panic!("nothing is left of it");
    };
}

#[test]
fn a_request_too_large_for_its_endpoint_is_refused_and_leaves_nothing() {
    let mut scene = Scene::new();
    let refused = Some(Answer::TooLarge { bytes_max: 10_000 });
    let sent = scene.send("alice", &"x".repeat(10_001));
    let called = scene.call_with_key("alice", &"x".repeat(10_001), "key");
    assert_eq!(scene.answer_to(sent), refused);
    assert_eq!(scene.answer_to(called), refused);
    scene.settle();
    assert_eq!(scene.dead_letters(), []);
    let small = scene.call_with_key("alice", "small", "key");
    let batch = scene.batch();
    scene.complete(batch.attempt, reply(&batch, "done"));
    scene.settle();
    assert_eq!(
        scene.answer_to(small),
        Some(Answer::Replied(value("done"))),
        "the key was not used"
    );
}

#[test]
fn a_message_too_large_with_its_state_for_any_request_becomes_a_dead_letter_by_its_size() {
    let mut scene = Scene::new();
    scene.send("alice", &"x".repeat(10_000));
    assert_eq!(scene.batches(), []);
    let letters = scene.dead_letters();
    assert_eq!(letters.len(), 1);
    assert!(
        letters[0].1.contains("the endpoint takes 10000"),
        "{}",
        letters[0].1
    );
}

#[test]
fn a_message_that_was_pending_at_several_deaths_is_tried_alone_with_its_attempt_durable_beforehand()
{
    let mut scene = Scene::new();
    scene.send("alice", "harmless");
    scene.send("alice", "deadly");
    scene.settle();
    let mut alone = Vec::new();
    for _ in 0..20 {
        if scene.partition.counts().dead_letters > 0 {
            break;
        }
        scene.crash();
        scene.settle();
        while let [batch] = &scene.batches()[..] {
            if texts(batch).contains(&"deadly".to_owned()) {
                if batch.messages.len() == 1 {
                    alone.push(batch.messages[0].failed_attempts);
                }
                break;
            }
            scene.complete(batch.attempt, nothing());
            scene.settle();
        }
    }
    assert_eq!(
        alone,
        [1, 2, 3],
        "each attempt was durable when the process died of it"
    );
    let reason = "each time that this message was tried, the process ended".to_owned();
    assert_eq!(scene.dead_letters(), [("deadly".to_owned(), reason)]);
}

#[test]
fn rule_14_after_a_death_messages_are_tried_only_once_they_are_durable() {
    let mut scene = Scene::new();
    scene.send("alice", "pending");
    scene.settle();
    scene.crash();
    assert_eq!(scene.batches(), [], "the death is not durable yet");
    scene.commit();
    assert_eq!(texts(&scene.batch()), ["pending"]);
    scene.send("bob", "new");
    assert_eq!(
        scene.batches(),
        [],
        "were it deadly, nothing would know of it"
    );
    scene.commit();
    let batch = scene.batch();
    assert_eq!(texts(&batch), ["new"]);
    scene.complete(batch.attempt, nothing());
    scene.later(10_000);
    scene.send("bob", "newer");
    assert_eq!(texts(&scene.batch()), ["newer"], "the caution has an end");
}

#[test]
fn an_attempt_that_was_counted_beforehand_and_never_reached_the_code_is_taken_back() {
    let mut scene = Scene::new();
    scene.send("alice", "suspected");
    scene.settle();
    for _ in 0..3 {
        scene.crash();
        scene.settle();
    }
    for _ in 0..5 {
        let batch = scene.batch();
        assert_eq!(batch.messages[0].failed_attempts, 1, "counted beforehand");
        let failure = Failure::new(FailureKind::Throttled, "429");
        scene.tell(Input::InvocationFailed {
            attempt: batch.attempt,
            failure,
        });
        scene.later(1_000);
        scene.commit();
    }
    let batch = scene.batch();
    scene.declare(batch.attempt, ExpireMode::None, 0);
    scene.commit();
    let batch = scene.batch();
    assert_eq!(batch.messages[0].failed_attempts, 1, "a handshake is none");
    scene.complete(batch.attempt, set_seen("done"));
    assert_eq!(scene.seen("alice").as_deref(), Some("done"));
    assert_eq!(scene.dead_letters(), []);
}
