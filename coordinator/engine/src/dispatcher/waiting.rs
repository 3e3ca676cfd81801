//! Batches of one endpoint that were not sent yet, and how long they gather.
//!
//! ```text
//!  no request in flight, or the bundle is full ────────────► sent at once
//!  requests in flight ──► gather until the oldest batch has waited for the linger ──► sent
//!                         └───── or the last request in flight has returned ────────► sent
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use crate::endpoint::{Endpoint, LINGER_MAX_MS, Linger};
use crate::invocation::Batch;

/// Number of messages from which on a bundle waits for no more: the request costs little for each.
const MESSAGES_ENOUGH: usize = 256;

/// Shorter measured lingers are none: clocks and timers count in ms.
const LINGER_MIN_MS: u64 = 2;

/// Longer gaps and latencies are measured as this long, so that an exception is soon forgotten, in
/// ms.
const MEASURED_MAX_MS: u64 = 10 * LINGER_MAX_MS;

/// Weight of the latest measurement in an average.
const WEIGHT: f64 = 1.0 / 16.0;

/// Queue of the batches that were not sent yet.
pub(super) struct Waiting {
    /// Batches, each with the time of its arrival in ms.
    batches: VecDeque<(u64, Arc<Batch>)>,
    /// Total size of the batches in bytes.
    bytes: usize,
    /// Total number of their messages.
    messages: usize,
    linger: Linger,
    pace: Pace,
}

impl Waiting {
    pub(super) fn new(endpoint: &Endpoint) -> Self {
        Self {
            batches: VecDeque::new(),
            bytes: 0,
            messages: 0,
            linger: match endpoint.bundle_batches_max {
                0 | 1 => Linger::Fixed(0),
                _ => endpoint.linger,
            },
            pace: Pace::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.batches.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(super) fn push(&mut self, now_ms: u64, batch: Arc<Batch>) {
        self.bytes += batch.bytes;
        self.messages += batch.messages.len();
        self.batches.push_back((now_ms, batch));
        self.pace.arrived(now_ms);
    }

    /// Forgets the batches of a partition.
    pub(super) fn forget(&mut self, partition: u32) {
        self.batches
            .retain(|(_, batch)| batch.attempt.partition != partition);
        let batches = || self.batches.iter().map(|(_, batch)| batch);
        self.bytes = batches().map(|batch| batch.bytes).sum();
        self.messages = batches().map(|batch| batch.messages.len()).sum();
    }

    /// Takes the oldest batch.
    pub(super) fn pop(&mut self) -> Option<Arc<Batch>> {
        let (_, batch) = self.batches.pop_front()?;
        self.bytes -= batch.bytes;
        self.messages -= batch.messages.len();
        Some(batch)
    }

    /// Takes the oldest batches that one request may hold, at least one if there is one.
    pub(super) fn gather(&mut self, endpoint: &Endpoint) -> Vec<Arc<Batch>> {
        let mut gathered = Vec::new();
        let mut bytes = 0;
        while let Some((_, batch)) = self.batches.front() {
            let fits = bytes + batch.bytes <= endpoint.bundle_bytes_max;
            let room = gathered.len() < endpoint.bundle_batches_max.max(1);
            let takes = gathered.is_empty() || (fits && room);
            if !takes {
                break;
            }
            bytes += batch.bytes;
            gathered.extend(self.pop());
        }
        gathered
    }

    /// Takes note of the time in which a request with `messages` messages was answered.
    pub(super) fn answered(&mut self, messages: usize, took_ms: u64) {
        self.pace.answered(messages, took_ms);
    }

    /// Time from which on the oldest batches are to be sent, in ms, if any wait: their arrival,
    /// unless they gather.
    pub(super) fn due_ms(&self, endpoint: &Endpoint, in_flight: usize) -> Option<u64> {
        let (arrived_ms, _) = self.batches.front()?;
        let is_full = self.batches.len() >= endpoint.bundle_batches_max
            || self.bytes >= endpoint.bundle_bytes_max
            || self.messages >= MESSAGES_ENOUGH;
        if in_flight == 0 || is_full {
            return Some(*arrived_ms);
        }
        let linger_ms = match self.linger {
            Linger::Fixed(linger_ms) => linger_ms,
            Linger::Measured if self.messages >= self.pace.messages_enough() => 0,
            Linger::Measured => self.pace.linger_ms(),
        };
        Some(arrived_ms + linger_ms)
    }
}

/// Averages over the latest batches and requests, from which the linger follows.
struct Pace {
    /// Time between two batches in ms.
    gap_ms: f64,
    /// Arrival of the last batch in ms.
    last_arrival_ms: u64,
    /// Time in which a request is answered, in ms.
    latency_ms: f64,
    /// Number of messages of a request.
    messages: f64,
    /// Variance of the number of messages.
    variance: f64,
    /// Covariance of the number of messages and the latency.
    covariance: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            gap_ms: MEASURED_MAX_MS as f64,
            last_arrival_ms: 0,
            latency_ms: 0.0,
            messages: 1.0,
            variance: 0.0,
            covariance: 0.0,
        }
    }
}

impl Pace {
    fn arrived(&mut self, now_ms: u64) {
        let gap_ms = now_ms.saturating_sub(self.last_arrival_ms);
        self.gap_ms += WEIGHT * (gap_ms.min(MEASURED_MAX_MS) as f64 - self.gap_ms);
        self.last_arrival_ms = now_ms;
    }

    fn answered(&mut self, messages: usize, took_ms: u64) {
        let more_messages = messages as f64 - self.messages;
        let longer_ms = took_ms.min(MEASURED_MAX_MS) as f64 - self.latency_ms;
        self.messages += WEIGHT * more_messages;
        self.latency_ms += WEIGHT * longer_ms;
        let blend = |average: f64, product: f64| (1.0 - WEIGHT) * (average + WEIGHT * product);
        self.variance = blend(self.variance, more_messages * more_messages);
        self.covariance = blend(self.covariance, more_messages * longer_ms);
    }

    /// Linger in ms: none while no other batch is expected in as long as a request takes.
    fn linger_ms(&self) -> u64 {
        let linger_ms = self.latency_ms.min(LINGER_MAX_MS as f64);
        if linger_ms < LINGER_MIN_MS as f64 || self.gap_ms > linger_ms {
            return 0;
        }
        linger_ms.round() as u64
    }

    /// Number of messages that prolong a request by [`LINGER_MAX_MS`], by the latest requests. A
    /// function that works through its messages one by one is better served by several requests.
    fn messages_enough(&self) -> usize {
        // Requests of one size tell nothing.
        let is_known = self.variance > 0.01 && self.covariance > 0.0;
        if !is_known {
            return MESSAGES_ENOUGH;
        }
        let message_ms = self.covariance / self.variance;
        ((LINGER_MAX_MS as f64 / message_ms) as usize).max(1)
    }
}
