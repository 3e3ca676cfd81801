//! `GetShardIterator` and `GetRecords`.

use super::arguments::{Arguments, not_one_of};
use super::error::Refusal;
use super::throughput::ShardKey;
use super::token::{LIFETIME_MS, ShardIterator};
use super::value::{Value, list, map};
use super::{ACCOUNT, Call, Service, arguments};
use crate::reader::{Chunk, Cursor, Limits};
use crate::shards::parse_shard_id;
use crate::{Description, ReadFrom, Record, Shard, Stream, StreamError};

/// Maximum number of records in a response.
const RECORDS_MAX: usize = 10_000;
/// Maximum bytes of keys and data in a response.
const ANSWER_MAX_BYTES: usize = 10 << 20;

const TYPES: [&str; 5] = [
    "AT_SEQUENCE_NUMBER",
    "AFTER_SEQUENCE_NUMBER",
    "AT_TIMESTAMP",
    "TRIM_HORIZON",
    "LATEST",
];

impl Service {
    pub(super) async fn get_shard_iterator(&self, call: &Call) -> Result<Value, Refusal> {
        let arguments = &call.arguments;
        let shard = arguments.required_text("ShardId")?;
        let kind = arguments.required_text("ShardIteratorType")?;
        let stream = self.stream(call).await?;
        stream.refresh().await?;
        let description = stream.description();
        let shard = known_shard(&stream, &description, shard)?;
        let number = arguments.text("StartingSequenceNumber")?;
        let from = read_from(&stream, shard, kind, number, arguments)?;
        let cursor = locate(&stream, &description, shard, from).await?;
        let iterator = ShardIterator {
            stream: stream.name().to_owned(),
            created_ms: description.created_ms,
            shard: shard.index,
            cursor,
            issued_ms: crate::now_ms(),
        };
        Ok(map([("ShardIterator", iterator.encode().into())]))
    }

    pub(super) async fn get_records(&self, call: &Call) -> Result<Value, Refusal> {
        let text = call.arguments.required_text("ShardIterator")?;
        let limit = call.arguments.integer("Limit", 1..=RECORDS_MAX as i64)?;
        let iterator = ShardIterator::decode(text)
            .ok_or_else(|| Refusal::argument("Invalid ShardIterator."))?;
        let now_ms = crate::now_ms();
        let age_ms = now_ms.saturating_sub(iterator.issued_ms);
        if age_ms > LIFETIME_MS {
            return Err(Refusal::new(
                "ExpiredIteratorException",
                format!(
                    "Iterator expired. The iterator was created {age_ms} milliseconds ago, \
                    the limit is {LIFETIME_MS} milliseconds."
                ),
            ));
        }
        let stream = self.stream_named(&iterator.stream).await?;
        stream.refresh().await?;
        let key = ShardKey {
            stream: iterator.stream.clone(),
            created_ms: iterator.created_ms,
            shard: iterator.shard,
        };
        if stream.description().created_ms != iterator.created_ms {
            return Err(Refusal::argument(
                "The ShardIterator belongs to a stream that was deleted.",
            ));
        }
        if !self.throughput.read(&key) {
            return Err(Refusal::throughput(format!(
                "Rate exceeded for shard {} in stream {} under account {ACCOUNT}.",
                crate::shards::shard_id(iterator.shard),
                iterator.stream
            )));
        }
        let limits = Limits {
            records: limit.map_or(RECORDS_MAX, |limit| limit as usize),
            bytes: ANSWER_MAX_BYTES,
        };
        let read = read(&stream, iterator.shard, iterator.cursor, limits).await?;
        self.throughput.charge_read(&key, read.bytes());
        let next = (!read.chunk.ended).then(|| {
            let cursor = read.chunk.cursor;
            let issued_ms = crate::now_ms();
            ShardIterator {
                cursor,
                issued_ms,
                ..iterator
            }
            .encode()
        });
        Ok(map([
            ("Records", read.records()),
            ("NextShardIterator", next.into()),
            ("MillisBehindLatest", read.behind_ms().into()),
            ("ChildShards", read.child_shards()),
        ]))
    }
}

/// Records read from a shard, with the description of its stream at that time.
pub(super) struct Read {
    pub(super) chunk: Chunk,
    shard: u32,
    description: std::sync::Arc<Description>,
    now_ms: u64,
}

/// Reads a shard from a position. Records older than the retention are skipped.
pub(super) async fn read(
    stream: &Stream,
    shard: u32,
    cursor: Cursor,
    limits: Limits,
) -> Result<Read, Refusal> {
    let tip = stream.watch_tip().borrow().clone();
    let description = std::sync::Arc::clone(&tip.description);
    let mut chunk = match stream
        .read_chunk(tip.clone(), Some(shard), cursor, limits)
        .await
    {
        // Deleted records are older than the retention, so they are skipped too.
        Err(StreamError::Expired { .. }) => {
            let cursor = stream.locate(Some(shard), ReadFrom::Earliest).await?;
            stream.read_chunk(tip, Some(shard), cursor, limits).await?
        }
        chunk => chunk?,
    };
    let now_ms = crate::now_ms();
    let horizon_ms = description.horizon_ms(now_ms);
    chunk.records.retain(|record| record.time_ms >= horizon_ms);
    Ok(Read {
        chunk,
        shard,
        description,
        now_ms,
    })
}

impl Read {
    pub(super) fn records(&self) -> Value {
        list(self.chunk.records.iter().map(|record| {
            map([
                ("SequenceNumber", record.sequence_number.to_string().into()),
                ("ApproximateArrivalTimestamp", Value::Time(record.time_ms)),
                ("Data", Value::Bytes(record.data.clone())),
                ("PartitionKey", record.key.as_str().into()),
            ])
        }))
    }

    /// Age of the next record in milliseconds; 0 if all were read.
    pub(super) fn behind_ms(&self) -> u64 {
        let shard = self.description.shard(self.shard);
        let more = shard.filter(|shard| shard.last >= self.chunk.cursor.count);
        let more = more.filter(|_| !self.chunk.at_tip);
        let reached_ms = self.chunk.records.last().map(|record| record.time_ms);
        more.map_or(0, |shard| {
            self.now_ms
                .saturating_sub(reached_ms.unwrap_or(shard.last_ms()))
        })
    }

    /// Shards that follow from a shard that ended.
    pub(super) fn child_shards(&self) -> Value {
        if !self.chunk.ended {
            return Value::Null;
        }
        let children = self.description.children(self.shard).map(|child| {
            map([
                ("ShardId", child.id().into()),
                (
                    "ParentShards",
                    list(
                        child
                            .parents
                            .iter()
                            .map(|parent| crate::shards::shard_id(*parent).into()),
                    ),
                ),
                ("HashKeyRange", hash_key_range(child)),
            ])
        });
        list(children)
    }

    /// Sequence number from which reading continues, whether or not a record has it. None if the
    /// shard ended.
    pub(super) fn continuation(&self) -> Option<String> {
        if self.chunk.ended {
            return None;
        }
        let shard = self.description.shard(self.shard)?;
        let number = match self.chunk.records.last() {
            Some(last) => last.sequence_number,
            None => shard.number(self.chunk.cursor.count, 0).before(),
        };
        Some(number.max(shard.starting_sequence_number()).to_string())
    }

    fn bytes(&self) -> usize {
        let bytes = |record: &Record| record.key.len() + record.data.len();
        self.chunk.records.iter().map(bytes).sum()
    }
}

/// Range of a shard's hash keys.
pub(super) fn hash_key_range(shard: &Shard) -> Value {
    map([
        ("StartingHashKey", shard.first_hash_key.to_string().into()),
        ("EndingHashKey", shard.last_hash_key.to_string().into()),
    ])
}

/// Shard with this id.
pub(super) fn known_shard<'d>(
    stream: &Stream,
    description: &'d Description,
    id: &str,
) -> Result<&'d Shard, Refusal> {
    let shard = parse_shard_id(id).and_then(|index| description.shard(index));
    shard.ok_or_else(|| {
        Refusal::not_found(format!(
            "Shard {id} in stream {} under account {ACCOUNT} does not exist",
            stream.name()
        ))
    })
}

/// Starting position from an iterator type and its arguments.
pub(super) fn read_from(
    stream: &Stream,
    shard: &Shard,
    kind: &str,
    number: Option<&str>,
    arguments: &Arguments,
) -> Result<ReadFrom, Refusal> {
    let number = || {
        let text =
            number.ok_or_else(|| Refusal::argument(format!("{kind} needs a sequence number")))?;
        let number = text.parse().ok().filter(|number| shard.may_assign(*number));
        number.ok_or_else(|| {
            Refusal::argument(format!(
                "StartingSequenceNumber {text} used in GetShardIterator on shard {} in stream {} \
                under account {ACCOUNT} is invalid.",
                shard.id(),
                stream.name()
            ))
        })
    };
    match kind {
        "AT_SEQUENCE_NUMBER" => Ok(ReadFrom::At(number()?)),
        "AFTER_SEQUENCE_NUMBER" => Ok(ReadFrom::After(number()?)),
        "TRIM_HORIZON" => Ok(ReadFrom::Earliest),
        "LATEST" => Ok(ReadFrom::Latest),
        "AT_TIMESTAMP" => {
            let time_ms = arguments.time_ms("Timestamp")?;
            let time_ms = time_ms.ok_or_else(|| arguments::missing("Timestamp"))?;
            let now_ms = crate::now_ms();
            if time_ms > now_ms {
                return Err(Refusal::argument(format!(
                    "The timestampInMillis parameter cannot be greater than the \
                    currentTimestampInMillis. timestampInMillis: {time_ms}, \
                    currentTimestampInMillis: {now_ms}"
                )));
            }
            Ok(ReadFrom::AtTime(time_ms))
        }
        other => Err(not_one_of("ShardIteratorType", other, &TYPES)),
    }
}

/// Finds the position at which reading starts. Records older than the retention are skipped.
pub(super) async fn locate(
    stream: &Stream,
    description: &Description,
    shard: &Shard,
    from: ReadFrom,
) -> Result<Cursor, Refusal> {
    let horizon_ms = description.horizon_ms(crate::now_ms());
    let from = match from {
        ReadFrom::Earliest => ReadFrom::AtTime(horizon_ms),
        ReadFrom::AtTime(time_ms) => ReadFrom::AtTime(time_ms.max(horizon_ms)),
        from => from,
    };
    match stream.locate(Some(shard.index), from).await {
        Err(StreamError::Expired { .. }) => Ok(stream
            .locate(Some(shard.index), ReadFrom::AtTime(horizon_ms))
            .await?),
        cursor => Ok(cursor?),
    }
}
