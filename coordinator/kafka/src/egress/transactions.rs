//! Producer with transactions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError as ClientError, KafkaResult};
use rdkafka::producer::Producer as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::produce::Client;
use super::producer::DEFAULTS;
use super::{EgressHandle, Ownership};
use crate::client::{Connection, Diagnostics, REQUEST_TIMEOUT, blocking, described, diagnosed};
use crate::exactly_once::{Mark, Transacted, Transactions};
use crate::outbox::Fate;
use crate::record::ProducerRecord;

/// Maximum age of the confirmed ownership when a session begins. An older owner may be a zombie,
/// which would fence the present owner for a moment.
const CONFIRMATION: Duration = Duration::from_secs(5);

/// Interval at which ownership is checked while it is not confirmed.
const OWNERSHIP_INTERVAL: Duration = Duration::from_millis(50);

/// Maximum time for the end of the transactions of former owners.
const INIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Partition of each topic whose offset is the mark. Every topic has it.
const MARKED_PARTITION: i32 = 0;

/// Producer with transactions. A session is a client of librdkafka.
pub(super) struct TransactionalProducer {
    connection: Connection,
    handle: EgressHandle,
    transactional_id: String,
    transaction_timeout: Duration,
    ownership: Arc<dyn Ownership>,
    session: Option<Session>,
}

/// Clients of one session.
#[derive(Clone)]
struct Session {
    client: Client,
    /// Consumer of the group that holds the marks. It reads no topic.
    group: Arc<BaseConsumer<GroupContext>>,
}

struct GroupContext {
    diagnostics: Diagnostics,
}

impl ClientContext for GroupContext {
    diagnosed!();
}

impl ConsumerContext for GroupContext {}

impl TransactionalProducer {
    /// Checks the settings. Connects to nothing yet.
    pub(super) fn new(
        connection: Connection,
        handle: EgressHandle,
        transactional_id: String,
        transaction_timeout: Duration,
        ownership: Arc<dyn Ownership>,
    ) -> Result<Self, String> {
        let producer = Self {
            connection,
            handle,
            transactional_id,
            transaction_timeout,
            ownership,
            session: None,
        };
        producer.connect().map(|_| producer)
    }

    fn connect(&self) -> Result<Session, String> {
        let timeout_ms = self.transaction_timeout.as_millis().to_string();
        let config = self.connection.config(
            DEFAULTS,
            &[
                ("acks", "all"),
                ("transactional.id", &self.transactional_id),
                ("transaction.timeout.ms", &timeout_ms),
            ],
        );
        let client = Client::new(&config, &self.connection, self.handle.clone())?;
        let mut settings = self.connection.clone();
        // Settings of a producer would only be warned of.
        settings
            .settings
            .client
            .retain(|name, _| is_for_any_client(name));
        let config = settings.config(
            &[],
            &[
                ("group.id", &self.transactional_id),
                // Offsets of a transaction that is not completed are waited for.
                ("isolation.level", "read_committed"),
                ("enable.auto.commit", "false"),
            ],
        );
        let context = GroupContext {
            diagnostics: Diagnostics::new(Arc::clone(&self.handle.id), &self.connection),
        };
        let group = config.create_with_context(context).map_err(described)?;
        Ok(Session {
            client,
            group: Arc::new(group),
        })
    }

    async fn end_session(&mut self) {
        if let Some(session) = self.session.take() {
            let Session { client, group } = session;
            client.close().await;
            blocking(move || drop(group)).await;
        }
    }
}

/// Returns whether a setting is one of all clients: of connections, TLS and signing in.
fn is_for_any_client(name: &str) -> bool {
    let prefixes = [
        "ssl.",
        "sasl.",
        "security.",
        "socket.",
        "broker.",
        "reconnect.",
    ];
    prefixes.iter().any(|prefix| name.starts_with(prefix)) || name == "client.id"
}

impl Transactions for TransactionalProducer {
    async fn begin_session(&mut self) -> Result<(), String> {
        self.end_session().await;
        while self.ownership.confirmed_ago() >= CONFIRMATION {
            tokio::time::sleep(OWNERSHIP_INTERVAL).await;
        }
        let session = self.connect()?;
        let producer = session.client.producer().clone();
        self.session = Some(session);
        let begun = blocking(move || producer.init_transactions(INIT_TIMEOUT)).await;
        begun.map_err(|error| format!("beginning a session of transactions: {error}"))
    }

    async fn marks(&mut self, topics: &[Arc<str>]) -> Result<BTreeMap<Arc<str>, Mark>, String> {
        let session = self.session.as_ref().ok_or("there is no session")?;
        let (group, topics) = (Arc::clone(&session.group), topics.to_vec());
        blocking(move || {
            let read = committed(&group, &topics);
            let read = read.map_err(|error| format!("reading marks: {error}"))?;
            let mut marks = BTreeMap::new();
            for (topic, offset, metadata) in read {
                let mark = Mark::read(offset, &metadata).ok_or_else(|| {
                    format!("the mark of topic {topic} is not known to this version")
                })?;
                marks.insert(topic, mark);
            }
            Ok(marks)
        })
        .await
    }

    async fn transact(
        &mut self,
        records: &[Arc<ProducerRecord>],
        marks: &BTreeMap<Arc<str>, Mark>,
    ) -> Transacted {
        let Some(session) = self.session.clone() else {
            return Transacted::InDoubt("there is no session".to_owned());
        };
        let client = &session.client;
        let unusable = client.unusable_topics(records).await;
        if !unusable.is_empty() {
            let fates = records.iter().map(|record| {
                let found = unusable.iter().find(|(topic, _)| *topic == record.topic);
                found.map_or(Fate::Again, |(_, fate)| fate.clone())
            });
            return Transacted::Aborted(fates.collect());
        }
        if let Err(error) = client.producer().begin_transaction() {
            return Transacted::InDoubt(format!("beginning a transaction: {error}"));
        }
        let fates = client.send(records).await;
        let all_delivered = fates.iter().all(|fate| *fate == Fate::Delivered);
        let deadline = Instant::now() + self.transaction_timeout;
        let producer = client.producer().clone();
        let outcome = if all_delivered {
            let (group, marks) = (Arc::clone(&session.group), marks.clone());
            blocking(move || {
                let metadata = group.group_metadata().ok_or(ClientError::Canceled)?;
                let offsets = offsets(&marks)?;
                repeated(deadline, || {
                    producer.send_offsets_to_transaction(&offsets, &metadata, REQUEST_TIMEOUT)
                })?;
                repeated(deadline, || producer.commit_transaction(REQUEST_TIMEOUT))
            })
            .await
        } else {
            Err(ClientError::Canceled)
        };
        let error = match outcome {
            Ok(()) => return Transacted::Committed,
            Err(error) => error,
        };
        let may_abort = match &error {
            // Nothing was committed yet.
            ClientError::Canceled => true,
            ClientError::Transaction(error) => error.txn_requires_abort(),
            _ => false,
        };
        if !may_abort {
            return Transacted::InDoubt(format!("committing a transaction: {error}"));
        }
        let producer = client.producer().clone();
        let aborted =
            blocking(move || repeated(deadline, || producer.abort_transaction(REQUEST_TIMEOUT)));
        match aborted.await {
            Err(error) => Transacted::InDoubt(format!("aborting a transaction: {error}")),
            Ok(()) if all_delivered => {
                let reason = format!("committing a transaction: {error}");
                Transacted::Aborted(vec![Fate::Retry(reason); records.len()])
            }
            Ok(()) => Transacted::Aborted(fates),
        }
    }
}

/// Repeats a request while its error says that a repetition may succeed.
fn repeated(deadline: Instant, mut request: impl FnMut() -> KafkaResult<()>) -> KafkaResult<()> {
    loop {
        match request() {
            Err(ClientError::Transaction(error))
                if error.is_retriable() && Instant::now() < deadline => {}
            done => return done,
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn offsets(marks: &BTreeMap<Arc<str>, Mark>) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(marks.len());
    for (topic, mark) in marks {
        let offset = Offset::Offset(i64::try_from(mark.last).unwrap_or(i64::MAX));
        let mut element = list.add_partition(topic, MARKED_PARTITION);
        element.set_offset(offset)?;
        element.set_metadata(mark.metadata());
    }
    Ok(list)
}

/// Offsets of the group, with their metadata, for topics that have one.
fn committed(
    group: &BaseConsumer<GroupContext>,
    topics: &[Arc<str>],
) -> KafkaResult<Vec<(Arc<str>, i64, String)>> {
    // Requests for tokens are handled here.
    let _ = group.poll(Duration::ZERO);
    let mut list = TopicPartitionList::with_capacity(topics.len());
    for topic in topics {
        list.add_partition(topic, MARKED_PARTITION);
    }
    let found = group.committed_offsets(list, REQUEST_TIMEOUT)?;
    let mut committed = Vec::new();
    for topic in topics {
        for element in found.elements_for_topic(topic) {
            element.error()?;
            if let Offset::Offset(offset) = element.offset() {
                let metadata = element.metadata().to_owned();
                committed.push((Arc::clone(topic), offset, metadata));
            }
        }
    }
    Ok(committed)
}
