//! Ingress from Amazon Kinesis: from a module file to the reader in `satchel-aws`.

use std::sync::Arc;

use satchel_aws::config::{AwsAccess, ConfigError, check_credentials};
use satchel_aws::kinesis::{KinesisError, KinesisIngress, KinesisOptions, Startup};
use satchel_engine::input::Input;
use tokio::sync::{Semaphore, mpsc};

use super::Ingress;
use super::incarnations::Incarnations;
use super::routing::Routing;
use super::stream_source;
use crate::error::{Exit, Failure};
use crate::ingress::reading::Reading;
use crate::metrics::Metrics;
use crate::module::{
    self, Application, Consumer, IngressAdapter, IngressSpec, IngressStream, StartupPosition,
};
use crate::sources::{SourceId, SourceProblem, SourceStopped};

/// One Kinesis stream of an ingress.
#[derive(Clone)]
pub struct KinesisStream {
    application: String,
    access: AwsAccess,
    options: KinesisOptions,
    consumer: Consumer,
    routing: Routing,
    metrics: Metrics,
    /// Limits the responses in memory of all partitions of this process together.
    answers: Arc<Semaphore>,
    /// Reader of the shards that the home of the stream hands to it; none is the home.
    handed: Option<Handed>,
}

/// Reader of what the home of a stream hands over.
#[derive(Debug, Clone, Copy)]
struct Handed {
    /// Partition that reads.
    to: u32,
    home: u32,
}

/// Opens the Kinesis streams of all ingresses. `name` is the application's.
///
/// # Errors
///
/// A module file has no region, with its place.
pub async fn kinesis_ingresses(
    application: &Application,
    name: &str,
    metrics: &Metrics,
) -> Result<Vec<Ingress>, Failure> {
    let mut ingresses = Vec::new();
    for spec in &application.ingresses {
        let IngressAdapter::Kinesis(kinesis) = &spec.adapter else {
            continue;
        };
        for stream in &kinesis.streams {
            // Boxed, because the future that finds credentials is large.
            let opened = Box::pin(KinesisStream::open(spec, kinesis, stream, name, metrics));
            let opened = opened
                .await
                .map_err(|error| Failure::caused(Exit::Environment, &spec.source, error))?;
            ingresses.push(Ingress::Kinesis(Box::new(opened)));
        }
    }
    Ok(ingresses)
}

impl KinesisStream {
    /// Finds the region. Sends nothing to Kinesis yet.
    ///
    /// # Errors
    ///
    /// There is no region.
    pub async fn open(
        spec: &IngressSpec,
        kinesis: &module::KinesisIngress,
        stream: &IngressStream,
        application: &str,
        metrics: &Metrics,
    ) -> Result<Self, ConfigError> {
        kinesis.access.load().await?;
        let options = KinesisOptions {
            startup: match kinesis.startup {
                StartupPosition::Latest => Startup::Latest,
                StartupPosition::Earliest => Startup::Earliest,
                StartupPosition::Date(ms) => Startup::Date(ms),
            },
            on_expired: kinesis.on_expired,
            aggregation: kinesis.aggregation,
            ..KinesisOptions::new(spec.id.to_string(), stream.stream.as_str())
        };
        Ok(Self {
            application: application.to_owned(),
            access: kinesis.access.clone(),
            answers: Arc::new(Semaphore::new(options.answers_max)),
            options,
            consumer: kinesis.consumer.clone(),
            routing: Routing {
                value_type: stream.value_type.clone(),
                targets: stream.targets.clone(),
                id: stream.id.clone(),
            },
            metrics: metrics.clone(),
            handed: None,
        })
    }

    /// The reader of the shards that the home of the stream hands to a partition.
    pub(super) fn handed(&self, to: u32, home: u32) -> Self {
        Self {
            handed: Some(Handed { to, home }),
            ..self.clone()
        }
    }

    /// Name of the stream, and of the partition if it is not the home.
    pub(super) fn source(&self) -> SourceId {
        SourceId {
            ingress: Arc::clone(&self.options.ingress),
            name: stream_source(&self.options.stream, self.handed.map(|handed| handed.to)),
        }
    }

    /// Id of the ingress.
    pub(super) fn id(&self) -> &str {
        &self.options.ingress
    }

    /// Reads until the partition is gone.
    ///
    /// # Errors
    ///
    /// There are no credentials, or as [`KinesisIngress::run`].
    pub async fn run(
        self,
        inputs: mpsc::Sender<Input>,
        reading: Reading,
        names: Incarnations,
    ) -> Result<(), SourceStopped> {
        let mut options = self.options;
        let handed = match self.handed {
            None => None,
            Some(_) => {
                let stream = (Arc::clone(&options.ingress), Arc::clone(&options.stream));
                match reading.handed(&inputs, stream).await {
                    Some(handed) => Some(handed),
                    None => return Ok(()),
                }
            }
        };
        let config = usable(&self.access, &options.ingress).await?;
        options.consumer = match self.consumer {
            Consumer::Polling => None,
            Consumer::FanOut { name: Some(name) } => Some(name),
            Consumer::FanOut { name: None } => {
                // All partitions use the consumer of the home, because each one is paid for.
                let incarnation = match self.handed {
                    None => names.own().to_owned(),
                    Some(Handed { home, .. }) => names.of(home).await,
                };
                let application = &self.application;
                Some(consumer_name(application, &options.ingress, &incarnation))
            }
        };
        let routing = self.routing;
        let router = Arc::new(move |key: &str, data: &bytes::Bytes| routing.route(key, data));
        let ingress = KinesisIngress::new(&config, options, router, Arc::new(self.metrics));
        let ingress = ingress.sharing(self.answers);
        let reading = Arc::new(reading);
        let read = match handed {
            None => ingress.run(inputs, reading).await,
            Some(handed) => ingress.run_handed(inputs, reading, handed).await,
        };
        read.map_err(|error| SourceStopped {
            problem: match error {
                KinesisError::NoStream { .. } => SourceProblem::Missing,
                KinesisError::Refused { .. } => SourceProblem::Forbidden,
                KinesisError::ExpiredPosition { .. }
                | KinesisError::LostShard { .. }
                | KinesisError::AnotherStream { .. } => SourceProblem::Lost,
            },
            reason: error.to_string(),
        })
    }
}

/// Finds region and credentials of an ingress.
///
/// # Errors
///
/// There are none, or a role cannot be assumed.
pub(super) async fn usable(
    access: &AwsAccess,
    ingress: &str,
) -> Result<aws_config::SdkConfig, SourceStopped> {
    // Boxed, because the future that finds credentials is large.
    let found = Box::pin(async {
        let config = access.load().await?;
        check_credentials(&config).await?;
        Ok(config)
    });
    found.await.map_err(|error: ConfigError| SourceStopped {
        problem: SourceProblem::Forbidden,
        reason: format!("ingress {ingress}, with {}: {error}", access.credentials),
    })
}

/// Returns the name of a consumer, from application, ingress and root, so that no two ever share
/// one. It has at most 128 characters, all of which Kinesis accepts.
fn consumer_name(application: &str, ingress: &str, incarnation: &str) -> String {
    const LENGTH_MAX: usize = 128;
    let root = &incarnation[..incarnation.len().min(12)];
    let mut name: String = format!("{application}-{ingress}")
        .chars()
        .map(|letter| match letter {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '.' | '-' => letter,
            _ => '_',
        })
        .collect();
    name.truncate(LENGTH_MAX - 1 - root.len());
    format!("{name}-{root}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumers_name_has_only_what_kinesis_takes_and_tells_roots_apart() {
        let name = consumer_name("fraud", "example/trans actions", "0123456789abcdef");
        assert_eq!(name, "fraud-example_trans_actions-0123456789ab");
        let long = consumer_name(&"ä".repeat(300), "example/in", "0123456789abcdef");
        assert_eq!(long.len(), 128);
        assert!(long.ends_with("-0123456789ab"));
    }
}
