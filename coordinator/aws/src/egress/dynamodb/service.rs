//! Adapter of DynamoDB.

use std::collections::HashMap;
use std::sync::Arc;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use satchel_engine::output::Emission;

use super::item::{ITEM_BYTES_MAX, NUMBER, WRITER};
use super::{Attribute, DynamoDbSettings, Item};
use crate::egress::failure;
use crate::egress::{Answer, REQUEST_TIMEOUT, Service, with_timeout};
use satchel_engine::sink::delivery::{Limits, Outcome, Record, Request};

const REQUESTS_IN_FLIGHT: usize = 32;

/// Puts items.
#[derive(Debug, Clone)]
pub struct DynamoDbService {
    client: Client,
    settings: DynamoDbSettings,
    table: Arc<str>,
    writer: String,
}

impl DynamoDbService {
    /// Uses the DynamoDB of `config`. `writer` is the permanent name of root, partition and egress.
    pub fn new(config: &SdkConfig, settings: DynamoDbSettings, writer: String) -> Self {
        Self {
            client: Client::new(&with_timeout(config, REQUEST_TIMEOUT)),
            table: settings.table.as_str().into(),
            settings,
            writer,
        }
    }
}

impl Service for DynamoDbService {
    type Payload = Item;

    fn limits(&self) -> Limits {
        Limits {
            records_per_request: 1,
            bytes_per_request: ITEM_BYTES_MAX,
            requests_in_flight: REQUESTS_IN_FLIGHT,
            records_in_flight: REQUESTS_IN_FLIGHT,
        }
    }

    fn prepare(&self, emission: Emission) -> Result<Record<Item>, String> {
        let item = Item::of(&emission, &self.settings, &self.writer)?;
        Ok(Record {
            number: emission.number,
            destination: Arc::clone(&self.table),
            key: Some(Arc::from(item.key.as_str())),
            bytes: item.bytes,
            payload: item,
        })
    }

    async fn deliver(&self, request: &Request<Item>) -> Answer {
        let mut outcomes = Vec::with_capacity(request.records.len());
        for record in &request.records {
            let number = AttributeValue::N(record.number.to_string());
            let answer = self
                .client
                .put_item()
                .table_name(&*request.destination)
                .set_item(Some(attributes(&record.payload)))
                .condition_expression(
                    "attribute_not_exists(#key) OR attribute_not_exists(#writer) \
                    OR #writer <> :writer OR #number < :number",
                )
                .expression_attribute_names("#key", &self.settings.partition_key.name)
                .expression_attribute_names("#writer", WRITER)
                .expression_attribute_names("#number", NUMBER)
                .expression_attribute_values(":writer", AttributeValue::S(self.writer.clone()))
                .expression_attribute_values(":number", number)
                .send()
                .await;
            match answer {
                Ok(_) => outcomes.push(Outcome::Delivered),
                Err(error) if is_superseded(error.as_service_error()) => {
                    outcomes.push(Outcome::Delivered);
                }
                Err(error) => outcomes.extend(failure::outcomes(&error, 1)),
            }
        }
        Answer::of(outcomes)
    }
}

/// True if the condition failed: the item of the key is from this record, or from a later one of
/// the same writer.
fn is_superseded(error: Option<&aws_sdk_dynamodb::operation::put_item::PutItemError>) -> bool {
    error.is_some_and(|error| error.is_conditional_check_failed_exception())
}

/// Attributes of an item, in the type of the SDK.
fn attributes(item: &Item) -> HashMap<String, AttributeValue> {
    let attributes = item.attributes.iter();
    attributes
        .map(|(name, value)| (name.clone(), attribute(value)))
        .collect()
}

fn attribute(value: &Attribute) -> AttributeValue {
    match value {
        Attribute::Null => AttributeValue::Null(true),
        Attribute::Bool(value) => AttributeValue::Bool(*value),
        Attribute::Number(number) => AttributeValue::N(number.clone()),
        Attribute::Text(text) => AttributeValue::S(text.clone()),
        Attribute::Binary(bytes) => AttributeValue::B(Blob::new(bytes.clone())),
        Attribute::List(items) => AttributeValue::L(items.iter().map(attribute).collect()),
        Attribute::Map(fields) => AttributeValue::M(
            fields
                .iter()
                .map(|(name, value)| (name.clone(), attribute(value)))
                .collect(),
        ),
    }
}
