//! The commit log in DynamoDB: one item for each commit, created only if there is none of its
//! number.
//!
//! ```text
//! satchel_log::TabledStore ─► DynamoLogTable ─┬─ put:    PutItem, attribute_not_exists
//!                                             ├─ get:    GetItem, consistent
//!                                             ├─ query:  Query, consistent, pages of up to 1 MB
//!                                             └─ delete: BatchWriteItem, paced
//! ```
//!
//! The table has the partition key `log` and the sort key `object`, both strings. All items of a
//! log lie under one partition key, so DynamoDB serves up to 1,000 write units of it a second, and
//! 3,000 read units. Commits at the default pace need 40 to 160.
//!
//! Neither this adapter nor the SDK retries a put: the log repeats sealed bytes and compares what
//! it finds. Deletions are repeated here, because DynamoDB performs only some of those in a
//! request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{Region, SdkConfig};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Builder;
use aws_sdk_dynamodb::error::{BuildError, ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, DeleteRequest, WriteRequest};
use bytes::Bytes;
use futures::future::BoxFuture;
use satchel_log::{ATTRIBUTE_NAMES_BYTES, Created, ItemPage, LogTable, StoreError};

pub use self::request::{OnTableRequest, TableOperation, TableOutcome, TableRequest};

use self::pace::Pace;
use crate::error_text::{Operation, describe};

mod creation;
mod pace;
mod request;

/// Partition key: the name of the log.
const LOG: &str = "log";
/// Sort key: the name of the object in the log.
const OBJECT: &str = "object";
/// Content of the object.
const CONTENT: &str = "content";

/// Maximum duration of a request. After it, the outcome is unknown.
const REQUEST_MAX: Duration = Duration::from_secs(5);

/// Maximum duration of connecting.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// Maximum number of deletions in a request.
const BATCH: usize = 25;

/// Maximum number of times that deletions are repeated which DynamoDB did not perform.
const REPEATS_MAX: u32 = 8;

/// A [`LogTable`] in DynamoDB. Cheap to clone. Must be used within a tokio runtime.
///
/// Needs `dynamodb:GetItem`, `PutItem`, `Query`, `BatchWriteItem` and `DeleteItem`.
/// [`DynamoLogTable::create`] also needs `dynamodb:DescribeTable` and `dynamodb:CreateTable`.
#[derive(Clone)]
pub struct DynamoLogTable {
    client: Client,
    table: String,
    on_request: OnTableRequest,
    /// Pace of deletions, which leave most of what DynamoDB serves of one log to commits.
    pace: Arc<Mutex<Pace>>,
}

/// Failure of a request, classified.
enum Failure {
    /// The condition did not hold.
    Refused,
    /// Any other failure.
    Store(StoreError),
}

impl DynamoLogTable {
    /// The table of this name. `on_request` is called after every request. The SDK's retries are
    /// off.
    #[must_use]
    pub fn new(sdk: &SdkConfig, table: impl Into<String>, on_request: OnTableRequest) -> Self {
        let mut config = Builder::from(sdk)
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_MAX)
                    .operation_timeout(REQUEST_MAX)
                    .build(),
            );
        if sdk.region().is_none() {
            // This must be a stand-in: the endpoint of AWS needs a region.
            config = config.region(Region::from_static("us-east-1"));
        }
        Self {
            client: Client::from_conf(config.build()),
            table: table.into(),
            on_request,
            pace: Arc::new(Mutex::new(Pace::new(Instant::now()))),
        }
    }

    /// Name of the table.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.table
    }

    /// Tries a put under a condition that does not hold if there is no item of this name. A check
    /// of the permission: nothing changes.
    pub(crate) async fn try_put(&self, log: &str, name: &str) -> Result<(), StoreError> {
        let condition = "attribute_exists(#log)";
        let content = Bytes::from_static(b"never stored");
        let put = self.put_item((log, name), content, condition).await;
        put.map(drop)
    }

    async fn put_item(
        &self,
        (log, name): (&str, &str),
        content: Bytes,
        condition: &str,
    ) -> Result<Created, StoreError> {
        let size = size(log, name, &content);
        let request = self
            .client
            .put_item()
            .table_name(&self.table)
            .item(LOG, AttributeValue::S(log.to_owned()))
            .item(OBJECT, AttributeValue::S(name.to_owned()))
            .item(CONTENT, AttributeValue::B(Blob::new(content)))
            .condition_expression(condition)
            .expression_attribute_names("#log", LOG);
        let send = async { request.send().await.map(|_| ((), size)) };
        match self
            .ask(TableOperation::PutItem, log, name, size, send)
            .await
        {
            Ok(()) => {
                self.pace()
                    .stored(Instant::now(), request::write_units(size));
                Ok(Created::Stored)
            }
            Err(Failure::Refused) => Ok(Created::Exists),
            Err(Failure::Store(error)) => Err(error),
        }
    }

    async fn get_item(&self, log: &str, name: &str) -> Result<Option<Bytes>, StoreError> {
        let request = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key(log, name)))
            .consistent_read(true);
        let send = async {
            let item = request.send().await?.item;
            let size = item.as_ref().map_or(0, item_size);
            Ok((item, size))
        };
        let item = self.ask(TableOperation::GetItem, log, name, 0, send).await;
        let item = item.map_err(|failure| failure.into_error(log, name))?;
        item.map(|item| self.content(log, name, item)).transpose()
    }

    async fn query_items(
        &self,
        log: &str,
        first: &str,
        last: &str,
        max: usize,
    ) -> Result<ItemPage, StoreError> {
        let mut page = ItemPage::default();
        let mut from = None;
        loop {
            let request = self
                .client
                .query()
                .table_name(&self.table)
                .consistent_read(true)
                .key_condition_expression("#log = :log AND #object BETWEEN :first AND :last")
                .expression_attribute_names("#log", LOG)
                .expression_attribute_names("#object", OBJECT)
                .expression_attribute_values(":log", AttributeValue::S(log.to_owned()))
                .expression_attribute_values(":first", AttributeValue::S(first.to_owned()))
                .expression_attribute_values(":last", AttributeValue::S(last.to_owned()))
                .limit(i32::try_from(max).unwrap_or(i32::MAX))
                .set_exclusive_start_key(from);
            let send = async {
                let answer = request.send().await?;
                let items = answer.items.unwrap_or_default();
                let size = items.iter().map(item_size).sum();
                Ok(((items, answer.last_evaluated_key), size))
            };
            let answer = self.ask(TableOperation::Query, log, first, 0, send).await;
            let (items, next) = answer.map_err(|failure| failure.into_error(log, first))?;
            for item in items {
                let name = item.get(OBJECT).and_then(|name| name.as_s().ok()).cloned();
                let name = name.ok_or_else(|| self.malformed(log, first, OBJECT))?;
                let content = self.content(log, &name, item)?;
                page.items.push((name, content));
            }
            page.more = next.is_some();
            if !page.items.is_empty() || !page.more {
                return Ok(page);
            }
            from = next;
        }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        // No code panics while it holds the lock.
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn delete_items(&self, log: &str, names: &[String]) -> Result<(), StoreError> {
        let mut begun: Option<Instant> = None;
        for batch in names.chunks(BATCH) {
            let mut left: Vec<String> = batch.to_vec();
            let mut repeats = 0;
            while !left.is_empty() {
                if let Some(begun) = begun {
                    let wait = self.pace().batch(Instant::now(), left.len());
                    let wait = wait * 2u32.pow(repeats.min(5));
                    tokio::time::sleep(wait.saturating_sub(begun.elapsed())).await;
                }
                begun = Some(Instant::now());
                match self.delete_batch(log, &left).await {
                    Ok(unprocessed) => left = unprocessed,
                    Err(error) if error.is_retryable() && repeats < REPEATS_MAX => {}
                    Err(error) => return Err(error),
                }
                repeats += 1;
                if repeats > REPEATS_MAX && !left.is_empty() {
                    return Err(StoreError::Unavailable {
                        key: at(log, &left[0]),
                        reason: format!("DynamoDB table {}: it does not delete", self.table),
                    });
                }
            }
        }
        Ok(())
    }

    /// Deletes up to [`BATCH`] items, and returns the names of those that were not deleted.
    async fn delete_batch(&self, log: &str, names: &[String]) -> Result<Vec<String>, StoreError> {
        let first = names.first().map(String::as_str).unwrap_or_default();
        let mut requests = Vec::with_capacity(names.len());
        for name in names {
            let delete = DeleteRequest::builder()
                .set_key(Some(key(log, name)))
                .build();
            let delete = delete.map_err(|error| self.unbuilt(log, name, &error))?;
            requests.push(WriteRequest::builder().delete_request(delete).build());
        }
        let request = self
            .client
            .batch_write_item()
            .request_items(&self.table, requests);
        // The sizes of the items are not known: a unit for each.
        let size = names.len() as u64 * request::WRITE_UNIT_BYTES;
        let send = async { Ok((request.send().await?.unprocessed_items, size)) };
        let operation = TableOperation::BatchWriteItem;
        let answer = self.ask(operation, log, first, size, send).await;
        let unprocessed = answer.map_err(|failure| failure.into_error(log, first))?;
        let requests = unprocessed.unwrap_or_default().remove(&self.table);
        let deletes = requests.into_iter().flatten();
        let deletes = deletes.filter_map(|request| request.delete_request);
        Ok(deletes
            .filter_map(|delete| delete.key.get(OBJECT)?.as_s().ok().cloned())
            .collect())
    }

    async fn delete_item(&self, log: &str, name: &str, content: &Bytes) -> Result<(), StoreError> {
        let size = size(log, name, content);
        let request = self
            .client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(key(log, name)))
            .condition_expression("#content = :content")
            .expression_attribute_names("#content", CONTENT)
            .expression_attribute_values(
                ":content",
                AttributeValue::B(Blob::new(content.as_ref())),
            );
        let send = async { request.send().await.map(|_| ((), size)) };
        let operation = TableOperation::DeleteItem;
        match self.ask(operation, log, name, size, send).await {
            // There is no item, or a different one.
            Ok(()) | Err(Failure::Refused) => Ok(()),
            Err(Failure::Store(error)) => Err(error),
        }
    }

    /// Makes one request, reports it to the hook, and classifies its failure. `call` returns the
    /// answer and the number of bytes of items that it wrote or read; `refused_bytes` are those
    /// that a request which is refused has cost.
    async fn ask<T, E: Operation>(
        &self,
        operation: TableOperation,
        log: &str,
        name: &str,
        refused_bytes: u64,
        call: impl Future<Output = Result<(T, u64), SdkError<E>>>,
    ) -> Result<T, Failure> {
        let begun = Instant::now();
        let answer = call.await.map_err(|error| self.judge(log, name, &error));
        let (outcome, bytes) = match &answer {
            Ok((_, bytes)) => (TableOutcome::Done, *bytes),
            Err(Failure::Refused) => (TableOutcome::Refused, refused_bytes),
            Err(Failure::Store(error)) if error.is_retryable() => (TableOutcome::Unavailable, 0),
            Err(Failure::Store(_)) => (TableOutcome::Fatal, 0),
        };
        (self.on_request)(TableRequest::new(
            operation,
            outcome,
            bytes,
            begun.elapsed(),
        ));
        answer.map(|(answer, _)| answer)
    }

    fn judge<E: Operation>(&self, log: &str, name: &str, error: &SdkError<E>) -> Failure {
        let key = at(log, name);
        let said = |reason: String| format!("DynamoDB table {}: {reason}", self.table);
        let code = error.code().unwrap_or_default();
        Failure::Store(match code {
            "ConditionalCheckFailedException" => return Failure::Refused,
            "TransactionConflictException" => StoreError::Conflict {
                key,
                reason: said(describe(error)),
            },
            "ResourceNotFoundException" => StoreError::Fatal {
                key,
                reason: said(
                    "there is no such table in this region; create it or correct its name"
                        .to_owned(),
                ),
            },
            "AccessDeniedException"
            | "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "IncompleteSignature"
            | "IncompleteSignatureException"
            | "ItemCollectionSizeLimitExceededException"
            | "ValidationException" => StoreError::Fatal {
                key,
                reason: said(describe(error)),
            },
            // Throttling, failures of the service, renewed credentials, silence.
            _ => StoreError::Unavailable {
                key,
                reason: said(describe(error)),
            },
        })
    }

    fn content(&self, log: &str, name: &str, mut item: Item) -> Result<Bytes, StoreError> {
        match item.remove(CONTENT) {
            Some(AttributeValue::B(content)) => Ok(Bytes::from(content.into_inner())),
            _ => Err(self.malformed(log, name, CONTENT)),
        }
    }

    fn malformed(&self, log: &str, name: &str, attribute: &str) -> StoreError {
        StoreError::Damaged {
            key: at(log, name),
            reason: format!(
                "DynamoDB table {}: its attribute `{attribute}` is missing or of another type",
                self.table
            ),
        }
    }

    fn unbuilt(&self, log: &str, name: &str, error: &BuildError) -> StoreError {
        StoreError::Fatal {
            key: at(log, name),
            reason: format!("DynamoDB table {}: {error}", self.table),
        }
    }
}

type Item = HashMap<String, AttributeValue>;

impl Failure {
    /// Returns the error of an operation that has no condition.
    fn into_error(self, log: &str, name: &str) -> StoreError {
        match self {
            Self::Store(error) => error,
            Self::Refused => StoreError::Fatal {
                key: at(log, name),
                reason: "an unrequested condition failed".to_owned(),
            },
        }
    }
}

/// Name of an item in errors.
fn at(log: &str, name: &str) -> String {
    format!("{log} {name}")
}

fn key(log: &str, name: &str) -> Item {
    HashMap::from([
        (LOG.to_owned(), AttributeValue::S(log.to_owned())),
        (OBJECT.to_owned(), AttributeValue::S(name.to_owned())),
    ])
}

/// Size of an item in bytes, as DynamoDB counts it.
fn size(log: &str, name: &str, content: &[u8]) -> u64 {
    (ATTRIBUTE_NAMES_BYTES + log.len() + name.len() + content.len()) as u64
}

fn item_size(item: &Item) -> u64 {
    let value = |value: &AttributeValue| match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::B(blob) => blob.as_ref().len(),
        _ => 0,
    };
    let sizes = item.iter().map(|(name, it)| name.len() + value(it));
    sizes.sum::<usize>() as u64
}

impl LogTable for DynamoLogTable {
    fn put<'a>(
        &'a self,
        log: &'a str,
        name: &'a str,
        content: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        Box::pin(self.put_item((log, name), content, "attribute_not_exists(#log)"))
    }

    fn get<'a>(
        &'a self,
        log: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(self.get_item(log, name))
    }

    fn query<'a>(
        &'a self,
        log: &'a str,
        first: &'a str,
        last: &'a str,
        max: usize,
    ) -> BoxFuture<'a, Result<ItemPage, StoreError>> {
        Box::pin(self.query_items(log, first, last, max))
    }

    fn delete<'a>(
        &'a self,
        log: &'a str,
        names: &'a [String],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.delete_items(log, names))
    }

    fn delete_exactly<'a>(
        &'a self,
        log: &'a str,
        name: &'a str,
        content: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.delete_item(log, name, content))
    }
}

impl std::fmt::Debug for DynamoLogTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DynamoLogTable")
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

/// A hook that does nothing.
#[must_use]
pub fn unobserved() -> OnTableRequest {
    Arc::new(|_| {})
}
