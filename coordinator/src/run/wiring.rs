//! From what a module file says to what runs in production.

use satchel_engine::endpoint::Endpoints;
use satchel_engine::input::Input;
use satchel_engine::partition::Config;
use satchel_log::{DEFAULT_BUCKETS, Options};
use tokio::sync::mpsc;

use super::Shared;
use crate::cli::Failure;
use crate::config::RunConfig;
use crate::destinations::{self, AwsConfigs};
use crate::egress::aws::aws_egresses;
use crate::ingress::Ingress;
use crate::ingress::kinesis::kinesis_ingresses;
use crate::ingress::sqs::sqs_ingresses;
use crate::module::{Application, EndpointAdapter};
use crate::offline::{Fork, restore};
use crate::requests::Readiness;
use crate::runtime::dispatch::Destination;
use crate::runtime::node::NodeParts;
use crate::store::{Opened, PlaceOptions};
use crate::streams::Streams;

/// Everything that the node is made of, with its clients but without a request to take over.
pub(super) async fn parts(
    shared: &Shared,
    configs: &mut AwsConfigs,
    inputs: mpsc::Receiver<Input>,
) -> Result<NodeParts, Failure> {
    let (config, application) = (&shared.config, &shared.application);
    Ok(NodeParts {
        application: config.application.clone(),
        config: engine_config(config, application),
        destinations: destinations(application, configs).await?,
        state: open_state(shared).await?,
        on_hold: config.fork.on_hold().map_err(Failure::usage)?,
        log: Options {
            depth: config.commit_depth,
            retention_ms: retention_ms(config),
            ..Options::default()
        },
        ingresses: ingresses(shared).await?,
        streams: Streams::ephemeral(),
        aws_egresses: aws_egresses(application, false),
        metrics: shared.metrics.clone(),
        requests: shared.requests.clone(),
        inputs,
        readiness: shared.readiness.clone(),
    })
}

async fn ingresses(shared: &Shared) -> Result<Vec<Ingress>, Failure> {
    let (application, metrics) = (&shared.application, &shared.metrics);
    let name = &shared.config.application;
    let mut ingresses = kinesis_ingresses(application, name, metrics).await?;
    ingresses.extend(sqs_ingresses(application, metrics).await?);
    Ok(ingresses)
}

async fn destinations(
    application: &Application,
    configs: &mut AwsConfigs,
) -> Result<Vec<Destination>, Failure> {
    let mut destinations = Vec::new();
    for endpoint in &application.endpoints {
        destinations.push(match &endpoint.adapter {
            EndpointAdapter::Lambda(lambda) => {
                destinations::lambda(&endpoint.source, lambda, configs).await?
            }
            EndpointAdapter::Http(http) => destinations::http(endpoint, http, configs).await?,
        });
    }
    Ok(destinations)
}

fn retention_ms(config: &RunConfig) -> u64 {
    let retention = config.retention.unwrap_or_default();
    u64::try_from(retention.as_millis()).unwrap_or(u64::MAX)
}

async fn open_state(shared: &Shared) -> Result<Opened, Failure> {
    let config = &shared.config;
    let s3 = config.s3.options().map_err(Failure::usage)?;
    let options = PlaceOptions {
        s3: s3.clone(),
        on_written: None,
    };
    let options = options.counted(&shared.metrics);
    let opened = config.state.open_new(options).await?;
    if let Some(origin) = &config.fork.restore {
        let fork = Fork {
            opened: &opened,
            place: &config.state.to_string(),
            application: &config.application,
        };
        let progress = |recovered| {
            let starting = Readiness::Starting { recovered };
            shared.readiness.send_replace(starting);
        };
        let restored = restore(origin, s3, fork, progress).await?;
        tracing::info!(facts = restored.facts, %origin, "the state of another root was restored");
    }
    Ok(opened)
}

fn engine_config(config: &RunConfig, application: &Application) -> Config {
    let endpoints = application.endpoints.iter();
    Config {
        partition: 0,
        buckets: DEFAULT_BUCKETS,
        endpoints: Endpoints::new(endpoints.map(|endpoint| endpoint.engine.clone()).collect()),
        egresses: application
            .egresses
            .iter()
            .map(|egress| egress.id.to_string().into())
            .collect(),
        commit_depth: config.commit_depth,
        commit_interval_ms: config.commit_interval.as_millis() as u64,
        pending_bytes_max: usize::try_from(config.pending_limit).unwrap_or(usize::MAX),
        memory_limit_bytes: config
            .memory_limit
            .map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        idempotency_ttl_ms: config.idempotency_ttl.as_millis() as u64,
        ..Config::default()
    }
}
