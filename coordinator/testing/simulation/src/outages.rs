//! Outages of endpoints, and a second opinion on them: which failures may count against a message,
//! and how long a batch may wait.
//!
//! The opinion is formed from what the simulated endpoints did, by the rule itself and not by the
//! dispatcher's code. No durable record of failed attempts may exceed it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use satchel_engine::dispatcher::PROBE_INTERVAL_MAX_MS;
use satchel_engine::invocation::{
    AttemptId, Batch, Bundle, BundleId, BundleOutcome, EndpointIndex, Failure, FailureKind,
};
use satchel_log_simulation::Random;
use satchel_protocol::reqreply::FromFunction;
use satchel_protocol::reqreply::from_function::Response;

use crate::fault_plan::LINGER_MAX_MS;
use crate::functions::TEXT;
use crate::mutants::Mutant;
use crate::process::ProcessId;
use crate::world::World;

/// Number of endpoints of the application.
const ENDPOINTS: u32 = 3;

/// Number of failing addresses from which on ambiguous failures are an outage.
const OUTAGE_ADDRESSES: usize = 3;

/// Number of crashes from which on a message may be tried with its attempt counted beforehand.
const CRASHES_TOLERATED: u64 = 3;

/// Extent of an outage.
#[derive(Debug, Clone)]
enum Extent {
    /// Every request fails.
    Whole,
    /// Requests fail at this rate, per mille.
    Part(u64),
    /// Requests with an address of this residue fail.
    Addresses(u64),
    /// Requests with one address fail: the one whose batch comes first.
    OneAddress(Option<String>),
}

/// Time during which an endpoint fails.
#[derive(Debug, Clone)]
pub(crate) struct Outage {
    endpoint: u32,
    from_ms: u64,
    to_ms: u64,
    kind: FailureKind,
    extent: Extent,
}

/// Draws the outages of a run.
pub(crate) fn draw(random: &Random, faulty_ms: u64, begin_ms: u64) -> Vec<Outage> {
    if random.chance(400) {
        return Vec::new();
    }
    let outage = |_| {
        let from_ms = begin_ms + random.below(faulty_ms);
        Outage {
            endpoint: random.below(u64::from(ENDPOINTS)) as u32,
            from_ms,
            to_ms: from_ms + 200 + random.below(15_000),
            kind: match random.below(4) {
                0 => FailureKind::Unavailable,
                1 => FailureKind::Ambiguous,
                2 => FailureKind::TimedOut,
                _ => FailureKind::ConnectionLost,
            },
            extent: match random.below(6) {
                0..3 => Extent::Whole,
                3 => Extent::Part(200 + random.below(700)),
                4 => Extent::Addresses(random.below(3)),
                _ => Extent::OneAddress(None),
            },
        }
    };
    (0..1 + random.below(3)).map(outage).collect()
}

/// Second opinion on the endpoints of one process.
#[derive(Default)]
pub(crate) struct Evidence {
    endpoints: BTreeMap<EndpointIndex, Endpoint>,
    in_flight: BTreeMap<BundleId, Bundle>,
}

#[derive(Default)]
struct Endpoint {
    addresses: BTreeSet<String>,
    requests: usize,
    last_sent_ms: u64,
    /// Time since which the endpoint is down and batches wait.
    waiting_since_ms: Option<u64>,
    /// Batches that were not sent yet, each with the time of its arrival.
    unsent: BTreeMap<AttemptId, u64>,
    /// Time since which another request might be sent.
    free_since_ms: Option<u64>,
    /// True if the endpoint has throttled, so that fewer requests may be sent than configured.
    throttled: bool,
}

impl Endpoint {
    fn is_outage(&self) -> bool {
        self.addresses.len() >= OUTAGE_ADDRESSES && self.requests >= OUTAGE_ADDRESSES
    }
}

impl World {
    /// Returns the outcome of a request that an outage decides.
    pub(crate) fn outage(&mut self, bundle: &Bundle) -> Option<BundleOutcome> {
        if self.faults_ended {
            return None;
        }
        let now_ms = self.timeline.now_ms();
        let random = &self.random;
        let hits = |outage: &mut Outage| {
            if outage.endpoint != bundle.endpoint.0
                || !(outage.from_ms..outage.to_ms).contains(&now_ms)
            {
                return false;
            }
            match &mut outage.extent {
                Extent::Whole => true,
                Extent::Part(rate) => random.chance(*rate),
                Extent::Addresses(residue) => bundle.batches.iter().any(|batch| {
                    let letters = batch.target.id.bytes().map(u64::from);
                    letters.sum::<u64>() % 3 == *residue
                }),
                Extent::OneAddress(address) => {
                    let first = || bundle.batches[0].target.to_string();
                    let address = address.get_or_insert_with(first);
                    let mut targets = bundle.batches.iter();
                    targets.any(|batch| batch.target.to_string() == *address)
                }
            }
        };
        let outage = self
            .outages
            .iter_mut()
            .find_map(|outage| hits(outage).then_some(outage.kind));
        outage.map(|kind| BundleOutcome::Failed(Failure::new(kind, "an outage")))
    }

    /// Takes note of a request, and checks that an endpoint that is down was probed in time.
    pub(crate) fn note_sent(&mut self, id: ProcessId, bundle: &Bundle) {
        let now_ms = self.timeline.now_ms();
        // Events of a process that was paused when the faults ended come when its pause would have.
        let excused = self.faults_ended;
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        let paused_until_ms = process.paused_until_ms;
        let Some(serving) = process.serving() else {
            return;
        };
        let evidence = &mut serving.evidence;
        let endpoint = evidence.endpoints.entry(bundle.endpoint).or_default();
        let waits_from_ms = endpoint
            .waiting_since_ms
            .map(|since_ms| since_ms.max(endpoint.last_sent_ms).max(paused_until_ms));
        endpoint.last_sent_ms = now_ms;
        let free_from_ms = endpoint
            .free_since_ms
            .filter(|_| !endpoint.throttled && !excused)
            .map(|since_ms| since_ms.max(paused_until_ms));
        for batch in &bundle.batches {
            let Some(arrived_ms) = endpoint.unsent.remove(&batch.attempt) else {
                continue;
            };
            // A process may still send at the moment at which its pause begins.
            let lingered_ms =
                free_from_ms.map_or(0, |from| now_ms.saturating_sub(from.max(arrived_ms)));
            if lingered_ms > LINGER_MAX_MS {
                self.stage.violations.push(format!(
                    "process {id} lets {} wait for {lingered_ms} ms though endpoint {} is free",
                    batch.target, bundle.endpoint.0
                ));
            }
        }
        evidence.in_flight.insert(bundle.id, bundle.clone());
        // Throttling may postpone a probe by as much again.
        let late =
            waits_from_ms.is_some_and(|from| now_ms > from + 2 * PROBE_INTERVAL_MAX_MS + 100);
        if late && !excused {
            let violation = format!(
                "process {id} did not probe endpoint {} for {} ms",
                bundle.endpoint.0,
                now_ms - waits_from_ms.unwrap_or(now_ms)
            );
            self.stage.violations.push(violation);
        }
    }

    /// Takes note of a batch that is to be sent.
    pub(crate) fn note_ready(&mut self, id: ProcessId, endpoint: EndpointIndex, new: AttemptId) {
        let now_ms = self.timeline.now_ms();
        if let Some(serving) = self.serving(id) {
            let endpoint = serving.evidence.endpoints.entry(endpoint).or_default();
            endpoint.unsent.insert(new, now_ms);
        }
    }

    /// Takes note of an abandoned request.
    pub(crate) fn note_abandoned(&mut self, id: ProcessId, bundle: BundleId) {
        if let Some(serving) = self.serving(id) {
            serving.evidence.in_flight.remove(&bundle);
        }
    }

    /// Observes which endpoints are down while batches wait, after the dispatcher has made
    /// progress.
    pub(crate) fn note_waiting(&mut self, id: ProcessId) {
        let now_ms = self.timeline.now_ms();
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        let endpoints = process.config.endpoints.clone();
        let Some(serving) = process.serving() else {
            return;
        };
        for (index, limits) in endpoints.iter() {
            let health = serving.dispatcher.endpoint_health(index);
            let endpoint = serving.evidence.endpoints.entry(index).or_default();
            if health.down_since_ms.is_some() || health.in_flight >= limits.concurrency_max {
                endpoint.free_since_ms = None;
            } else {
                endpoint.free_since_ms.get_or_insert(now_ms);
            }
            if health.down_since_ms.is_some() && health.waiting > 0 {
                endpoint.waiting_since_ms.get_or_insert(now_ms);
            } else {
                endpoint.waiting_since_ms = None;
            }
        }
    }

    /// Returns true if an endpoint is down, for a mutant.
    pub(crate) fn has_endpoint_down(&mut self, id: ProcessId) -> bool {
        let Some(process) = self.processes.get_mut(&id) else {
            return false;
        };
        let endpoints = process.config.endpoints.clone();
        process.serving().is_some_and(|serving| {
            let dispatcher = &serving.dispatcher;
            let mut endpoints = endpoints.iter();
            endpoints.any(|(index, _)| dispatcher.endpoint_health(index).down_since_ms.is_some())
        })
    }

    /// Forms the opinion on an outcome, before the dispatcher handles it.
    pub(crate) fn judge(&mut self, id: ProcessId, bundle: BundleId, outcome: &BundleOutcome) {
        let Some(serving) = self.serving(id) else {
            return;
        };
        let Some(sent) = serving.evidence.in_flight.remove(&bundle) else {
            return;
        };
        let endpoint = serving.evidence.endpoints.entry(sent.endpoint).or_default();
        let failure = match outcome {
            BundleOutcome::Answered(results) => {
                endpoint.addresses.clear();
                endpoint.requests = 0;
                let answered = |batch: &&Arc<Batch>| {
                    let mut results = results.iter();
                    let found = results.find(|(attempt, _)| *attempt == batch.attempt);
                    matches!(found, Some((_, Ok(answer))) if fits(answer))
                };
                let failed: Vec<_> = sent.batches.iter().filter(|it| !answered(it)).collect();
                for batch in failed {
                    self.allow_attempt(batch);
                }
                return;
            }
            BundleOutcome::Failed(failure) => failure,
        };
        let counts = match failure.kind {
            FailureKind::Throttled => {
                endpoint.throttled = true;
                false
            }
            FailureKind::RequestTooLarge | FailureKind::Incompatible => false,
            FailureKind::Function | FailureKind::Terminal => {
                endpoint.addresses.clear();
                endpoint.requests = 0;
                true
            }
            FailureKind::ConnectionLost if !sent.new_connection => false,
            FailureKind::Unavailable
            | FailureKind::ConnectionLost
            | FailureKind::TimedOut
            | FailureKind::Ambiguous => {
                endpoint.requests += 1;
                let targets = sent.batches.iter().map(|batch| batch.target.to_string());
                endpoint.addresses.extend(targets);
                failure.kind != FailureKind::Unavailable && !endpoint.is_outage()
            }
        };
        if counts {
            for batch in &sent.batches {
                self.allow_attempt(batch);
            }
        }
    }

    /// Allows one more failed attempt of each message of a batch.
    pub(crate) fn allow_attempt(&mut self, batch: &Batch) {
        for message in &batch.messages {
            *self.allowed.entry(message.id.to_string()).or_default() += 1;
        }
    }

    /// Checks the failed attempts that became durable.
    pub(crate) fn check_attempts(&mut self) {
        let counted = std::mem::take(&mut self.truth.counted);
        if self.is_fork() {
            // Its origin has counted too.
            return;
        }
        // To a new owner, every former one that did not stop cleanly has crashed.
        let takeovers = self.report.takeovers;
        let presumed = if takeovers > CRASHES_TOLERATED {
            takeovers
        } else {
            0
        };
        for (id, attempts) in counted {
            let allowed = self.allowed.get(&id.to_string()).copied().unwrap_or(0);
            if u64::from(attempts) > allowed + presumed {
                self.stage.violations.push(format!(
                    "{attempts} attempts count against the {TEXT} {id}, of which at most {allowed} \
                     were failures of the message"
                ));
            }
        }
    }

    /// Counts an outage against its messages, for a mutant.
    pub(crate) fn count_an_outage(&self, outcome: BundleOutcome) -> BundleOutcome {
        match outcome {
            BundleOutcome::Failed(failure)
                if self.mutant == Some(Mutant::CountAnOutage)
                    && failure.kind != FailureKind::Throttled =>
            {
                BundleOutcome::Failed(Failure::new(FailureKind::Function, failure.message))
            }
            outcome => outcome,
        }
    }
}

/// Returns true if an answer changes states of the declared type only. A version of a function that
/// declares another one may answer in it.
fn fits(answer: &FromFunction) -> bool {
    let Some(Response::InvocationResult(result)) = &answer.response else {
        return true;
    };
    let mut values = result.state_mutations.iter();
    values.all(|change| {
        let value = change.state_value.as_ref();
        value.is_none_or(|value| value.typename == TEXT)
    })
}
