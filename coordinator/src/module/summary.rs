//! Summary of an application: one line for each component.

use satchel_aws::egress::destination::Destination;
use satchel_engine::address::FunctionType;
use satchel_engine::endpoint::FunctionPattern;

use crate::module::{
    Application, EgressAdapter, EgressSpec, EndpointAdapter, EndpointSpec, IngressAdapter,
    IngressSpec, IngressStream, KafkaIngress, KafkaStartup, StartupPosition,
};

/// Describes each endpoint, each stream of an ingress and each egress in one line.
pub(crate) fn lines(application: &Application) -> Vec<String> {
    let endpoints = application.endpoints.iter().map(endpoint);
    let ingresses = application.ingresses.iter().flat_map(ingress);
    let egresses = application.egresses.iter().map(egress);
    endpoints.chain(ingresses).chain(egresses).collect()
}

fn endpoint(endpoint: &EndpointSpec) -> String {
    let patterns = endpoint
        .engine
        .functions
        .iter()
        .map(|pattern| match pattern {
            FunctionPattern::One(function) => function.to_string(),
            FunctionPattern::Namespace(namespace) => format!("{namespace}/*"),
        });
    let place = match &endpoint.adapter {
        EndpointAdapter::Lambda(lambda) => match &lambda.qualifier {
            Some(qualifier) => format!("Lambda {} ({qualifier})", lambda.function_name),
            None => format!("Lambda {}", lambda.function_name),
        },
        EndpointAdapter::Http(http) => http.place().to_owned(),
    };
    format!(
        "functions {} on {place}",
        patterns.collect::<Vec<_>>().join(", ")
    )
}

fn ingress(ingress: &IngressSpec) -> Vec<String> {
    let (what, begin) = match &ingress.adapter {
        IngressAdapter::Kafka(kafka) => ("topic", kafka_begin(kafka)),
        IngressAdapter::Kinesis(kinesis) => ("stream", begin(kinesis.startup)),
        IngressAdapter::Playground(playground) => {
            let address = playground.address;
            return vec![format!("ingress {} on http://{address}", ingress.id)];
        }
        IngressAdapter::Sqs(sqs) => {
            return vec![format!(
                "ingress {} from the queue {} (as {}) to {}",
                ingress.id,
                sqs.options.queue_url,
                sqs.value_type,
                listed(&sqs.targets)
            )];
        }
    };
    let line = |stream: &IngressStream| {
        format!(
            "ingress {} from {what} {} (from {begin}, as {}) to {}",
            ingress.id,
            stream.stream,
            stream.value_type,
            listed(&stream.targets)
        )
    };
    ingress.adapter.streams().iter().map(line).collect()
}

fn begin(startup: StartupPosition) -> String {
    match startup {
        StartupPosition::Latest => "latest".to_owned(),
        StartupPosition::Earliest => "earliest".to_owned(),
        StartupPosition::Date(ms) => format!("{ms} ms since 1970"),
    }
}

fn kafka_begin(kafka: &KafkaIngress) -> String {
    match (&kafka.startup, &kafka.consumer_group_id) {
        (KafkaStartup::GroupOffsets, Some(group)) => format!("the offsets of the group {group}"),
        (KafkaStartup::SpecificOffsets(_) | KafkaStartup::GroupOffsets, _) => {
            "given offsets".to_owned()
        }
        _ => begin(kafka.local_startup()),
    }
}

fn listed(targets: &[FunctionType]) -> String {
    let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
    targets.join(", ")
}

fn egress(egress: &EgressSpec) -> String {
    let place = match &egress.adapter {
        EgressAdapter::Kafka(_) => "topics".to_owned(),
        EgressAdapter::Playground(playground) => {
            let topics = playground.topics.join(", ");
            format!("the topics {topics} on http://{}", playground.address)
        }
        EgressAdapter::Kinesis(_) => "streams".to_owned(),
        EgressAdapter::Aws(aws) => match &aws.destination {
            Destination::Kinesis(..) => "streams".to_owned(),
            Destination::Sqs(sqs) => format!("the queue {}", sqs.queue_url),
            Destination::Sns(sns) => format!("the topic {}", sns.topic_arn),
            Destination::EventBridge(bus) => format!("the event bus {}", bus.event_bus),
            Destination::DynamoDb(table) => format!("the table {}", table.table),
            Destination::Lambda(lambda) => format!("the function {}", lambda.function_name),
        },
    };
    format!("egress {} to {place}", egress.id)
}
