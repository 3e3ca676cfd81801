//! Bytes of the facts that name a key group.

use super::*;

#[test]
fn a_key_group_is_a_version_of_its_own_and_without_one_the_bytes_are_those_before() {
    let trace = TraceParent {
        trace_id: [2; 16],
        parent_id: [3; 8],
        flags: 1,
    };
    let trace_bytes = [&[2; 16][..], &[3; 8], &[1]].concat();
    let outbox = |key_group, trace| {
        let entry = OutboxEntry {
            id: MessageId([1; 16]),
            egress: "e/x".into(),
            value: typed_value("t", &b"v"[..]),
            key_group,
            trace,
        };
        (Key::Outbox { number: 7 }, Value::Outbox(entry))
    };
    let letter = |key_group, trace| {
        let letter = DeadLetter {
            id: MessageId([1; 16]),
            source: "s".to_owned(),
            caller: None,
            argument: typed_value("t", &b"v"[..]),
            attempts: 2,
            reason: "r".to_owned(),
            failed_at_ms: 300,
            egress: Some("e/x".into()),
            key_group,
            trace,
        };
        let address = None;
        (
            Key::DeadLetter { address, number: 7 },
            Value::DeadLetter(letter),
        )
    };
    let received = |key_group| {
        let received = ReceivedId {
            expires_at_ms: 300,
            key_group,
        };
        let key = Key::Received {
            ingress: "a/in".into(),
            id: QueuedId([9; 16]),
        };
        (key, Value::Received(received))
    };
    let entry = [&[1; 16][..], b"\x03e/x\x01t\x01\x01v"].concat();
    let given_up = [
        &[1; 16][..],
        b"\x01s\x00\x01t\x01\x01v\x02\x01r\xac\x02\x01\x03e/x",
    ]
    .concat();
    let group = Some(KeyGroup(398));
    for (fact, expected) in [
        (outbox(None, None), [&[1][..], &entry].concat()),
        (
            outbox(None, Some(trace)),
            [&[2][..], &entry, &trace_bytes].concat(),
        ),
        (
            outbox(group, None),
            [&[3][..], &entry, b"\x00\x8e\x03"].concat(),
        ),
        (
            outbox(group, Some(trace)),
            [&[3][..], &entry, &[1], &trace_bytes, b"\x8e\x03"].concat(),
        ),
        (letter(None, None), [&[1][..], &given_up].concat()),
        (
            letter(None, Some(trace)),
            [&[2][..], &given_up, &trace_bytes].concat(),
        ),
        (
            letter(group, None),
            [&[3][..], &given_up, b"\x00\x8e\x03"].concat(),
        ),
        (
            letter(group, Some(trace)),
            [&[3][..], &given_up, &[1], &trace_bytes, b"\x8e\x03"].concat(),
        ),
        (received(None), b"\x01\xac\x02".to_vec()),
        (received(group), b"\x02\xac\x02\x8e\x03".to_vec()),
    ] {
        let (key, value) = fact;
        let value = Some(value);
        let change = Change { key, value };
        let (key, bytes) = encode(&change);
        assert_eq!(bytes.unwrap(), expected, "{change:?}");
        assert_eq!(Change::decode(&key, Some(&expected)), Ok(change));
    }
    let (key, _) = encode(&Change {
        key: received(group).0,
        value: None,
    });
    let unknown = Change::decode(&key, Some(b"\x02\x00\xfe\xff\x03"));
    assert_eq!(
        unknown.unwrap_err().to_string(),
        "the key group 65534 is not known to this version"
    );
}
