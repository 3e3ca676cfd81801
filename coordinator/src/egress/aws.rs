//! Egresses to services of AWS.

use std::sync::Arc;

use satchel_aws::egress::destination::{AwsEgress, EgressError, Owner};
use satchel_aws::egress::kinesis::exactly_once;
use satchel_aws::egress::{EgressHandle, Observer};

use super::{EgressContext, EgressInbox};
use crate::error::{Exit, Failure};
use crate::metrics::Metrics;
use crate::random;

/// Delivers to AWS until the inbox ends.
pub(super) async fn run(
    egress: AwsEgress,
    context: EgressContext,
    inbox: EgressInbox,
) -> Result<(), EgressError> {
    let owner = Owner {
        writer: context.writer,
        inherited: exactly_once::Inherited {
            numbers: context.inherited.outbox,
            marks: context.inherited.marks,
        },
        taken_over: context.taken_over,
        ownership: context.ownership,
        marks_durable: inbox.marks_durable,
    };
    let handle = EgressHandle {
        id: context.id,
        facts: context.inputs,
        observer: Arc::new(context.metrics),
        seed: u64::from_le_bytes(random::bytes()),
    };
    egress.run(handle, owner, inbox.emissions).await
}

impl Observer for Metrics {
    fn delivered(&self, egress: &str, records: u64) {
        self.observe_egress_acked(egress, records);
    }

    fn refused(&self, egress: &str) {
        self.observe_egress_refused(egress);
    }

    fn retried(&self, egress: &str, records: u64, reason: &str) {
        self.observe_egress_retried(egress, records, reason);
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
