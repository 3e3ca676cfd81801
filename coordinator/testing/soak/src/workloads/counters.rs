//! Calls that increment a counter exactly once, whatever happens to their answers. A repeated call
//! gets the same answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;

use super::{Workload, lock};
use crate::clients::Clients;
use crate::egress::SeenEgress;
use crate::functions::counters::{Add, Counted, Ordinal};
use crate::random::Random;
use crate::sabotage::Sabotage;

/// Number of counters.
const COUNTERS: u64 = 8;

/// Maximum number of answers remembered for repeated calls.
const ANSWERS_MAX: usize = 500;

/// Answers that callers received.
#[derive(Debug, Default)]
pub(super) struct Counters {
    answers: Mutex<Answers>,
}

#[derive(Debug, Default)]
struct Answers {
    /// Ordinals that each counter returned.
    places: BTreeMap<u64, BTreeSet<u64>>,
    /// Latest operations with their counters and answers.
    latest: VecDeque<(u64, u64, Ordinal)>,
}

impl Workload for Counters {
    const NAME: &'static str = "counters";
    const SHARE: u64 = 22;

    async fn operate(&self, n: u64, clients: &Clients) {
        let mut random = Random::of(clients.seed, n);
        let answered = {
            let answers = lock(&self.answers);
            let count = answers.latest.len() as u64;
            let any = (count > 0).then(|| random.below(count) as usize);
            // A repeated call under a new key gets a different answer.
            let any = any.filter(|_| clients.sabotage != Some(Sabotage::WithoutKeys));
            any.and_then(|any| answers.latest.get(any))
                .map(|(counter, n, place)| {
                    let place = place.place;
                    (*counter, *n, Ordinal { place })
                })
        };
        match answered {
            Some((counter, n, place)) if random.percent(10) => {
                repeat(clients, counter, n, &place).await;
            }
            Some((counter, n, _)) if random.percent(5) => misuse(clients, counter, n).await,
            _ => self.add(n, random.below(COUNTERS), clients).await,
        }
    }

    async fn mismatch(&self, clients: &Clients, _: &SeenEgress) -> Option<String> {
        for counter in 0..COUNTERS {
            let counted: Counted = clients.state(&address(counter)).await?;
            let answers = lock(&self.answers);
            let places = answers.places.get(&counter);
            let count = places.map_or(0, BTreeSet::len) as u64;
            let last = places.and_then(BTreeSet::last).copied().unwrap_or_default();
            if (counted.count, last) != (count, count) {
                return Some(format!(
                    "counter {counter} counted {} of {count} operations and returned {last} last",
                    counted.count
                ));
            }
        }
        None
    }
}

impl Counters {
    async fn add(&self, n: u64, counter: u64, clients: &Clients) {
        let Some(reply) = clients.call(&address(counter), &Add { n }, &key(n)).await else {
            return;
        };
        let place = serde_json::from_slice::<Ordinal>(&reply.body);
        let (200, Ok(place)) = (reply.status, place) else {
            return clients.violations.record(format!(
                "unexpected answer to operation {n} of counter {counter}: {reply:?}"
            ));
        };
        let mut answers = lock(&self.answers);
        if !answers
            .places
            .entry(counter)
            .or_default()
            .insert(place.place)
        {
            clients.violations.record(format!(
                "counter {counter} returned {place:?} to operation {n} and to another one"
            ));
        }
        answers.latest.push_back((counter, n, place));
        if answers.latest.len() > ANSWERS_MAX {
            answers.latest.pop_front();
        }
    }
}

/// A repeated call must get the same answer.
async fn repeat(clients: &Clients, counter: u64, n: u64, place: &Ordinal) {
    let Some(reply) = clients.call(&address(counter), &Add { n }, &key(n)).await else {
        return;
    };
    let again = serde_json::from_slice::<Ordinal>(&reply.body);
    if reply.status != 200 || again.as_ref().ok() != Some(place) {
        clients.violations.record(format!(
            "operation {n} of counter {counter} was answered {place:?} before, now {reply:?}"
        ));
    }
    clients.metrics.count("repeated calls");
}

/// A different body under a used key must be rejected and must not count.
async fn misuse(clients: &Clients, counter: u64, n: u64) {
    let other = Add { n: u64::MAX - n };
    let Some(reply) = clients.call(&address(counter), &other, &key(n)).await else {
        return;
    };
    if reply.status != 422 {
        clients.violations.record(format!(
            "unexpected answer to a different body under the key of operation {n} \
             of counter {counter}: {reply:?}"
        ));
    }
    clients.metrics.count("misused keys");
}

fn address(counter: u64) -> String {
    format!("soak/counter/{counter}")
}

fn key(n: u64) -> String {
    format!("add-{n}")
}
