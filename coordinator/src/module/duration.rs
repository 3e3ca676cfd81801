//! Durations and sizes, as module files and flags write them.
//!
//! The grammar of durations is that of Flink's `TimeUtils`, which StateFun uses: one whole number
//! and one unit. Libraries for durations read compounds, fractions and signs too, and lack the
//! meaning of a bare number; the units below also make the patterns of the JSON Schema.

use std::time::Duration;

/// Spellings of a unit, in lower case, and its size.
type Unit = (&'static [&'static str], u64);

/// Flink's units of time, in nanoseconds; without a unit, milliseconds.
const UNITS: [Unit; 8] = [
    (&["d", "day", "days"], 86_400_000_000_000),
    (&["h", "hour", "hours"], 3_600_000_000_000),
    (&["min", "m", "minute", "minutes"], 60_000_000_000),
    (&["s", "sec", "secs", "second", "seconds"], 1_000_000_000),
    (
        &["ms", "milli", "millis", "millisecond", "milliseconds"],
        1_000_000,
    ),
    (
        &["µs", "micro", "micros", "microsecond", "microseconds"],
        1_000,
    ),
    (&["ns", "nano", "nanos", "nanosecond", "nanoseconds"], 1),
    (&[""], 1_000_000),
];

/// Units of size, in bytes.
const SIZES: [Unit; 6] = [
    (&["", "b", "bytes"], 1),
    (&["kb"], 1_000),
    (&["kib", "k"], 1 << 10),
    (&["mb"], 1_000_000),
    (&["mib", "m"], 1 << 20),
    (&["gib", "g"], 1 << 30),
];

/// Reads a duration: a whole number and a unit, or a number of milliseconds.
///
/// Examples: `100ms`, `30s`, `10sec`, `2m`, `1min`, `1h`, `7d`, `250`. The case of a unit does not
/// matter.
///
/// # Errors
/// States the form of a duration.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "`{text}` is not a duration: write a whole number and a unit, such as 100ms, 30s, 2m \
             or 1h"
        )
    };
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let unit_ns = unit_of(&UNITS, &unit).ok_or_else(wrong)?;
    let ns = number
        .checked_mul(unit_ns)
        .ok_or_else(|| format!("the duration `{text}` is too long"))?;
    Ok(Duration::from_nanos(ns))
}

/// Reads a number of bytes: a whole number, with or without a unit.
///
/// Examples: `1048576`, `64KiB`, `5MiB`, `1GiB`, `6MB`. The case of a unit does not matter.
///
/// # Errors
/// States the form of a size.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("`{text}` is not a size: write a number of bytes, such as 1048576 or 5MiB");
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let unit = unit_of(&SIZES, &unit).ok_or_else(wrong)?;
    number
        .checked_mul(unit)
        .ok_or_else(|| format!("the size `{text}` is too large"))
}

/// Writes a duration in the largest unit that leaves it whole.
///
/// [`parse_duration`] reads the same duration back, down to whole milliseconds.
pub fn format_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        0 => "0ms".to_owned(),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

/// Regular expression of the texts that [`parse_duration`] reads, but for their range.
pub(crate) fn duration_pattern() -> String {
    pattern(&UNITS)
}

/// Regular expression of the texts that [`parse_bytes`] reads, but for their range.
pub(crate) fn bytes_pattern() -> String {
    pattern(&SIZES)
}

/// JSON Schema knows no flag for the case of letters, so each letter stands in both.
fn pattern(units: &[Unit]) -> String {
    let letter = |letter: char| match letter.is_ascii_lowercase() {
        true => format!("[{letter}{}]", letter.to_ascii_uppercase()),
        false => letter.to_string(),
    };
    let units: Vec<String> = units
        .iter()
        .flat_map(|(spellings, _)| spellings.iter())
        .map(|unit| unit.chars().map(letter).collect())
        .collect();
    format!(r"\s*[0-9]+\s*({})\s*", units.join("|"))
}

fn split(text: &str) -> Option<(u64, String)> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number = text[..digits].parse().ok()?;
    Some((number, text[digits..].trim().to_lowercase()))
}

fn unit_of(units: &[Unit], unit: &str) -> Option<u64> {
    units
        .iter()
        .find(|(names, _)| names.contains(&unit))
        .map(|(_, size)| *size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_every_spelling_of_statefun() {
        let read = |text| parse_duration(text).unwrap().as_millis();
        let spellings = [
            ("100ms", 100),
            ("30s", 30_000),
            ("10sec", 10_000),
            ("10 seconds", 10_000),
            ("2m", 120_000),
            ("1min", 60_000),
            ("1h", 3_600_000),
            ("2 days", 172_800_000),
            ("250", 250),
        ];
        for (text, ms) in spellings {
            assert_eq!(read(text), ms, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused_by_name() {
        for text in ["", "s", "1.5s", "-1s", "10 parsecs", "1h30m"] {
            let refused = parse_duration(text).unwrap_err();
            assert!(refused.contains(&format!("`{text}`")), "{refused}");
        }
        assert_eq!(
            parse_duration("99999999999999999d").unwrap_err(),
            "the duration `99999999999999999d` is too long"
        );
    }

    #[test]
    fn a_written_duration_reads_back_the_same() {
        for ms in [0, 1, 1_500, 30_000, 90_000, 120_000, 86_400_000] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
    }

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        let sizes = [
            ("1048576", 1_048_576),
            ("64KiB", 65_536),
            ("5 MiB", 5_242_880),
            ("6MB", 6_000_000),
            ("1g", 1_073_741_824),
        ];
        for (text, bytes) in sizes {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        assert!(parse_bytes("5 boxes").unwrap_err().contains("`5 boxes`"));
    }
}
