//! Rejections: a verdict on one message for good, by its function or by the coordinator.

use satchel_protocol::reqreply::from_function::{
    Invocation, InvocationResponse, expiration_spec::ExpireMode,
};

use super::fixture::*;
use crate::endpoint::OnPoison;
use crate::input::{Administration, DeadLetterFilter, Input};
use crate::invocation::{AttemptId, Batch, Failure, FailureKind, Rejection};
use crate::message::fingerprint;
use crate::output::{Answer, DeadLetterView};

impl Fixture {
    /// The function rejects the message at `index` of a batch.
    fn reject(&mut self, attempt: AttemptId, index: Option<u32>, code: u16, text: &str) {
        let rejection = Rejection::new(index, code, text);
        let failure = Failure::terminal(format!("for operators: {text}"), rejection);
        self.handle(Input::InvocationFailed { attempt, failure });
    }

    /// Sends messages with these texts to `alice`, so that they are in one batch with the state
    /// `seen`.
    fn batch_of(&mut self, texts: &[&str]) -> std::sync::Arc<Batch> {
        self.send("alice", "first");
        let first = self.batch();
        self.declare(first.attempt, ExpireMode::None, 0);
        let first = self.batch();
        for text in texts {
            self.send("alice", text);
        }
        self.complete(first.attempt, set_seen("first"));
        self.batch()
    }

    /// Completes a batch by appending the texts of its messages to `seen`.
    fn append(&mut self, batch: &Batch) {
        let value = batch.state[0].value.as_ref().expect("seen has a value");
        let mut seen = String::from_utf8(value.1.to_vec()).unwrap();
        for text in texts(batch) {
            seen = format!("{seen} {text}");
        }
        self.complete(batch.attempt, set_seen(&seen));
    }

    fn letters(&mut self) -> Vec<DeadLetterView> {
        let list = Administration::ListDeadLetters {
            filter: DeadLetterFilter::default(),
            after: None,
            limit: 100,
        };
        match self.administer(list) {
            Some(Answer::DeadLetters(letters)) => letters,
            other => panic!("{other:?}"),
        }
    }
}

fn rejected(code: u16, message: &str) -> Option<Answer> {
    Some(Answer::Rejected {
        code,
        message: message.to_owned(),
    })
}

#[test]
fn a_caller_gets_the_verdict_once_it_is_durable_and_the_message_is_concluded() {
    let mut fixture = Fixture::new();
    let request = fixture.call("alice", "1");
    fixture.settle();
    let batch = fixture.batch();
    fixture.reject(batch.attempt, Some(0), 404, "no such account");
    assert_eq!(fixture.answer_to(request), None, "it is not durable yet");
    fixture.commit();
    assert_eq!(fixture.answer_to(request), rejected(404, "no such account"));
    assert_eq!(fixture.dead_letters(), []);
    fixture.later(100_000);
    assert_eq!(fixture.batches(), [], "it is not retried");
    assert_eq!(fixture.partition.counts().rejected, 1);
    fixture.settle();
    fixture.crash();
    fixture.later(100_000);
    assert_eq!(fixture.batches(), [], "it is concluded durably");
}

#[test]
fn every_repeat_under_the_same_key_gets_the_same_verdict_until_the_key_expires() {
    let mut fixture = Fixture::new();
    let first = fixture.call_with_key("alice", "1", "key");
    let batch = fixture.batch();
    let waiting = fixture.call_with_key("alice", "1", "key");
    fixture.reject(batch.attempt, Some(0), 409, "too late");
    fixture.settle();
    let verdict = rejected(409, "too late");
    assert_eq!(fixture.answer_to(first), verdict);
    assert_eq!(fixture.answer_to(waiting), verdict);
    fixture.crash();
    let repeat = fixture.call_with_key("alice", "1", "key");
    fixture.settle();
    assert_eq!(fixture.answer_to(repeat), verdict, "over a crash too");
    assert_eq!(fixture.batches(), []);
    fixture.later(fixture.config.idempotency_ttl_ms);
    fixture.settle();
    fixture.call_with_key("alice", "1", "key");
    assert_eq!(texts(&fixture.batch()), ["1"], "the key is free again");
}

#[test]
fn a_verdict_that_a_crash_undoes_is_passed_again() {
    let mut fixture = Fixture::new();
    fixture.call_with_key("alice", "1", "key");
    fixture.settle();
    let batch = fixture.batch();
    fixture.reject(batch.attempt, Some(0), 404, "no");
    fixture.crash();
    fixture.commit();
    let repeat = fixture.call_with_key("alice", "1", "key");
    let batch = fixture.batch();
    fixture.reject(batch.attempt, Some(0), 404, "no");
    fixture.commit();
    assert_eq!(fixture.answer_to(repeat), rejected(404, "no"));
    assert_eq!(fixture.dead_letters(), []);
}

#[test]
fn a_message_whose_verdict_reaches_nobody_becomes_a_dead_letter_after_one_attempt() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "sent");
    let gone = fixture.call("bob", "abandoned");
    fixture.handle(Input::RequestAbandoned(gone));
    fixture.find_shard(crate::position::ShardPosition::Beginning);
    fixture.read("carol", [7]);
    let batches = fixture.batches();
    assert_eq!(batches.len(), 3);
    for batch in batches {
        fixture.reject(batch.attempt, Some(0), 400, "not a number");
    }
    let letters = fixture.letters();
    let found: Vec<_> = letters
        .iter()
        .map(|letter| {
            let text = text_of(&letter.message);
            (text, letter.attempts, letter.reason.as_str())
        })
        .collect();
    let reason = "for operators: not a number";
    assert_eq!(
        found,
        [
            ("sent".to_owned(), 1, reason),
            ("abandoned".to_owned(), 1, reason),
            ("7".to_owned(), 1, reason),
        ]
    );
    fixture.later(100_000);
    assert_eq!(fixture.batches(), []);
    assert_eq!(fixture.partition.counts().rejected, 0);
}

#[test]
fn the_messages_before_a_rejected_one_take_effect_once_and_those_behind_it_follow() {
    let mut fixture = Fixture::new();
    let batch = fixture.batch_of(&["a", "b", "bad", "c", "d"]);
    assert_eq!(texts(&batch), ["a", "b", "bad", "c", "d"]);
    fixture.reject(batch.attempt, Some(2), 400, "no");
    let before = fixture.batch();
    assert_eq!(texts(&before), ["a", "b"], "without a delay");
    assert_eq!(before.messages[0].failed_attempts, 0);
    fixture.append(&before);
    let again = fixture.batch();
    assert_eq!(texts(&again), ["bad", "c", "d"]);
    assert_eq!(again.messages[0].failed_attempts, 0);
    let (_, seen) = again.state[0].value.as_ref().unwrap();
    assert_eq!(seen, "first a b", "it is judged over the state before it");
    fixture.reject(again.attempt, Some(0), 400, "no");
    let rest = fixture.batch();
    assert_eq!(texts(&rest), ["c", "d"]);
    fixture.append(&rest);
    assert_eq!(fixture.seen("alice").as_deref(), Some("first a b c d"));
    let letters = fixture.letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (letters[0].attempts, text_of(&letters[0].message)),
        (1, "bad".into())
    );
}

#[test]
fn a_crash_between_the_rounds_of_a_rejection_loses_and_doubles_nothing() {
    let mut fixture = Fixture::new();
    let batch = fixture.batch_of(&["a", "b", "bad", "c"]);
    fixture.reject(batch.attempt, Some(2), 400, "no");
    let before = fixture.batch();
    fixture.append(&before);
    fixture.settle();
    fixture.crash();
    fixture.commit();
    let again = fixture.batch();
    assert_eq!(texts(&again), ["bad", "c"]);
    fixture.reject(again.attempt, Some(0), 400, "no");
    fixture.commit();
    let rest = fixture.batch();
    fixture.append(&rest);
    assert_eq!(fixture.seen("alice").as_deref(), Some("first a b c"));
    assert_eq!(fixture.letters().len(), 1);
}

#[test]
fn a_rejected_message_is_found_by_halving_if_its_position_is_unknown_or_impossible() {
    for index in [None, Some(8), Some(u32::MAX)] {
        let mut fixture = Fixture::new();
        let mut batch = fixture.batch_of(&["a", "b", "c", "d", "e", "bad", "f", "g"]);
        let mut rounds = 0;
        loop {
            rounds += 1;
            if texts(&batch).contains(&"bad".to_owned()) {
                fixture.reject(batch.attempt, index, 400, "no");
            } else {
                fixture.append(&batch);
            }
            match fixture.batches().pop() {
                Some(next) => batch = next,
                None => break,
            }
        }
        assert!(rounds <= 10, "{rounds} rounds for {index:?}");
        let seen = fixture.seen("alice");
        assert_eq!(seen.as_deref(), Some("first a b c d e f g"));
        let letters = fixture.letters();
        assert_eq!(letters.len(), 1, "{index:?}");
        assert_eq!(letters[0].attempts, 1);
    }
}

#[test]
fn a_function_that_names_another_position_each_time_makes_progress() {
    let mut fixture = Fixture::new();
    let mut batch = fixture.batch_of(&["a", "b", "c", "d", "e", "f"]);
    let mut rounds = 0;
    loop {
        rounds += 1;
        assert!(rounds < 50, "it never ends");
        let last = u32::try_from(batch.messages.len() - 1).unwrap();
        fixture.reject(batch.attempt, Some(last), 400, "no");
        match fixture.batches().pop() {
            Some(next) => batch = next,
            None => break,
        }
    }
    let given_up: Vec<_> = fixture
        .letters()
        .iter()
        .map(|letter| text_of(&letter.message))
        .collect();
    assert_eq!(given_up, ["a", "b", "c", "d", "e", "f"], "in order");
}

#[test]
fn a_rejection_within_the_search_for_a_poison_message_keeps_the_order() {
    let mut fixture = Fixture::new();
    let mut batch = fixture.batch_of(&["a", "bad", "b", "poison", "c"]);
    let mut processed = Vec::new();
    for _ in 0..30 {
        let texts = texts(&batch);
        let at = |wanted: &str| texts.iter().position(|text| text == wanted);
        match (at("bad"), at("poison")) {
            (Some(bad), poison) if poison.is_none_or(|poison| bad < poison) => {
                let index = u32::try_from(bad).ok();
                fixture.reject(batch.attempt, index, 400, "no");
            }
            (_, Some(_)) => fixture.fail(batch.attempt, "poison"),
            _ => {
                processed.extend(texts.clone());
                fixture.append(&batch);
            }
        }
        fixture.later(1_000);
        match fixture.batches().pop() {
            Some(next) => batch = next,
            None => break,
        }
    }
    assert_eq!(processed, ["a", "b", "c"]);
    assert_eq!(fixture.seen("alice").as_deref(), Some("first a b c"));
    let letters = fixture.letters();
    let attempts: Vec<_> = letters
        .iter()
        .map(|letter| (text_of(&letter.message), letter.attempts))
        .collect();
    assert_eq!(attempts, [("bad".to_owned(), 1), ("poison".to_owned(), 3)]);
}

#[test]
fn an_endpoint_that_suspends_poison_suspends_at_a_verdict_that_reaches_nobody() {
    let mut fixture = Fixture::with(config(OnPoison::Suspend));
    fixture.send("alice", "bad");
    fixture.send("alice", "good");
    let batch = fixture.batch();
    fixture.reject(batch.attempt, Some(0), 400, "no");
    fixture.settle();
    fixture.later(100_000);
    assert_eq!(fixture.batches(), []);
    assert_eq!(fixture.dead_letters(), []);
    let inspected = fixture.administer(Administration::Inspect(address("alice")));
    let Some(Answer::Address(view)) = inspected else {
        panic!("an address");
    };
    assert_eq!(view.suspended.as_deref(), Some("for operators: no"));
    assert_eq!(view.backlog_messages, 2);
    assert_eq!(view.failing, Some((1, "for operators: no".to_owned())));

    let called = fixture.call("bob", "bad");
    let batch = fixture.batch();
    fixture.reject(batch.attempt, Some(0), 400, "no");
    fixture.commit();
    assert_eq!(fixture.answer_to(called), rejected(400, "no"));
    fixture.send("bob", "good");
    assert_eq!(
        texts(&fixture.batch()),
        ["good"],
        "its caller has the verdict"
    );
}

#[test]
fn a_mistake_in_an_answer_is_a_verdict_on_the_message_that_caused_it() {
    let mut fixture = Fixture::new();
    let batch = fixture.batch_of(&["a", "b"]);
    let request = fixture.call("alice", "bad");
    fixture.append(&batch);
    let batch = fixture.batch();
    assert_eq!(texts(&batch), ["bad"]);
    let broken = InvocationResponse {
        outgoing_egresses: vec![egress("nowhere", "x")],
        ..Default::default()
    };
    fixture.complete(batch.attempt, effects(broken));
    fixture.commit();
    let reason = "the answer was not accepted: no egress is named example/nowhere";
    assert_eq!(fixture.answer_to(request), rejected(500, reason));
    assert_eq!(fixture.dead_letters(), []);

    // In a batch of several, the SDK says which message caused the effect.
    fixture.send("alice", "wait");
    let waiting = fixture.batch();
    for text in ["c", "d", "bad", "e"] {
        fixture.send("alice", text);
    }
    fixture.append(&waiting);
    let batch = fixture.batch();
    let mut record = egress("nowhere", "x");
    record.cause = 3;
    let broken = InvocationResponse {
        outgoing_messages: vec![Invocation {
            cause: 1,
            ..message_to(&address("bob"), "never")
        }],
        outgoing_egresses: vec![record],
        ..Default::default()
    };
    fixture.complete(batch.attempt, effects(broken));
    let before = fixture.batch();
    assert_eq!(texts(&before), ["c", "d"]);
}

#[test]
fn a_suspect_of_crashes_that_is_rejected_counts_its_attempt_once() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "suspected");
    fixture.settle();
    for _ in 0..3 {
        fixture.crash();
        fixture.settle();
    }
    let batch = fixture.batch();
    assert_eq!(batch.messages[0].failed_attempts, 1, "counted beforehand");
    fixture.reject(batch.attempt, Some(0), 400, "no");
    fixture.settle();
    let letters = fixture.letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].attempts, 1);
}

#[test]
fn a_dead_letter_of_a_rejection_can_be_retried_when_the_function_is_mended() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "1");
    let batch = fixture.batch();
    fixture.reject(batch.attempt, Some(0), 400, "no");
    fixture.settle();
    fixture.retry_first_letter();
    let batch = fixture.batch();
    assert_eq!(
        fingerprint(&batch.messages[0].argument),
        fingerprint(&value("1"))
    );
    fixture.complete(batch.attempt, nothing());
    fixture.settle();
    assert_eq!(fixture.dead_letters(), []);
}

#[test]
fn a_code_that_is_no_error_of_http_counts_as_500_and_a_verdict_without_details_too() {
    for code in [0, 200, 399, 501, 503, u16::MAX] {
        assert_eq!(Rejection::new(None, code, "no").code, 500);
    }
    for code in [400, 404, 499, 500] {
        assert_eq!(Rejection::new(None, code, "no").code, code);
    }
    let mut fixture = Fixture::new();
    let request = fixture.call("alice", "1");
    let attempt = fixture.batch().attempt;
    let failure = Failure::new(FailureKind::Terminal, "no details");
    fixture.handle(Input::InvocationFailed { attempt, failure });
    fixture.commit();
    assert_eq!(fixture.answer_to(request), rejected(500, "no details"));
}
