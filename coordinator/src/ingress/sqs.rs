//! Ingress from Amazon SQS: from a module file to the receiver in `satchel-aws`.

use std::sync::Arc;

use satchel_aws::config::{AwsAccess, ConfigError};
use satchel_aws::sqs::{SqsError, SqsIngress, SqsMessage, SqsOptions};
use satchel_engine::input::Input;
use tokio::sync::mpsc;

use super::Ingress;
use super::kinesis::usable;
use super::queue_routing::QueueRouting;
use crate::error::{Exit, Failure};
use crate::ingress::reading::Reading;
use crate::metrics::Metrics;
use crate::module::{self, Application, IngressAdapter};
use crate::sources::{SourceId, SourceProblem, SourceStopped};

/// One queue of an ingress.
#[derive(Clone)]
pub struct SqsQueue {
    access: AwsAccess,
    options: SqsOptions,
    routing: QueueRouting,
    metrics: Metrics,
}

/// Opens the queues of all ingresses.
///
/// # Errors
///
/// A module file has no region, with its place.
pub async fn sqs_ingresses(
    application: &Application,
    metrics: &Metrics,
) -> Result<Vec<Ingress>, Failure> {
    let mut ingresses = Vec::new();
    for spec in &application.ingresses {
        let IngressAdapter::Sqs(sqs) = &spec.adapter else {
            continue;
        };
        // Boxed, because the future that finds credentials is large.
        let opened = Box::pin(SqsQueue::open(sqs, metrics)).await;
        let opened =
            opened.map_err(|error| Failure::caused(Exit::Environment, &spec.source, error))?;
        ingresses.push(Ingress::Sqs(Box::new(opened)));
    }
    Ok(ingresses)
}

impl SqsQueue {
    /// Finds the region. Sends nothing to SQS yet.
    async fn open(sqs: &module::SqsIngress, metrics: &Metrics) -> Result<Self, ConfigError> {
        sqs.access.load().await?;
        Ok(Self {
            access: sqs.access.clone(),
            options: sqs.options.clone(),
            routing: QueueRouting::of(sqs),
            metrics: metrics.clone(),
        })
    }

    /// Name of the queue.
    pub(super) fn source(&self) -> SourceId {
        SourceId {
            ingress: Arc::clone(&self.options.ingress),
            name: format!("queue {}", self.options.queue_url).into(),
        }
    }

    /// Id of the ingress.
    pub(super) fn id(&self) -> &str {
        &self.options.ingress
    }

    /// Receives until the partition is gone.
    ///
    /// # Errors
    ///
    /// There are no credentials, or as [`SqsIngress::run`].
    pub async fn run(
        self,
        inputs: mpsc::Sender<Input>,
        reading: Reading,
    ) -> Result<(), SourceStopped> {
        let config = usable(&self.access, &self.options.ingress).await?;
        let routing = self.routing;
        let router = Arc::new(move |message: &SqsMessage| routing.route(message));
        let ingress = SqsIngress::new(&config, self.options, router, Arc::new(self.metrics));
        let received = ingress.run(inputs, Arc::new(reading)).await;
        received.map_err(|error| SourceStopped {
            problem: match error {
                SqsError::NoQueue { .. } => SourceProblem::Missing,
                SqsError::Refused { .. } => SourceProblem::Forbidden,
            },
            reason: error.to_string(),
        })
    }
}
