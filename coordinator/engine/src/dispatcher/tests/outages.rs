//! Outages of an endpoint, and poisonous messages that are not mistaken for them.

use super::*;

use FailureKind::{Ambiguous, ConnectionLost, Function, TimedOut, Unavailable};

/// A fixture whose endpoint takes one batch in a request and backs off for up to a minute.
fn fixture(concurrency_max: usize) -> Fixture {
    Fixture::of(Endpoint {
        bundle_batches_max: 1,
        retries: Retries {
            attempts_max: 3,
            backoff_initial_ms: 100,
            backoff_max_ms: 60_000,
        },
        ..endpoint(concurrency_max)
    })
}

/// Lists the attempts that were given back to the partition as failed.
fn failed_attempts(outputs: &[DispatcherOutput]) -> Vec<u64> {
    outputs
        .iter()
        .filter_map(|output| match output {
            DispatcherOutput::Failed { attempt, .. } => Some(attempt.number),
            _ => None,
        })
        .collect()
}

fn abandoned(outputs: &[DispatcherOutput]) -> Vec<u64> {
    outputs
        .iter()
        .filter_map(|output| match output {
            DispatcherOutput::Abandon(bundle) => Some(bundle.0),
            _ => None,
        })
        .collect()
}

impl Fixture {
    /// Advances in steps of 10 ms until something is sent. Returns the outputs of that moment and
    /// the time that passed.
    fn until_sent(&mut self) -> (Vec<DispatcherOutput>, u64) {
        let begun_ms = self.now_ms;
        for _ in 0..10_000 {
            let outputs = self.later(10);
            if !sent(&outputs).is_empty() {
                return (outputs, self.now_ms - begun_ms);
            }
        }
        panic!("nothing is sent any more");
    }

    fn is_down(&self) -> bool {
        let health = self.dispatcher.endpoint_health(LAMBDA);
        health.down_since_ms.is_some()
    }
}

#[test]
fn an_endpoint_that_is_away_is_probed_by_one_batch_at_least_every_two_seconds() {
    let mut fixture = fixture(5);
    let first: Vec<_> = (1..=9).flat_map(|n| sent(&fixture.ready(n, 1))).collect();
    assert_eq!(first.len(), 5);
    let mut requests = Vec::new();
    for (bundle, _) in first {
        let outputs = fixture.returned(bundle, failure(Unavailable));
        assert_eq!(failed_attempts(&outputs), [0; 0]);
        requests.extend(sent(&outputs));
    }
    // What took the place of the first requests fails too. From the third failure on, it is down.
    assert!(fixture.is_down());
    for (bundle, _) in requests {
        assert_eq!(sent(&fixture.returned(bundle, failure(Unavailable))), []);
    }
    let mut waits = Vec::new();
    let mut probed = Vec::new();
    for _ in 0..60 {
        let (outputs, waited_ms) = fixture.until_sent();
        let [(bundle, attempts)] = &sent(&outputs)[..] else {
            panic!("more than one probe: {outputs:?}");
        };
        waits.push(waited_ms);
        probed.extend(attempts.clone());
        let outputs = fixture.returned(*bundle, failure(Unavailable));
        assert_eq!(failed_attempts(&outputs), [0; 0]);
        assert_eq!(sent(&outputs), []);
    }
    assert!(waits[0] <= 200, "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= 2_010), "{waits:?}");
    let long = waits.iter().filter(|wait| **wait >= 1_000).count();
    assert!(long > 50, "probes back off: {waits:?}");
    for number in 1..=9 {
        assert!(probed.contains(&number), "{number} is never the probe");
    }

    // When the endpoint is back, everything flows at once, whatever the back-offs.
    let (outputs, waited_ms) = fixture.until_sent();
    assert!(waited_ms <= 2_010, "{waited_ms}");
    let (bundle, attempts) = sent(&outputs)[0].clone();
    let outputs = fixture.returned(bundle, answers(&attempts));
    assert_eq!(sent(&outputs).len(), 5);
    assert!(!fixture.is_down());
}

#[test]
fn what_may_be_either_is_an_outage_once_three_addresses_fail_and_none_succeeds() {
    for kind in [Ambiguous, TimedOut] {
        let mut fixture = fixture(1);
        for number in 1..=5 {
            fixture.ready(number, 1);
        }
        // The first two may be poisonous.
        let outputs = fixture.returned(1, failure(kind));
        assert_eq!(outputs[0], failed_as(kind, 1));
        let outputs = fixture.returned(2, failure(kind));
        assert_eq!(outputs[0], failed_as(kind, 2));
        assert_eq!(sent(&outputs), [(3, vec![3])]);
        let mut outputs = fixture.returned(3, failure(kind));
        for _ in 0..20 {
            assert_eq!(failed_attempts(&outputs), [0; 0]);
            assert!(fixture.is_down());
            let (probe, waited_ms) = fixture.until_sent();
            assert!(waited_ms <= 2_010);
            outputs = fixture.returned(sent(&probe)[0].0, failure(kind));
        }
        let (probe, _) = fixture.until_sent();
        let (bundle, attempts) = sent(&probe)[0].clone();
        let outputs = fixture.returned(bundle, answers(&attempts));
        assert_eq!(outputs[0], completed(attempts[0]));
        assert!(!fixture.is_down());
    }
}

#[test]
fn one_or_two_poisonous_addresses_are_no_outage_however_often_they_fail() {
    let mut fixture = fixture(4);
    for bundle in 1..=40 {
        let number = 1 + bundle % 2;
        assert_eq!(sent(&fixture.ready(number, 1)), [(bundle, vec![number])]);
        let outputs = fixture.returned(bundle, failure(Ambiguous));
        assert_eq!(outputs, [failed_as(Ambiguous, number)]);
        assert!(!fixture.is_down());
    }
}

#[test]
fn one_poisonous_message_that_fails_a_whole_bundle_is_no_outage() {
    let mut fixture = Fixture::new(1);
    fixture.ready(1, 1);
    (2..=5).for_each(|number| assert_eq!(fixture.ready(number, 1), []));
    fixture.returned(1, answers(&[1]));
    assert_eq!(
        failed_attempts(&fixture.returned(2, failure(Ambiguous))),
        [0; 0]
    );
    assert!(!fixture.is_down());
}

#[test]
fn a_success_ends_the_evidence_so_that_poison_counts_again_after_an_outage() {
    let mut fixture = fixture(1);
    for number in 1..=4 {
        fixture.ready(number, 1);
    }
    for bundle in 1..=3 {
        fixture.returned(bundle, failure(Ambiguous));
    }
    assert!(fixture.is_down());
    let (mut bundle, mut poison_failed, mut healthy) = (0, false, Vec::new());
    let mut outputs = fixture.until_sent().0;
    for _ in 0..20 {
        let next = sent(&outputs);
        let [(id, attempts)] = &next[..] else {
            break;
        };
        bundle = bundle.max(*id);
        let number = attempts[0];
        outputs = if number == 3 {
            fixture.returned(*id, failure(Ambiguous))
        } else {
            healthy.push(number);
            fixture.returned(*id, answers(attempts))
        };
        poison_failed |= failed_attempts(&outputs) == [3];
        if sent(&outputs).is_empty() && !poison_failed {
            outputs = fixture.until_sent().0;
        }
    }
    assert!(poison_failed, "the poisonous message counts");
    assert_eq!(healthy, [4]);
}

#[test]
fn a_judgement_of_the_function_counts_and_shows_that_the_endpoint_answers() {
    let mut fixture = fixture(1);
    for number in 1..=4 {
        fixture.ready(number, 1);
    }
    fixture.returned(1, failure(Ambiguous));
    fixture.returned(2, failure(Ambiguous));
    let outputs = fixture.returned(3, failure(Function));
    assert_eq!(outputs[0], failed_as(Function, 3));
    let outputs = fixture.returned(4, failure(Ambiguous));
    assert_eq!(outputs, [failed_as(Ambiguous, 4)]);
}

#[test]
fn a_function_that_is_not_deployed_does_not_hold_up_the_others_of_its_endpoint() {
    let mut fixture = fixture(4);
    let mut absent = VecDeque::from(sent(&fixture.ready(1_000, 1)));
    let mut answered = 0;
    for number in 1..=300 {
        for (bundle, attempts) in sent(&fixture.ready(number, 1)) {
            if attempts == [1_000] {
                absent.push_back((bundle, attempts));
                continue;
            }
            // The absent function answers 404 while a request of another one is in flight.
            if let Some((bundle, _)) = absent.pop_front() {
                absent.extend(sent(&fixture.returned(bundle, failure(Unavailable))));
            }
            assert_eq!(
                fixture.returned(bundle, answers(&attempts))[0],
                completed(number)
            );
            answered += 1;
        }
        absent.extend(sent(&fixture.later(10)));
    }
    assert_eq!(answered, 300);
    assert!(!fixture.is_down());
}

#[test]
fn a_lost_connection_costs_no_attempt_the_first_time() {
    let mut fixture = fixture(1);
    fixture.ready(1, 1);
    let outputs = fixture.returned(1, failure(ConnectionLost));
    let [DispatcherOutput::Send(again)] = &outputs[..] else {
        panic!("{outputs:?}");
    };
    assert!(again.new_connection, "it is sent again at once");
    let outputs = fixture.returned(2, failure(ConnectionLost));
    assert_eq!(outputs, [failed_as(ConnectionLost, 1)]);
}

/// Brings an endpoint down whose requests hang. Returns the fixture and the batches that wait.
fn hanging(concurrency_max: usize) -> Fixture {
    let mut fixture = fixture(concurrency_max);
    for number in 1..=3 {
        fixture.ready(number, 1);
    }
    for bundle in 1..=3 {
        fixture.returned(bundle, failure(TimedOut));
    }
    assert!(fixture.is_down());
    fixture
}

#[test]
fn a_probe_that_hangs_is_followed_by_another_one_beyond_the_limit() {
    let mut fixture = hanging(1);
    fixture.ready(4, 1);
    let (first, _) = fixture.until_sent();
    let (first, _) = sent(&first)[0].clone();
    let (second, waited_ms) = fixture.until_sent();
    assert_eq!(waited_ms, 2_000);
    assert_eq!(abandoned(&second), [0; 0]);
    let (second, _) = sent(&second)[0].clone();
    assert_eq!(fixture.dispatcher.bundles_under_way(), 2);
    // The oldest request is never abandoned, because the function may only be slow.
    let (third, waited_ms) = fixture.until_sent();
    assert_eq!(waited_ms, 2_000);
    assert_eq!(abandoned(&third), [second]);
    assert_eq!(fixture.dispatcher.bundles_under_way(), 2);
    let attempts = sent(&third)[0].1.clone();
    let outputs = fixture.returned(sent(&third)[0].0, answers(&attempts));
    assert_eq!(outputs[0], completed(attempts[0]));
    assert!(!fixture.is_down());
    assert_eq!(
        failed_attempts(&fixture.returned(second, failure(TimedOut))),
        [0; 0]
    );
    assert!(fixture.dispatcher.counts().foreign_results > 0);
    let _ = first;
}

#[test]
fn the_only_batch_of_an_endpoint_that_hangs_is_sent_a_second_time_and_completed_once() {
    for copy_answers in [true, false] {
        let mut fixture = hanging(10);
        let (outputs, _) = fixture.until_sent();
        let (original, attempts) = sent(&outputs)[0].clone();
        assert_eq!(attempts, [3], "the others were given back");
        let (outputs, waited_ms) = fixture.until_sent();
        assert_eq!(waited_ms, 2_000);
        let (copy, same) = sent(&outputs)[0].clone();
        assert_eq!(same, attempts);
        let (answers_first, abandons) = if copy_answers {
            (copy, original)
        } else {
            (original, copy)
        };
        let outputs = fixture.returned(answers_first, answers(&attempts));
        assert!(outputs.contains(&completed(3)), "{outputs:?}");
        assert_eq!(abandoned(&outputs), [abandons]);
        assert_eq!(fixture.returned(abandons, answers(&attempts)), []);
        assert_eq!(fixture.dispatcher.bundles_under_way(), 0);
        assert_eq!(fixture.dispatcher.batches_waiting(), 0);
    }
}

#[test]
fn a_copy_that_fails_in_any_form_leaves_the_batch_with_the_request_that_it_copies() {
    let in_an_answer =
        BundleOutcome::Answered(vec![(attempt(3), Err(Failure::new(Unavailable, "no")))]);
    for outcome in [failure(TimedOut), failure(Unavailable), in_an_answer] {
        let mut fixture = hanging(10);
        let (outputs, _) = fixture.until_sent();
        let original = sent(&outputs)[0].0;
        let (outputs, _) = fixture.until_sent();
        let copy = sent(&outputs)[0].0;
        let outputs = fixture.returned(copy, outcome);
        assert_eq!(failed_attempts(&outputs), [0; 0]);
        assert_eq!(fixture.dispatcher.bundles_under_way(), 1);
        assert_eq!(fixture.dispatcher.batches_waiting(), 0);
        let outputs = fixture.returned(original, answers(&[3]));
        assert!(outputs.contains(&completed(3)), "{outputs:?}");
    }
}

#[test]
fn a_slow_request_is_not_copied_unless_requests_were_seen_to_hang() {
    let mut fixture = fixture(10);
    fixture.ready(1, 1);
    fixture.returned(1, failure(Unavailable));
    let (outputs, _) = fixture.until_sent();
    let (slow, _) = sent(&outputs)[0].clone();
    for _ in 0..1_000 {
        assert_eq!(sent(&fixture.later(10)), []);
    }
    assert_eq!(fixture.returned(slow, answers(&[1])), [completed(1)]);
}
