//! Consumer of one topic: requests to the brokers, and the stream of records.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::consumer::{CommitMode, Consumer as _, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError as ClientError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::IngressOptions;
use crate::client::{Diagnostics, REQUEST_TIMEOUT, blocking, code, described, diagnosed};
use crate::log_interval::LogInterval;
use crate::start::{PartitionFacts, Startup};

/// Group id of a client that informs no group. The client needs one, and never uses it.
const NO_GROUP: &str = "satchel";

/// Callbacks of librdkafka.
pub(super) struct Context {
    diagnostics: Diagnostics,
    topic: Arc<str>,
    /// End of each partition, from statistics.
    ends: Mutex<HashMap<i32, u64>>,
    commit_log: Mutex<LogInterval>,
}

impl ClientContext for Context {
    diagnosed!();

    fn stats(&self, statistics: Statistics) {
        let Some(topic) = statistics.topics.get(&*self.topic) else {
            return;
        };
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        for partition in topic.partitions.values() {
            let end = match partition.ls_offset >= 0 {
                true => partition.ls_offset,
                false => partition.hi_offset,
            };
            if let Ok(end) = u64::try_from(end) {
                ends.insert(partition.partition, end);
            }
        }
    }
}

impl ConsumerContext for Context {
    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        let Err(error) = result else {
            return;
        };
        let log = self.commit_log.lock();
        if log.unwrap_or_else(PoisonError::into_inner).admits() {
            let topic = &*self.topic;
            tracing::warn!(topic, %error, "consumer group not informed; reading continues");
        }
    }
}

/// Failure of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RequestFailure {
    /// The topic does not exist.
    Missing,
    /// The brokers deny access.
    Denied(String),
    /// Any other reason. A retry may succeed.
    Unavailable(String),
}

/// Consumer that is assigned the partitions of one topic. Cheap to clone.
#[derive(Clone)]
pub(super) struct Consumer {
    client: Arc<StreamConsumer<Context>>,
    topic: Arc<str>,
    has_group: bool,
}

impl Consumer {
    /// Makes the client. It connects on its own.
    pub(super) fn new(options: &IngressOptions) -> Result<Self, String> {
        let group = options.group.as_deref();
        let config = options.connection.config(
            &[
                ("isolation.level", "read_committed"),
                ("check.crcs", "true"),
                ("queued.max.messages.kbytes", "16384"),
            ],
            &[
                ("group.id", group.unwrap_or(NO_GROUP)),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("enable.partition.eof", "false"),
                ("auto.offset.reset", "error"),
                ("allow.auto.create.topics", "false"),
                ("statistics.interval.ms", "2000"),
            ],
        );
        let context = Context {
            diagnostics: Diagnostics::new(Arc::clone(&options.ingress), &options.connection),
            topic: Arc::clone(&options.topic),
            ends: Mutex::default(),
            commit_log: Mutex::default(),
        };
        let client = config.create_with_context(context).map_err(described)?;
        Ok(Self {
            client: Arc::new(client),
            topic: Arc::clone(&options.topic),
            has_group: group.is_some(),
        })
    }

    /// Waits for the next record or error.
    pub(super) async fn receive(&self) -> KafkaResult<BorrowedMessage<'_>> {
        self.client.recv().await
    }

    /// Ends of the partitions, as far as they are known.
    pub(super) fn ends(&self) -> HashMap<i32, u64> {
        let ends = self.client.context().ends.lock();
        ends.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the last error that the client reported on its own, if it says that the brokers deny
    /// access.
    pub(super) fn last_denial(&self) -> Option<String> {
        let last = self.client.context().diagnostics.take_last()?;
        last.is_denial.then_some(last.reason)
    }

    /// Runs a request while events of the client are handled, among them requests for tokens.
    /// Nothing may be assigned yet, because records would be lost.
    async fn request<T: Send + 'static>(
        &self,
        work: impl FnOnce(&StreamConsumer<Context>) -> T + Send + 'static,
    ) -> T {
        let client = Arc::clone(&self.client);
        let mut working = std::pin::pin!(blocking(move || work(&client)));
        loop {
            tokio::select! {
                done = &mut working => return done,
                // Errors are known to the context too.
                _event = self.client.recv() => {}
            }
        }
    }

    /// Partitions of the topic, by number. Handles no events, so it may run beside
    /// [`Consumer::receive`].
    pub(super) async fn partitions(&self) -> Result<Vec<u32>, RequestFailure> {
        let client = Arc::clone(&self.client);
        let topic = Arc::clone(&self.topic);
        let listed = blocking(move || partitions(&client, &topic)).await;
        self.denied_instead(listed)
    }

    /// Partitions of the topic, before anything is assigned.
    pub(super) async fn first_partitions(&self) -> Result<Vec<u32>, RequestFailure> {
        let topic = Arc::clone(&self.topic);
        let listed = self.request(move |client| partitions(client, &topic)).await;
        self.denied_instead(listed)
    }

    /// Replaces a failure to connect by the reason that the client reported on its own.
    fn denied_instead<T>(&self, outcome: Result<T, RequestFailure>) -> Result<T, RequestFailure> {
        match outcome {
            Err(RequestFailure::Unavailable(reason)) => Err(match self.last_denial() {
                Some(denial) => RequestFailure::Denied(denial),
                None => RequestFailure::Unavailable(reason),
            }),
            other => other,
        }
    }

    /// Facts by which the starts of partitions are resolved.
    pub(super) async fn facts(
        &self,
        partitions: &[u32],
        startup: &Startup,
    ) -> Result<BTreeMap<u32, PartitionFacts>, RequestFailure> {
        let topic = Arc::clone(&self.topic);
        let partitions = partitions.to_vec();
        let startup = startup.clone();
        self.request(move |client| {
            facts(client, &topic, &partitions, &startup).map_err(|error| failure(&error))
        })
        .await
    }

    /// Oldest offset and end of a partition.
    pub(super) async fn bounds(&self, partition: u32) -> Result<(u64, u64), RequestFailure> {
        let client = Arc::clone(&self.client);
        let topic = Arc::clone(&self.topic);
        blocking(move || bounds(&client, &topic, partition).map_err(|error| failure(&error))).await
    }

    /// Begins to read these partitions, each at an offset.
    pub(super) fn assign(&self, starts: &[(u32, u64)]) -> KafkaResult<()> {
        let list = self.list(starts)?;
        self.client.incremental_assign(&list)
    }

    /// Stops reading these partitions.
    pub(super) fn unassign(&self, partitions: &[u32]) -> KafkaResult<()> {
        let starts: Vec<(u32, u64)> = partitions.iter().map(|it| (*it, 0)).collect();
        self.client.incremental_unassign(&self.list(&starts)?)
    }

    /// Pauses or resumes all partitions.
    pub(super) fn set_paused(&self, paused: bool) -> KafkaResult<()> {
        let assigned = self.client.assignment()?;
        match paused {
            true => self.client.pause(&assigned),
            false => self.client.resume(&assigned),
        }
    }

    /// Informs the group, if there is one, of the next offset of partitions. Waits for nothing.
    pub(super) fn inform(&self, offsets: &[(u32, u64)]) {
        if !self.has_group || offsets.is_empty() {
            return;
        }
        let informed = self
            .list(offsets)
            .and_then(|list| self.client.commit(&list, CommitMode::Async));
        if let Err(error) = informed {
            self.client
                .context()
                .commit_callback(Err(error), &TopicPartitionList::new());
        }
    }

    fn list(&self, offsets: &[(u32, u64)]) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (partition, offset) in offsets {
            let offset = Offset::Offset(i64::try_from(*offset).unwrap_or(i64::MAX));
            list.add_partition_offset(&self.topic, number(*partition), offset)?;
        }
        Ok(list)
    }

    /// Ends the client, which may take a moment.
    pub(super) async fn close(self) {
        blocking(move || drop(self)).await;
    }
}

fn number(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

fn partitions(client: &StreamConsumer<Context>, topic: &str) -> Result<Vec<u32>, RequestFailure> {
    let metadata = client.fetch_metadata(Some(topic), REQUEST_TIMEOUT);
    let metadata = metadata.map_err(|error| failure(&error))?;
    let listed = metadata.topics().iter().find(|it| it.name() == topic);
    let listed = listed.ok_or(RequestFailure::Missing)?;
    if let Some(error) = listed.error() {
        return Err(failure(&ClientError::MetadataFetch(error.into())));
    }
    let mut numbers: Vec<u32> = listed
        .partitions()
        .iter()
        .filter_map(|partition| u32::try_from(partition.id()).ok())
        .collect();
    numbers.sort_unstable();
    match numbers.is_empty() {
        true => Err(RequestFailure::Missing),
        false => Ok(numbers),
    }
}

fn bounds(
    client: &StreamConsumer<Context>,
    topic: &str,
    partition: u32,
) -> KafkaResult<(u64, u64)> {
    let (oldest, end) = client.fetch_watermarks(topic, number(partition), REQUEST_TIMEOUT)?;
    let valid = |offset: i64| u64::try_from(offset).unwrap_or_default();
    Ok((valid(oldest), valid(end)))
}

fn facts(
    client: &StreamConsumer<Context>,
    topic: &str,
    partitions: &[u32],
    startup: &Startup,
) -> KafkaResult<BTreeMap<u32, PartitionFacts>> {
    let mut facts = BTreeMap::new();
    for partition in partitions {
        let (oldest, end) = bounds(client, topic, *partition)?;
        let known = PartitionFacts {
            oldest,
            end,
            ..PartitionFacts::default()
        };
        facts.insert(*partition, known);
    }
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        let offset = match startup {
            Startup::Date(ms) => Offset::Offset(i64::try_from(*ms).unwrap_or(i64::MAX)),
            _ => Offset::Invalid,
        };
        list.add_partition_offset(topic, number(*partition), offset)?;
    }
    let found = match startup {
        Startup::GroupOffsets => client.committed_offsets(list, REQUEST_TIMEOUT)?,
        Startup::Date(_) => client.offsets_for_times(list, REQUEST_TIMEOUT)?,
        Startup::Latest | Startup::Earliest | Startup::SpecificOffsets(_) => return Ok(facts),
    };
    for element in found.elements_for_topic(topic) {
        element.error()?;
        let offset = match element.offset() {
            Offset::Offset(offset) => u64::try_from(offset).ok(),
            _ => None,
        };
        let partition = u32::try_from(element.partition()).unwrap_or_default();
        if let Some(known) = facts.get_mut(&partition) {
            match startup {
                Startup::GroupOffsets => known.committed = offset,
                _ => known.at_date = offset,
            }
        }
    }
    Ok(facts)
}

fn failure(error: &ClientError) -> RequestFailure {
    let reason = error.to_string();
    match code(error) {
        Some(code) if crate::client::is_missing(code) => RequestFailure::Missing,
        Some(code) if crate::client::is_denied(code) => RequestFailure::Denied(reason),
        Some(RDKafkaErrorCode::GroupAuthorizationFailed) => RequestFailure::Denied(reason),
        _ => RequestFailure::Unavailable(reason),
    }
}
