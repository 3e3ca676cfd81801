//! Function types whose deployed version does not fit: they are suspended by name and continue by
//! themselves.

use satchel_protocol::reqreply::FromFunction;
use satchel_protocol::reqreply::from_function::{InvocationResponse, expiration_spec::ExpireMode};

use super::fixture::*;
use crate::address::{Address, FunctionType};
use crate::input::{Administration, Call, CallId, Input, RequestId, Verb};
use crate::invocation::{AttemptId, Failure, FailureKind};
use crate::output::{Answer, Stoppages};

const MISFIT: &str = "the state \"seen\" is a t/text, it cannot be declared as t/number";

/// Declares the state `seen` as a number.
fn as_number() -> FromFunction {
    incomplete("seen", "t/number", ExpireMode::None, 0)
}

/// Declares the state `seen` as a text.
fn as_text() -> FromFunction {
    incomplete("seen", "t/text", ExpireMode::None, 0)
}

fn set_number(text: &str) -> FromFunction {
    effects(InvocationResponse {
        state_mutations: vec![mutation("seen", "t/number", text)],
        ..Default::default()
    })
}

impl Fixture {
    /// A fixture whose function `example/greeter` has declared the state `seen` as a text.
    fn declared() -> Self {
        let mut fixture = Self::new();
        fixture.send("alice", "0");
        let batch = fixture.batch();
        fixture.declare(batch.attempt, ExpireMode::None, 0);
        let batch = fixture.batch();
        fixture.complete(batch.attempt, set_seen("0"));
        fixture.settle();
        fixture
    }

    /// Lists the suspended functions with their reasons.
    fn suspended(&self) -> Vec<(String, String)> {
        let Stoppages {
            suspended_functions,
            ..
        } = self.partition.stoppages();
        suspended_functions
            .into_iter()
            .map(|stoppage| (stoppage.name, stoppage.reason))
            .collect()
    }

    /// Waits for the next probe, and returns its attempt and the time waited, in ms.
    fn probe(&mut self) -> (AttemptId, u64) {
        for waited_ms in (0..10_000).step_by(50) {
            let mut batches = self.batches();
            if let Some(batch) = batches.pop() {
                assert_eq!((batches.len(), batch.messages.len()), (0, 0));
                assert_eq!(batch.state, []);
                return (batch.attempt, waited_ms);
            }
            self.later(50);
        }
        panic!("a suspended function is probed");
    }

    fn send_to_other(&mut self, text: &str) {
        self.handle(Input::CallReceived(Call {
            request: RequestId(9_999),
            id: CallId([1; 16]),
            verb: Verb::Send,
            target: Address::new(FunctionType::new("example", "other"), "x"),
            argument: value(text),
            idempotency_key: None,
            trace: None,
        }));
    }

    fn fail_as(&mut self, attempt: AttemptId, kind: FailureKind, message: &str) {
        let failure = Failure::new(kind, message);
        self.handle(Input::InvocationFailed { attempt, failure });
    }
}

#[test]
fn a_changed_type_suspends_the_function_until_the_declaration_fits_again() {
    let mut fixture = Fixture::declared();
    fixture.send("alice", "1");
    fixture.send("bob", "2");
    let [alice, bob] = &fixture.batches()[..] else {
        panic!("two batches");
    };
    fixture.complete(alice.attempt, as_number());
    let greeter = "example/greeter".to_owned();
    assert_eq!(fixture.suspended(), [(greeter.clone(), MISFIT.to_owned())]);
    fixture.complete(bob.attempt, as_number());
    fixture.send("alice", "3");
    fixture.send("carol", "4");
    assert_eq!(fixture.batches(), [], "its messages wait");
    let Some(Answer::Address(view)) = fixture.administer(Administration::Inspect(address("carol")))
    else {
        panic!("an address");
    };
    let reason = format!("the function {greeter} is suspended: {MISFIT}");
    assert_eq!(view.function_stopped, Some(reason));
    assert_eq!(view.backlog_messages, 1);

    // Other functions continue.
    fixture.send_to_other("5");
    let other = fixture.batch();
    fixture.complete(other.attempt, nothing());

    // The probes come with growing delays of at most five seconds.
    let mut waits = Vec::new();
    for _ in 0..8 {
        let (probe, waited_ms) = fixture.probe();
        waits.push(waited_ms);
        fixture.complete(probe, as_number());
    }
    assert_eq!(waits[..4], [250, 500, 1_000, 2_000]);
    assert!(waits[4..].iter().all(|ms| *ms <= 5_000), "{waits:?}");

    let (probe, _) = fixture.probe();
    fixture.complete(probe, as_text());
    assert_eq!(fixture.suspended(), []);
    let continued: Vec<_> = fixture.batches();
    let mut messages: Vec<_> = continued.iter().map(|batch| texts(batch)).collect();
    messages.sort();
    assert_eq!(messages, [vec!["1", "3"], vec!["2"], vec!["4"]]);
    for batch in continued {
        assert_eq!(batch.messages[0].failed_attempts, 0, "none was counted");
        fixture.complete(batch.attempt, set_seen("done"));
    }
    assert_eq!(fixture.seen("alice").as_deref(), Some("done"));
    assert_eq!(fixture.dead_letters(), []);
}

#[test]
fn a_suspension_is_learned_anew_after_a_crash_and_costs_no_attempt() {
    let mut config = config(crate::endpoint::OnPoison::DeadLetter);
    config.endpoints = {
        let mut endpoint = config
            .endpoints
            .get(crate::invocation::EndpointIndex(0))
            .clone();
        endpoint.retries.attempts_max = 1;
        crate::endpoint::Endpoints::new(vec![endpoint])
    };
    let mut fixture = Fixture::with(config);
    fixture.send("alice", "0");
    let batch = fixture.batch();
    fixture.declare(batch.attempt, ExpireMode::None, 0);
    let batch = fixture.batch();
    fixture.complete(batch.attempt, set_seen("0"));
    fixture.send("alice", "1");
    fixture.settle();
    for _ in 0..5 {
        fixture.crash();
        fixture.settle();
        let batches = fixture.batches();
        let [batch] = &batches[..] else {
            panic!("the message is tried again: {batches:?}");
        };
        assert_eq!(fixture.suspended(), []);
        fixture.complete(batch.attempt, as_number());
        assert_eq!(fixture.suspended().len(), 1);
        fixture.settle();
    }
    let (probe, _) = fixture.probe();
    fixture.complete(probe, as_text());
    fixture.settle();
    let batch = fixture.batch();
    fixture.complete(batch.attempt, set_seen("1"));
    assert_eq!(fixture.seen("alice").as_deref(), Some("1"));
    assert_eq!(fixture.dead_letters(), []);
}

#[test]
fn a_value_of_another_type_suspends_the_function_and_nothing_of_the_answer_is_applied() {
    let mut fixture = Fixture::declared();
    fixture.send("bob", "1");
    let batch = fixture.batch();
    fixture.complete(batch.attempt, set_number("1"));
    let reason = "the state \"seen\" is a t/text, its new value is a t/number";
    assert_eq!(
        fixture.suspended(),
        [("example/greeter".to_owned(), reason.to_owned())]
    );
    assert_eq!(fixture.seen("bob"), None);
    let (probe, _) = fixture.probe();
    fixture.complete(probe, as_number());
    assert_eq!(fixture.suspended()[0].1, MISFIT, "now it is declared so");
    let (probe, _) = fixture.probe();
    fixture.complete(probe, as_text());
    let batch = fixture.batch();
    assert_eq!(batch.messages[0].failed_attempts, 0);
    fixture.complete(batch.attempt, set_seen("1"));
    assert_eq!(fixture.seen("bob").as_deref(), Some("1"));
}

#[test]
fn one_message_with_a_value_of_another_type_is_its_own_mistake_once_the_declarations_fit() {
    let mut fixture = Fixture::declared();
    fixture.send("bob", "poison");
    fixture.send("carol", "1");
    let [bob, carol] = &fixture.batches()[..] else {
        panic!("two batches");
    };
    fixture.complete(carol.attempt, set_seen("1"));
    fixture.complete(bob.attempt, set_number("1"));
    let (probe, _) = fixture.probe();
    fixture.complete(probe, as_text());
    for attempts in 0..3 {
        let batch = fixture.batch();
        assert_eq!(batch.messages[0].failed_attempts, attempts);
        fixture.complete(batch.attempt, set_number("1"));
        assert_eq!(fixture.suspended(), [], "the function is not the cause");
        fixture.later(1_000);
    }
    let reason = "the answer was not accepted: \
                  the state \"seen\" was declared as t/text, its new value is a t/number";
    assert_eq!(
        fixture.dead_letters(),
        [("poison".to_owned(), reason.to_owned())]
    );
}

#[test]
fn an_unknown_version_of_the_protocol_suspends_the_function_until_it_answers_in_a_known_one() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "1");
    let batch = fixture.batch();
    let version = "the bundle has version 2";
    fixture.fail_as(batch.attempt, FailureKind::Incompatible, version);
    assert_eq!(
        fixture.suspended(),
        [("example/greeter".to_owned(), version.to_owned())]
    );
    for kind in [
        FailureKind::Incompatible,
        FailureKind::Unavailable,
        FailureKind::Throttled,
    ] {
        let (probe, _) = fixture.probe();
        fixture.fail_as(probe, kind, version);
        assert_eq!(fixture.suspended().len(), 1);
    }
    // A function that cannot answer a batch without messages answers in a known version.
    let (probe, _) = fixture.probe();
    fixture.fail_as(probe, FailureKind::Function, "no messages");
    assert_eq!(fixture.suspended(), []);
    let batch = fixture.batch();
    assert_eq!(batch.messages[0].failed_attempts, 0);
    fixture.complete(batch.attempt, nothing());
    assert_eq!(fixture.dead_letters(), []);
}

#[test]
fn a_function_that_cannot_answer_an_empty_batch_is_probed_with_one_real_batch() {
    let mut fixture = Fixture::declared();
    fixture.send("alice", "1");
    fixture.send("bob", "2");
    let [alice, bob] = &fixture.batches()[..] else {
        panic!("two batches");
    };
    fixture.complete(alice.attempt, as_number());
    fixture.complete(bob.attempt, as_number());
    let (probe, _) = fixture.probe();
    fixture.fail_as(probe, FailureKind::Function, "no messages");
    assert_eq!(fixture.suspended().len(), 1);
    let trial = |fixture: &mut Fixture| {
        fixture.later(5_000);
        let batch = fixture.batch();
        assert_eq!(batch.messages.len(), 1);
        batch
    };
    let first = trial(&mut fixture);
    fixture.fail(first.attempt, "another type");
    fixture.later(5_000);
    let probe = fixture.batch();
    assert_eq!(probe.messages, [], "both kinds of probes alternate");
    fixture.fail(probe.attempt, "no messages");
    let second = trial(&mut fixture);
    assert_ne!(first.target, second.target, "each trial takes another");
    fixture.complete(second.attempt, set_seen("x"));
    assert_eq!(fixture.suspended(), []);
    let batch = fixture.batch();
    assert_eq!(batch.target, first.target);
    assert_eq!(batch.messages[0].failed_attempts, 0, "no trial counts");
    fixture.complete(batch.attempt, set_seen("x"));
    assert_eq!(fixture.dead_letters(), []);
}

#[test]
fn two_versions_of_different_types_that_alternate_do_not_make_the_probes_frequent() {
    let mut fixture = Fixture::declared();
    fixture.send("alice", "1");
    let mut waits = Vec::new();
    for _ in 0..6 {
        let batch = fixture.batch();
        fixture.complete(batch.attempt, as_number());
        let (probe, waited_ms) = fixture.probe();
        waits.push(waited_ms);
        fixture.complete(probe, as_text());
    }
    assert_eq!(waits[..4], [250, 500, 1_000, 2_000]);
    assert!(waits[4..].iter().all(|ms| *ms >= 4_000), "{waits:?}");
}

#[test]
fn a_correction_of_an_address_whose_function_is_suspended_takes_effect_at_once() {
    let mut fixture = Fixture::declared();
    fixture.send("alice", "1");
    let batch = fixture.batch();
    fixture.complete(batch.attempt, as_number());
    let corrected = fixture.administer(Administration::SetState {
        address: address("alice"),
        state: "seen".into(),
        value: value("corrected"),
    });
    assert_eq!(corrected, Some(Answer::Done));
    assert_eq!(fixture.seen("alice").as_deref(), Some("corrected"));
    let (probe, _) = fixture.probe();
    fixture.complete(probe, as_text());
    assert_eq!(texts(&fixture.batch()), ["1"]);
}
