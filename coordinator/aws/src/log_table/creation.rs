//! Creation of the table.

use std::time::Duration;

use aws_sdk_dynamodb::error::{BuildError, ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    TableDescription, TableStatus,
};
use satchel_log::StoreError;

use super::{DynamoLogTable, Failure, LOG, OBJECT};
use crate::error_text::Operation;

/// Maximum time for a new table to become active.
const CREATION_MAX: Duration = Duration::from_secs(120);

impl DynamoLogTable {
    /// Creates the table if it does not exist, billed per request, and waits until it is active.
    ///
    /// # Errors
    /// [`StoreError::Fatal`] if there is a table of that name with other keys, or no permission;
    /// [`StoreError::Unavailable`] after two minutes.
    pub async fn create(&self) -> Result<(), StoreError> {
        let started = tokio::time::Instant::now();
        loop {
            let late = started.elapsed() > CREATION_MAX;
            match self.create_step().await {
                Ok(true) => return Ok(()),
                Ok(false) if late => {
                    return Err(StoreError::Unavailable {
                        key: self.table.clone(),
                        reason: format!("the table did not become active in {CREATION_MAX:?}"),
                    });
                }
                Err(error) if late || !error.is_retryable() => return Err(error),
                Ok(false) | Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
    }

    /// Describes the table, and creates it if it does not exist. Returns whether it is active.
    async fn create_step(&self) -> Result<bool, StoreError> {
        let request = self.client.describe_table().table_name(&self.table);
        match request.send().await {
            Ok(found) => {
                let Some(table) = found.table() else {
                    return Ok(false);
                };
                self.check_keys(table)?;
                return Ok(table.table_status() == Some(&TableStatus::Active));
            }
            Err(error) if error.code() == Some("ResourceNotFoundException") => {}
            Err(error) => return Err(self.creation_error(&error)),
        }
        let mut request = self
            .client
            .create_table()
            .table_name(&self.table)
            .billing_mode(BillingMode::PayPerRequest);
        for (name, key_type) in [(LOG, KeyType::Hash), (OBJECT, KeyType::Range)] {
            let key = KeySchemaElement::builder().attribute_name(name);
            let attribute = AttributeDefinition::builder().attribute_name(name);
            let attribute = attribute.attribute_type(ScalarAttributeType::S).build();
            let refused = |error: BuildError| self.unbuilt(LOG, name, &error);
            request = request
                .key_schema(key.key_type(key_type).build().map_err(refused)?)
                .attribute_definitions(attribute.map_err(refused)?);
        }
        match request.send().await {
            Ok(_) => Ok(false),
            // Another process is creating it.
            Err(error) if error.code() == Some("ResourceInUseException") => Ok(false),
            Err(error) => Err(self.creation_error(&error)),
        }
    }

    fn check_keys(&self, table: &TableDescription) -> Result<(), StoreError> {
        let keys = table.key_schema().iter();
        let keys: Vec<_> = keys
            .map(|key| (key.attribute_name(), key.key_type()))
            .collect();
        if keys == [(LOG, &KeyType::Hash), (OBJECT, &KeyType::Range)] {
            return Ok(());
        }
        Err(StoreError::Fatal {
            key: self.table.clone(),
            reason: format!(
                "DynamoDB table {}: it is not a table of logs, whose partition key is `{LOG}` and \
                 whose sort key is `{OBJECT}`",
                self.table
            ),
        })
    }

    fn creation_error<E: Operation>(&self, error: &SdkError<E>) -> StoreError {
        match self.judge(&self.table, "", error) {
            Failure::Store(error) => error,
            Failure::Refused => Failure::Refused.into_error(&self.table, ""),
        }
    }
}
