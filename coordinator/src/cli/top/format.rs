//! Numbers, sizes and times as texts, in the form that the console shows.

use jiff::Timestamp;

/// A count with its digits in groups of three.
pub(super) fn count(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut grouped = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    match value < 0.0 && digits != "0" {
        true => format!("-{grouped}"),
        false => grouped,
    }
}

/// A rate or level, short.
pub(super) fn short(value: f64) -> String {
    let decimals = |places: usize| {
        let text = format!("{value:.places$}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        text.to_owned()
    };
    match value {
        0.0 => "0".to_owned(),
        ..1.0 => decimals(2),
        ..10.0 => decimals(1),
        ..1e4 => count(value.round()),
        ..1e5 => format!("{:.1} k", value / 1e3),
        ..1e6 => format!("{:.0} k", value / 1e3),
        ..1e9 => format!("{:.1} M", value / 1e6),
        _ => format!("{:.1} G", value / 1e9),
    }
}

/// A size in bytes.
pub(super) fn bytes(value: f64) -> String {
    let mut size = value;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        if size < 1_024.0 {
            break;
        }
        size /= 1_024.0;
        unit = larger;
    }
    match unit == "B" || size >= 100.0 {
        true => format!("{size:.0} {unit}"),
        false => format!("{size:.1} {unit}"),
    }
}

/// A duration in seconds.
pub(super) fn duration(seconds: f64) -> String {
    let value = seconds.max(0.0);
    let whole = |of: f64| of.floor();
    match value {
        ..1.0 => format!("{} ms", (value * 1_000.0).round()),
        ..10.0 => format!("{value:.1} s"),
        ..60.0 => format!("{} s", value.round()),
        ..3_600.0 => format!("{} min {} s", whole(value / 60.0), (value % 60.0).round()),
        ..86_400.0 => format!(
            "{} h {} min",
            whole(value / 3_600.0),
            whole(value % 3_600.0 / 60.0)
        ),
        _ => format!(
            "{} d {} h",
            whole(value / 86_400.0),
            whole(value % 86_400.0 / 3_600.0)
        ),
    }
}

/// Distance of a time in RFC 3339 from `now_ms`. A text that is no time is returned as it is.
pub(super) fn relative(text: &str, now_ms: u64) -> String {
    let Some(at_ms) = moment(text) else {
        return text.to_owned();
    };
    let seconds = (now_ms as f64 - at_ms) / 1_000.0;
    let distance = match seconds.abs().round() {
        0.0 => return "now".to_owned(),
        whole @ ..60.0 => format!("{whole} s"),
        whole => duration(whole),
    };
    match seconds > 0.0 {
        true => format!("{distance} ago"),
        false => format!("in {distance}"),
    }
}

/// A time in RFC 3339, in milliseconds since 1970.
pub(super) fn moment(text: &str) -> Option<f64> {
    let at: Timestamp = text.parse().ok()?;
    Some(at.as_millisecond() as f64)
}

/// Hour, minute and second of a time in milliseconds since 1970, in UTC.
pub(super) fn clock(ms: u64) -> String {
    let seconds = ms / 1_000 % 86_400;
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_sizes_and_times_read_as_in_the_console() {
        let counts = [
            (0.0, "0"),
            (999.0, "999"),
            (1e3, "1,000"),
            (1234567.0, "1,234,567"),
        ];
        for (value, text) in counts {
            assert_eq!(count(value), text);
        }
        let rates = [
            (0.0, "0"),
            (0.25, "0.25"),
            (0.5, "0.5"),
            (3.0, "3"),
            (9.96, "10"),
            (12.4, "12"),
            (9_999.0, "9,999"),
            (12_345.0, "12.3 k"),
            (123_456.0, "123 k"),
            (2_500_000.0, "2.5 M"),
        ];
        for (value, text) in rates {
            assert_eq!(short(value), text, "{value}");
        }
        let sizes = [
            (0.0, "0 B"),
            (1023.0, "1023 B"),
            (1536.0, "1.5 KiB"),
            (1e9, "954 MiB"),
        ];
        for (value, text) in sizes {
            assert_eq!(bytes(value), text);
        }
        let durations = [
            (0.25, "250 ms"),
            (2.5, "2.5 s"),
            (42.4, "42 s"),
            (125.0, "2 min 5 s"),
            (7_260.0, "2 h 1 min"),
            (90_000.0, "1 d 1 h"),
        ];
        for (value, text) in durations {
            assert_eq!(duration(value), text);
        }
    }

    #[test]
    fn times_are_shown_by_their_distance_and_what_is_none_as_it_is() {
        let now = 1_767_323_045_678;
        for (text, shown) in [
            ("2026-01-02T03:04:05.678Z", "now"),
            ("2026-01-02T03:04:02Z", "4 s ago"),
            ("2026-01-02T03:06:05.678Z", "in 2 min 0 s"),
            ("yesterday", "yesterday"),
        ] {
            assert_eq!(relative(text, now), shown);
        }
        assert_eq!(clock(now), "03:04:05Z");
    }
}
