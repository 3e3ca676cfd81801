//! `SubscribeToShard`: records are pushed as they arrive, in one long response.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::timeout_at;

use super::consumers::consumer_arn;
use super::error::Refusal;
use super::event_stream::{event, exception};
use super::reading::{Read, known_shard, locate, read, read_from};
use super::throughput::ShardKey;
use super::value::{Encoding, map};
use super::{Call, Service, arguments};
use crate::log::Tip;
use crate::reader::{Cursor, Limits};
use crate::{Stream, StreamError};

/// Maximum records and bytes of an event.
const EVENT: Limits = Limits {
    records: 1_000,
    bytes: 1 << 20,
};
/// Interval of empty events while there are no records.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Minimum age of a subscription before the consumer may replace it.
const RESUBSCRIBE_MIN_AGE: Duration = Duration::from_secs(5);
/// Interval at which a subscription checks for appends of another process.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

impl Service {
    pub(super) async fn subscribe(self: &Arc<Self>, call: Call) -> Result<Body, Refusal> {
        call.arguments.required_text("ConsumerARN")?;
        let (stream, consumer) = self.consumer(&call).await?;
        let description = stream.description();
        let shard = call.arguments.required_text("ShardId")?;
        let shard = known_shard(&stream, &description, shard)?;
        let position = call.arguments.structure("StartingPosition")?;
        let position = position.ok_or_else(|| arguments::missing("StartingPosition"))?;
        let (kind, number) = (
            position.required_text("Type")?,
            position.text("SequenceNumber")?,
        );
        let from = read_from(&stream, shard, kind, number, &position)?;
        let cursor = locate(&stream, &description, shard, from).await?;
        let key = ShardKey {
            stream: stream.name().to_owned(),
            created_ms: description.created_ms,
            shard: shard.index,
        };
        let ended = self.begin_subscription(consumer_arn(&call, &stream, &consumer), key)?;
        let subscription = Subscription {
            tip: stream.watch_tip(),
            shard: shard.index,
            encoding: call.encoding,
            until: tokio::time::Instant::now() + self.options.subscription,
            stopping: self.stopping.clone(),
            state: State::Begun,
            stream,
            cursor,
            ended,
        };
        let events = futures::stream::try_unfold(subscription, async |mut subscription| {
            let next = subscription.next().await;
            Ok::<_, std::convert::Infallible>(next.map(|event| (event, subscription)))
        });
        Ok(Body::from_stream(events))
    }

    /// Replaces an earlier subscription of the same consumer to the same shard, unless that one is
    /// too young.
    fn begin_subscription(
        &self,
        consumer: String,
        shard: ShardKey,
    ) -> Result<watch::Receiver<bool>, Refusal> {
        let (end, ended) = watch::channel(false);
        let mut subscriptions = self
            .subscriptions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Subscriptions that ended, or whose client disconnected, are removed.
        subscriptions.retain(|_, (_, end)| !end.is_closed());
        let key = (consumer, shard);
        if let Some((begun, _)) = subscriptions.get(&key)
            && begun.elapsed() < RESUBSCRIBE_MIN_AGE
        {
            return Err(Refusal::in_use(
                "Another active subscription exists for this consumer and shard; \
                it is less than 5 seconds old.",
            ));
        }
        if let Some((_, former)) = subscriptions.insert(key, (Instant::now(), end)) {
            former.send_replace(true);
        }
        Ok(ended)
    }

    /// Ends the subscriptions of a consumer that was deregistered.
    pub(super) fn end_subscriptions(&self, consumer: &str) {
        let mut subscriptions = self
            .subscriptions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        subscriptions.retain(|(subscribed, _), (_, end)| {
            let ends = subscribed == consumer;
            if ends {
                end.send_replace(true);
            }
            !ends
        });
    }
}

struct Subscription {
    stream: Stream,
    shard: u32,
    cursor: Cursor,
    tip: watch::Receiver<Tip>,
    encoding: Encoding,
    until: tokio::time::Instant,
    stopping: watch::Receiver<bool>,
    /// Becomes true when another subscription replaces this one.
    ended: watch::Receiver<bool>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No event was sent yet.
    Begun,
    Sending,
    /// The last event was sent.
    Ended,
}

impl Subscription {
    /// Returns the next message, or none when the subscription is over.
    async fn next(&mut self) -> Option<Bytes> {
        match self.state {
            State::Begun => {
                self.state = State::Sending;
                let empty = self.encoding.encode(&map([]));
                Some(event(
                    "initial-response",
                    self.encoding.content_type(),
                    empty,
                ))
            }
            State::Ended => None,
            State::Sending => {
                let (mut stopping, mut ended) = (self.stopping.clone(), self.ended.clone());
                let until = self.until;
                tokio::select! {
                    message = timeout_at(until, self.next_event()) => message.ok(),
                    // The sender is dropped, or the value is true: the subscription ends in both
                    // cases.
                    _ = stopping.wait_for(|stopping| *stopping) => None,
                    _ = ended.wait_for(|ended| *ended) => None,
                }
            }
        }
    }

    async fn next_event(&mut self) -> Bytes {
        let read = match self.next_read().await {
            Ok(read) => read,
            Err(refusal) => {
                self.state = State::Ended;
                let body = self.encoding.encode(&refusal.body());
                return exception(refusal.code, self.encoding.content_type(), body);
            }
        };
        self.cursor = read.chunk.cursor;
        if read.chunk.ended {
            self.state = State::Ended;
        }
        let body = map([
            ("Records", read.records()),
            ("ContinuationSequenceNumber", read.continuation().into()),
            ("MillisBehindLatest", read.behind_ms().into()),
            ("ChildShards", read.child_shards()),
        ]);
        let body = self.encoding.encode(&body);
        event("SubscribeToShardEvent", self.encoding.content_type(), body)
    }

    /// Waits for records or the end of the shard. Returns an empty read after a quiet interval.
    async fn next_read(&mut self) -> Result<Read, Refusal> {
        let quiet_until = tokio::time::Instant::now() + KEEP_ALIVE_INTERVAL;
        loop {
            if self.tip.borrow_and_update().deleted {
                return Err(StreamError::Missing(self.stream.name().to_owned()).into());
            }
            let read = read(&self.stream, self.shard, self.cursor, EVENT).await?;
            let chunk = &read.chunk;
            if !chunk.records.is_empty()
                || chunk.ended
                || tokio::time::Instant::now() >= quiet_until
            {
                return Ok(read);
            }
            self.cursor = chunk.cursor;
            if !chunk.at_tip {
                continue;
            }
            let refresh_at = tokio::time::Instant::now() + REFRESH_INTERVAL;
            match timeout_at(refresh_at, self.tip.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(StreamError::Stopped.into()),
                Err(_) => self.stream.refresh().await?,
            }
        }
    }
}
