//! Scan of a stream for records in doubt.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{Shard, ShardIteratorType};
use futures::future::try_join_all;
use satchel_engine::sink::exactly_once::{ScanResult, ScannedRecord};
use satchel_engine::sink::reconcile::StreamPositions;

use crate::error_text::{Operation, describe};

/// Assumed maximum difference between the clocks of this machine and of Kinesis. It only decides
/// how much is read. The state machine knows each acknowledged record in the part of a shard that
/// it adds, because all records of a shard without a position were acknowledged recently.
const CLOCKS_MARGIN_MS: u64 = 5 * 60 * 1000;

/// Interval between two reads of a shard, which allows five reads a second to all its readers
/// together.
const READ_INTERVAL: Duration = Duration::from_millis(250);

/// Wait after a failed read.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Number of consecutive failures after which the whole scan starts anew, because the position may
/// be the cause.
const READ_FAILURES_MAX: u32 = 5;

/// Reason why a scan has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanError {
    /// True if the stream or shard does not exist.
    pub is_missing: bool,
    /// Description of the failure.
    pub reason: String,
}

impl ScanError {
    fn of<E: Operation>(error: &SdkError<E>) -> Self {
        Self {
            is_missing: error.code() == Some("ResourceNotFoundException"),
            reason: describe(error),
        }
    }

    /// The same failure, which names the shard.
    fn at(self, shard: &str) -> Self {
        let reason = format!("{shard}: {}", self.reason);
        // The stream exists, because it lists this shard.
        Self {
            is_missing: false,
            reason,
        }
    }
}

/// Reads the records in `stream` behind `after`, up to the ones that are there now, and returns
/// those for which `wanted` is true.
///
/// # Errors
///
/// The failure of Kinesis. The scan must be repeated then.
pub async fn scan(
    client: &Client,
    stream: &str,
    after: &StreamPositions,
    wanted: &(dyn Fn(&str, &[u8]) -> bool + Sync),
) -> Result<ScanResult, ScanError> {
    let shards = shards(client, stream).await?;
    let ids: Vec<String> = shards
        .iter()
        .map(|shard| shard.shard_id().to_owned())
        .collect();
    let reads = ids
        .iter()
        .map(|shard| read(client, stream, shard, after, wanted));
    let seen = try_join_all(reads).await?;
    Ok(ScanResult {
        records: seen.into_iter().flatten().collect(),
        shards: ids,
    })
}

async fn shards(client: &Client, stream: &str) -> Result<Vec<Shard>, ScanError> {
    let mut shards: BTreeMap<String, Shard> = BTreeMap::new();
    let mut next: Option<String> = None;
    loop {
        // A token names the stream, and excludes the stream's name.
        let stream_name = next.is_none().then(|| stream.to_owned());
        let page = client
            .list_shards()
            .set_stream_name(stream_name)
            .set_next_token(next)
            .send()
            .await
            .map_err(|error| ScanError::of(&error))?;
        for shard in page.shards() {
            shards.insert(shard.shard_id().to_owned(), shard.clone());
        }
        next = page.next_token;
        if next.is_none() {
            return Ok(shards.into_values().collect());
        }
    }
}

/// Reads one shard to its end, or up to what it contains now.
async fn read(
    client: &Client,
    stream: &str,
    shard: &str,
    after: &StreamPositions,
    wanted: &(dyn Fn(&str, &[u8]) -> bool + Sync),
) -> Result<Vec<ScannedRecord>, ScanError> {
    let started = DateTime::from(SystemTime::now());
    let mut iterator = Some(first_iterator(client, stream, shard, after).await?);
    let mut seen = Vec::new();
    let mut failures = 0;
    while let Some(at) = &iterator {
        let page = match client.get_records().shard_iterator(at).send().await {
            Ok(page) => page,
            Err(error) => {
                failures += 1;
                if failures >= READ_FAILURES_MAX {
                    return Err(ScanError::of(&error).at(shard));
                }
                tokio::time::sleep(RETRY_INTERVAL).await;
                continue;
            }
        };
        failures = 0;
        for record in page.records() {
            let data = record.data().as_ref();
            let key = record.partition_key().unwrap_or_default();
            if wanted(key, data) {
                seen.push(ScannedRecord {
                    shard: shard.to_owned(),
                    sequence: record.sequence_number().to_owned(),
                    key: key.to_owned(),
                    data: data.to_vec(),
                });
            }
        }
        // Records that are put during the scan are not among those that are wanted.
        let last = page.records().last();
        let arrived = last.and_then(|record| record.approximate_arrival_timestamp());
        let is_new = arrived.is_some_and(|arrived| *arrived > started);
        if page.millis_behind_latest() == Some(0) && (last.is_none() || is_new) {
            break;
        }
        iterator = page.next_shard_iterator;
        tokio::time::sleep(READ_INTERVAL).await;
    }
    Ok(seen)
}

async fn first_iterator(
    client: &Client,
    stream: &str,
    shard: &str,
    after: &StreamPositions,
) -> Result<String, ScanError> {
    let request = client
        .get_shard_iterator()
        .stream_name(stream)
        .shard_id(shard);
    let position = after.shards.get(shard);
    let request = match position {
        Some(sequence) => request
            .shard_iterator_type(ShardIteratorType::AfterSequenceNumber)
            .starting_sequence_number(sequence),
        None => {
            let since_ms = after.since_ms.saturating_sub(CLOCKS_MARGIN_MS);
            let since = DateTime::from_millis(i64::try_from(since_ms).unwrap_or(i64::MAX));
            request
                .shard_iterator_type(ShardIteratorType::AtTimestamp)
                .timestamp(since)
        }
    };
    let mut answer = request.send().await;
    // The number belongs to a deleted stream of the same name. Nothing in this stream is
    // acknowledged, otherwise its number would be known. Everything in it therefore lies behind the
    // position.
    if let Err(error) = &answer
        && position.is_some()
        && error.code() == Some("InvalidArgumentException")
    {
        answer = client
            .get_shard_iterator()
            .stream_name(stream)
            .shard_id(shard)
            .shard_iterator_type(ShardIteratorType::TrimHorizon)
            .send()
            .await;
    }
    let answer = answer.map_err(|error| ScanError::of(&error).at(shard))?;
    answer.shard_iterator.ok_or_else(|| ScanError {
        is_missing: false,
        reason: format!("{shard}: the response has no iterator"),
    })
}
