//! As much of CBOR (RFC 8949) as Kinesis' clients use: definite and indefinite lengths, floats of all sizes, times under tag 1.

use bytes::{Buf, BufMut, Bytes};

use super::Value;

/// No body is nested deeper.
const DEPTH_MAX: usize = 32;

const TAG_TIME: u64 = 1;

/// Reads one value that fills the body.
pub(super) fn decode(body: &Bytes) -> Result<Value, String> {
    let mut rest = body.clone();
    let value = read(&mut rest, 0).ok_or("the body is not CBOR")?;
    if !rest.is_empty() {
        return Err(format!("{} bytes follow the CBOR value", rest.len()));
    }
    Ok(value)
}

fn read(rest: &mut Bytes, depth: usize) -> Option<Value> {
    if depth > DEPTH_MAX {
        return None;
    }
    let (major, low, argument) = read_head(rest)?;
    match (major, argument) {
        (0, Some(number)) => i64::try_from(number).ok().map(Value::Integer),
        (1, Some(number)) => Some(Value::Integer(-1 - i64::try_from(number).ok()?)),
        (2, length) => read_bytes(rest, major, length).map(Value::Bytes),
        (3, length) => {
            let text = read_bytes(rest, major, length)?;
            Some(Value::Text(String::from_utf8(text.to_vec()).ok()?))
        }
        (4, length) => {
            let mut values = Vec::new();
            while more(rest, values.len(), length)? {
                values.push(read(rest, depth + 1)?);
            }
            Some(Value::List(values))
        }
        (5, length) => {
            let mut members = Vec::new();
            while more(rest, members.len(), length)? {
                let Value::Text(name) = read(rest, depth + 1)? else {
                    return None;
                };
                members.push((name, read(rest, depth + 1)?));
            }
            Some(Value::Map(members))
        }
        (6, Some(TAG_TIME)) => match read(rest, depth + 1)? {
            Value::Integer(time_ms) => Some(Value::Time(u64::try_from(time_ms).ok()?)),
            Value::Float(time_ms) if time_ms >= 0.0 => Some(Value::Time(time_ms as u64)),
            _ => None,
        },
        (6, Some(_)) => read(rest, depth + 1),
        (7, Some(argument)) => Some(match (low, argument) {
            (20, _) => Value::Bool(false),
            (21, _) => Value::Bool(true),
            (22 | 23, _) => Value::Null,
            (25, half) => Value::Float(half_float(half as u16)),
            (26, single) => Value::Float(f32::from_bits(single as u32).into()),
            (27, double) => Value::Float(f64::from_bits(double)),
            _ => return None,
        }),
        _ => None,
    }
}

/// The major type, the low bits, and the argument; none for an indefinite length.
fn read_head(rest: &mut Bytes) -> Option<(u8, u8, Option<u64>)> {
    let first = rest.try_get_u8().ok()?;
    let (major, low) = (first >> 5, first & 31);
    let argument = match low {
        0..=23 => Some(low.into()),
        24 => Some(rest.try_get_u8().ok()?.into()),
        25 => Some(rest.try_get_u16().ok()?.into()),
        26 => Some(rest.try_get_u32().ok()?.into()),
        27 => Some(rest.try_get_u64().ok()?),
        31 if (2..=5).contains(&major) => None,
        _ => return None,
    };
    Some((major, low, argument))
}

fn read_bytes(rest: &mut Bytes, major: u8, length: Option<u64>) -> Option<Bytes> {
    if let Some(length) = length {
        let length = usize::try_from(length).ok()?;
        return (length <= rest.len()).then(|| rest.split_to(length));
    }
    let mut whole = Vec::new();
    while more(rest, 0, None)? {
        let (piece_major, _, length) = read_head(rest)?;
        if piece_major != major {
            return None;
        }
        whole.extend_from_slice(&read_bytes(rest, major, Some(length?))?);
    }
    Some(whole.into())
}

/// Whether there is another element after `read` of them; passes the end of an indefinite length.
fn more(rest: &mut Bytes, read: usize, length: Option<u64>) -> Option<bool> {
    match length {
        Some(length) => Some((read as u64) < length),
        None if *rest.first()? == 0xff => {
            rest.advance(1);
            Some(false)
        }
        None => Some(true),
    }
}

fn half_float(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1_023));
    sign * match exponent {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        exponent => (1_024.0 + fraction) * 2_f64.powi(exponent - 25),
    }
}

/// Writes one value.
pub(super) fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.put_u8(0xf6),
        Value::Bool(value) => out.put_u8(0xf4 | u8::from(*value)),
        Value::Integer(number) => match u64::try_from(*number) {
            Ok(number) => write_head(0, number, out),
            Err(_) => write_head(1, !*number as u64, out),
        },
        Value::Float(number) => {
            out.put_u8(0xfb);
            out.put_f64(*number);
        }
        Value::Text(text) => {
            write_head(3, text.len() as u64, out);
            out.put_slice(text.as_bytes());
        }
        Value::Bytes(bytes) => {
            write_head(2, bytes.len() as u64, out);
            out.put_slice(bytes);
        }
        Value::Time(time_ms) => {
            write_head(6, TAG_TIME, out);
            write_head(0, *time_ms, out);
        }
        Value::List(values) => {
            write_head(4, values.len() as u64, out);
            for value in values {
                write(value, out);
            }
        }
        Value::Map(members) => {
            write_head(5, members.len() as u64, out);
            for (name, value) in members {
                write_head(3, name.len() as u64, out);
                out.put_slice(name.as_bytes());
                write(value, out);
            }
        }
    }
}

fn write_head(major: u8, argument: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    match argument {
        0..24 => out.put_u8(major | argument as u8),
        24..0x100 => {
            out.put_u8(major | 24);
            out.put_u8(argument as u8);
        }
        0x100..0x1_0000 => {
            out.put_u8(major | 25);
            out.put_u16(argument as u16);
        }
        0x1_0000..0x1_0000_0000 => {
            out.put_u8(major | 26);
            out.put_u32(argument as u32);
        }
        _ => {
            out.put_u8(major | 27);
            out.put_u64(argument);
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
}
