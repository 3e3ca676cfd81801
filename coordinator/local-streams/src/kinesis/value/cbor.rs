//! CBOR (RFC 8949) as Kinesis' clients use it, with times in milliseconds under tag 1.

use bytes::Bytes;
use ciborium::Value as Cbor;
use ciborium::tag;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::Value;

/// Maximum nesting of a body.
const DEPTH_MAX: usize = 32;

const TAG_TIME: u64 = 1;

/// Decodes one value that fills the body.
pub(super) fn decode(body: &Bytes) -> Result<Value, String> {
    let mut rest = &body[..];
    let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, DEPTH_MAX);
    let value = value.map_err(|error| format!("the body is not CBOR: {error}"))?;
    if !rest.is_empty() {
        return Err(format!("{} bytes follow the CBOR value", rest.len()));
    }
    from_cbor(value)
}

fn from_cbor(value: Cbor) -> Result<Value, String> {
    Ok(match value {
        Cbor::Null => Value::Null,
        Cbor::Bool(value) => Value::Bool(value),
        Cbor::Integer(number) => {
            let number = i64::try_from(number);
            Value::Integer(number.map_err(|_| "an integer has more than 64 bits")?)
        }
        Cbor::Float(number) => Value::Float(number),
        Cbor::Text(text) => Value::Text(text),
        Cbor::Bytes(bytes) => Value::Bytes(bytes.into()),
        Cbor::Tag(TAG_TIME, value) => match from_cbor(*value)? {
            Value::Integer(time_ms) if time_ms >= 0 => Value::Time(time_ms as u64),
            Value::Float(time_ms) if time_ms >= 0.0 => Value::Time(time_ms as u64),
            _ => return Err("a time is not a number since 1970".to_owned()),
        },
        Cbor::Tag(_, value) => from_cbor(*value)?,
        Cbor::Array(values) => Value::List(
            values
                .into_iter()
                .map(from_cbor)
                .collect::<Result<_, _>>()?,
        ),
        Cbor::Map(members) => {
            let member = |(name, value)| match name {
                Cbor::Text(name) => Ok((name, from_cbor(value)?)),
                _ => Err("a key is not a text".to_owned()),
            };
            Value::Map(members.into_iter().map(member).collect::<Result<_, _>>()?)
        }
        _ => return Err("the body holds a value of an unknown type".to_owned()),
    })
}

/// Encodes one value.
pub(super) fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    ciborium::into_writer(&AsCbor(value), &mut out).expect("writing to memory cannot fail");
    out
}

/// A value in its CBOR form, which differs from JSON in bytes and times.
struct AsCbor<'v>(&'v Value);

impl Serialize for AsCbor<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Bytes(bytes) => to.serialize_bytes(bytes),
            Value::Time(time_ms) => tag::Required::<u64, TAG_TIME>(*time_ms).serialize(to),
            Value::List(values) => to.collect_seq(values.iter().map(AsCbor)),
            Value::Map(members) => {
                let mut map = to.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    map.serialize_entry(name, &AsCbor(value))?;
                }
                map.end()
            }
            same => same.serialize(to),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Integer),
            (-1e300..1e300_f64).prop_map(Value::Float),
            "\\PC{0,30}".prop_map(Value::Text),
            prop::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| Value::Bytes(bytes.into())),
            (0..i64::MAX as u64).prop_map(Value::Time),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..30).prop_map(Value::List),
                prop::collection::vec(("[a-z]{0,30}", inner), 0..6).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_reads_back(value in value()) {
            prop_assert_eq!(decode(&encode(&value).into()), Ok(value));
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode(&bytes.into()).is_ok();
        }
    }

    #[test]
    fn indefinite_lengths_and_short_floats_are_read() {
        // RFC 8949, appendix A.
        let read = |bytes: &'static [u8]| decode(&Bytes::from_static(bytes)).unwrap();
        assert_eq!(read(&[0xf9, 0x3c, 0x00]), Value::Float(1.0));
        assert_eq!(read(&[0xf9, 0xc4, 0x00]), Value::Float(-4.0));
        assert_eq!(
            read(&[0xfa, 0x47, 0xc3, 0x50, 0x00]),
            Value::Float(100_000.0)
        );
        let bytes = read(&[0x5f, 0x42, 1, 2, 0x43, 3, 4, 5, 0xff]);
        assert_eq!(bytes, Value::Bytes(Bytes::from_static(&[1, 2, 3, 4, 5])));
        let map = read(&[0xbf, 0x61, b'a', 0x01, 0x61, b'b', 0x9f, 0x02, 0xff, 0xff]);
        let expected = Value::Map(vec![
            ("a".to_owned(), Value::Integer(1)),
            ("b".to_owned(), Value::List(vec![Value::Integer(2)])),
        ]);
        assert_eq!(map, expected);
        assert!(
            decode(&Bytes::from_static(&[1, 2])).is_err(),
            "a second value"
        );
        assert!(
            decode(&vec![0x81; 1_000].into()).is_err(),
            "nested too deep"
        );
    }

    #[test]
    fn a_claimed_length_allocates_nothing() {
        // Each claims 2^64 - 1 bytes or elements: bytes, a text, a list, a map, a part of bytes.
        let length = [0xff; 8];
        for head in [
            &[0x5b][..],
            &[0x7b],
            &[0x9b],
            &[0xbb],
            &[0x5f, 0x5b],
            &[0x9f, 0x9b],
        ] {
            let body = [head, &length].concat();
            assert!(decode(&body.into()).is_err(), "{head:x?}");
        }
    }

    #[test]
    fn nesting_is_accepted_up_to_its_maximum() {
        for (depth, accepted) in [(DEPTH_MAX, true), (DEPTH_MAX + 1, false)] {
            let mut body = vec![0x81; depth];
            body.push(0);
            assert_eq!(decode(&body.into()).is_ok(), accepted, "{depth}");
        }
    }

    #[test]
    fn values_are_written_in_their_shortest_form() {
        let value = Value::Map(vec![
            ("n".to_owned(), Value::Integer(-500)),
            ("t".to_owned(), Value::Time(1_700_000_000_000)),
            ("d".to_owned(), Value::Bytes(Bytes::from_static(&[7; 24]))),
            (
                "l".to_owned(),
                Value::List(vec![Value::Null, Value::Bool(true)]),
            ),
        ]);
        let mut expected = vec![0xa4, 0x61, b'n', 0x39, 0x01, 0xf3];
        expected.extend([
            0x61, b't', 0xc1, 0x1b, 0, 0, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x00,
        ]);
        expected.extend([0x61, b'd', 0x58, 24]);
        expected.extend([7; 24]);
        expected.extend([0x61, b'l', 0x82, 0xf6, 0xf5]);
        assert_eq!(encode(&value), expected);
    }
}
