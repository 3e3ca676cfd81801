use std::collections::BTreeSet;

use bytes::Bytes;
use satchel_engine::output::{
    AddressSummary, AddressView, DeadLetterView, DeadLettersChanged, FlightView, MailboxView,
    MessageView, StateDropped, StateView, TimerView,
};
use satchel_protocol::types::typed_value;
use serde_json::{Value, json};

use super::*;

const ID: MessageId = MessageId([0xab; 16]);

/// Function type that no endpoint can serve, but to which a function can send a message.
fn function() -> FunctionType {
    FunctionType::new("a/b", "c/ü\0\"")
}

fn address() -> Address {
    Address::new(function(), "d/%2F\n{}")
}

fn cursor() -> DeadLetterCursor {
    DeadLetterCursor {
        next: u64::MAX - 1,
        end: u64::MAX,
    }
}

fn filter() -> DeadLetterFilter {
    DeadLetterFilter {
        function: Some("a/b".into()),
        reason: Some("".into()),
        since_ms: Some(u64::MAX),
    }
}

fn value() -> TypedValue {
    typed_value("example/t", (0..=u8::MAX).collect::<Vec<_>>())
}

/// At least one request of every kind.
fn requests() -> Vec<Administration> {
    vec![
        Administration::Inspect(address()),
        Administration::Inspect(Address::new(FunctionType::new("a", "."), "")),
        Administration::ShowMailbox {
            address: address(),
            after: Some(u64::MAX),
            limit: 7,
        },
        Administration::ShowMailbox {
            address: address(),
            after: None,
            limit: 1,
        },
        Administration::ListDeadLetters {
            filter: filter(),
            after: Some(ID),
            limit: usize::MAX,
        },
        Administration::ListDeadLetters {
            filter: DeadLetterFilter::default(),
            after: None,
            limit: 0,
        },
        Administration::RetryDeadLetter(ID),
        Administration::DropDeadLetter(MessageId([0; 16])),
        Administration::ChangeDeadLetters {
            change: DeadLetterChange::Retry,
            filter: filter(),
            cursor: Some(cursor()),
            limit: 7,
        },
        Administration::ChangeDeadLetters {
            change: DeadLetterChange::Drop,
            filter: DeadLetterFilter::default(),
            cursor: None,
            limit: 7,
        },
        Administration::SetState {
            address: address(),
            state: "seen".into(),
            value: value(),
        },
        Administration::SetState {
            address: address(),
            state: "".into(),
            value: TypedValue::default(),
        },
        Administration::DeleteState {
            address: address(),
            state: "seen".into(),
        },
        Administration::DropState {
            bucket: u16::MAX,
            function: function(),
            state: "seen".into(),
            limit: 1,
        },
        Administration::Resume(address()),
        Administration::Skip(address()),
        Administration::PauseIngress {
            ingress: "example/in".into(),
            reason: "".into(),
        },
        Administration::ResumeIngress("example/in".into()),
        Administration::PauseFunction {
            function: function(),
            reason: "maintenance".into(),
        },
        Administration::ResumeFunction(function()),
        Administration::ListAddresses {
            bucket: 0,
            function: None,
            prefix: "".into(),
            after: None,
            limit: 1,
        },
        Administration::ListAddresses {
            bucket: 1_023,
            function: Some("a/b".into()),
            prefix: "d".into(),
            after: Some(address()),
            limit: 1,
        },
        Administration::ListTimers {
            function: Some("a/b".into()),
            limit: 1,
        },
        Administration::ListTimers {
            function: None,
            limit: 1,
        },
    ]
}

fn address_view() -> AddressView {
    let state = |expires_at_ms| StateView {
        name: "seen".into(),
        typename: "example/t".into(),
        value: Bytes::from_static(b"\xff\0"),
        expires_at_ms,
    };
    AddressView {
        address: address(),
        state: vec![state(None), state(Some(u64::MAX))],
        backlog_messages: 1,
        backlog_bytes: 2,
        in_flight: true,
        suspended: Some("suspended".to_owned()),
        function_stopped: Some("stopped".to_owned()),
        failing: Some((u32::MAX, "failing".to_owned())),
    }
}

fn mailbox() -> MailboxView {
    let message = |caller, corrects| MessageView {
        number: u64::MAX,
        id: ID,
        caller,
        message: value(),
        corrects,
    };
    MailboxView {
        messages: vec![
            message(None, None),
            message(Some(address()), Some("seen".into())),
        ],
        more: true,
        in_flight: Some(FlightView {
            messages: 1,
            since_ms: u64::MAX,
        }),
        next_try_ms: Some(1),
        suspended_since_ms: Some(2),
        timers: vec![timer()],
        timers_total: 101,
    }
}

fn address_summary() -> AddressSummary {
    AddressSummary {
        address: address(),
        states: 1,
        backlog_messages: 2,
        backlog_bytes: 3,
        in_flight: true,
        suspended: Some("suspended".to_owned()),
        failing: Some((1, "failing".to_owned())),
    }
}

fn dead_letter() -> DeadLetterView {
    DeadLetterView {
        id: ID,
        address: Some(address()),
        source: "a/b/c".to_owned(),
        message: value(),
        attempts: u32::MAX,
        reason: "reason".to_owned(),
        failed_at_ms: 1,
    }
}

fn timer() -> TimerView {
    TimerView {
        owner: address(),
        due_ms: 1,
        target: Address::new(FunctionType::new("a", "b"), "other"),
        typename: "example/t".to_owned(),
        token: Some("token".into()),
    }
}

/// At least one answer of every kind.
fn answers() -> Vec<Answer> {
    let text = || "text".to_owned();
    vec![
        Answer::Accepted,
        Answer::Replied(value()),
        Answer::Replied(typed_value("", "")),
        Answer::Failed {
            dead_letter: ID,
            reason: text(),
        },
        Answer::Rejected {
            code: u16::MAX,
            message: text(),
        },
        Answer::UnknownFunction(function()),
        Answer::TooLarge { bytes_max: 1 },
        Answer::KeyReused,
        Answer::Elsewhere {
            partition: u32::MAX,
        },
        Answer::Overloaded,
        Answer::TooManyDeadLetters {
            bytes_max: usize::MAX,
        },
        Answer::Paused(text()),
        Answer::Stopping,
        Answer::NotFound(text()),
        Answer::Refused(text()),
        Answer::Done,
        Answer::Address(Box::new(address_view())),
        Answer::Address(Box::new(AddressView {
            state: Vec::new(),
            in_flight: false,
            suspended: None,
            function_stopped: None,
            failing: None,
            ..address_view()
        })),
        Answer::Mailbox(Box::default()),
        Answer::Mailbox(Box::new(mailbox())),
        Answer::Addresses(Vec::new()),
        Answer::Addresses(vec![
            address_summary(),
            AddressSummary {
                in_flight: false,
                suspended: None,
                failing: None,
                ..address_summary()
            },
        ]),
        Answer::DeadLetters(vec![
            dead_letter(),
            DeadLetterView {
                address: None,
                ..dead_letter()
            },
        ]),
        Answer::DeadLettersChanged(DeadLettersChanged {
            changed: 1,
            skipped: 2,
            cursor: Some(cursor()),
        }),
        Answer::DeadLettersChanged(DeadLettersChanged {
            changed: 0,
            skipped: 0,
            cursor: None,
        }),
        Answer::StateDropped(StateDropped {
            dropped: 1,
            next: Some(u16::MAX),
        }),
        Answer::StateDropped(StateDropped {
            dropped: 1,
            next: None,
        }),
        Answer::Timers(vec![
            timer(),
            TimerView {
                token: None,
                ..timer()
            },
        ]),
    ]
}

fn encodings() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let requests = requests().iter().map(encode_request).collect();
    (requests, answers().iter().map(encode_answer).collect())
}

fn request_error(bytes: &[u8]) -> String {
    decode_request(bytes).unwrap_err().to_string()
}

fn answer_error(bytes: &[u8]) -> String {
    decode_answer(bytes).unwrap_err().to_string()
}

/// Kinds of the encoded requests or answers.
fn kinds(encodings: &[Vec<u8>]) -> BTreeSet<String> {
    let kind = |bytes: &Vec<u8>| {
        let content = &serde_json::from_slice::<Value>(bytes).unwrap()["content"];
        let tag = content.as_object().and_then(|object| object.keys().next());
        tag.map_or_else(|| content.as_str().unwrap().to_owned(), String::clone)
    };
    encodings.iter().map(kind).collect()
}

/// Kinds that the wire form has, taken from the error about an unknown one. The conversion to the
/// wire form does not compile without one of the engine's.
fn expected_kinds(error: &str) -> BTreeSet<String> {
    let (_, expected) = error.split_once("expected one of ").unwrap();
    let quoted = expected.split('`').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

#[test]
fn every_request_round_trips() {
    for request in requests() {
        assert_eq!(decode_request(&encode_request(&request)).unwrap(), request);
    }
}

#[test]
fn every_answer_round_trips() {
    for answer in answers() {
        assert_eq!(decode_answer(&encode_answer(&answer)).unwrap(), answer);
    }
}

#[test]
fn the_tests_have_every_kind() {
    let unknown = br#"{"version":1,"content":{"unknown":{}}}"#;
    let (requests, answers) = encodings();
    assert_eq!(kinds(&requests), expected_kinds(&request_error(unknown)));
    assert_eq!(kinds(&answers), expected_kinds(&answer_error(unknown)));
}

#[test]
fn the_form_of_version_1_stays() {
    let request = Administration::ListDeadLetters {
        filter: DeadLetterFilter::default(),
        after: Some(ID),
        limit: 3,
    };
    let request: Value = serde_json::from_slice(&encode_request(&request)).unwrap();
    let filter = json!({"function": null, "reason": null, "since_ms": null});
    let content = json!({"filter": filter, "after": "ab".repeat(16), "limit": 3});
    let expected = json!({"version": 1, "content": {"list_dead_letters": content}});
    assert_eq!(request, expected);
    let answer = Answer::Replied(typed_value("t", "ab"));
    let answer: Value = serde_json::from_slice(&encode_answer(&answer)).unwrap();
    let content = json!({"typename": "t", "has_value": true, "base64": "YWI="});
    assert_eq!(
        answer,
        json!({"version": 1, "content": {"replied": content}})
    );
}

#[test]
fn another_version_is_rejected_whatever_it_contains() {
    for bytes in [
        &br#"{"version":2}"#[..],
        br#"{"version":2,"content":{"unknown":1}}"#,
        br#"{"other":[1],"version":2}"#,
    ] {
        let expected = "its version is 2; this program reads version 1";
        assert_eq!(request_error(bytes), expected);
        assert_eq!(answer_error(bytes), expected);
    }
    let none = request_error(br#"{"content":"done"}"#);
    assert!(none.contains("missing field `version`"), "{none}");
}

#[test]
fn truncated_bytes_are_rejected() {
    let (requests, answers) = encodings();
    for bytes in requests {
        for end in 0..bytes.len() {
            let error = request_error(&bytes[..end]);
            assert!(error.starts_with("its JSON is invalid: EOF"), "{error}");
        }
    }
    for bytes in answers {
        for end in 0..bytes.len() {
            let error = answer_error(&bytes[..end]);
            assert!(error.starts_with("its JSON is invalid: EOF"), "{error}");
        }
    }
}

#[test]
fn garbage_is_rejected() {
    let deep = "[".repeat(100_000);
    for bytes in [
        b"garbage",
        &b"\xff\xfe"[..],
        b"null",
        b"[]",
        b"1 2",
        deep.as_bytes(),
    ] {
        for error in [request_error(bytes), answer_error(bytes)] {
            assert!(error.starts_with("its JSON is invalid: "), "{error}");
        }
    }
    let (requests, answers) = encodings();
    for mut bytes in requests.into_iter().chain(answers) {
        for at in 0..bytes.len() {
            for damage in [0x01, 0x20, 0x80] {
                bytes[at] ^= damage;
                // Either result, but no panic.
                let _ = (decode_request(&bytes), decode_answer(&bytes));
                bytes[at] ^= damage;
            }
        }
        bytes.push(b'}');
        for error in [request_error(&bytes), answer_error(&bytes)] {
            assert!(error.contains("trailing characters"), "{error}");
        }
    }
}

#[test]
fn a_request_is_no_answer() {
    let (requests, answers) = encodings();
    assert!(requests.iter().all(|bytes| decode_answer(bytes).is_err()));
    assert!(answers.iter().all(|bytes| decode_request(bytes).is_err()));
}

/// Returns the encoding with another value at `pointer`, if it has one there.
fn with(encoding: &[u8], pointer: &str, value: &Value) -> Option<Vec<u8>> {
    let mut json: Value = serde_json::from_slice(encoding).unwrap();
    *json["content"].pointer_mut(pointer)? = value.clone();
    Some(serde_json::to_vec(&json).unwrap())
}

/// Checks that a value is rejected, with an error that names its field and the reason. A case is
/// `pointer | value | field | reason`, the value as JSON.
fn assert_rejected(encodings: &[Vec<u8>], error_of: impl Fn(&[u8]) -> String, case: &str) {
    let parts: Vec<&str> = case.split('|').map(str::trim).collect();
    let [pointer, value, field, reason] = parts[..] else {
        panic!("{case}");
    };
    let value = serde_json::from_str(value).expect(case);
    let mut changed = encodings.iter();
    let changed = changed.find_map(|encoding| with(encoding, pointer, &value));
    let error = error_of(&changed.expect(case));
    let expected = format!("its field `{field}` is invalid: {reason}");
    assert!(error.starts_with(&expected), "{case}: {error}");
}

#[test]
fn invalid_fields_of_requests_are_named() {
    let (requests, _) = encodings();
    for case in [
        "/list_dead_letters/after | \"abc\" | after | a message id has 32",
        "/retry_dead_letter | \"ggggggggggggggggaaaaaaaaaaaaaaaa\" | retry_dead_letter | a message",
        "/drop_dead_letter | \"\" | drop_dead_letter | a message id has 32 hexadecimal digits",
        "/set_state/value/base64 | \"a*==\" | value | not base64: ",
        "/set_state/value/base64 | \"YWI\" | value | not base64: ",
        "/drop_state/bucket | 65536 | bucket | 65536 is out of range",
        "/list_addresses/bucket | 18446744073709551615 | bucket | 18446744073709551615 is out",
        "/inspect/function/namespace | \"\" | inspect | the namespace is empty",
        "/drop_state/function/name | \"\" | function | the name is empty",
        "/delete_state/address/function/name | \"\" | address | the name is empty",
    ] {
        assert_rejected(&requests, request_error, case);
    }
}

#[test]
fn invalid_fields_of_answers_are_named() {
    let (_, answers) = encodings();
    for case in [
        "/failed/dead_letter | \"abc\" | dead_letter | a message id has 32",
        "/dead_letters/0/id | \"abc\" | id | a message id has 32",
        "/dead_letters/0/message/base64 | \"*\" | message | not base64: ",
        "/dead_letters/0/attempts | 4294967296 | attempts | 4294967296 is out of range",
        "/dead_letters/0/address/function/name | \"\" | address | the name is empty",
        "/replied/base64 | \"*\" | replied | not base64: ",
        "/rejected/code | 65536 | code | 65536 is out of range",
        "/unknown_function/name | \"\" | unknown_function | the name is empty",
        "/elsewhere/partition | 4294967296 | partition | 4294967296 is out of range",
        "/state_dropped/next | 65536 | next | 65536 is out of range",
        "/address/state/1/base64 | \"*\" | state.base64 | not base64: ",
        "/address/failing/attempts | 4294967296 | failing.attempts | 4294967296 is out of range",
        "/addresses/0/failing/attempts | 4294967296 | failing.attempts | 4294967296 is out",
        "/timers/0/owner/function/name | \"\" | owner | the name is empty",
        "/timers/0/target/function/namespace | \"\" | target | the namespace is empty",
    ] {
        assert_rejected(&answers, answer_error, case);
    }
}

#[test]
fn unknown_and_missing_fields_are_named() {
    let unknown = br#"{"version":1,"content":{"list_timers":{"limit":1,"until_ms":1}}}"#;
    let error = request_error(unknown);
    assert!(error.contains("unknown field `until_ms`"), "{error}");
    let error = request_error(br#"{"version":1,"content":{"list_timers":{}}}"#);
    assert!(error.contains("missing field `limit`"), "{error}");
    let error = answer_error(br#"{"version":1,"content":"done","more":1}"#);
    assert!(error.contains("unknown field `more`"), "{error}");
}
