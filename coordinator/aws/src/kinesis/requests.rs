//! Requests to Kinesis, one attempt each, and the classification of their failures.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::types::{Shard, ShardIteratorType};
use aws_smithy_types::DateTime;
use satchel_engine::position::SequenceNumber;

use crate::egress::failure::is_permission;
use crate::error_text::{Answer, Operation, describe as describe_error};
use satchel_engine::source::shards::ListedShard;

/// Maximum duration of a request. A response may have 10 MB.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Number of shards per page of a listing. Kinesis' own limit is higher.
const SHARDS_PER_LIST: i32 = 1_000;

/// Failure of a request.
#[derive(Debug)]
pub(super) enum RequestFailure {
    /// Kinesis throttled the request.
    Throttled(String),
    /// The iterator, or the token of a listing, has expired.
    Expired,
    /// The stream or shard does not exist.
    Missing(String),
    /// An argument was rejected.
    Invalid(String),
    /// The resource is in use.
    InUse(String),
    /// Permission was denied, or the credentials were rejected.
    Denied(String),
    /// Any other failure: the network, the service, a response that was cut off. The outcome is
    /// unknown.
    Unavailable(String),
}

impl RequestFailure {
    /// Classifies an error of the SDK.
    pub(super) fn of<E: Operation, R: Answer>(error: &SdkError<E, R>) -> Self {
        let text = describe_error(error);
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
            Some(code) if is_permission(code) => Self::Denied(text),
            _ => Self::Unavailable(text),
        }
    }

    /// True if Kinesis denied the request, which a person corrects.
    pub(super) fn is_denied(&self) -> bool {
        matches!(self, Self::Denied(_))
    }

    /// True if Kinesis throttled the request.
    pub(super) fn is_throttling(&self) -> bool {
        matches!(self, Self::Throttled(_))
    }
}

impl std::fmt::Display for RequestFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Expired => f.write_str("the iterator or token has expired"),
            Self::Throttled(text)
            | Self::Missing(text)
            | Self::Invalid(text)
            | Self::InUse(text)
            | Self::Denied(text)
            | Self::Unavailable(text) => f.write_str(text),
        }
    }
}

/// Position at which reading a shard starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReadFrom {
    /// The oldest record.
    Oldest,
    /// After the newest record.
    Newest,
    /// The first record that arrived at this time or later, in milliseconds since the Unix epoch.
    Time(u64),
    /// The record with this number.
    At(SequenceNumber),
}

impl ReadFrom {
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

/// Waits for the response of a request, up to the maximum duration.
pub(super) async fn answer<T, E: Operation, R: Answer>(
    request: impl Future<Output = Result<T, SdkError<E, R>>>,
) -> Result<T, RequestFailure> {
    match tokio::time::timeout(ANSWER_TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(RequestFailure::of(&error)),
        Err(_) => Err(RequestFailure::Unavailable(format!(
            "{}: no response in {} s",
            E::NAME,
            ANSWER_TIMEOUT.as_secs()
        ))),
    }
}

/// All shards of a stream that may still have records.
pub(super) async fn list_shards(
    client: &Client,
    stream: &str,
) -> Result<Vec<ListedShard>, RequestFailure> {
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
    from: &ReadFrom,
) -> Result<String, RequestFailure> {
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
        .ok_or_else(|| RequestFailure::Unavailable("the response has no iterator".to_owned()))
}

pub(super) async fn get_records(
    client: &Client,
    iterator: &str,
    limit: i32,
) -> Result<GetRecordsOutput, RequestFailure> {
    let request = client.get_records().shard_iterator(iterator).limit(limit);
    answer(request.send()).await
}

/// ARN of a stream, and its retention in hours.
pub(super) async fn describe(
    client: &Client,
    stream: &str,
) -> Result<(String, u64), RequestFailure> {
    let request = client.describe_stream_summary().stream_name(stream);
    let answer = answer(request.send()).await?;
    let summary = answer.stream_description_summary;
    let summary = summary
        .ok_or_else(|| RequestFailure::Unavailable("the response has no description".to_owned()))?;
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
