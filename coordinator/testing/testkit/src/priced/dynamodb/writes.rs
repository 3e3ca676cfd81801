//! Writes: of one item, of a batch, and of a transaction.

use serde_json::{Map, Value, json};

use super::attribute::{Item, item_bytes, item_to_json};
use super::condition::Condition;
use super::requests::{Call, write_units};
use super::table::{Key, Table};
use super::update::Update;
use super::{Outcome, Refused, Tables};
use crate::priced::bill::Usage;

/// Maximum number of writes of a batch, and of a transaction.
const BATCH_MAX: usize = 25;
const TRANSACTION_MAX: usize = 100;

/// A write of one item.
struct Write {
    key: Key,
    change: Change,
    condition: Option<Condition>,
    /// True if a failed condition returns the item.
    explain: bool,
}

enum Change {
    Put(Item),
    Update(Update),
    Delete,
    /// Only checks the condition.
    None,
}

/// A write that took effect.
struct Written {
    old: Option<Item>,
    new: Option<Item>,
    units: f64,
}

impl Tables {
    pub(super) fn put(&mut self, call: &mut Call) -> Outcome {
        self.write_one(call, |table, call| {
            let item = call.item("Item")?;
            Table::check_size(&item)?;
            Ok((table.key_in(&item)?, Change::Put(item)))
        })
    }

    pub(super) fn delete(&mut self, call: &mut Call) -> Outcome {
        self.write_one(call, |table, call| {
            Ok((table.key_of(&call.item("Key")?)?, Change::Delete))
        })
    }

    pub(super) fn update(&mut self, call: &mut Call) -> Outcome {
        self.write_one(call, update_of)
    }

    fn write_one(
        &mut self,
        call: &mut Call,
        change: impl Fn(&Table, &mut Call) -> Result<(Key, Change), Refused>,
    ) -> Outcome {
        let name = call.text("TableName")?;
        let returned = call.text_or_empty("ReturnValues")?;
        let table = self.table(&name)?;
        let write = write_of(table, call, change)?;
        call.finish()?;
        let written = table.write(&write)?;
        let values = match returned.as_str() {
            "" | "NONE" => None,
            "ALL_OLD" => written.old,
            "ALL_NEW" => written.new,
            other => return Err(Refused::unknown(format!("the return values {other}"))),
        };
        let mut body = Map::new();
        if let Some(values) = values {
            body.insert("Attributes".to_owned(), item_to_json(&values));
        }
        let usage = Usage {
            write_units: written.units,
            ..Usage::default()
        };
        Ok(call.answer(&name, body, usage))
    }

    /// Writes each item of a batch by itself. `leave` says which remain unprocessed.
    pub(super) fn batch_write(&mut self, call: &mut Call, leave: impl Fn() -> bool) -> Outcome {
        let tables = call.fields("RequestItems")?;
        call.finish()?;
        let mut writes = Vec::new();
        for (name, requests) in tables {
            let requests = requests.as_array().cloned().unwrap_or_default();
            for request in requests {
                let Value::Object(request) = request else {
                    return Err(Refused::invalid("a write that is not an object"));
                };
                let mut fields = Call::of(request.clone())?;
                let table = self.table(&name)?;
                let (key, change) = if let Some(Value::Object(put)) = fields.take("PutRequest") {
                    let item = Call::of(put)?.item("Item")?;
                    Table::check_size(&item)?;
                    (table.key_in(&item)?, Change::Put(item))
                } else {
                    let delete = fields.fields("DeleteRequest")?;
                    let key = Call::of(delete)?.item("Key")?;
                    (table.key_of(&key)?, Change::Delete)
                };
                fields.finish()?;
                let same =
                    |(other, write, _): &(String, Write, _)| *other == name && write.key == key;
                if writes.iter().any(same) {
                    let text = "Provided list of item keys contains duplicates";
                    return Err(Refused::invalid(text));
                }
                let write = Write {
                    key,
                    change,
                    condition: None,
                    explain: false,
                };
                writes.push((name.clone(), write, Value::Object(request)));
            }
        }
        if !(1..=BATCH_MAX).contains(&writes.len()) {
            let text = format!("a batch has 1 to {BATCH_MAX} writes, not {}", writes.len());
            return Err(Refused::invalid(text));
        }
        let mut usage = Usage::default();
        let mut left: Map<String, Value> = Map::new();
        for (name, write, request) in writes {
            if leave() {
                let left = left.entry(name).or_insert_with(|| json!([]));
                if let Value::Array(left) = left {
                    left.push(request);
                }
                continue;
            }
            usage.write_units += self.table(&name)?.write(&write)?.units;
        }
        let mut body = Map::new();
        body.insert("UnprocessedItems".to_owned(), Value::Object(left));
        Ok((Value::Object(body), usage))
    }

    pub(super) fn transact(&mut self, call: &mut Call) -> Outcome {
        let token = call.text_or_empty("ClientRequestToken")?;
        let requests = call.list("TransactItems")?;
        call.finish()?;
        if !(1..=TRANSACTION_MAX).contains(&requests.len()) {
            let text = format!("a transaction has 1 to {TRANSACTION_MAX} items");
            return Err(Refused::invalid(text));
        }
        let content = Value::Array(requests.clone());
        match self.tokens.get(&token) {
            Some(before) if *before == content => return Ok((json!({}), Usage::default())),
            Some(_) => {
                let code = "IdempotentParameterMismatchException";
                return Err(Refused::new(code, "the token was used for another request"));
            }
            None => {}
        }
        let mut writes: Vec<(String, Write)> = Vec::new();
        for request in requests {
            let (name, write) = self.transacted(request)?;
            let same =
                |(other, before): &(String, Write)| *other == name && before.key == write.key;
            if writes.iter().any(same) {
                let text = "Transaction request cannot include multiple operations on one item";
                return Err(Refused::invalid(text));
            }
            writes.push((name, write));
        }
        self.check_all(&writes)?;
        let mut usage = Usage::default();
        for (name, write) in &writes {
            // Each write is prepared and committed.
            usage.write_units += 2.0 * self.table(name)?.write(write)?.units;
        }
        if !token.is_empty() {
            self.tokens.insert(token, content);
        }
        Ok((json!({}), usage))
    }

    /// One item of a transaction.
    fn transacted(&mut self, request: Value) -> Result<(String, Write), Refused> {
        let Value::Object(request) = request else {
            return Err(Refused::invalid("a write that is not an object"));
        };
        let mut kinds = request.into_iter();
        let (Some((kind, Value::Object(fields))), None) = (kinds.next(), kinds.next()) else {
            return Err(Refused::invalid(
                "an item of a transaction has one operation",
            ));
        };
        let mut call = Call::of(fields)?;
        let name = call.text("TableName")?;
        let table = self.table(&name)?;
        let write = match kind.as_str() {
            "Put" => write_of(table, &mut call, |table, call| {
                let item = call.item("Item")?;
                Table::check_size(&item)?;
                Ok((table.key_in(&item)?, Change::Put(item)))
            }),
            "Delete" => write_of(table, &mut call, |table, call| {
                Ok((table.key_of(&call.item("Key")?)?, Change::Delete))
            }),
            "Update" => write_of(table, &mut call, update_of),
            "ConditionCheck" => write_of(table, &mut call, |table, call| {
                Ok((table.key_of(&call.item("Key")?)?, Change::None))
            }),
            other => Err(Refused::unknown(format!("{other} in a transaction"))),
        }?;
        call.finish()?;
        Ok((name, write))
    }

    /// Checks the conditions of all writes before any takes effect.
    fn check_all(&mut self, writes: &[(String, Write)]) -> Result<(), Refused> {
        let mut reasons = Vec::new();
        let mut units = 0.0;
        for (name, write) in writes {
            let table = self.table(name)?;
            let reason = match table.check(write) {
                Ok(()) => json!({"Code": "None"}),
                Err(refused) => {
                    let mut reason = refused.fields;
                    reason.insert("Code".to_owned(), "ConditionalCheckFailed".into());
                    reason.insert("Message".to_owned(), refused.message.into());
                    Value::Object(reason)
                }
            };
            let before = table.items.get(&write.key).map_or(0, item_bytes);
            units += 2.0 * write_units(before);
            reasons.push(reason);
        }
        if reasons.iter().all(|reason| reason["Code"] == "None") {
            return Ok(());
        }
        let codes: Vec<&str> = reasons
            .iter()
            .filter_map(|reason| reason["Code"].as_str())
            .collect();
        let message = format!(
            "Transaction cancelled, please refer cancellation reasons for specific reasons [{}]",
            codes.join(", ")
        );
        let mut refused = Refused::new("TransactionCanceledException", message);
        let fields = &mut refused.fields;
        fields.insert("CancellationReasons".to_owned(), reasons.into());
        refused.write_units = units;
        Err(refused)
    }
}

impl Table {
    fn check(&self, write: &Write) -> Result<(), Refused> {
        let old = self.items.get(&write.key);
        let Some(condition) = &write.condition else {
            return Ok(());
        };
        if condition.holds(old.unwrap_or(&Item::new())) {
            return Ok(());
        }
        let text = "The conditional request failed";
        let mut refused = Refused::new("ConditionalCheckFailedException", text);
        refused.write_units = write_units(old.map_or(0, item_bytes));
        if let Some(old) = old.filter(|_| write.explain) {
            refused.fields.insert("Item".to_owned(), item_to_json(old));
        }
        Err(refused)
    }

    fn write(&mut self, write: &Write) -> Result<Written, Refused> {
        self.check(write)?;
        let old = self.items.get(&write.key).cloned();
        let new = match &write.change {
            Change::Put(item) => Some(item.clone()),
            Change::Update(update) => {
                let before = old.clone();
                let before = before.unwrap_or_else(|| self.key_attributes(&write.key));
                let item = update.apply(&before)?;
                Self::check_size(&item)?;
                if self.key_in(&item)? != write.key {
                    return Err(Refused::invalid("Cannot update an attribute of the key"));
                }
                Some(item)
            }
            Change::Delete => None,
            Change::None => old.clone(),
        };
        match &new {
            Some(item) => self.items.insert(write.key.clone(), item.clone()),
            None => self.items.remove(&write.key),
        };
        let bytes = |item: &Option<Item>| item.as_ref().map_or(0, item_bytes);
        Ok(Written {
            units: write_units(bytes(&old).max(bytes(&new))),
            old,
            new,
        })
    }
}

fn update_of(table: &Table, call: &mut Call) -> Result<(Key, Change), Refused> {
    let text = call.text("UpdateExpression")?;
    let update = Update::of(&text, &mut call.placeholders)?;
    Ok((table.key_of(&call.item("Key")?)?, Change::Update(update)))
}

fn write_of(
    table: &Table,
    call: &mut Call,
    change: impl Fn(&Table, &mut Call) -> Result<(Key, Change), Refused>,
) -> Result<Write, Refused> {
    let (key, change) = change(table, call)?;
    let explain = call.text_or_empty("ReturnValuesOnConditionCheckFailure")?;
    Ok(Write {
        key,
        change,
        condition: call.condition("ConditionExpression")?,
        explain: explain == "ALL_OLD",
    })
}
