//! Dates and times: StateFun's form in module files, RFC 3339 everywhere else.
//!
//! The calendar is `jiff`'s. Each form is checked for its exact shape first, because `jiff` reads
//! many more forms than are documented here.

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::Offset;

/// Reads a date in StateFun's form `yyyy-MM-dd HH:mm:ss.SSS Z`, in milliseconds since 1970.
///
/// The zone is `+0100` or `Z` for UTC, as in `2026-02-01 04:15:00.000 +0100`.
///
/// # Errors
/// States the form of a date.
pub fn parse_date(text: &str) -> Result<u64, String> {
    statefun(text).ok_or_else(|| {
        format!(
            "`{text}` is not a date since 1970: write it as 2026-02-01 04:15:00.000 +0000 \
             (yyyy-MM-dd HH:mm:ss.SSS Z)"
        )
    })
}

/// Reads a time as RFC 3339 writes it, as milliseconds since the Unix epoch.
///
/// Examples: `2026-02-01T04:15:00Z`, `2026-02-01 04:15:00.250+01:00`. Digits beyond milliseconds
/// are cut off. Returns nothing for any other text and for a time before 1970.
pub fn parse_rfc3339(text: &str) -> Option<u64> {
    let (date, rest) = text.split_at_checked(10)?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (time, zone) = rest.split_at(rest.find(['Z', 'z', '+', '-'])?);
    let offset_seconds = match zone {
        "Z" | "z" => 0,
        _ if zone.is_ascii() && zone.len() == 6 && zone.as_bytes()[3] == b':' => {
            offset_seconds(&format!("{}{}", &zone[..3], &zone[4..]))?
        }
        _ => return None,
    };
    match time.split_once('.') {
        None => epoch_ms(date, time, "000", offset_seconds),
        Some((time, fraction)) => epoch_ms(date, time, fraction, offset_seconds),
    }
}

/// Writes milliseconds since the Unix epoch as RFC 3339 in UTC, such as `2026-02-01T04:15:00.000Z`.
///
/// A time beyond the year 9999 is written as the last one that has this form.
pub fn format_rfc3339(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    let timestamp = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    format!("{timestamp:.3}")
}

fn statefun(text: &str) -> Option<u64> {
    let mut parts = text.split(' ').filter(|part| !part.is_empty());
    let (date, time, zone) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let offset_seconds = match zone {
        "Z" => 0,
        zone => offset_seconds(zone)?,
    };
    let (time, millis) = time.split_once('.')?;
    (millis.len() == 3).then(|| epoch_ms(date, time, millis, offset_seconds))?
}

/// Reads the offset `+HHMM` or `-HHMM`, at most 18 hours as in Java.
fn offset_seconds(zone: &str) -> Option<i32> {
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let number: i32 = has_shape(digits, "0000").then(|| digits.parse().ok())??;
    let (hours, minutes) = (number / 100, number % 100);
    (hours <= 18 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// The time at which a clock `offset_seconds` east of UTC shows `date` and `time`.
fn epoch_ms(date: &str, time: &str, fraction: &str, offset_seconds: i32) -> Option<u64> {
    let is_fraction = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    // `jiff` reads second 60 as second 59; neither form has leap seconds.
    if !is_fraction || !has_shape(time, "00:00:00") || time.ends_with("60") {
        return None;
    }
    let date: Date = has_shape(date, "0000-00-00").then(|| date.parse().ok())??;
    let time: Time = time.parse().ok()?;
    let offset = Offset::from_seconds(offset_seconds).ok()?;
    let timestamp = offset.to_timestamp(date.to_datetime(time)).ok()?;
    let millis: String = fraction.chars().chain("00".chars()).take(3).collect();
    let millis: i64 = millis.parse().ok()?;
    u64::try_from(timestamp.as_millisecond() + millis).ok()
}

/// Returns true if `text` has a digit wherever `shape` has a `0`, and equals it elsewhere.
fn has_shape(text: &str, shape: &str) -> bool {
    text.len() == shape.len()
        && text
            .bytes()
            .zip(shape.bytes())
            .all(|(byte, wanted)| match wanted {
                b'0' => byte.is_ascii_digit(),
                _ => byte == wanted,
            })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_in_the_form_of_statefun() {
        let dates = [
            ("1970-01-01 00:00:00.000 Z", 0),
            ("2020-02-01 04:15:00.000 Z", 1_580_530_500_000),
            ("2024-02-29 23:59:59.999 +0000", 1_709_251_199_999),
            ("2026-11-21 08:00:00.000 +0100", 1_795_244_400_000),
            ("2000-03-01 00:00:00.000 -0130", 951_874_200_000),
        ];
        for (text, ms) in dates {
            assert_eq!(parse_date(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn dates_that_do_not_exist_are_refused() {
        for text in [
            "2023-02-29 00:00:00.000 Z",
            "2023-13-01 00:00:00.000 Z",
            "2023-01-01 24:00:00.000 Z",
            "2023-01-01 23:59:60.000 Z",
            "2023-01-01 00:00:00.0000 Z",
            "2023-01-01 00:00:00.000 +01:00",
            "2023-01-01 00:00:00.000 +1900",
            "2023-01-01T00:00:00.000Z",
            "1969-12-31 23:59:59.999 Z",
            "2023-01-01 00:00:00 Z",
            "+023-01-01 00:00:00.000 Z",
            "",
        ] {
            assert!(parse_date(text).unwrap_err().contains(text), "{text}");
        }
    }

    #[test]
    fn times_are_read_as_rfc_3339_writes_them() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2020-02-01T04:15:00z", 1_580_530_500_000),
            ("2020-02-01t05:15:00.1234567+01:00", 1_580_530_500_123),
            ("2020-02-01 03:45:00.25-00:30", 1_580_530_500_250),
        ] {
            assert_eq!(parse_rfc3339(text), Some(ms), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_time_of_rfc_3339_is_refused() {
        for text in [
            "",
            "yesterday",
            "2020-02-01",
            "2020-02-01T04:15:00",
            "2020-02-30T04:15:00Z",
            "2020-02-01T04:15:60Z",
            "2020-02-01T04:15:00.Z",
            "2020-02-01T04:15:00.1x3Z",
            "2020-02-01T04:15:00+0100",
            "2020-02-01T04:15:00+1:00",
            "2020-02-01T04:15:00ZZ",
            "2020-02-01T04:15:00Z[UTC]",
            "1969-12-31T23:59:59Z",
            "202é-02-01T04:15:00Z",
            "2020-02-01T04:15:00+é100",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_written_as_rfc_3339_and_read_back() {
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_767_225_599_001, "2025-12-31T23:59:59.001Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(format_rfc3339(ms), expected);
            assert_eq!(parse_rfc3339(expected), Some(ms));
        }
        assert!(format_rfc3339(u64::MAX).ends_with('Z'));
    }
}
