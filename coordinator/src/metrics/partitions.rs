//! Metrics of messages between partitions.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

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

pub(super) struct PartitionFamilies {
    sent: Family<Partition, Counter>,
    taken: Family<Partition, Counter>,
    pub(super) waiting_bytes: Gauge,
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
        }
    }
}
