//! Ingresses from AWS, in a binary without support for AWS.

use super::Ingress;
use crate::error::Failure;
use crate::metrics::Metrics;
use crate::module::{Application, IngressAdapter};

/// Returns no ingress.
///
/// # Errors
///
/// The application has an ingress from Kinesis.
#[allow(
    clippy::unused_async,
    reason = "the signature is that of the feature `aws`"
)]
pub async fn kinesis_ingresses(
    application: &Application,
    _name: &str,
    _metrics: &Metrics,
) -> Result<Vec<Ingress>, Failure> {
    none_of(application, |adapter| {
        matches!(adapter, IngressAdapter::Kinesis(_))
    })
}

/// Returns no ingress.
///
/// # Errors
///
/// The application has an ingress from SQS.
#[allow(
    clippy::unused_async,
    reason = "the signature is that of the feature `aws`"
)]
pub async fn sqs_ingresses(
    application: &Application,
    _metrics: &Metrics,
) -> Result<Vec<Ingress>, Failure> {
    none_of(application, |adapter| {
        matches!(adapter, IngressAdapter::Sqs(_))
    })
}

fn none_of(
    application: &Application,
    needs_aws: impl Fn(&IngressAdapter) -> bool,
) -> Result<Vec<Ingress>, Failure> {
    let mut ingresses = application.ingresses.iter();
    match ingresses.find(|ingress| needs_aws(&ingress.adapter)) {
        None => Ok(Vec::new()),
        Some(ingress) => {
            let what = format!("{}: the ingress {}", ingress.source, ingress.id);
            Err(Failure::needs_aws(what))
        }
    }
}
