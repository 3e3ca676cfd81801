//! Listings: `ListShards`, `DescribeStream`, `DescribeStreamSummary`, `ListStreams`,
//! `DescribeLimits`.

use super::arguments::{Arguments, missing, not_one_of};
use super::error::Refusal;
use super::reading::{hash_key_range, known_shard};
use super::token::{LIFETIME_MS, Listing};
use super::value::{Value, list, map};
use super::{Call, Service};
use crate::shards::{SHARDS_MAX, shard_id};
use crate::{Description, Shard, Stream};

const FILTERS: [&str; 6] = [
    "AFTER_SHARD_ID",
    "AT_TRIM_HORIZON",
    "FROM_TRIM_HORIZON",
    "AT_LATEST",
    "AT_TIMESTAMP",
    "FROM_TIMESTAMP",
];

/// Selection of the listed shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filter {
    /// Shards that may still have records.
    All,
    /// Shards that were open at this time, in milliseconds since the Unix epoch.
    OpenAt(u64),
    /// Shards that were open at this time or later, in milliseconds since the Unix epoch.
    OpenFrom(u64),
    /// Shards that are open.
    Open,
}

impl Service {
    pub(super) async fn list_shards(&self, call: &Call) -> Result<Value, Refusal> {
        let arguments = &call.arguments;
        let limit = arguments
            .integer("MaxResults", 1..=10_000)?
            .unwrap_or(1_000) as usize;
        let (stream, after, filter) = match arguments.text("NextToken")? {
            Some(token) => self.next_shards(arguments, token).await?,
            None => {
                let stream = self.stream(call).await?;
                stream.refresh().await?;
                let (after, filter) = shards_wanted(&stream, arguments)?;
                (stream, after, filter)
            }
        };
        let description = stream.description();
        let now_ms = crate::now_ms();
        let wanted = listed(&description, now_ms)
            .filter(|shard| after.is_none_or(|after| shard.index > after) && filter.admits(shard));
        let wanted: Vec<_> = wanted.take(limit + 1).collect();
        let next = (wanted.len() > limit).then(|| Listing {
            stream: stream.name().to_owned(),
            after: wanted[limit - 1].id(),
            filter: filter.encode(),
            issued_ms: now_ms,
        });
        let shards = wanted.iter().take(limit).map(|shard| describe(shard));
        Ok(map([
            ("Shards", list(shards)),
            ("NextToken", next.map(|next| next.encode()).into()),
        ]))
    }

    async fn next_shards(
        &self,
        arguments: &Arguments,
        token: &str,
    ) -> Result<(Stream, Option<u32>, Filter), Refusal> {
        for other in [
            "StreamName",
            "StreamARN",
            "StreamCreationTimestamp",
            "ExclusiveStartShardId",
            "ShardFilter",
        ] {
            if arguments.has(other) {
                return Err(Refusal::argument(format!(
                    "NextToken and {other} cannot be given together."
                )));
            }
        }
        let listing = Listing::decode(token)
            .ok_or_else(|| Refusal::argument("The NextToken was not issued by ListShards."))?;
        if crate::now_ms().saturating_sub(listing.issued_ms) > LIFETIME_MS {
            return Err(Refusal::new(
                "ExpiredNextTokenException",
                "The NextToken is older than 300 seconds.",
            ));
        }
        let stream = self.stream_named(&listing.stream).await?;
        let after = crate::shards::parse_shard_id(&listing.after);
        Ok((stream, after, Filter::decode(&listing.filter)))
    }

    pub(super) async fn describe_stream(&self, call: &Call) -> Result<Value, Refusal> {
        let limit = call.arguments.integer("Limit", 1..=10_000)?.unwrap_or(100) as usize;
        let stream = self.stream(call).await?;
        stream.refresh().await?;
        let description = stream.description();
        let after = match call.arguments.text("ExclusiveStartShardId")? {
            None => None,
            Some(id) => Some(known_shard(&stream, &description, id)?.index),
        };
        let wanted = listed(&description, crate::now_ms())
            .filter(|shard| after.is_none_or(|after| shard.index > after));
        let wanted: Vec<_> = wanted.take(limit + 1).collect();
        let shards = wanted.iter().take(limit).map(|shard| describe(shard));
        let Value::Map(mut members) = summary(call, &stream, &description) else {
            return Ok(Value::Null);
        };
        members.push(("Shards".to_owned(), list(shards)));
        members.push(("HasMoreShards".to_owned(), (wanted.len() > limit).into()));
        Ok(map([("StreamDescription", Value::Map(members))]))
    }

    pub(super) async fn describe_stream_summary(&self, call: &Call) -> Result<Value, Refusal> {
        let stream = self.stream(call).await?;
        stream.refresh().await?;
        let description = stream.description();
        let Value::Map(mut members) = summary(call, &stream, &description) else {
            return Ok(Value::Null);
        };
        let open = description.open_shards().len();
        members.push(("OpenShardCount".to_owned(), open.into()));
        members.push((
            "MaxRecordSizeInKiB".to_owned(),
            description.max_record_kib.into(),
        ));
        members.push((
            "ConsumerCount".to_owned(),
            description.consumers.len().into(),
        ));
        Ok(map([("StreamDescriptionSummary", Value::Map(members))]))
    }

    pub(super) async fn list_streams(&self, call: &Call) -> Result<Value, Refusal> {
        let arguments = &call.arguments;
        let limit = arguments.integer("Limit", 1..=10_000)?.unwrap_or(100) as usize;
        let token = match arguments.text("NextToken")? {
            None => None,
            Some(token) => Some(Listing::decode(token).ok_or_else(|| {
                Refusal::argument("The NextToken was not issued by ListStreams.")
            })?),
        };
        let after = token.as_ref().map(|token| token.after.as_str());
        let after = after.or(arguments.text("ExclusiveStartStreamName")?);
        let names = self.streams.names().await?;
        let mut names = names
            .into_iter()
            .filter(|name| after.is_none_or(|after| name.as_str() > after));
        let listed: Vec<_> = names.by_ref().take(limit).collect();
        let more = names.next().is_some();
        let mut summaries = Vec::with_capacity(listed.len());
        for name in &listed {
            // A stream that was deleted meanwhile is skipped.
            let Ok(stream) = self.streams.existing(name).await else {
                continue;
            };
            let description = stream.description();
            summaries.push(map([
                ("StreamName", name.as_str().into()),
                ("StreamARN", call.stream_arn(name).into()),
                ("StreamStatus", "ACTIVE".into()),
                ("StreamModeDetails", mode(&description)),
                (
                    "StreamCreationTimestamp",
                    Value::Time(description.created_ms),
                ),
            ]));
        }
        let next = listed.last().filter(|_| more).map(|last| Listing {
            stream: String::new(),
            after: last.clone(),
            filter: String::new(),
            issued_ms: crate::now_ms(),
        });
        Ok(map([
            ("StreamNames", list(listed.into_iter().map(Value::from))),
            ("HasMoreStreams", more.into()),
            ("NextToken", next.map(|next| next.encode()).into()),
            ("StreamSummaries", Value::List(summaries)),
        ]))
    }

    pub(super) async fn describe_limits(&self) -> Result<Value, Refusal> {
        let (mut open, mut on_demand) = (0, 0_usize);
        for name in self.streams.names().await? {
            let Ok(stream) = self.streams.existing(&name).await else {
                continue;
            };
            let description = stream.description();
            match description.on_demand {
                true => on_demand += 1,
                false => open += description.open_shards().len(),
            }
        }
        Ok(map([
            ("ShardLimit", SHARDS_MAX.into()),
            ("OpenShardCount", open.into()),
            ("OnDemandStreamCount", on_demand.into()),
            ("OnDemandStreamCountLimit", 50_usize.into()),
        ]))
    }
}

/// Shards that may still have readable records, by number.
fn listed(description: &Description, now_ms: u64) -> impl Iterator<Item = &Shard> {
    let horizon_ms = description.horizon_ms(now_ms);
    let shards = description.shards.iter();
    shards.filter(move |shard| {
        shard
            .closed_ms()
            .is_none_or(|closed_ms| closed_ms >= horizon_ms)
    })
}

fn shards_wanted(stream: &Stream, arguments: &Arguments) -> Result<(Option<u32>, Filter), Refusal> {
    let description = stream.description();
    let after = |id: Option<&str>| -> Result<Option<u32>, Refusal> {
        match id {
            None => Ok(None),
            Some(id) => Ok(Some(known_shard(stream, &description, id)?.index)),
        }
    };
    let start = after(arguments.text("ExclusiveStartShardId")?)?;
    let Some(filter) = arguments.structure("ShardFilter")? else {
        return Ok((start, Filter::All));
    };
    if start.is_some() {
        return Err(Refusal::argument(
            "ExclusiveStartShardId and ShardFilter cannot be given together.",
        ));
    }
    let horizon_ms = description
        .horizon_ms(crate::now_ms())
        .max(description.created_ms);
    let time_ms = || -> Result<u64, Refusal> {
        let time_ms = filter
            .time_ms("Timestamp")?
            .ok_or_else(|| missing("Timestamp"))?;
        Ok(time_ms.max(horizon_ms))
    };
    Ok(match filter.required_text("Type")? {
        "AFTER_SHARD_ID" => (after(Some(filter.required_text("ShardId")?))?, Filter::All),
        "AT_TRIM_HORIZON" => (None, Filter::OpenAt(horizon_ms)),
        "FROM_TRIM_HORIZON" => (None, Filter::OpenFrom(horizon_ms)),
        "AT_LATEST" => (None, Filter::Open),
        "AT_TIMESTAMP" => (None, Filter::OpenAt(time_ms()?)),
        "FROM_TIMESTAMP" => (None, Filter::OpenFrom(time_ms()?)),
        other => return Err(not_one_of("Type", other, &FILTERS)),
    })
}

impl Filter {
    fn admits(self, shard: &Shard) -> bool {
        let open_at = |time_ms| {
            shard
                .closed_ms()
                .is_none_or(|closed_ms| closed_ms > time_ms)
        };
        match self {
            Self::All => true,
            Self::OpenAt(time_ms) => shard.created_ms() <= time_ms && open_at(time_ms),
            Self::OpenFrom(time_ms) => shard
                .closed_ms()
                .is_none_or(|closed_ms| closed_ms >= time_ms),
            Self::Open => shard.is_open(),
        }
    }

    fn encode(self) -> String {
        match self {
            Self::All => "all".to_owned(),
            Self::OpenAt(time_ms) => format!("at {time_ms}"),
            Self::OpenFrom(time_ms) => format!("from {time_ms}"),
            Self::Open => "open".to_owned(),
        }
    }

    fn decode(text: &str) -> Self {
        let time_ms = |time: &str| time.parse().unwrap_or(0);
        match text.split_once(' ') {
            Some(("at", time)) => Self::OpenAt(time_ms(time)),
            Some(("from", time)) => Self::OpenFrom(time_ms(time)),
            _ if text == "open" => Self::Open,
            _ => Self::All,
        }
    }
}

fn describe(shard: &Shard) -> Value {
    let mut parents = shard
        .parents
        .iter()
        .map(|parent| Value::from(shard_id(*parent)));
    let (parent, adjacent) = (parents.next(), parents.next());
    let ending = shard
        .ending_sequence_number()
        .map(|number| number.to_string());
    map([
        ("ShardId", shard.id().into()),
        ("ParentShardId", parent.unwrap_or(Value::Null)),
        ("AdjacentParentShardId", adjacent.unwrap_or(Value::Null)),
        ("HashKeyRange", hash_key_range(shard)),
        (
            "SequenceNumberRange",
            map([
                (
                    "StartingSequenceNumber",
                    shard.starting_sequence_number().to_string().into(),
                ),
                ("EndingSequenceNumber", ending.into()),
            ]),
        ),
    ])
}

fn summary(call: &Call, stream: &Stream, description: &Description) -> Value {
    map([
        ("StreamName", stream.name().into()),
        ("StreamARN", call.stream_arn(stream.name()).into()),
        ("StreamStatus", "ACTIVE".into()),
        ("StreamModeDetails", mode(description)),
        ("RetentionPeriodHours", description.retention_hours.into()),
        (
            "StreamCreationTimestamp",
            Value::Time(description.created_ms),
        ),
        (
            "EnhancedMonitoring",
            list([map([("ShardLevelMetrics", list([]))])]),
        ),
        ("EncryptionType", "NONE".into()),
    ])
}

fn mode(description: &Description) -> Value {
    let mode = match description.on_demand {
        true => "ON_DEMAND",
        false => "PROVISIONED",
    };
    map([("StreamMode", mode.into())])
}
