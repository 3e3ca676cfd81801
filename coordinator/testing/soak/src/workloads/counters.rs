//! Calls that count, each once, whatever becomes of its answers; and the same answer whenever a call is repeated.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;

use super::{Workload, lock};
use crate::functions::counters::{Add, Counted, Place};
use crate::left::SeenToLeave;
use crate::outside::Outside;
use crate::random::Random;
use crate::sabotage::Sabotage;

/// How many counters there are.
const COUNTERS: u64 = 8;

/// How many answers are remembered for being asked for again.
const ANSWERS_MAX: usize = 500;

/// What the callers of counters were told.
#[derive(Debug, Default)]
pub(super) struct Counters {
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// The places that each counter gave.
    places: BTreeMap<u64, BTreeSet<u64>>,
    /// The latest operations with their counters and answers.
    answers: VecDeque<(u64, u64, Place)>,
}

impl Workload for Counters {
    const NAME: &'static str = "counters";
    const SHARE: u64 = 25;

    async fn operate(&self, n: u64, outside: &Outside) {
        let mut random = Random::of(outside.seed, n);
        let answered = {
            let told = lock(&self.told);
            let count = told.answers.len() as u64;
            let any = (count > 0).then(|| random.below(count) as usize);
            // Whoever asks again under other keys gets other answers.
            let any = any.filter(|_| outside.sabotage != Some(Sabotage::WithoutKeys));
            any.and_then(|any| told.answers.get(any))
                .map(|(counter, n, place)| {
                    let place = place.place;
                    (*counter, *n, Place { place })
                })
        };
        match answered {
            Some((counter, n, place)) if random.percent(10) => {
                repeat(outside, counter, n, &place).await;
            }
            Some((counter, n, _)) if random.percent(5) => misuse(outside, counter, n).await,
            _ => self.add(n, random.below(COUNTERS), outside).await,
        }
    }

    async fn lacks(&self, outside: &Outside, _: &SeenToLeave) -> Option<String> {
        for counter in 0..COUNTERS {
            let counted: Counted = outside.state(&address(counter)).await?;
            let told = lock(&self.told);
            let places = told.places.get(&counter);
            let count = places.map_or(0, BTreeSet::len) as u64;
            let last = places.and_then(BTreeSet::last).copied().unwrap_or_default();
            if (counted.count, last) != (count, count) {
                return Some(format!(
                    "counter {counter} counts {} of {count} operations, and said that {last} was the last",
                    counted.count
                ));
            }
        }
        None
    }
}

impl Counters {
    async fn add(&self, n: u64, counter: u64, outside: &Outside) {
        let Some(reply) = outside.call(&address(counter), &Add { n }, &key(n)).await else {
            return;
        };
        let place = serde_json::from_slice::<Place>(&reply.body);
        let (200, Ok(place)) = (reply.status, place) else {
            return outside.violations.note(format!(
                "operation {n} of counter {counter} is answered {reply:?}"
            ));
        };
        let mut told = lock(&self.told);
        if !told.places.entry(counter).or_default().insert(place.place) {
            outside.violations.note(format!(
                "counter {counter} gave {place:?} to operation {n} and to another one"
            ));
        }
        told.answers.push_back((counter, n, place));
        if told.answers.len() > ANSWERS_MAX {
            told.answers.pop_front();
        }
    }
}

/// Whoever asks again is told the same.
async fn repeat(outside: &Outside, counter: u64, n: u64, place: &Place) {
    let Some(reply) = outside.call(&address(counter), &Add { n }, &key(n)).await else {
        return;
    };
    let again = serde_json::from_slice::<Place>(&reply.body);
    if reply.status != 200 || again.as_ref().ok() != Some(place) {
        outside.violations.note(format!(
            "operation {n} of counter {counter} was answered {place:?}, and now {reply:?}"
        ));
    }
    outside.tally.count("calls that were made again");
}

/// Another body under a key that was used is refused, and counts nothing.
async fn misuse(outside: &Outside, counter: u64, n: u64) {
    let other = Add { n: u64::MAX - n };
    let Some(reply) = outside.call(&address(counter), &other, &key(n)).await else {
        return;
    };
    if reply.status != 422 {
        outside.violations.note(format!(
            "another body under the key of operation {n} of counter {counter} is answered {reply:?}"
        ));
    }
    outside.tally.count("keys that were misused");
}

fn address(counter: u64) -> String {
    format!("soak/counter/{counter}")
}

fn key(n: u64) -> String {
    format!("add-{n}")
}
