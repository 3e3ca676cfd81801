//! The lease table: one read and one conditional write, each sent once.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{Region, SdkConfig};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Builder;
use aws_sdk_dynamodb::error::{BuildError, ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType, TableStatus, TimeToLiveSpecification, TimeToLiveStatus,
};
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;

use super::item::{
    EXPIRES, KEY, MEMBER, Malformed, from_attributes, member_from_attributes, member_to_attributes,
    roster_from_attributes, roster_to_attributes, to_attributes,
};
use crate::error_text::{Operation, describe};
use crate::server_date::ServerDate;
use satchel_engine::lease::members::MemberItem;
use satchel_engine::lease::{Condition, LeaseItem, Write};
use satchel_engine::spread::roster::Roster;

/// Maximum duration of one request. A holder and a watcher have time for several within a lease
/// time.
const REQUEST_MAX: Duration = Duration::from_secs(2);

/// Time after which a table with a time to live deletes the item of a process that ended.
const MEMBER_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Maximum time for a new table to become active.
const CREATION_MAX: Duration = Duration::from_secs(120);

/// One lease in a DynamoDB table whose partition key is the string `pk`. Cheap to clone. Must be
/// used within a tokio runtime.
///
/// Needs `dynamodb:GetItem` and `dynamodb:PutItem`. [`LeaseTable::create`] also needs
/// `dynamodb:DescribeTable` and `dynamodb:CreateTable`, [`LeaseTable::expire_members`]
/// `dynamodb:DescribeTimeToLive` and `dynamodb:UpdateTimeToLive`.
#[derive(Debug, Clone)]
pub struct LeaseTable {
    client: Client,
    table: String,
    key: String,
    date: ServerDate,
}

/// Reason why a request to the table failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// There was no response, or an inconclusive one. The request may have taken effect, and a
    /// retry may succeed.
    #[error("DynamoDB table {table}: {reason}")]
    Unavailable {
        /// Name of the table.
        table: String,
        /// Description of the failure.
        reason: String,
    },
    /// The table refuses, and will do so until a person changes something: there is no such table,
    /// no permission, or the item cannot be decoded.
    #[error("DynamoDB table {table}: {reason}")]
    Refused {
        /// Name of the table.
        table: String,
        /// Reason of the refusal.
        reason: String,
    },
}

impl LeaseTable {
    /// The lease `key` in `table`. The SDK's retries are off, and every request has a short limit:
    /// the state machine retries.
    #[must_use]
    pub fn new(sdk: &SdkConfig, table: impl Into<String>, key: impl Into<String>) -> Self {
        let date = ServerDate::default();
        let mut config = Builder::from(sdk)
            .interceptor(date.clone())
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(REQUEST_MAX)
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
            key: key.into(),
            date,
        }
    }

    /// Name of the lease in the table.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns by how much the calendar of this machine was ahead of DynamoDB's at its last answer,
    /// in ms; `None` before the first one.
    pub fn calendar_ahead_ms(&self) -> Option<i64> {
        self.date.ahead_ms()
    }

    /// Reads the item with strong consistency.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn read(&self) -> Result<Option<LeaseItem>, TableError> {
        let item = self.get(&self.key).await?;
        let item = item.as_ref().map(from_attributes).transpose();
        item.map_err(|malformed| self.malformed(&self.key, &malformed))
    }

    /// Reads the item of the process with this peer key, with strong consistency. The item lies
    /// beside the lease, under a key that begins with `prefix`.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn read_member(
        &self,
        prefix: &str,
        peer_key: &str,
    ) -> Result<Option<MemberItem>, TableError> {
        let key = member_key(prefix, peer_key);
        let item = self.get(&key).await?;
        let item = item.as_ref().map(member_from_attributes).transpose();
        item.map_err(|malformed| self.malformed(&key, &malformed))
    }

    /// Reads the roster of the application with strong consistency, and its version. It lies beside
    /// the lease, under a key that begins with `prefix`.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn read_roster(&self, prefix: &str) -> Result<Option<(Roster, u64)>, TableError> {
        let key = roster_key(prefix);
        let item = self.get(&key).await?;
        let item = item.as_ref().map(roster_from_attributes).transpose();
        item.map_err(|malformed| self.malformed(&key, &malformed))
    }

    /// Writes the roster with this version, if the stored one has the version before; version 1 if
    /// there is none. Returns whether it was written.
    ///
    /// # Errors
    /// [`TableError`]. After [`TableError::Unavailable`] the roster may have been written.
    pub async fn write_roster(
        &self,
        prefix: &str,
        (roster, version): (&Roster, u64),
    ) -> Result<bool, TableError> {
        let key = roster_key(prefix);
        let updated = DateTime::from(SystemTime::now())
            .fmt(Format::DateTime)
            .unwrap_or_default();
        let item = roster_to_attributes((roster, version), &key, updated);
        let item = item.map_err(|malformed| self.malformed(&key, &malformed))?;
        let request = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item));
        let request = match version.checked_sub(1) {
            None | Some(0) => request
                .condition_expression("attribute_not_exists(#key)")
                .expression_attribute_names("#key", KEY),
            Some(before) => request
                .condition_expression("#version = :before")
                .expression_attribute_names("#version", "version")
                .expression_attribute_values(":before", AttributeValue::N(before.to_string())),
        };
        match request.send().await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(false),
            Err(error) => Err(self.error(&error)),
        }
    }

    /// Writes the item of a process, unless it holds a larger counter: a renewal that arrives after
    /// the end of the process changes nothing. No other process writes it. Returns whether it was
    /// written.
    ///
    /// # Errors
    /// [`TableError`]. After [`TableError::Unavailable`] the item may have been written.
    pub async fn write_member(
        &self,
        prefix: &str,
        member: &MemberItem,
    ) -> Result<bool, TableError> {
        self.put_member(prefix, member, |put| {
            put.condition_expression("attribute_not_exists(#key) OR #counter < :counter")
                .expression_attribute_names("#key", KEY)
        })
        .await
    }

    /// Writes the last item of a process, whose counter is larger than all before. An item that was
    /// deleted meanwhile, or is another process's, is left alone. Returns whether it was written.
    ///
    /// # Errors
    /// [`TableError`]. After [`TableError::Unavailable`] the item may have been written.
    pub async fn end_member(&self, prefix: &str, member: &MemberItem) -> Result<bool, TableError> {
        self.put_member(prefix, member, |put| {
            put.condition_expression("#member = :member AND #counter < :counter")
                .expression_attribute_names("#member", MEMBER)
                .expression_attribute_values(":member", AttributeValue::S(member.id.clone()))
        })
        .await
    }

    async fn put_member(
        &self,
        prefix: &str,
        member: &MemberItem,
        condition: impl FnOnce(PutItemFluentBuilder) -> PutItemFluentBuilder,
    ) -> Result<bool, TableError> {
        let now = SystemTime::now();
        let updated = DateTime::from(now)
            .fmt(Format::DateTime)
            .unwrap_or_default();
        let expires = now.duration_since(UNIX_EPOCH).unwrap_or_default() + MEMBER_KEPT;
        let key = member_key(prefix, &member.peer.key);
        let item = member_to_attributes(member, &key, (updated, expires.as_secs()));
        let counter = AttributeValue::N(member.counter.to_string());
        let request = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            // `counter` is a reserved word of DynamoDB.
            .expression_attribute_names("#counter", "counter")
            .expression_attribute_values(":counter", counter);
        match condition(request).send().await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(false),
            Err(error) => Err(self.error(&error)),
        }
    }

    async fn get(&self, key: &str) -> Result<Option<HashMap<String, AttributeValue>>, TableError> {
        let request = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(KEY, AttributeValue::S(key.to_owned()))
            .consistent_read(true);
        let answer = request.send().await.map_err(|error| self.error(&error))?;
        Ok(answer.item)
    }

    fn malformed(&self, key: &str, malformed: &Malformed) -> TableError {
        TableError::Refused {
            table: self.table.clone(),
            reason: format!("the item {key}: {malformed}"),
        }
    }

    /// Writes the item if the condition of `write` holds. Returns whether it did.
    ///
    /// # Errors
    /// [`TableError`]. After [`TableError::Unavailable`] the item may have been written.
    pub async fn write(&self, write: &Write) -> Result<bool, TableError> {
        let updated = DateTime::from(SystemTime::now())
            .fmt(Format::DateTime)
            .unwrap_or_default();
        let item = to_attributes(&write.item, &self.key, updated);
        let number = |number: u64| AttributeValue::N(number.to_string());
        let request = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item));
        let request = match &write.condition {
            Condition::Absent => request
                .condition_expression("attribute_not_exists(#key)")
                .expression_attribute_names("#key", KEY),
            Condition::Unmoved {
                owner,
                epoch,
                counter,
            } => request
                .condition_expression("#owner = :owner AND #epoch = :epoch AND #counter = :counter")
                .expression_attribute_values(":owner", AttributeValue::S(owner.clone()))
                .expression_attribute_values(":epoch", number(*epoch))
                .expression_attribute_values(":counter", number(*counter)),
            Condition::Mine { owner, epoch } => request
                .condition_expression("#owner = :owner AND #epoch = :epoch AND #counter < :counter")
                .expression_attribute_values(":owner", AttributeValue::S(owner.clone()))
                .expression_attribute_values(":epoch", number(*epoch))
                .expression_attribute_values(":counter", number(write.item.counter)),
        };
        // `owner` and `counter` are reserved words of DynamoDB.
        let request = match &write.condition {
            Condition::Absent => request,
            Condition::Unmoved { .. } | Condition::Mine { .. } => request
                .expression_attribute_names("#owner", "owner")
                .expression_attribute_names("#epoch", "epoch")
                .expression_attribute_names("#counter", "counter"),
        };
        match request.send().await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(false),
            Err(error) => Err(self.error(&error)),
        }
    }

    /// Creates the table if it does not exist, billed per request, and waits until it is active.
    /// Requests without a response are retried.
    ///
    /// # Errors
    /// [`TableError::Refused`] at once, [`TableError::Unavailable`] after two minutes.
    pub async fn create(&self) -> Result<(), TableError> {
        let started = tokio::time::Instant::now();
        loop {
            let late = started.elapsed() > CREATION_MAX;
            match self.create_step().await {
                Ok(true) => return Ok(()),
                Ok(false) if late => {
                    return Err(TableError::Unavailable {
                        table: self.table.clone(),
                        reason: format!("it did not become active in {CREATION_MAX:?}"),
                    });
                }
                Err(error @ TableError::Refused { .. }) => return Err(error),
                Err(error) if late => return Err(error),
                Ok(false) | Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
    }

    /// Describes the table, and creates it if it does not exist. Returns whether it is active.
    async fn create_step(&self) -> Result<bool, TableError> {
        let request = self.client.describe_table().table_name(&self.table);
        match request.send().await {
            Ok(found) => {
                let status = found.table().and_then(|table| table.table_status());
                return Ok(status == Some(&TableStatus::Active));
            }
            Err(error) if error.code() == Some("ResourceNotFoundException") => {}
            Err(error) => return Err(self.error(&error)),
        }
        let refused = |error: BuildError| self.unbuilt(&error);
        let key = KeySchemaElement::builder().attribute_name(KEY);
        let attribute = AttributeDefinition::builder().attribute_name(KEY);
        let attribute = attribute.attribute_type(ScalarAttributeType::S);
        let request = self
            .client
            .create_table()
            .table_name(&self.table)
            .billing_mode(BillingMode::PayPerRequest)
            .key_schema(key.key_type(KeyType::Hash).build().map_err(refused)?)
            .attribute_definitions(attribute.build().map_err(refused)?);
        match request.send().await {
            Ok(_) => Ok(false),
            // Another process is creating it.
            Err(error) if error.code() == Some("ResourceInUseException") => Ok(false),
            Err(error) => Err(self.error(&error)),
        }
    }

    /// Lets the table delete items of processes some time after they ended, by their attribute
    /// `expires`. Leases have no such attribute. Does nothing if that is so already.
    ///
    /// # Errors
    /// [`TableError`]. Without it, items of processes that ended stay.
    pub async fn expire_members(&self) -> Result<(), TableError> {
        if self.members_expire().await? {
            return Ok(());
        }
        let specification = TimeToLiveSpecification::builder()
            .attribute_name(EXPIRES)
            .enabled(true);
        let specification = specification
            .build()
            .map_err(|error| self.unbuilt(&error))?;
        let request = self
            .client
            .update_time_to_live()
            .table_name(&self.table)
            .time_to_live_specification(specification);
        match request.send().await {
            Ok(_) => Ok(()),
            // Another process was faster.
            Err(_) if self.members_expire().await == Ok(true) => Ok(()),
            Err(error) => Err(self.error(&error)),
        }
    }

    async fn members_expire(&self) -> Result<bool, TableError> {
        let request = self.client.describe_time_to_live().table_name(&self.table);
        let found = request.send().await.map_err(|error| self.error(&error))?;
        let found = found.time_to_live_description();
        let status = found.and_then(|found| found.time_to_live_status());
        Ok(matches!(
            status,
            Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)
        ))
    }

    fn unbuilt(&self, error: &BuildError) -> TableError {
        TableError::Refused {
            table: self.table.clone(),
            reason: error.to_string(),
        }
    }

    fn error<E: Operation>(&self, error: &SdkError<E>) -> TableError {
        let table = self.table.clone();
        let reason = describe(error);
        match error.code() {
            Some("ResourceNotFoundException") => TableError::Refused {
                table,
                reason: "there is no such table in this region; create it or correct its name"
                    .to_owned(),
            },
            Some(
                "AccessDeniedException"
                | "UnrecognizedClientException"
                | "InvalidSignatureException"
                | "MissingAuthenticationToken"
                | "IncompleteSignature"
                | "ValidationException",
            ) => TableError::Refused { table, reason },
            _ => TableError::Unavailable { table, reason },
        }
    }
}

fn roster_key(prefix: &str) -> String {
    format!("{prefix}#roster")
}

fn member_key(prefix: &str, peer_key: &str) -> String {
    format!("{prefix}#member#{peer_key}")
}
