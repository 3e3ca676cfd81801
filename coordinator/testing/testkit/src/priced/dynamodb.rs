//! DynamoDB's JSON API, as far as leases and a commit log need it.
//!
//! | Operation | Known |
//! |---|---|
//! | `CreateTable`, `DescribeTable`, `DeleteTable` | a partition key and an optional sort key |
//! | `GetItem` | `ConsistentRead`, `ProjectionExpression` of names |
//! | `PutItem`, `UpdateItem`, `DeleteItem` | `ConditionExpression`, old and new values |
//! | `Query` | `KeyConditionExpression`, `FilterExpression`, both directions, pages of 1 MB |
//! | `BatchWriteItem` | up to 25 writes; throttling leaves some unprocessed |
//! | `TransactWriteItems` | all four kinds; tokens of clients |
//!
//! Everything else is refused with its name, instead of being ignored. All reads are consistent;
//! `ConsistentRead` decides what they cost. Numbers are whole. A table is active at once.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};

use super::bill::Usage;
use super::server::{Answer, Ask, Port, Service, Timing};

use self::requests::Call;
use self::table::Table;

mod attribute;
mod condition;
mod query;
mod requests;
mod table;
mod tokens;
mod update;
mod writes;

/// Tables.
#[derive(Debug, Default)]
pub(super) struct DynamoDb {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    by_name: BTreeMap<String, Table>,
    /// Tokens of transactions that took effect.
    tokens: BTreeMap<String, Value>,
}

/// Refusal of a request.
#[derive(Debug)]
struct Refused {
    status: u16,
    code: &'static str,
    message: String,
    /// Further fields of the body.
    fields: Map<String, Value>,
    /// Write units that the failed request consumed.
    write_units: f64,
}

impl Refused {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: 400,
            code,
            message: message.into(),
            fields: Map::new(),
            write_units: 0.0,
        }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }

    /// A part of the request that the stand-in does not know.
    fn unknown(what: impl std::fmt::Display) -> Self {
        Self::invalid(format!("the stand-in does not know {what}"))
    }

    fn into_answer(self) -> Answer {
        let kind = format!("com.amazonaws.dynamodb.v20120810#{}", self.code);
        let mut body = self.fields;
        body.insert("__type".to_owned(), kind.into());
        body.insert("message".to_owned(), self.message.into());
        let usage = Usage {
            write_units: self.write_units,
            ..Usage::default()
        };
        respond(self.status, &Value::Object(body)).usage(usage)
    }
}

/// An answer's body, and the units that the request consumed.
type Outcome = Result<(Value, Usage), Refused>;

const OPERATIONS: [&str; 12] = [
    "CreateTable",
    "DescribeTable",
    "DeleteTable",
    "DescribeTimeToLive",
    "UpdateTimeToLive",
    "GetItem",
    "PutItem",
    "UpdateItem",
    "DeleteItem",
    "Query",
    "BatchWriteItem",
    "TransactWriteItems",
];

impl DynamoDb {
    /// Bytes of all items, as DynamoDB counts them.
    pub(super) fn item_bytes(&self) -> u64 {
        let tables = self.tables();
        let sizes = tables.by_name.values().map(Table::bytes);
        sizes.sum()
    }

    fn tables(&self) -> std::sync::MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, operation: &str, body: &[u8], port: &Port) -> Outcome {
        let body: Value = serde_json::from_slice(body)
            .map_err(|error| Refused::new("SerializationException", error.to_string()))?;
        let Value::Object(body) = body else {
            return Err(Refused::new("SerializationException", "not an object"));
        };
        let mut call = Call::of(body)?;
        let tables = &mut *self.tables();
        let outcome = match operation {
            "CreateTable" => tables.create(&mut call),
            "DescribeTable" => tables.describe(&mut call),
            "DeleteTable" => tables.drop_table(&mut call),
            "DescribeTimeToLive" => tables.describe_time_to_live(&mut call),
            "UpdateTimeToLive" => tables.update_time_to_live(&mut call),
            "GetItem" => tables.get(&mut call),
            "PutItem" => tables.put(&mut call),
            "UpdateItem" => tables.update(&mut call),
            "DeleteItem" => tables.delete(&mut call),
            "Query" => tables.query(&mut call),
            "BatchWriteItem" => tables.batch_write(&mut call, || port.is_part_throttled()),
            "TransactWriteItems" => tables.transact(&mut call),
            other => return Err(Refused::unknown(format!("the operation {other}"))),
        }?;
        Ok(outcome)
    }
}

impl Service for DynamoDb {
    fn operation(&self, ask: &Ask) -> Result<String, Answer> {
        match ask.target() {
            Some(operation) if OPERATIONS.contains(&operation) => Ok(operation.to_owned()),
            other => {
                let what = format!("the operation {}", other.unwrap_or("without a name"));
                Err(Refused::unknown(what).into_answer())
            }
        }
    }

    fn throttled(&self) -> Answer {
        let code = "ProvisionedThroughputExceededException";
        Refused::new(
            code,
            "The level of configured provisioned throughput was exceeded.",
        )
        .into_answer()
    }

    async fn perform(&self, operation: &str, ask: Ask, timing: Timing<'_>) -> Answer {
        timing.effect().await;
        let outcome = self.apply(operation, &ask.body, timing.port);
        timing.answer().await;
        let answer = match outcome {
            Ok((body, usage)) => respond(200, &body).usage(usage),
            Err(refused) => refused.into_answer(),
        };
        answer.of_table(table_of(&ask.body))
    }
}

/// Name of the table of a request; `None` for a transaction, which may have several.
fn table_of(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    match body.get("TableName") {
        Some(name) => name.as_str().map(str::to_owned),
        None => body
            .get("RequestItems")?
            .as_object()?
            .keys()
            .next()
            .cloned(),
    }
}

impl Tables {
    fn table(&mut self, name: &str) -> Result<&mut Table, Refused> {
        self.by_name.get_mut(name).ok_or_else(|| {
            let text = "Requested resource not found";
            Refused::new("ResourceNotFoundException", text)
        })
    }

    fn create(&mut self, call: &mut Call) -> Outcome {
        let name = call.text("TableName")?;
        let table = Table::of(call)?;
        call.ignore(&[
            "BillingMode",
            "Tags",
            "TableClass",
            "DeletionProtectionEnabled",
        ]);
        call.finish()?;
        if self.by_name.contains_key(&name) {
            let text = format!("Table already exists: {name}");
            return Err(Refused::new("ResourceInUseException", text));
        }
        let description = table.description(&name);
        self.by_name.insert(name, table);
        Ok((json!({"TableDescription": description}), Usage::default()))
    }

    fn describe(&mut self, call: &mut Call) -> Outcome {
        let name = call.text("TableName")?;
        call.finish()?;
        let description = self.table(&name)?.description(&name);
        Ok((json!({"Table": description}), Usage::default()))
    }

    fn describe_time_to_live(&mut self, call: &mut Call) -> Outcome {
        let name = call.text("TableName")?;
        call.finish()?;
        let description = match &self.table(&name)?.expires {
            Some(attribute) => json!({
                "TimeToLiveStatus": "ENABLED",
                "AttributeName": attribute,
            }),
            None => json!({"TimeToLiveStatus": "DISABLED"}),
        };
        let body = json!({"TimeToLiveDescription": description});
        Ok((body, Usage::default()))
    }

    /// Records the attribute. Nothing expires here: AWS takes days.
    fn update_time_to_live(&mut self, call: &mut Call) -> Outcome {
        let name = call.text("TableName")?;
        let specification = call.fields("TimeToLiveSpecification")?;
        call.finish()?;
        let attribute = specification.get("AttributeName").and_then(Value::as_str);
        if specification.get("Enabled") != Some(&Value::Bool(true)) {
            return Err(Refused::unknown("a time to live that is turned off"));
        }
        let attribute = attribute.ok_or_else(|| Refused::invalid("no AttributeName"))?;
        let table = self.table(&name)?;
        if table.expires.is_some() {
            return Err(Refused::invalid("TimeToLive is already enabled"));
        }
        table.expires = Some(attribute.to_owned());
        let body = json!({"TimeToLiveSpecification": specification});
        Ok((body, Usage::default()))
    }

    fn drop_table(&mut self, call: &mut Call) -> Outcome {
        let name = call.text("TableName")?;
        call.finish()?;
        let description = self.table(&name)?.description(&name);
        self.by_name.remove(&name);
        Ok((json!({"TableDescription": description}), Usage::default()))
    }
}

fn respond(status: u16, body: &Value) -> Answer {
    Answer::new(status).body("application/x-amz-json-1.0", body.to_string())
}
