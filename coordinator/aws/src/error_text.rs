//! Errors of AWS as one readable line: service, operation, code, message and request id.
//!
//! ```text
//! Kinesis GetRecords: AccessDeniedException: User … is not authorized to … (request 4f2c…)
//! SQS ReceiveMessage: no answer: client error (Connect): tcp connect error: Connection refused
//! ```
//!
//! The SDK's own text for an error nests the debug form of every layer, a thousand characters and
//! more. Logs, dead letters and error messages show these lines instead.

use std::error::Error;
use std::fmt::Debug;

use aws_sdk_kinesis::config::http::HttpResponse;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::RequestId;
use aws_smithy_types::event_stream::RawMessage;

/// Maximum number of characters of an error's text.
const CHARS_MAX: usize = 500;

/// Texts of layers of the SDK that say nothing.
const SILENT: [&str; 4] = ["dispatch failure", "io error", "other", "response error"];

/// Error type of an operation.
pub trait Operation: ProvideErrorMetadata + Error + 'static {
    /// Service and name of the operation, such as `Kinesis ListShards`.
    const NAME: &'static str;
}

macro_rules! operations {
    ($($error:ty => $name:literal,)*) => {
        $(impl Operation for $error {
            const NAME: &'static str = $name;
        })*
    };
}

operations! {
    aws_sdk_dynamodb::operation::batch_write_item::BatchWriteItemError
        => "DynamoDB BatchWriteItem",
    aws_sdk_dynamodb::operation::create_table::CreateTableError => "DynamoDB CreateTable",
    aws_sdk_dynamodb::operation::delete_item::DeleteItemError => "DynamoDB DeleteItem",
    aws_sdk_dynamodb::operation::describe_table::DescribeTableError => "DynamoDB DescribeTable",
    aws_sdk_dynamodb::operation::describe_time_to_live::DescribeTimeToLiveError
        => "DynamoDB DescribeTimeToLive",
    aws_sdk_dynamodb::operation::get_item::GetItemError => "DynamoDB GetItem",
    aws_sdk_dynamodb::operation::put_item::PutItemError => "DynamoDB PutItem",
    aws_sdk_dynamodb::operation::query::QueryError => "DynamoDB Query",
    aws_sdk_dynamodb::operation::update_time_to_live::UpdateTimeToLiveError
        => "DynamoDB UpdateTimeToLive",
    aws_sdk_eventbridge::operation::describe_event_bus::DescribeEventBusError
        => "EventBridge DescribeEventBus",
    aws_sdk_eventbridge::operation::put_events::PutEventsError => "EventBridge PutEvents",
    aws_sdk_kinesis::operation::describe_stream_consumer::DescribeStreamConsumerError
        => "Kinesis DescribeStreamConsumer",
    aws_sdk_kinesis::operation::describe_stream_summary::DescribeStreamSummaryError
        => "Kinesis DescribeStreamSummary",
    aws_sdk_kinesis::operation::get_records::GetRecordsError => "Kinesis GetRecords",
    aws_sdk_kinesis::operation::get_shard_iterator::GetShardIteratorError
        => "Kinesis GetShardIterator",
    aws_sdk_kinesis::operation::list_shards::ListShardsError => "Kinesis ListShards",
    aws_sdk_kinesis::operation::put_record::PutRecordError => "Kinesis PutRecord",
    aws_sdk_kinesis::operation::put_records::PutRecordsError => "Kinesis PutRecords",
    aws_sdk_kinesis::operation::register_stream_consumer::RegisterStreamConsumerError
        => "Kinesis RegisterStreamConsumer",
    aws_sdk_kinesis::operation::subscribe_to_shard::SubscribeToShardError
        => "Kinesis SubscribeToShard",
    aws_sdk_kinesis::types::error::SubscribeToShardEventStreamError
        => "Kinesis SubscribeToShard",
    aws_sdk_lambda::operation::invoke::InvokeError => "Lambda Invoke",
    aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError
        => "Secrets Manager GetSecretValue",
    aws_sdk_sns::operation::get_topic_attributes::GetTopicAttributesError
        => "SNS GetTopicAttributes",
    aws_sdk_sns::operation::publish_batch::PublishBatchError => "SNS PublishBatch",
    aws_sdk_sqs::operation::change_message_visibility::ChangeMessageVisibilityError
        => "SQS ChangeMessageVisibility",
    aws_sdk_sqs::operation::change_message_visibility_batch::ChangeMessageVisibilityBatchError
        => "SQS ChangeMessageVisibilityBatch",
    aws_sdk_sqs::operation::delete_message::DeleteMessageError => "SQS DeleteMessage",
    aws_sdk_sqs::operation::delete_message_batch::DeleteMessageBatchError
        => "SQS DeleteMessageBatch",
    aws_sdk_sqs::operation::get_queue_attributes::GetQueueAttributesError
        => "SQS GetQueueAttributes",
    aws_sdk_sqs::operation::receive_message::ReceiveMessageError => "SQS ReceiveMessage",
    aws_sdk_sqs::operation::send_message_batch::SendMessageBatchError => "SQS SendMessageBatch",
}

/// Answer of a service that an error may hold.
pub trait Answer: Debug + 'static {
    /// HTTP status, if the answer has one.
    fn status(&self) -> Option<u16>;
}

impl Answer for HttpResponse {
    fn status(&self) -> Option<u16> {
        Some(self.status().as_u16())
    }
}

impl Answer for RawMessage {
    fn status(&self) -> Option<u16> {
        None
    }
}

/// Describes the error of an operation.
pub fn describe<E: Operation, R: Answer>(error: &SdkError<E, R>) -> String {
    let reason = match error {
        SdkError::ServiceError(refusal) => {
            let (code, message) = (refusal.err().code(), refusal.err().message());
            match (code, message, refusal.raw().status()) {
                (Some(_), ..) | (_, Some(_), _) => code_and_message(code, message),
                (None, None, Some(status)) => format!("status {status} without an error code"),
                (None, None, None) => "an error without a code".to_owned(),
            }
        }
        SdkError::ResponseError(answer) => {
            let status = answer.raw().status();
            let status = status.map_or_else(String::new, |status| format!(" with status {status}"));
            format!("an answer{status} that cannot be read: {}", chain(error))
        }
        SdkError::TimeoutError(_) => format!("no answer in time: {}", chain(error)),
        SdkError::DispatchFailure(_) => format!("no answer: {}", chain(error)),
        _ => chain(error),
    };
    let request = error.meta().request_id();
    let request = request.map_or_else(String::new, |id| format!(" (request {id})"));
    format!("{}: {}{request}", E::NAME, one_line(&reason))
}

/// Describes the failure of one entry in the answer to a batch, which has no request id of its own.
pub fn describe_entry<E: Operation>(code: &str, message: Option<&str>) -> String {
    let reason = code_and_message(Some(code), message);
    format!("{}: {}", E::NAME, one_line(&reason))
}

/// Describes an error with its causes, from the outermost one on. Omits causes that say nothing,
/// or that the text before them includes.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        next = cause.source();
        let said = cause.to_string();
        if SILENT.contains(&said.as_str()) || text.contains(&said) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&said);
    }
    one_line(&text)
}

fn code_and_message(code: Option<&str>, message: Option<&str>) -> String {
    let message = message.filter(|message| !message.is_empty());
    match (code, message) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (only, None) | (None, only) => only.unwrap_or_default().to_owned(),
    }
}

/// Puts a text on one line of at most [`CHARS_MAX`] characters.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(CHARS_MAX) {
        None => line,
        Some((end, _)) => format!("{}…", &line[..end]),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_kinesis::error::ErrorMetadata;
    use aws_sdk_kinesis::operation::list_shards::ListShardsError;
    use aws_sdk_sqs::operation::send_message_batch::SendMessageBatchError;
    use aws_smithy_types::body::SdkBody;

    use super::*;

    fn refusal(status: u16, meta: ErrorMetadata) -> SdkError<ListShardsError> {
        let answer = HttpResponse::new(status.try_into().unwrap(), SdkBody::empty());
        SdkError::service_error(ListShardsError::generic(meta), answer)
    }

    #[test]
    fn an_error_of_a_service_is_a_line_with_operation_code_message_and_request_id() {
        let meta = ErrorMetadata::builder()
            .code("AccessDeniedException")
            .message("User x is not\n authorized")
            .custom("aws_request_id", "4f2c");
        assert_eq!(
            describe(&refusal(400, meta.build())),
            "Kinesis ListShards: AccessDeniedException: User x is not authorized (request 4f2c)"
        );
        assert_eq!(
            describe(&refusal(502, ErrorMetadata::builder().build())),
            "Kinesis ListShards: status 502 without an error code"
        );
        assert_eq!(
            describe_entry::<SendMessageBatchError>("InternalError", Some("")),
            "SQS SendMessageBatch: InternalError"
        );
    }

    #[test]
    fn an_error_of_the_transport_is_a_line_with_its_causes_and_no_debug_form() {
        #[derive(Debug, thiserror::Error)]
        #[error("dispatch failure")]
        struct Outer(#[source] Middle);
        #[derive(Debug, thiserror::Error)]
        #[error("tcp connect error: {0}")]
        struct Middle(#[source] std::io::Error);
        let refused = std::io::Error::other("Connection refused");
        let text = chain(&Outer(Middle(refused)));
        assert_eq!(text, "tcp connect error: Connection refused");

        let late: SdkError<ListShardsError> = SdkError::timeout_error("late");
        assert_eq!(
            describe(&late),
            "Kinesis ListShards: no answer in time: request has timed out: late"
        );
    }

    #[tokio::test]
    async fn a_refused_connection_of_the_sdk_is_a_short_line() {
        use aws_sdk_kinesis::config::{BehaviorVersion, Config, Credentials, Region};
        let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = unused.local_addr().unwrap();
        drop(unused);
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("us-east-1"))
            .credentials_provider(Credentials::new("a", "b", None, None, "test"))
            .endpoint_url(format!("http://{address}"));
        let client = aws_sdk_kinesis::Client::from_conf(config.build());
        let listing = client.list_shards().stream_name("names").send();
        let text = describe(&Box::pin(listing).await.unwrap_err());
        assert!(
            text.starts_with("Kinesis ListShards: no answer: "),
            "{text}"
        );
        assert!(text.contains("Connection refused"), "{text}");
        assert!(text.len() < 200 && !text.contains('{'), "{text}");
    }

    #[test]
    fn a_text_is_cut_at_its_maximum() {
        let cut = one_line(&"ä".repeat(2 * CHARS_MAX));
        assert_eq!(cut, format!("{}…", "ä".repeat(CHARS_MAX)));
    }
}
