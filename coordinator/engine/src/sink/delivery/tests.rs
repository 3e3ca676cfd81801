//! Examples, and a service that fails in every way.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    records_per_request: 5,
    bytes_per_request: 100,
    requests_in_flight: 2,
    records_in_flight: 8,
};

fn record(number: u64, destination: &str, key: Option<&str>, bytes: usize) -> Record<()> {
    Record {
        number,
        destination: destination.into(),
        key: key.map(Into::into),
        bytes,
        payload: (),
    }
}

fn numbers(request: &Request<()>) -> Vec<u64> {
    request.records.iter().map(|record| record.number).collect()
}

#[test]
fn a_record_that_fails_holds_back_those_of_its_key_and_no_others() {
    let mut delivery = Delivery::new(LIMITS, 1);
    for (number, key) in [(1, "a"), (2, "a"), (3, "b"), (4, "b")] {
        delivery.offer(record(number, "s", Some(key), 1));
    }
    let first = delivery.poll(0).unwrap();
    assert_eq!(numbers(&first), [1, 3]);
    assert!(delivery.poll(0).is_none(), "both keys are under way");
    let outcomes = vec![Outcome::Throttled("slow".into()), Outcome::Delivered];
    let settled = delivery.answered(0, first.id, outcomes);
    assert_eq!(settled, [Settled::Delivered(3)]);
    let second = delivery.poll(0).unwrap();
    assert_eq!(numbers(&second), [4]);
    delivery.answered(0, second.id, vec![Outcome::Delivered]);
    let due_ms = delivery.wake_at_ms(0).unwrap();
    assert!(delivery.poll(due_ms - 1).is_none());
    let third = delivery.poll(due_ms).unwrap();
    assert_eq!(numbers(&third), [1]);
    delivery.answered(due_ms, third.id, vec![Outcome::Delivered]);
    assert_eq!(numbers(&delivery.poll(due_ms).unwrap()), [2]);
}

#[test]
fn records_of_an_invalid_request_are_retried_alone() {
    let mut delivery = Delivery::new(LIMITS, 1);
    (1..=3).for_each(|number| delivery.offer(record(number, "s", None, 1)));
    let all = delivery.poll(0).unwrap();
    let suspect = || Outcome::Suspect("one of them".into());
    delivery.answered(0, all.id, vec![suspect(), suspect(), suspect()]);
    let one = delivery.poll(0).unwrap();
    let two = delivery.poll(0).unwrap();
    assert_eq!((numbers(&one), numbers(&two)), (vec![1], vec![2]));
    let refused = delivery.answered(0, two.id, vec![Outcome::Refused("bad".into())]);
    let reason = "bad".into();
    assert_eq!(refused, [Settled::Refused { number: 2, reason }]);
    delivery.answered(0, one.id, vec![Outcome::Delivered]);
    let three = delivery.poll(0).unwrap();
    delivery.answered(0, three.id, vec![Outcome::Delivered]);
    assert_eq!(delivery.pending(), 0);
}

#[test]
fn a_destination_that_stays_missing_refuses_its_records_and_blocks_no_other() {
    let mut delivery = Delivery::new(LIMITS, 1);
    delivery.offer(record(1, "missing", Some("k"), 1));
    delivery.offer(record(2, "there", Some("k"), 1));
    let mut now_ms = 0;
    let mut settled = Vec::new();
    while delivery.pending() > 0 {
        while let Some(request) = delivery.poll(now_ms) {
            let outcome = match &*request.destination {
                "missing" => Outcome::Missing("no such stream".into()),
                _ => Outcome::Delivered,
            };
            settled.extend(delivery.answered(now_ms, request.id, vec![outcome]));
        }
        now_ms = delivery.wake_at_ms(now_ms).unwrap_or(now_ms);
    }
    let reason = "no such stream".into();
    let refused = Settled::Refused { number: 1, reason };
    assert_eq!(settled, [Settled::Delivered(2), refused]);
    assert!(now_ms > 60_000, "it had time to appear: {now_ms} ms");
}

#[test]
fn an_unreachable_service_gets_few_requests_whatever_the_number_of_keys() {
    let mut delivery = Delivery::new(LIMITS, 1);
    for number in 1..=1000 {
        delivery.offer(record(number, "s", Some(&number.to_string()), 1));
    }
    let (mut now_ms, mut requests) = (0, 0);
    while now_ms < 60_000 {
        while let Some(request) = delivery.poll(now_ms) {
            requests += 1;
            let outcomes = vec![Outcome::Retry("unreachable".into()); request.records.len()];
            delivery.answered(now_ms, request.id, outcomes);
        }
        now_ms = delivery.wake_at_ms(now_ms).unwrap();
    }
    assert!(requests < 30, "{requests} requests in a minute");
    assert_eq!(delivery.pending(), 1000);
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        5 => Just(Outcome::Delivered),
        2 => Just(Outcome::Retry("again".into())),
        2 => Just(Outcome::Throttled("slow".into())),
        1 => Just(Outcome::Refused("never".into())),
        1 => Just(Outcome::Suspect("some".into())),
        1 => Just(Outcome::Missing("nowhere".into())),
    ]
}

proptest! {
    #[test]
    fn limits_and_order_hold_and_nothing_is_lost_whatever_the_service_answers(
        records in prop::collection::vec(
            (0..3_u8, prop::option::of(0..4_u8), 1..=100_usize),
            1..60,
        ),
        outcomes in prop::collection::vec(outcome(), 1..200),
        answer_last in prop::collection::vec(any::<bool>(), 1..50),
        seed: u64,
    ) {
        let mut delivery = Delivery::new(LIMITS, seed);
        let mut keys = Map::default();
        for (number, (destination, key, bytes)) in (1..).zip(&records) {
            let key = key.map(|key| key.to_string());
            keys.insert(number, (*destination, key.clone()));
            delivery.offer(record(number, &destination.to_string(), key.as_deref(), *bytes));
        }
        let mut outcomes = outcomes.into_iter().chain(std::iter::repeat(Outcome::Delivered));
        let mut answer_last = answer_last.into_iter().cycle();
        let mut under_way: Vec<Request<()>> = Vec::new();
        let mut settled: Vec<u64> = Vec::new();
        let mut now_ms = 0;
        while delivery.pending() > 0 {
            while let Some(request) = delivery.poll(now_ms) {
                prop_assert!(request.records.len() <= LIMITS.records_per_request);
                let bytes: usize = request.records.iter().map(|record| record.bytes).sum();
                prop_assert!(bytes <= LIMITS.bytes_per_request || request.records.len() == 1);
                under_way.push(request);
            }
            let mut at: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
            let mut keyed = Vec::new();
            for request in &under_way {
                let place = at.entry(&request.destination).or_default();
                place.0 += 1;
                place.1 += request.records.len();
                keyed.extend(request.records.iter().filter_map(|record| {
                    Some((Arc::clone(&record.destination), record.key.clone()?))
                }));
            }
            for (requests, records) in at.into_values() {
                prop_assert!(requests <= LIMITS.requests_in_flight);
                prop_assert!(records <= LIMITS.records_in_flight);
            }
            let count = keyed.len();
            keyed.sort();
            keyed.dedup();
            prop_assert_eq!(keyed.len(), count, "one under way per key");
            let request = match answer_last.next() {
                Some(true) => under_way.pop(),
                _ if under_way.is_empty() => None,
                _ => Some(under_way.remove(0)),
            };
            match request {
                None => now_ms = delivery.wake_at_ms(now_ms).expect("something is to be sent"),
                Some(request) => {
                    let outcomes = outcomes.by_ref().take(request.records.len()).collect();
                    let done = delivery.answered(now_ms, request.id, outcomes);
                    settled.extend(done.into_iter().map(|settled| match settled {
                        Settled::Delivered(number) | Settled::Refused { number, .. } => number,
                    }));
                }
            }
        }
        let mut per_key: Map<_, Vec<u64>> = Map::default();
        for number in &settled {
            let (destination, key) = &keys[number];
            if let Some(key) = key {
                per_key.entry((*destination, key.clone())).or_default().push(*number);
            }
        }
        prop_assert!(per_key.values().all(|numbers| numbers.is_sorted()), "{per_key:?}");
        settled.sort_unstable();
        prop_assert_eq!(settled, (1..=records.len() as u64).collect::<Vec<_>>());
    }
}
