//! Durations in StateFun's notation: `30s`, `2m`, `1h`, `1min`, `10sec`, `500ms`, `30d`.
//!
//! Every text that this parser accepts means the same in a module file. The parser is written by
//! hand because it runs at compile time (`#[state(expire_after_write = "30d")]`), which neither
//! `humantime` nor `jiff` does, and because their grammars give some of these texts another form
//! or meaning.

use std::time::Duration;

const EXPECTED: &str = "write a whole number and a unit, such as 500ms, 30s, 2m, 1h or 30d";

/// Error of a text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration: {EXPECTED}")]
pub struct DurationError {
    text: String,
}

/// Parses a duration such as `30s`.
///
/// Units: `ms`; `s`, `sec`; `m`, `min`; `h`; `d`.
///
/// # Errors
///
/// When the text is not a whole number followed by one of the units.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    parse(text).ok_or_else(|| DurationError {
        text: text.to_owned(),
    })
}

/// Parses a literal at compile time: `#[state(expire_after_write = "30d")]` expands to it.
#[doc(hidden)]
pub const fn duration_literal(text: &'static str) -> Duration {
    match parse(text) {
        Some(duration) => duration,
        None => panic!(
            "not a duration: write a whole number and a unit, such as 500ms, 30s, 2m, 1h or 30d"
        ),
    }
}

const fn parse(text: &str) -> Option<Duration> {
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut number: u64 = 0;
    while at < bytes.len() && bytes[at].is_ascii_digit() {
        let digit = (bytes[at] - b'0') as u64;
        number = match number.checked_mul(10) {
            Some(number) => match number.checked_add(digit) {
                Some(number) => number,
                None => return None,
            },
            None => return None,
        };
        at += 1;
    }
    if at == 0 {
        return None;
    }
    let (_, unit) = bytes.split_at(at);
    let unit_ms: u64 = match unit {
        b"ms" => 1,
        b"s" | b"sec" => 1_000,
        b"m" | b"min" => 60_000,
        b"h" => 3_600_000,
        b"d" => 86_400_000,
        _ => return None,
    };
    match number.checked_mul(unit_ms) {
        Some(ms) => Some(Duration::from_millis(ms)),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_parsed() {
        for (text, ms) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("10sec", 10_000),
            ("2m", 120_000),
            ("1min", 60_000),
            ("1h", 3_600_000),
            ("30d", 2_592_000_000),
            ("0s", 0),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            );
        }
    }

    #[test]
    fn anything_else_is_rejected_by_name() {
        for text in [
            "",
            "s",
            "3",
            "-3s",
            "1.5s",
            "3 s",
            "3S",
            "3w",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert_eq!(
                parse_duration(text).unwrap_err().to_string(),
                format!(
                    "{text:?} is not a duration: \
                     write a whole number and a unit, such as 500ms, 30s, 2m, 1h or 30d"
                )
            );
        }
    }
}
