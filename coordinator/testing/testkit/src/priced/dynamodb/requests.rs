//! The fields of a request. Each must be taken: a field that the stand-in ignores would mislead.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Refused;
use super::attribute::{Item, item};
use super::condition::Condition;
use super::tokens::Placeholders;
use crate::priced::bill::Usage;

#[derive(Debug)]
pub(super) struct Call {
    body: Map<String, Value>,
    pub(super) placeholders: Placeholders,
    wants_capacity: bool,
}

impl Call {
    pub(super) fn of(mut body: Map<String, Value>) -> Result<Self, Refused> {
        let mut placeholders = Placeholders::default();
        if let Some(names) = body.remove("ExpressionAttributeNames") {
            let names: Result<BTreeMap<String, String>, _> = serde_json::from_value(names);
            placeholders.names = names.map_err(|error| Refused::invalid(error.to_string()))?;
        }
        if let Some(Value::Object(values)) = body.remove("ExpressionAttributeValues") {
            placeholders.values = item(&values)?;
        }
        let capacity = body.remove("ReturnConsumedCapacity");
        body.remove("ReturnItemCollectionMetrics");
        Ok(Self {
            body,
            placeholders,
            wants_capacity: capacity.is_some_and(|capacity| capacity != "NONE"),
        })
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.body.remove(name).filter(|value| !value.is_null())
    }

    pub(super) fn required(&mut self, name: &str) -> Result<Value, Refused> {
        let lacking = || Refused::invalid(format!("the request lacks {name}"));
        self.take(name).ok_or_else(lacking)
    }

    pub(super) fn text(&mut self, name: &str) -> Result<String, Refused> {
        match self.required(name)? {
            Value::String(text) => Ok(text),
            other => Err(Refused::invalid(format!("{name} is not a text: {other}"))),
        }
    }

    /// Text of a field, or an empty one.
    pub(super) fn text_or_empty(&mut self, name: &str) -> Result<String, Refused> {
        match self.body.contains_key(name) {
            true => self.text(name),
            false => Ok(String::new()),
        }
    }

    pub(super) fn flag(&mut self, name: &str, default: bool) -> Result<bool, Refused> {
        match self.take(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(Refused::invalid(format!("{name} is not a flag: {other}"))),
        }
    }

    pub(super) fn count(&mut self, name: &str) -> Result<Option<usize>, Refused> {
        let wrong = |value| Refused::invalid(format!("{name} is not a number: {value}"));
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        count.map(Some).ok_or_else(|| wrong(value))
    }

    pub(super) fn list(&mut self, name: &str) -> Result<Vec<Value>, Refused> {
        match self.required(name)? {
            Value::Array(values) => Ok(values),
            other => Err(Refused::invalid(format!("{name} is not a list: {other}"))),
        }
    }

    pub(super) fn fields(&mut self, name: &str) -> Result<Map<String, Value>, Refused> {
        match self.required(name)? {
            Value::Object(fields) => Ok(fields),
            other => Err(Refused::invalid(format!(
                "{name} is not an object: {other}"
            ))),
        }
    }

    pub(super) fn item(&mut self, name: &str) -> Result<Item, Refused> {
        item(&self.fields(name)?)
    }

    pub(super) fn condition(&mut self, name: &str) -> Result<Option<Condition>, Refused> {
        if !self.body.contains_key(name) {
            return Ok(None);
        }
        let text = self.text(name)?;
        Condition::of(&text, &mut self.placeholders).map(Some)
    }

    /// Names of the attributes to return, unless all are.
    pub(super) fn projection(&mut self) -> Result<Option<Vec<String>>, Refused> {
        let text = self.text_or_empty("ProjectionExpression")?;
        if text.is_empty() {
            return Ok(None);
        }
        let mut tokens = super::tokens::Tokens::of(&text, &mut self.placeholders)?;
        let mut names = vec![tokens.expect_name()?];
        while tokens.take_sign(",") {
            names.push(tokens.expect_name()?);
        }
        tokens.finish()?;
        Ok(Some(names))
    }

    /// Drops fields that change nothing here.
    pub(super) fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.body.remove(*name);
        }
    }

    /// Refuses fields that were not taken, and placeholders that were not used.
    pub(super) fn finish(&self) -> Result<(), Refused> {
        match self.body.keys().next() {
            Some(name) => Err(Refused::unknown(format!("the field {name}"))),
            None => self.placeholders.finish(),
        }
    }

    /// An answer, with the consumed capacity if the request asks for it.
    pub(super) fn answer(
        &self,
        table: &str,
        mut body: Map<String, Value>,
        usage: Usage,
    ) -> (Value, Usage) {
        if self.wants_capacity {
            let units = usage.read_units + usage.write_units;
            let capacity = json!({"TableName": table, "CapacityUnits": units});
            body.insert("ConsumedCapacity".to_owned(), capacity);
        }
        (Value::Object(body), usage)
    }
}

/// Units of writing an item of this size.
pub(super) fn write_units(bytes: usize) -> f64 {
    bytes.div_ceil(1024).max(1) as f64
}

/// Units of reading this many bytes.
pub(super) fn read_units(bytes: usize, consistent: bool) -> f64 {
    let units = bytes.div_ceil(4096).max(1) as f64;
    if consistent { units } else { units / 2.0 }
}
