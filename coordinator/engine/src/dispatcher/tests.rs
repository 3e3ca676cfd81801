use super::*;
use crate::address::{Address, FunctionType};
use crate::endpoint::{Endpoint, FunctionPattern, Linger, OnPoison, Retries};

mod lingering;
mod outages;

const LAMBDA: EndpointIndex = EndpointIndex(0);

fn endpoint(concurrency_max: usize) -> Endpoint {
    Endpoint {
        functions: vec![FunctionPattern::Namespace("example".into())],
        batch_messages_max: 1000,
        bundle_batches_max: 500,
        bundle_bytes_max: 1000,
        concurrency_max,
        linger: Linger::Measured,
        retries: Retries {
            attempts_max: 3,
            backoff_initial_ms: 100,
            backoff_max_ms: 1000,
        },
        on_poison: OnPoison::DeadLetter,
    }
}

struct Fixture {
    dispatcher: Dispatcher,
    now_ms: u64,
}

impl Fixture {
    fn new(concurrency_max: usize) -> Self {
        Self::of(endpoint(concurrency_max))
    }

    fn of(endpoint: Endpoint) -> Self {
        let endpoints = Endpoints::new(vec![endpoint]);
        Self {
            dispatcher: Dispatcher::new(endpoints, 7),
            now_ms: 1_000,
        }
    }

    fn ready(&mut self, number: u64, bytes: usize) -> Vec<DispatcherOutput> {
        let batch = Arc::new(batch(number, bytes));
        self.input(DispatcherInput::BatchReady {
            endpoint: LAMBDA,
            batch,
        })
    }

    fn returned(&mut self, bundle: u64, outcome: BundleOutcome) -> Vec<DispatcherOutput> {
        let bundle = BundleId(bundle);
        self.input(DispatcherInput::BundleReturned { bundle, outcome })
    }

    fn input(&mut self, input: DispatcherInput) -> Vec<DispatcherOutput> {
        self.dispatcher.handle_input(self.now_ms, input);
        std::iter::from_fn(|| self.dispatcher.poll_output()).collect()
    }

    fn later(&mut self, ms: u64) -> Vec<DispatcherOutput> {
        self.now_ms += ms;
        self.input(DispatcherInput::TimeReached)
    }
}

fn attempt(number: u64) -> AttemptId {
    AttemptId {
        partition: 0,
        epoch: 1,
        number,
    }
}

fn batch(number: u64, bytes: usize) -> Batch {
    Batch {
        attempt: attempt(number),
        target: Address::new(FunctionType::new("example", "greeter"), number.to_string()),
        state: vec![],
        messages: vec![],
        declarations: [].into(),
        bytes,
    }
}

/// Lists the requests among `outputs`: the number of the bundle, and the numbers of its attempts.
fn sent(outputs: &[DispatcherOutput]) -> Vec<(u64, Vec<u64>)> {
    outputs
        .iter()
        .filter_map(|output| match output {
            DispatcherOutput::Send(bundle) => {
                let attempts = bundle.batches.iter().map(|batch| batch.attempt.number);
                Some((bundle.id.0, attempts.collect()))
            }
            _ => None,
        })
        .collect()
}

fn completed(number: u64) -> DispatcherOutput {
    DispatcherOutput::Completed {
        attempt: attempt(number),
        answer: FromFunction::default(),
    }
}

fn failed(number: u64, message: &str) -> DispatcherOutput {
    DispatcherOutput::Failed {
        attempt: attempt(number),
        failure: Failure::new(FailureKind::Function, message),
    }
}

fn failed_as(kind: FailureKind, number: u64) -> DispatcherOutput {
    DispatcherOutput::Failed {
        attempt: attempt(number),
        failure: Failure::new(kind, "no"),
    }
}

fn answers(numbers: &[u64]) -> BundleOutcome {
    let answer = |number: &u64| (attempt(*number), Ok(FromFunction::default()));
    BundleOutcome::Answered(numbers.iter().map(answer).collect())
}

fn failure(kind: FailureKind) -> BundleOutcome {
    BundleOutcome::Failed(Failure::new(kind, "no"))
}

#[test]
fn a_batch_leaves_at_once_while_concurrency_is_free_and_gathers_while_it_is_not() {
    let mut fixture = Fixture::new(1);
    assert_eq!(sent(&fixture.ready(1, 10)), [(1, vec![1])]);
    assert_eq!(fixture.ready(2, 10), []);
    assert_eq!(fixture.ready(3, 10), []);
    let outputs = fixture.returned(1, answers(&[1]));
    assert_eq!(outputs[0], completed(1));
    assert_eq!(sent(&outputs), [(2, vec![2, 3])]);
}

#[test]
fn a_bundle_is_bounded_by_bytes_and_one_large_batch_travels_alone() {
    let mut fixture = Fixture::new(1);
    fixture.ready(1, 10);
    for (number, bytes) in [(2, 600), (3, 300), (4, 200), (5, 5000)] {
        fixture.ready(number, bytes);
    }
    assert_eq!(sent(&fixture.returned(1, answers(&[1]))), [(2, vec![2, 3])]);
    assert_eq!(sent(&fixture.returned(2, answers(&[2, 3]))), [(3, vec![4])]);
    assert_eq!(sent(&fixture.returned(3, answers(&[4]))), [(4, vec![5])]);
}

#[test]
fn ten_thousand_batches_take_at_most_a_hundred_requests_at_concurrency_ten() {
    let mut fixture = Fixture::new(10);
    let mut under_way = VecDeque::new();
    for number in 1..=10_000 {
        under_way.extend(sent(&fixture.ready(number, 1)));
    }
    let mut requests = 0;
    while let Some((bundle, attempts)) = under_way.pop_front() {
        requests += 1;
        under_way.extend(sent(&fixture.returned(bundle, answers(&attempts))));
    }
    assert_eq!(fixture.dispatcher.batches_waiting(), 0);
    assert!(requests <= 100, "{requests} requests");
}

#[test]
fn a_process_with_a_part_of_the_partitions_uses_that_part_of_the_concurrency() {
    let mut fixture = Fixture::new(8);
    let share = |owned| DispatcherInput::ShareChanged { owned, of: 8 };
    let in_flight = |fixture: &Fixture| fixture.dispatcher.bundles_under_way();
    fixture.input(share(3));
    for number in 1..=6 {
        fixture.ready(number, 600);
    }
    assert_eq!(in_flight(&fixture), 3);
    // None at all still lets requests of partitions that leave end.
    fixture.input(share(0));
    fixture.returned(1, answers(&[1]));
    fixture.returned(2, answers(&[2]));
    fixture.returned(3, answers(&[3]));
    assert_eq!(in_flight(&fixture), 1);
    fixture.input(share(8));
    for number in 7..=20 {
        fixture.ready(number, 600);
    }
    assert_eq!(in_flight(&fixture), 8);
}

#[test]
fn batches_of_a_partition_that_left_are_never_sent_again() {
    let mut fixture = Fixture::new(1);
    let of = |partition, number| {
        let batch = batch(number, 600);
        let attempt = AttemptId {
            partition,
            ..batch.attempt
        };
        DispatcherInput::BatchReady {
            endpoint: LAMBDA,
            batch: Arc::new(Batch { attempt, ..batch }),
        }
    };
    // One in flight, two waiting, of which one is of another partition.
    fixture.input(of(1, 1));
    fixture.input(of(1, 2));
    fixture.input(of(0, 3));
    let outputs = fixture.input(DispatcherInput::PartitionLeft(1));
    assert_eq!(outputs[0], DispatcherOutput::Abandon(BundleId(1)));
    assert_eq!(sent(&outputs), [(2, vec![3])]);
    assert_eq!(fixture.dispatcher.batches_waiting(), 0);
    // What the abandoned request answers all the same is of no interest.
    assert_eq!(fixture.returned(1, answers(&[1])), []);
    // One that waits for its retry.
    fixture.returned(2, answers(&[3]));
    fixture.input(of(1, 4));
    fixture.returned(3, failure(FailureKind::Unavailable));
    assert_eq!(fixture.dispatcher.batches_waiting(), 1);
    fixture.input(DispatcherInput::PartitionLeft(1));
    assert_eq!(fixture.dispatcher.batches_waiting(), 0);
    assert_eq!(sent(&fixture.later(60_000)), []);
}

#[test]
fn results_left_out_fail_and_foreign_and_second_ones_are_dropped() {
    let mut fixture = Fixture::new(1);
    fixture.ready(1, 10);
    fixture.ready(2, 10);
    fixture.ready(3, 10);
    fixture.returned(1, answers(&[1]));
    let outputs = fixture.returned(2, answers(&[3, 3, 9]));
    let missing = failed(2, "the response holds no result for this batch");
    assert_eq!(outputs, [completed(3), missing]);
    assert_eq!(fixture.dispatcher.counts().foreign_results, 2);
    assert_eq!(fixture.returned(2, answers(&[2])), []);
    assert_eq!(fixture.dispatcher.counts().foreign_results, 3);
}

#[test]
fn a_bundle_that_keeps_failing_is_split_until_the_batch_that_fails_is_alone() {
    let mut fixture = Fixture::new(1);
    fixture.ready(1, 10);
    (2..=5).for_each(|number| assert_eq!(fixture.ready(number, 10), []));
    let poison = 4;
    let mut under_way = VecDeque::from(sent(&fixture.returned(1, answers(&[1]))));
    assert_eq!(under_way, [(2, vec![2, 3, 4, 5])]);
    let mut results = Vec::new();
    let mut requests = Vec::new();
    for _ in 0..50 {
        let outputs = match under_way.pop_front() {
            Some((bundle, attempts)) => {
                requests.push(attempts.clone());
                let outcome = if attempts.contains(&poison) {
                    failure(FailureKind::Ambiguous)
                } else {
                    answers(&attempts)
                };
                fixture.returned(bundle, outcome)
            }
            None => fixture.later(200),
        };
        under_way.extend(sent(&outputs));
        results.extend(outputs.into_iter().filter(|output| {
            matches!(
                output,
                DispatcherOutput::Completed { .. } | DispatcherOutput::Failed { .. }
            )
        }));
    }
    let whole = vec![2, 3, 4, 5];
    assert_eq!(requests[..2], [whole.clone(), whole]);
    results.sort_by_key(|result| match result {
        DispatcherOutput::Completed { attempt, .. } | DispatcherOutput::Failed { attempt, .. } => {
            attempt.number
        }
        _ => 0,
    });
    assert_eq!(
        results,
        [
            completed(2),
            completed(3),
            failed_as(FailureKind::Ambiguous, 4),
            completed(5)
        ]
    );
}

#[test]
fn throttling_halves_the_concurrency_once_a_round_and_nothing_is_sent_until_the_back_off_is_over() {
    let mut fixture = Fixture::new(8);
    for number in 1..=8 {
        assert_eq!(sent(&fixture.ready(number, 10)).len(), 1);
    }
    for bundle in 1..=8 {
        let outputs = fixture.returned(bundle, failure(FailureKind::Throttled));
        assert_eq!(sent(&outputs), []);
    }
    let outputs = fixture.later(100);
    assert_eq!(
        sent(&outputs).len(),
        4,
        "half of eight, and not a half for each of eight answers"
    );
    // Four successes at a limit of four are one round, so one more request may be in flight.
    for (bundle, attempts) in sent(&outputs) {
        fixture.returned(bundle, answers(&attempts));
    }
    for number in 11..=30 {
        fixture.ready(number, 10);
    }
    assert_eq!(fixture.dispatcher.bundles_under_way(), 5);
}

#[test]
fn a_request_that_is_too_large_is_split_at_once() {
    let mut fixture = Fixture::new(1);
    fixture.ready(1, 10);
    fixture.ready(2, 10);
    fixture.ready(3, 10);
    fixture.returned(1, answers(&[1]));
    let outputs = fixture.returned(2, failure(FailureKind::RequestTooLarge));
    assert_eq!(sent(&outputs), [(3, vec![2])]);
    let outputs = fixture.returned(3, failure(FailureKind::RequestTooLarge));
    let too_large = DispatcherOutput::Failed {
        attempt: attempt(2),
        failure: Failure::new(FailureKind::RequestTooLarge, "no"),
    };
    assert_eq!(outputs[0], too_large);
    assert_eq!(sent(&outputs), [(4, vec![3])]);
}

#[test]
fn a_dispatcher_woken_too_early_requests_another_wake_up() {
    let mut fixture = Fixture::new(1);
    fixture.ready(1, 10);
    let failure = Failure::new(FailureKind::Throttled, "429");
    let asked = fixture.returned(1, BundleOutcome::Failed(failure));
    assert!(
        matches!(asked[..], [DispatcherOutput::WakeAt(_)]),
        "{asked:?}"
    );
    assert_eq!(fixture.later(1), asked);
    assert_eq!(fixture.later(1), asked);
    let sent = fixture.later(1_000);
    assert!(matches!(sent[..], [DispatcherOutput::Send(_)]), "{sent:?}");
}

#[test]
fn an_endpoint_that_asks_to_wait_is_left_alone_that_long_up_to_the_maximum_back_off() {
    let throttled = |retry_after_ms| {
        let failure = Failure::new(FailureKind::Throttled, "429");
        BundleOutcome::Failed(failure.retry_after(retry_after_ms))
    };
    let backoff_max_ms = endpoint(1).retries.backoff_max_ms;
    for (asked_ms, waited_ms) in [
        (backoff_max_ms - 1, backoff_max_ms - 1),
        (u64::MAX, backoff_max_ms),
    ] {
        let mut fixture = Fixture::new(2);
        fixture.ready(1, 10);
        fixture.ready(2, 10);
        fixture.returned(1, throttled(None));
        // The second answer asks for more, and is not shortened by the first.
        fixture.returned(2, throttled(Some(asked_ms)));
        assert_eq!(sent(&fixture.later(waited_ms - 1)), []);
        assert_eq!(sent(&fixture.later(1)).len(), 1);
    }
}

#[test]
fn the_load_counts_requests_in_flight_and_waiting_batches_also_those_to_retry() {
    let mut fixture = Fixture::new(1);
    let load = |fixture: &Fixture| {
        let health = fixture.dispatcher.endpoint_health(LAMBDA);
        (health.in_flight, health.waiting)
    };
    fixture.ready(1, 10);
    fixture.ready(2, 10);
    fixture.ready(3, 10);
    assert_eq!(load(&fixture), (1, 2));
    let refused = Failure::new(FailureKind::Unavailable, "connection refused");
    fixture.returned(1, BundleOutcome::Failed(refused));
    assert_eq!(load(&fixture), (0, 3), "the lane waits");
    let sent = sent(&fixture.later(1_000));
    assert_eq!(sent, [(2, vec![2])], "the probe is another batch");
    assert_eq!(load(&fixture), (1, 2));
    fixture.returned(2, answers(&[2]));
    fixture.returned(3, answers(&[1]));
    fixture.returned(4, answers(&[3]));
    assert_eq!(load(&fixture), (0, 0));
}
