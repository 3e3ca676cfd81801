//! Requests to SQS, one attempt each, and the classification of their failures.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry,
    DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName, QueueAttributeName,
};
use bytes::Bytes;

use super::SqsOptions;
use super::message::SqsMessage;
use crate::egress::failure;
use crate::error_text::{Operation, describe};
use satchel_engine::sink::delivery::Outcome;
use satchel_engine::source::queue::{Receipt, ReceiptOutcome};

/// Error codes of SQS for a receipt handle that is no longer valid.
const LOST: [&str; 4] = [
    "InvalidParameterValue",
    "MessageNotInflight",
    "ReceiptHandleIsInvalid",
    "InvalidIdFormat",
];

/// Failure of a request.
#[derive(Debug)]
pub(super) struct RequestFailure {
    /// Description of the failure.
    pub(super) reason: String,
    /// True if SQS throttled the request.
    pub(super) throttled: bool,
    /// True if the queue does not exist.
    pub(super) missing: bool,
    /// True if permission was denied.
    pub(super) denied: bool,
}

/// A message, with its receipt handle and its sending time in milliseconds since the Unix epoch.
pub(super) struct Received {
    pub(super) message: SqsMessage,
    pub(super) handle: String,
    pub(super) sent_ms: Option<u64>,
}

/// Approximate number of messages in a queue.
pub(super) struct Backlog {
    pub(super) visible: u64,
    pub(super) in_flight: u64,
}

impl RequestFailure {
    fn of<E: Operation>(error: &SdkError<E>) -> Self {
        let code = error.code().unwrap_or_default();
        let outcome = failure::of_code(code, String::new(), true);
        let throttled = matches!(outcome, Outcome::Throttled(_));
        Self {
            reason: describe(error),
            throttled,
            missing: matches!(outcome, Outcome::Missing(_)),
            denied: failure::is_permission(code) && !throttled,
        }
    }
}

/// Waits for messages.
pub(super) async fn receive(
    client: &Client,
    options: &SqsOptions,
) -> Result<Vec<Received>, RequestFailure> {
    let answer = client
        .receive_message()
        .queue_url(&options.queue_url)
        .max_number_of_messages(options.messages_per_request)
        .wait_time_seconds(seconds(options.wait))
        .visibility_timeout(seconds(options.visibility))
        .message_system_attribute_names(MessageSystemAttributeName::All)
        .message_attribute_names("All")
        .send()
        .await
        .map_err(|error| RequestFailure::of(&error))?;
    let messages = answer.messages.unwrap_or_default();
    Ok(messages.into_iter().filter_map(received).collect())
}

/// Deletes messages, at most [`satchel_engine::source::queue::BATCH_MAX`].
pub(super) async fn delete(
    client: &Client,
    queue_url: &str,
    handed: Vec<Receipt>,
) -> (Vec<(Receipt, ReceiptOutcome)>, Option<RequestFailure>) {
    let entries = (0..).zip(&handed).map(|(index, (_, handle))| {
        let index: usize = index;
        DeleteMessageBatchRequestEntry::builder()
            .id(index.to_string())
            .receipt_handle(handle)
            .build()
            .expect("it has an id and a handle")
    });
    let answer = client
        .delete_message_batch()
        .queue_url(queue_url)
        .set_entries(Some(entries.collect()))
        .send()
        .await;
    match answer {
        Ok(answer) => {
            let done = answer.successful.iter().map(|done| done.id.as_str());
            (fates(handed, done, &answer.failed), None)
        }
        Err(error) => (all_again(handed), Some(RequestFailure::of(&error))),
    }
}

/// Extends the time for which messages are hidden from other receivers, at most
/// [`satchel_engine::source::queue::BATCH_MAX`].
pub(super) async fn extend(
    client: &Client,
    queue_url: &str,
    handed: Vec<Receipt>,
    visibility: Duration,
) -> (Vec<(Receipt, ReceiptOutcome)>, Option<RequestFailure>) {
    let entries = (0..).zip(&handed).map(|(index, (_, handle))| {
        let index: usize = index;
        ChangeMessageVisibilityBatchRequestEntry::builder()
            .id(index.to_string())
            .receipt_handle(handle)
            .visibility_timeout(seconds(visibility))
            .build()
            .expect("it has an id and a handle")
    });
    let answer = client
        .change_message_visibility_batch()
        .queue_url(queue_url)
        .set_entries(Some(entries.collect()))
        .send()
        .await;
    match answer {
        Ok(answer) => {
            let done = answer.successful.iter().map(|done| done.id.as_str());
            (fates(handed, done, &answer.failed), None)
        }
        Err(error) => (all_again(handed), Some(RequestFailure::of(&error))),
    }
}

/// Approximate number of messages in the queue.
pub(super) async fn backlog(client: &Client, queue_url: &str) -> Result<Backlog, RequestFailure> {
    let visible = QueueAttributeName::ApproximateNumberOfMessages;
    let in_flight = QueueAttributeName::ApproximateNumberOfMessagesNotVisible;
    let answer = client
        .get_queue_attributes()
        .queue_url(queue_url)
        .attribute_names(visible.clone())
        .attribute_names(in_flight.clone())
        .send()
        .await
        .map_err(|error| RequestFailure::of(&error))?;
    let attributes = answer.attributes.unwrap_or_default();
    let number = |name: &QueueAttributeName| {
        let text = attributes.get(name);
        text.and_then(|text| text.parse().ok()).unwrap_or_default()
    };
    Ok(Backlog {
        visible: number(&visible),
        in_flight: number(&in_flight),
    })
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

/// Converts a message. It needs an id, to be recognized, and a receipt handle, to be deleted. SQS
/// documents both as optional, but sends both with each message.
fn received(message: Message) -> Option<Received> {
    let (Some(id), Some(handle)) = (message.message_id, message.receipt_handle) else {
        tracing::warn!("message without id or receipt handle received; leaving it in its queue");
        return None;
    };
    let mut system = message.attributes.unwrap_or_default();
    let sent = system.remove(&MessageSystemAttributeName::SentTimestamp);
    let attributes: HashMap<_, _> = message.message_attributes.unwrap_or_default();
    let attributes = attributes.into_iter().filter_map(|(name, value)| {
        // A binary attribute is not a text and cannot be used here.
        value.string_value.map(|value| (name, value))
    });
    let message = SqsMessage {
        id,
        body: Bytes::from(message.body.unwrap_or_default()),
        group: system.remove(&MessageSystemAttributeName::MessageGroupId),
        attributes: attributes.collect::<BTreeMap<_, _>>(),
    };
    Some(Received {
        message,
        handle,
        sent_ms: sent.and_then(|sent| sent.parse().ok()),
    })
}

/// Fate of each entry. The fate of an entry that the response does not mention is unknown, so it is
/// tried again.
fn fates<'a>(
    handed: Vec<Receipt>,
    done: impl Iterator<Item = &'a str>,
    failed: &[BatchResultErrorEntry],
) -> Vec<(Receipt, ReceiptOutcome)> {
    let mut by_index: HashMap<&str, ReceiptOutcome> =
        done.map(|index| (index, ReceiptOutcome::Done)).collect();
    for error in failed {
        let code = error.code.rsplit('.').next().unwrap_or_default();
        let fate = match LOST.contains(&code) {
            true => ReceiptOutcome::Lost,
            false => ReceiptOutcome::Retry,
        };
        by_index.insert(&error.id, fate);
    }
    let fates = handed.into_iter().enumerate().map(|(index, handed)| {
        let fate = by_index.get(index.to_string().as_str()).copied();
        (handed, fate.unwrap_or(ReceiptOutcome::Retry))
    });
    fates.collect()
}

fn all_again(handed: Vec<Receipt>) -> Vec<(Receipt, ReceiptOutcome)> {
    handed
        .into_iter()
        .map(|it| (it, ReceiptOutcome::Retry))
        .collect()
}
