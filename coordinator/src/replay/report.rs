//! Printing of a replay, as text for people or as one JSON object.

use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use satchel_engine::address::Address;
use satchel_engine::durable::StoredState;
use satchel_engine::invocation::{Batch, BatchMessage};
use satchel_protocol::reqreply::TypedValue;
use satchel_protocol::reqreply::from_function::InvocationResponse;
use serde_json::{Map, Value, json};

use super::stage::{Stage, Verdict};
use crate::error::{Exit, Failure};
use crate::module::format_rfc3339;
use crate::typed_json;

/// Maximum length of a value in the text, in characters.
const VALUE_CHARS_MAX: usize = 400;

/// Report on one replay.
pub(super) struct Report<'a> {
    stage: &'a Stage,
    request: Value,
    text: String,
    /// Names of states that the function declared during the replay.
    declared: Vec<String>,
}

impl<'a> Report<'a> {
    /// Describes a request.
    pub(super) fn of(stage: &'a Stage, batch: &Batch) -> Self {
        let at = format_rfc3339(stage.at_ms());
        let (target, attempt) = (batch.target.to_string(), batch.attempt.to_string());
        let mut text = format!(
            "request   {target} at {at}, partition {}, attempt {attempt}\n",
            stage.partition()
        );
        for note in &stage.notes {
            push(&mut text, "note", note);
        }
        // Their order is that in which the function declared them, which may be any.
        let mut states: Vec<_> = batch.state.iter().collect();
        states.sort_by(|one, other| one.name.cmp(&other.name));
        for state in &states {
            let value = shown(state.value.as_ref());
            push(&mut text, "state", &format!("{}: {value}", state.name));
        }
        for message in &batch.messages {
            push(&mut text, "message", &message_text(message));
        }
        let states = states
            .iter()
            .map(|state| json!({"state": &*state.name, "value": typed(state.value.as_ref())}));
        let request = json!({
            "address": target,
            "at": at,
            "partition": stage.partition(),
            "attempt": attempt,
            "notes": stage.notes,
            "states": states.collect::<Vec<_>>(),
            "messages": batch.messages.iter().map(message_json).collect::<Vec<_>>(),
        });
        Self {
            stage,
            request,
            text,
            declared: Vec::new(),
        }
    }

    /// Prints the request, before the answer is there, unless the report is JSON.
    pub(super) fn print_request(&self, json: bool) -> Result<(), Failure> {
        match json {
            true => Ok(()),
            // Standard output may be the request itself.
            false => write(std::io::stderr().lock(), &self.text),
        }
    }

    /// Notes the states that the function declared, for which the request is sent again.
    pub(super) fn declared(&mut self, again: &Batch) {
        let names = again.state.iter().map(|state| state.name.to_string());
        self.declared = names.collect();
    }

    /// Prints what became of the messages.
    pub(super) fn print_verdict(&self, verdict: &Verdict, json: bool) -> Result<(), Failure> {
        let text = match json {
            true => format!("{}\n", self.to_json(verdict)),
            false => self.to_text(verdict),
        };
        write(std::io::stdout().lock(), &text)
    }

    fn to_text(&self, verdict: &Verdict) -> String {
        let mut text = String::new();
        if !self.declared.is_empty() {
            push(&mut text, "declared", &self.declared.join(", "));
        }
        if let Some(failure) = &verdict.failure {
            push(
                &mut text,
                "failed",
                &format!("{failure} ({:?})", failure.kind),
            );
            if let Some(rejection) = &failure.rejection {
                let index = rejection
                    .index
                    .map_or(String::new(), |it| format!("message {it}, "));
                let verdict = format!("{index}{} {}", rejection.code, rejection.message);
                push(&mut text, "rejection", &verdict);
            }
        }
        if let Some(reason) = &verdict.rejected {
            push(&mut text, "rejected", reason);
        }
        let Some(effects) = &verdict.effects else {
            return text;
        };
        push(&mut text, "answer", "applied");
        for (name, after) in &verdict.changed {
            let before = self.stage.state_before(name);
            if before.is_none() && after.is_none() {
                continue;
            }
            let expires = after.as_ref().and_then(|after| after.expires_at_ms);
            let expires = expires.map_or(String::new(), |ms| {
                format!(", expires {}", format_rfc3339(ms))
            });
            let change = format!("{} → {}{expires}", stored(before), stored(after.as_ref()));
            push(&mut text, "changed", &format!("{name}: {change}"));
        }
        for sent in sent(effects) {
            let Sent {
                kind, to, value, ..
            } = sent;
            push(&mut text, kind, &format!("{to} {}", argument_text(value)));
        }
        for token in cancelled(effects) {
            push(&mut text, "cancelled", token);
        }
        text
    }

    fn to_json(&self, verdict: &Verdict) -> Value {
        let mut report = Map::new();
        report.insert("request".to_owned(), self.request.clone());
        let outcome = match (&verdict.effects, &verdict.failure) {
            (Some(_), _) => "applied",
            (None, Some(_)) => "failed",
            (None, None) => "rejected",
        };
        report.insert("outcome".to_owned(), outcome.into());
        report.insert("declared".to_owned(), json!(self.declared));
        if let Some(failure) = &verdict.failure {
            let rejection = failure
                .rejection
                .as_ref()
                .map(|it| json!({"index": it.index, "code": it.code, "message": it.message}));
            report.insert(
                "failure".to_owned(),
                json!({
                    "kind": format!("{:?}", failure.kind),
                    "message": failure.message,
                    "rejection": rejection,
                }),
            );
        }
        if let Some(reason) = &verdict.rejected {
            report.insert("rejected".to_owned(), reason.as_str().into());
        }
        if let Some(effects) = &verdict.effects {
            let changed = verdict.changed.iter().filter_map(|(name, after)| {
                let before = self.stage.state_before(name);
                (before.is_some() || after.is_some()).then(|| {
                    json!({
                        "state": &**name,
                        "before": stored_json(before),
                        "after": stored_json(after.as_ref()),
                        "expires_at_ms": after.as_ref().and_then(|after| after.expires_at_ms),
                    })
                })
            });
            report.insert("changed".to_owned(), Value::Array(changed.collect()));
            let sent = sent(effects).into_iter().map(|sent| {
                let mut line = Map::new();
                line.insert("kind".to_owned(), sent.kind.into());
                line.insert("to".to_owned(), sent.target.into());
                if let Some(delay_ms) = sent.delay_ms {
                    line.insert("delay_ms".to_owned(), delay_ms.into());
                }
                if let Some(token) = sent.token {
                    line.insert("token".to_owned(), token.into());
                }
                line.insert("message".to_owned(), argument_json(sent.value));
                Value::Object(line)
            });
            report.insert("sent".to_owned(), Value::Array(sent.collect()));
            report.insert("cancelled".to_owned(), json!(cancelled(effects)));
        }
        Value::Object(report)
    }
}

/// Something that an answer sends.
struct Sent<'a> {
    /// `reply`, `message`, `delayed` or `egress`.
    kind: &'static str,
    /// Target for people, with delay and token.
    to: String,
    target: String,
    delay_ms: Option<i64>,
    token: Option<&'a str>,
    value: Option<&'a TypedValue>,
}

fn sent(effects: &InvocationResponse) -> Vec<Sent<'_>> {
    let messages = effects.outgoing_messages.iter().map(|message| {
        let target = message.target.as_ref().map(Address::from);
        let target = target.map_or(String::new(), |target| target.to_string());
        Sent {
            kind: match target.starts_with("satchel/call/") {
                true => "reply",
                false => "message",
            },
            to: format!("to {target}:"),
            target,
            delay_ms: None,
            token: None,
            value: message.argument.as_ref(),
        }
    });
    let delayed = effects.delayed_invocations.iter();
    let delayed = delayed.filter(|delayed| !delayed.is_cancellation_request);
    let delayed = delayed.map(|delayed| {
        let target = delayed.target.as_ref().map(Address::from);
        let target = target.map_or(String::new(), |target| target.to_string());
        let token = Some(delayed.cancellation_token.as_str()).filter(|token| !token.is_empty());
        let named = token.map_or(String::new(), |token| format!(", token {token:?}"));
        Sent {
            kind: "delayed",
            to: format!("to {target} in {} ms{named}:", delayed.delay_in_ms),
            target,
            delay_ms: Some(delayed.delay_in_ms),
            token,
            value: delayed.argument.as_ref(),
        }
    });
    let egresses = effects.outgoing_egresses.iter().map(|record| {
        let target = format!("{}/{}", record.egress_namespace, record.egress_type);
        Sent {
            kind: "egress",
            to: format!("to {target}:"),
            target,
            delay_ms: None,
            token: None,
            value: record.argument.as_ref(),
        }
    });
    messages.chain(delayed).chain(egresses).collect()
}

/// Tokens of the delayed messages that an answer cancels.
fn cancelled(effects: &InvocationResponse) -> Vec<&str> {
    let delayed = effects.delayed_invocations.iter();
    let cancelled = delayed.filter(|delayed| delayed.is_cancellation_request);
    cancelled
        .map(|delayed| delayed.cancellation_token.as_str())
        .collect()
}

fn message_text(message: &BatchMessage) -> String {
    let caller = match &message.caller {
        Some(caller) => format!(" from {caller}"),
        None => String::new(),
    };
    let failed = match message.failed_attempts {
        0 => String::new(),
        count => format!(", failed {count} times before"),
    };
    let value = argument_text(Some(&message.argument));
    format!("{}{caller}{failed}: {value}", message.id)
}

fn message_json(message: &BatchMessage) -> Value {
    json!({
        "id": &*message.id,
        "caller": message.caller.as_ref().map(ToString::to_string),
        "failed_attempts": message.failed_attempts,
        "message": argument_json(Some(&message.argument)),
    })
}

fn argument_text(value: Option<&TypedValue>) -> String {
    value.map_or("(none)".to_owned(), |value| {
        format!(
            "{} {}",
            value.typename,
            bytes_text(&value.typename, &value.value)
        )
    })
}

fn argument_json(value: Option<&TypedValue>) -> Value {
    value.map_or(Value::Null, |value| {
        typed_value(&value.typename, &value.value)
    })
}

fn stored(state: Option<&StoredState>) -> String {
    let pair = state.map(|state| (state.typename.clone(), state.value.clone()));
    shown(pair.as_ref())
}

fn stored_json(state: Option<&StoredState>) -> Value {
    state.map_or(Value::Null, |state| {
        typed_value(&state.typename, &state.value)
    })
}

fn shown(value: Option<&(Arc<str>, Bytes)>) -> String {
    value.map_or("(none)".to_owned(), |(typename, bytes)| {
        bytes_text(typename, bytes)
    })
}

fn typed(value: Option<&(Arc<str>, Bytes)>) -> Value {
    value.map_or(Value::Null, |(typename, bytes)| {
        typed_value(typename, bytes)
    })
}

/// Returns a value as text: JSON of a built-in type, other text as it is, or base64.
fn bytes_text(typename: &str, bytes: &Bytes) -> String {
    let text = typed_json::show(Some(typename), bytes);
    let text = match std::str::from_utf8(&text) {
        Ok(text)
            if !text
                .chars()
                .any(|c| c.is_control() && c != '\n' && c != '\t') =>
        {
            text.to_owned()
        }
        _ => format!("base64 {}", STANDARD.encode(bytes)),
    };
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        None => text,
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], bytes.len()),
    }
}

/// Returns a value as JSON: with `value` if it is JSON or of a built-in type, else `base64`.
fn typed_value(typename: &str, bytes: &Bytes) -> Value {
    let shown = typed_json::show(Some(typename), bytes);
    match serde_json::from_slice::<Value>(&shown) {
        Ok(value) => json!({"typename": typename, "value": value}),
        Err(_) => json!({"typename": typename, "base64": STANDARD.encode(bytes)}),
    }
}

fn push(text: &mut String, label: &str, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{label:<9} {line}");
}

fn write(mut out: impl std::io::Write, text: &str) -> Result<(), Failure> {
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::caused(Exit::Environment, "standard output", error))
        }
        _ => Ok(()),
    }
}
