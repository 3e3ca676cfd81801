//! Durable form of values. Each value begins with the version of its own layout.

use super::codec::{
    Malformed, Reader, put_address, put_bytes, put_number, put_option, put_text, put_typed_value,
};
use super::links::{acknowledged, peer_message, put_acknowledged, put_peer_message};
use super::{
    DeadLetter, Expiration, FailureRecord, Hold, Idempotency, Key, OutboxEntry, Outcome, Pause,
    ReceivedId, StateSpec, StoredState, Suspension, Timer, Value,
};
use crate::message::{Correction, Header, Headers, Message};
use crate::placement::{KEY_GROUPS_MAX, KeyGroup};
use crate::position::{SequenceNumber, ShardPosition};
use crate::request::CallId;
use crate::trace::TraceParent;

/// Version of every value's first layout. A changed layout gets a new number, and its reader keeps
/// reading this one.
pub(super) const VERSION: u8 = 1;

/// Version of a registration in which a state is retired: each spec is followed by a flag. A
/// registration without retired states is written in version 1, which older software reads.
const WITH_RETIRED: u8 = 2;

/// Version of a message, a timer, a record of the outbox or a dead letter that ends with a trace
/// context. Without a context they are written in the first version.
const WITH_TRACE: u8 = 2;

/// Version of a record of the outbox or a dead letter that ends with an optional trace context and
/// a key group. Without a key group it is written in one of the versions before.
const WITH_KEY_GROUP: u8 = 3;

/// Version of a received id that ends with a key group. Without one it is written in the first
/// version.
const ID_WITH_KEY_GROUP: u8 = 2;

/// Version of a message that ends with an optional trace context and the headers of its record.
/// Without headers it is written in one of the versions before.
const WITH_HEADERS: u8 = 3;

pub(super) fn encode(value: &Value, out: &mut Vec<u8>) {
    let with_retired = matches!(
        value,
        Value::Registration(specs) if specs.iter().any(|spec| spec.retired)
    );
    if let Value::Message(message) = value
        && message.headers.is_some()
    {
        out.push(WITH_HEADERS);
        put_message(out, message);
        put_option(out, message.trace, |out, trace| {
            out.extend_from_slice(&trace.to_bytes());
        });
        put_headers(out, &message.headers);
        return;
    }
    let trace = trace_of(value);
    if let Some(key_group) = key_group_of(value) {
        let is_id = matches!(value, Value::Received(_));
        out.push(if is_id {
            ID_WITH_KEY_GROUP
        } else {
            WITH_KEY_GROUP
        });
        encode_fields(value, false, out);
        if !is_id {
            put_option(out, trace, |out, trace| {
                out.extend_from_slice(&trace.to_bytes());
            });
        }
        put_number(out, key_group.0.into());
        return;
    }
    out.push(match trace {
        Some(_) => WITH_TRACE,
        None if with_retired => WITH_RETIRED,
        None => VERSION,
    });
    encode_fields(value, with_retired, out);
    if let Some(trace) = trace {
        out.extend_from_slice(&trace.to_bytes());
    }
}

fn trace_of(value: &Value) -> Option<TraceParent> {
    match value {
        Value::Message(message) => message.trace,
        Value::Timer(timer) => timer.message.trace,
        Value::Outbox(entry) => entry.trace,
        Value::DeadLetter(letter) => letter.trace,
        _ => None,
    }
}

fn key_group_of(value: &Value) -> Option<KeyGroup> {
    match value {
        Value::Outbox(entry) => entry.key_group,
        Value::DeadLetter(letter) => letter.key_group,
        Value::Received(received) => received.key_group,
        _ => None,
    }
}

fn encode_fields(value: &Value, with_retired: bool, out: &mut Vec<u8>) {
    match value {
        Value::State(state) => {
            put_text(out, &state.typename);
            put_option(out, state.expires_at_ms, put_number);
            put_bytes(out, &state.value);
        }
        Value::Message(message) => put_message(out, message),
        Value::Timer(timer) => {
            put_number(out, timer.due_ms);
            put_option(out, timer.token.as_deref(), put_text);
            put_address(out, &timer.target);
            put_message(out, &timer.message);
        }
        Value::Suspension(suspension) => {
            put_text(out, &suspension.reason);
            put_number(out, suspension.since_ms);
        }
        Value::FailureRecord(failures) => {
            put_number(out, failures.message);
            put_number(out, failures.attempts.into());
            put_text(out, &failures.reason);
            put_number(out, failures.crashes.into());
            put_number(out, failures.crashes_through);
        }
        Value::Idempotency(idempotency) => {
            out.extend_from_slice(&idempotency.fingerprint);
            out.extend_from_slice(&idempotency.call.0);
            put_option(out, idempotency.outcome.as_ref(), put_outcome);
            put_option(out, idempotency.expires_at_ms, put_number);
        }
        Value::DeadLetter(letter) => {
            out.extend_from_slice(&letter.id.0);
            put_text(out, &letter.source);
            put_option(out, letter.caller.as_ref(), put_address);
            put_typed_value(out, &letter.argument);
            put_number(out, letter.attempts.into());
            put_text(out, &letter.reason);
            put_number(out, letter.failed_at_ms);
            put_option(out, letter.egress.as_deref(), put_text);
        }
        Value::Registration(specs) => {
            put_number(out, specs.len() as u64);
            for spec in specs {
                put_spec(out, spec);
                if with_retired {
                    out.push(u8::from(spec.retired));
                }
            }
        }
        Value::Shard(position) => put_position(out, position),
        Value::Outbox(entry) => {
            out.extend_from_slice(&entry.id.0);
            put_text(out, &entry.egress);
            put_typed_value(out, &entry.value);
        }
        Value::Counter(next) => put_number(out, *next),
        Value::EgressMark(bytes) => put_bytes(out, bytes),
        Value::Hold(hold) => {
            put_text(out, &hold.origin);
            put_number(out, hold.since_ms);
            out.push(u8::from(hold.filling));
        }
        Value::Received(received) => put_number(out, received.expires_at_ms),
        Value::Pause(pause) => {
            put_text(out, &pause.reason);
            put_number(out, pause.since_ms);
        }
        Value::Out(sent) => put_peer_message(out, sent),
        Value::LinkNumber(number) | Value::Lead(number) => put_number(out, *number),
        Value::Acknowledged(acknowledged) => put_acknowledged(out, *acknowledged),
    }
}

pub(super) fn decode(key: &Key, bytes: &[u8]) -> Result<Value, Malformed> {
    let mut read = Reader(bytes);
    let version = read.byte()?;
    let (traced, placed) = match (version, key) {
        (VERSION, _) | (WITH_RETIRED, Key::Registration { .. }) => (false, false),
        (
            WITH_TRACE,
            Key::Message { .. } | Key::Timer { .. } | Key::Outbox { .. } | Key::DeadLetter { .. },
        ) => (true, false),
        (WITH_KEY_GROUP, Key::Outbox { .. } | Key::DeadLetter { .. })
        | (ID_WITH_KEY_GROUP, Key::Received { .. }) => (false, true),
        (WITH_HEADERS, Key::Message { .. }) => {
            let mut message = message(&mut read)?;
            message.trace = optional_trace(&mut read)?;
            message.headers = read_headers(&mut read)?;
            read.end()?;
            return Ok(Value::Message(message));
        }
        (found, _) => {
            return Err(Malformed::Unknown {
                what: "value version",
                found: found.into(),
            });
        }
    };
    let mut value = match key {
        Key::State { .. } => Value::State(StoredState {
            typename: read.shared_text()?,
            expires_at_ms: read.option(Reader::number)?,
            value: read.owned_bytes()?,
        }),
        Key::Message { .. } => Value::Message(message(&mut read)?),
        Key::Timer { .. } => Value::Timer(Timer {
            due_ms: read.number()?,
            token: read.option(Reader::shared_text)?,
            target: read.address()?,
            message: message(&mut read)?,
        }),
        Key::Suspension { .. } => Value::Suspension(Suspension {
            reason: read.string()?,
            since_ms: read.number()?,
        }),
        Key::FailureRecord { .. } => Value::FailureRecord(FailureRecord {
            message: read.number()?,
            attempts: read.small()?,
            reason: read.string()?,
            crashes: read.small()?,
            crashes_through: read.number()?,
        }),
        Key::Idempotency { .. } => Value::Idempotency(Idempotency {
            fingerprint: read.id()?,
            call: CallId(read.id()?),
            outcome: read.option(outcome)?,
            expires_at_ms: read.option(Reader::number)?,
        }),
        Key::DeadLetter { .. } => Value::DeadLetter(DeadLetter {
            id: read.message_id()?,
            source: read.string()?,
            caller: read.option(Reader::address)?,
            argument: read.typed_value()?,
            attempts: read.small()?,
            reason: read.string()?,
            failed_at_ms: read.number()?,
            egress: read.option(Reader::shared_text)?,
            key_group: None,
            trace: None,
        }),
        Key::Registration { .. } => {
            let count = read.number()?;
            Value::Registration(
                (0..count)
                    .map(|_| spec(&mut read, version))
                    .collect::<Result<_, _>>()?,
            )
        }
        Key::Shard(_) => Value::Shard(position(&mut read)?),
        Key::Outbox { .. } => Value::Outbox(OutboxEntry {
            id: read.message_id()?,
            egress: read.shared_text()?,
            value: read.typed_value()?,
            key_group: None,
            trace: None,
        }),
        Key::Counter => Value::Counter(read.number()?),
        Key::EgressMark { .. } => Value::EgressMark(read.owned_bytes()?),
        Key::Hold => Value::Hold(Hold {
            origin: read.shared_text()?,
            since_ms: read.number()?,
            filling: read.flag()?,
        }),
        Key::Received { .. } => Value::Received(ReceivedId {
            expires_at_ms: read.number()?,
            key_group: None,
        }),
        Key::FunctionPause { .. } | Key::IngressPause { .. } => Value::Pause(Pause {
            reason: read.shared_text()?,
            since_ms: read.number()?,
        }),
        Key::Out { .. } => Value::Out(Box::new(peer_message(&mut read)?)),
        Key::Assigned { .. } | Key::Taken { .. } => Value::LinkNumber(read.number()?),
        Key::Acknowledged { .. } => Value::Acknowledged(acknowledged(&mut read)?),
        Key::Lead => Value::Lead(read.number()?),
    };
    if traced {
        let trace = Some(TraceParent::from_bytes(read.array("trace context")?));
        match &mut value {
            Value::Message(message) => message.trace = trace,
            Value::Timer(timer) => timer.message.trace = trace,
            Value::Outbox(entry) => entry.trace = trace,
            Value::DeadLetter(letter) => letter.trace = trace,
            _ => unreachable!("checked with the version"),
        }
    }
    if placed {
        match &mut value {
            Value::Outbox(entry) => {
                entry.trace = optional_trace(&mut read)?;
                entry.key_group = Some(key_group(&mut read)?);
            }
            Value::DeadLetter(letter) => {
                letter.trace = optional_trace(&mut read)?;
                letter.key_group = Some(key_group(&mut read)?);
            }
            Value::Received(received) => received.key_group = Some(key_group(&mut read)?),
            _ => unreachable!("checked with the version"),
        }
    }
    read.end()?;
    Ok(value)
}

fn optional_trace(read: &mut Reader<'_>) -> Result<Option<TraceParent>, Malformed> {
    let trace = read.option(|read| read.array("trace context"))?;
    Ok(trace.map(TraceParent::from_bytes))
}

fn key_group(read: &mut Reader<'_>) -> Result<KeyGroup, Malformed> {
    let number = read.number()?;
    let known = u16::try_from(number).ok().filter(|it| *it < KEY_GROUPS_MAX);
    known.map(KeyGroup).ok_or(Malformed::Unknown {
        what: "key group",
        found: number,
    })
}

pub(super) fn put_message(out: &mut Vec<u8>, message: &Message) {
    out.extend_from_slice(&message.id.0);
    put_option(out, message.caller.as_ref(), put_address);
    put_typed_value(out, &message.argument);
    put_option(out, message.correction.as_ref(), |out, correction| {
        put_text(out, &correction.state);
        out.push(u8::from(correction.delete));
    });
}

pub(super) fn message(read: &mut Reader<'_>) -> Result<Message, Malformed> {
    Ok(Message {
        id: read.message_id()?,
        caller: read.option(Reader::address)?,
        argument: read.typed_value()?,
        correction: read.option(|read| {
            Ok(Correction {
                state: read.shared_text()?,
                delete: read.flag()?,
            })
        })?,
        trace: None,
        headers: None,
    })
}

pub(super) fn put_headers(out: &mut Vec<u8>, headers: &Headers) {
    let headers = headers.as_deref().unwrap_or_default();
    put_number(out, headers.len() as u64);
    for header in headers {
        put_text(out, &header.name);
        put_bytes(out, &header.value);
    }
}

pub(super) fn read_headers(read: &mut Reader<'_>) -> Result<Headers, Malformed> {
    let count = read.number()?;
    let headers: Vec<Header> = (0..count)
        .map(|_| {
            Ok(Header {
                name: read.shared_text()?,
                value: read.owned_bytes()?,
            })
        })
        .collect::<Result<_, Malformed>>()?;
    Ok((!headers.is_empty()).then(|| headers.into()))
}

const ACCEPTED: u8 = 0;
const REPLIED: u8 = 1;
const FAILED: u8 = 2;
const REJECTED: u8 = 3;

fn put_outcome(out: &mut Vec<u8>, outcome: &Outcome) {
    match outcome {
        Outcome::Accepted => out.push(ACCEPTED),
        Outcome::Replied(value) => {
            out.push(REPLIED);
            put_typed_value(out, value);
        }
        Outcome::Failed {
            dead_letter,
            reason,
        } => {
            out.push(FAILED);
            out.extend_from_slice(&dead_letter.0);
            put_text(out, reason);
        }
        Outcome::Rejected { code, message } => {
            out.push(REJECTED);
            put_number(out, (*code).into());
            put_text(out, message);
        }
    }
}

fn outcome(read: &mut Reader<'_>) -> Result<Outcome, Malformed> {
    match read.byte()? {
        ACCEPTED => Ok(Outcome::Accepted),
        REPLIED => Ok(Outcome::Replied(read.typed_value()?)),
        FAILED => Ok(Outcome::Failed {
            dead_letter: read.message_id()?,
            reason: read.string()?,
        }),
        REJECTED => Ok(Outcome::Rejected {
            code: status(read.number()?)?,
            message: read.string()?,
        }),
        found => Err(Malformed::Unknown {
            what: "outcome",
            found: found.into(),
        }),
    }
}

fn status(found: u64) -> Result<u16, Malformed> {
    u16::try_from(found).map_err(|_| Malformed::Unknown {
        what: "status of an outcome",
        found,
    })
}

const NEVER: u8 = 0;
const AFTER_WRITE: u8 = 1;
const AFTER_INVOKE: u8 = 2;

fn put_spec(out: &mut Vec<u8>, spec: &StateSpec) {
    put_text(out, &spec.name);
    put_text(out, &spec.typename);
    match spec.expiration {
        Expiration::Never => out.push(NEVER),
        Expiration::AfterWrite(ms) => {
            out.push(AFTER_WRITE);
            put_number(out, ms);
        }
        Expiration::AfterInvoke(ms) => {
            out.push(AFTER_INVOKE);
            put_number(out, ms);
        }
    }
}

fn spec(read: &mut Reader<'_>, version: u8) -> Result<StateSpec, Malformed> {
    Ok(StateSpec {
        name: read.shared_text()?,
        typename: read.shared_text()?,
        expiration: match read.byte()? {
            NEVER => Expiration::Never,
            AFTER_WRITE => Expiration::AfterWrite(read.number()?),
            AFTER_INVOKE => Expiration::AfterInvoke(read.number()?),
            found => {
                return Err(Malformed::Unknown {
                    what: "expiration",
                    found: found.into(),
                });
            }
        },
        retired: version == WITH_RETIRED && read.flag()?,
    })
}

const BEGINNING: u8 = 0;
const AFTER: u8 = 1;
const SINCE: u8 = 2;
const QUIET: u8 = 3;
const END: u8 = 4;
const ELSEWHERE: u8 = 5;

fn put_position(out: &mut Vec<u8>, position: &ShardPosition) {
    match position {
        ShardPosition::Beginning => out.push(BEGINNING),
        ShardPosition::After {
            sequence,
            sub_sequence,
        } => {
            out.push(AFTER);
            put_text(out, sequence.as_str());
            put_number(out, *sub_sequence);
        }
        ShardPosition::Since { time_ms } => {
            out.push(SINCE);
            put_number(out, *time_ms);
        }
        ShardPosition::Quiet {
            sequence,
            sub_sequence,
            until_ms,
        } => {
            out.push(QUIET);
            put_text(out, sequence.as_str());
            put_number(out, *sub_sequence);
            put_number(out, *until_ms);
        }
        ShardPosition::End => out.push(END),
        ShardPosition::Elsewhere => out.push(ELSEWHERE),
    }
}

fn position(read: &mut Reader<'_>) -> Result<ShardPosition, Malformed> {
    match read.byte()? {
        BEGINNING => Ok(ShardPosition::Beginning),
        AFTER => Ok(ShardPosition::After {
            sequence: sequence(read)?,
            sub_sequence: read.number()?,
        }),
        SINCE => Ok(ShardPosition::Since {
            time_ms: read.number()?,
        }),
        QUIET => Ok(ShardPosition::Quiet {
            sequence: sequence(read)?,
            sub_sequence: read.number()?,
            until_ms: read.number()?,
        }),
        END => Ok(ShardPosition::End),
        ELSEWHERE => Ok(ShardPosition::Elsewhere),
        found => Err(Malformed::Unknown {
            what: "position",
            found: found.into(),
        }),
    }
}

fn sequence(read: &mut Reader<'_>) -> Result<SequenceNumber, Malformed> {
    let digits = read.text()?;
    digits
        .parse()
        .map_err(|_| Malformed::SequenceNumber(digits.to_owned()))
}
