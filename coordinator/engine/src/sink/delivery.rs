//! Grouping, ordering and retrying of records: the pure state machine between a partition's outbox
//! and a service that accepts batches.
//!
//! ```text
//!  offer(record) ──► lane of its key ──head──► ready ──poll──► request ──► (the service)
//!                        ▲                       ▲                              │
//!                        │ next of the key       └── after a back-off ◄─ retry ─┤
//!                        └────────────── delivered or refused ◄──── answered ───┘
//! ```
//!
//! Its guarantees:
//!
//! - A key has at most one record in flight. A failed record holds back the later records of its
//!   key, even if the rest of its request was accepted.
//! - No record is lost: it leaves only as delivered or refused.
//! - A failed record is retried without limit, unless the service reports that it can never accept
//!   it or its destination stays missing.
//!
//! The state machine has no clock: `now_ms` is an argument, from any clock that never goes back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::map::Map;

/// Delay after the first failure, in ms. It doubles with each further failure, up to
/// [`BACKOFF_MAX_MS`].
const BACKOFF_INITIAL_MS: u64 = 100;

const BACKOFF_MAX_MS: u64 = 20_000;

/// Number of times that a record's destination may be missing before the record is refused. The
/// attempts span more than two minutes, in which an operator or a deployment can still create it.
const MISSING_MAX: u32 = 12;

/// Request limits of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of records in one request.
    pub records_per_request: usize,
    /// Maximum sum of [`Record::bytes`] in one request.
    pub bytes_per_request: usize,
    /// Maximum number of requests in flight to one destination.
    pub requests_in_flight: usize,
    /// Maximum number of records in flight to one destination.
    pub records_in_flight: usize,
}

/// A record to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Record<P> {
    /// Number in the outbox. Records are offered in the order of their numbers.
    pub number: u64,
    /// Stream, queue or other target of the record. A request has one destination.
    pub destination: Arc<str>,
    /// Ordering key. Records with the same destination and key are delivered in the order of their
    /// numbers; records without a key in any order.
    pub key: Option<Arc<str>>,
    /// Size of the record within a request, in bytes.
    pub bytes: usize,
    /// Prepared form of the record, used by the adapter.
    pub payload: P,
}

/// Records to be sent together.
#[derive(Debug, Clone)]
pub struct Request<P> {
    /// Number that names the request; grows.
    pub id: u64,
    /// Destination of the request.
    pub destination: Arc<str>,
    /// Records of the request: at least one, no two with the same key.
    pub records: Vec<Arc<Record<P>>>,
}

/// Result for one record of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The service accepted the record.
    Delivered,
    /// The service did not accept the record for a temporary reason. A retry may succeed.
    Retry(String),
    /// The service did not accept the record because of its rate limit.
    Throttled(String),
    /// The destination does not exist at present.
    Missing(String),
    /// The service can never accept the record.
    Refused(String),
    /// The service rejected the whole request as invalid. Any of its records may be the reason, so
    /// each is retried alone.
    Suspect(String),
}

/// A record that is no longer kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// The record with this number was accepted.
    Delivered(u64),
    /// The record can never be accepted.
    Refused {
        /// Number of the record.
        number: u64,
        /// Reason of the refusal.
        reason: String,
    },
}

/// State machine that delivers records. `P` is the adapter's prepared form of a record.
#[derive(Debug)]
pub struct Delivery<P> {
    limits: Limits,
    destinations: BTreeMap<Arc<str>, Destination<P>>,
    /// Requests in flight.
    requests: Map<u64, Request<P>>,
    next_request: u64,
    random: u64,
}

#[derive(Debug)]
struct Destination<P> {
    records: Map<u64, Entry<P>>,
    /// Numbers of the records of each key. The first one is ready, backs off, or is in flight.
    lanes: Map<Arc<str>, VecDeque<u64>>,
    ready: BTreeSet<u64>,
    /// Records that back off, by the time at which they are ready again.
    backing_off: BTreeSet<(u64, u64)>,
    requests_in_flight: usize,
    records_in_flight: usize,
    /// Current limit of records in flight: lowered by throttling, and growing back.
    window: usize,
    /// Number of consecutive requests that failed as a whole.
    failures: u32,
    /// Nothing is sent before this time.
    not_before_ms: u64,
}

#[derive(Debug)]
struct Entry<P> {
    record: Arc<Record<P>>,
    failures: u32,
    missing: u32,
    /// True if the record is sent alone, because it may have made a request invalid.
    alone: bool,
}

impl<P> Delivery<P> {
    /// Creates an empty delivery. `seed` determines the jitter of back-offs, so that several owners
    /// do not retry together.
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            destinations: BTreeMap::new(),
            requests: Map::default(),
            next_request: 1,
            random: seed,
        }
    }

    /// Adds a record. Its number must exceed those of all earlier records, and its bytes must fit
    /// into a request.
    pub fn offer(&mut self, record: Record<P>) {
        let limits = self.limits;
        let destination = self
            .destinations
            .entry(Arc::clone(&record.destination))
            .or_insert_with(|| Destination::new(limits));
        destination.offer(record);
    }

    /// Returns the next request that can be sent now.
    pub fn poll(&mut self, now_ms: u64) -> Option<Request<P>> {
        let limits = self.limits;
        let (name, records) = self
            .destinations
            .iter_mut()
            .find_map(|(name, destination)| {
                let records = destination.gather(now_ms, &limits);
                (!records.is_empty()).then(|| (Arc::clone(name), records))
            })?;
        let id = self.next_request;
        self.next_request += 1;
        let request = Request {
            id,
            destination: name,
            records,
        };
        let sent = Request {
            id,
            destination: Arc::clone(&request.destination),
            records: request.records.clone(),
        };
        self.requests.insert(id, sent);
        Some(request)
    }

    /// Handles the result of a request: one outcome for each of its records, in their order.
    ///
    /// # Panics
    ///
    /// Panics if the request is not in flight or has another number of records. The adapter must
    /// answer each request once.
    pub fn answered(&mut self, now_ms: u64, request: u64, outcomes: Vec<Outcome>) -> Vec<Settled> {
        let request = self
            .requests
            .remove(&request)
            .expect("an adapter answers each request once");
        assert_eq!(
            request.records.len(),
            outcomes.len(),
            "one outcome per record"
        );
        let limits = self.limits;
        let destination = self
            .destinations
            .get_mut(&request.destination)
            .expect("it has a request in flight");
        destination.requests_in_flight -= 1;
        destination.records_in_flight -= outcomes.len();
        destination.regulate(&outcomes, &limits);
        let mut settled = Vec::new();
        let any_delivered = outcomes.contains(&Outcome::Delivered);
        let only_trouble = outcomes
            .iter()
            .all(|outcome| matches!(outcome, Outcome::Retry(_) | Outcome::Throttled(_)));
        if any_delivered {
            destination.failures = 0;
        } else if only_trouble {
            // Otherwise each key with something to send would send a request to an unreachable
            // service.
            destination.failures = destination.failures.saturating_add(1);
            destination.not_before_ms = now_ms + backoff_ms(&mut self.random, destination.failures);
        }
        for (record, outcome) in request.records.iter().zip(outcomes) {
            let done = destination.outcome(now_ms, record, outcome, &mut self.random);
            settled.extend(done);
        }
        if destination.is_idle(&limits) {
            self.destinations.remove(&request.destination);
        }
        settled
    }

    /// Time at which [`Delivery::poll`] may return something that it does not return now, without
    /// another answer or offer.
    pub fn wake_at_ms(&self, now_ms: u64) -> Option<u64> {
        let limits = &self.limits;
        self.destinations
            .values()
            .filter_map(|destination| destination.wake_at_ms(limits))
            .min()
            .map(|due_ms| due_ms.max(now_ms + 1))
    }

    /// Number of records that were offered and are not settled.
    pub fn pending(&self) -> usize {
        let destinations = self.destinations.values();
        destinations
            .map(|destination| destination.records.len())
            .sum()
    }
}

impl<P> Destination<P> {
    fn new(limits: Limits) -> Self {
        Self {
            records: Map::default(),
            lanes: Map::default(),
            ready: BTreeSet::new(),
            backing_off: BTreeSet::new(),
            requests_in_flight: 0,
            records_in_flight: 0,
            window: limits.records_in_flight,
            failures: 0,
            not_before_ms: 0,
        }
    }

    fn offer(&mut self, record: Record<P>) {
        let number = record.number;
        let is_head = match &record.key {
            None => true,
            Some(key) => {
                let lane = self.lanes.entry(Arc::clone(key)).or_default();
                lane.push_back(number);
                lane.len() == 1
            }
        };
        if is_head {
            self.ready.insert(number);
        }
        let entry = Entry {
            record: Arc::new(record),
            failures: 0,
            missing: 0,
            alone: false,
        };
        self.records.insert(number, entry);
    }

    /// Takes the records of the next request, oldest first. Empty if nothing may be sent.
    fn gather(&mut self, now_ms: u64, limits: &Limits) -> Vec<Arc<Record<P>>> {
        let mut gathered: Vec<Arc<Record<P>>> = Vec::new();
        if now_ms < self.not_before_ms || self.requests_in_flight >= limits.requests_in_flight {
            return gathered;
        }
        while let Some((due_ms, number)) = self.backing_off.first().copied()
            && due_ms <= now_ms
        {
            self.backing_off.pop_first();
            self.ready.insert(number);
        }
        let room = self.window.saturating_sub(self.records_in_flight);
        let room = room.min(limits.records_per_request);
        let mut bytes = 0;
        while gathered.len() < room
            && let Some(number) = self.ready.first()
        {
            let entry = &self.records[number];
            bytes += entry.record.bytes;
            let fits = bytes <= limits.bytes_per_request && !entry.alone;
            if !gathered.is_empty() && !fits {
                break;
            }
            gathered.push(Arc::clone(&entry.record));
            let alone = entry.alone;
            self.ready.pop_first();
            if alone {
                break;
            }
        }
        if !gathered.is_empty() {
            self.requests_in_flight += 1;
            self.records_in_flight += gathered.len();
        }
        gathered
    }

    /// Lowers the window after throttling, and raises it after successes.
    fn regulate(&mut self, outcomes: &[Outcome], limits: &Limits) {
        let throttled = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Outcome::Throttled(_)))
            .count();
        if throttled > 0 {
            // The back-off of its own records slows down one hot shard among many.
            let half = throttled * 2 >= outcomes.len();
            let narrowed = if half {
                self.window / 2
            } else {
                self.window - self.window / 8
            };
            self.window = narrowed.max(1);
        } else if outcomes.contains(&Outcome::Delivered) {
            let widened = self.window + 1 + outcomes.len() / 4;
            self.window = widened.min(limits.records_in_flight);
        }
    }

    fn outcome(
        &mut self,
        now_ms: u64,
        record: &Record<P>,
        outcome: Outcome,
        random: &mut u64,
    ) -> Option<Settled> {
        let number = record.number;
        let entry = self
            .records
            .get_mut(&number)
            .expect("a record in flight is kept until it is settled");
        let settled = match outcome {
            Outcome::Delivered => Settled::Delivered(number),
            Outcome::Refused(reason) => Settled::Refused { number, reason },
            Outcome::Missing(reason) if entry.missing + 1 >= MISSING_MAX => {
                Settled::Refused { number, reason }
            }
            Outcome::Missing(_) => {
                entry.missing += 1;
                return self.back_off(now_ms, number, random);
            }
            Outcome::Retry(_) | Outcome::Throttled(_) => {
                return self.back_off(now_ms, number, random);
            }
            Outcome::Suspect(_) => {
                entry.alone = true;
                self.ready.insert(number);
                return None;
            }
        };
        self.records.remove(&number);
        if let Some(key) = &record.key
            && let Some(lane) = self.lanes.get_mut(key)
        {
            debug_assert_eq!(lane.front(), Some(&number));
            lane.pop_front();
            match lane.front() {
                Some(next) => {
                    self.ready.insert(*next);
                }
                None => {
                    self.lanes.remove(key);
                }
            }
        }
        Some(settled)
    }

    fn back_off(&mut self, now_ms: u64, number: u64, random: &mut u64) -> Option<Settled> {
        let entry = self.records.get_mut(&number)?;
        entry.failures = entry.failures.saturating_add(1);
        let due_ms = now_ms + backoff_ms(random, entry.failures);
        self.backing_off.insert((due_ms, number));
        None
    }

    fn wake_at_ms(&self, limits: &Limits) -> Option<u64> {
        if self.requests_in_flight >= limits.requests_in_flight
            || self.records_in_flight >= self.window
        {
            return None;
        }
        let first = match self.backing_off.first() {
            _ if !self.ready.is_empty() => 0,
            Some((due_ms, _)) => *due_ms,
            None => return None,
        };
        Some(first.max(self.not_before_ms))
    }

    /// Returns whether removing this destination would lose nothing.
    fn is_idle(&self, limits: &Limits) -> bool {
        self.records.is_empty() && self.window == limits.records_in_flight
    }
}

/// Delay between half of the nominal delay and all of it.
fn backoff_ms(random: &mut u64, failures: u32) -> u64 {
    let doublings = failures.saturating_sub(1).min(16);
    let whole = (BACKOFF_INITIAL_MS << doublings).min(BACKOFF_MAX_MS);
    whole / 2 + next_random(random) % (whole / 2 + 1)
}

/// SplitMix64.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests;
