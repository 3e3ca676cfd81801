//! Metrics of egresses, each of which feeds the status too.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::{Metrics, Names};

impl Metrics {
    /// Counts records handed to `egress`.
    pub fn observe_egress_emitted(&self, egress: &str, records: u64) {
        let label = EgressLabel::of(egress);
        self.0
            .egresses
            .emitted
            .get_or_create(&label)
            .inc_by(records);
    }

    /// Counts records delivered by `egress`.
    pub fn observe_egress_acked(&self, egress: &str, records: u64) {
        let label = EgressLabel::of(egress);
        self.0.egresses.acked.get_or_create(&label).inc_by(records);
        self.0.status.egress_delivered(egress, records);
    }

    /// Counts records that `egress` could not deliver and retries, for `reason`.
    pub fn observe_egress_retried(&self, egress: &str, records: u64, reason: &str) {
        let label = EgressLabel::of(egress);
        self.0
            .egresses
            .retried
            .get_or_create(&label)
            .inc_by(records);
        self.0.status.egress_retried(egress, records, reason);
    }

    /// Counts a record that `egress` can never deliver.
    pub fn observe_egress_refused(&self, egress: &str) {
        let label = EgressLabel::of(egress);
        self.0.egresses.refused.get_or_create(&label).inc();
        self.0.status.egress_refused(egress);
    }

    /// Records that `egress` is stopped, with the kind of problem and its reason.
    pub fn observe_egress_stopped(&self, egress: &str, problem: &'static str, reason: &str) {
        let label = EgressLabel::of(egress);
        self.0.egresses.stopped.get_or_create(&label).set(1);
        self.0.status.egress_stopped(egress, problem, reason);
    }

    /// Records that `egress` delivers again.
    pub fn observe_egress_resumed(&self, egress: &str) {
        let label = EgressLabel::of(egress);
        self.0.egresses.stopped.get_or_create(&label).set(0);
        self.0.status.egress_resumed(egress);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EgressLabel {
    egress: String,
}

impl EgressLabel {
    fn of(egress: &str) -> Self {
        Self {
            egress: egress.to_owned(),
        }
    }
}

pub(super) struct EgressFamilies {
    emitted: Family<EgressLabel, Counter>,
    acked: Family<EgressLabel, Counter>,
    refused: Family<EgressLabel, Counter>,
    retried: Family<EgressLabel, Counter>,
    stopped: Family<EgressLabel, Gauge>,
}

impl EgressFamilies {
    pub(super) fn register(names: &mut Names) -> Self {
        Self {
            emitted: names.add(
                "egress_emitted_records",
                "Records handed to an egress, repeats included",
            ),
            acked: names.add("egress_acked_records", "Records delivered by an egress"),
            refused: names.add(
                "egress_refused_records",
                "Records that an egress can never deliver",
            ),
            retried: names.add(
                "egress_retried_records",
                "Records that an egress could not deliver and retries, each time",
            ),
            stopped: names.add(
                "egress_stopped",
                "1 while an egress delivers nothing because a stream of it is damaged, else 0",
            ),
        }
    }
}
