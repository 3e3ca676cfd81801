use proptest::prelude::*;
use satchel_protocol::types::BuiltIn;

use super::*;

fn line(typename: &str, value: impl Into<Bytes>) -> StateLine {
    StateLine {
        address: parse_address("example/greeter/alice").unwrap(),
        name: "seen".into(),
        state: StoredState {
            typename: typename.into(),
            expires_at_ms: None,
            value: value.into(),
        },
    }
}

#[test]
fn values_are_json_where_that_is_lossless_and_base64_elsewhere() {
    for (typename, value, shown) in [
        (i64::TYPENAME, 3_i64.to_wire(), r#""value":3"#),
        (i64::TYPENAME, 0_i64.to_wire(), r#""value":0"#),
        (
            i64::TYPENAME,
            Bytes::from_static(b"x"),
            r#""base64":"eA==""#,
        ),
        (
            f64::TYPENAME,
            f64::NAN.to_wire(),
            r#""base64":"CQAAAAAAAPh/""#,
        ),
        (
            String::TYPENAME,
            "a \"b\"".to_owned().to_wire(),
            r#""value":"a \"b\"""#,
        ),
        (
            "example/name",
            Bytes::from_static(br#"{"b":1.0,"a":"x y"}"#),
            r#""value":{"b":1.0,"a":"x y"}"#,
        ),
        (
            "example/name",
            Bytes::from_static(b"null"),
            r#""value":null"#,
        ),
        (
            "example/name",
            Bytes::from_static(br#"{"a": 1}"#),
            r#""base64":"eyJhIjogMX0=""#,
        ),
        (
            "example/name",
            Bytes::from_static(b"{\"a\\\": \":1}"),
            r#""value":{"a\": ":1}"#,
        ),
        (
            "example/name",
            Bytes::from_static(b"1\n"),
            r#""base64":"MQo=""#,
        ),
        ("example/raw", Bytes::new(), r#""base64":"""#),
        (
            "example/raw",
            Bytes::from_static(b"\xff"),
            r#""base64":"/w==""#,
        ),
    ] {
        let line = line(typename, value);
        let json = line.to_json();
        let expected = format!(
            concat!(
                r#"{{"address":"example/greeter/alice","state":"seen","#,
                r#""typename":"{}","expires_at_ms":null,{}}}"#
            ),
            typename, shown
        );
        assert_eq!(json, expected);
        assert_eq!(StateLine::parse(json.as_bytes()), Ok(line));
    }
}

#[test]
fn an_address_with_an_ambiguous_text_has_its_parts_in_fields_of_their_own() {
    let mut line = line("example/name", "1");
    line.address = Address::new(FunctionType::new("a/b", "c"), "d/e");
    line.state.expires_at_ms = Some(17);
    let json = line.to_json();
    assert_eq!(
        json,
        concat!(
            r#"{"address":"a/b/c/d/e","namespace":"a/b","name":"c","id":"d/e","#,
            r#""state":"seen","typename":"example/name","expires_at_ms":17,"value":1}"#
        )
    );
    assert_eq!(StateLine::parse(json.as_bytes()), Ok(line));
}

#[test]
fn an_error_says_what_is_wrong_with_a_line() {
    let with =
        |fields: &str| format!(r#"{{"address":"a/b/c","state":"s","typename":"t"{fields}}}"#);
    for (line, problem) in [
        ("{".to_owned(), "EOF"),
        ("[]".to_owned(), "expected"),
        (with(r#","value":1,"colour":2"#), "unknown field `colour`"),
        (with(r#","value":1,"value":2"#), "duplicate field `value`"),
        (with(""), "`value` or `base64`"),
        (with(r#","value":1,"base64":"MQ==""#), "`value` or `base64`"),
        (with(r#","base64":"?""#), "`base64`: "),
        (with(r#","value":1,"expires_at_ms":-1"#), "invalid value"),
        (with(r#","value":1,"id":"c""#), "come together"),
        (
            with(r#","value":1,"namespace":"a","name":"b","id":"d""#),
            "`address` is \"a/b/c\", but",
        ),
        (
            r#"{"address":"a/b","state":"s","typename":"t","value":1}"#.to_owned(),
            "`a/b` is not an address",
        ),
        (
            r#"{"address":"a/../c","state":"s","typename":"t","value":1}"#.to_owned(),
            "`a/../c` is not an address",
        ),
        (
            r#"{"address":"a/b/c","state":"","typename":"t","value":1}"#.to_owned(),
            "`state` is empty",
        ),
        (
            r#"{"address":"a/b/c","state":"s","typename":"io.statefun.types/int","value":"x"}"#
                .to_owned(),
            "not a value of io.statefun.types/int",
        ),
        (
            r#"{"address":"a/b/c","state":"s","value":1}"#.to_owned(),
            "missing field `typename`",
        ),
    ] {
        let refused = StateLine::parse(line.as_bytes()).unwrap_err();
        assert!(refused.contains(problem), "{line}: {refused}");
    }
}

proptest! {
    #[test]
    fn every_state_is_parsed_back_unchanged(
        namespace in "[a-z/.]{1,5}",
        name in "[a-z/]{1,4}",
        id in ".*",
        state in ".+",
        typename in prop_oneof![
            Just(bool::TYPENAME.to_owned()),
            Just(i32::TYPENAME.to_owned()),
            Just(f32::TYPENAME.to_owned()),
            Just(f64::TYPENAME.to_owned()),
            Just(String::TYPENAME.to_owned()),
            ".+",
        ],
        expires_at_ms: Option<u64>,
        value in prop_oneof![
            any::<Vec<u8>>(),
            any::<f64>().prop_map(|value| value.to_wire().to_vec()),
            any::<f32>().prop_map(|value| value.to_wire().to_vec()),
            any::<String>().prop_map(|value| value.to_wire().to_vec()),
            r#"[ \[\]{}":,0-9.e-]{0,12}"#.prop_map(String::into_bytes),
        ],
    ) {
        let line = StateLine {
            address: Address::new(FunctionType::new(&namespace, &name), id.as_str()),
            name: state.as_str().into(),
            state: StoredState {
                typename: typename.as_str().into(),
                expires_at_ms,
                value: value.into(),
            },
        };
        let json = line.to_json();
        prop_assert!(!json.contains('\n'));
        prop_assert_eq!(StateLine::parse(json.as_bytes()), Ok(line));
    }
}
