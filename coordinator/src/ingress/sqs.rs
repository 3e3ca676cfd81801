//! Ingress from Amazon SQS: from a module file to the receiver in `satchel-aws`.

use std::sync::Arc;

use satchel_aws::config::{AwsAccess, ConfigError};
use satchel_aws::sqs::{SqsError, SqsIngress, SqsMessage, SqsOptions, SqsSelector};
use satchel_engine::address::{Address, FunctionType};
use satchel_engine::input::{Input, Unroutable};
use satchel_protocol::reqreply::TypedValue;
use satchel_protocol::types::typed_value;
use tokio::sync::mpsc;

use super::Ingress;
use super::kinesis::usable;
use super::routing::pointed;
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
    routing: SqsRouting,
    metrics: Metrics,
}

/// Conversion of a queue's messages to messages of functions.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SqsRouting {
    value_type: String,
    targets: Vec<FunctionType>,
    id: SqsSelector,
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
            routing: SqsRouting {
                value_type: sqs.value_type.clone(),
                targets: sqs.targets.clone(),
                id: sqs.target_id.clone(),
            },
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

impl SqsRouting {
    fn route(&self, message: &SqsMessage) -> Result<Vec<(Address, TypedValue)>, Unroutable> {
        let unroutable = |data, reason| Unroutable {
            value: typed_value(self.value_type.clone(), data),
            reason,
        };
        let data = message.data();
        let data = data.map_err(|reason| unroutable(message.body.clone(), reason))?;
        let id = id_of(&self.id, message, &data);
        let id = id.map_err(|reason| unroutable(data.clone(), reason))?;
        let value = || typed_value(self.value_type.clone(), data.clone());
        let targets = self.targets.iter();
        Ok(targets
            .map(|target| (Address::new(target.clone(), id.as_str()), value()))
            .collect())
    }
}

fn id_of(selector: &SqsSelector, message: &SqsMessage, data: &[u8]) -> Result<String, String> {
    let missing =
        |what: &str| format!("the message has no {what}, which is the id of its target address");
    let named = |id: Option<&String>, what: &str| {
        let id = id.filter(|id| !id.is_empty());
        id.cloned().ok_or_else(|| missing(what))
    };
    match selector {
        SqsSelector::Group => named(message.group.as_ref(), "message group"),
        SqsSelector::MessageId => Ok(message.id.clone()),
        SqsSelector::Attribute(name) => {
            let attribute = message.attributes.get(name);
            named(
                attribute,
                &format!("attribute {name} with a text or number"),
            )
        }
        SqsSelector::Pointer(pointer) => pointed(pointer, data),
        SqsSelector::Constant(id) => Ok(id.clone()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn message() -> SqsMessage {
        SqsMessage {
            id: "m-1".to_owned(),
            body: Bytes::from_static(br#"{"customer": {"id": "c-7"}}"#),
            group: Some("g-1".to_owned()),
            attributes: [("team".to_owned(), "t-1".to_owned())].into(),
        }
    }

    fn route(id: SqsSelector, message: &SqsMessage) -> Result<Vec<String>, String> {
        let routing = SqsRouting {
            value_type: "example/task".to_owned(),
            targets: vec![
                "example/one".parse().unwrap(),
                "example/two".parse().unwrap(),
            ],
            id,
        };
        let routed = routing.route(message);
        match routed {
            Ok(messages) => Ok(messages
                .into_iter()
                .map(|(address, value)| {
                    assert_eq!(value, typed_value("example/task", message.body.clone()));
                    address.to_string()
                })
                .collect()),
            Err(unroutable) => {
                assert_eq!(unroutable.value.value, message.body);
                Err(unroutable.reason)
            }
        }
    }

    #[test]
    fn the_id_is_the_group_the_own_id_an_attribute_what_a_pointer_finds_or_always_the_same() {
        for (selector, id) in [
            (SqsSelector::Group, "g-1"),
            (SqsSelector::MessageId, "m-1"),
            (SqsSelector::Attribute("team".to_owned()), "t-1"),
            (SqsSelector::Pointer("/customer/id".to_owned()), "c-7"),
            (SqsSelector::Constant("main".to_owned()), "main"),
        ] {
            let expected = [format!("example/one/{id}"), format!("example/two/{id}")];
            assert_eq!(route(selector, &message()).unwrap(), expected);
        }
    }

    #[test]
    fn a_message_without_an_id_is_unroutable_with_its_reason() {
        let mut bare = message();
        bare.group = None;
        bare.attributes = [("team".to_owned(), String::new())].into();
        for (selector, why) in [
            (SqsSelector::Group, "has no message group"),
            (
                SqsSelector::Attribute("team".to_owned()),
                "has no attribute team",
            ),
            (SqsSelector::Pointer("/order".to_owned()), "has no /order"),
        ] {
            let reason = route(selector, &bare).unwrap_err();
            assert!(reason.contains(why), "{reason}");
        }
        bare.attributes = [("satchel-encoding".to_owned(), "base64".to_owned())].into();
        let reason = route(SqsSelector::MessageId, &bare).unwrap_err();
        assert!(reason.contains("says base64"), "{reason}");
    }
}
