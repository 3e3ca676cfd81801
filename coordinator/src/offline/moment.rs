//! Parsing of moments and savepoint names on the command line.

use satchel_log::At;

use crate::clock::TIME_WARN_FROM_MS;
use crate::module::{format_rfc3339, parse_rfc3339};

/// Parses a time in RFC 3339, such as `2026-02-01T04:15:00Z` or `2026-02-01 04:15:00.250+01:00`, to
/// milliseconds since the epoch. Finer digits are cut off.
///
/// # Errors
/// Says how to write a time.
pub fn parse_moment(text: &str) -> Result<u64, String> {
    parse_rfc3339(text).ok_or_else(|| {
        format!("`{text}` is not a time from 1970 on: write it as 2026-02-01T04:15:00Z (RFC 3339)")
    })
}

/// Parses a time, or else the name of a savepoint.
///
/// # Errors
/// Says how to write both.
pub fn parse_at(text: &str) -> Result<At, String> {
    if let Some(moment_ms) = parse_rfc3339(text) {
        return Ok(At::Moment(moment_ms));
    }
    let looks_like_a_time = text.contains(':');
    let savepoint = text.parse().ok().filter(|_| !looks_like_a_time);
    savepoint.map(At::Savepoint).ok_or_else(|| {
        format!(
            "`{text}` is neither a time from 1970 on, such as 2026-02-01T04:15:00Z (RFC 3339), \
             nor the name of a savepoint"
        )
    })
}

/// Returns a note about a moment if partition time is ahead of the calendar: moments are partition
/// time. `newest_ms` is the time of the newest commit.
pub(crate) fn note_of_moment(at: At, newest_ms: Option<u64>, now_ms: u64) -> Option<String> {
    let (At::Moment(_), Some(newest_ms)) = (at, newest_ms) else {
        return None;
    };
    let ahead_ms = newest_ms.saturating_sub(now_ms);
    (ahead_ms >= TIME_WARN_FROM_MS).then(|| {
        format!(
            "partition time is at least {} s ahead of this machine's clock (its newest commit is \
             of {}): the moment is read as partition time",
            ahead_ms / 1000,
            format_rfc3339(newest_ms)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_parsed_as_rfc_3339_writes_them() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2020-02-01T04:15:00z", 1_580_530_500_000),
            ("2020-02-01t05:15:00.1234567+01:00", 1_580_530_500_123),
            ("2020-02-01 03:45:00.25-00:30", 1_580_530_500_250),
        ] {
            assert_eq!(parse_moment(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn text_that_is_no_time_is_the_name_of_a_savepoint_or_rejected() {
        assert_eq!(parse_at("1970-01-01T00:00:01Z"), Ok(At::Moment(1_000)));
        let monday = At::Savepoint("before-monday.1".parse().unwrap());
        assert_eq!(parse_at("before-monday.1"), Ok(monday));
        for text in ["", "2020-02-30T04:15:00Z", ".hidden", "a/b"] {
            let refused = parse_at(text).unwrap_err();
            assert!(refused.contains(&format!("`{text}`")), "{refused}");
        }
    }

    #[test]
    fn a_moment_has_a_note_if_partition_time_is_ahead() {
        let newest_ms = 1_580_530_500_000;
        let note = |at, now_ms| note_of_moment(at, Some(newest_ms), now_ms);
        assert_eq!(note(At::Moment(7), newest_ms), None);
        assert_eq!(note(At::Moment(7), newest_ms - 4_999), None);
        assert_eq!(note(At::Latest, 0), None);
        assert_eq!(note_of_moment(At::Moment(7), None, 0), None);
        assert_eq!(
            note(At::Moment(7), newest_ms - 3_600_000).as_deref(),
            Some(
                "partition time is at least 3600 s ahead of this machine's clock (its newest \
                 commit is of 2020-02-01T04:15:00.000Z): the moment is read as partition time"
            )
        );
    }

    #[test]
    fn text_that_is_no_time_is_rejected_by_name() {
        for text in [
            "",
            "yesterday",
            "2020-02-01",
            "2020-02-01T04:15:00",
            "2020-02-30T04:15:00Z",
            "2020-02-01T04:15:00.Z",
            "2020-02-01T04:15:00.1x3Z",
            "2020-02-01T04:15:00+0100",
            "2020-02-01T04:15:00+1:00",
            "2020-02-01T04:15:00ZZ",
            "1969-12-31T23:59:59Z",
            "202é-02-01T04:15:00Z",
        ] {
            let refused = parse_moment(text).unwrap_err();
            assert!(refused.contains(&format!("`{text}`")), "{refused}");
        }
    }
}
