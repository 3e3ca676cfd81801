//! Checks that what an application names in AWS exists, and that it may do with it what it will do.
//! Changes nothing.
//!
//! A permission is tried with a request that the service must refuse for another reason: an empty
//! partition key, a condition that cannot hold, a shard that does not exist. A service that checks
//! the request before the permission hides a missing one. Every function returns one line for each
//! problem. Missing permissions that only the check itself would need are no problems.

mod streams;
mod targets;

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_kinesis::config::http::HttpResponse;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};

use bytes::Bytes;
use satchel_log::{LogTable as _, StoreError};

use crate::error_text::{Operation, describe};
use crate::lease::{Claimant, Condition, LeaseItem, LeaseTable, Write};
use crate::log_table::DynamoLogTable;

pub use crate::egress::failure::is_permission;
pub use streams::{kinesis_egress, kinesis_stream};
pub use targets::{egress, sqs_queue, target_name};

/// Maximum duration of one request.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Name in requests that must be refused.
const PROBE: &str = "satchel validate";

/// Checks that a lease in the table may be read and written. The write has a condition that cannot
/// hold, so nothing changes.
pub async fn lease_table(table: &LeaseTable) -> Vec<String> {
    let read = Box::pin(table.read()).await;
    let read = read.err().map(|error| error.to_string());
    if let Some(problem) = &read
        && !is_permission(problem)
    {
        return vec![problem.clone()];
    }
    // No process has this id.
    let claimant = Claimant {
        id: PROBE.to_owned(),
        address: None,
        peer: None,
    };
    let write = Write {
        condition: Condition::Mine {
            owner: claimant.id.clone(),
            epoch: 0,
        },
        item: LeaseItem {
            owner: claimant.id,
            epoch: 0,
            counter: 0,
            lease_ms: 0,
            released: true,
            address: None,
            peer: None,
        },
    };
    let written = Box::pin(table.write(&write)).await;
    let written = written.err().map(|error| error.to_string());
    [read, written].into_iter().flatten().collect()
}

/// Checks that the log of the root `root` in the table may be read, written and deleted. Writes
/// have conditions that cannot hold, and what is deleted does not exist, so nothing changes.
pub async fn log_table(table: &DynamoLogTable, root: &str) -> Vec<String> {
    // The name begins as those of the root's logs, to which the permission may be limited.
    let log = format!("{root}#{PROBE}");
    let problem = |error: StoreError| error.to_string();
    let queried = table.query(&log, PROBE, PROBE, 1).await;
    let queried = queried.err().map(problem);
    if let Some(problem) = &queried
        && !is_permission(problem)
    {
        // Without the table, every other request would fail for the same reason.
        return vec![problem.clone()];
    }
    let read = table.get(&log, PROBE).await.err();
    let written = table.try_put(&log, PROBE).await.err();
    let deleted = table.delete(&log, &[PROBE.to_owned()]).await.err();
    let content = Bytes::from_static(PROBE.as_bytes());
    let deleted_exactly = table.delete_exactly(&log, PROBE, &content).await.err();
    let further = [read, written, deleted, deleted_exactly];
    let further = further.into_iter().flatten().map(problem);
    queried.into_iter().chain(further).collect()
}

/// A configuration whose requests are limited in time.
fn limited(sdk: &SdkConfig) -> SdkConfig {
    let limits = TimeoutConfig::builder().operation_timeout(ANSWER_MAX);
    let mut sdk = sdk.to_builder();
    sdk.set_timeout_config(Some(limits.build()));
    sdk.build()
}

/// Problem of a request that must succeed.
fn failed<T, E: Operation>(answer: Result<T, SdkError<E, HttpResponse>>) -> Option<String> {
    answer.err().map(|error| describe(&error))
}

/// Problem of a request that must be refused: that it was refused for its permission, or that there
/// was no answer.
fn denied<T, E: Operation>(answer: Result<T, SdkError<E, HttpResponse>>) -> Option<String> {
    let error = answer.err()?;
    match error.code() {
        Some(code) if !is_permission(code) => None,
        _ => Some(describe(&error)),
    }
}

/// Problem of a request that only the check needs: that what it asks for does not exist.
fn missing<T, E: Operation>(answer: &Result<T, SdkError<E, HttpResponse>>) -> Option<String> {
    let error = answer.as_ref().err()?;
    match error.code() {
        Some(code) if is_permission(code) => None,
        _ => Some(describe(error)),
    }
}
