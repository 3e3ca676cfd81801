//! Checks of Kinesis streams that are read or written.

use aws_config::SdkConfig;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::http::HttpResponse;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, ShardIteratorType, StartingPosition};

use self::Unwritable::{Denied, Missing};
use super::{denied, failed, limited, missing};
use crate::egress::destination::Delivery;
use crate::egress::kinesis::{KinesisSettings, Ordering};
use crate::error_text::Operation;

/// A shard that every stream had once.
const FIRST_SHARD: &str = "shardId-000000000000";

/// A shard that no stream has.
const NO_SHARD: &str = "shardId-999999999999";

/// Checks that a stream exists and may be read, by the fan-out consumer of this name if there is
/// one: `kinesis:DescribeStreamSummary`, `ListShards`, `GetShardIterator` and `GetRecords`, or
/// `RegisterStreamConsumer`, `DescribeStreamConsumer` and `SubscribeToShard` besides.
pub async fn kinesis_stream(sdk: &SdkConfig, stream: &str, consumer: Option<&str>) -> Vec<String> {
    let client = Client::new(&limited(sdk));
    let described = client.describe_stream_summary().stream_name(stream);
    let described = Box::pin(described.send()).await;
    let arn = described.as_ref().ok().and_then(|answer| {
        let summary = answer.stream_description_summary()?;
        Some(summary.stream_arn().to_owned())
    });
    if let Some(problem) = missing(&described) {
        return vec![problem];
    }
    let mut problems: Vec<String> = failed(described).into_iter().collect();
    problems.extend(reading(&client, stream).await);
    if let (Some(consumer), Some(arn)) = (consumer, arn) {
        problems.extend(fan_out(&client, &arn, consumer).await);
    }
    problems
}

/// Checks that the egress may put records into a stream: `kinesis:PutRecords`, or `PutRecord` with
/// a strict ordering, and the permissions of reading if it delivers exactly once. Tries it with a
/// record without a key.
pub async fn kinesis_egress(
    sdk: &SdkConfig,
    stream: &str,
    settings: &KinesisSettings,
    delivery: Delivery,
) -> Vec<String> {
    let client = Client::new(&limited(sdk));
    let data = Blob::new("");
    let put = match settings.ordering {
        Ordering::Coarse => {
            let entry = PutRecordsRequestEntry::builder()
                .data(data)
                .partition_key("");
            let entry = entry.build().expect("it has data and a key");
            let put = client.put_records().stream_name(stream).records(entry);
            writing(Box::pin(put.send()).await)
        }
        Ordering::Strict => {
            let put = client.put_record().stream_name(stream);
            let put = put.data(data).partition_key("");
            writing(Box::pin(put.send()).await)
        }
    };
    let mut problems = Vec::new();
    match put {
        Ok(()) => {}
        Err(Missing(problem)) => return vec![problem],
        Err(Denied(problem)) => problems.push(problem),
    }
    if delivery == Delivery::ExactlyOnce {
        problems.extend(reading(&client, stream).await);
    }
    problems
}

/// Reason why a stream cannot be written to.
enum Unwritable {
    /// There is no such stream.
    Missing(String),
    /// The permission is missing, or there was no answer.
    Denied(String),
}

/// Reads the answer to a put that must be refused.
fn writing<T, E: Operation>(
    answer: Result<T, SdkError<E, HttpResponse>>,
) -> Result<(), Unwritable> {
    let code = answer.as_ref().err().and_then(|error| error.code());
    if code == Some("ResourceNotFoundException") {
        return failed(answer).map_or(Ok(()), |problem| Err(Missing(problem)));
    }
    denied(answer).map_or(Ok(()), |problem| Err(Denied(problem)))
}

/// Lists the shards, and reads from the end of the first one.
async fn reading(client: &Client, stream: &str) -> Vec<String> {
    let listed = client.list_shards().stream_name(stream).max_results(1);
    let listed = Box::pin(listed.send()).await;
    let shard = listed.as_ref().ok().and_then(|page| page.shards().first());
    let shard = shard.map(|shard| shard.shard_id().to_owned());
    let mut problems: Vec<String> = failed(listed).into_iter().collect();
    let placed = client
        .get_shard_iterator()
        .stream_name(stream)
        .shard_id(shard.as_deref().unwrap_or(FIRST_SHARD))
        .shard_iterator_type(ShardIteratorType::Latest);
    let placed = Box::pin(placed.send()).await;
    let iterator = placed.as_ref().ok();
    let iterator = iterator.and_then(|answer| answer.shard_iterator().map(str::to_owned));
    problems.extend(match shard {
        Some(_) => failed(placed),
        None => denied(placed),
    });
    let records = client.get_records().limit(1);
    problems.extend(match iterator {
        Some(iterator) => failed(Box::pin(records.shard_iterator(iterator).send()).await),
        None => denied(Box::pin(records.shard_iterator(super::PROBE).send()).await),
    });
    problems
}

/// Tries to register the consumer, if that changes nothing, and to subscribe to a shard that does
/// not exist. A subscription to a real one would end that of the owner.
async fn fan_out(client: &Client, stream_arn: &str, consumer: &str) -> Vec<String> {
    let described = client
        .describe_stream_consumer()
        .stream_arn(stream_arn)
        .consumer_name(consumer);
    let described = Box::pin(described.send()).await;
    let arn = described.as_ref().ok().and_then(|answer| {
        let consumer = answer.consumer_description()?;
        Some(consumer.consumer_arn().to_owned())
    });
    let registered = client
        .register_stream_consumer()
        .stream_arn(stream_arn)
        // One that is registered already, or a name that is refused.
        .consumer_name(if arn.is_some() { consumer } else { "" });
    let registered = Box::pin(registered.send()).await;
    let arn = arn.unwrap_or_else(|| format!("{stream_arn}/consumer/{consumer}:0"));
    let position = StartingPosition::builder().r#type(ShardIteratorType::Latest);
    let subscribed = client
        .subscribe_to_shard()
        .consumer_arn(arn)
        .shard_id(NO_SHARD)
        .starting_position(position.build().expect("it has a type"));
    let subscribed = Box::pin(subscribed.send()).await;
    [denied(described), denied(registered), denied(subscribed)]
        .into_iter()
        .flatten()
        .collect()
}
