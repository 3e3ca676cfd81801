//! Ingresses and egresses of `satchel dev`: local streams in the place of services, or the services
//! themselves where the command line or the module file asks for them.
//!
//! - Kafka, Kinesis: of the name of the topic or stream
//! - SQS ingress; SQS, SNS, EventBridge, DynamoDB and Lambda egress: of the id, such as
//!   `example.tasks`

use std::collections::HashMap;
use std::sync::Arc;

use satchel_aws::config::{AwsAccess, AwsRegion};
use satchel_aws::kinesis::ExpiredPosition;

use crate::assemble::Process;
use crate::config::DevConfig;
use crate::egress::local_record::RecordForm;
use crate::egress::local_stream::LocalStreamEgress;
use crate::egress::{Egress, kafka_egress};
use crate::error::Failure;
use crate::ingress::local_stream::{LocalReading, LocalRouting, LocalStreamIngress};
use crate::ingress::queue_routing::QueueRouting;
use crate::ingress::routing::Routing;
use crate::ingress::{Ingress, kafka_ingresses, kinesis_ingresses, sqs_ingresses};
use crate::module::{
    Application, EgressAdapter, EgressSpec, Identifier, IngressAdapter, IngressSpec, IngressStream,
    Source, StartupPosition,
};
use crate::streams::Streams;

/// Maximum length of the name of a stream.
const STREAM_NAME_MAX: usize = 128;

/// Makes the ingresses.
pub(super) async fn ingresses(
    config: &DevConfig,
    process: &Process,
    streams: &Streams,
) -> Result<Vec<Ingress>, Failure> {
    let remote = process.application.ingresses.iter();
    let remote = remote.filter(|ingress| !is_local_ingress(config, &ingress.adapter));
    let remote = Application {
        ingresses: remote.cloned().collect(),
        ..Application::default()
    };
    let name = &config.process.application;
    let mut ingresses = sqs_ingresses(&remote, &process.metrics).await?;
    ingresses.extend(kinesis_ingresses(&remote, name, &process.metrics).await?);
    ingresses.extend(kafka_ingresses(&remote, &process.metrics)?);
    for ingress in &process.application.ingresses {
        if !is_local_ingress(config, &ingress.adapter) {
            continue;
        }
        for (stream, reading, routing) in local_sources(ingress) {
            // Creates a stream that does not exist. A stream that cannot be opened stops its
            // ingress alone, which reports it.
            let _ = streams.stream(&stream).await;
            ingresses.push(Ingress::LocalStream(LocalStreamIngress {
                ingress: ingress.id.to_string(),
                streams: streams.clone(),
                stream,
                reading,
                routing,
                metrics: process.metrics.clone(),
                handed_to: None,
            }));
        }
    }
    Ok(ingresses)
}

/// Makes the egresses.
pub(super) fn egresses(
    config: &DevConfig,
    process: &Process,
    streams: &Streams,
) -> Result<Vec<(Arc<str>, Egress)>, Failure> {
    let egresses = process.application.egresses.iter().map(|spec| {
        let egress = match local_form(config, spec) {
            Some(form) => Egress::LocalStream(LocalStreamEgress {
                streams: streams.clone(),
                form,
            }),
            None => service(process, spec)?,
        };
        Ok((spec.id.to_string().into(), egress))
    });
    egresses.collect()
}

/// Checks that no two ingresses or egresses have the same local stream by their ids alone.
pub(super) fn check(config: &DevConfig, application: &Application) -> Result<(), Failure> {
    let mut names: HashMap<String, (&Identifier, &Source)> = HashMap::new();
    let ingresses = application.ingresses.iter().filter_map(|ingress| {
        let is_queue = matches!(ingress.adapter, IngressAdapter::Sqs(_));
        (is_queue && is_local_ingress(config, &ingress.adapter))
            .then_some((&ingress.id, &ingress.source))
    });
    let egresses = application.egresses.iter().filter_map(|egress| {
        let form = local_form(config, egress);
        matches!(form, Some(RecordForm::Request { .. })).then_some((&egress.id, &egress.source))
    });
    for (id, source) in ingresses.chain(egresses) {
        let name = stream_of_id(id);
        if let Some((other, at)) = names.insert(name.clone(), (id, source)) {
            return Err(Failure::usage(format!(
                "{source}: `{id}` has the same local stream `{name}` as `{other}` at {at}: rename \
                 one of the two"
            )));
        }
    }
    Ok(())
}

/// Lines of the banner: the commands that feed each local ingress, and that show each local egress.
pub(super) fn hints(config: &DevConfig, application: &Application) -> Vec<String> {
    let local = |ingress: &&IngressSpec| is_local_ingress(config, &ingress.adapter);
    let ingresses = application.ingresses.iter().filter(local);
    let sources = ingresses.flat_map(|ingress| {
        let sources = local_sources(ingress).into_iter();
        sources.map(|(stream, ..)| {
            let command = format!("satchel stream put {stream} --key KEY --data MESSAGE");
            format!("{command} (feeds {})", ingress.id)
        })
    });
    let egresses = application.egresses.iter().filter_map(|egress| {
        let stream = match local_form(config, egress)? {
            RecordForm::Request { stream, .. } => stream,
            RecordForm::Kafka => "TOPIC".to_owned(),
            RecordForm::Kinesis => "STREAM".to_owned(),
        };
        Some(format!(
            "satchel stream tail {stream} (shows {})",
            egress.id
        ))
    });
    sources.chain(egresses).collect()
}

fn is_local_ingress(config: &DevConfig, adapter: &IngressAdapter) -> bool {
    match adapter {
        IngressAdapter::Kafka(_) => !config.kafka,
        IngressAdapter::Kinesis(_) => !config.kinesis_ingress,
        IngressAdapter::Sqs(sqs) => !uses_aws(config, &sqs.access),
        // A port of its own.
        IngressAdapter::Playground(_) => false,
    }
}

/// Form of the records of an egress that has local streams.
fn local_form(config: &DevConfig, egress: &EgressSpec) -> Option<RecordForm> {
    match &egress.adapter {
        EgressAdapter::Kafka(_) => (!config.kafka).then_some(RecordForm::Kafka),
        EgressAdapter::Kinesis(_) => Some(RecordForm::Kinesis),
        EgressAdapter::Playground(_) => None,
        EgressAdapter::Aws(aws) => (!uses_aws(config, &aws.access)).then(|| RecordForm::Request {
            destination: Box::new(aws.destination.clone()),
            stream: stream_of_id(&egress.id),
        }),
    }
}

/// Returns true for a service that the command line or the module file asks for.
fn uses_aws(config: &DevConfig, access: &AwsAccess) -> bool {
    config.aws || matches!(access.region, AwsRegion::CustomEndpoint { .. })
}

/// Egress that has no local streams.
fn service(process: &Process, spec: &EgressSpec) -> Result<Egress, Failure> {
    match &spec.adapter {
        EgressAdapter::Playground(_) => Ok(Egress::Playground(process.playground.topics.clone())),
        #[cfg(feature = "aws")]
        EgressAdapter::Aws(aws) => Ok(Egress::Aws(Box::new(aws.clone()))),
        #[cfg(not(feature = "aws"))]
        EgressAdapter::Aws(_) => {
            let what = format!("{}: the egress {}", spec.source, spec.id);
            Err(Failure::needs_aws(what))
        }
        EgressAdapter::Kafka(kafka) => kafka_egress(spec, kafka, &process.args.application),
        EgressAdapter::Kinesis(_) => {
            let what = format!(
                "{}: the egress {} has local streams only",
                spec.source, spec.id
            );
            Err(Failure::usage(what))
        }
    }
}

/// Names of the local streams of an ingress, with the way of reading each.
fn local_sources(ingress: &IngressSpec) -> Vec<(String, LocalReading, LocalRouting)> {
    let reading = match &ingress.adapter {
        IngressAdapter::Playground(_) => return Vec::new(),
        IngressAdapter::Kafka(kafka) => LocalReading {
            startup: kafka.local_startup(),
            on_expired: kafka.on_expired,
            aggregation: None,
        },
        IngressAdapter::Kinesis(kinesis) => LocalReading {
            startup: kinesis.startup,
            on_expired: kinesis.on_expired,
            aggregation: Some(kinesis.aggregation),
        },
        IngressAdapter::Sqs(sqs) => {
            // A queue keeps its messages until they are received.
            let reading = LocalReading {
                startup: StartupPosition::Earliest,
                on_expired: ExpiredPosition::Stop,
                aggregation: None,
            };
            let routing = LocalRouting::Queue(QueueRouting::of(sqs));
            return vec![(stream_of_id(&ingress.id), reading, routing)];
        }
    };
    let source = |stream: &IngressStream| {
        let routing = Routing {
            value_type: stream.value_type.clone(),
            targets: stream.targets.clone(),
            id: stream.id.clone(),
        };
        (
            stream.stream.clone(),
            reading,
            LocalRouting::Records(routing),
        )
    };
    ingress.adapter.streams().iter().map(source).collect()
}

/// Name of the local stream of an ingress or egress that has no stream of its own: the id with `.`
/// for `/`, and `_` for what no name of a stream has, cut to its maximum length.
fn stream_of_id(id: &Identifier) -> String {
    let id = id.to_string();
    let letters = id.chars().map(|letter| match letter {
        '/' => '.',
        letter if letter.is_ascii_alphanumeric() || "_.-".contains(letter) => letter,
        _ => '_',
    });
    letters.take(STREAM_NAME_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_stream_of_an_id_has_a_legal_name() {
        for (id, name) in [
            ("example/tasks", "example.tasks"),
            ("com.example/new orders", "com.example.new_orders"),
            ("a/b/ü", "a.b._"),
        ] {
            assert_eq!(stream_of_id(&id.parse().unwrap()), name);
        }
        let long = format!("{}/x", "n".repeat(300));
        assert_eq!(stream_of_id(&long.parse().unwrap()), "n".repeat(128));
    }
}
