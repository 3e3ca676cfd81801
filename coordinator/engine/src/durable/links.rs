//! Durable form of messages to other partitions. A frame between partitions has the same.

use super::Acknowledged;
use super::codec::{Malformed, Reader, put_address, put_number, put_option};
use super::decode_shard;
use super::value::{message, put_headers, put_message, read_headers};
use crate::message::PeerMessage;
use crate::placement::KeyGroup;
use crate::trace::TraceParent;

pub(super) fn put_peer_message(out: &mut Vec<u8>, sent: &PeerMessage) {
    put_number(out, sent.sender.0.into());
    put_address(out, &sent.target);
    put_message(out, &sent.message);
    put_option(out, sent.message.trace, |out, trace| {
        out.extend_from_slice(&trace.to_bytes());
    });
    put_headers(out, &sent.message.headers);
}

pub(super) fn peer_message(read: &mut Reader<'_>) -> Result<PeerMessage, Malformed> {
    let sender = u16::try_from(read.number()?).map_err(|_| Malformed::TooLong)?;
    let target = read.address()?;
    let mut message = message(read)?;
    let trace = read.option(|read| read.array("trace context"))?;
    message.trace = trace.map(TraceParent::from_bytes);
    message.headers = read_headers(read)?;
    let sent = PeerMessage {
        sender: KeyGroup(sender),
        target,
        message,
    };
    if sent.is_about_shard() {
        decode_shard(&sent.message.argument.value)?;
    }
    Ok(sent)
}

pub(super) fn put_acknowledged(out: &mut Vec<u8>, acknowledged: Acknowledged) {
    put_number(out, acknowledged.upto);
    put_number(out, acknowledged.epoch);
}

pub(super) fn acknowledged(read: &mut Reader<'_>) -> Result<Acknowledged, Malformed> {
    Ok(Acknowledged {
        upto: read.number()?,
        epoch: read.number()?,
    })
}
