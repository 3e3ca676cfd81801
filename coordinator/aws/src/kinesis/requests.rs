//! Requests to Kinesis, one try each, and what their failures mean.

use std::error::Error;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::types::{Shard, ShardIteratorType};
use aws_smithy_types::DateTime;
use satchel_engine::position::SequenceNumber;

use satchel_engine::source::shards::ListedShard;

/// How long an answer may take: up to 10 MB are in it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How many shards are listed in one answer; Kinesis's own limit is higher.
const SHARDS_PER_LIST: i32 = 1_000;

/// Why a request has no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Too many were made.
    Throttled(String),
    /// The iterator, or the list's token, is too old.
    Expired,
    /// There is no such stream or shard.
    Missing(String),
    /// An argument is not accepted.
    Invalid(String),
    /// What is asked for is in use.
    InUse(String),
    /// It is not allowed.
    Denied(String),
    /// Anything else: the network, the service, an answer that breaks off. Nothing is known of the outcome.
    Unanswered(String),
}

impl Trouble {
    /// What a failure of the SDK means.
    pub(super) fn of<E, R>(error: &SdkError<E, R>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
        R: std::fmt::Debug + 'static,
    {
        let text = DisplayErrorContext(error).to_string();
        let code = error
            .as_service_error()
            .and_then(ProvideErrorMetadata::code);
        match code {
            Some(
                "ProvisionedThroughputExceededException"
                | "LimitExceededException"
                | "KMSThrottlingException"
                | "ThrottlingException"
                | "Throttling",
            ) => Self::Throttled(text),
            Some("ExpiredIteratorException" | "ExpiredNextTokenException") => Self::Expired,
            Some("ResourceNotFoundException") => Self::Missing(text),
            Some("InvalidArgumentException" | "ValidationException") => Self::Invalid(text),
            Some("ResourceInUseException") => Self::InUse(text),
            Some("AccessDeniedException") => Self::Denied(text),
            _ => Self::Unanswered(text),
        }
    }

    /// Whether fewer requests are what helps.
    pub(super) fn is_throttling(&self) -> bool {
        matches!(self, Self::Throttled(_))
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Expired => f.write_str("the iterator or token has expired"),
            Self::Throttled(text)
            | Self::Missing(text)
            | Self::Invalid(text)
            | Self::InUse(text)
            | Self::Denied(text)
            | Self::Unanswered(text) => f.write_str(text),
        }
    }
}

/// From where on a shard is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum From {
    /// Its oldest record.
    Oldest,
    /// After its newest record.
    Newest,
    /// The first record that arrived at or after this moment, in ms since the epoch.
    Time(u64),
    /// This record.
    At(SequenceNumber),
}

impl From {
    pub(super) fn kind(&self) -> ShardIteratorType {
        match self {
            Self::Oldest => ShardIteratorType::TrimHorizon,
            Self::Newest => ShardIteratorType::Latest,
            Self::Time(_) => ShardIteratorType::AtTimestamp,
            Self::At(_) => ShardIteratorType::AtSequenceNumber,
        }
    }

    pub(super) fn time(&self) -> Option<DateTime> {
        match self {
            Self::Time(ms) => Some(DateTime::from_millis(
                i64::try_from(*ms).unwrap_or(i64::MAX),
            )),
            _ => None,
        }
    }

    pub(super) fn sequence(&self) -> Option<String> {
        match self {
            Self::At(sequence) => Some(sequence.to_string()),
            _ => None,
        }
    }
}

/// The answer of a request within the time that it may take.
pub(super) async fn answer<T, E, R>(
    request: impl Future<Output = Result<T, SdkError<E, R>>>,
) -> Result<T, Trouble>
where
    E: ProvideErrorMetadata + Error + 'static,
    R: std::fmt::Debug + 'static,
{
    match tokio::time::timeout(ANSWER_TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Trouble::of(&error)),
        Err(_) => Err(Trouble::Unanswered(format!(
            "no answer in {} s",
            ANSWER_TIMEOUT.as_secs()
        ))),
    }
}

/// All shards of a stream that it still keeps records of, or may.
pub(super) async fn list_shards(
    client: &Client,
    stream: &str,
) -> Result<Vec<ListedShard>, Trouble> {
    let mut shards = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let request = client.list_shards().max_results(SHARDS_PER_LIST);
        let request = match token.take() {
            Some(token) => request.next_token(token),
            None => request.stream_name(stream),
        };
        let answer = answer(request.send()).await?;
        shards.extend(answer.shards().iter().map(listed));
        match answer.next_token {
            Some(next) => token = Some(next),
            None => return Ok(shards),
        }
    }
}

pub(super) async fn shard_iterator(
    client: &Client,
    stream: &str,
    shard: &str,
    from: &From,
) -> Result<String, Trouble> {
    let request = client
        .get_shard_iterator()
        .stream_name(stream)
        .shard_id(shard)
        .shard_iterator_type(from.kind())
        .set_timestamp(from.time())
        .set_starting_sequence_number(from.sequence());
    let answer = answer(request.send()).await?;
    answer
        .shard_iterator
        .ok_or_else(|| Trouble::Unanswered("the answer has no iterator in it".to_owned()))
}

pub(super) async fn get_records(
    client: &Client,
    iterator: &str,
    limit: i32,
) -> Result<GetRecordsOutput, Trouble> {
    let request = client.get_records().shard_iterator(iterator).limit(limit);
    answer(request.send()).await
}

/// What is asked of a stream once: its ARN, and for how many hours it keeps records.
pub(super) async fn describe(client: &Client, stream: &str) -> Result<(String, u64), Trouble> {
    let request = client.describe_stream_summary().stream_name(stream);
    let answer = answer(request.send()).await?;
    let summary = answer.stream_description_summary;
    let summary = summary
        .ok_or_else(|| Trouble::Unanswered("the answer has no description in it".to_owned()))?;
    let hours = u64::try_from(summary.retention_period_hours).unwrap_or_default();
    Ok((summary.stream_arn, hours))
}

fn listed(shard: &Shard) -> ListedShard {
    let parents = [shard.parent_shard_id(), shard.adjacent_parent_shard_id()];
    let range = shard.hash_key_range();
    let ending = shard
        .sequence_number_range()
        .and_then(|range| range.ending_sequence_number());
    ListedShard {
        id: shard.shard_id().into(),
        parents: parents.into_iter().flatten().map(Into::into).collect(),
        closed: ending.is_some(),
        hash_range: range.and_then(|range| {
            let first = range.starting_hash_key().parse().ok()?;
            Some((first, range.ending_hash_key().parse().ok()?))
        }),
    }
}
