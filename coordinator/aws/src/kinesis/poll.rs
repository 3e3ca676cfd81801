//! Reading a shard by asking for its records again and again.

use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use tokio::time::Instant;

use super::backoff::{Backoff, Pace};
use super::error::Stop;
use super::requests::{self, Trouble};
use super::shard::ShardReader;

/// How polling came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Polled {
    /// The shard has been read to its end.
    Ended,
    /// The time for it is over.
    TimeOver,
}

/// Polls a shard to its end, or, if there is a time for it, until then. `iterator` is one to begin with, instead of the reader's position.
pub(super) async fn poll(
    reader: &mut ShardReader,
    mut iterator: Option<String>,
    until: Option<Instant>,
) -> Result<Polled, Stop> {
    let shared = reader.shared.clone();
    let options = &shared.options;
    let mut pace = Pace::new(options.read_interval);
    let mut backoff = Backoff::default();
    loop {
        reader.unpaused().await?;
        if until.is_some_and(|until| Instant::now() >= until) {
            return Ok(Polled::TimeOver);
        }
        let current = match iterator.take() {
            Some(current) => current,
            None => match open(reader, &mut backoff).await? {
                Some(current) => current,
                None => return Ok(Polled::Ended),
            },
        };
        pace.turn().await;
        let Ok(_in_hand) = shared.answers.acquire().await else {
            return Err(Stop::Gone);
        };
        let limit = options.records_per_read;
        match requests::get_records(&shared.client, &current, limit).await {
            Ok(answer) => {
                pace.answered();
                match taken(reader, answer).await? {
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
                    Err(trouble) => {
                        shared.repeat("GetRecords", Some(&reader.id.shard), &trouble);
                        backoff.wait().await;
                    }
                }
            }
            Err(Trouble::Expired) => {
                tracing::debug!(shard = %reader.id, "the iterator has expired and is renewed");
            }
            Err(trouble) => {
                shared.repeat("GetRecords", Some(&reader.id.shard), &trouble);
                match trouble {
                    Trouble::Throttled(_) => {
                        pace.throttled();
                        iterator = Some(current);
                    }
                    Trouble::Missing(_) => {
                        if reader.is_lost().await? {
                            return Ok(Polled::Ended);
                        }
                        backoff.wait().await;
                    }
                    // An iterator that is not accepted is not worth another try.
                    Trouble::Invalid(_) => backoff.wait().await,
                    _ => {
                        iterator = Some(current);
                        backoff.wait().await;
                    }
                }
            }
        }
    }
}

/// Takes the records of an answer. Returns the next iterator; none if the answer says that the shard has ended.
async fn taken(
    reader: &mut ShardReader,
    answer: GetRecordsOutput,
) -> Result<Result<Option<String>, Trouble>, Stop> {
    // Every answer says this. One that does not is none, and must not be taken for the end of the shard.
    let Some(behind_ms) = answer.millis_behind_latest else {
        let garbage = "the answer does not say how far behind it is";
        return Ok(Err(Trouble::Unanswered(garbage.to_owned())));
    };
    let lag_ms = u64::try_from(behind_ms).unwrap_or_default();
    reader.shared.observer.lag(&reader.id, lag_ms);
    let tip = lag_ms == 0 && answer.next_shard_iterator.is_some();
    let taken = reader.take(answer.records, tip).await?;
    Ok(taken.map(|()| answer.next_shard_iterator))
}

/// An iterator at the reader's position; nothing if the shard is lost and that is accepted.
async fn open(reader: &mut ShardReader, backoff: &mut Backoff) -> Result<Option<String>, Stop> {
    let shared = reader.shared.clone();
    loop {
        let from = reader.from()?;
        let shard = reader.id.shard.clone();
        let stream = &shared.options.stream;
        match requests::shard_iterator(&shared.client, stream, &shard, &from).await {
            Ok(iterator) => return Ok(Some(iterator)),
            Err(trouble) => {
                shared.repeat("GetShardIterator", Some(&shard), &trouble);
                match (trouble, from) {
                    (Trouble::Missing(_), _) if reader.is_lost().await? => return Ok(None),
                    (Trouble::Invalid(_), requests::From::At(_)) => reader.refused()?,
                    _ => {}
                }
            }
        }
        if shared.inputs.is_closed() {
            return Err(Stop::Gone);
        }
        backoff.wait().await;
    }
}
