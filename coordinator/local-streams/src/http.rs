//! Local streams over HTTP.
//!
//! | Request | Response |
//! |---|---|
//! | `POST /streams/{name}`, header `satchel-key`, body: the data | 200 `{"sequence_number":"…"}` |
//! | `GET /streams/{name}?from=earliest&follow=false` | 200 and NDJSON, one line per record |
//!
//! A `POST` is answered when the record is durable.
//!
//! A line is `{"sequence_number","key","time","data"}`. `base64` replaces `data` where the bytes
//! are not UTF-8. `time` is in milliseconds since the Unix epoch.
//!
//! `from` is `earliest` (the default), `latest`, or a sequence number. With a number, the first
//! record is the one with this number, as with Kinesis' `AT_SEQUENCE_NUMBER`. With `follow=true`
//! the response continues with every new record until the client disconnects or the server stops.
//! Errors are `{"error":{"code","message"}}`.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::LengthLimitError;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{DATA_MAX_BYTES, NewRecord, ReadFrom, Reader, Record, StreamError, Streams};

/// Name of the header that carries a record's key, as UTF-8.
pub const KEY_HEADER: &str = "satchel-key";

/// Maximum time for a client to send a record.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);
/// Maximum number of records read at once.
const CHUNK_RECORDS: usize = 1_000;
/// Maximum number of bytes read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Routes of local streams. Responses that follow a stream end when `stopping` becomes true or its
/// sender is dropped.
pub fn router(streams: Streams, stopping: watch::Receiver<bool>) -> Router {
    Router::new()
        .route("/streams/{name}", post(put).get(get))
        .with_state(Service { streams, stopping })
}

#[derive(Clone)]
struct Service {
    streams: Streams,
    stopping: watch::Receiver<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reading {
    from: Option<String>,
    follow: Option<bool>,
}

#[derive(Serialize)]
struct Put {
    sequence_number: String,
}

#[derive(Serialize)]
struct Line<'r> {
    sequence_number: String,
    key: &'r str,
    time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

async fn put(
    State(service): State<Service>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let key = record_key(request.headers())?;
    let stream = service.streams.stream(&name).await?;
    let body = to_bytes(request.into_body(), DATA_MAX_BYTES);
    let data = tokio::time::timeout(BODY_TIME_MAX, body).await;
    let data = data.map_err(|_| Refusal {
        status: StatusCode::REQUEST_TIMEOUT,
        code: "too_slow",
        message: format!(
            "the record did not arrive within {} s; send it again",
            BODY_TIME_MAX.as_secs()
        ),
    })?;
    let data = data.map_err(|error| too_large_or_broken(&error))?;
    let record = NewRecord {
        key,
        explicit_hash_key: None,
        data,
        time_ms: crate::now_ms(),
    };
    let put = Put {
        sequence_number: stream.append(record).await?.to_string(),
    };
    Ok(json(StatusCode::OK, &put))
}

async fn get(
    State(service): State<Service>,
    Path(name): Path<String>,
    reading: Result<Query<Reading>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(reading) = reading.map_err(|error| Refusal::invalid(error.body_text()))?;
    let from = read_from(reading.from.as_deref().unwrap_or("earliest"))?;
    let stream = service.streams.stream(&name).await?;
    let follow = Follow {
        reader: stream.read(from).await?,
        stopping: reading.follow.unwrap_or(false).then_some(service.stopping),
    };
    let chunks = futures::stream::try_unfold(follow, async |mut follow| {
        let records = follow.next().await?;
        if records.is_empty() {
            return Ok(None);
        }
        Ok::<_, StreamError>(Some((lines(&records), follow)))
    });
    let content_type = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((content_type, Body::from_stream(chunks)).into_response())
}

struct Follow {
    reader: Reader,
    /// None if the response ends with the last existing record.
    stopping: Option<watch::Receiver<bool>>,
}

impl Follow {
    async fn next(&mut self) -> Result<Vec<Record>, StreamError> {
        let Some(stopping) = &mut self.stopping else {
            return self.reader.next(CHUNK_RECORDS, CHUNK_BYTES).await;
        };
        tokio::select! {
            records = self.reader.follow(CHUNK_RECORDS, CHUNK_BYTES) => records,
            // The sender is dropped, or the value is true: the server stops in both cases.
            _ = stopping.wait_for(|stopping| *stopping) => Ok(Vec::new()),
        }
    }
}

fn too_large_or_broken(error: &axum::Error) -> Refusal {
    let source = std::error::Error::source(error);
    if source.is_some_and(|source| source.is::<LengthLimitError>()) {
        return Refusal {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            code: "too_large",
            message: format!("a record's data has at most {DATA_MAX_BYTES} bytes"),
        };
    }
    Refusal::invalid(format!("the body cannot be read: {error}"))
}

fn record_key(headers: &HeaderMap) -> Result<String, Refusal> {
    let Some(key) = headers.get(KEY_HEADER) else {
        return Err(Refusal::invalid(format!(
            "the header `{KEY_HEADER}` is missing; it carries the record's key"
        )));
    };
    let key = std::str::from_utf8(key.as_bytes());
    let key =
        key.map_err(|_| Refusal::invalid(format!("the header `{KEY_HEADER}` is not UTF-8")))?;
    Ok(key.to_owned())
}

fn read_from(text: &str) -> Result<ReadFrom, Refusal> {
    match text {
        "earliest" => Ok(ReadFrom::Earliest),
        "latest" => Ok(ReadFrom::Latest),
        text => text.parse().map(ReadFrom::At).map_err(|_| {
            Refusal::invalid(format!(
                "from: `{text}` is neither `earliest` nor `latest` nor a sequence number"
            ))
        }),
    }
}

fn lines(records: &[Record]) -> Bytes {
    let mut out = Vec::new();
    for record in records {
        let text = std::str::from_utf8(&record.data).ok();
        let line = Line {
            sequence_number: record.sequence_number.to_string(),
            key: &record.key,
            time: record.time_ms,
            data: text,
            base64: text.is_none().then(|| STANDARD.encode(&record.data)),
        };
        serde_json::to_writer(&mut out, &line)
            .expect("writing texts and numbers to memory cannot fail");
        out.push(b'\n');
    }
    out.into()
}

/// A request that is answered with an error.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    fn invalid(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code: "invalid_request",
            message: message.into(),
        }
    }
}

impl From<StreamError> for Refusal {
    fn from(error: StreamError) -> Self {
        let (status, code) = match &error {
            StreamError::InvalidName(_) | StreamError::InvalidRecord(_) => {
                (StatusCode::BAD_REQUEST, "invalid_request")
            }
            StreamError::UnknownPosition { .. } => {
                (StatusCode::BAD_REQUEST, "unknown_sequence_number")
            }
            StreamError::Expired { .. } => (StatusCode::GONE, "expired"),
            StreamError::Missing(_) => (StatusCode::NOT_FOUND, "not_found"),
            StreamError::UnknownShard(_)
            | StreamError::InvalidChange(_)
            | StreamError::InUse(_)
            | StreamError::TooMany(_)
            | StreamError::Exists(_) => (StatusCode::CONFLICT, "refused"),
            StreamError::Damaged { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "damaged"),
            StreamError::Io { .. }
            | StreamError::Unsure { .. }
            | StreamError::OutOfOrder { .. }
            | StreamError::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        };
        Self {
            status,
            code,
            message: error.to_string(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let error = serde_json::json!({"error": {"code": self.code, "message": self.message}});
        json(self.status, &error)
    }
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("writing texts to memory cannot fail");
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    (status, content_type, body).into_response()
}
