//! Ingresses from Kafka, in a binary without support for Kafka.

use super::Ingress;
use crate::error::Failure;
use crate::metrics::Metrics;
use crate::module::{Application, IngressAdapter};

/// Returns no ingress.
///
/// # Errors
///
/// The application has an ingress from Kafka.
pub fn kafka_ingresses(
    application: &Application,
    _metrics: &Metrics,
) -> Result<Vec<Ingress>, Failure> {
    let mut ingresses = application.ingresses.iter();
    let kafka = ingresses.find(|it| matches!(it.adapter, IngressAdapter::Kafka(_)));
    match kafka {
        None => Ok(Vec::new()),
        Some(ingress) => {
            let what = format!("{}: the ingress {}", ingress.source, ingress.id);
            Err(Failure::needs_kafka(what))
        }
    }
}
