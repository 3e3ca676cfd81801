//! Adapter of SNS.

use std::sync::Arc;

use aws_config::SdkConfig;
use aws_sdk_sns::Client;
use aws_sdk_sns::operation::publish_batch::PublishBatchError;
use aws_sdk_sns::types::{MessageAttributeValue, PublishBatchRequestEntry};
use satchel_engine::output::Emission;

use super::SnsSettings;
use crate::egress::batch::{self, attributes};
use crate::egress::content::check_size;
use crate::egress::sqs::Message;
use crate::egress::{Answer, REQUEST_TIMEOUT, Service, with_timeout};
use satchel_engine::sink::delivery::{Limits, Record, Request};

/// Publishes messages.
#[derive(Debug, Clone)]
pub struct SnsService {
    client: Client,
    settings: SnsSettings,
    topic: Arc<str>,
}

/// A message with its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    message: Message,
    subject: Option<String>,
}

impl SnsService {
    /// Uses the SNS of `config`.
    pub fn new(config: &SdkConfig, settings: SnsSettings) -> Self {
        Self {
            client: Client::new(&with_timeout(config, REQUEST_TIMEOUT)),
            topic: settings.topic_arn.as_str().into(),
            settings,
        }
    }
}

impl Service for SnsService {
    type Payload = Publication;

    fn limits(&self) -> Limits {
        batch::limits(self.settings.message_bytes_max)
    }

    fn prepare(&self, emission: Emission) -> Result<Record<Publication>, String> {
        let group = self.settings.message_group_id.as_ref();
        let message = Message::of(&emission, group, &self.settings.attributes)?;
        let subject = self.settings.subject(&emission)?;
        let bytes = message.bytes();
        check_size("the message", bytes, self.settings.message_bytes_max)?;
        Ok(Record {
            number: emission.number,
            destination: Arc::clone(&self.topic),
            key: message.group.as_deref().map(Arc::from),
            bytes,
            payload: Publication { message, subject },
        })
    }

    async fn deliver(&self, request: &Request<Publication>) -> Answer {
        let fifo = self.settings.is_fifo();
        let entries = (0..).zip(&request.records).map(|(index, record)| {
            let Publication { message, subject } = &record.payload;
            PublishBatchRequestEntry::builder()
                .id(format!("{index}"))
                .message(&message.body)
                .set_subject(subject.clone())
                .set_message_attributes(Some(attributes!(MessageAttributeValue, message)))
                .set_message_group_id(message.group.clone())
                .set_message_deduplication_id(fifo.then(|| message.id.clone()))
                .build()
                .expect("it has an id and a message")
        });
        let answer = self
            .client
            .publish_batch()
            .topic_arn(&*request.destination)
            .set_publish_batch_request_entries(Some(entries.collect()))
            .send()
            .await;
        batch::answer(request, answer, |answer, count| {
            let delivered = answer.successful().iter().filter_map(|done| done.id());
            let failed = answer.failed().iter().map(|failed| {
                let fault = (failed.code(), failed.message(), failed.sender_fault());
                (failed.id(), fault)
            });
            batch::each::<PublishBatchError>(count, delivered, failed)
        })
    }
}
