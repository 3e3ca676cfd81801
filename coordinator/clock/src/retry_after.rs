//! `Retry-After` of HTTP.

use std::time::{Duration, SystemTime};

/// Returns the time that an HTTP server asks to wait, in ms, by its header `Retry-After`: a number
/// of seconds, or a moment. A moment is compared with the header `Date` of the same answer, or else
/// with this machine's calendar. Returns `None` if the header is not understood.
pub fn retry_after_ms(retry_after: &str, date: Option<&str>) -> Option<u64> {
    let retry_after = retry_after.trim();
    if let Ok(seconds) = retry_after.parse::<u64>() {
        return Some(seconds.saturating_mul(1000));
    }
    let moment = httpdate::parse_http_date(retry_after).ok()?;
    let now = date.and_then(|date| httpdate::parse_http_date(date.trim()).ok());
    let now = now.unwrap_or_else(SystemTime::now);
    let wait: Duration = moment.duration_since(now).unwrap_or_default();
    u64::try_from(wait.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    #[test]
    fn seconds_and_moments_are_understood() {
        for (text, ms) in [
            ("0", Some(0)),
            (" 120 ", Some(120_000)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30_000)),
            ("Sunday, 06-Nov-94 08:50:07 GMT", Some(30_000)),
            // A moment that has passed asks for nothing.
            ("Sun, 06 Nov 1994 08:49:07 GMT", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after_ms(text, Some(DATE)), ms, "{text:?}");
        }
    }

    #[test]
    fn without_a_date_a_moment_is_compared_with_the_calendar() {
        assert_eq!(retry_after_ms(DATE, None), Some(0));
        let later = SystemTime::now() + Duration::from_secs(1000);
        let later = httpdate::fmt_http_date(later);
        let asked_ms = retry_after_ms(&later, Some("not a date")).unwrap();
        assert!((900_000..=1_000_000).contains(&asked_ms), "{asked_ms}");
    }
}
