//! The ingress: plans a stream's shards, reads each of them, and looks for new ones.

use std::collections::HashMap;
use std::sync::Arc;

use aws_config::SdkConfig;
use aws_sdk_kinesis::Client;
use satchel_clock::{Backoff, calendar_ms};
use satchel_engine::input::{FoundShard, Input};
use satchel_engine::position::ShardPosition;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::error::Stop;
use super::fan_out;
use super::pace::Denials;
use super::reading::read_shard;
use super::requests::{self, ReadFrom, RequestFailure};
use super::shard::{CLOCK_MARGIN_MS, Shared, accept_loss};
use super::{KinesisError, KinesisObserver, KinesisOptions, ReadingPort, Router};
use satchel_engine::source::shards::{Applied, ListedShard, ShardPlan, Startup, Step};

/// Reads one Kinesis stream for one ingress.
pub struct KinesisIngress {
    client: Client,
    options: KinesisOptions,
    router: Router,
    observer: Arc<dyn KinesisObserver>,
    answers: Arc<Semaphore>,
}

/// Minimum retention of a stream in hours, assumed if the stream cannot be described.
const RETENTION_HOURS_MIN: u64 = 24;

impl KinesisIngress {
    /// Creates an ingress that uses this AWS configuration.
    pub fn new(
        config: &SdkConfig,
        options: KinesisOptions,
        router: Router,
        observer: Arc<dyn KinesisObserver>,
    ) -> Self {
        Self {
            client: Client::new(config),
            answers: Arc::new(Semaphore::new(options.answers_max)),
            options,
            router,
            observer,
        }
    }

    /// Shares the limit of responses in memory with other readers of the stream.
    #[must_use]
    pub fn sharing(self, answers: Arc<Semaphore>) -> Self {
        Self { answers, ..self }
    }

    /// Reads until the partition ends, that is, until the receiver of `inputs` is dropped.
    ///
    /// # Errors
    ///
    /// [`KinesisError`]: the stream does not exist, its shards may not be listed, or the retention
    /// deleted unread records.
    pub async fn run(
        self,
        inputs: mpsc::Sender<Input>,
        reading: Arc<dyn ReadingPort>,
    ) -> Result<(), KinesisError> {
        let closed = inputs.clone();
        // Boxed, because the future that reads is large.
        Self::until_closed(closed, Box::pin(self.read(inputs, reading))).await
    }

    /// Carries out `read` until it ends, or until the receiver of `inputs` is dropped.
    pub(super) async fn until_closed(
        inputs: mpsc::Sender<Input>,
        read: impl Future<Output = Result<(), Stop>>,
    ) -> Result<(), KinesisError> {
        tokio::select! {
            read = read => match read {
                Ok(()) | Err(Stop::PartitionClosed) => Ok(()),
                Err(Stop::Error(error)) => Err(error),
            },
            () = inputs.closed() => Ok(()),
        }
    }

    async fn read(
        self,
        inputs: mpsc::Sender<Input>,
        reading: Arc<dyn ReadingPort>,
    ) -> Result<(), Stop> {
        let first = self.list_first().await?;
        tracing::info!(
            ingress = %self.options.ingress,
            stream = %self.options.stream,
            shards = first.len(),
            "reading Kinesis stream"
        );
        let options = &self.options;
        let (ingress, stream) = (options.ingress.clone(), options.stream.clone());
        let shared = self.share(inputs, reading).await;
        let planned = shared.reading.expect_plan(ingress.clone(), stream.clone());
        shared.send(Input::StreamFound { ingress, stream }).await?;
        let applied = planned.await.map_err(|_| Stop::PartitionClosed)?;
        let elsewhere = applied
            .iter()
            .filter(|(_, position)| *position == ShardPosition::Elsewhere);
        let elsewhere: Vec<_> = elsewhere.map(|(shard, _)| shard.clone()).collect();
        let plan = ShardPlan::new(resolved_startup(&shared), applied);
        let readers = JoinSet::new();
        Readers {
            shared,
            plan,
            listed: HashMap::new(),
            readers,
            reopened: None,
        }
        .run(first, elsewhere)
        .await
    }

    /// Describes the stream, and makes what the readers of its shards share.
    pub(super) async fn share(
        self,
        inputs: mpsc::Sender<Input>,
        reading: Arc<dyn ReadingPort>,
    ) -> Arc<Shared> {
        let (consumer, retention_hours) = self.describe().await;
        Arc::new(Shared {
            answers: self.answers,
            client: self.client,
            router: self.router,
            observer: self.observer,
            inputs,
            reading,
            retention_ms: retention_hours * 3_600_000,
            consumer,
            options: self.options,
        })
    }

    /// Lists the shards before anything is started, so that an unreadable stream is reported at
    /// once.
    pub(super) async fn list_first(&self) -> Result<Vec<ListedShard>, Stop> {
        let (ingress, stream) = (&self.options.ingress, &self.options.stream);
        let mut backoff = Backoff::default();
        loop {
            match requests::list_shards(&self.client, stream).await {
                Ok(shards) if !shards.is_empty() => return Ok(shards),
                Ok(_) => {}
                Err(RequestFailure::Missing(_)) => {
                    return Err(Stop::Error(KinesisError::NoStream {
                        ingress: ingress.to_string(),
                        stream: stream.to_string(),
                    }));
                }
                Err(RequestFailure::Denied(reason) | RequestFailure::Invalid(reason)) => {
                    return Err(Stop::Error(KinesisError::Refused {
                        ingress: ingress.to_string(),
                        stream: stream.to_string(),
                        reason,
                    }));
                }
                Err(error) => {
                    self.observer.retried("ListShards", error.is_throttling());
                    let failure = format!("ListShards: {error}");
                    self.observer.failed(ingress, &failure);
                    tracing::warn!(%ingress, %stream, %error, "shards not listed yet; retrying");
                }
            }
            backoff.wait().await;
        }
    }

    /// The consumer's ARN, if one is configured and available, and the stream's retention in hours.
    async fn describe(&self) -> (Option<String>, u64) {
        let (ingress, stream) = (&self.options.ingress, &self.options.stream);
        let mut backoff = Backoff::default();
        let described = loop {
            match requests::describe(&self.client, stream).await {
                Err(failure @ (RequestFailure::Throttled(_) | RequestFailure::Unavailable(_)))
                    if backoff.failures() < 10 =>
                {
                    self.observer
                        .retried("DescribeStreamSummary", failure.is_throttling());
                    backoff.wait().await;
                }
                described => break described,
            }
        };
        let (arn, hours) = match described {
            Ok(described) => described,
            Err(error) => {
                tracing::warn!(
                    %ingress,
                    %stream,
                    %error,
                    retention_hours = RETENTION_HOURS_MIN,
                    "stream cannot be described; polling, and assuming the minimum retention"
                );
                return (None, RETENTION_HOURS_MIN);
            }
        };
        let hours = hours.max(RETENTION_HOURS_MIN);
        let Some(name) = &self.options.consumer else {
            return (None, hours);
        };
        match fan_out::register(&self.client, &arn, name).await {
            Ok(consumer) => {
                tracing::info!(
                    %ingress,
                    %stream,
                    consumer,
                    "reading by enhanced fan-out; the consumer stays registered until it is removed"
                );
                (Some(consumer), hours)
            }
            Err(error) => {
                tracing::error!(
                    %ingress,
                    %stream,
                    consumer = name,
                    %error,
                    "consumer for enhanced fan-out not registered; polling instead"
                );
                (None, hours)
            }
        }
    }
}

/// Startup position. A date before the oldest record becomes the beginning, so that it does not
/// look like an expired position.
fn resolved_startup(shared: &Shared) -> Startup {
    match shared.options.startup {
        Startup::Date(date_ms)
            if date_ms.saturating_add(shared.retention_ms) <= calendar_ms() + CLOCK_MARGIN_MS =>
        {
            Startup::Earliest
        }
        startup => startup,
    }
}

/// Outcome of the reader of one shard: its id, if its end is durable.
pub(super) type Read = Result<Option<Arc<str>>, KinesisError>;

/// The plan, and the readers that carry it out.
struct Readers {
    shared: Arc<Shared>,
    plan: ShardPlan,
    listed: HashMap<Arc<str>, ListedShard>,
    readers: JoinSet<Read>,
    /// Time since which every list shows a shard open that was read to its end.
    reopened: Option<Instant>,
}

/// Number of intervals of listing for which a shard that was read to its end must be listed as open
/// until it counts as another one. A list may be older than the end.
const REOPENED_INTERVALS: u32 = 3;

impl Readers {
    /// Reads until the partition has ended or the stream cannot be read. No reader of a shard
    /// outlives it, so that the stream may be read anew.
    async fn run(mut self, first: Vec<ListedShard>, elsewhere: Vec<Arc<str>>) -> Result<(), Stop> {
        let outcome = self.read(first, elsewhere).await;
        self.readers.shutdown().await;
        outcome
    }

    async fn read(
        &mut self,
        first: Vec<ListedShard>,
        elsewhere: Vec<Arc<str>>,
    ) -> Result<(), Stop> {
        self.await_ends(elsewhere).await?;
        self.apply_list(first).await?;
        let interval = self.shared.options.list_interval;
        let mut list_at = Instant::now() + interval;
        loop {
            tokio::select! {
                Some(read) = self.readers.join_next() => {
                    if let Some(shard) = ended(read)? {
                        let steps = self.plan.ended(&shard);
                        self.perform(steps, HashMap::new()).await?;
                    }
                    // The last list may be older than its children.
                    list_at = Instant::now();
                }
                () = tokio::time::sleep_until(list_at) => {
                    let list = self.shared.list().await?;
                    self.apply_list(list).await?;
                    list_at = Instant::now() + interval;
                }
            }
        }
    }

    /// Waits for the ends of shards that other partitions read. The stream may not list them any
    /// more.
    async fn await_ends(&mut self, elsewhere: Vec<Arc<str>>) -> Result<(), Stop> {
        let mut found = Vec::with_capacity(elsewhere.len());
        for id in elsewhere {
            let shard = self.shared.shard_id(&id);
            let ended = self.shared.reading.expect(shard.clone());
            self.readers
                .spawn(async move { Ok(ended.await.ok().map(|_| id)) });
            found.push(FoundShard {
                shard,
                start: ShardPosition::Elsewhere,
                hash_range: None,
            });
        }
        match found.is_empty() {
            true => Ok(()),
            false => self.shared.send(Input::ShardsFound(found)).await,
        }
    }

    async fn apply_list(&mut self, list: Vec<ListedShard>) -> Result<(), Stop> {
        let mut fresh = HashMap::new();
        let mut since_ms = calendar_ms();
        if self.plan.is_unresolved() && self.shared.options.startup == Startup::Latest {
            // These iterators read what arrives from now on. The time matters only if nothing
            // arrives before the next owner starts.
            fresh = self.newest(&list).await?;
            since_ms = since_ms.saturating_sub(CLOCK_MARGIN_MS);
        }
        let steps = self.plan.listed(&list, since_ms);
        self.check_reopened()?;
        self.listed = list
            .into_iter()
            .map(|shard| (shard.id.clone(), shard))
            .collect();
        self.perform(steps, fresh).await
    }

    /// Checks that no shard that was read to its end is open for good: it would never be read.
    fn check_reopened(&mut self) -> Result<(), Stop> {
        let Some(shard) = self.plan.reopened() else {
            self.reopened = None;
            return Ok(());
        };
        let since = *self.reopened.get_or_insert_with(Instant::now);
        let longest = self.shared.options.list_interval * REOPENED_INTERVALS;
        if since.elapsed() < longest {
            return Ok(());
        }
        let shard = self.shared.shard_id(shard);
        Err(KinesisError::AnotherStream { shard }.into())
    }

    /// Iterators after the newest record of every open shard.
    async fn newest(&self, list: &[ListedShard]) -> Result<HashMap<Arc<str>, String>, Stop> {
        let (client, stream) = (&self.shared.client, &*self.shared.options.stream);
        let mut newest = HashMap::new();
        let mut backoff = Backoff::default();
        let mut denials = Denials::default();
        for shard in list.iter().filter(|shard| !shard.closed) {
            let iterator = loop {
                match requests::shard_iterator(client, stream, &shard.id, &ReadFrom::Newest).await {
                    Ok(iterator) => break iterator,
                    Err(failure) => {
                        self.shared
                            .report_retry("GetShardIterator", Some(&shard.id), &failure);
                        self.shared.note_denial(&mut denials, &failure)?;
                        if let RequestFailure::Missing(_) = failure {
                            // Reports a stream that was deleted meanwhile.
                            self.shared.list().await?;
                        }
                    }
                }
                backoff.wait().await;
            };
            newest.insert(shard.id.clone(), iterator);
        }
        Ok(newest)
    }

    async fn perform(
        &mut self,
        steps: Vec<Step>,
        mut fresh: HashMap<Arc<str>, String>,
    ) -> Result<(), Stop> {
        let mut steps = std::collections::VecDeque::from(steps);
        while let Some(step) = steps.pop_front() {
            match step {
                Step::Find(found) => self.start_readers(found, &mut fresh).await?,
                Step::Forget(shard) => {
                    let shard = self.shared.shard_id(&shard);
                    self.shared.send(Input::ShardForgotten { shard }).await?;
                }
                Step::Lost(shard) => {
                    let id = self.shared.shard_id(&shard);
                    accept_loss(&self.shared, &id)?;
                    let ended = self.shared.reading.expect(id.clone());
                    self.shared.send(Input::ShardEnded { shard: id }).await?;
                    ended.await.map_err(|_| Stop::PartitionClosed)?;
                    steps.extend(self.plan.ended(&shard));
                }
            }
        }
        Ok(())
    }

    /// Announces shards to the partition, all together, and starts readers that wait for its
    /// command.
    async fn start_readers(
        &mut self,
        found: Applied,
        fresh: &mut HashMap<Arc<str>, String>,
    ) -> Result<(), Stop> {
        let mut shards: Vec<_> = Vec::with_capacity(found.len());
        for (shard, start) in found {
            let Some(listed) = self.listed.get(&shard).cloned() else {
                continue;
            };
            let id = self.shared.shard_id(&shard);
            let started = self.shared.reading.expect(id.clone());
            let fresh = fresh.remove(&shard);
            shards.push(FoundShard {
                shard: id,
                start,
                hash_range: listed.hash_range,
            });
            let reader = read_shard(self.shared.clone(), listed, fresh, started);
            self.readers.spawn(reader);
        }
        log_found(&shards);
        self.shared.send(Input::ShardsFound(shards)).await
    }
}

fn log_found(shards: &[FoundShard]) {
    for FoundShard { shard, start, .. } in shards {
        tracing::info!(%shard, ?start, "shard found");
    }
}

/// The shard whose end is durable, if that is the reason why a reader ended.
pub(super) fn ended(read: Result<Read, tokio::task::JoinError>) -> Result<Option<Arc<str>>, Stop> {
    match read {
        Ok(Ok(Some(shard))) => Ok(Some(shard)),
        Ok(Ok(None)) => Err(Stop::PartitionClosed),
        Ok(Err(error)) => Err(Stop::Error(error)),
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}
