//! Number of values in a body, counted before any of them is built: a value of one byte takes a
//! hundred in memory.

/// Maximum number of values in a body. A request of Kinesis with 500 records has some 3,000.
pub(super) const VALUES_MAX: usize = 50_000;

/// Returns an error if the body has more values than [`VALUES_MAX`]. A malformed body is left to
/// its decoder, which builds no more than what was counted.
pub(super) fn check(counted: usize) -> Result<(), String> {
    if counted > VALUES_MAX {
        return Err(format!("the body has more than {VALUES_MAX} values"));
    }
    Ok(())
}

/// Counts the values of a JSON text, at most one more than [`VALUES_MAX`].
pub(super) fn in_json(text: &[u8]) -> usize {
    let mut count = 1;
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next()
        && count <= VALUES_MAX
    {
        match byte {
            b'"' => skip_string(&mut bytes),
            // Every value but the first follows one of these.
            b',' | b'[' | b':' => count += 1,
            _ => {}
        }
    }
    count
}

/// Skips the rest of a string.
fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

/// Counts the items of CBOR, at most one more than [`VALUES_MAX`].
pub(super) fn in_cbor(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some((head, rest)) = bytes.split_first()
        && count <= VALUES_MAX
    {
        count += 1;
        let (kind, short) = (head >> 5, head & 0x1f);
        let length_bytes = match short {
            24..=27 => 1 << (short - 24),
            _ => 0,
        };
        let Some((argument, rest)) = rest.split_at_checked(length_bytes) else {
            return count;
        };
        let value = match short {
            0..=23 => u64::from(short),
            _ => argument
                .iter()
                .fold(0, |value, byte| (value << 8) | u64::from(*byte)),
        };
        // Bytes and texts of known length have a content; all else is only its head.
        let content = match (kind, short) {
            (2 | 3, 0..=27) => usize::try_from(value).unwrap_or(usize::MAX),
            _ => 0,
        };
        bytes = rest.get(content..).unwrap_or_default();
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_and_the_content_of_strings_is_not() {
        for (text, count) in [
            ("1", 1),
            ("[]", 2),
            ("[1,2,3]", 4),
            (r#"{"a":1,"b":[2,3]}"#, 6),
            (r#""a,b\",[c:""#, 1),
        ] {
            let counted = in_json(text.as_bytes());
            assert!((count..=count + 1).contains(&counted), "{text}: {counted}");
        }
        for (bytes, count) in [
            (&[0x01][..], 1),
            (&[0x83, 0xf6, 0xf6, 0xf6], 4),
            (&[0xa1, 0x61, b'a', 0x42, 0x83, 0x83], 3),
            (&[0x58, 0x02, 0x83, 0x83, 0x19, 0x01, 0xf4], 2),
            (&[0x9f, 0x02, 0xff], 3),
            (&[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 1),
        ] {
            assert_eq!(in_cbor(bytes), count, "{bytes:x?}");
        }
    }

    #[test]
    fn a_list_of_more_values_than_allowed_is_refused() {
        let within = vec![0xf6; VALUES_MAX - 1];
        let list = |values: &[u8]| [&[0x9f][..], values].concat();
        assert!(check(in_cbor(&list(&within))).is_ok());
        let beyond = list(&vec![0xf6; 16 << 20]);
        assert_eq!(
            check(in_cbor(&beyond)),
            Err("the body has more than 50000 values".to_owned())
        );
        let json = format!("[{}1]", "1,".repeat(1 << 20));
        assert!(check(in_json(json.as_bytes())).is_err());
    }
}
