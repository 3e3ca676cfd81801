//! The traffic port: calls and sends.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use satchel_engine::address::{IdTooLong, RESERVED_NAMESPACE};
use satchel_engine::hex::Hex;
use satchel_engine::input::{CallId, Verb};
use satchel_engine::output::Answer;
use satchel_engine::trace::TraceParent;
use serde::Deserialize;
use tokio::sync::watch;

use super::body::BodyLimits;
use super::error::ApiError;
use super::target::{Target, query};
use super::value::{SentValue, invalid_header, read_value, single_header, value_response};
use crate::module::parse_duration;
use crate::readiness::Readiness;
use crate::requests::Requests;

/// Settings of the traffic port.
#[derive(Debug, Clone)]
pub struct Traffic {
    /// Requests to the partition.
    pub requests: Requests,
    /// Readiness. Until the process serves, requests are answered with 503 and `Retry-After`.
    pub readiness: watch::Receiver<Readiness>,
    /// Limits of requests.
    pub limits: TrafficLimits,
}

/// Limits of the traffic port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrafficLimits {
    /// Limits of bodies.
    pub body: BodyLimits,
    /// Default of `?timeout=`.
    pub timeout_default: Duration,
    /// Maximum of `?timeout=`.
    pub timeout_max: Duration,
}

impl Default for TrafficLimits {
    /// Timeouts of 30 s by default and an hour at most.
    fn default() -> Self {
        Self {
            body: BodyLimits::default(),
            timeout_default: Duration::from_secs(30),
            timeout_max: Duration::from_secs(3600),
        }
    }
}

/// Routes `POST /call/{namespace}/{name}/{id}` and `POST /send/{namespace}/{name}/{id}`.
///
/// | | |
/// |---|---|
/// | 200 | the function's reply to the call, durable |
/// | 202 | the sent message is durable |
/// | 400 | path, query, header or body is invalid, or the function cannot decode the message |
/// | 404 | no endpoint serves the function |
/// | 4xx, 500 | the function rejected the message of the call; the body has code `rejected` |
/// | 408, 413 | the body is too slow or too large; the id is too long |
/// | 422 | the `Idempotency-Key` was used with another body |
/// | 500 | the message became a dead letter; the body has the reason |
/// | 503 | starting, standby, stopping, or over a limit, which the text names; with `Retry-After` |
/// | 504 | no answer within `?timeout=` (default 30 s); the message may still be processed |
pub fn routes(traffic: Traffic) -> Router {
    Router::new()
        .route("/call/{namespace}/{name}/{id}", post(call))
        .route("/send/{namespace}/{name}/{id}", post(send))
        .with_state(Arc::new(traffic))
}

type Shared = State<Arc<Traffic>>;

async fn call(
    State(traffic): Shared,
    target: Target,
    request: Request,
) -> Result<Response, ApiError> {
    answered_call(ask(&traffic, Verb::Call, target, request, read_value).await)
}

async fn send(
    State(traffic): Shared,
    target: Target,
    request: Request,
) -> Result<Response, ApiError> {
    answered_send(ask(&traffic, Verb::Send, target, request, read_value).await)
}

/// Header of an answer with the id of the request, by which `satchel trace` finds it.
pub(crate) const REQUEST_ID_HEADER: &str = "satchel-request-id";

/// Makes the response to a call.
///
/// # Errors
///
/// Those of `asked`.
pub(super) fn answered_call(asked: Result<Asked, ApiError>) -> Result<Response, ApiError> {
    let respond = |answer| match answer {
        Answer::Replied(value) => Ok(value_response(value)),
        other => Err(ApiError::of_answer(other)),
    };
    Ok(asked?.respond(respond))
}

/// Makes the response to a send.
///
/// # Errors
///
/// Those of `asked`.
pub(super) fn answered_send(asked: Result<Asked, ApiError>) -> Result<Response, ApiError> {
    let respond = |answer| match answer {
        Answer::Accepted => Ok(StatusCode::ACCEPTED.into_response()),
        other => Err(ApiError::of_answer(other)),
    };
    Ok(asked?.respond(respond))
}

/// Request that the partition was asked, with its answer or the end of the wait for it.
pub(super) struct Asked {
    id: CallId,
    answer: Result<Answer, ApiError>,
}

impl Asked {
    /// The answer.
    ///
    /// # Errors
    ///
    /// 504 if there was none in time.
    pub(super) fn into_answer(self) -> Result<Answer, ApiError> {
        self.answer
    }

    /// Makes the response of the answer, which names the request.
    fn respond(self, of_answer: impl FnOnce(Answer) -> Result<Response, ApiError>) -> Response {
        let response = self.answer.and_then(of_answer);
        let mut response = response.unwrap_or_else(IntoResponse::into_response);
        let id = Hex(&self.id.0).to_string();
        if let Ok(id) = HeaderValue::try_from(id) {
            response.headers_mut().insert(REQUEST_ID_HEADER, id);
        }
        response
    }
}

/// Asks the partition to call or send to the target. `read` reads the argument from the body.
///
/// # Errors
///
/// All that precedes the question.
pub(super) async fn ask(
    traffic: &Traffic,
    verb: Verb,
    Target(target): Target,
    request: Request,
    read: impl AsyncFnOnce(&Parts, Body, BodyLimits) -> Result<SentValue, ApiError>,
) -> Result<Asked, ApiError> {
    let readiness = *traffic.readiness.borrow();
    ApiError::not_serving(readiness)?;
    let (parts, body) = request.into_parts();
    let limits = traffic.limits;
    let wait = Wait::parse(query(&parts)?, limits.timeout_default, limits.timeout_max)?;
    let key = idempotency_key(&parts.headers)?;
    if target.function.namespace() == RESERVED_NAMESPACE {
        return Err(ApiError::unknown_function(&target.function.to_string()));
    }
    let too_long = |error: IdTooLong| {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "id_too_long",
            error.to_string(),
        )
    };
    target.check_id().map_err(too_long)?;
    let argument = read(&parts, body, limits.body).await?;
    let id = Requests::new_id();
    let context = (key, trace(&parts.headers));
    let asking = traffic.requests.call((id, verb), target, argument, context);
    let answer = wait.until(asking).await;
    Ok(Asked { id, answer })
}

/// Timeout of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait(Duration);

/// Query of requests with a timeout.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaitQuery {
    pub(crate) timeout: Option<String>,
}

impl Wait {
    /// Returns the timeout of `query`, or `default`.
    ///
    /// # Errors
    ///
    /// 400 if it is not a duration, zero, or longer than `max`.
    pub(crate) fn parse(
        query: WaitQuery,
        default: Duration,
        max: Duration,
    ) -> Result<Self, ApiError> {
        let Some(text) = query.timeout else {
            return Ok(Self(default));
        };
        let unusable = |why: &str| {
            ApiError::bad_request("invalid_timeout", format!("the timeout is invalid: {why}"))
        };
        let timeout = parse_duration(&text).map_err(|why| unusable(&why))?;
        if timeout.is_zero() || timeout > max {
            let max_s = max.as_secs();
            return Err(unusable(&format!(
                "`{text}` must be more than 0 and at most {max_s}s"
            )));
        }
        Ok(Self(timeout))
    }

    /// Returns a timeout of this duration.
    pub(crate) fn of(timeout: Duration) -> Self {
        Self(timeout)
    }

    /// The timeout.
    pub(crate) fn duration(self) -> Duration {
        self.0
    }

    /// Returns the result of `asking`, or 504 after the timeout.
    pub(crate) async fn until<T>(self, asking: impl Future<Output = T>) -> Result<T, ApiError> {
        tokio::time::timeout(self.0, asking).await.map_err(|_| {
            ApiError::new(
                StatusCode::GATEWAY_TIMEOUT,
                "timeout",
                format!(
                    "no answer within {:?}; the request may still take effect: \
                     repeat it with the same Idempotency-Key to get its answer",
                    self.0
                ),
            )
        })
    }
}

/// Maximum length of an `Idempotency-Key` in characters.
const KEY_CHARACTERS_MAX: usize = 255;

fn idempotency_key(headers: &HeaderMap) -> Result<Option<Arc<str>>, ApiError> {
    const NAME: &str = "idempotency-key";
    let Some(key) = single_header(headers, NAME)? else {
        return Ok(None);
    };
    let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
    if key.is_empty() || key.len() > KEY_CHARACTERS_MAX || !visible {
        return Err(invalid_header(
            NAME,
            &format_args!(
                "it must have 1 to {KEY_CHARACTERS_MAX} visible ASCII characters without blanks"
            ),
        ));
    }
    Ok(Some(key.into()))
}

/// Returns the trace context of a request. As the W3C's Trace Context demands, an invalid or
/// repeated header is ignored, and never an error.
fn trace(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all("traceparent").iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    TraceParent::parse(value.to_str().ok()?.trim())
}
