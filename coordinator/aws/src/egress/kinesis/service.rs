//! Adapter of Kinesis.

use aws_config::SdkConfig;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::ProvideErrorMetadata;
use aws_sdk_kinesis::operation::put_records::PutRecordsError;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, PutRecordsResultEntry};
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt};
use prost::Message;
use satchel_engine::output::Emission;
use satchel_engine::sink::delivery::{Limits, Outcome, Record, Request};
use satchel_engine::sink::exactly_once::{PutOutcome, PutResult, StreamRecord};
use satchel_protocol::egress::{KINESIS_RECORD_TYPENAME, KinesisEgressRecord};
use std::sync::Arc;

use super::ordering::LastNumbers;
use super::{KinesisSettings, Ordering};
use crate::egress::{Answer, Service, failure, with_timeout};
use crate::error_text::{describe, describe_entry};

/// Maximum number of records in a request, as in the API.
const RECORDS_PER_REQUEST: usize = 500;

/// Maximum size of a request in bytes, keys included, for streams with the default record size.
const BYTES_PER_REQUEST: usize = 5 << 20;

/// Maximum size of a request in bytes, keys included, for streams that accept larger records.
const BYTES_PER_REQUEST_LARGE: usize = 10 << 20;

/// Maximum number of requests in flight per stream: enough to use the connection, and few enough
/// for batches to gather.
const REQUESTS_IN_FLIGHT: usize = 4;

/// Maximum number of records that a request puts at a time if each is put on its own.
const SINGLE_PUTS_MAX: usize = 64;

/// Puts records at least once.
#[derive(Debug, Clone)]
pub struct KinesisService {
    pub(super) client: Client,
    pub(super) settings: KinesisSettings,
    /// Filled with [`Ordering::Strict`].
    last_numbers: Arc<LastNumbers>,
}

impl KinesisService {
    /// Uses the Kinesis of `config`.
    pub fn new(config: &SdkConfig, settings: KinesisSettings) -> Self {
        let client = Client::new(&with_timeout(config, settings.request_timeout));
        Self {
            client,
            settings,
            last_numbers: Arc::default(),
        }
    }

    /// Puts the records of a request once, each certainly or in doubt.
    pub(super) async fn put(&self, request: &Request<StreamRecord>) -> PutOutcome {
        match self.settings.ordering {
            Ordering::Coarse => self.put_together(request).await,
            Ordering::Strict => {
                let puts: Vec<BoxFuture<'static, PutResult>> = request
                    .records
                    .iter()
                    .map(|record| {
                        let (service, record) = (self.clone(), Arc::clone(record));
                        let stream = Arc::clone(&request.destination);
                        async move { service.put_in_order(&stream, &record.payload).await }.boxed()
                    })
                    .collect();
                let puts = stream::iter(puts).buffered(SINGLE_PUTS_MAX);
                PutOutcome::Each(puts.collect().await)
            }
        }
    }

    /// Puts a record behind the one with the same key that was put last.
    async fn put_in_order(&self, stream: &str, record: &StreamRecord) -> PutResult {
        let before = self.last_numbers.get(stream, &record.key);
        let is_ordered = before.is_some();
        let answer = self
            .client
            .put_record()
            .stream_name(stream)
            .data(Blob::new(record.data.clone()))
            .partition_key(&record.key)
            .set_explicit_hash_key(record.explicit_hash_key.clone())
            .set_sequence_number_for_ordering(before)
            .send()
            .await;
        match answer {
            Ok(answer) => {
                self.note(stream, &record.key, &answer.sequence_number);
                PutResult::Taken {
                    shard: answer.shard_id,
                    sequence: answer.sequence_number,
                }
            }
            Err(error) if failure::is_in_doubt(&error) => PutResult::Unclear(describe(&error)),
            // The number may be of a deleted stream with the same name.
            Err(error) if is_ordered && error.code() == Some("InvalidArgumentException") => {
                self.last_numbers.forget(stream, &record.key);
                PutResult::NotTaken(Outcome::Retry(describe(&error)))
            }
            Err(error) => {
                let reason = describe(&error);
                let code = error.code().unwrap_or_default();
                PutResult::NotTaken(failure::of_code(code, reason, true))
            }
        }
    }

    /// Notes the sequence number of a record that was put or found in the stream, so that the next
    /// one of its key follows it.
    pub(super) fn note(&self, stream: &str, key: &str, sequence: &str) {
        if self.settings.ordering == Ordering::Strict {
            self.last_numbers.note(stream, key, sequence);
        }
    }

    /// Sends a request and reads its response.
    async fn put_together(&self, request: &Request<StreamRecord>) -> PutOutcome {
        let entries = request.records.iter().map(|record| {
            let put = &record.payload;
            PutRecordsRequestEntry::builder()
                .data(Blob::new(put.data.clone()))
                .partition_key(&put.key)
                .set_explicit_hash_key(put.explicit_hash_key.clone())
                .build()
                .expect("it has data and a key")
        });
        let answer = self
            .client
            .put_records()
            .stream_name(&*request.destination)
            .set_records(Some(entries.collect()))
            .send()
            .await;
        let expected = request.records.len();
        match answer {
            Ok(answer) if answer.records.len() == expected => {
                PutOutcome::Each(answer.records.iter().map(result).collect())
            }
            Ok(answer) => {
                let found = answer.records.len();
                PutOutcome::InDoubt(format!("{found} results for {expected} records"))
            }
            Err(error) if failure::is_in_doubt(&error) => PutOutcome::InDoubt(describe(&error)),
            Err(error) => PutOutcome::Failed(failure::outcomes(&error, expected)),
        }
    }
}

impl Service for KinesisService {
    type Payload = StreamRecord;

    fn limits(&self) -> Limits {
        limits(&self.settings, REQUESTS_IN_FLIGHT)
    }

    fn prepare(&self, emission: Emission) -> Result<Record<StreamRecord>, String> {
        prepare(emission, &self.settings)
    }

    async fn deliver(&self, request: &Request<StreamRecord>) -> Answer {
        let outcomes = match self.put(request).await {
            PutOutcome::Each(results) => results.into_iter().map(outcome).collect(),
            PutOutcome::Failed(outcomes) => outcomes,
            PutOutcome::InDoubt(reason) => vec![Outcome::Retry(reason); request.records.len()],
        };
        Answer::of(outcomes)
    }
}

pub(super) fn limits(settings: &KinesisSettings, requests_in_flight: usize) -> Limits {
    let large = settings.record_bytes_max > BYTES_PER_REQUEST;
    Limits {
        records_per_request: RECORDS_PER_REQUEST,
        bytes_per_request: if large {
            BYTES_PER_REQUEST_LARGE
        } else {
            BYTES_PER_REQUEST
        },
        requests_in_flight,
        records_in_flight: settings.outstanding_records_max,
    }
}

fn result(result: &PutRecordsResultEntry) -> PutResult {
    let described = |code| describe_entry::<PutRecordsError>(code, result.error_message());
    match (
        result.error_code(),
        result.shard_id(),
        result.sequence_number(),
    ) {
        (None, Some(shard), Some(sequence)) => PutResult::Taken {
            shard: shard.to_owned(),
            sequence: sequence.to_owned(),
        },
        (None, ..) => PutResult::Unclear("the response does not say where it is".to_owned()),
        (Some(code @ "ProvisionedThroughputExceededException"), ..) => {
            PutResult::NotTaken(Outcome::Throttled(described(code)))
        }
        (Some(code), ..) => PutResult::Unclear(described(code)),
    }
}

/// Outcome of a record that may be put more than once.
fn outcome(result: PutResult) -> Outcome {
    match result {
        PutResult::Taken { .. } => Outcome::Delivered,
        PutResult::NotTaken(outcome) => outcome,
        PutResult::Unclear(reason) => Outcome::Retry(reason),
    }
}

/// Converts a record that a function handed over.
pub(super) fn prepare(
    emission: Emission,
    settings: &KinesisSettings,
) -> Result<Record<StreamRecord>, String> {
    let Emission {
        number,
        id,
        value,
        trace,
        ..
    } = emission;
    if value.typename != KINESIS_RECORD_TYPENAME {
        let typename = value.typename;
        return Err(format!(
            "a Kinesis egress takes {KINESIS_RECORD_TYPENAME}, this is {typename}"
        ));
    }
    let record = KinesisEgressRecord::decode(value.value)
        .map_err(|error| format!("it is not a Kinesis record: {error}"))?;
    let key = record.partition_key;
    check_stream(&record.stream)?;
    check_key(&key)?;
    let explicit_hash_key = match record.explicit_hash_key {
        hash_key if hash_key.is_empty() => None,
        hash_key => Some(check_hash_key(hash_key)?),
    };
    let data = settings.envelope.wrap(id, trace, record.value_bytes);
    let bytes = data.len() + key.len();
    if bytes > settings.record_bytes_max {
        let limit = settings.record_bytes_max;
        return Err(format!(
            "it has {bytes} bytes with its key, and a record of the stream may have {limit}"
        ));
    }
    Ok(Record {
        number,
        destination: record.stream.into(),
        key: Some(Arc::from(key.as_str())),
        bytes,
        payload: StreamRecord {
            key,
            explicit_hash_key,
            data,
        },
    })
}

fn check_stream(stream: &str) -> Result<(), String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if (1..=128).contains(&stream.len()) && stream.bytes().all(is_name) {
        return Ok(());
    }
    Err(format!("{stream:?} is not the name of a Kinesis stream"))
}

fn check_key(key: &str) -> Result<(), String> {
    match key.chars().count() {
        1..=256 => Ok(()),
        0 => Err("it has no partition key".to_owned()),
        count => Err(format!(
            "its partition key has {count} characters, and 256 are allowed"
        )),
    }
}

fn check_hash_key(hash_key: String) -> Result<String, String> {
    let is_number = hash_key.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && hash_key.parse::<u128>().is_ok() {
        return Ok(hash_key);
    }
    Err(format!(
        "{hash_key:?} is not an explicit hash key: it should be a number below 2^128"
    ))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use satchel_engine::message::MessageId;
    use satchel_protocol::types::typed_value;

    use super::*;
    use crate::egress::kinesis::RECORD_BYTES_MAX;

    fn emission(record: &KinesisEgressRecord) -> Emission {
        Emission {
            number: 7,
            id: MessageId([1; 16]),
            egress: "example/out".into(),
            value: typed_value(KINESIS_RECORD_TYPENAME, record.encode_to_vec()),
            trace: None,
        }
    }

    fn record() -> KinesisEgressRecord {
        KinesisEgressRecord {
            partition_key: "customer".into(),
            value_bytes: Bytes::from_static(b"data"),
            stream: "alerts".into(),
            explicit_hash_key: "17".into(),
        }
    }

    #[test]
    fn a_record_keeps_its_key_bytes_and_hash_key() {
        let prepared = prepare(emission(&record()), &KinesisSettings::default()).unwrap();
        let expected = Record {
            number: 7,
            destination: "alerts".into(),
            key: Some("customer".into()),
            bytes: 12,
            payload: StreamRecord {
                key: "customer".into(),
                explicit_hash_key: Some("17".into()),
                data: Bytes::from_static(b"data"),
            },
        };
        assert_eq!(prepared, expected);
    }

    #[test]
    fn a_record_that_kinesis_would_never_accept_is_refused_with_the_reason() {
        let refused = |record: KinesisEgressRecord| {
            prepare(emission(&record), &KinesisSettings::default()).unwrap_err()
        };
        let with = |change: &dyn Fn(&mut KinesisEgressRecord)| {
            let mut record = record();
            change(&mut record);
            refused(record)
        };
        let limit = RECORD_BYTES_MAX;
        assert_eq!(
            with(&|it| it.partition_key.clear()),
            "it has no partition key"
        );
        assert_eq!(
            with(&|it| it.partition_key = "ä".repeat(257)),
            "its partition key has 257 characters, and 256 are allowed"
        );
        assert_eq!(
            with(&|it| it.stream = "a b".into()),
            "\"a b\" is not the name of a Kinesis stream"
        );
        assert_eq!(
            with(&|it| it.value_bytes = vec![0; limit].into()),
            format!(
                "it has {} bytes with its key, and a record of the stream may have {limit}",
                limit + 8
            )
        );
        assert_eq!(
            with(&|it| it.explicit_hash_key = "340282366920938463463374607431768211456".into()),
            "\"340282366920938463463374607431768211456\" is not an explicit hash key: \
            it should be a number below 2^128"
        );
        let mut other = emission(&record());
        other.value.typename = "satchel/json".into();
        assert_eq!(
            prepare(other, &KinesisSettings::default()).unwrap_err(),
            format!("a Kinesis egress takes {KINESIS_RECORD_TYPENAME}, this is satchel/json")
        );
    }
}
