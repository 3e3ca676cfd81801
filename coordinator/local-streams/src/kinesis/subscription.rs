//! `SubscribeToShard`: records are pushed as they come, over one long answer.

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
use crate::reader::{Limits, Place};
use crate::{Stream, StreamError};

/// An event has at most so many records and bytes.
const EVENT: Limits = Limits {
    records: 1_000,
    bytes: 1 << 20,
};
/// How often something is sent when there are no records.
const QUIET_MAX: Duration = Duration::from_secs(5);
/// How soon a consumer may subscribe to a shard again.
const AGAIN_MIN: Duration = Duration::from_secs(5);
/// How often a subscription looks whether another process appended.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

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
        let place = locate(&stream, &description, shard, from).await?;
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
            place,
            ended,
        };
        let events = futures::stream::try_unfold(subscription, async |mut subscription| {
            let next = subscription.next().await;
            Ok::<_, std::convert::Infallible>(next.map(|event| (event, subscription)))
        });
        Ok(Body::from_stream(events))
    }

    /// Takes the place of an earlier subscription of the same consumer to the same shard, unless that began only just now.
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
        // Those that ended, or whose client left, are no obstacle and need not be remembered.
        subscriptions.retain(|_, (_, end)| !end.is_closed());
        let key = (consumer, shard);
        if let Some((begun, _)) = subscriptions.get(&key)
            && begun.elapsed() < AGAIN_MIN
        {
            return Err(Refusal::in_use(
                "Another active subscription exists for this consumer and shard; it is less than 5 seconds old.",
            ));
        }
        if let Some((_, former)) = subscriptions.insert(key, (Instant::now(), end)) {
            former.send_replace(true);
        }
        Ok(ended)
    }

    /// Ends the subscriptions of a consumer that is not registered any more.
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
    place: Place,
    tip: watch::Receiver<Tip>,
    encoding: Encoding,
    until: tokio::time::Instant,
    stopping: watch::Receiver<bool>,
    /// Becomes true when another subscription takes its place.
    ended: watch::Receiver<bool>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was sent.
    Begun,
    Sending,
    /// The last event was sent.
    Ended,
}

impl Subscription {
    /// The next message; none when the subscription is over.
    async fn next(&mut self) -> Option<Bytes> {
        match self.state {
            State::Begun => {
                self.state = State::Sending;
                let empty = self.encoding.encode(&map([]));
                Some(event(
                    "initial-response",
                    self.encoding.content_type(),
                    &empty,
                ))
            }
            State::Ended => None,
            State::Sending => {
                let (mut stopping, mut ended) = (self.stopping.clone(), self.ended.clone());
                let until = self.until;
                tokio::select! {
                    message = timeout_at(until, self.next_event()) => message.ok(),
                    // Gone or true: either way it is over.
                    _ = stopping.wait_for(|stopping| *stopping) => None,
                    _ = ended.wait_for(|ended| *ended) => None,
                }
            }
        }
    }

    async fn next_event(&mut self) -> Bytes {
        let read = match self.read_on().await {
            Ok(read) => read,
            Err(refusal) => {
                self.state = State::Ended;
                let body = self.encoding.encode(&refusal.body());
                return exception(refusal.code, self.encoding.content_type(), &body);
            }
        };
        self.place = read.piece.place;
        if read.piece.ended {
            self.state = State::Ended;
        }
        let body = map([
            ("Records", read.records()),
            ("ContinuationSequenceNumber", read.continuation().into()),
            ("MillisBehindLatest", read.behind_ms().into()),
            ("ChildShards", read.child_shards()),
        ]);
        let body = self.encoding.encode(&body);
        event("SubscribeToShardEvent", self.encoding.content_type(), &body)
    }

    /// Waits for records or the end of the shard; after some time without either, gives nothing.
    async fn read_on(&mut self) -> Result<Read, Refusal> {
        let quiet_until = tokio::time::Instant::now() + QUIET_MAX;
        loop {
            if self.tip.borrow_and_update().gone {
                return Err(StreamError::Missing(self.stream.name().to_owned()).into());
            }
            let read = read(&self.stream, self.shard, self.place, EVENT).await?;
            let piece = &read.piece;
            if !piece.records.is_empty()
                || piece.ended
                || tokio::time::Instant::now() >= quiet_until
            {
                return Ok(read);
            }
            self.place = piece.place;
            if !piece.at_tip {
                continue;
            }
            let look = tokio::time::Instant::now() + LOOK_INTERVAL;
            match timeout_at(look, self.tip.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(StreamError::Stopped.into()),
                Err(_) => self.stream.refresh().await?,
            }
        }
    }
}
