//! Batches that gather while requests are in flight.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;
use crate::invocation::BatchMessage;

fn lingering(linger_ms: u64) -> Fixture {
    Fixture::of(Endpoint {
        linger: Linger::Fixed(linger_ms),
        ..endpoint(10)
    })
}

#[test]
fn a_lone_caller_never_waits() {
    let mut fixture = lingering(10);
    for number in 1..=5 {
        assert_eq!(sent(&fixture.ready(number, 10)), [(number, vec![number])]);
        fixture.now_ms += 3;
        let outputs = fixture.returned(number, answers(&[number]));
        assert_eq!(outputs, [completed(number)]);
    }
}

#[test]
fn batches_gather_until_the_oldest_has_waited_for_the_linger() {
    let mut fixture = lingering(10);
    fixture.ready(1, 10);
    fixture.now_ms += 2;
    let wake = DispatcherOutput::WakeAt(fixture.now_ms + 10);
    assert_eq!(fixture.ready(2, 10), std::slice::from_ref(&wake));
    fixture.now_ms += 5;
    assert_eq!(fixture.ready(3, 10), []);
    assert_eq!(fixture.later(4), [wake], "the wake-up came too early");
    assert_eq!(sent(&fixture.later(1)), [(2, vec![2, 3])]);
}

#[test]
fn batches_that_gather_are_sent_when_the_last_request_in_flight_returns() {
    let mut fixture = lingering(10);
    fixture.ready(1, 10);
    fixture.ready(2, 10);
    assert_eq!(sent(&fixture.later(10)), [(2, vec![2])]);
    fixture.ready(3, 10);
    fixture.ready(4, 10);
    fixture.now_ms += 1;
    assert_eq!(sent(&fixture.returned(1, answers(&[1]))), []);
    let outputs = fixture.returned(2, answers(&[2]));
    assert_eq!(sent(&outputs), [(3, vec![3, 4])]);
}

#[test]
fn the_last_request_also_ends_the_linger_when_it_fails() {
    for kind in [FailureKind::Function, FailureKind::Ambiguous] {
        let mut fixture = lingering(10);
        fixture.ready(1, 10);
        fixture.ready(2, 10);
        let outputs = fixture.returned(1, failure(kind));
        assert_eq!(sent(&outputs), [(2, vec![2])], "{kind:?}");
    }
}

#[test]
fn a_full_bundle_is_sent_at_once_and_the_rest_gathers() {
    let by_number = Endpoint {
        linger: Linger::Fixed(10),
        bundle_batches_max: 3,
        ..endpoint(10)
    };
    let by_size = Endpoint {
        linger: Linger::Fixed(10),
        bundle_bytes_max: 30,
        ..endpoint(10)
    };
    for full in [by_number, by_size] {
        let mut fixture = Fixture::of(full);
        fixture.ready(1, 10);
        fixture.now_ms += 1;
        fixture.ready(2, 10);
        fixture.ready(3, 10);
        assert_eq!(sent(&fixture.ready(4, 10)), [(2, vec![2, 3, 4])]);
        fixture.now_ms += 1;
        fixture.ready(5, 10);
        assert_eq!(sent(&fixture.later(9)), []);
        assert_eq!(sent(&fixture.later(1)), [(3, vec![5])]);
    }
}

#[test]
fn an_endpoint_without_bundles_or_without_a_linger_sends_at_once() {
    let without_bundles = Endpoint {
        linger: Linger::Fixed(10),
        bundle_batches_max: 1,
        ..endpoint(10)
    };
    let without_linger = Endpoint {
        linger: Linger::Fixed(0),
        ..endpoint(10)
    };
    for endpoint in [without_bundles, without_linger] {
        let mut fixture = Fixture::of(endpoint);
        for number in 1..=3 {
            assert_eq!(sent(&fixture.ready(number, 10)), [(number, vec![number])]);
        }
    }
}

#[test]
fn what_is_retried_never_gathers() {
    let mut fixture = lingering(1_000);
    fixture.ready(1, 10);
    fixture.ready(2, 10);
    fixture.ready(3, 10);
    assert_eq!(sent(&fixture.later(1_000)), [(2, vec![2, 3])]);
    // The first request stays in flight.
    fixture.returned(2, failure(FailureKind::Function));
    assert_eq!(sent(&fixture.later(100)), [(3, vec![2, 3])], "once more");
    fixture.returned(3, failure(FailureKind::Function));
    assert_eq!(
        sent(&fixture.later(200)),
        [(4, vec![3]), (5, vec![2])],
        "and then in halves"
    );
}

#[test]
fn no_more_than_the_concurrency_is_in_flight_whatever_has_lingered() {
    let mut fixture = Fixture::of(Endpoint {
        linger: Linger::Fixed(10),
        ..endpoint(2)
    });
    fixture.ready(1, 10);
    fixture.ready(2, 10);
    assert_eq!(sent(&fixture.later(10)), [(2, vec![2])]);
    fixture.ready(3, 10);
    assert_eq!(fixture.later(50), [], "nor is a wake-up requested");
    fixture.ready(4, 10);
    let outputs = fixture.returned(1, answers(&[1]));
    assert_eq!(sent(&outputs), [(3, vec![3, 4])], "their linger is over");
}

#[test]
fn an_endpoint_that_throttles_is_left_alone_though_the_linger_is_over() {
    let mut fixture = lingering(10);
    fixture.ready(1, 10);
    fixture.ready(2, 10);
    assert_eq!(sent(&fixture.later(10)), [(2, vec![2])]);
    fixture.ready(3, 10);
    let throttled = Failure::new(FailureKind::Throttled, "429").retry_after(Some(300));
    fixture.returned(1, BundleOutcome::Failed(throttled));
    assert_eq!(sent(&fixture.later(299)), []);
    let both = sent(&fixture.later(1));
    assert_eq!(both, [(3, vec![1]), (4, vec![3])]);
}

/// Calls at random times to functions that answer after a time of their own.
#[derive(Clone, Copy)]
struct Load {
    linger: Linger,
    calls_a_second: u64,
    /// Latency of a request with one message, and what each message adds, in µs.
    latency_us: (u64, u64),
    concurrency_max: usize,
    seed: u64,
}

/// Result of ten seconds under a load.
#[derive(Debug)]
struct Measured {
    messages_a_request: f64,
    /// Median time between a call and its answer in ms.
    p50_ms: f64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Returns(u64, Vec<u64>),
    Wakes,
    Call,
}

impl Load {
    fn run(self) -> Measured {
        let mut fixture = Fixture::of(Endpoint {
            linger: self.linger,
            bundle_bytes_max: 1 << 20,
            ..endpoint(self.concurrency_max)
        });
        let mut random = Dispatcher::new(Endpoints::default(), self.seed);
        let mut events = BinaryHeap::from([Reverse((0, Event::Call))]);
        let mut called_us = Vec::new();
        let mut latencies_us = Vec::new();
        let mut woken_at_us = None;
        while let Some(Reverse((now_us, event))) = events.pop() {
            if event == Event::Wakes && woken_at_us != Some(now_us) {
                // Another time was requested since.
                continue;
            }
            fixture.now_ms = now_us / 1_000;
            let outputs = match event {
                Event::Call => {
                    called_us.push(now_us);
                    let uniform = (random.draw() >> 11) as f64 / (1_u64 << 53) as f64;
                    let gap_us = -(1.0 - uniform).ln() * 1e6 / self.calls_a_second as f64;
                    if now_us < 10_000_000 {
                        events.push(Reverse((now_us + gap_us as u64, Event::Call)));
                    }
                    fixture.call(called_us.len() as u64)
                }
                Event::Returns(bundle, calls) => {
                    let waited = calls
                        .iter()
                        .map(|call| now_us - called_us[*call as usize - 1]);
                    latencies_us.extend(waited);
                    fixture.returned(bundle, answers(&calls))
                }
                Event::Wakes => fixture.later(0),
            };
            for (bundle, calls) in sent(&outputs) {
                let messages = calls.len() as u64;
                let took_us = self.latency_us.0 + messages * self.latency_us.1;
                let returns = Event::Returns(bundle, calls);
                events.push(Reverse((now_us + took_us, returns)));
            }
            for output in &outputs {
                if let DispatcherOutput::WakeAt(due_ms) = output {
                    // Timers are late by up to one millisecond.
                    let at_us = (due_ms * 1_000).max(now_us) + 1_000;
                    woken_at_us = Some(at_us);
                    events.push(Reverse((at_us, Event::Wakes)));
                }
            }
        }
        assert_eq!(latencies_us.len(), called_us.len(), "each call is answered");
        latencies_us.sort_unstable();
        let requests = fixture.dispatcher.counts().bundles;
        Measured {
            messages_a_request: called_us.len() as f64 / requests as f64,
            p50_ms: latencies_us[latencies_us.len() / 2] as f64 / 1e3,
        }
    }

    /// Runs without and with the default linger.
    fn compare(self) -> [Measured; 2] {
        [Linger::Fixed(0), Linger::Measured].map(|linger| {
            let measured = Self { linger, ..self }.run();
            println!("{} calls/s, {linger:?}: {measured:?}", self.calls_a_second);
            measured
        })
    }
}

impl Fixture {
    /// Hands in a batch of one message.
    fn call(&mut self, number: u64) -> Vec<DispatcherOutput> {
        let message = BatchMessage {
            caller: None,
            argument: satchel_protocol::reqreply::TypedValue::default(),
            id: "".into(),
            failed_attempts: 0,
            trace: None,
            headers: None,
        };
        let batch = Batch {
            messages: vec![message],
            ..batch(number, 100)
        };
        self.input(DispatcherInput::BatchReady {
            endpoint: LAMBDA,
            batch: Arc::new(batch),
        })
    }
}

const LOAD: Load = Load {
    linger: Linger::Measured,
    calls_a_second: 800,
    latency_us: (12_000, 0),
    concurrency_max: 50,
    seed: 1,
};

#[test]
fn at_eight_hundred_calls_a_second_a_request_holds_eight_messages_and_p50_grows_by_seven_ms() {
    for seed in 1..=5 {
        let [before, after] = Load { seed, ..LOAD }.compare();
        assert!(before.messages_a_request < 1.2, "{before:?}");
        assert!(after.messages_a_request >= 8.0, "{after:?}");
        assert!(after.p50_ms - before.p50_ms <= 7.0, "{after:?}");
    }
}

#[test]
fn under_saturation_a_request_holds_a_hundred_messages() {
    let load = Load {
        calls_a_second: 30_000,
        latency_us: (12_000, 20),
        ..LOAD
    };
    let [_, after] = load.compare();
    assert!(after.messages_a_request >= 100.0, "{after:?}");
}

#[test]
fn calls_that_come_rarely_do_not_wait_for_others() {
    let load = Load {
        calls_a_second: 20,
        ..LOAD
    };
    let [before, after] = load.compare();
    assert!(after.p50_ms <= before.p50_ms, "{after:?}");
}

#[test]
fn a_function_that_works_through_its_messages_one_by_one_is_not_given_many_at_once() {
    let load = Load {
        calls_a_second: 800,
        latency_us: (1_000, 5_000),
        ..LOAD
    };
    let [before, after] = load.compare();
    assert!(after.p50_ms - before.p50_ms <= 15.0, "{after:?}");
    let always = Load {
        linger: Linger::Fixed(10),
        ..load
    };
    let always = always.run();
    assert!(always.p50_ms - before.p50_ms > 30.0, "{always:?}");
}

#[test]
fn a_fast_function_is_given_its_messages_at_once() {
    let load = Load {
        calls_a_second: 2_000,
        latency_us: (400, 10),
        ..LOAD
    };
    let [before, after] = load.compare();
    assert!(after.p50_ms - before.p50_ms < 0.1, "{after:?}");
}
