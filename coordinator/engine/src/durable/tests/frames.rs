//! Bytes of frames and answers between processes.

use super::links::sent;
use super::*;
use crate::address::RESERVED_NAMESPACE;
use crate::durable::frames::{decode_answer, decode_frame, encode_answer, encode_frame};
use crate::link::{Answer, Frame, Refusal};
use crate::message::SHARDS_NAME;
use crate::trace::TraceParent;

fn frame() -> Frame<PeerMessage> {
    let mut traced = sent();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    traced.message.trace = TraceParent::parse(trace);
    assert!(traced.message.trace.is_some());
    Frame {
        first: 300,
        messages: vec![sent(), traced],
        time_ms: 1_700_000_000_000,
    }
}

fn answer() -> Answer {
    Answer {
        epoch: 7,
        taken: 300,
        durable: 2,
        time_ms: 1,
        refused: Some(Refusal::Ahead),
        credit: 1 << 20,
    }
}

#[test]
fn frames_and_answers_read_back() {
    let bytes = encode_frame(1, &frame());
    assert_eq!(decode_frame(&bytes), Ok((1, frame())));
    for refused in [None, Some(Refusal::Gap), Some(Refusal::Ahead)] {
        let answer = Answer {
            refused,
            ..answer()
        };
        assert_eq!(decode_answer(&encode_answer(&answer)), Ok(answer));
    }
    let expected = b"\x01\x07\xac\x02\x02\x01\x02\x80\x80\x40";
    assert_eq!(encode_answer(&answer()), expected);
}

#[test]
fn other_versions_and_truncated_or_extended_bytes_are_refused() {
    let (frame, answer) = (encode_frame(1, &frame()), encode_answer(&answer()));
    for end in 0..frame.len() {
        assert!(decode_frame(&frame[..end]).is_err(), "{end}");
    }
    for end in 0..answer.len() {
        assert!(decode_answer(&answer[..end]).is_err(), "{end}");
    }
    let longer = |bytes: &[u8]| [bytes, &[0]].concat();
    assert!(decode_frame(&longer(&frame)).is_err());
    assert!(decode_answer(&longer(&answer)).is_err());
    let newer = |bytes: &[u8]| [&[3], &bytes[1..]].concat();
    let refused = decode_frame(&newer(&frame)).unwrap_err().to_string();
    assert_eq!(
        refused,
        "the version of a frame 3 is not known to this version"
    );
    assert!(decode_answer(&newer(&answer)).is_err());
}

#[test]
fn rule_24_a_frame_about_a_shard_has_a_version_that_older_software_rejects() {
    let shard = ShardId {
        ingress: "example/in".into(),
        stream: "in".into(),
        shard: "shardId-0".into(),
    };
    let position = ShardPosition::Since { time_ms: 7 };
    let told = encode_shard(&shard, &position);
    assert_eq!(decode_shard(&told), Ok((shard, position)));
    let about_a_shard = |value: Vec<u8>| {
        let mut sent = sent();
        sent.target = Address::new(
            FunctionType::new(RESERVED_NAMESPACE, SHARDS_NAME),
            "example/in:in/shardId-0",
        );
        sent.message.argument.value = value.into();
        let messages = vec![sent];
        Frame {
            messages,
            ..frame()
        }
    };
    let frame = about_a_shard(told.clone());
    let bytes = encode_frame(1, &frame);
    assert_eq!(bytes[0], 2);
    assert_eq!(decode_frame(&bytes), Ok((1, frame)));
    // A malformed one is rejected here, before a partition could take it.
    for end in 0..told.len() {
        let bytes = encode_frame(1, &about_a_shard(told[..end].to_vec()));
        assert!(decode_frame(&bytes).is_err(), "{end}");
    }
}

#[test]
fn a_frame_has_messages_with_numbers() {
    let none = Frame {
        messages: Vec::new(),
        ..frame()
    };
    assert!(decode_frame(&encode_frame(1, &none)).is_err());
    for first in [0, u64::MAX] {
        let unnumbered = Frame { first, ..frame() };
        assert!(decode_frame(&encode_frame(1, &unnumbered)).is_err());
    }
    // A count that the bytes cannot hold costs nothing.
    let counted = b"\x01\x01\x01\x01\xff\xff\xff\xff\xff\xff\xff\xff\x7f";
    assert!(decode_frame(counted).is_err());
}
