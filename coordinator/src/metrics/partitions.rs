//! Metrics of messages between partitions, and gauges of all partitions together.

use std::sync::atomic::{AtomicBool, Ordering};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use satchel_engine::partition::Gauges;

use super::{Metrics, Names, Partition};

impl Metrics {
    /// Counts messages that a partition sent to others and took from others.
    pub fn observe_peer_messages(&self, partition: u32, sent: u64, taken: u64) {
        if sent == 0 && taken == 0 {
            return;
        }
        let families = &self.0.partitions;
        let partition = Partition { partition };
        families.sent.get_or_create(&partition).inc_by(sent);
        families.taken.get_or_create(&partition).inc_by(taken);
    }
}

impl Metrics {
    /// Sets the number of partitions that run in this process, or are being taken over.
    #[cfg(feature = "aws")]
    pub(crate) fn observe_partitions_owned(&self, partitions: usize) {
        let partitions = i64::try_from(partitions).unwrap_or(i64::MAX);
        self.0.partitions.owned.set(partitions);
    }

    /// Sets the number of partitions that have no live owner by the roster.
    #[cfg(feature = "aws")]
    pub(crate) fn observe_partitions_without_owner(&self, partitions: usize) {
        let families = &self.0.partitions;
        let partitions = i64::try_from(partitions).unwrap_or(i64::MAX);
        families.without_owner.set(partitions);
        families.has_roster.store(true, Ordering::Relaxed);
    }

    /// Number of partitions that have no live owner, if this process reads a roster.
    pub(super) fn partitions_without_owner(&self) -> Option<i64> {
        let families = &self.0.partitions;
        let has_roster = families.has_roster.load(Ordering::Relaxed);
        has_roster.then(|| families.without_owner.get())
    }

    /// Counts a partition that failed in this process and was released.
    #[cfg(feature = "aws")]
    pub(crate) fn observe_partition_failed(&self) {
        self.0.partitions.failed.inc();
    }
}

/// Gauges of several partitions together.
pub(crate) fn total<'a>(all: impl Iterator<Item = &'a Gauges>) -> Gauges {
    all.fold(Gauges::default(), |sum, of| Gauges {
        pending_bytes: sum.pending_bytes + of.pending_bytes,
        ingress_paused: sum.ingress_paused || of.ingress_paused,
        in_flight: sum.in_flight + of.in_flight,
        timers: sum.timers + of.timers,
        dead_letters: sum.dead_letters + of.dead_letters,
        dead_letter_bytes: sum.dead_letter_bytes + of.dead_letter_bytes,
        outbox: sum.outbox + of.outbox,
        peer_bytes: sum.peer_bytes + of.peer_bytes,
        received_ids: sum.received_ids + of.received_ids,
        held: sum.held || of.held,
        sealed: sum.sealed + of.sealed,
        durable: sum.durable + of.durable,
        buckets: sum.buckets + of.buckets,
        buckets_loaded: sum.buckets_loaded + of.buckets_loaded,
        buckets_awaited: sum.buckets_awaited + of.buckets_awaited,
        buckets_absent_at_start: sum.buckets_absent_at_start + of.buckets_absent_at_start,
        state_bytes: sum.state_bytes + of.state_bytes,
        pinned_bytes: sum.pinned_bytes + of.pinned_bytes,
    })
}

pub(super) struct PartitionFamilies {
    sent: Family<Partition, Counter>,
    taken: Family<Partition, Counter>,
    pub(super) waiting_bytes: Gauge,
    without_owner: Gauge,
    /// True once the roster was read.
    has_roster: AtomicBool,
    #[cfg(feature = "aws")]
    owned: Gauge,
    #[cfg(feature = "aws")]
    failed: Counter,
}

impl PartitionFamilies {
    pub(super) fn register(names: &mut Names) -> Self {
        Self {
            sent: names.add(
                "peer_messages_sent",
                "Messages to addresses of other partitions",
            ),
            taken: names.add(
                "peer_messages_taken",
                "Messages taken from other partitions",
            ),
            waiting_bytes: names.add(
                "peer_waiting_bytes",
                "Bytes of messages to other partitions that were not acknowledged",
            ),
            without_owner: names.add(
                "partitions_without_owner",
                "Partitions without a live owner, of those spread over processes",
            ),
            has_roster: AtomicBool::new(false),
            #[cfg(feature = "aws")]
            owned: names.add(
                "partitions_owned",
                "Partitions that this process runs or takes over, of those spread over processes",
            ),
            #[cfg(feature = "aws")]
            failed: names.add(
                "partitions_failed",
                "Partitions that failed in this process and were released for others",
            ),
        }
    }
}
