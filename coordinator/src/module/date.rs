//! Dates as StateFun's startup positions write them.

/// Reads a date in StateFun's form `yyyy-MM-dd HH:mm:ss.SSS Z` (such as `2026-02-01 04:15:00.000 +0100`; `Z` alone also means UTC) as
/// milliseconds since the Unix epoch.
///
/// # Errors
/// Says what a date looks like.
pub(crate) fn parse_date(text: &str) -> Result<u64, String> {
    parse(text).ok_or_else(|| {
        format!(
            "`{text}` is not a date from 1970 on: write it as 2026-02-01 04:15:00.000 +0000 (yyyy-MM-dd HH:mm:ss.SSS Z)"
        )
    })
}

fn parse(text: &str) -> Option<u64> {
    let mut parts = text.split(' ').filter(|part| !part.is_empty());
    let (date, time, zone) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (time, millis) = time.split_once('.')?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let [millis] = numbers(millis, '.', [3])?;
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    u64::try_from((seconds - zone_seconds(zone)?) * 1_000 + millis).ok()
}

fn zone_seconds(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let [offset] = numbers(digits, ':', [4])?;
    let (hours, minutes) = (offset / 100, offset % 100);
    (hours <= 18 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

fn numbers<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut values = [0; N];
    for (value, digits) in values.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != digits || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *value = part.parse().ok()?;
    }
    parts.next().is_none().then_some(values)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let leap_days = |year: i64| year / 4 - year / 100 + year / 400;
    let years = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969);
    let months: i64 = (1..month).map(|month| days_in(year, month)).sum();
    years + months + day - 1
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
            "2023-01-01T00:00:00.000Z",
            "1969-12-31 23:59:59.999 Z",
            "2023-01-01 00:00:00 Z",
            "",
        ] {
            assert!(parse_date(text).unwrap_err().contains(text), "{text}");
        }
    }
}
