//! `PutRecord` and `PutRecords`.

use super::arguments::Arguments;
use super::error::Refusal;
use super::throughput::ShardKey;
use super::value::{Value, list, map};
use super::{ACCOUNT, Call, Service, arguments};
use crate::record::KEY_MAX_CHARS;
use crate::shards::shard_id;
use crate::{Description, NewRecord, SequenceNumber, Stream, parse_hash_key};

/// Maximum number of records in a request.
const RECORDS_MAX: usize = 500;
/// Maximum bytes of all records in a request.
const REQUEST_MAX_BYTES: usize = 10 << 20;

impl Service {
    pub(super) async fn put_record(&self, call: &Call) -> Result<Value, Refusal> {
        let record = record(&call.arguments, crate::now_ms())?;
        let stream = self.stream(call).await?;
        let description = stream.description();
        check_size(&record, &description)?;
        self.admit(&stream, &description, &record)?;
        let number = stream.append(record).await?;
        Ok(map([
            ("ShardId", shard_id(number.shard()).into()),
            ("SequenceNumber", number.to_string().into()),
        ]))
    }

    pub(super) async fn put_records(&self, mut call: Call) -> Result<Value, Refusal> {
        let entries = call.arguments.take_list("Records")?;
        let entries = entries.ok_or_else(|| arguments::missing("Records"))?;
        if !(1..=RECORDS_MAX).contains(&entries.len()) {
            return Err(Refusal::validation(format!(
                "1 validation error detected: Value at 'records' failed to satisfy constraint: \
                Member must have length between 1 and {RECORDS_MAX}, not {}",
                entries.len()
            )));
        }
        let now_ms = crate::now_ms();
        let records = entries
            .into_iter()
            .map(|entry| record(&Arguments::new(entry)?, now_ms));
        let records = records.collect::<Result<Vec<_>, _>>()?;
        let size: usize = records.iter().map(size).sum();
        if size > REQUEST_MAX_BYTES {
            return Err(Refusal::argument(format!(
                "Records size exceeds {REQUEST_MAX_BYTES} bytes: \
                the records of a request have {size}"
            )));
        }
        let stream = self.stream(&call).await?;
        let description = stream.description();
        for record in &records {
            check_size(record, &description)?;
        }
        let mut taken = Vec::with_capacity(records.len());
        let mut outcomes = Vec::with_capacity(records.len());
        for record in records {
            match self.admit(&stream, &description, &record) {
                Ok(()) => {
                    taken.push(record);
                    outcomes.push(None);
                }
                Err(refusal) => outcomes.push(Some(refusal)),
            }
        }
        let failed = outcomes.iter().flatten().count();
        let numbers = match taken.is_empty() {
            true => Vec::new(),
            false => stream.append_all(taken).await?,
        };
        let mut numbers = numbers.into_iter();
        let results = outcomes.into_iter().map(|refusal| match refusal {
            None => numbers.next().map_or(Value::Null, put),
            Some(refusal) => map([
                ("ErrorCode", refusal.code.into()),
                ("ErrorMessage", refusal.message.into()),
            ]),
        });
        let results = list(results);
        Ok(map([
            ("FailedRecordCount", failed.into()),
            ("Records", results),
        ]))
    }

    /// Takes throughput of the record's shard, or refuses the record.
    fn admit(
        &self,
        stream: &Stream,
        description: &Description,
        record: &NewRecord,
    ) -> Result<(), Refusal> {
        let hash_key = record.hash_key();
        let shards = description.shards.iter();
        let shard = shards
            .rev()
            .find(|shard| shard.is_open() && shard.holds(hash_key));
        let Some(shard) = shard else { return Ok(()) };
        let key = ShardKey {
            stream: stream.name().to_owned(),
            created_ms: description.created_ms,
            shard: shard.index,
        };
        match self.throughput.write(&key, size(record)) {
            true => Ok(()),
            false => Err(Refusal::throughput(format!(
                "Rate exceeded for shard {} in stream {} under account {ACCOUNT}.",
                shard.id(),
                stream.name()
            ))),
        }
    }
}

fn put(number: SequenceNumber) -> Value {
    map([
        ("SequenceNumber", number.to_string().into()),
        ("ShardId", shard_id(number.shard()).into()),
    ])
}

fn size(record: &NewRecord) -> usize {
    record.key.len() + record.data.len()
}

/// Refuses a record that is larger than its stream allows.
fn check_size(record: &NewRecord, description: &Description) -> Result<(), Refusal> {
    let (bytes, bytes_max) = (size(record), description.max_record_bytes());
    match bytes > bytes_max {
        true => Err(Refusal::validation(format!(
            "1 validation error detected: Value at 'data' failed to satisfy constraint: \
            key and data must have at most {bytes_max} bytes, not {bytes}; \
            see MaxRecordSizeInKiB"
        ))),
        false => Ok(()),
    }
}

fn record(arguments: &Arguments, time_ms: u64) -> Result<NewRecord, Refusal> {
    let data = arguments.required_bytes("Data")?;
    let key = arguments.required_text("PartitionKey")?;
    let chars = key.chars().count();
    if !(1..=KEY_MAX_CHARS).contains(&chars) {
        return Err(Refusal::validation(format!(
            "1 validation error detected: Value at 'partitionKey' failed to satisfy constraint: \
            Member must have length between 1 and {KEY_MAX_CHARS}, not {chars}"
        )));
    }
    let explicit_hash_key =
        match arguments.text("ExplicitHashKey")? {
            None => None,
            Some(text) => Some(parse_hash_key(text).map_err(|message| {
                Refusal::argument(format!("Invalid ExplicitHashKey. {message}"))
            })?),
        };
    Ok(NewRecord {
        key: key.to_owned(),
        explicit_hash_key,
        data,
        time_ms,
    })
}
