//! Reading of a topic's partitions with one client, from the first list of partitions to the first
//! failure that needs another client.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use rdkafka::Message as _;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _};
use satchel_clock::Backoff;
use satchel_engine::input::{FoundShard, Header, Headers, Input, Record};
use satchel_engine::position::{ShardId, ShardPosition};
use satchel_engine::source::shards::Applied;
use satchel_engine::trace::TraceParent;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::consumer::{Consumer, RequestFailure};
use super::discovery::{Denials, describe, first_partitions, persist};
use super::{
    ExpiredPosition, IngressOptions, KafkaObserver, ReadingPort, RecordRead, Router, Stop,
};
use crate::client::{code, is_denied, is_missing};
use crate::error::KafkaError;
use crate::offset;
use crate::start::resolve;

/// Maximum size of one input to the partition, so that a pause takes effect soon.
const RECORDS_PER_INPUT: usize = 1000;
const BYTES_PER_INPUT: usize = 1 << 20;

/// Delay before partitions are listed after an error about the topic.
const LIST_SOON: Duration = Duration::from_secs(1);

/// Reader of one topic.
pub(super) struct Reader {
    options: Arc<IngressOptions>,
    router: Router,
    observer: Arc<dyn KafkaObserver>,
    inputs: mpsc::Sender<Input>,
    reading: Arc<dyn ReadingPort>,
    /// Partitions that are being read, by number.
    partitions: BTreeMap<u32, Progress>,
    denials: Denials,
    /// Reason for which access to the records of a partition was denied, without a record since.
    fetch_denied: Option<String>,
}

/// Progress of one partition.
struct Progress {
    id: ShardId,
    /// Lowest offset that the next record may have.
    next: u64,
    /// Next offset of which the group was informed.
    informed: Option<u64>,
}

/// Records by partition, with the sum of the sizes of their values.
type Batches = BTreeMap<u32, (Vec<Record>, u64)>;

/// Work beside reading.
#[derive(Default)]
struct Aside {
    listing: Option<BoxFuture<'static, Result<Vec<u32>, RequestFailure>>>,
    informing: Option<tokio::sync::oneshot::Receiver<Applied>>,
}

impl Reader {
    pub(super) fn new(
        options: Arc<IngressOptions>,
        router: Router,
        observer: Arc<dyn KafkaObserver>,
        inputs: mpsc::Sender<Input>,
        reading: Arc<dyn ReadingPort>,
    ) -> Self {
        Self {
            options,
            router,
            observer,
            inputs,
            reading,
            partitions: BTreeMap::new(),
            denials: Denials::default(),
            fetch_denied: None,
        }
    }

    /// Reads until something stops it. Resets `backoff` once records can be read.
    pub(super) async fn run(mut self, backoff: &mut Backoff) -> Stop {
        let consumer = match Consumer::new(&self.options) {
            Ok(consumer) => consumer,
            Err(reason) => {
                return Stop::Error(KafkaError::Settings {
                    ingress: self.options.ingress.to_string(),
                    topic: self.options.topic.to_string(),
                    reason,
                });
            }
        };
        let stopped = match self.begin(&consumer).await {
            Ok(()) => {
                backoff.reset();
                self.read(&consumer).await
            }
            Err(stop) => Err(stop),
        };
        for progress in self.partitions.values() {
            self.observer.reading_ended(&progress.id);
        }
        consumer.close().await;
        match stopped {
            Ok(never) => match never {},
            Err(stop) => stop,
        }
    }

    /// Finds the partitions and their positions, and begins to read them.
    async fn begin(&mut self, consumer: &Consumer) -> Result<(), Stop> {
        let listed = first_partitions(consumer, &self.options, &*self.observer).await?;
        let (ingress, topic) = (&self.options.ingress, &self.options.topic);
        tracing::info!(%ingress, %topic, partitions = listed.len(), "reading Kafka topic");
        let applied = self.applied().await?;
        let is_known = |number: &u32| {
            let name = number.to_string();
            applied.iter().any(|(partition, _)| **partition == *name)
        };
        let starts = match applied.is_empty() {
            true => self.resolve(consumer, &listed).await?,
            false => {
                let new = listed.iter().filter(|number| !is_known(number));
                new.map(|number| (*number, 0)).collect()
            }
        };
        self.start(consumer, &listed, &starts).await
    }

    async fn send(&self, input: Input) -> Result<(), Stop> {
        let sent = self.inputs.send(input).await;
        sent.map_err(|_| Stop::PartitionClosed)
    }

    /// Durable positions of the topic's partitions.
    async fn applied(&self) -> Result<Applied, Stop> {
        self.ask_applied()
            .await?
            .await
            .map_err(|_| Stop::PartitionClosed)
    }

    async fn ask_applied(&self) -> Result<tokio::sync::oneshot::Receiver<Applied>, Stop> {
        let ingress = Arc::clone(&self.options.ingress);
        let stream = Arc::clone(&self.options.topic);
        let planned = self
            .reading
            .expect_plan(Arc::clone(&ingress), Arc::clone(&stream));
        self.send(Input::StreamFound { ingress, stream }).await?;
        Ok(planned)
    }

    /// Resolves the starts of a topic that was never read.
    async fn resolve(
        &self,
        consumer: &Consumer,
        partitions: &[u32],
    ) -> Result<BTreeMap<u32, u64>, Stop> {
        let options = &self.options;
        let mut denials = Denials::default();
        let ask = || consumer.facts(partitions, &options.startup);
        let what = "finding the startup position";
        let facts = persist(options, &*self.observer, &mut denials, what, ask).await?;
        let starts = facts.into_iter().map(|(partition, facts)| {
            let start = resolve(&options.startup, options.reset, partition, facts);
            if let Some(named) = start.replaced {
                tracing::error!(
                    ingress = &*options.ingress,
                    topic = &*options.topic,
                    partition,
                    named,
                    offset = start.offset,
                    "the startup position names an offset that does not exist; reading from the \
                     one that autoOffsetResetPosition says"
                );
            }
            (partition, start.offset)
        });
        Ok(starts.collect())
    }

    /// Announces partitions to the partition of the coordinator, all together, and reads each from
    /// its durable position, or from `starts` if it was never read.
    async fn start(
        &mut self,
        consumer: &Consumer,
        listed: &[u32],
        starts: &BTreeMap<u32, u64>,
    ) -> Result<(), Stop> {
        let mut found = Vec::with_capacity(listed.len());
        let mut expected = Vec::with_capacity(listed.len());
        for number in listed {
            let id = ShardId {
                ingress: Arc::clone(&self.options.ingress),
                stream: Arc::clone(&self.options.topic),
                shard: number.to_string().into(),
            };
            expected.push((*number, id.clone(), self.reading.expect(id.clone())));
            found.push(FoundShard {
                shard: id,
                start: offset::before(starts.get(number).copied().unwrap_or(0)),
                hash_range: None,
            });
        }
        self.send(Input::ShardsFound(found)).await?;
        let mut begun = Vec::with_capacity(listed.len());
        for (number, id, position) in expected {
            let position: ShardPosition = position.await.map_err(|_| Stop::PartitionClosed)?;
            let Some(next) = offset::next(&position) else {
                return Err(KafkaError::ForeignPosition { shard: id }.into());
            };
            tracing::info!(partition = %id, offset = next, "reading partition");
            begun.push((number, next));
            let progress = Progress {
                id,
                next,
                informed: None,
            };
            self.partitions.insert(number, progress);
        }
        consumer
            .assign(&begun)
            .map_err(|error| client_failed(&error))
    }

    async fn read(&mut self, consumer: &Consumer) -> Result<std::convert::Infallible, Stop> {
        let options = Arc::clone(&self.options);
        let mut paused = self.reading.paused();
        let mut is_paused = false;
        let mut aside = Aside::default();
        let mut list_at = Instant::now() + options.discovery_interval;
        let mut inform_at = Instant::now() + options.inform_interval;
        loop {
            let wanted = *paused.borrow_and_update();
            if wanted != is_paused {
                consumer
                    .set_paused(wanted)
                    .map_err(|error| client_failed(&error))?;
                is_paused = wanted;
            }
            tokio::select! {
                changed = paused.changed() => changed.map_err(|_| Stop::PartitionClosed)?,
                received = consumer.receive() => match received {
                    Ok(message) => self.accept(consumer, message).await?,
                    Err(error) => {
                        if self.failed(consumer, &error).await? {
                            list_at = list_at.min(Instant::now() + LIST_SOON);
                        }
                    }
                },
                listed = ready(&mut aside.listing) => {
                    aside.listing = None;
                    list_at = Instant::now() + self.listed(consumer, listed, is_paused).await?;
                }
                applied = ready(&mut aside.informing) => {
                    aside.informing = None;
                    let applied = applied.map_err(|_| Stop::PartitionClosed)?;
                    self.inform(consumer, &applied);
                }
                () = tokio::time::sleep_until(list_at), if aside.listing.is_none() => {
                    let consumer = consumer.clone();
                    aside.listing = Some(async move { consumer.partitions().await }.boxed());
                }
                () = tokio::time::sleep_until(inform_at) => {
                    inform_at = Instant::now() + options.inform_interval;
                    self.report_lag(consumer);
                    if aside.informing.is_none() && options.group.is_some() && self.has_news() {
                        aside.informing = Some(self.ask_applied().await?);
                    }
                }
            }
            self.check_denied()?;
        }
    }

    /// Hands over a record, and all others that are there already.
    async fn accept(
        &mut self,
        consumer: &Consumer,
        message: BorrowedMessage<'_>,
    ) -> Result<(), Stop> {
        self.fetch_denied = None;
        let mut batches = Batches::new();
        let (mut records, mut bytes) = (0, 0);
        let mut error = None;
        let mut next = Some(message);
        while let Some(message) = next.take() {
            records += 1;
            bytes += message.payload_len();
            self.convert(&message, &mut batches);
            if records >= RECORDS_PER_INPUT || bytes >= BYTES_PER_INPUT {
                break;
            }
            match consumer.receive().now_or_never() {
                Some(Ok(message)) => next = Some(message),
                Some(Err(failed)) => error = Some(failed),
                None => {}
            }
        }
        for (number, (records, bytes)) in batches {
            let Some(progress) = self.partitions.get(&number) else {
                continue;
            };
            let shard = progress.id.clone();
            self.observer.read(&shard, records.len() as u64, bytes);
            self.send(Input::RecordsRead { shard, records }).await?;
        }
        match error {
            Some(error) => self.failed(consumer, &error).await.map(drop),
            None => Ok(()),
        }
    }

    fn convert(&mut self, message: &BorrowedMessage<'_>, batches: &mut Batches) {
        let partition = u32::try_from(message.partition()).unwrap_or(u32::MAX);
        let offset = u64::try_from(message.offset()).unwrap_or_default();
        let Some(progress) = self.partitions.get_mut(&partition) else {
            return;
        };
        if offset < progress.next {
            // The client repeats records after a pause.
            return;
        }
        progress.next = offset + 1;
        let value = message.payload().map(Bytes::copy_from_slice);
        let bytes = value.as_ref().map_or(0, Bytes::len);
        let routed = (self.router)(RecordRead {
            key: message.key(),
            value: value.as_ref(),
        });
        let key = String::from_utf8_lossy(message.key().unwrap_or_default());
        let (records, read) = batches.entry(partition).or_default();
        *read += bytes as u64;
        records.push(Record {
            sequence: offset.into(),
            sub_sequence: offset::RECORD,
            key: key.into(),
            routed,
            trace: trace(message),
            headers: headers(message),
        });
    }

    /// Handles an error of the client. Returns true if the partitions are to be listed soon.
    async fn failed(&mut self, consumer: &Consumer, error: &ClientError) -> Result<bool, Stop> {
        let reason = error.to_string();
        self.observer.failed(&self.options.ingress, &reason);
        if let ClientError::MessageConsumptionFatal(_) = error {
            return Err(Stop::Restart(reason));
        }
        let Some(code) = code(error) else {
            return Ok(false);
        };
        match code {
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
                self.check_positions(consumer).await?;
                Ok(false)
            }
            code if is_missing(code) => Ok(true),
            code if is_denied(code) => {
                let reason = consumer.last_denial().unwrap_or(reason);
                self.fetch_denied.get_or_insert(reason);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Stops the ingress if access to records has been denied for a while.
    fn check_denied(&mut self) -> Result<(), Stop> {
        let Some(reason) = &self.fetch_denied else {
            return Ok(());
        };
        let failure = RequestFailure::Denied(reason.clone());
        Ok(self.denials.note(&self.options, &failure)?)
    }

    /// Compares positions with what the partitions hold, after a broker said that one of them does
    /// not exist.
    async fn check_positions(&mut self, consumer: &Consumer) -> Result<(), Stop> {
        let (options, observer) = (Arc::clone(&self.options), Arc::clone(&self.observer));
        let mut is_explained = false;
        for (number, progress) in &mut self.partitions {
            let mut denials = Denials::default();
            let ask = || consumer.bounds(*number);
            let what = "finding the oldest record";
            let (oldest, end) = persist(&options, &*observer, &mut denials, what, ask).await?;
            let next = progress.next;
            let shard = progress.id.clone();
            if next > end {
                return Err(KafkaError::AnotherTopic { shard, next, end }.into());
            }
            if next >= oldest {
                continue;
            }
            let error = KafkaError::ExpiredPosition {
                shard,
                next,
                oldest,
            };
            if options.on_expired == ExpiredPosition::Stop {
                return Err(error.into());
            }
            tracing::error!(
                %error,
                "position expired; continuing with the oldest record, as configured"
            );
            is_explained = true;
            progress.next = oldest;
            consumer
                .unassign(&[*number])
                .map_err(|error| client_failed(&error))?;
            consumer
                .assign(&[(*number, oldest)])
                .map_err(|error| client_failed(&error))?;
        }
        match is_explained {
            true => Ok(()),
            false => Err(Stop::Restart(
                "a broker does not know a position that the partition has".to_owned(),
            )),
        }
    }

    /// Handles a list of the topic's partitions. Returns the time until the next one.
    async fn listed(
        &mut self,
        consumer: &Consumer,
        listed: Result<Vec<u32>, RequestFailure>,
        is_paused: bool,
    ) -> Result<Duration, Stop> {
        let listed = match listed {
            Ok(listed) => listed,
            Err(failure) => {
                let reason = format!("listing partitions: {}", describe(&failure));
                self.observer.failed(&self.options.ingress, &reason);
                self.denials.note(&self.options, &failure)?;
                return Ok(LIST_SOON);
            }
        };
        if self.fetch_denied.is_none() {
            self.denials.reset();
        }
        let mut new = listed;
        new.retain(|number| !self.partitions.contains_key(number));
        if !new.is_empty() {
            // Everything that is in them arrived after the start was resolved.
            self.start(consumer, &new, &BTreeMap::new()).await?;
            if is_paused {
                consumer
                    .set_paused(true)
                    .map_err(|error| client_failed(&error))?;
            }
        }
        Ok(self.options.discovery_interval)
    }

    /// True if something was read of which the group was not informed.
    fn has_news(&self) -> bool {
        let mut partitions = self.partitions.values();
        partitions.any(|progress| progress.informed != Some(progress.next))
    }

    /// Informs the group of durable positions.
    fn inform(&mut self, consumer: &Consumer, applied: &Applied) {
        let mut offsets = Vec::new();
        for (name, position) in applied {
            let number = name.parse().ok();
            let progress = number.and_then(|number| self.partitions.get_mut(&number));
            if let (Some(number), Some(progress)) = (number, progress)
                && let Some(next) = offset::next(position)
                && progress.informed != Some(next)
            {
                progress.informed = Some(next);
                offsets.push((number, next));
            }
        }
        consumer.inform(&offsets);
    }

    fn report_lag(&self, consumer: &Consumer) {
        for (partition, end) in consumer.ends() {
            let number = u32::try_from(partition).unwrap_or(u32::MAX);
            if let Some(progress) = self.partitions.get(&number) {
                let lag = end.saturating_sub(progress.next);
                self.observer.lag(&progress.id, lag);
            }
        }
    }
}

/// Waits for work that was begun, or forever.
async fn ready<F: Future + Unpin>(work: &mut Option<F>) -> F::Output {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

fn client_failed(error: &ClientError) -> Stop {
    Stop::Restart(error.to_string())
}

/// Headers of a record. One without a value has an empty one.
fn headers(message: &BorrowedMessage<'_>) -> Headers {
    let headers = message.headers()?.iter().map(|header| Header {
        name: header.key.into(),
        value: Bytes::copy_from_slice(header.value.unwrap_or_default()),
    });
    let headers: Vec<Header> = headers.collect();
    (!headers.is_empty()).then(|| headers.into())
}

/// Trace context of a record, from its header `traceparent`.
fn trace(message: &BorrowedMessage<'_>) -> Option<TraceParent> {
    let headers = message.headers()?;
    let found = headers
        .iter()
        .find(|header| header.key.eq_ignore_ascii_case("traceparent"));
    let text = std::str::from_utf8(found?.value?).ok()?;
    TraceParent::parse(text)
}
