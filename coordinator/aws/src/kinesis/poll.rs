//! Reading a shard by polling.

use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use satchel_clock::Backoff;
use tokio::time::Instant;

use super::error::Stop;
use super::pace::{Denials, Pace};
use super::requests::{self, RequestFailure};
use super::shard::ShardReader;

/// Reason why polling ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Polled {
    /// The shard was read to its end.
    Ended,
    /// The time limit was reached.
    TimeOver,
}

/// Polls a shard to its end, or until `until` if given. `iterator` replaces the reader's position
/// for the first read.
pub(super) async fn poll(
    reader: &mut ShardReader,
    mut iterator: Option<String>,
    until: Option<Instant>,
) -> Result<Polled, Stop> {
    let shared = reader.shared.clone();
    let options = &shared.options;
    let mut pace = Pace::new(options.read_interval);
    let mut backoff = Backoff::default();
    let mut denials = Denials::default();
    loop {
        reader.unpaused().await?;
        if until.is_some_and(|until| Instant::now() >= until) {
            return Ok(Polled::TimeOver);
        }
        let current = match iterator.take() {
            Some(current) => current,
            None => match open_iterator(reader, &mut backoff).await? {
                Some(current) => current,
                None => return Ok(Polled::Ended),
            },
        };
        pace.wait_turn().await;
        let Ok(_permit) = shared.answers.acquire().await else {
            return Err(Stop::PartitionClosed);
        };
        let limit = options.records_per_read;
        match requests::get_records(&shared.client, &current, limit).await {
            Ok(answer) => {
                pace.answered(answer.records.is_empty() && answer.millis_behind_latest == Some(0));
                denials.note(false);
                match accept(reader, answer).await? {
                    Ok(Some(next)) => {
                        backoff.reset();
                        iterator = Some(next);
                    }
                    Ok(None) => {
                        if reader.is_over().await? {
                            return Ok(Polled::Ended);
                        }
                        backoff.wait().await;
                    }
                    Err(failure) => {
                        shared.report_retry("GetRecords", Some(&reader.id.shard), &failure);
                        backoff.wait().await;
                    }
                }
            }
            Err(RequestFailure::Expired) => {
                tracing::debug!(shard = %reader.id, "shard iterator expired; renewing it");
            }
            Err(failure) => {
                shared.report_retry("GetRecords", Some(&reader.id.shard), &failure);
                shared.note_denial(&mut denials, &failure)?;
                match failure {
                    RequestFailure::Throttled(_) => {
                        pace.throttled();
                        iterator = Some(current);
                    }
                    RequestFailure::Missing(_) => {
                        if reader.is_lost().await? {
                            return Ok(Polled::Ended);
                        }
                        backoff.wait().await;
                    }
                    // A rejected iterator is not used again.
                    RequestFailure::Invalid(_) => backoff.wait().await,
                    _ => {
                        iterator = Some(current);
                        backoff.wait().await;
                    }
                }
            }
        }
    }
}

/// Accepts the records of a response. Returns the next iterator, or none if the response says that
/// the shard has ended.
async fn accept(
    reader: &mut ShardReader,
    answer: GetRecordsOutput,
) -> Result<Result<Option<String>, RequestFailure>, Stop> {
    // Every valid response has this field. A response without it must not be taken for the end of
    // the shard.
    let Some(behind_ms) = answer.millis_behind_latest else {
        let garbage = "the response has no MillisBehindLatest";
        return Ok(Err(RequestFailure::Unavailable(garbage.to_owned())));
    };
    let lag_ms = u64::try_from(behind_ms).unwrap_or_default();
    reader.shared.observer.lag(&reader.id, lag_ms);
    let tip = lag_ms == 0 && answer.next_shard_iterator.is_some();
    let accepted = reader.accept(answer.records, tip).await?;
    Ok(accepted.map(|()| answer.next_shard_iterator))
}

/// Opens an iterator at the reader's position. Returns none if the shard is lost and that is
/// accepted.
async fn open_iterator(
    reader: &mut ShardReader,
    backoff: &mut Backoff,
) -> Result<Option<String>, Stop> {
    let shared = reader.shared.clone();
    let mut denials = Denials::default();
    loop {
        let from = reader.read_from()?;
        let shard = reader.id.shard.clone();
        let stream = &shared.options.stream;
        match requests::shard_iterator(&shared.client, stream, &shard, &from).await {
            Ok(iterator) => return Ok(Some(iterator)),
            Err(failure) => {
                shared.report_retry("GetShardIterator", Some(&shard), &failure);
                shared.note_denial(&mut denials, &failure)?;
                match (failure, from) {
                    (RequestFailure::Missing(_), _) if reader.is_lost().await? => return Ok(None),
                    (RequestFailure::Invalid(_), requests::ReadFrom::At(_)) => {
                        reader.position_rejected()?;
                    }
                    _ => {}
                }
            }
        }
        if shared.inputs.is_closed() {
            return Err(Stop::PartitionClosed);
        }
        backoff.wait().await;
    }
}
