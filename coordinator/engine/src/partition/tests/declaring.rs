//! Declarations of states: those of the deployed version count.

use satchel_protocol::declaration::fingerprint;
use satchel_protocol::reqreply::FromFunction;
use satchel_protocol::reqreply::from_function::{
    self, ExpirationSpec, IncompleteInvocationContext, InvocationResponse, PersistedValueSpec,
    expiration_spec::ExpireMode,
};

use super::fixture::*;
use crate::endpoint::OnPoison;
use crate::input::{Administration, Input};
use crate::invocation::{Batch, Failure, FailureKind};
use crate::output::Answer;

/// One minute, after which a state that no version declares is retired.
pub(super) const ALTERNATION_MS: u64 = 60_000;

/// A version of a function that knows the extension, as the SDK of this project does.
pub(super) struct Version(pub(super) Vec<PersistedValueSpec>);

fn spec(name: &str, mode: ExpireMode, ms: i64) -> PersistedValueSpec {
    PersistedValueSpec {
        state_name: name.into(),
        expiration_spec: Some(ExpirationSpec {
            mode: mode.into(),
            expire_after_millis: ms,
        }),
        type_typename: "t/text".into(),
    }
}

impl Version {
    /// A version that declares states without expiration.
    pub(super) fn of(names: &[&str]) -> Self {
        let names = names.iter();
        Self(names.map(|name| spec(name, ExpireMode::None, 0)).collect())
    }

    /// The answer to `batch`: a handshake, or a new value for each state.
    pub(super) fn answer(&self, batch: &Batch, text: &str) -> FromFunction {
        let own = fingerprint(&self.0);
        let carries = |spec: &&PersistedValueSpec| {
            let mut states = batch.state.iter();
            states.any(|state| *state.name == *spec.state_name)
        };
        let missing: Vec<_> = self
            .0
            .iter()
            .filter(|spec| !carries(spec))
            .cloned()
            .collect();
        if !missing.is_empty() || !batch.declarations.contains(&own) {
            let incomplete = IncompleteInvocationContext {
                missing_values: missing,
                declaration: own,
                declared_values: self.0.clone(),
            };
            return FromFunction {
                response: Some(from_function::Response::IncompleteInvocationContext(
                    incomplete,
                )),
            };
        }
        let states = self.0.iter();
        effects(InvocationResponse {
            state_mutations: states
                .map(|spec| mutation(&spec.state_name, &spec.type_typename, text))
                .collect(),
            declaration: own,
            ..Default::default()
        })
    }
}

impl Fixture {
    fn renewing() -> Self {
        let mut config = config(OnPoison::DeadLetter);
        config.declarations_renewed_ms = Some(300_000);
        Self::with(config)
    }

    /// Sends a message to alice and lets `version` process it. Returns the names of the states that
    /// each request carried.
    pub(super) fn process_by(&mut self, version: &Version, text: &str) -> Vec<Vec<String>> {
        self.send("alice", text);
        // After a crash, messages are tried once they are durable.
        self.commit();
        let mut carried = Vec::new();
        while let [batch] = &self.batches()[..] {
            carried.push(names(batch));
            self.complete(batch.attempt, version.answer(batch, text));
            assert!(carried.len() < 5, "the handshake ends: {carried:?}");
        }
        self.settle();
        carried
    }

    pub(super) fn states(&mut self, id: &str) -> Vec<(String, String)> {
        match self.administer(Administration::Inspect(address(id))) {
            Some(Answer::Address(view)) => {
                let states = view.state.iter();
                let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
                states
                    .map(|state| (state.name.to_string(), text(&state.value)))
                    .collect()
            }
            _ => vec![],
        }
    }
}

fn names(batch: &Batch) -> Vec<String> {
    let mut names: Vec<_> = batch.state.iter().map(|it| it.name.to_string()).collect();
    names.sort();
    names
}

#[test]
fn a_changed_expiration_counts_for_values_written_or_touched_from_then_on() {
    for (mode, touches) in [
        (ExpireMode::AfterWrite, false),
        (ExpireMode::AfterInvoke, true),
    ] {
        let hour = Version(vec![spec("seen", mode, 3_600_000)]);
        let second = Version(vec![spec("seen", mode, 1_000)]);
        let mut fixture = Fixture::new();
        fixture.process_by(&hour, "1");
        fixture.later(2_000);
        assert_eq!(fixture.states("alice").len(), 1);
        // The new version processes a message of another address: alice's value stays as it was.
        fixture.send("bob", "2");
        while let [batch] = &fixture.batches()[..] {
            fixture.complete(batch.attempt, second.answer(batch, "2"));
        }
        fixture.later(2_000);
        fixture.settle();
        assert_eq!(
            fixture.states("bob"),
            [],
            "a second, counted from the write"
        );
        assert_eq!(fixture.states("alice").len(), 1);
        assert_eq!(fixture.partition.counts().expired, 1, "not an hour later");

        // An invocation without a write touches alice's value.
        fixture.send("alice", "3");
        let batch = fixture.batch();
        let touch = effects(InvocationResponse {
            declaration: fingerprint(&second.0),
            ..Default::default()
        });
        fixture.complete(batch.attempt, touch);
        fixture.settle();
        fixture.crash();
        fixture.later(2_000);
        fixture.settle();
        assert_eq!(fixture.states("alice").is_empty(), touches, "{mode:?}");

        // A write counts in both.
        fixture.process_by(&second, "4");
        assert_eq!(fixture.states("alice").len(), 1);
        fixture.later(2_000);
        fixture.settle();
        assert_eq!(fixture.states("alice"), [], "{mode:?}");
    }
}

#[test]
fn a_value_that_never_expired_does_once_its_state_is_declared_to_expire() {
    let never = Version::of(&["seen"]);
    let second = Version(vec![spec("seen", ExpireMode::AfterInvoke, 1_000)]);
    let mut fixture = Fixture::new();
    fixture.process_by(&never, "1");
    fixture.later(100_000);
    fixture.process_by(&second, "2");
    fixture.later(2_000);
    fixture.settle();
    assert_eq!(fixture.states("alice"), []);
    assert_eq!(fixture.partition.counts().expired, 1);
}

#[test]
fn a_state_that_is_no_longer_declared_does_not_travel_and_is_kept() {
    let (both, one) = (Version::of(&["large", "seen"]), Version::of(&["seen"]));
    let mut fixture = Fixture::new();
    assert_eq!(
        fixture.process_by(&both, "1").last().unwrap(),
        &["large", "seen"]
    );
    // The version before may still answer.
    assert_eq!(
        fixture.process_by(&one, "2"),
        vec![vec!["large", "seen"]; 2]
    );
    fixture.later(ALTERNATION_MS);
    assert_eq!(fixture.process_by(&one, "3").len(), 1, "no handshake");
    assert_eq!(fixture.process_by(&one, "4"), [["seen"]]);
    let expected = |large: &str, seen: &str| {
        [("large", large), ("seen", seen)].map(|(name, text)| (name.to_owned(), text.to_owned()))
    };
    let sorted = |fixture: &mut Fixture| {
        let mut states = fixture.states("alice");
        states.sort();
        states
    };
    assert_eq!(sorted(&mut fixture), expected("1", "4"));

    // The next owner knows it.
    fixture.crash();
    fixture.settle();
    fixture.later(20_000);
    assert_eq!(fixture.process_by(&one, "5"), [["seen"]]);
    assert_eq!(sorted(&mut fixture), expected("1", "5"));

    // The declaration returns, with the value.
    let carried = fixture.process_by(&both, "6");
    assert_eq!(carried, [vec!["seen"], vec!["large", "seen"]]);
    assert_eq!(sorted(&mut fixture), expected("6", "6"));
}

#[test]
fn a_person_drops_a_state_that_is_no_longer_declared() {
    let (both, one) = (Version::of(&["large", "seen"]), Version::of(&["seen"]));
    let mut fixture = Fixture::new();
    fixture.process_by(&both, "1");
    fixture.later(ALTERNATION_MS);
    fixture.process_by(&one, "2");
    fixture.crash();
    fixture.settle();
    let dropped = fixture.administer(Administration::DeleteState {
        address: address("alice"),
        state: "large".into(),
    });
    assert_eq!(dropped, Some(Answer::Done));
    assert_eq!(
        fixture.states("alice"),
        [("seen".to_owned(), "2".to_owned())]
    );
}

#[test]
fn a_retired_state_is_declared_anew_with_its_former_type_only() {
    let (both, one) = (Version::of(&["large", "seen"]), Version::of(&["seen"]));
    let mut fixture = Fixture::new();
    fixture.process_by(&both, "1");
    fixture.later(ALTERNATION_MS);
    fixture.process_by(&one, "2");
    fixture.crash();
    fixture.settle();
    let mut other = Version::of(&["large", "seen"]);
    other.0[0].type_typename = "t/number".into();
    fixture.process_by(&other, "3");
    let suspended = fixture.partition.stoppages().suspended_functions;
    assert_eq!(
        suspended[0].reason,
        "the state \"large\" is a t/text, it cannot be declared as t/number"
    );
}

#[test]
fn while_two_versions_alternate_the_union_of_their_states_travels() {
    let (one, two) = (Version::of(&["a", "b"]), Version::of(&["a", "c"]));
    let mut fixture = Fixture::new();
    fixture.process_by(&one, "1");
    fixture.process_by(&two, "2");
    let mut requests = 0;
    for round in 0..10 {
        fixture.later(ALTERNATION_MS / 2 - 1_000);
        for version in [&one, &two] {
            let carried = fixture.process_by(version, &round.to_string());
            assert_eq!(carried.last().unwrap(), &["a", "b", "c"]);
            requests += carried.len();
        }
    }
    assert_eq!(requests, 20, "one request a message");
    fixture.later(ALTERNATION_MS);
    fixture.process_by(&two, "x");
    assert_eq!(fixture.process_by(&two, "y"), [["a", "c"]]);
}

#[test]
fn the_expiration_of_the_version_that_answers_counts_for_what_it_writes() {
    let hour = Version(vec![spec("seen", ExpireMode::AfterWrite, 3_600_000)]);
    let second = Version(vec![spec("seen", ExpireMode::AfterWrite, 1_000)]);
    let mut fixture = Fixture::new();
    fixture.process_by(&hour, "1");
    fixture.process_by(&second, "2");
    for _ in 0..3 {
        assert_eq!(fixture.process_by(&hour, "1").len(), 1);
        fixture.later(2_000);
        assert_eq!(fixture.states("alice").len(), 1);
        assert_eq!(fixture.process_by(&second, "2").len(), 1);
        fixture.later(2_000);
        assert_eq!(fixture.states("alice"), []);
    }
}

#[test]
fn an_answer_with_a_state_that_was_retired_meanwhile_is_applied() {
    let (both, one) = (Version::of(&["large", "seen"]), Version::of(&["seen"]));
    let mut fixture = Fixture::new();
    fixture.process_by(&both, "1");
    fixture.send("bob", "slow");
    let slow = fixture.batch();
    fixture.later(ALTERNATION_MS);
    fixture.process_by(&one, "2");
    fixture.complete(slow.attempt, both.answer(&slow, "slow"));
    fixture.settle();
    assert_eq!(fixture.states("bob").len(), 2);
    assert_eq!(fixture.dead_letters(), []);
}

#[test]
fn a_fingerprint_that_is_not_that_of_the_declared_states_is_a_failure() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "1");
    let wrong = IncompleteInvocationContext {
        declaration: 7,
        ..Default::default()
    };
    for _ in 0..3 {
        let batch = fixture.batch();
        let answer = FromFunction {
            response: Some(from_function::Response::IncompleteInvocationContext(
                wrong.clone(),
            )),
        };
        fixture.complete(batch.attempt, answer);
        fixture.later(1_000);
    }
    let reason = "the answer was not accepted: \
                  its fingerprint is not that of the states that it declares";
    assert_eq!(
        fixture.dead_letters(),
        [("1".to_owned(), reason.to_owned())]
    );
}

#[test]
fn functions_without_fingerprints_are_asked_after_a_start_after_failures_and_at_an_interval() {
    let mut fixture = Fixture::renewing();
    let is_probe = |batch: &Batch| batch.messages.is_empty();
    let declared = || incomplete("seen", "t/text", ExpireMode::None, 0);
    fixture.send("alice", "1");
    let batch = fixture.batch();
    fixture.complete(batch.attempt, declared());
    let batch = fixture.batch();
    fixture.complete(batch.attempt, set_seen("1"));
    assert_eq!(fixture.batches(), [], "the handshake declared everything");
    fixture.settle();

    // After a start, with the first answer.
    fixture.crash();
    fixture.send("alice", "2");
    fixture.settle();
    let batch = fixture.batch();
    fixture.complete(batch.attempt, set_seen("2"));
    let probe = fixture.batch();
    assert!(is_probe(&probe) && probe.state.is_empty());
    fixture.complete(probe.attempt, declared());
    fixture.settle();

    // At an interval, however many messages there are.
    for number in 0..10 {
        fixture.later(29_000);
        fixture.send("alice", &number.to_string());
        let batch = fixture.batch();
        fixture.complete(batch.attempt, set_seen("x"));
        assert_eq!(fixture.batches(), []);
    }
    fixture.later(11_000);
    fixture.send("alice", "y");
    let batch = fixture.batch();
    fixture.complete(batch.attempt, set_seen("y"));
    let probe = fixture.batch();
    assert!(is_probe(&probe));
    fixture.complete(probe.attempt, declared());

    // After a failure: a version with another type fails before it declares anything.
    fixture.later(2_000);
    fixture.send("alice", "z");
    let batch = fixture.batch();
    fixture.fail(batch.attempt, "the type does not match");
    let probe = fixture.batch();
    assert!(is_probe(&probe));
    let other = incomplete("seen", "t/number", ExpireMode::None, 0);
    fixture.complete(probe.attempt, other);
    let suspended = fixture.partition.stoppages().suspended_functions;
    assert_eq!(suspended[0].name, "example/greeter");
    fixture.later(200);
    assert_eq!(fixture.batches(), [], "the message waits");
}

#[test]
fn a_message_is_given_up_only_after_a_probe_has_confirmed_the_declarations() {
    let mut fixture = Fixture::renewing();
    let declared = || incomplete("seen", "t/text", ExpireMode::None, 0);
    fixture.send("alice", "1");
    let batch = fixture.batch();
    fixture.complete(batch.attempt, declared());
    let batch = fixture.batch();
    fixture.complete(batch.attempt, set_seen("1"));

    // All attempts fail within a second of the last declaration, so no probe was sent before.
    fixture.send("alice", "2");
    fixture.send("bob", "3");
    for _ in 0..2 {
        for batch in fixture.batches() {
            fixture.fail(batch.attempt, "sum is a t/text");
        }
        fixture.later(200);
    }
    for batch in fixture.batches() {
        fixture.fail(batch.attempt, "sum is a t/text");
    }
    let probe = fixture.batch();
    assert_eq!(probe.messages, []);
    assert_eq!(fixture.partition.counts().dead_letters, 0);
    let other = incomplete("seen", "t/number", ExpireMode::None, 0);
    fixture.complete(probe.attempt, other);
    assert_eq!(fixture.partition.stoppages().suspended_functions.len(), 1);
    fixture.later(250);
    let probe = fixture.batch();
    fixture.complete(probe.attempt, declared());
    let batches = fixture.batches();
    assert_eq!(batches.len(), 2);
    let [good, bad] = &batches[..] else {
        panic!("both messages are tried again");
    };
    assert_eq!(good.messages[0].failed_attempts, 2);
    fixture.complete(good.attempt, set_seen("x"));
    fixture.fail(bad.attempt, "poison");
    assert_eq!(fixture.partition.counts().dead_letters, 0);
    let probe = fixture.batch();
    fixture.complete(probe.attempt, declared());
    let poison = texts(bad).remove(0);
    assert_eq!(fixture.dead_letters(), [(poison, "poison".to_owned())]);
}

#[test]
fn a_renewal_shows_a_removed_state_of_a_function_without_fingerprints() {
    let mut fixture = Fixture::renewing();
    fixture.send("alice", "1");
    let batch = fixture.batch();
    let mut both = incomplete("seen", "t/text", ExpireMode::None, 0);
    if let Some(from_function::Response::IncompleteInvocationContext(both)) = &mut both.response {
        both.missing_values.push(spec("large", ExpireMode::None, 0));
    }
    fixture.complete(batch.attempt, both);
    let batch = fixture.batch();
    assert_eq!(names(&batch), ["large", "seen"]);
    fixture.complete(batch.attempt, set_seen("1"));
    fixture.later(300_000);
    fixture.send("alice", "2");
    let batch = fixture.batch();
    fixture.complete(batch.attempt, set_seen("2"));
    let probe = fixture.batch();
    let one = incomplete("seen", "t/text", ExpireMode::AfterWrite, 1_000);
    fixture.complete(probe.attempt, one);
    fixture.send("alice", "3");
    let batch = fixture.batch();
    assert_eq!(names(&batch), ["seen"]);
    fixture.complete(batch.attempt, set_seen("3"));
    fixture.later(2_000);
    assert_eq!(fixture.seen("alice"), None, "the new expiration counts");
}

#[test]
fn a_function_with_fingerprints_is_never_asked_by_an_empty_batch() {
    let mut fixture = Fixture::renewing();
    let version = Version::of(&["seen"]);
    fixture.process_by(&version, "1");
    for _ in 0..3 {
        fixture.crash();
        fixture.settle();
        fixture.later(400_000);
        assert_eq!(fixture.process_by(&version, "2").len(), 1);
    }
}

#[test]
fn a_message_whose_probe_finds_no_endpoint_is_tried_again_after_a_back_off() {
    let mut fixture = Fixture::renewing();
    fixture.send("alice", "1");
    let batch = fixture.batch();
    let declared = incomplete("seen", "t/text", ExpireMode::None, 0);
    fixture.complete(batch.attempt, declared);
    for _ in 0..3 {
        let batch = fixture.batch();
        fixture.fail(batch.attempt, "no");
        fixture.later(200);
    }
    let probe = fixture.batch();
    assert_eq!(probe.messages, []);
    let failure = Failure::new(FailureKind::Throttled, "429");
    fixture.handle(Input::InvocationFailed {
        attempt: probe.attempt,
        failure,
    });
    assert_eq!(fixture.batches(), []);
    fixture.later(100);
    let batch = fixture.batch();
    assert_eq!(batch.messages[0].failed_attempts, 2);
    fixture.complete(batch.attempt, set_seen("1"));
    assert_eq!(fixture.dead_letters(), []);
}

#[test]
fn functions_without_states_cost_nothing() {
    let mut fixture = Fixture::renewing();
    for number in 0..20 {
        fixture.later(400_000);
        fixture.send(&number.to_string(), "x");
        let batch = fixture.batch();
        assert_eq!(batch.declarations.len(), 1, "the extension is announced");
        fixture.complete(batch.attempt, nothing());
        assert_eq!(fixture.batches(), []);
    }
}
