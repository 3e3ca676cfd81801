//! Adapter of SQS.

use std::sync::Arc;

use aws_config::SdkConfig;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::operation::send_message_batch::SendMessageBatchError;
use aws_sdk_sqs::types::{MessageAttributeValue, SendMessageBatchRequestEntry};
use satchel_engine::output::Emission;

use super::{MESSAGE_BYTES_MAX, Message, SqsSettings};
use crate::egress::batch::{self, attributes};
use crate::egress::content::check_size;
use crate::egress::{Answer, REQUEST_TIMEOUT, Service, with_timeout};
use satchel_engine::sink::delivery::{Limits, Record, Request};

/// Sends messages.
#[derive(Debug, Clone)]
pub struct SqsService {
    client: Client,
    settings: SqsSettings,
    queue: Arc<str>,
}

impl SqsService {
    /// Uses the SQS of `config`.
    pub fn new(config: &SdkConfig, settings: SqsSettings) -> Self {
        Self {
            client: Client::new(&with_timeout(config, REQUEST_TIMEOUT)),
            queue: settings.queue_url.as_str().into(),
            settings,
        }
    }
}

impl Service for SqsService {
    type Payload = Message;

    fn limits(&self) -> Limits {
        batch::limits(MESSAGE_BYTES_MAX)
    }

    fn prepare(&self, emission: Emission) -> Result<Record<Message>, String> {
        let group = self.settings.message_group_id.as_ref();
        let message = Message::of(&emission, group, &self.settings.attributes)?;
        let bytes = message.bytes();
        check_size("the message", bytes, MESSAGE_BYTES_MAX)?;
        Ok(Record {
            number: emission.number,
            destination: Arc::clone(&self.queue),
            key: message.group.as_deref().map(Arc::from),
            bytes,
            payload: message,
        })
    }

    async fn deliver(&self, request: &Request<Message>) -> Answer {
        let fifo = self.settings.is_fifo();
        let entries = (0..).zip(&request.records).map(|(index, record)| {
            let message = &record.payload;
            SendMessageBatchRequestEntry::builder()
                .id(format!("{index}"))
                .message_body(&message.body)
                .set_message_attributes(Some(attributes!(MessageAttributeValue, message)))
                .set_message_group_id(message.group.clone())
                .set_message_deduplication_id(fifo.then(|| message.id.clone()))
                .build()
                .expect("it has an id and a body")
        });
        let answer = self
            .client
            .send_message_batch()
            .queue_url(&*request.destination)
            .set_entries(Some(entries.collect()))
            .send()
            .await;
        batch::answer(request, answer, |answer, count| {
            let delivered = answer.successful().iter().map(|done| done.id());
            let failed = answer.failed().iter().map(|failed| {
                let fault = (failed.code(), failed.message(), failed.sender_fault());
                (failed.id(), fault)
            });
            batch::each::<SendMessageBatchError>(count, delivered, failed)
        })
    }
}
