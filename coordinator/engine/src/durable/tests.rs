mod frames;
mod key_groups;
mod links;

use proptest::prelude::*;
use satchel_protocol::types::typed_value;

use super::*;
use crate::message::{Correction, Header, Headers};
use crate::placement::{CachedPlacement, KEY_GROUPS_MAX, KeyGroup, Placement};
use crate::trace::TraceParent;

fn address() -> impl Strategy<Value = Address> {
    ("[a-z.]{1,8}", "[a-z]{1,8}", "\\PC{0,12}")
        .prop_map(|(namespace, name, id)| Address::new(FunctionType::new(&namespace, &name), id))
}

fn text() -> impl Strategy<Value = Arc<str>> {
    "\\PC{0,12}".prop_map(Arc::from)
}

fn any_typed_value() -> impl Strategy<Value = TypedValue> {
    ("[a-z/]{1,8}", any::<Vec<u8>>()).prop_map(|(typename, value)| typed_value(typename, value))
}

fn id() -> impl Strategy<Value = MessageId> {
    any::<[u8; 16]>().prop_map(MessageId)
}

fn message() -> impl Strategy<Value = Message> {
    let correction =
        (text(), any::<bool>()).prop_map(|(state, delete)| Correction { state, delete });
    (
        id(),
        proptest::option::of(address()),
        any_typed_value(),
        proptest::option::of(correction),
        trace(),
        headers(),
    )
        .prop_map(
            |(id, caller, argument, correction, trace, headers)| Message {
                id,
                caller,
                argument,
                correction,
                trace,
                headers,
            },
        )
}

fn headers() -> impl Strategy<Value = Headers> {
    let header =
        (text(), proptest::collection::vec(any::<u8>(), 0..8)).prop_map(|(name, value)| Header {
            name,
            value: value.into(),
        });
    let headers = proptest::collection::vec(header, 0..3);
    headers.prop_map(|headers| (!headers.is_empty()).then(|| headers.into()))
}

fn trace() -> impl Strategy<Value = Option<TraceParent>> {
    let trace = any::<([u8; 16], [u8; 8], u8)>();
    let trace = trace.prop_map(|(trace_id, parent_id, flags)| TraceParent {
        trace_id,
        parent_id,
        flags,
    });
    proptest::option::of(trace)
}

fn key_group() -> impl Strategy<Value = Option<KeyGroup>> {
    proptest::option::of((0..KEY_GROUPS_MAX).prop_map(KeyGroup))
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Accepted),
        any_typed_value().prop_map(Outcome::Replied),
        (id(), "\\PC{0,12}").prop_map(|(dead_letter, reason)| Outcome::Failed {
            dead_letter,
            reason
        }),
        (400..=500_u16, "\\PC{0,12}")
            .prop_map(|(code, message)| Outcome::Rejected { code, message }),
    ]
}

fn position() -> impl Strategy<Value = ShardPosition> {
    prop_oneof![
        Just(ShardPosition::Beginning),
        any::<u64>().prop_map(|time_ms| ShardPosition::Since { time_ms }),
        ("[1-9][0-9]{0,60}", any::<u64>()).prop_map(|(digits, sub_sequence)| {
            ShardPosition::After {
                sequence: digits.parse().unwrap(),
                sub_sequence,
            }
        }),
        ("[1-9][0-9]{0,60}", any::<u64>(), any::<u64>()).prop_map(
            |(digits, sub_sequence, until_ms)| ShardPosition::Quiet {
                sequence: digits.parse().unwrap(),
                sub_sequence,
                until_ms,
            }
        ),
        Just(ShardPosition::End),
        Just(ShardPosition::Elsewhere),
    ]
}

fn spec() -> impl Strategy<Value = StateSpec> {
    let expiration = prop_oneof![
        Just(Expiration::Never),
        any::<u64>().prop_map(Expiration::AfterWrite),
        any::<u64>().prop_map(Expiration::AfterInvoke),
    ];
    (text(), text(), expiration, any::<bool>()).prop_map(|(name, typename, expiration, retired)| {
        StateSpec {
            name,
            typename,
            expiration,
            retired,
        }
    })
}

fn pause() -> impl Strategy<Value = Pause> {
    (text(), any::<u64>()).prop_map(|(reason, since_ms)| Pause { reason, since_ms })
}

fn fact() -> impl Strategy<Value = (Key, Value)> {
    let verb = prop_oneof![Just(Verb::Call), Just(Verb::Send)];
    prop_oneof![
        (text(), text(), any::<Vec<u8>>()).prop_map(|(egress, name, mark)| (
            Key::EgressMark { egress, name },
            Value::EgressMark(mark.into())
        )),
        (text(), any::<[u8; 16]>(), any::<u64>(), key_group()).prop_map(
            |(ingress, id, expires_at_ms, key_group)| (
                Key::Received {
                    ingress,
                    id: QueuedId(id)
                },
                Value::Received(ReceivedId {
                    expires_at_ms,
                    key_group,
                })
            )
        ),
        (
            address(),
            text(),
            text(),
            any::<Option<u64>>(),
            any::<Vec<u8>>()
        )
            .prop_map(|(address, name, typename, expires_at_ms, value)| (
                Key::State { address, name },
                Value::State(StoredState {
                    typename,
                    expires_at_ms,
                    value: value.into()
                })
            )),
        (address(), any::<u64>(), message()).prop_map(|(address, number, message)| (
            Key::Message { address, number },
            Value::Message(message)
        )),
        (
            address(),
            any::<u64>(),
            any::<u64>(),
            proptest::option::of(text()),
            address(),
            // Only a record has headers, and no record sets a timer.
            message().prop_map(|message| Message {
                headers: None,
                ..message
            })
        )
            .prop_map(|(owner, number, due_ms, token, target, message)| (
                Key::Timer { owner, number },
                Value::Timer(Timer {
                    due_ms,
                    token,
                    target,
                    message
                })
            )),
        (address(), "\\PC{0,12}", any::<u64>()).prop_map(|(address, reason, since_ms)| (
            Key::Suspension { address },
            Value::Suspension(Suspension { reason, since_ms })
        )),
        (address(), any::<(u64, u32, u32, u64)>(), "\\PC{0,12}").prop_map(
            |(address, (message, attempts, crashes, crashes_through), reason)| (
                Key::FailureRecord { address },
                Value::FailureRecord(FailureRecord {
                    message,
                    attempts,
                    reason,
                    crashes,
                    crashes_through
                })
            )
        ),
        (
            address(),
            verb,
            text(),
            any::<([u8; 16], [u8; 16])>(),
            proptest::option::of(outcome()),
            any::<Option<u64>>()
        )
            .prop_map(
                |(address, verb, key, (fingerprint, call), outcome, expires_at_ms)| (
                    Key::Idempotency { address, verb, key },
                    Value::Idempotency(Idempotency {
                        fingerprint,
                        call: CallId(call),
                        outcome,
                        expires_at_ms
                    })
                )
            ),
        (
            proptest::option::of(address()),
            any::<(u64, u32, u64)>(),
            id(),
            proptest::option::of(address()),
            any_typed_value(),
            "\\PC{0,12}",
            (proptest::option::of(text()), key_group(), trace())
        )
            .prop_map(
                |(
                    address,
                    (number, attempts, failed_at_ms),
                    id,
                    caller,
                    argument,
                    reason,
                    (egress, key_group, trace),
                )| (
                    Key::DeadLetter { address, number },
                    Value::DeadLetter(DeadLetter {
                        id,
                        source: reason.clone(),
                        caller,
                        argument,
                        attempts,
                        reason,
                        failed_at_ms,
                        egress,
                        key_group,
                        trace,
                    })
                )
            ),
        (address(), proptest::collection::vec(spec(), 0..4)).prop_map(|(address, specs)| (
            Key::Registration {
                function: address.function
            },
            Value::Registration(specs)
        )),
        (text(), text(), text(), position()).prop_map(|(ingress, stream, shard, position)| (
            Key::Shard(ShardId {
                ingress,
                stream,
                shard
            }),
            Value::Shard(position)
        )),
        (
            any::<u64>(),
            id(),
            text(),
            any_typed_value(),
            key_group(),
            trace()
        )
            .prop_map(|(number, id, egress, value, key_group, trace)| {
                let entry = OutboxEntry {
                    id,
                    egress,
                    value,
                    key_group,
                    trace,
                };
                (Key::Outbox { number }, Value::Outbox(entry))
            }),
        any::<u64>().prop_map(|next| (Key::Counter, Value::Counter(next))),
        (".*", any::<u64>(), any::<bool>()).prop_map(|(origin, since_ms, filling)| {
            let hold = Hold {
                origin: origin.into(),
                since_ms,
                filling,
            };
            (Key::Hold, Value::Hold(hold))
        }),
        (address(), pause()).prop_map(|(Address { function, .. }, pause)| (
            Key::FunctionPause { function },
            Value::Pause(pause)
        )),
        (text(), pause())
            .prop_map(|(ingress, pause)| (Key::IngressPause { ingress }, Value::Pause(pause))),
        link_fact(),
    ]
}

fn link_fact() -> impl Strategy<Value = (Key, Value)> {
    let out = (any::<(u32, u64, u16)>(), address(), message());
    let out = out.prop_map(|((peer, number, sender), target, message)| {
        let sent = PeerMessage {
            sender: KeyGroup(sender),
            target,
            message,
        };
        (Key::Out { peer, number }, Value::Out(Box::new(sent)))
    });
    let numbers = any::<(u32, u64, u64)>();
    prop_oneof![
        out,
        numbers.prop_map(|(peer, number, _)| (Key::Assigned { peer }, Value::LinkNumber(number))),
        numbers.prop_map(|(peer, number, _)| (Key::Taken { peer }, Value::LinkNumber(number))),
        numbers.prop_map(|(peer, upto, epoch)| (
            Key::Acknowledged { peer },
            Value::Acknowledged(Acknowledged { upto, epoch })
        )),
        any::<u64>().prop_map(|ms| (Key::Lead, Value::Lead(ms))),
    ]
}

fn encode(change: &Change) -> (Vec<u8>, Option<Vec<u8>>) {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    change.encode_key(&mut key);
    let set = change.encode_value(&mut value);
    (key, set.then_some(value))
}

proptest! {
    #[test]
    fn every_fact_round_trips((key, value) in fact(), set: bool) {
        let change = Change { key, value: set.then_some(value) };
        let (key, value) = encode(&change);
        prop_assert_eq!(Change::decode(&key, value.as_deref()).unwrap(), change);
    }

    #[test]
    fn a_fact_that_is_cut_off_or_too_long_is_rejected(
        (key, value) in fact(),
        cut in any::<prop::sample::Index>(),
    ) {
        let change = Change { key, value: Some(value) };
        let (key, value) = encode(&change);
        let value = value.unwrap();
        prop_assert!(Change::decode(&key, Some(&value[..cut.index(value.len())])).is_err());
        prop_assert!(Change::decode(&key[..cut.index(key.len())], None).is_err());
        let long = [&value[..], &[0]].concat();
        prop_assert!(Change::decode(&key, Some(&long)).is_err());
    }

    #[test]
    fn garbage_never_panics(key: Vec<u8>, value: Option<Vec<u8>>) {
        let _ = Change::decode(&key, value.as_deref());
    }
}

#[test]
fn an_unknown_version_is_rejected_by_name() {
    let key = [11];
    assert_eq!(
        Change::decode(&key, Some(&[9, 1])).unwrap_err().to_string(),
        "the value version 9 is not known to this version"
    );
    assert_eq!(
        Change::decode(&[200], None).unwrap_err().to_string(),
        "the key tag 200 is not known to this version"
    );
}

#[test]
fn a_registration_is_written_in_version_1_until_a_state_is_retired() {
    let registration = |retired| {
        let spec = StateSpec {
            name: "seen".into(),
            typename: "t".into(),
            expiration: Expiration::Never,
            retired,
        };
        Change {
            key: Key::Registration {
                function: FunctionType::new("example", "greeter"),
            },
            value: Some(Value::Registration(vec![spec])),
        }
    };
    let former = b"\x01\x01\x04seen\x01t\x00";
    let (key, value) = encode(&registration(false));
    assert_eq!(value.as_deref(), Some(&former[..]));
    let read = Change::decode(&key, Some(former)).unwrap();
    assert_eq!(read, registration(false));
    let (_, value) = encode(&registration(true));
    assert_eq!(
        value.as_deref(),
        Some(&b"\x02\x01\x04seen\x01t\x00\x01"[..])
    );
    // Only a registration has a second version.
    let error = Change::decode(&[11], Some(&[2, 1])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the value version 2 is not known to this version"
    );
}

#[test]
fn a_message_with_headers_is_version_3_with_an_optional_trace_context_before_them() {
    let key = Key::Message {
        address: Address::new(FunctionType::new("example", "greeter"), "alice"),
        number: 7,
    };
    let header = Header {
        name: "h".into(),
        value: "v".into(),
    };
    let message = |trace| {
        Value::Message(Message {
            id: MessageId([1; 16]),
            caller: None,
            argument: typed_value("t", &b"x"[..]),
            correction: None,
            trace,
            headers: Some([header.clone()].into()),
        })
    };
    let trace = TraceParent {
        trace_id: [2; 16],
        parent_id: [3; 8],
        flags: 1,
    };
    let fields = [&[1; 16][..], &[0, 1, b't', 1, 1, b'x', 0]].concat();
    let headers = [1, 1, b'h', 1, b'v'];
    let untraced = [&[3][..], &fields, &[0], &headers].concat();
    let traced = [&[3][..], &fields, &[1], &[2; 16], &[3; 8], &[1], &headers].concat();
    for (trace, expected) in [(None, untraced), (Some(trace), traced)] {
        let value = Some(message(trace));
        let (_, bytes) = encode(&Change {
            key: key.clone(),
            value,
        });
        assert_eq!(bytes.unwrap(), expected);
    }
}

#[test]
fn a_trace_context_is_version_2_and_without_one_the_bytes_are_those_of_version_1() {
    let address = Address::new(FunctionType::new("example", "greeter"), "alice");
    let fact = |trace| {
        let message = Message {
            id: MessageId([1; 16]),
            caller: None,
            argument: typed_value("t", &b"x"[..]),
            correction: None,
            trace,
            headers: None,
        };
        encode(&Change {
            key: Key::Message {
                address: address.clone(),
                number: 7,
            },
            value: Some(Value::Message(message)),
        })
    };
    let trace = TraceParent {
        trace_id: [2; 16],
        parent_id: [3; 8],
        flags: 1,
    };
    let (key, untraced) = fact(None);
    let (_, traced) = fact(Some(trace));
    let (untraced, traced) = (untraced.unwrap(), traced.unwrap());
    let version_1 = [&[1][..], &[1; 16], &[0, 1, b't', 1, 1, b'x', 0]].concat();
    assert_eq!(untraced, version_1);
    let version_2 = [&[2][..], &version_1[1..], &[2; 16], &[3; 8], &[1]].concat();
    assert_eq!(traced, version_2);
    let read = |key: &[u8], bytes: &[u8]| Change::decode(key, Some(bytes));
    assert!(read(&key, &version_2).is_ok());
    // Version 2 of a counter does not exist.
    assert_eq!(
        read(&[11], &[2, 1]).unwrap_err().to_string(),
        "the value version 2 is not known to this version"
    );
}

#[test]
fn pauses_have_the_documented_bytes() {
    let pause = |key| Change {
        key,
        value: Some(Value::Pause(Pause {
            reason: "why".into(),
            since_ms: 300,
        })),
    };
    let function = FunctionType::new("a", "b");
    let (key, value) = encode(&pause(Key::FunctionPause { function }));
    assert_eq!(key, b"\x0f\x01a\x01b");
    assert_eq!(value.as_deref(), Some(&b"\x01\x03why\xac\x02"[..]));
    let ingress = "a/in".into();
    let (key, _) = encode(&pause(Key::IngressPause { ingress }));
    assert_eq!(key, b"\x10\x04a/in");
}

#[test]
fn facts_of_an_address_share_its_bucket_and_the_others_lie_past_the_last() {
    let address = Address::new(FunctionType::new("example", "greeter"), "alice");
    let state = Key::State {
        address: address.clone(),
        name: "seen".into(),
    };
    let message = Key::Message { address, number: 7 };
    for (placement, bucket) in [
        (Placement::xxh3(256), 16),
        (Placement::id_md5(1_024, false), 398),
    ] {
        let mut cached = CachedPlacement::new(placement);
        for key in [&state, &message, &state] {
            assert_eq!(key.bucket(&placement), bucket);
            assert_eq!(key.bucket_cached(&mut cached), bucket);
        }
        assert_eq!(Key::Counter.bucket(&placement), placement.key_groups);
        assert_eq!(
            Key::Counter.bucket_cached(&mut cached),
            placement.key_groups
        );
    }
}
