//! Production of a round of records with one client, and what its errors mean.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::mpsc;

use super::EgressHandle;
use crate::client::{Connection, Diagnostics, REQUEST_TIMEOUT, blocking, code, diagnosed};
use crate::client::{described, is_missing};
use crate::outbox::Fate;
use crate::record::ProducerRecord;

/// Interval at which it is reported that brokers have not answered.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Pause while the queue of the client is full.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(5);

/// Result of one record: its index in its round, and the error, if there is one.
type Report = (usize, Option<ClientError>);

/// Callbacks of librdkafka.
pub(super) struct Context {
    diagnostics: Diagnostics,
    /// Results of the current round.
    reports: Mutex<Option<mpsc::UnboundedSender<Report>>>,
}

impl ClientContext for Context {
    diagnosed!();
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        let error = result.as_ref().err().map(|(error, _)| error.clone());
        let reports = self.reports.lock();
        if let Some(reports) = &*reports.unwrap_or_else(PoisonError::into_inner) {
            let _ = reports.send((index, error));
        }
    }
}

/// Client that sends rounds of records, one after the other.
#[derive(Clone)]
pub(super) struct Client {
    producer: ThreadedProducer<Context>,
    handle: EgressHandle,
    /// Topics that are known to exist.
    topics: Arc<Mutex<HashSet<Arc<str>>>>,
}

impl Client {
    /// Makes the client. It connects on its own.
    pub(super) fn new(
        config: &ClientConfig,
        connection: &Connection,
        handle: EgressHandle,
    ) -> Result<Self, String> {
        let context = Context {
            diagnostics: Diagnostics::new(Arc::clone(&handle.id), connection),
            reports: Mutex::default(),
        };
        Ok(Self {
            producer: config.create_with_context(context).map_err(described)?,
            handle,
            topics: Arc::default(),
        })
    }

    /// The client of librdkafka.
    pub(super) fn producer(&self) -> &ThreadedProducer<Context> {
        &self.producer
    }

    /// Ends the client, which may take a moment. What it has not sent is dropped.
    pub(super) async fn close(self) {
        blocking(move || drop(self)).await;
    }

    /// Error after which the client can do nothing any more.
    pub(super) fn fatal_error(&self) -> Option<String> {
        let (_, reason) = self.producer.client().fatal_error()?;
        Some(reason)
    }

    /// Looks for topics that were not known to exist. Returns those that do not, or cannot be
    /// written to, each with the fate of its records.
    pub(super) async fn unusable_topics(
        &self,
        records: &[Arc<ProducerRecord>],
    ) -> Vec<(Arc<str>, Fate)> {
        let mut unusable: Vec<(Arc<str>, Fate)> = Vec::new();
        let mut seen: HashSet<&Arc<str>> = HashSet::new();
        for record in records {
            let topic = &record.topic;
            if !seen.insert(topic) || self.known().contains(topic) {
                continue;
            }
            let (producer, name) = (self.producer.clone(), Arc::clone(topic));
            let found = blocking(move || {
                let metadata = producer
                    .client()
                    .fetch_metadata(Some(&name), REQUEST_TIMEOUT)?;
                let listed = metadata.topics().iter().find(|it| it.name() == &*name);
                match listed.and_then(|topic| topic.error()) {
                    Some(error) => Err(ClientError::MetadataFetch(error.into())),
                    None => Ok(()),
                }
            });
            match found.await {
                Ok(()) => {
                    self.known().insert(Arc::clone(topic));
                }
                Err(error) => unusable.push((Arc::clone(topic), fate(&error))),
            }
        }
        unusable
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<Arc<str>>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends records in order, and waits for the result of each.
    pub(super) async fn send(&self, records: &[Arc<ProducerRecord>]) -> Vec<Fate> {
        let (reports, mut reported) = mpsc::unbounded_channel();
        self.set_reports(Some(reports));
        let mut fates: Vec<Option<Fate>> = vec![None; records.len()];
        let mut outstanding = 0;
        for (index, record) in records.iter().enumerate() {
            match self.enqueue(index, record).await {
                Ok(()) => outstanding += 1,
                Err(error) => fates[index] = Some(fate(&error)),
            }
        }
        while outstanding > 0 {
            match tokio::time::timeout(REPORT_INTERVAL, reported.recv()).await {
                Ok(Some((index, error))) => {
                    outstanding -= 1;
                    let fate = error.as_ref().map_or(Fate::Delivered, fate);
                    if let Fate::Missing(_) = fate {
                        self.known().remove(&records[index].topic);
                    }
                    fates[index] = Some(fate);
                }
                Ok(None) => break,
                Err(_) => self.report_waiting(outstanding),
            }
        }
        self.set_reports(None);
        let fates = fates.into_iter();
        fates.map(|fate| fate.unwrap_or(Fate::Again)).collect()
    }

    fn set_reports(&self, reports: Option<mpsc::UnboundedSender<Report>>) {
        let context = self.producer.context();
        let mut current = context
            .reports
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *current = reports;
    }

    /// Hands a record to the client.
    async fn enqueue(&self, index: usize, record: &ProducerRecord) -> Result<(), ClientError> {
        loop {
            let mut sent: BaseRecord<'_, [u8], [u8], usize> =
                BaseRecord::with_opaque_to(&record.topic, index).payload(&record.value);
            if let Some(key) = &record.key {
                sent = sent.key(key);
            }
            if let Some(trace) = record.trace {
                let trace = trace.to_string();
                let header = Header {
                    key: "traceparent",
                    value: Some(&trace),
                };
                sent = sent.headers(OwnedHeaders::new_with_capacity(1).insert(header));
            }
            match self.producer.send(sent) {
                Ok(()) => return Ok(()),
                Err((error, _)) if code(&error) == Some(RDKafkaErrorCode::QueueFull) => {}
                Err((ClientError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge), _)) => {
                    // Refused before it is sent, so no other record can be the reason.
                    return Err(ClientError::MessageProduction(
                        RDKafkaErrorCode::InvalidMessageSize,
                    ));
                }
                Err((error, _)) => return Err(error),
            }
            tokio::time::sleep(QUEUE_FULL_PAUSE).await;
        }
    }

    fn report_waiting(&self, records: usize) {
        let reason = match self.producer.context().diagnostics.take_last() {
            Some(last) => last.reason,
            None => "the brokers have not answered".to_owned(),
        };
        let egress = &*self.handle.id;
        tracing::warn!(
            egress,
            records,
            reason,
            "records not delivered yet; retrying"
        );
        let observer = &self.handle.observer;
        observer.retried(egress, records as u64, &reason);
    }
}

/// Fate of a record, by the error with which it was not accepted.
pub(super) fn fate(error: &ClientError) -> Fate {
    let reason = error.to_string();
    let Some(code) = code(error) else {
        return Fate::Retry(reason);
    };
    match code {
        RDKafkaErrorCode::InvalidMessageSize => {
            Fate::Refused("it is larger than max.request.size".to_owned())
        }
        RDKafkaErrorCode::InvalidTopic => Fate::Refused(reason),
        // Brokers reject batches, not records.
        RDKafkaErrorCode::MessageSizeTooLarge
        | RDKafkaErrorCode::InvalidRecord
        | RDKafkaErrorCode::InvalidTimestamp => Fate::Suspect(reason),
        RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight => Fate::Again,
        code if is_missing(code) => Fate::Missing(reason),
        _ => Fate::Retry(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_whether_a_record_may_be_accepted_later() {
        let of = |code| fate(&ClientError::MessageProduction(code));
        assert!(matches!(
            of(RDKafkaErrorCode::InvalidMessageSize),
            Fate::Refused(_)
        ));
        assert!(matches!(
            of(RDKafkaErrorCode::MessageSizeTooLarge),
            Fate::Suspect(_)
        ));
        assert!(matches!(
            of(RDKafkaErrorCode::UnknownTopicOrPartition),
            Fate::Missing(_)
        ));
        assert!(matches!(
            of(RDKafkaErrorCode::TopicAuthorizationFailed),
            Fate::Retry(_)
        ));
        assert!(matches!(
            of(RDKafkaErrorCode::MessageTimedOut),
            Fate::Retry(_)
        ));
        assert_eq!(of(RDKafkaErrorCode::PurgeQueue), Fate::Again);
    }
}
