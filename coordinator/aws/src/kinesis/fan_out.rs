//! Enhanced fan-out: Kinesis pushes the records of a shard to a registered consumer, which has its
//! own throughput.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::operation::subscribe_to_shard::SubscribeToShardOutput;
use aws_sdk_kinesis::types::{
    ConsumerStatus, StartingPosition, SubscribeToShardEvent, SubscribeToShardEventStream,
};

use super::error::Stop;
use super::requests::{ReadFrom, RequestFailure, answer};
use super::shard::ShardReader;
use satchel_clock::Backoff;

/// Time for which a shard is polled when subscribing keeps failing.
pub(super) const FALLBACK_POLLING: Duration = Duration::from_secs(300);

/// Number of consecutive failures after which a shard is polled for a while.
const FAILURES_MAX: u32 = 8;

/// Maximum silence of a subscription. Kinesis sends an event every few seconds even without
/// records.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Maximum time for a consumer to become active.
const ACTIVE_WITHIN: Duration = Duration::from_secs(120);

/// Reason why subscribing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subscribed {
    /// The shard was read to its end.
    Ended,
    /// Subscribing keeps failing.
    FallBack,
}

/// Reason why one subscription ended.
enum Closed {
    /// The shard was read to its end.
    Ended,
    /// Its five minutes are over, or it was cut off. It must be renewed.
    Renew,
}

/// Registers the consumer if needed, and waits until it is active. Returns its ARN.
pub(super) async fn register(
    client: &Client,
    stream_arn: &str,
    name: &str,
) -> Result<String, RequestFailure> {
    let register = client
        .register_stream_consumer()
        .stream_arn(stream_arn)
        .consumer_name(name);
    match answer(register.send()).await {
        // In use means that the consumer is registered already.
        Ok(_) | Err(RequestFailure::InUse(_)) => {}
        Err(failure) => return Err(failure),
    }
    let deadline = tokio::time::Instant::now() + ACTIVE_WITHIN;
    let mut backoff = Backoff::default();
    loop {
        let describe = client
            .describe_stream_consumer()
            .stream_arn(stream_arn)
            .consumer_name(name);
        let failure = match answer(describe.send()).await {
            Ok(answer) => match answer.consumer_description {
                Some(consumer) if consumer.consumer_status == ConsumerStatus::Active => {
                    return Ok(consumer.consumer_arn);
                }
                _ => RequestFailure::Unavailable("the consumer does not become active".to_owned()),
            },
            Err(failure @ RequestFailure::Denied(_)) => return Err(failure),
            Err(failure) => failure,
        };
        if tokio::time::Instant::now() >= deadline {
            return Err(failure);
        }
        backoff.wait().await;
    }
}

/// Reads a shard by consecutive subscriptions, to its end or until subscribing keeps failing.
pub(super) async fn subscribe(
    reader: &mut ShardReader,
    consumer: &str,
) -> Result<Subscribed, Stop> {
    let shared = reader.shared.clone();
    let mut backoff = Backoff::default();
    loop {
        reader.unpaused().await?;
        let from = reader.read_from()?;
        let request = shared
            .client
            .subscribe_to_shard()
            .consumer_arn(consumer)
            .shard_id(&*reader.id.shard)
            .starting_position(
                StartingPosition::builder()
                    .r#type(from.kind())
                    .set_timestamp(from.time())
                    .set_sequence_number(from.sequence())
                    .build()
                    .map_err(|_| Stop::PartitionClosed)?,
            );
        let failure = match answer(request.send()).await {
            Ok(subscription) => match receive(reader, subscription, &mut backoff).await? {
                Ok(Closed::Ended) => return Ok(Subscribed::Ended),
                Ok(Closed::Renew) => continue,
                Err(failure) => failure,
            },
            Err(failure) => failure,
        };
        shared.report_retry("SubscribeToShard", Some(&reader.id.shard), &failure);
        match (&failure, from) {
            (RequestFailure::Missing(_), _) if reader.is_lost().await? => {
                return Ok(Subscribed::Ended);
            }
            (RequestFailure::Invalid(_), ReadFrom::At(_)) => reader.position_rejected()?,
            _ => {}
        }
        if shared.inputs.is_closed() {
            return Err(Stop::PartitionClosed);
        }
        if backoff.failures() >= FAILURES_MAX {
            tracing::error!(
                shard = %reader.id,
                error = %failure,
                polling_s = FALLBACK_POLLING.as_secs(),
                "subscribing to the shard keeps failing; polling instead"
            );
            return Ok(Subscribed::FallBack);
        }
        // A subscription can be replaced only when it is five seconds old, so this also waits for
        // that of a former owner.
        backoff.wait().await;
    }
}

/// Receives the events of one subscription. While reading is paused nothing is received: Kinesis
/// then ends the subscription, and it is renewed.
async fn receive(
    reader: &mut ShardReader,
    mut subscription: SubscribeToShardOutput,
    backoff: &mut Backoff,
) -> Result<Result<Closed, RequestFailure>, Stop> {
    loop {
        reader.unpaused().await?;
        let received = tokio::time::timeout(SILENCE_MAX, subscription.event_stream.recv()).await;
        let event = match received {
            Ok(Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event)))) => event,
            Ok(Ok(Some(_))) => continue,
            Ok(Ok(None)) => return Ok(Ok(Closed::Renew)),
            Ok(Err(error)) => return Ok(Err(RequestFailure::of(&error))),
            Err(_) => {
                let silence = format!("no event for {} s", SILENCE_MAX.as_secs());
                return Ok(Err(RequestFailure::Unavailable(silence)));
            }
        };
        if let Err(failure) = accept(reader, &event).await? {
            return Ok(Err(failure));
        }
        backoff.reset();
        reader.starts_newest = false;
        if !event.child_shards().is_empty() {
            if reader.is_over().await? {
                return Ok(Ok(Closed::Ended));
            }
            return Ok(Ok(Closed::Renew));
        }
    }
}

async fn accept(
    reader: &mut ShardReader,
    event: &SubscribeToShardEvent,
) -> Result<Result<(), RequestFailure>, Stop> {
    let shared = reader.shared.clone();
    let Ok(_permit) = shared.answers.acquire().await else {
        return Err(Stop::PartitionClosed);
    };
    let lag_ms = u64::try_from(event.millis_behind_latest).unwrap_or_default();
    shared.observer.lag(&reader.id, lag_ms);
    reader.accept(event.records.clone(), lag_ms == 0).await
}
