//! Messages by typename: the built-in types, JSON, protobuf, bytes, enums.

#![allow(clippy::unwrap_used, reason = "a test")]

use proptest::prelude::*;
use satchel_sdk::egress::{KafkaRecord, KinesisRecord};
use satchel_sdk::protocol::prost;
use satchel_sdk::protocol::types::typed_value;
use satchel_sdk::{Json, Message, MessageError, Typed, TypedValue};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "test/deposited")]
#[serde(deny_unknown_fields)]
struct Deposited {
    amount: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "test/withdrawn")]
struct Withdrawn {
    amount: i64,
    #[serde(default)]
    reason: String,
}

#[derive(Clone, PartialEq, prost::Message, Message)]
#[prost(prost_path = "prost")]
#[message(typename = "test/closed", encoding = "protobuf")]
struct Closed {
    #[prost(string, tag = "1")]
    by: String,
}

#[derive(Debug, Clone, PartialEq, Message)]
#[message(typename = "test/scan", encoding = "bytes")]
struct Scan(Vec<u8>);

#[derive(Debug, Clone, PartialEq, Message)]
enum AccountMessage {
    Deposited(Deposited),
    Withdrawn(Withdrawn),
    Closed(Closed),
    Scan(Scan),
}

#[derive(Debug, Clone, PartialEq, Message)]
enum WithDefault {
    Deposited(Deposited),
    #[message(json)]
    Withdrawn(Withdrawn),
}

/// One message with several forms, all under one typename.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(typename = "test/event")]
#[serde(tag = "type")]
enum Event {
    Opened { owner: String },
    Closed,
}

fn json(text: &str) -> TypedValue {
    typed_value("satchel/json", text.to_owned())
}

#[track_caller]
fn round_trip<M: Message + PartialEq + std::fmt::Debug>(message: &M, typename: &str) {
    let value = message.to_typed_value().unwrap();
    assert_eq!(value.typename, typename);
    assert!(value.has_value);
    assert_eq!(&M::from_typed_value(value).unwrap(), message);
}

#[test]
fn every_encoding_round_trips_under_its_typename() {
    round_trip(&Deposited { amount: 5 }, "test/deposited");
    round_trip(&Closed { by: "me".into() }, "test/closed");
    round_trip(&Closed::default(), "test/closed");
    round_trip(&Scan(vec![0, 255]), "test/scan");
    round_trip(&Json(vec![1, 2]), "satchel/json");
    round_trip(&Event::Closed, "test/event");
    round_trip(&AccountMessage::Scan(Scan(vec![])), "test/scan");
    round_trip(
        &AccountMessage::Closed(Closed { by: "me".into() }),
        "test/closed",
    );
    round_trip(&true, "io.statefun.types/bool");
    round_trip(&0_i32, "io.statefun.types/int");
    round_trip(&i64::MIN, "io.statefun.types/long");
    round_trip(&1.5_f32, "io.statefun.types/float");
    round_trip(&-0.1_f64, "io.statefun.types/double");
    round_trip(&String::new(), "io.statefun.types/string");
    round_trip(&typed_value("any/thing", "x"), "any/thing");
}

#[test]
fn an_unknown_typename_is_rejected_with_the_known_ones() {
    let value = typed_value("test/renamed", "{}");
    assert_eq!(
        Deposited::from_typed_value(value.clone())
            .unwrap_err()
            .to_string(),
        "unknown typename \"test/renamed\": expected test/deposited"
    );
    assert_eq!(
        AccountMessage::from_typed_value(value)
            .unwrap_err()
            .to_string(),
        "unknown typename \"test/renamed\": \
         expected test/deposited, test/withdrawn, test/closed or test/scan"
    );
}

#[test]
fn a_typename_without_a_value_is_rejected() {
    let value = TypedValue {
        typename: "test/deposited".into(),
        ..Default::default()
    };
    assert_eq!(
        AccountMessage::from_typed_value(value)
            .unwrap_err()
            .to_string(),
        "the message of typename \"test/deposited\" has no value"
    );
}

#[test]
fn json_of_no_declared_type_is_accepted_by_types_with_a_json_form() {
    assert_eq!(
        Deposited::from_typed_value(json(r#"{"amount":5}"#)).unwrap(),
        Deposited { amount: 5 }
    );
    assert_eq!(i32::from_typed_value(json(" 5 ")).unwrap(), 5);
    assert_eq!(String::from_typed_value(json(r#""a""#)).unwrap(), "a");
    assert!(matches!(
        Closed::from_typed_value(json("{}")),
        Err(MessageError::UnknownTypename { .. })
    ));
    assert!(matches!(
        i32::from_typed_value(json(r#""5""#)),
        Err(MessageError::Decode { .. })
    ));
}

#[test]
fn an_enum_takes_json_that_fits_one_of_its_messages() {
    assert_eq!(
        AccountMessage::from_typed_value(json(r#"{"amount":5,"reason":"rent"}"#)).unwrap(),
        AccountMessage::Withdrawn(Withdrawn {
            amount: 5,
            reason: "rent".into(),
        })
    );
    assert_eq!(
        AccountMessage::from_typed_value(json(r#"{"amount":5}"#))
            .unwrap_err()
            .to_string(),
        "the JSON fits several messages of the function: test/deposited, test/withdrawn; \
         send it with its typename instead"
    );
    assert_eq!(
        AccountMessage::from_typed_value(json("[]"))
            .unwrap_err()
            .to_string(),
        "the JSON fits no message of the function: \
         not test/deposited (invalid length 0, \
         expected struct Deposited with 1 element at line 1 column 2), \
         not test/withdrawn (invalid length 0, \
         expected struct Withdrawn with 2 elements at line 1 column 2), \
         not test/closed (it has no JSON form), not test/scan (it has no JSON form); \
         send it with its typename instead"
    );
}

#[test]
fn a_marked_variant_takes_all_json_of_no_declared_type() {
    assert_eq!(
        WithDefault::from_typed_value(json(r#"{"amount":5}"#)).unwrap(),
        WithDefault::Withdrawn(Withdrawn {
            amount: 5,
            reason: String::new(),
        })
    );
    assert_eq!(
        WithDefault::from_typed_value(Deposited { amount: 5 }.to_typed_value().unwrap()).unwrap(),
        WithDefault::Deposited(Deposited { amount: 5 })
    );
}

#[test]
fn a_value_without_a_json_form_is_an_error_that_names_the_type() {
    let tree = std::collections::BTreeMap::from([(vec![1], 2)]);
    assert_eq!(
        Json(tree).to_typed_value().unwrap_err().to_string(),
        "a satchel/json cannot be written"
    );
}

#[test]
fn records_are_written_as_statefun_reads_them() {
    let record = KinesisRecord::new("s", "k")
        .explicit_hash_key("7")
        .json(&[1]);
    // partition_key=1, value_bytes=2, stream=3, explicit_hash_key=4
    assert_eq!(
        &record.encode().unwrap()[..],
        b"\x0a\x01k\x12\x03[1]\x1a\x01s\x22\x017"
    );
    let record = KafkaRecord::new("t").bytes("v");
    // key=1 (absent), value_bytes=2, topic=3
    assert_eq!(&record.encode().unwrap()[..], b"\x12\x01v\x1a\x01t");
    assert!(KafkaRecord::new("").encode().is_err());
    assert!(KinesisRecord::new("", "k").encode().is_err());
    let unwritable = std::collections::BTreeMap::from([(vec![1], 2)]);
    assert_eq!(
        KafkaRecord::new("t")
            .json(&unwritable)
            .encode()
            .unwrap_err()
            .to_string(),
        "the content is not JSON: key must be a string"
    );
}

proptest! {
    #[test]
    fn arbitrary_values_are_decoded_or_rejected(
        typename in "test/(deposited|withdrawn|closed|scan)|satchel/json|.*",
        bytes: Vec<u8>,
        has_value: bool,
    ) {
        let value = TypedValue { typename, has_value, value: bytes.into() };
        // A message that was read is written again under a typename that the enum knows.
        if let Ok(message) = AccountMessage::from_typed_value(value) {
            let typename = message.to_typed_value().unwrap().typename;
            prop_assert!(AccountMessage::typenames().contains(&typename.as_str()));
        }
    }

    #[test]
    fn built_in_values_survive_the_wire(long: i64, double: f64, text: String) {
        let read = i64::from_typed_value(long.to_typed_value().unwrap()).unwrap();
        prop_assert_eq!(read, long);
        let read = f64::from_typed_value(double.to_typed_value().unwrap()).unwrap();
        prop_assert_eq!(read.to_bits(), double.to_bits());
        let read = String::from_typed_value(text.to_typed_value().unwrap()).unwrap();
        prop_assert_eq!(read, text);
    }
}
