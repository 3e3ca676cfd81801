//! Answers of the administration port as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use satchel_engine::output::{AddressView, DeadLetterView, StateView, TimerView};
use satchel_protocol::types::BuiltIn;
use serde::Serialize;
use serde_json::value::RawValue;

use super::components::FailingEndpoint;
use super::value::is_json;
use crate::module::format_rfc3339;

/// Maximum size, in bytes, of the messages and reasons on a page of dead letters, unless the first
/// letter alone is larger. A thousand letters of the maximum size would be gigabytes.
const PAGE_BYTES_MAX: usize = 8 << 20;

/// Page of dead letters, with the id after which the next page begins.
#[derive(Serialize)]
pub(crate) struct DeadLetters {
    dead_letters: Vec<DeadLetter>,
    next: Option<String>,
}

impl DeadLetters {
    /// Creates a page of at most `limit` letters and [`PAGE_BYTES_MAX`] bytes. `views` has one
    /// letter more if there is a next page.
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

/// Returns the number of letters that fit on a page by size. It is at least one, so that the list
/// advances.
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
    /// `namespace/name/id`; null for a record without a target address.
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
            failed_at: format_rfc3339(view.failed_at_ms),
        }
    }
}

/// Address with its state, backlog and suspension.
#[derive(Serialize)]
pub(crate) struct AddressBody {
    /// `namespace/name/id`, as in dead letters and timers. The separate parts follow, because each
    /// may contain a `/`.
    address: String,
    namespace: String,
    name: String,
    id: String,
    state: Vec<StateBody>,
    backlog: Backlog,
    in_flight: bool,
    suspended: Option<String>,
    function_stopped: Option<String>,
    failing: Option<Failing>,
    /// Endpoint that its messages wait for, if requests to it fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<FailingEndpoint>,
}

/// A state with its value.
#[derive(Serialize)]
pub(super) struct StateBody {
    name: String,
    typename: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    expires_at: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Backlog {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

#[derive(Serialize)]
pub(super) struct Failing {
    pub(super) attempts: u32,
    pub(super) reason: String,
}

impl AddressBody {
    /// `endpoint` is the one that serves the function, if its last request failed.
    pub(super) fn of(view: AddressView, endpoint: Option<FailingEndpoint>) -> Self {
        let waits = view.backlog_messages > 0;
        Self {
            address: view.address.to_string(),
            namespace: view.address.function.namespace().to_owned(),
            name: view.address.function.name().to_owned(),
            id: view.address.id.to_string(),
            state: view.state.iter().map(StateBody::of).collect(),
            backlog: Backlog {
                messages: view.backlog_messages,
                bytes: view.backlog_bytes,
            },
            in_flight: view.in_flight,
            suspended: view.suspended,
            function_stopped: view.function_stopped,
            failing: view
                .failing
                .map(|(attempts, reason)| Failing { attempts, reason }),
            endpoint: endpoint.filter(|_| waits),
        }
    }
}

impl StateBody {
    pub(super) fn of(view: &StateView) -> Self {
        let (value, base64) = json_or_base64(&view.typename, &view.value);
        Self {
            name: view.name.to_string(),
            typename: view.typename.to_string(),
            value,
            base64,
            expires_at: view.expires_at_ms.map(format_rfc3339),
        }
    }
}

/// Pending timers.
#[derive(Serialize)]
pub(crate) struct Timers {
    timers: Vec<Timer>,
}

#[derive(Serialize)]
pub(super) struct Timer {
    owner: String,
    due: String,
    target: String,
    typename: String,
    token: Option<String>,
}

impl Timers {
    pub(crate) fn of(views: Vec<TimerView>) -> Self {
        Self {
            timers: views.into_iter().map(Timer::of).collect(),
        }
    }
}

impl Timer {
    pub(super) fn of(view: TimerView) -> Self {
        Self {
            owner: view.owner.to_string(),
            due: format_rfc3339(view.due_ms),
            target: view.target.to_string(),
            typename: view.typename,
            token: view.token.map(|token| token.to_string()),
        }
    }
}

/// Converts a value to JSON if that is lossless, else to base64. JSON text stays as it is; a
/// built-in type becomes its JSON value.
pub(super) fn json_or_base64(
    typename: &str,
    bytes: &[u8],
) -> (Option<Box<RawValue>>, Option<String>) {
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

/// Converts a built-in value to JSON, if encoding it again yields the same bytes.
fn built_in<T: BuiltIn + Serialize>(bytes: &[u8]) -> Option<Box<RawValue>> {
    let value = T::from_wire(bytes).ok()?;
    if value.to_wire() != bytes {
        return None;
    }
    serde_json::value::to_raw_value(&value).ok()
}

/// Converts a floating-point number to JSON, which cannot represent all of them.
fn finite<T: BuiltIn + Serialize + Copy>(
    bytes: &[u8],
    is_finite: fn(T) -> bool,
) -> Option<Box<RawValue>> {
    T::from_wire(bytes)
        .is_ok_and(is_finite)
        .then(|| built_in::<T>(bytes))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

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
