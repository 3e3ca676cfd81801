//! Bytes of the facts of messages between partitions.

use super::*;
use crate::placement::KeyGroup;

pub(super) fn sent() -> PeerMessage {
    PeerMessage {
        sender: KeyGroup(300),
        target: Address::new(FunctionType::new("a", "b"), "c"),
        message: Message {
            id: MessageId([1; 16]),
            caller: Some(Address::new(FunctionType::new("a", "d"), "e")),
            argument: typed_value("t", &b"x"[..]),
            correction: None,
            trace: None,
            headers: None,
        },
    }
}

#[test]
fn facts_of_links_have_the_documented_bytes() {
    let acknowledged = Acknowledged {
        upto: 300,
        epoch: 7,
    };
    let facts: [(Key, &[u8], Value, &[u8]); 4] = [
        (
            Key::Assigned { peer: 2 },
            b"\x21\x02",
            Value::LinkNumber(300),
            b"\x01\xac\x02",
        ),
        (
            Key::Acknowledged { peer: 2 },
            b"\x22\x02",
            Value::Acknowledged(acknowledged),
            b"\x01\xac\x02\x07",
        ),
        (
            Key::Taken { peer: 300 },
            b"\x23\xac\x02",
            Value::LinkNumber(5),
            b"\x01\x05",
        ),
        (Key::Lead, b"\x24", Value::Lead(300), b"\x01\xac\x02"),
    ];
    for (key, key_bytes, value, value_bytes) in facts {
        let change = Change {
            key,
            value: Some(value),
        };
        let (key, value) = encode(&change);
        assert_eq!((&key[..], value.as_deref()), (key_bytes, Some(value_bytes)));
        assert_eq!(Change::decode(&key, Some(value_bytes)), Ok(change));
    }
}

#[test]
fn a_message_to_another_partition_has_the_documented_bytes() {
    let key = Key::Out { peer: 2, number: 9 };
    let change = |sent| Change {
        key: key.clone(),
        value: Some(Value::Out(Box::new(sent))),
    };
    let fields = [
        &b"\x01\xac\x02\x01a\x01b\x01c"[..],
        &[1; 16],
        b"\x01\x01a\x01d\x01e\x01t\x01\x01x\x00",
    ]
    .concat();
    let (key, value) = encode(&change(sent()));
    assert_eq!(key, b"\x20\x02\x09");
    assert_eq!(value.unwrap(), [&fields[..], &[0, 0]].concat());

    let mut whole = sent();
    whole.message.trace = Some(TraceParent {
        trace_id: [2; 16],
        parent_id: [3; 8],
        flags: 1,
    });
    whole.message.headers = Some(
        [Header {
            name: "h".into(),
            value: "v".into(),
        }]
        .into(),
    );
    let (key, value) = encode(&change(whole.clone()));
    let bytes = [&fields[..], &[1], &[2; 16], &[3; 8], b"\x01\x01\x01h\x01v"].concat();
    assert_eq!(value.as_deref(), Some(&bytes[..]));
    assert_eq!(Change::decode(&key, Some(&bytes)), Ok(change(whole)));
}
