//! Metrics of the links between the processes of an application.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::{Metrics, Names};

impl Metrics {
    /// Counts an event in the forwarding of a client's request: `answered`, `unreached`, `lost`,
    /// `not_mine`, `served_after_waiting`, `unknown`, `no_owner`, `too_many_waiting`,
    /// `owner_without_peer_port`.
    pub fn observe_forwarded(&self, outcome: &'static str) {
        let forwarded = &self.0.peers.forwarded;
        forwarded.get_or_create(&Outcome { outcome }).inc();
    }

    /// Changes the number of requests that wait for an owner.
    pub fn observe_forwarding_waiting(&self, change: i64) {
        self.0.peers.waiting.inc_by(change);
    }

    /// Counts a connection to the peer port that was refused: `handshake`, `unknown_key`,
    /// `too_many_checks`, `too_many_strangers`, `too_slow`, `table_unreachable`.
    pub fn observe_peer_refused(&self, reason: &'static str) {
        self.0.peers.refused.get_or_create(&Reason { reason }).inc();
    }

    /// Records that the item of this process in the lease table is renewed, or is not.
    pub fn observe_peer_registered(&self, registered: bool) {
        self.0.peers.registered.set(i64::from(registered));
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

pub(super) struct PeerFamilies {
    forwarded: Family<Outcome, Counter>,
    waiting: Gauge,
    refused: Family<Reason, Counter>,
    registered: Gauge,
}

impl PeerFamilies {
    pub(super) fn register(names: &mut Names) -> Self {
        Self {
            forwarded: names.add(
                "forwarding_events",
                "Attempts to forward requests to the owner, and their ends, by outcome",
            ),
            waiting: names.add("forwarding_waiting", "Requests that wait for an owner"),
            refused: names.add(
                "peer_connections_refused",
                "Connections to the peer port that were refused, by reason",
            ),
            registered: names.add(
                "peer_registered",
                "1 while the item of this process in the lease table is renewed, else 0",
            ),
        }
    }
}
