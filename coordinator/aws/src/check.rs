//! Whether what a module file names is there and may be used, found out without changing anything.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::types::KeyType;
use aws_sdk_kinesis::error::{DisplayErrorContext, ProvideErrorMetadata};

use crate::egress::destination::Destination;
use crate::egress::dynamodb::DynamoDbSettings;
use crate::egress::failure;
use crate::lambda::LambdaFunction;
use crate::lease::{Claimant, Condition, LeaseItem, LeaseTable, Write};

/// How long one question may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Whether the stream is there (`kinesis:DescribeStreamSummary`).
///
/// # Errors
/// Why not.
pub async fn kinesis_stream(sdk: &SdkConfig, stream: &str) -> Result<(), String> {
    let limits = TimeoutConfig::builder().operation_timeout(ANSWER_MAX);
    let config = aws_sdk_kinesis::config::Builder::from(sdk).timeout_config(limits.build());
    let client = aws_sdk_kinesis::Client::from_conf(config.build());
    let request = client.describe_stream_summary().stream_name(stream);
    match Box::pin(request.send()).await {
        Ok(_) => Ok(()),
        Err(error) => Err(match (error.code(), error.message()) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            _ => DisplayErrorContext(&error).to_string(),
        }),
    }
}

/// Whether the queue is there (`sqs:GetQueueAttributes`), and messages could be deleted and kept from others (tried on a message that does not
/// exist). Whether they could be received is not tried: it would count against the queue's redrive policy.
///
/// # Errors
/// Why not.
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
    looked.map_err(|error| failure::describe(&error))?;
    let handle = "satchel validate";
    let deleting = client
        .delete_message()
        .queue_url(queue_url)
        .receipt_handle(handle);
    if let Err(error) = Box::pin(deleting.send()).await {
        refused_for_good("sqs:DeleteMessage", &error)?;
    }
    let extending = client
        .change_message_visibility()
        .queue_url(queue_url)
        .receipt_handle(handle)
        .visibility_timeout(0);
    if let Err(error) = Box::pin(extending.send()).await {
        refused_for_good("sqs:ChangeMessageVisibility", &error)?;
    }
    Ok(())
}

/// What an egress writes to, as its module file names it; `None` for Kinesis, whose streams are named by the records.
pub fn named_by(destination: &Destination) -> Option<String> {
    Some(match destination {
        Destination::Kinesis(..) => return None,
        Destination::Sqs(sqs) => format!("queue {}", sqs.queue_url),
        Destination::Sns(sns) => format!("topic {}", sns.topic_arn),
        Destination::EventBridge(bus) => format!("event bus {}", bus.event_bus),
        Destination::DynamoDb(dynamodb) => format!("table {}", dynamodb.table),
        Destination::Lambda(lambda) => format!("Lambda {}", lambda.function_name),
    })
}

/// Whether what an egress writes to is there: `sqs:GetQueueAttributes`, `sns:GetTopicAttributes`, `events:DescribeEventBus`, `dynamodb:DescribeTable`, and for a
/// function whether it could be invoked. Whether records may be put is not tried, because it could not be undone.
///
/// # Errors
/// Why not.
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
            looked.map(drop).map_err(|error| failure::describe(&error))
        }
        Destination::Sns(sns) => {
            let client = aws_sdk_sns::Client::new(&sdk);
            let looking = client.get_topic_attributes().topic_arn(&sns.topic_arn);
            let looked = Box::pin(looking.send()).await;
            looked.map(drop).map_err(|error| failure::describe(&error))
        }
        Destination::EventBridge(bus) => {
            let client = aws_sdk_eventbridge::Client::new(&sdk);
            let looking = client.describe_event_bus().name(&bus.event_bus);
            let looked = Box::pin(looking.send()).await;
            looked.map(drop).map_err(|error| failure::describe(&error))
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

/// Whether the table is there, with the keys that the module file says.
async fn table(sdk: &SdkConfig, settings: &DynamoDbSettings) -> Result<(), String> {
    let client = aws_sdk_dynamodb::Client::new(sdk);
    let looking = client.describe_table().table_name(&settings.table);
    let looked = Box::pin(looking.send()).await;
    let looked = looked.map_err(|error| failure::describe(&error))?;
    let table = looked.table();
    let keys = table.map(|table| table.key_schema()).unwrap_or_default();
    let has = |kind: &KeyType| {
        let key = keys.iter().find(|key| key.key_type() == kind)?;
        Some(key.attribute_name())
    };
    let said = [
        (KeyType::Hash, "partition", Some(&settings.partition_key)),
        (KeyType::Range, "sort", settings.sort_key.as_ref()),
    ];
    for (kind, what, said) in said {
        let (has, said) = (has(&kind), said.map(|key| &*key.name));
        if has != said {
            let none = "none";
            return Err(format!(
                "its {what} key is {}, the module file says {}",
                has.unwrap_or(none),
                said.unwrap_or(none)
            ));
        }
    }
    Ok(())
}

/// Whether the answer says that it may not be done; that there is no such message is what was expected.
fn refused_for_good<E>(
    what: &str,
    error: &aws_sdk_sqs::error::SdkError<E, aws_sdk_sqs::config::http::HttpResponse>,
) -> Result<(), String>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match failure::is_permission(error.code().unwrap_or_default()) {
        true => Err(format!("{what}: {}", failure::describe(error))),
        false => Ok(()),
    }
}

/// Whether the table is there and a lease in it could be read and written. The write is one whose condition cannot hold, so nothing changes.
///
/// # Errors
/// Why not.
pub async fn lease_table(table: &LeaseTable) -> Result<(), String> {
    let stated = |error: crate::lease::TableError| error.to_string();
    Box::pin(table.look()).await.map_err(stated)?;
    // Nobody is called like that.
    let nobody = Claimant {
        id: "satchel validate".to_owned(),
        address: None,
    };
    let write = Write {
        condition: Condition::Mine {
            owner: nobody.id.clone(),
            epoch: 0,
        },
        item: LeaseItem {
            owner: nobody.id,
            epoch: 0,
            counter: 0,
            lease_ms: 0,
            released: true,
            address: nobody.address,
        },
    };
    match Box::pin(table.write(&write)).await {
        Ok(_) => Ok(()),
        Err(error) => Err(stated(error)),
    }
}
