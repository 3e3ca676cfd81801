//! Enhanced fan-out: Kinesis pushes the records of a shard to a registered consumer, with a throughput of its own.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::operation::subscribe_to_shard::SubscribeToShardOutput;
use aws_sdk_kinesis::types::{
    ConsumerStatus, StartingPosition, SubscribeToShardEvent, SubscribeToShardEventStream,
};

use super::backoff::Backoff;
use super::error::Stop;
use super::requests::{From, Trouble, answer};
use super::shard::ShardReader;

/// For how long a shard is polled when subscribing to it keeps failing.
pub(super) const POLLED_INSTEAD: Duration = Duration::from_secs(300);

/// After so many failures in a row a shard is polled for a while.
const FAILURES_MAX: u32 = 8;

/// Kinesis sends an event every few seconds even when there are no records.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// How long a consumer may take to become active.
const ACTIVE_WITHIN: Duration = Duration::from_secs(120);

/// How subscribing came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subscribed {
    /// The shard has been read to its end.
    Ended,
    /// It keeps failing.
    FallBack,
}

/// How one subscription came to an end.
enum Closed {
    /// The shard has been read to its end.
    Ended,
    /// Its time is over, which is five minutes, or it broke off: to be renewed.
    Renew,
}

/// Registers the consumer, or finds it registered, and waits until it is active. Returns its ARN.
pub(super) async fn register(
    client: &Client,
    stream_arn: &str,
    name: &str,
) -> Result<String, Trouble> {
    let register = client
        .register_stream_consumer()
        .stream_arn(stream_arn)
        .consumer_name(name);
    match answer(register.send()).await {
        // In use means that it is registered already.
        Ok(_) | Err(Trouble::InUse(_)) => {}
        Err(trouble) => return Err(trouble),
    }
    let deadline = tokio::time::Instant::now() + ACTIVE_WITHIN;
    let mut backoff = Backoff::default();
    loop {
        let describe = client
            .describe_stream_consumer()
            .stream_arn(stream_arn)
            .consumer_name(name);
        let trouble = match answer(describe.send()).await {
            Ok(answer) => match answer.consumer_description {
                Some(consumer) if consumer.consumer_status == ConsumerStatus::Active => {
                    return Ok(consumer.consumer_arn);
                }
                _ => Trouble::Unanswered("the consumer does not become active".to_owned()),
            },
            Err(trouble @ Trouble::Denied(_)) => return Err(trouble),
            Err(trouble) => trouble,
        };
        if tokio::time::Instant::now() >= deadline {
            return Err(trouble);
        }
        backoff.wait().await;
    }
}

/// Reads a shard by subscriptions, one after the other, to its end or until they keep failing.
pub(super) async fn subscribe(
    reader: &mut ShardReader,
    consumer: &str,
) -> Result<Subscribed, Stop> {
    let shared = reader.shared.clone();
    let mut backoff = Backoff::default();
    loop {
        reader.unpaused().await?;
        let from = reader.from()?;
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
                    .map_err(|_| Stop::Gone)?,
            );
        let trouble = match answer(request.send()).await {
            Ok(subscription) => match receive(reader, subscription, &mut backoff).await? {
                Ok(Closed::Ended) => return Ok(Subscribed::Ended),
                Ok(Closed::Renew) => continue,
                Err(trouble) => trouble,
            },
            Err(trouble) => trouble,
        };
        shared.repeat("SubscribeToShard", Some(&reader.id.shard), &trouble);
        match (&trouble, from) {
            (Trouble::Missing(_), _) if reader.is_lost().await? => return Ok(Subscribed::Ended),
            (Trouble::Invalid(_), From::At(_)) => reader.refused()?,
            _ => {}
        }
        if shared.inputs.is_closed() {
            return Err(Stop::Gone);
        }
        if backoff.failures() >= FAILURES_MAX {
            tracing::error!(shard = %reader.id, error = %trouble, "subscribing to the shard keeps failing; it is polled for {} s instead", POLLED_INSTEAD.as_secs());
            return Ok(Subscribed::FallBack);
        }
        // A subscription can be taken over by a new one only five seconds after it began, so this also waits for a former owner's.
        backoff.wait().await;
    }
}

/// Takes what one subscription brings. While reading is paused nothing is taken from it: Kinesis ends it then, and it is renewed.
async fn receive(
    reader: &mut ShardReader,
    mut subscription: SubscribeToShardOutput,
    backoff: &mut Backoff,
) -> Result<Result<Closed, Trouble>, Stop> {
    loop {
        reader.unpaused().await?;
        let received = tokio::time::timeout(SILENCE_MAX, subscription.event_stream.recv()).await;
        let event = match received {
            Ok(Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event)))) => event,
            Ok(Ok(Some(_))) => continue,
            Ok(Ok(None)) => return Ok(Ok(Closed::Renew)),
            Ok(Err(error)) => return Ok(Err(Trouble::of(&error))),
            Err(_) => {
                let silence = format!("nothing for {} s", SILENCE_MAX.as_secs());
                return Ok(Err(Trouble::Unanswered(silence)));
            }
        };
        if let Err(trouble) = take(reader, &event).await? {
            return Ok(Err(trouble));
        }
        backoff.reset();
        reader.begins_newest = false;
        if !event.child_shards().is_empty() {
            if reader.is_over().await? {
                return Ok(Ok(Closed::Ended));
            }
            return Ok(Ok(Closed::Renew));
        }
    }
}

async fn take(
    reader: &mut ShardReader,
    event: &SubscribeToShardEvent,
) -> Result<Result<(), Trouble>, Stop> {
    let shared = reader.shared.clone();
    let Ok(_in_hand) = shared.answers.acquire().await else {
        return Err(Stop::Gone);
    };
    let lag_ms = u64::try_from(event.millis_behind_latest).unwrap_or_default();
    shared.observer.lag(&reader.id, lag_ms);
    reader.take(event.records.clone(), lag_ms == 0).await
}
