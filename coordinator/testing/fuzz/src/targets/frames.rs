//! Frames and answers between partitions of different processes.

use satchel_engine::address::{Address, FunctionType};
use satchel_engine::durable::frames::{decode_answer, decode_frame, encode_answer, encode_frame};
use satchel_engine::link::{Answer, Frame, Refusal};
use satchel_engine::message::{IdSource, Message, MessageId, PeerMessage};
use satchel_engine::placement::KeyGroup;
use satchel_protocol::types::typed_value;

use super::outcome;
use crate::Target;

/// Frame with its generation.
pub(super) const FRAME: Target = Target {
    name: "peer-frame",
    dictionary: &["example", "greeter", "satchel/json"],
    seeds: || {
        let frames = [1, 3].map(|count| Frame {
            first: 7,
            messages: (0..count).map(message).collect(),
            time_ms: 1_700_000_000_000,
        });
        frames.iter().map(|frame| encode_frame(1, frame)).collect()
    },
    decode: |input| outcome(&decode_frame(input)),
};

/// Answer to frames.
pub(super) const ANSWER: Target = Target {
    name: "peer-answer",
    dictionary: &[],
    seeds: || {
        let answers = [None, Some(Refusal::Gap), Some(Refusal::Ahead)].map(|refused| Answer {
            epoch: 3,
            taken: 300,
            durable: 299,
            time_ms: 1_700_000_000_000,
            refused,
            credit: 1 << 20,
        });
        answers.iter().map(encode_answer).collect()
    },
    decode: |input| outcome(&decode_answer(input)),
};

fn message(number: u16) -> PeerMessage {
    let address = |id: &str| Address::new(FunctionType::new("example", "greeter"), id);
    let argument = typed_value("satchel/json", &b"{\"name\":\"you\"}"[..]);
    PeerMessage {
        sender: KeyGroup(number),
        target: address("target"),
        message: Message {
            id: MessageId::derive(IdSource::Request(&[number as u8; 16]), &argument),
            caller: Some(address("sender")),
            argument,
            correction: None,
            trace: None,
            headers: None,
        },
    }
}
