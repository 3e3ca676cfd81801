//! Checks that the targets of a module file exist and are accessible, without changing anything.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::types::KeyType;
use aws_sdk_kinesis::error::ProvideErrorMetadata;

use crate::egress::destination::Destination;
use crate::egress::dynamodb::DynamoDbSettings;
use crate::egress::failure;
use crate::error_text::{Operation, describe};
use crate::lambda::LambdaFunction;
use crate::lease::{Claimant, Condition, LeaseItem, LeaseTable, Write};

/// Maximum duration of one request.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Checks that the stream exists (`kinesis:DescribeStreamSummary`).
///
/// # Errors
/// The reason of the service.
pub async fn kinesis_stream(sdk: &SdkConfig, stream: &str) -> Result<(), String> {
    let limits = TimeoutConfig::builder().operation_timeout(ANSWER_MAX);
    let config = aws_sdk_kinesis::config::Builder::from(sdk).timeout_config(limits.build());
    let client = aws_sdk_kinesis::Client::from_conf(config.build());
    let request = client.describe_stream_summary().stream_name(stream);
    let described = Box::pin(request.send()).await;
    described.map(drop).map_err(|error| describe(&error))
}

/// Checks that the queue exists (`sqs:GetQueueAttributes`), and that its messages may be deleted
/// and hidden. The latter is tried on a message that does not exist. Receiving is not tried,
/// because it would count against the queue's redrive policy.
///
/// # Errors
/// The reason of the service.
pub async fn sqs_queue(sdk: &SdkConfig, queue_url: &str) -> Result<(), String> {
    use aws_sdk_sqs::types::QueueAttributeName;

    let limits = TimeoutConfig::builder().operation_timeout(ANSWER_MAX);
    let config = aws_sdk_sqs::config::Builder::from(sdk).timeout_config(limits.build());
    let client = aws_sdk_sqs::Client::from_conf(config.build());
    let looking = client
        .get_queue_attributes()
        .queue_url(queue_url)
        .attribute_names(QueueAttributeName::QueueArn);
    let looked = Box::pin(looking.send()).await;
    looked.map_err(|error| describe(&error))?;
    let handle = "satchel validate";
    let deleting = client
        .delete_message()
        .queue_url(queue_url)
        .receipt_handle(handle);
    if let Err(error) = Box::pin(deleting.send()).await {
        require_permission(&error)?;
    }
    let extending = client
        .change_message_visibility()
        .queue_url(queue_url)
        .receipt_handle(handle)
        .visibility_timeout(0);
    if let Err(error) = Box::pin(extending.send()).await {
        require_permission(&error)?;
    }
    Ok(())
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

/// Checks that the target of an egress exists. Needs `sqs:GetQueueAttributes`,
/// `sns:GetTopicAttributes`, `events:DescribeEventBus` or `dynamodb:DescribeTable`; for a function,
/// checks that it may be invoked. Putting a record is not tried, because it could not be undone.
///
/// # Errors
/// The reason of the service.
pub async fn egress(sdk: &SdkConfig, destination: &Destination) -> Result<(), String> {
    let limits = TimeoutConfig::builder().operation_timeout(ANSWER_MAX);
    let mut sdk = sdk.to_builder();
    sdk.set_timeout_config(Some(limits.build()));
    let sdk = sdk.build();
    match destination {
        Destination::Kinesis(..) => Ok(()),
        Destination::Sqs(sqs) => {
            let client = aws_sdk_sqs::Client::new(&sdk);
            let looking = client.get_queue_attributes().queue_url(&sqs.queue_url);
            let looked = Box::pin(looking.send()).await;
            looked.map(drop).map_err(|error| describe(&error))
        }
        Destination::Sns(sns) => {
            let client = aws_sdk_sns::Client::new(&sdk);
            let looking = client.get_topic_attributes().topic_arn(&sns.topic_arn);
            let looked = Box::pin(looking.send()).await;
            looked.map(drop).map_err(|error| describe(&error))
        }
        Destination::EventBridge(bus) => {
            let client = aws_sdk_eventbridge::Client::new(&sdk);
            let looking = client.describe_event_bus().name(&bus.event_bus);
            let looked = Box::pin(looking.send()).await;
            looked.map(drop).map_err(|error| describe(&error))
        }
        Destination::DynamoDb(dynamodb) => table(&sdk, dynamodb).await,
        Destination::Lambda(lambda) => {
            let qualifier = lambda.qualifier.clone();
            let function = LambdaFunction::new(&sdk, &lambda.function_name, qualifier, ANSWER_MAX);
            let checked = Box::pin(function.check()).await;
            checked.map_err(|failure| failure.message)
        }
    }
}

/// Checks that the table exists and has the keys of the module file.
async fn table(sdk: &SdkConfig, settings: &DynamoDbSettings) -> Result<(), String> {
    let client = aws_sdk_dynamodb::Client::new(sdk);
    let looking = client.describe_table().table_name(&settings.table);
    let looked = Box::pin(looking.send()).await;
    let looked = looked.map_err(|error| describe(&error))?;
    let table = looked.table();
    let keys = table.map(|table| table.key_schema()).unwrap_or_default();
    let has = |kind: &KeyType| {
        let key = keys.iter().find(|key| key.key_type() == kind)?;
        Some(key.attribute_name())
    };
    let declared_keys = [
        (KeyType::Hash, "partition", Some(&settings.partition_key)),
        (KeyType::Range, "sort", settings.sort_key.as_ref()),
    ];
    for (kind, what, declared) in declared_keys {
        let (has, declared) = (has(&kind), declared.map(|key| &*key.name));
        if has != declared {
            let none = "none";
            return Err(format!(
                "its {what} key is {}, but the module file says {}",
                has.unwrap_or(none),
                declared.unwrap_or(none)
            ));
        }
    }
    Ok(())
}

/// Returns an error if the service denies permission. Other errors are expected, because the
/// message does not exist.
fn require_permission<E: Operation>(error: &aws_sdk_sqs::error::SdkError<E>) -> Result<(), String> {
    match failure::is_permission(error.code().unwrap_or_default()) {
        true => Err(describe(error)),
        false => Ok(()),
    }
}

/// Checks that the table exists and that a lease in it may be read and written. The write has a
/// condition that cannot hold, so nothing changes.
///
/// # Errors
/// The reason of the service.
pub async fn lease_table(table: &LeaseTable) -> Result<(), String> {
    let told = |error: crate::lease::TableError| error.to_string();
    Box::pin(table.read()).await.map_err(told)?;
    // No process has this id.
    let claimant = Claimant {
        id: "satchel validate".to_owned(),
        address: None,
        peer: None,
    };
    let write = Write {
        condition: Condition::Mine {
            owner: claimant.id.clone(),
            epoch: 0,
        },
        item: LeaseItem {
            owner: claimant.id,
            epoch: 0,
            counter: 0,
            lease_ms: 0,
            released: true,
            address: None,
            peer: None,
        },
    };
    match Box::pin(table.write(&write)).await {
        Ok(_) => Ok(()),
        Err(error) => Err(told(error)),
    }
}
