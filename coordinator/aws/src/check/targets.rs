//! Checks of queues, and of what egresses write to.

use aws_config::SdkConfig;
use aws_sdk_dynamodb::types::{AttributeValue, KeyType};
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_sns::types::PublishBatchRequestEntry;
use aws_sdk_sqs::types::{QueueAttributeName, SendMessageBatchRequestEntry};

use super::{ANSWER_MAX, PROBE, denied, failed, limited, missing};
use crate::egress::destination::Destination;
use crate::egress::dynamodb::{DynamoDbSettings, KeyAttribute};
use crate::egress::failure::is_permission;
use crate::lambda::LambdaFunction;

/// Number of messages that no answer may have.
const TOO_MANY_MESSAGES: i32 = 11;

/// Id of two entries of a batch, which it must not have.
const SAME_ID: &str = "!";

/// Checks that the queue exists (`sqs:GetQueueAttributes`), and that its messages may be received,
/// deleted and hidden. No message is received, because it would count against the queue's redrive
/// policy.
pub async fn sqs_queue(sdk: &SdkConfig, queue_url: &str) -> Vec<String> {
    let client = aws_sdk_sqs::Client::new(&limited(sdk));
    let looking = client
        .get_queue_attributes()
        .queue_url(queue_url)
        .attribute_names(QueueAttributeName::QueueArn);
    let looked = Box::pin(looking.send()).await;
    if let Some(problem) = missing(&looked) {
        return vec![problem];
    }
    let receiving = client
        .receive_message()
        .queue_url(queue_url)
        .max_number_of_messages(TOO_MANY_MESSAGES);
    let received = Box::pin(receiving.send()).await;
    let deleting = client
        .delete_message()
        .queue_url(queue_url)
        .receipt_handle(PROBE);
    let deleted = Box::pin(deleting.send()).await;
    let extending = client
        .change_message_visibility()
        .queue_url(queue_url)
        .receipt_handle(PROBE)
        .visibility_timeout(0);
    let extended = Box::pin(extending.send()).await;
    let problems = [
        failed(looked),
        denied(received),
        denied(deleted),
        denied(extended),
    ];
    problems.into_iter().flatten().collect()
}

/// Target of an egress as its module file names it. `None` for Kinesis, because each record names
/// its stream.
pub fn target_name(destination: &Destination) -> Option<String> {
    Some(match destination {
        Destination::Kinesis(..) => return None,
        Destination::Sqs(sqs) => format!("queue {}", sqs.queue_url),
        Destination::Sns(sns) => format!("topic {}", sns.topic_arn),
        Destination::EventBridge(bus) => format!("event bus {}", bus.event_bus),
        Destination::DynamoDb(dynamodb) => format!("table {}", dynamodb.table),
        Destination::Lambda(lambda) => format!("Lambda {}", lambda.function_name),
    })
}

/// Checks that the target of an egress exists, as far as that may be looked up
/// (`sqs:GetQueueAttributes`, `sns:GetTopicAttributes`, `events:DescribeEventBus`,
/// `dynamodb:DescribeTable`), and that the egress may write to it (`sqs:SendMessage`,
/// `sns:Publish`, `events:PutEvents`, `dynamodb:PutItem`, `lambda:InvokeFunction`).
pub async fn egress(sdk: &SdkConfig, destination: &Destination) -> Vec<String> {
    let sdk = limited(sdk);
    match destination {
        Destination::Kinesis(..) => Vec::new(),
        Destination::Sqs(sqs) => queue(&sdk, &sqs.queue_url).await,
        Destination::Sns(sns) => topic(&sdk, &sns.topic_arn).await,
        Destination::EventBridge(bus) => event_bus(&sdk, &bus.event_bus).await,
        Destination::DynamoDb(dynamodb) => table(&sdk, dynamodb).await,
        Destination::Lambda(lambda) => {
            let qualifier = lambda.qualifier.clone();
            let function = LambdaFunction::new(&sdk, &lambda.function_name, qualifier, ANSWER_MAX);
            let checked = Box::pin(function.check()).await;
            let problem = checked.err().map(|failure| failure.message);
            problem.into_iter().collect()
        }
    }
}

async fn queue(sdk: &SdkConfig, url: &str) -> Vec<String> {
    let client = aws_sdk_sqs::Client::new(sdk);
    let looking = client.get_queue_attributes().queue_url(url);
    let looked = Box::pin(looking.send()).await;
    if let Some(problem) = missing(&looked) {
        return vec![problem];
    }
    let entry = || {
        let entry = SendMessageBatchRequestEntry::builder().id(SAME_ID);
        entry.message_body("").build().expect("it has id and body")
    };
    let sending = client.send_message_batch().queue_url(url);
    let sending = sending.entries(entry()).entries(entry());
    let sent = Box::pin(sending.send()).await;
    denied(sent).into_iter().collect()
}

async fn topic(sdk: &SdkConfig, arn: &str) -> Vec<String> {
    let client = aws_sdk_sns::Client::new(sdk);
    let looking = client.get_topic_attributes().topic_arn(arn);
    let looked = Box::pin(looking.send()).await;
    if let Some(problem) = missing(&looked) {
        return vec![problem];
    }
    let entry = || {
        let entry = PublishBatchRequestEntry::builder().id(SAME_ID).message("");
        entry.build().expect("it has id and message")
    };
    let publishing = client.publish_batch().topic_arn(arn);
    let publishing = publishing
        .publish_batch_request_entries(entry())
        .publish_batch_request_entries(entry());
    let published = Box::pin(publishing.send()).await;
    denied(published).into_iter().collect()
}

async fn event_bus(sdk: &SdkConfig, name: &str) -> Vec<String> {
    let client = aws_sdk_eventbridge::Client::new(sdk);
    let looking = client.describe_event_bus().name(name);
    let looked = Box::pin(looking.send()).await;
    if let Some(problem) = missing(&looked) {
        return vec![problem];
    }
    // The detail must be JSON.
    let entry = PutEventsRequestEntry::builder()
        .event_bus_name(name)
        .source(PROBE)
        .detail_type(PROBE)
        .detail("{");
    let putting = client.put_events().entries(entry.build());
    let put = Box::pin(putting.send()).await;
    let refused = put.as_ref().ok().and_then(|answer| {
        let entry = answer.entries().first()?;
        let code = entry.error_code().filter(|code| is_permission(code))?;
        let message = entry.error_message().unwrap_or_default();
        Some(format!("EventBridge PutEvents: {code}: {message}"))
    });
    denied(put).or(refused).into_iter().collect()
}

async fn table(sdk: &SdkConfig, settings: &DynamoDbSettings) -> Vec<String> {
    let client = aws_sdk_dynamodb::Client::new(sdk);
    let looking = client.describe_table().table_name(&settings.table);
    let looked = Box::pin(looking.send()).await;
    if let Some(problem) = missing(&looked) {
        return vec![problem];
    }
    if let Some(table) = looked.as_ref().ok().and_then(|looked| looked.table())
        && let Some(problem) = other_keys(table, settings)
    {
        return vec![problem];
    }
    let mut putting = client
        .put_item()
        .table_name(&settings.table)
        .condition_expression("attribute_exists(#key) AND attribute_not_exists(#key)")
        .expression_attribute_names("#key", &settings.partition_key.name);
    for KeyAttribute {
        name, is_number, ..
    } in std::iter::once(&settings.partition_key).chain(&settings.sort_key)
    {
        let value = match is_number {
            true => AttributeValue::N("0".to_owned()),
            false => AttributeValue::S(PROBE.to_owned()),
        };
        putting = putting.item(name, value);
    }
    match Box::pin(putting.send()).await {
        Err(error)
            if error
                .as_service_error()
                .is_some_and(|error| error.is_conditional_check_failed_exception()) =>
        {
            Vec::new()
        }
        // Wrong keys are an invalid request.
        put => failed(put).into_iter().collect(),
    }
}

/// Difference of the keys of a table from those of the module file.
fn other_keys(
    table: &aws_sdk_dynamodb::types::TableDescription,
    settings: &DynamoDbSettings,
) -> Option<String> {
    let has = |kind: &KeyType| {
        let mut keys = table.key_schema().iter();
        let key = keys.find(|key| key.key_type() == kind)?;
        Some(key.attribute_name())
    };
    let declared_keys = [
        (KeyType::Hash, "partition", Some(&settings.partition_key)),
        (KeyType::Range, "sort", settings.sort_key.as_ref()),
    ];
    declared_keys
        .into_iter()
        .find_map(|(kind, what, declared)| {
            let (has, declared) = (has(&kind), declared.map(|key| &*key.name));
            let none = "none";
            (has != declared).then(|| {
                format!(
                    "its {what} key is {}, but the module file says {}",
                    has.unwrap_or(none),
                    declared.unwrap_or(none)
                )
            })
        })
}
