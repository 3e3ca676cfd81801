//! Failures: isolation of poison messages, suspension, suspects of a crash.

use satchel_protocol::reqreply::from_function::expiration_spec::ExpireMode;

use super::fixture::*;
use crate::endpoint::OnPoison;
use crate::input::{Administration, DeadLetterFilter, Input, Verb};
use crate::invocation::{Failure, FailureKind};
use crate::message::MessageId;
use crate::output::Answer;

impl Fixture {
    /// Returns the id of the first dead letter.
    fn first_dead_letter(&mut self) -> MessageId {
        let list = Administration::ListDeadLetters {
            filter: DeadLetterFilter::default(),
            after: None,
            limit: 1,
        };
        let Some(Answer::DeadLetters(letters)) = self.administer(list) else {
            panic!("a list of dead letters");
        };
        letters[0].id
    }

    /// Retries the first dead letter.
    pub(super) fn retry_first_letter(&mut self) -> MessageId {
        let id = self.first_dead_letter();
        let retried = self.administer(Administration::RetryDeadLetter(id));
        assert_eq!(retried, Some(Answer::Done));
        id
    }

    /// Processes batches until none is left. A batch that holds `poison` fails, the others succeed.
    /// Returns the batches.
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
    let mut fixture = Fixture::new();
    fixture.send("alice", "0");
    let first = fixture.batch();
    for number in 1..=8 {
        fixture.send("alice", &number.to_string());
    }
    fixture.complete(first.attempt, nothing());
    let attempted = fixture.process("6");
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
        fixture.dead_letters(),
        [("6".to_owned(), "poison".to_owned())]
    );
}

#[test]
fn a_caller_learns_that_its_message_became_a_dead_letter_and_a_retry_answers_under_the_same_key() {
    let mut fixture = Fixture::new();
    let request = fixture.call_with_key("alice", "1", "key");
    fixture.process("1");
    fixture.commit();
    let Some(Answer::Failed {
        dead_letter,
        reason,
    }) = fixture.answer_to(request)
    else {
        panic!("a failure");
    };
    assert_eq!(reason, "poison");
    let repeat = fixture.call_with_key("alice", "1", "key");
    fixture.commit();
    let failed = Answer::Failed {
        dead_letter,
        reason,
    };
    assert_eq!(fixture.answer_to(repeat), Some(failed));

    assert_eq!(fixture.retry_first_letter(), dead_letter);
    let waiting = fixture.call_with_key("alice", "1", "key");
    let batch = fixture.batch();
    assert_eq!(
        texts(&batch),
        ["1"],
        "the repeat waits for the retry and is no message of its own"
    );
    fixture.complete(batch.attempt, reply(&batch, "hi"));
    fixture.commit();
    assert_eq!(
        fixture.answer_to(waiting),
        Some(Answer::Replied(value("hi")))
    );
}

#[test]
fn rule_12_a_dead_letter_keeps_its_idempotency_key_from_expiring() {
    let mut fixture = Fixture::new();
    fixture.call_with_key("alice", "1", "key");
    fixture.process("1");
    fixture.later(fixture.config.idempotency_ttl_ms * 3);
    fixture.settle();
    let repeat = fixture.call_with_key("alice", "1", "key");
    fixture.commit();
    assert!(matches!(
        fixture.answer_to(repeat),
        Some(Answer::Failed { .. })
    ));
    assert_eq!(fixture.batches(), []);
}

#[test]
fn rule_12_the_dead_letter_of_a_send_keeps_its_key_over_retries_until_it_is_dropped() {
    let mut fixture = Fixture::new();
    let ttl_ms = fixture.config.idempotency_ttl_ms;
    let send = |fixture: &mut Fixture| {
        let request = fixture.request(Verb::Send, "alice", "1", Some("key".into()));
        fixture.settle();
        assert_eq!(fixture.answer_to(request), Some(Answer::Accepted));
    };
    send(&mut fixture);
    fixture.process("1");
    for _ in 0..2 {
        fixture.later(ttl_ms * 3);
        fixture.settle();
        send(&mut fixture);
        assert_eq!(fixture.batches(), [], "it is known, and is a dead letter");
        fixture.retry_first_letter();
        fixture.process("1");
    }
    let letter = fixture.first_dead_letter();
    let dropped = fixture.administer(Administration::DropDeadLetter(letter));
    assert_eq!(dropped, Some(Answer::Done));
    fixture.later(ttl_ms * 3);
    fixture.settle();
    send(&mut fixture);
    assert_eq!(texts(&fixture.batch()), ["1"], "it is new");
}

#[test]
fn throttling_and_unreachability_cost_no_attempt() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "1");
    for kind in [FailureKind::Throttled, FailureKind::Unavailable].repeat(10) {
        let batch = fixture.batch();
        assert_eq!(batch.messages[0].failed_attempts, 0);
        let attempt = batch.attempt;
        let failure = Failure::new(kind, "not now");
        fixture.handle(Input::InvocationFailed { attempt, failure });
        fixture.later(1000);
    }
    assert_eq!(fixture.dead_letters(), []);
}

#[test]
fn an_endpoint_may_suspend_the_address_until_an_operator_resumes_it() {
    let mut fixture = Fixture::with(config(OnPoison::Suspend));
    fixture.send("alice", "1");
    fixture.send("alice", "2");
    fixture.process("1");
    fixture.settle();
    assert_eq!(fixture.dead_letters(), []);
    let inspect = || Administration::Inspect(address("alice"));
    let Some(Answer::Address(view)) = fixture.administer(inspect()) else {
        panic!("an address");
    };
    assert_eq!(view.suspended.as_deref(), Some("poison"));
    assert_eq!(view.backlog_messages, 2);
    fixture.settle();
    fixture.crash();
    fixture.later(10_000);
    assert_eq!(fixture.batches(), [], "it stays suspended over a crash");

    let resumed = fixture.administer(Administration::Resume(address("alice")));
    assert_eq!(resumed, Some(Answer::Done));
    let batch = fixture.batch();
    assert_eq!(texts(&batch), ["1", "2"]);
    fixture.complete(batch.attempt, nothing());
    let Some(Answer::NotFound(_)) = fixture.administer(inspect()) else {
        panic!("nothing is left of it");
    };
}

#[test]
fn a_request_too_large_for_its_endpoint_is_refused_and_leaves_nothing() {
    let mut fixture = Fixture::new();
    let refused = Some(Answer::TooLarge { bytes_max: 10_000 });
    let sent = fixture.send("alice", &"x".repeat(10_001));
    let called = fixture.call_with_key("alice", &"x".repeat(10_001), "key");
    assert_eq!(fixture.answer_to(sent), refused);
    assert_eq!(fixture.answer_to(called), refused);
    fixture.settle();
    assert_eq!(fixture.dead_letters(), []);
    let small = fixture.call_with_key("alice", "small", "key");
    let batch = fixture.batch();
    fixture.complete(batch.attempt, reply(&batch, "done"));
    fixture.settle();
    assert_eq!(
        fixture.answer_to(small),
        Some(Answer::Replied(value("done"))),
        "the key was not used"
    );
}

#[test]
fn a_message_too_large_with_its_state_for_any_request_becomes_a_dead_letter_by_its_size() {
    let mut fixture = Fixture::new();
    fixture.send("alice", &"x".repeat(10_000));
    assert_eq!(fixture.batches(), []);
    let letters = fixture.dead_letters();
    assert_eq!(letters.len(), 1);
    assert!(
        letters[0].1.contains("the endpoint takes 10000"),
        "{}",
        letters[0].1
    );
}

#[test]
fn a_message_pending_at_several_crashes_is_tried_alone_with_its_attempt_durable_beforehand() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "harmless");
    fixture.send("alice", "deadly");
    fixture.settle();
    let mut alone = Vec::new();
    for _ in 0..20 {
        if fixture.partition.counts().dead_letters > 0 {
            break;
        }
        fixture.crash();
        fixture.settle();
        while let [batch] = &fixture.batches()[..] {
            if texts(batch).contains(&"deadly".to_owned()) {
                if batch.messages.len() == 1 {
                    alone.push(batch.messages[0].failed_attempts);
                }
                break;
            }
            fixture.complete(batch.attempt, nothing());
            fixture.settle();
        }
    }
    assert_eq!(
        alone,
        [1, 2, 3],
        "each attempt was durable when the process died of it"
    );
    let reason = "the process ended at every attempt of this message".to_owned();
    assert_eq!(fixture.dead_letters(), [("deadly".to_owned(), reason)]);
}

#[test]
fn rule_14_after_a_crash_messages_are_tried_only_once_they_are_durable() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "pending");
    fixture.settle();
    fixture.crash();
    assert_eq!(fixture.batches(), [], "the crash is not durable yet");
    fixture.commit();
    assert_eq!(texts(&fixture.batch()), ["pending"]);
    fixture.send("bob", "new");
    assert_eq!(
        fixture.batches(),
        [],
        "if it ended the process, no trace would remain"
    );
    fixture.commit();
    let batch = fixture.batch();
    assert_eq!(texts(&batch), ["new"]);
    fixture.complete(batch.attempt, nothing());
    fixture.later(10_000);
    fixture.send("bob", "newer");
    assert_eq!(texts(&fixture.batch()), ["newer"], "the crash guard ends");
}

#[test]
fn an_attempt_counted_beforehand_that_never_reached_the_code_is_withdrawn() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "suspected");
    fixture.settle();
    for _ in 0..3 {
        fixture.crash();
        fixture.settle();
    }
    for _ in 0..5 {
        let batch = fixture.batch();
        assert_eq!(batch.messages[0].failed_attempts, 1, "counted beforehand");
        let failure = Failure::new(FailureKind::Throttled, "429");
        fixture.handle(Input::InvocationFailed {
            attempt: batch.attempt,
            failure,
        });
        fixture.later(1_000);
        fixture.commit();
    }
    let batch = fixture.batch();
    fixture.declare(batch.attempt, ExpireMode::None, 0);
    fixture.commit();
    let batch = fixture.batch();
    assert_eq!(batch.messages[0].failed_attempts, 1, "a handshake is none");
    fixture.complete(batch.attempt, set_seen("done"));
    assert_eq!(fixture.seen("alice").as_deref(), Some("done"));
    assert_eq!(fixture.dead_letters(), []);
}
