//! What a partition tells an administrator, as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use satchel_engine::output::{AddressView, DeadLetterView, StateView, TimerView};
use satchel_protocol::types::BuiltIn;
use serde::Serialize;
use serde_json::value::RawValue;

use super::value::is_json;

/// How many bytes of messages and reasons a page of dead letters holds, unless its first letter alone has more. A thousand letters of the
/// largest messages would be gigabytes.
const PAGE_BYTES_MAX: usize = 8 << 20;

/// Dead letters, and the id to ask on from if there are more.
#[derive(Serialize)]
pub(crate) struct DeadLetters {
    dead_letters: Vec<DeadLetter>,
    next: Option<String>,
}

impl DeadLetters {
    /// A page of at most `limit` of `views`, which hold one more if there is a next page, and at most of [`PAGE_BYTES_MAX`].
    pub(crate) fn page(mut views: Vec<DeadLetterView>, limit: usize) -> Self {
        let kept = limit.min(fitting(&views));
        let more = views.len() > kept;
        views.truncate(kept);
        let next = views
            .last()
            .filter(|_| more)
            .map(|last| last.id.to_string());
        Self {
            dead_letters: views.into_iter().map(DeadLetter::of).collect(),
            next,
        }
    }
}

/// How many of the first letters a page takes by their bytes: one at least, or the list would never go on.
fn fitting(views: &[DeadLetterView]) -> usize {
    let mut bytes = 0;
    let over = views.iter().position(|view| {
        bytes += view.message.value.len() + view.reason.len();
        bytes > PAGE_BYTES_MAX
    });
    over.map_or(views.len(), |over| over.max(1))
}

#[derive(Serialize)]
struct DeadLetter {
    id: String,
    /// `namespace/name/id`; null for a record that found no address.
    address: Option<String>,
    source: String,
    typename: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    attempts: u32,
    reason: String,
    failed_at: String,
}

impl DeadLetter {
    fn of(view: DeadLetterView) -> Self {
        let (message, base64) = json_or_base64(&view.message.typename, &view.message.value);
        Self {
            id: view.id.to_string(),
            address: view.address.map(|address| address.to_string()),
            source: view.source,
            typename: view.message.typename,
            message,
            base64,
            attempts: view.attempts,
            reason: view.reason,
            failed_at: rfc3339(view.failed_at_ms),
        }
    }
}

/// An address with its state, backlog and suspension.
#[derive(Serialize)]
pub(crate) struct AddressBody {
    /// `namespace/name/id`, as in dead letters and timers; the parts by themselves follow, because each may hold a `/`.
    address: String,
    namespace: String,
    name: String,
    id: String,
    state: Vec<State>,
    backlog: Backlog,
    in_flight: bool,
    suspended: Option<String>,
    failing: Option<Failing>,
}

#[derive(Serialize)]
struct State {
    name: String,
    typename: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    expires_at: Option<String>,
}

#[derive(Serialize)]
struct Backlog {
    messages: usize,
    bytes: usize,
}

#[derive(Serialize)]
struct Failing {
    attempts: u32,
    reason: String,
}

impl AddressBody {
    pub(crate) fn of(view: AddressView) -> Self {
        Self {
            address: view.address.to_string(),
            namespace: view.address.function.namespace().to_owned(),
            name: view.address.function.name().to_owned(),
            id: view.address.id.to_string(),
            state: view.state.iter().map(State::of).collect(),
            backlog: Backlog {
                messages: view.backlog_messages,
                bytes: view.backlog_bytes,
            },
            in_flight: view.in_flight,
            suspended: view.suspended,
            failing: view
                .failing
                .map(|(attempts, reason)| Failing { attempts, reason }),
        }
    }
}

impl State {
    fn of(view: &StateView) -> Self {
        let (value, base64) = json_or_base64(&view.typename, &view.value);
        Self {
            name: view.name.to_string(),
            typename: view.typename.to_string(),
            value,
            base64,
            expires_at: view.expires_at_ms.map(rfc3339),
        }
    }
}

/// Timers that are pending.
#[derive(Serialize)]
pub(crate) struct Timers {
    timers: Vec<Timer>,
}

#[derive(Serialize)]
struct Timer {
    owner: String,
    due: String,
    target: String,
    typename: String,
    token: Option<String>,
}

impl Timers {
    pub(crate) fn of(views: Vec<TimerView>) -> Self {
        let timers = views
            .into_iter()
            .map(|view| Timer {
                owner: view.owner.to_string(),
                due: rfc3339(view.due_ms),
                target: view.target.to_string(),
                typename: view.typename,
                token: view.token.map(|token| token.to_string()),
            })
            .collect();
        Self { timers }
    }
}

/// A value as JSON where nothing is lost by it, else as base64: JSON text as it stands, a built-in type as what it means.
fn json_or_base64(typename: &str, bytes: &[u8]) -> (Option<Box<RawValue>>, Option<String>) {
    let json = if is_json(typename, bytes) {
        std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| RawValue::from_string(text.trim().to_owned()).ok())
    } else {
        match typename {
            bool::TYPENAME => built_in::<bool>(bytes),
            i32::TYPENAME => built_in::<i32>(bytes),
            i64::TYPENAME => built_in::<i64>(bytes),
            f32::TYPENAME => finite::<f32>(bytes, f32::is_finite),
            f64::TYPENAME => finite::<f64>(bytes, f64::is_finite),
            String::TYPENAME => built_in::<String>(bytes),
            _ => None,
        }
    };
    let base64 = json.is_none().then(|| STANDARD.encode(bytes));
    (json, base64)
}

/// The JSON of a built-in value, if encoding that value again gives the same bytes.
fn built_in<T: BuiltIn + Serialize>(bytes: &[u8]) -> Option<Box<RawValue>> {
    let value = T::from_wire(bytes).ok()?;
    if value.to_wire() != bytes {
        return None;
    }
    serde_json::value::to_raw_value(&value).ok()
}

/// The same for floating-point numbers, some of which JSON has no word for.
fn finite<T: BuiltIn + Serialize + Copy>(
    bytes: &[u8],
    is_finite: fn(T) -> bool,
) -> Option<Box<RawValue>> {
    T::from_wire(bytes)
        .is_ok_and(is_finite)
        .then(|| built_in::<T>(bytes))
        .flatten()
}

/// A time in ms since the epoch as RFC 3339 writes it, in UTC.
pub(crate) fn rfc3339(ms: u64) -> String {
    const DAY_MS: u64 = 86_400_000;
    let (year, month, day) = civil(ms / DAY_MS);
    let of_day = ms % DAY_MS;
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, milli) = (of_day / 1000 % 60, of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar.
///
/// Counts from 0000-03-01, so that a leap day is the last of its year, in eras of 400 years, after which the calendar repeats.
fn civil(days: u64) -> (u64, u64, u64) {
    const ERA_DAYS: u64 = 146_097;
    let days = days + 719_468;
    let (era, of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339() {
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_767_225_599_001, "2025-12-31T23:59:59.001Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(ms), expected);
        }
        assert!(rfc3339(u64::MAX).ends_with('Z'));
    }

    fn rendered(typename: &str, bytes: &[u8]) -> Result<String, String> {
        match json_or_base64(typename, bytes) {
            (Some(json), None) => Ok(json.get().to_owned()),
            (None, Some(base64)) => Err(base64),
            both => panic!("one of the two: {both:?}"),
        }
    }

    #[test]
    fn a_value_is_shown_as_json_where_nothing_is_lost_by_it() {
        assert_eq!(
            rendered("satchel/json", b" {\"a\" : 1}\n"),
            Ok("{\"a\" : 1}".to_owned())
        );
        assert_eq!(rendered("example/raw", b"\xff"), Err("/w==".to_owned()));
        assert_eq!(rendered("example/raw", b""), Err(String::new()));
        assert_eq!(
            rendered(i32::TYPENAME, &(-3_i32).to_wire()),
            Ok("-3".to_owned())
        );
        assert_eq!(rendered(i32::TYPENAME, b""), Ok("0".to_owned()));
        assert_eq!(
            rendered(i64::TYPENAME, &i64::MAX.to_wire()),
            Ok(i64::MAX.to_string())
        );
        assert_eq!(
            rendered(bool::TYPENAME, &true.to_wire()),
            Ok("true".to_owned())
        );
        assert_eq!(
            rendered(f64::TYPENAME, &0.1_f64.to_wire()),
            Ok("0.1".to_owned())
        );
        assert_eq!(
            rendered(f32::TYPENAME, &0.1_f32.to_wire()),
            Ok("0.1".to_owned())
        );
        assert!(rendered(f64::TYPENAME, &f64::NAN.to_wire()).is_err());
        assert_eq!(
            rendered(String::TYPENAME, &"a\"b".to_owned().to_wire()),
            Ok(r#""a\"b""#.to_owned())
        );
        assert!(
            rendered(i32::TYPENAME, b"\x0d\0\0\0\0").is_err(),
            "a zero is encoded as nothing"
        );
    }
}
