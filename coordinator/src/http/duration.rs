//! Durations in requests, as StateFun writes them: `30s`, `2m`, `1min`, `10sec`, `500ms`.

use std::time::Duration;

/// Reads a whole number and a unit; blanks around either and the case of the unit do not matter.
///
/// Units and their spellings are those of Flink's `TimeUtils`, which reads StateFun's module files, from milliseconds to days.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: u64 = number.parse().ok()?;
    let unit_ms = match unit.trim_start().to_ascii_lowercase().as_str() {
        "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000,
        "m" | "min" | "minute" | "minutes" => 60_000,
        "h" | "hour" | "hours" => 3_600_000,
        "d" | "day" | "days" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit_ms).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read() {
        for (text, ms) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("10sec", 10_000),
            ("2m", 120_000),
            ("1min", 60_000),
            ("1 Hour", 3_600_000),
            (" 2d ", 172_800_000),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "s", "30", "-1s", "1.5s", "1w", "18446744073709551615d", "٣s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
