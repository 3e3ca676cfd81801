//! Egresses to AWS: which of an application's there are, and who counts what they do.

use std::collections::HashMap;
use std::sync::Arc;

use satchel_aws::egress::Observer;
use satchel_aws::egress::destination::{AwsEgress, EgressError};

use crate::cli::{Exit, Failure};
use crate::metrics::Metrics;
use crate::module::{Application, EgressAdapter};

/// The egresses to AWS, by id. Where the Kinesis ones are local streams, as in `dev`, they are not among them.
pub fn aws_egresses(
    application: &Application,
    kinesis_is_local: bool,
) -> HashMap<Arc<str>, AwsEgress> {
    let egresses = application.egresses.iter().filter_map(|egress| {
        let aws = match &egress.adapter {
            EgressAdapter::Kinesis(_) if kinesis_is_local => return None,
            EgressAdapter::Kinesis(kinesis) => kinesis.to_aws(),
            EgressAdapter::Aws(aws) => aws.clone(),
        };
        Some((egress.id.to_string().into(), aws))
    });
    egresses.collect()
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

/// How a process ends for the sake of an egress.
#[allow(clippy::needless_pass_by_value, reason = "what `map_err` takes")]
pub(crate) fn egress_failure(error: EgressError) -> Failure {
    let exit = match error {
        EgressError::Config { .. } => Exit::Environment,
        EgressError::Mark { .. } => Exit::Damaged,
    };
    Failure::new(exit, error.to_string())
}
