//! Egresses to services of AWS.

use std::sync::Arc;

use satchel_aws::egress::destination::{AwsEgress, EgressError, Owner};
use satchel_aws::egress::kinesis::exactly_once::Left;
use satchel_aws::egress::{Observer, Outlet};

use super::{EgressHandle, EgressInbox};
use crate::error::{Exit, Failure};
use crate::metrics::Metrics;
use crate::random;

/// Delivers to AWS until the inbox ends.
pub(super) async fn run(
    egress: AwsEgress,
    handle: EgressHandle,
    inbox: EgressInbox,
) -> Result<(), EgressError> {
    let owner = Owner {
        writer: handle.writer,
        left: Left {
            numbers: handle.inherited.outbox,
            marks: handle.inherited.marks,
        },
        taken_over: handle.taken_over,
        ownership: handle.ownership,
        noted: inbox.marks_durable,
    };
    let outlet = Outlet {
        id: handle.id,
        facts: handle.inputs,
        observer: Arc::new(handle.metrics),
        seed: u64::from_le_bytes(random::bytes()),
    };
    egress.run(outlet, owner, inbox.emissions).await
}

impl Observer for Metrics {
    fn delivered(&self, egress: &str, records: u64) {
        self.observe_egress_acked(egress, records);
    }

    fn refused(&self, egress: &str) {
        self.observe_egress_refused(egress);
    }

    fn retried(&self, egress: &str, records: u64) {
        self.observe_egress_retried(egress, records);
    }
}

impl From<EgressError> for Failure {
    fn from(error: EgressError) -> Self {
        let exit = match error {
            EgressError::Config { .. } => Exit::Environment,
            EgressError::Mark { .. } => Exit::Damaged,
        };
        Self::from_source(exit, error)
    }
}
