//! The ingress: plans a stream's shards, reads each, and keeps looking for new ones.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_kinesis::Client;
use satchel_engine::input::Input;
use satchel_engine::position::ShardPosition;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::error::Stop;
use super::fan_out;
use super::requests::{self, From, Trouble};
use super::shard::{CLOCK_MARGIN_MS, Shared, accept_loss, now_ms, read_shard};
use super::{KinesisError, KinesisObserver, ReadingPort, Router};
use satchel_engine::source::shards::{Applied, ListedShard, ShardPlan, Startup, Step};

/// What is read, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KinesisOptions {
    /// The ingress's id, `namespace/name`.
    pub ingress: Arc<str>,
    /// The stream's name.
    pub stream: Arc<str>,
    /// Where a stream that was never read is begun.
    pub startup: Startup,
    /// What to do when the stream has forgotten what was not read yet.
    pub on_expired: ExpiredPosition,
    /// The name under which a consumer is registered for enhanced fan-out; none to poll.
    pub consumer: Option<String>,
    /// How long is waited from one read of a shard to the next: Kinesis allows five a second for all that read it together.
    pub read_interval: Duration,
    /// At most so many records are asked for in one read, up to 10,000.
    pub records_per_read: i32,
    /// How often shards are listed when nothing says that there are new ones.
    pub list_interval: Duration,
    /// How many answers, of up to 10 MB each, may be in memory at once.
    pub answers_max: usize,
}

/// What to do when the stream has forgotten what was not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExpiredPosition {
    /// Stop with an error that names it.
    #[default]
    Stop,
    /// Log it, and go on with the oldest record that is left.
    Earliest,
}

/// Reads one Kinesis stream for one ingress.
pub struct KinesisIngress {
    client: Client,
    options: KinesisOptions,
    router: Router,
    observer: Arc<dyn KinesisObserver>,
}

/// How long a stream keeps records at least, for when it may not be asked.
const RETENTION_HOURS_MIN: u64 = 24;

impl KinesisOptions {
    /// Reads `stream` for `ingress` from its newest record on, by polling.
    pub fn new(ingress: impl Into<Arc<str>>, stream: impl Into<Arc<str>>) -> Self {
        Self {
            ingress: ingress.into(),
            stream: stream.into(),
            startup: Startup::Latest,
            on_expired: ExpiredPosition::Stop,
            consumer: None,
            read_interval: Duration::from_millis(200),
            records_per_read: 10_000,
            list_interval: Duration::from_secs(20),
            answers_max: 16,
        }
    }
}

impl KinesisIngress {
    /// Reads with this AWS configuration.
    pub fn new(
        config: &SdkConfig,
        options: KinesisOptions,
        router: Router,
        observer: Arc<dyn KinesisObserver>,
    ) -> Self {
        Self {
            client: Client::new(config),
            options,
            router,
            observer,
        }
    }

    /// Reads until the partition is gone, which is when nobody takes `inputs` any more.
    ///
    /// # Errors
    ///
    /// [`KinesisError`]: no such stream, no right to list its shards, or records that it has forgotten before they were read.
    pub async fn run(
        self,
        inputs: mpsc::Sender<Input>,
        reading: Arc<dyn ReadingPort>,
    ) -> Result<(), KinesisError> {
        let gone = inputs.clone();
        let read = async {
            match self.read(inputs, reading).await {
                Ok(()) | Err(Stop::Gone) => Ok(()),
                Err(Stop::Error(error)) => Err(error),
            }
        };
        tokio::select! {
            read = read => read,
            () = gone.closed() => Ok(()),
        }
    }

    async fn read(
        self,
        inputs: mpsc::Sender<Input>,
        reading: Arc<dyn ReadingPort>,
    ) -> Result<(), Stop> {
        let first = self.first_look().await?;
        tracing::info!(ingress = %self.options.ingress, stream = %self.options.stream, shards = first.len(), "reading a Kinesis stream");
        let (consumer, retention_hours) = self.describe().await;
        let shared = Arc::new(Shared {
            answers: Semaphore::new(self.options.answers_max),
            client: self.client,
            router: self.router,
            observer: self.observer,
            inputs,
            reading,
            retention_ms: retention_hours * 3_600_000,
            consumer,
            options: self.options,
        });
        let (ingress, stream) = (
            shared.options.ingress.clone(),
            shared.options.stream.clone(),
        );
        let planned = shared.reading.expect_plan(ingress.clone(), stream.clone());
        shared.tell(Input::StreamFound { ingress, stream }).await?;
        let applied = planned.await.map_err(|_| Stop::Gone)?;
        let plan = ShardPlan::new(resolved(&shared), applied);
        let readers = JoinSet::new();
        Readers {
            shared,
            plan,
            listed: HashMap::new(),
            readers,
        }
        .run(first)
        .await
    }

    /// What can not be read at all is told before anything is begun.
    async fn first_look(&self) -> Result<Vec<ListedShard>, Stop> {
        let (ingress, stream) = (&self.options.ingress, &self.options.stream);
        let mut backoff = Backoff::default();
        loop {
            match requests::list_shards(&self.client, stream).await {
                Ok(shards) if !shards.is_empty() => return Ok(shards),
                Ok(_) => {}
                Err(Trouble::Missing(_)) => {
                    return Err(Stop::Error(KinesisError::NoStream {
                        ingress: ingress.to_string(),
                        stream: stream.to_string(),
                    }));
                }
                Err(Trouble::Denied(reason) | Trouble::Invalid(reason)) => {
                    return Err(Stop::Error(KinesisError::Refused {
                        ingress: ingress.to_string(),
                        stream: stream.to_string(),
                        reason,
                    }));
                }
                Err(trouble) => {
                    self.observer
                        .repeated("ListShards", trouble.is_throttling());
                    tracing::warn!(%ingress, %stream, error = %trouble, "the shards can not be listed yet; the request is repeated");
                }
            }
            backoff.wait().await;
        }
    }

    /// The consumer's ARN, if one is wanted and can be had, and for how many hours the stream keeps records.
    async fn describe(&self) -> (Option<String>, u64) {
        let (ingress, stream) = (&self.options.ingress, &self.options.stream);
        let mut backoff = Backoff::default();
        let described = loop {
            match requests::describe(&self.client, stream).await {
                Err(trouble @ (Trouble::Throttled(_) | Trouble::Unanswered(_)))
                    if backoff.failures() < 10 =>
                {
                    self.observer
                        .repeated("DescribeStreamSummary", trouble.is_throttling());
                    backoff.wait().await;
                }
                described => break described,
            }
        };
        let (arn, hours) = match described {
            Ok(described) => described,
            Err(error) => {
                tracing::warn!(%ingress, %stream, %error, "the stream can not be described: it is polled, and taken to keep records for {RETENTION_HOURS_MIN} h");
                return (None, RETENTION_HOURS_MIN);
            }
        };
        let hours = hours.max(RETENTION_HOURS_MIN);
        let Some(name) = &self.options.consumer else {
            return (None, hours);
        };
        match fan_out::register(&self.client, &arn, name).await {
            Ok(consumer) => {
                tracing::info!(%ingress, %stream, consumer, "reading by enhanced fan-out; the consumer stays registered until somebody deregisters it");
                (Some(consumer), hours)
            }
            Err(error) => {
                tracing::error!(%ingress, %stream, consumer = name, %error, "no consumer could be registered for enhanced fan-out: the stream is polled instead");
                (None, hours)
            }
        }
    }
}

/// A date before the oldest record is the beginning, so that it does not look like a position that has expired.
fn resolved(shared: &Shared) -> Startup {
    match shared.options.startup {
        Startup::Date(date_ms)
            if date_ms.saturating_add(shared.retention_ms) <= now_ms() + CLOCK_MARGIN_MS =>
        {
            Startup::Earliest
        }
        startup => startup,
    }
}

type Read = Result<Option<Arc<str>>, KinesisError>;

/// The plan and who carries it out.
struct Readers {
    shared: Arc<Shared>,
    plan: ShardPlan,
    listed: HashMap<Arc<str>, ListedShard>,
    readers: JoinSet<Read>,
}

impl Readers {
    async fn run(mut self, first: Vec<ListedShard>) -> Result<(), Stop> {
        self.take_list(first).await?;
        let interval = self.shared.options.list_interval;
        let mut list_at = Instant::now() + interval;
        loop {
            tokio::select! {
                Some(read) = self.readers.join_next() => {
                    if let Some(shard) = ended(read)? {
                        let steps = self.plan.ended(&shard);
                        self.carry_out(steps, HashMap::new()).await?;
                    }
                    // Its children may have been made after the last list.
                    list_at = Instant::now();
                }
                () = tokio::time::sleep_until(list_at) => {
                    let list = self.shared.list().await?;
                    self.take_list(list).await?;
                    list_at = Instant::now() + interval;
                }
            }
        }
    }

    async fn take_list(&mut self, list: Vec<ListedShard>) -> Result<(), Stop> {
        let mut fresh = HashMap::new();
        let mut since_ms = now_ms();
        if self.plan.is_unresolved() && self.shared.options.startup == Startup::Latest {
            // What arrives from now on is read by these; only if nothing does before the next owner begins, time is what tells it.
            fresh = self.newest(&list).await?;
            since_ms = since_ms.saturating_sub(CLOCK_MARGIN_MS);
        }
        let steps = self.plan.listed(&list, since_ms);
        self.listed = list
            .into_iter()
            .map(|shard| (shard.id.clone(), shard))
            .collect();
        self.carry_out(steps, fresh).await
    }

    /// Iterators behind the newest record of every open shard.
    async fn newest(&self, list: &[ListedShard]) -> Result<HashMap<Arc<str>, String>, Stop> {
        let (client, stream) = (&self.shared.client, &*self.shared.options.stream);
        let mut newest = HashMap::new();
        let mut backoff = Backoff::default();
        for shard in list.iter().filter(|shard| !shard.closed) {
            let iterator = loop {
                match requests::shard_iterator(client, stream, &shard.id, &From::Newest).await {
                    Ok(iterator) => break iterator,
                    Err(trouble) => {
                        self.shared
                            .repeat("GetShardIterator", Some(&shard.id), &trouble);
                    }
                }
                backoff.wait().await;
            };
            newest.insert(shard.id.clone(), iterator);
        }
        Ok(newest)
    }

    async fn carry_out(
        &mut self,
        steps: Vec<Step>,
        mut fresh: HashMap<Arc<str>, String>,
    ) -> Result<(), Stop> {
        let mut steps = std::collections::VecDeque::from(steps);
        while let Some(step) = steps.pop_front() {
            match step {
                Step::Find(found) => self.find(found, &mut fresh).await?,
                Step::Forget(shard) => {
                    let shard = self.shared.shard_id(&shard);
                    self.shared.tell(Input::ShardForgotten { shard }).await?;
                }
                Step::Lost(shard) => {
                    let id = self.shared.shard_id(&shard);
                    accept_loss(&self.shared, &id)?;
                    let ended = self.shared.reading.expect(id.clone());
                    self.shared.tell(Input::ShardEnded { shard: id }).await?;
                    ended.await.map_err(|_| Stop::Gone)?;
                    steps.extend(self.plan.ended(&shard));
                }
            }
        }
        Ok(())
    }

    /// Tells the partition of shards, together, and begins to read them when it says so.
    async fn find(
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
            let reader = read_shard(self.shared.clone(), listed, fresh, started);
            self.readers.spawn(reader);
            shards.push((id, start));
        }
        log_found(&shards);
        self.shared.tell(Input::ShardsFound(shards)).await
    }
}

fn log_found(shards: &[(satchel_engine::position::ShardId, ShardPosition)]) {
    for (shard, start) in shards {
        tracing::info!(%shard, ?start, "a shard was found");
    }
}

/// The shard whose end is durable, if that is how a reader ended.
fn ended(read: Result<Read, tokio::task::JoinError>) -> Result<Option<Arc<str>>, Stop> {
    match read {
        Ok(Ok(Some(shard))) => Ok(Some(shard)),
        Ok(Ok(None)) => Err(Stop::Gone),
        Ok(Err(error)) => Err(Stop::Error(error)),
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}
