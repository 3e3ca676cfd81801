//! Wiring of `satchel run`: from module files to adapters of AWS.

use std::sync::Arc;

use satchel_engine::endpoint::Endpoints;
use satchel_log::Options;

use crate::assemble::{Adapters, Process};
use crate::config::RunConfig;
use crate::destinations::{self, AwsConfigs};
use crate::egress::{Egress, kafka_egress};
use crate::error::Failure;
use crate::ingress::{Ingress, kafka_ingresses, kinesis_ingresses, sqs_ingresses};
use crate::module::{Application, EgressAdapter, EndpointAdapter};
use crate::runtime::dispatch::Destination;
use crate::runtime::partitions::ApplicationParts;

/// Makes all parts of the partitions, with their clients. Nothing is taken over yet.
pub(super) async fn parts(
    config: &RunConfig,
    process: &Process,
    configs: &mut AwsConfigs,
) -> Result<ApplicationParts, Failure> {
    let application = &process.application;
    let endpoints = application.endpoints.iter();
    let destinations = destinations(application, configs).await?;
    let (state, restored) = process
        .open_state(Some(&config.state), &Arc::default())
        .await?;
    if let (Some(restored), Some(origin)) = (restored, &process.args.fork.restore) {
        tracing::info!(facts = restored.facts, %origin, "state restored from another root");
    }
    let adapters = Adapters {
        endpoints: Endpoints::new(endpoints.map(|endpoint| endpoint.engine.clone()).collect()),
        destinations,
        ingresses: ingresses(process).await?,
        egresses: egresses(process)?,
    };
    process.application_parts(state, adapters, Options::default())
}

async fn ingresses(process: &Process) -> Result<Vec<Ingress>, Failure> {
    let (application, metrics) = (&process.application, &process.metrics);
    let name = &process.args.application;
    let mut ingresses = kinesis_ingresses(application, name, metrics).await?;
    ingresses.extend(sqs_ingresses(application, metrics).await?);
    ingresses.extend(kafka_ingresses(application, metrics)?);
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

fn egresses(process: &Process) -> Result<Vec<(Arc<str>, Egress)>, Failure> {
    let egresses = process.application.egresses.iter().map(|spec| {
        let aws = |aws| Egress::Aws(Box::new(aws));
        let egress = match &spec.adapter {
            EgressAdapter::Kafka(kafka) => kafka_egress(spec, kafka, &process.args.application)?,
            EgressAdapter::Kinesis(kinesis) => aws(kinesis.to_aws()),
            EgressAdapter::Playground(_) => Egress::Playground(process.playground.topics.clone()),
            EgressAdapter::Aws(settings) => aws(settings.clone()),
        };
        Ok((spec.id.to_string().into(), egress))
    });
    egresses.collect()
}
