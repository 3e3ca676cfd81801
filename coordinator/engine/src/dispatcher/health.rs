//! Health of one endpoint: the evidence that tells an outage from a poisonous message, and the
//! probes while the endpoint is down.

use crate::address::Address;
use crate::endpoint::Retries;
use crate::invocation::FailureKind;

use super::lane::delay_ms;

/// Number of addresses whose requests must all fail before failures that may be either a message's
/// or the endpoint's are taken for an outage. Fewer may be poisonous messages.
const OUTAGE_ADDRESSES: usize = 3;

/// Number of requests in a row that must fail before an endpoint is down, while others are in
/// flight that may succeed.
const DOWN_AFTER_REQUESTS: u64 = 3;

/// Maximum time between two probes of an endpoint that is down, in ms.
pub const PROBE_INTERVAL_MAX_MS: u64 = 2_000;

/// Health of an endpoint, as the dispatcher sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndpointHealth {
    /// Time since which the endpoint is down, in ms on the dispatcher's clock; `None` if it is up.
    pub down_since_ms: Option<u64>,
    /// Number of requests that failed since the last success.
    pub failed_requests: u64,
    /// Number of requests in flight.
    pub in_flight: usize,
    /// Number of batches that wait to be sent.
    pub waiting: usize,
}

/// Evidence since the last success, and the schedule of probes.
#[derive(Default)]
pub(super) struct Health {
    /// Distinct addresses whose requests failed since the last success, at most
    /// [`OUTAGE_ADDRESSES`].
    failed_addresses: Vec<Address>,
    failed_requests: u64,
    /// True if a request timed out since the last success.
    timed_out: bool,
    down: Option<Down>,
}

struct Down {
    since_ms: u64,
    probe_at_ms: u64,
    failed_probes: u32,
}

impl Health {
    /// Takes note of a success. Returns true if it ends an outage that outlasted a probe.
    pub(super) fn succeeded(&mut self) -> bool {
        self.failed_addresses.clear();
        self.failed_requests = 0;
        self.timed_out = false;
        let ended = self.down.take();
        ended.is_some_and(|down| down.failed_probes > 0)
    }

    /// Takes note of a failed request to these addresses.
    pub(super) fn failed<'a>(
        &mut self,
        addresses: impl Iterator<Item = &'a Address>,
        kind: FailureKind,
    ) {
        self.failed_requests += 1;
        self.timed_out |= kind == FailureKind::TimedOut;
        for address in addresses {
            if self.failed_addresses.len() >= OUTAGE_ADDRESSES {
                break;
            }
            if !self.failed_addresses.contains(address) {
                self.failed_addresses.push(address.clone());
            }
        }
    }

    /// Returns true if every request to at least three addresses failed, and none succeeded since.
    /// The requests are counted too, because one message can fail a whole bundle.
    pub(super) fn is_outage(&self) -> bool {
        self.failed_addresses.len() >= OUTAGE_ADDRESSES
            && self.failed_requests >= OUTAGE_ADDRESSES as u64
    }

    /// Returns true if the endpoint is down.
    pub(super) fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// Returns true if the endpoint is known to leave requests without an answer.
    pub(super) fn hangs(&self) -> bool {
        self.timed_out
    }

    /// Time of the next probe in ms, if the endpoint is down.
    pub(super) fn probe_at_ms(&self) -> Option<u64> {
        self.down.as_ref().map(|down| down.probe_at_ms)
    }

    /// Takes note of a failure of the endpoint itself. `alone` is true if no other request is in
    /// flight. The endpoint is down after such a failure unless others may still succeed.
    pub(super) fn in_trouble(&mut self, now_ms: u64, alone: bool, retries: Retries, draw: u64) {
        if self.down.is_none() && (alone || self.failed_requests >= DOWN_AFTER_REQUESTS) {
            self.down = Some(Down {
                since_ms: now_ms,
                probe_at_ms: now_ms + probe_delay_ms(retries, 0, draw),
                failed_probes: 0,
            });
        }
    }

    /// Takes note that a probe was sent. Another one follows, even if it is never answered.
    pub(super) fn probed(&mut self, now_ms: u64) {
        if let Some(down) = &mut self.down {
            down.probe_at_ms = now_ms + PROBE_INTERVAL_MAX_MS;
        }
    }

    /// Takes note that the last probe failed.
    pub(super) fn probe_failed(&mut self, now_ms: u64, retries: Retries, draw: u64) {
        if let Some(down) = &mut self.down {
            down.failed_probes = down.failed_probes.saturating_add(1);
            down.probe_at_ms = now_ms + probe_delay_ms(retries, down.failed_probes, draw);
        }
    }

    pub(super) fn observe(&self, in_flight: usize, waiting: usize) -> EndpointHealth {
        EndpointHealth {
            down_since_ms: self.down.as_ref().map(|down| down.since_ms),
            failed_requests: self.failed_requests,
            in_flight,
            waiting,
        }
    }
}

fn probe_delay_ms(retries: Retries, failed_probes: u32, draw: u64) -> u64 {
    delay_ms(retries, failed_probes.saturating_add(1), draw).min(PROBE_INTERVAL_MAX_MS)
}
