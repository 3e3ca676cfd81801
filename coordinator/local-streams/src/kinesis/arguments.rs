//! Members of a request.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::error::Refusal;
use super::value::Value;

/// Last millisecond of the year 9999.
const CALENDAR_END_MS: u64 = 253_402_300_799_999;

/// Members of a request, or of a structure in it.
#[derive(Debug)]
pub(super) struct Arguments(Vec<(String, Value)>);

impl Arguments {
    /// Members of a decoded body.
    pub(super) fn new(body: Value) -> Result<Self, Refusal> {
        match body {
            Value::Map(members) => Ok(Self(members)),
            _ => Err(Refusal::serialization("the body is not a structure")),
        }
    }

    /// A string.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(wrong_kind(name, "a string")),
        }
    }

    /// A required string.
    pub(super) fn required_text(&self, name: &str) -> Result<&str, Refusal> {
        self.text(name)?.ok_or_else(|| missing(name))
    }

    /// An integer within bounds.
    pub(super) fn integer(
        &self,
        name: &str,
        bounds: std::ops::RangeInclusive<i64>,
    ) -> Result<Option<i64>, Refusal> {
        let number = match self.get(name) {
            None => return Ok(None),
            Some(Value::Integer(number)) => *number,
            Some(_) => return Err(wrong_kind(name, "a whole number")),
        };
        if !bounds.contains(&number) {
            return Err(Refusal::validation(format!(
                "1 validation error detected: Value '{number}' at '{}' failed to satisfy \
                constraint: Member must be between {} and {}",
                member(name),
                bounds.start(),
                bounds.end()
            )));
        }
        Ok(Some(number))
    }

    /// A required integer within bounds.
    pub(super) fn required_integer(
        &self,
        name: &str,
        bounds: std::ops::RangeInclusive<i64>,
    ) -> Result<i64, Refusal> {
        self.integer(name, bounds)?.ok_or_else(|| missing(name))
    }

    /// A boolean; false if it is missing.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(_) => Err(wrong_kind(name, "a boolean")),
        }
    }

    /// A timestamp in milliseconds since the Unix epoch.
    pub(super) fn time_ms(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let time_ms = match self.get(name) {
            None => return Ok(None),
            Some(Value::Time(time_ms)) => *time_ms,
            Some(Value::Integer(seconds)) if *seconds >= 0 => {
                seconds.unsigned_abs().saturating_mul(1_000)
            }
            Some(Value::Float(seconds)) if *seconds >= 0.0 => (seconds * 1_000.0).round() as u64,
            Some(_) => return Err(wrong_kind(name, "a time since 1970")),
        };
        if time_ms > CALENDAR_END_MS {
            return Err(Refusal::validation(format!(
                "{name} is beyond the year 9999; a time in JSON is a number of seconds since 1970"
            )));
        }
        Ok(Some(time_ms))
    }

    /// Required bytes. A string is decoded as base64.
    pub(super) fn required_bytes(&self, name: &str) -> Result<Bytes, Refusal> {
        match self.get(name) {
            None => Err(missing(name)),
            Some(Value::Bytes(bytes)) => Ok(bytes.clone()),
            Some(Value::Text(text)) => match STANDARD.decode(text) {
                Ok(bytes) => Ok(bytes.into()),
                Err(error) => Err(Refusal::serialization(format!("{name}: base64: {error}"))),
            },
            Some(_) => Err(wrong_kind(name, "bytes")),
        }
    }

    /// A list.
    pub(super) fn take_list(&mut self, name: &str) -> Result<Option<Vec<Value>>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::List(values)) => Ok(Some(values)),
            Some(_) => Err(wrong_kind(name, "a list")),
        }
    }

    /// A list of strings.
    pub(super) fn take_texts(&mut self, name: &str) -> Result<Option<Vec<String>>, Refusal> {
        let Some(values) = self.take_list(name)? else {
            return Ok(None);
        };
        let text = |value| match value {
            Value::Text(text) => Ok(text),
            _ => Err(wrong_kind(name, "a list of strings")),
        };
        values
            .into_iter()
            .map(text)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// A map of strings.
    pub(super) fn take_tags(
        &mut self,
        name: &str,
    ) -> Result<Option<Vec<(String, String)>>, Refusal> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let Value::Map(members) = value else {
            return Err(wrong_kind(name, "a map"));
        };
        let text = |(key, value)| match value {
            Value::Text(value) => Ok((key, value)),
            _ => Err(wrong_kind(name, "a map of strings")),
        };
        members
            .into_iter()
            .map(text)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// A structure.
    pub(super) fn structure(&self, name: &str) -> Result<Option<Self>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Map(members)) => Ok(Some(Self(members.clone()))),
            Some(_) => Err(wrong_kind(name, "a structure")),
        }
    }

    /// True if the member is given, whatever its value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn get(&self, name: &str) -> Option<&Value> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value)
            .filter(|value| **value != Value::Null)
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let found = self.0.iter_mut().find(|(known, _)| known == name)?;
        let value = std::mem::replace(&mut found.1, Value::Null);
        (value != Value::Null).then_some(value)
    }
}

/// Refusal for a missing member that is required.
pub(super) fn missing(name: &str) -> Refusal {
    Refusal::validation(format!(
        "1 validation error detected: Value null at '{}' failed to satisfy constraint: \
        Member must not be null",
        member(name)
    ))
}

/// Refusal for a string that is not a member of an enumeration.
pub(super) fn not_one_of(name: &str, text: &str, known: &[&str]) -> Refusal {
    Refusal::validation(format!(
        "1 validation error detected: Value '{text}' at '{}' failed to satisfy constraint: \
        Member must satisfy enum value set: [{}]",
        member(name),
        known.join(", ")
    ))
}

fn wrong_kind(name: &str, kind: &str) -> Refusal {
    Refusal::serialization(format!("{name} must be {kind}"))
}

/// Name of a member with a lower-case first letter, as in the messages of Kinesis.
fn member(name: &str) -> String {
    let mut chars = name.chars();
    let first = chars.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}
