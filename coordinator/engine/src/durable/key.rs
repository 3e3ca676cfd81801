//! Durable form of keys.

use super::Key;
use super::codec::{
    Malformed, Reader, put_address, put_function, put_number, put_option, put_text,
};
use crate::position::ShardId;
use crate::queue::QueuedId;
use crate::request::Verb;

pub(super) const STATE: u8 = 1;
pub(super) const MESSAGE: u8 = 2;
pub(super) const TIMER: u8 = 3;
const SUSPENSION: u8 = 4;
const FAILURE_RECORD: u8 = 5;
pub(super) const IDEMPOTENCY: u8 = 6;
pub(super) const DEAD_LETTER: u8 = 7;
const REGISTRATION: u8 = 8;
const SHARD: u8 = 9;
const OUTBOX: u8 = 10;
const COUNTER: u8 = 11;
const EGRESS_MARK: u8 = 13;
const HOLD: u8 = 12;
const RECEIVED: u8 = 14;
const FUNCTION_PAUSE: u8 = 15;
const INGRESS_PAUSE: u8 = 16;
const OUT: u8 = 32;
const ASSIGNED: u8 = 33;
const ACKNOWLEDGED: u8 = 34;
const TAKEN: u8 = 35;
const LEAD: u8 = 36;

const CALL: u8 = 1;
const SEND: u8 = 2;

pub(super) fn encode(key: &Key, out: &mut Vec<u8>) {
    match key {
        Key::State { address, name } => {
            out.push(STATE);
            put_address(out, address);
            put_text(out, name);
        }
        Key::Message { address, number } => {
            out.push(MESSAGE);
            put_address(out, address);
            put_number(out, *number);
        }
        Key::Timer { owner, number } => {
            out.push(TIMER);
            put_address(out, owner);
            put_number(out, *number);
        }
        Key::Suspension { address } => {
            out.push(SUSPENSION);
            put_address(out, address);
        }
        Key::FailureRecord { address } => {
            out.push(FAILURE_RECORD);
            put_address(out, address);
        }
        Key::Idempotency { address, verb, key } => {
            out.push(IDEMPOTENCY);
            put_address(out, address);
            out.push(match verb {
                Verb::Call => CALL,
                Verb::Send => SEND,
            });
            put_text(out, key);
        }
        Key::DeadLetter { address, number } => {
            out.push(DEAD_LETTER);
            put_option(out, address.as_ref(), put_address);
            put_number(out, *number);
        }
        Key::Registration { function } => {
            out.push(REGISTRATION);
            put_function(out, function);
        }
        Key::Shard(shard) => {
            out.push(SHARD);
            put_text(out, &shard.ingress);
            put_text(out, &shard.stream);
            put_text(out, &shard.shard);
        }
        Key::Outbox { number } => {
            out.push(OUTBOX);
            put_number(out, *number);
        }
        Key::Counter => out.push(COUNTER),
        Key::EgressMark { egress, name } => {
            out.push(EGRESS_MARK);
            put_text(out, egress);
            put_text(out, name);
        }
        Key::Hold => out.push(HOLD),
        Key::Received { ingress, id } => {
            out.push(RECEIVED);
            put_text(out, ingress);
            out.extend_from_slice(&id.0);
        }
        Key::FunctionPause { function } => {
            out.push(FUNCTION_PAUSE);
            put_function(out, function);
        }
        Key::IngressPause { ingress } => {
            out.push(INGRESS_PAUSE);
            put_text(out, ingress);
        }
        Key::Out { peer, number } => {
            out.push(OUT);
            put_number(out, (*peer).into());
            put_number(out, *number);
        }
        Key::Assigned { peer } => {
            out.push(ASSIGNED);
            put_number(out, (*peer).into());
        }
        Key::Acknowledged { peer } => {
            out.push(ACKNOWLEDGED);
            put_number(out, (*peer).into());
        }
        Key::Taken { peer } => {
            out.push(TAKEN);
            put_number(out, (*peer).into());
        }
        Key::Lead => out.push(LEAD),
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<Key, Malformed> {
    let mut read = Reader(bytes);
    let key = match read.byte()? {
        STATE => Key::State {
            address: read.address()?,
            name: read.shared_text()?,
        },
        MESSAGE => Key::Message {
            address: read.address()?,
            number: read.number()?,
        },
        TIMER => Key::Timer {
            owner: read.address()?,
            number: read.number()?,
        },
        SUSPENSION => Key::Suspension {
            address: read.address()?,
        },
        FAILURE_RECORD => Key::FailureRecord {
            address: read.address()?,
        },
        IDEMPOTENCY => Key::Idempotency {
            address: read.address()?,
            verb: verb(read.byte()?)?,
            key: read.shared_text()?,
        },
        DEAD_LETTER => Key::DeadLetter {
            address: read.option(Reader::address)?,
            number: read.number()?,
        },
        REGISTRATION => Key::Registration {
            function: read.function()?,
        },
        SHARD => Key::Shard(ShardId {
            ingress: read.shared_text()?,
            stream: read.shared_text()?,
            shard: read.shared_text()?,
        }),
        OUTBOX => Key::Outbox {
            number: read.number()?,
        },
        COUNTER => Key::Counter,
        EGRESS_MARK => Key::EgressMark {
            egress: read.shared_text()?,
            name: read.shared_text()?,
        },
        HOLD => Key::Hold,
        RECEIVED => Key::Received {
            ingress: read.shared_text()?,
            id: QueuedId(read.id()?),
        },
        FUNCTION_PAUSE => Key::FunctionPause {
            function: read.function()?,
        },
        INGRESS_PAUSE => Key::IngressPause {
            ingress: read.shared_text()?,
        },
        OUT => Key::Out {
            peer: read.small()?,
            number: read.number()?,
        },
        ASSIGNED => Key::Assigned {
            peer: read.small()?,
        },
        ACKNOWLEDGED => Key::Acknowledged {
            peer: read.small()?,
        },
        TAKEN => Key::Taken {
            peer: read.small()?,
        },
        LEAD => Key::Lead,
        found => {
            return Err(Malformed::Unknown {
                what: "key tag",
                found: found.into(),
            });
        }
    };
    read.end()?;
    Ok(key)
}

fn verb(tag: u8) -> Result<Verb, Malformed> {
    match tag {
        CALL => Ok(Verb::Call),
        SEND => Ok(Verb::Send),
        found => Err(Malformed::Unknown {
            what: "verb",
            found: found.into(),
        }),
    }
}
