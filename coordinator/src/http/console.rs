//! The console: a web page on the administration port, and what only it needs.
//!
//! ```text
//!  browser ── GET /, /console/… ──► files within the binary, for everybody who may read
//!          ── GET /api/process ───► this process, and the rights of the client
//!          ── GET /api/live ──────► a sample each second, as server-sent events
//!          ── GET /api/application, /api/history ──► what was declared, how far back moments reach
//!          ── GET …/states?at= ──► the past of an address, from the root
//!          ── everything else ────► the routes that the command line uses too
//! ```
//!
//! These routes are about the process that the client reached and are never forwarded. The page
//! sends the token with each request and is itself no secret, so a client that could show a token
//! gets it without one. A port that has none, and that other machines reach, serves no page.

mod application;
mod assets;
mod live;
mod past;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::sync::{Semaphore, watch};

pub use self::application::{Declared, DeclaredEndpoint, DeclaredFile, DeclaredSetting};

use self::assets::Asset;
use self::live::Live;
use super::admin::{AdminAccess, json_response};
use super::error::ApiError;
use crate::metrics::Metrics;
use crate::offline::Past;
use crate::readiness::Readiness;
use crate::requests::Requests;
use crate::streams::browsers;

/// Facts that the console shows of a process.
#[derive(Debug, Clone)]
pub struct Console {
    /// Name of the application.
    pub application: String,
    /// Declared parts of it.
    pub declared: Declared,
    /// Readiness of the process.
    pub readiness: watch::Receiver<Readiness>,
    /// Requests to the partitions.
    pub requests: Requests,
    /// Past states.
    pub(crate) past: Past,
    /// Metrics, of which a few are shown live.
    pub metrics: Metrics,
    /// Right to read.
    pub reads: AdminAccess,
    /// Right to change something.
    pub writes: AdminAccess,
}

struct Served {
    console: Console,
    live: Arc<Live>,
    started: Instant,
    /// Turn to read a moment.
    past_turn: Semaphore,
}

type Shared = State<Arc<Served>>;

/// The page runs only scripts and styles of this port, talks only to it, and is in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                      connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; \
                      base-uri 'none'; form-action 'none'";

/// Headers of everything that a browser may show.
const HEADERS: [(&str, &str); 6] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// Description of all routes of the administration port, in OpenAPI 3.1.
const DESCRIPTION: &str = include_str!("../../docs/openapi.json");

/// Routes of the console.
pub fn routes(console: Console) -> Router {
    let served = Served {
        live: Live::new(console.metrics.clone(), console.readiness.clone()),
        console,
        started: Instant::now(),
        past_turn: Semaphore::new(1),
    };
    Router::new()
        .route("/", get(show_file))
        .route("/console/{*file}", get(show_file))
        .route("/api/openapi.json", get(describe))
        .route("/api/application", get(application::show))
        .route("/api/history", get(past::show_reach))
        .route("/api/process", get(show_process))
        .route("/api/live", get(follow))
        .route(
            "/api/addresses/{namespace}/{name}/{id}/states",
            get(past::show),
        )
        .with_state(Arc::new(served))
}

async fn show_file(State(served): Shared, uri: Uri, headers: HeaderMap) -> Response {
    if let AdminAccess::Denied = served.console.reads {
        let refused = served.console.reads.authorize(&headers, "the console");
        return refused.into_response();
    }
    let Some(asset) = Asset::at(uri.path()) else {
        let message = format!("the console has no file {}", uri.path());
        return ApiError::new(StatusCode::NOT_FOUND, "no_such_path", message).into_response();
    };
    let zipped = accepts_gzip(&headers);
    let tag = asset.tag(zipped);
    let is_known = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .any(|known| known.to_str().is_ok_and(|known| known.contains(&*tag)));
    let mut response = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => asset.content(zipped).into_response(),
    };
    let shown = response.headers_mut();
    for (name, value) in HEADERS {
        shown.insert(name, HeaderValue::from_static(value));
    }
    shown.insert(CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    shown.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    shown.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        shown.insert(ETAG, tag);
    }
    if zipped && !is_known {
        shown.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// Returns true if the client accepts the coding gzip.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter();
    let mut codings = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    codings.any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts
            .next()
            .is_some_and(|it| it.eq_ignore_ascii_case("gzip"));
        let weight = parts.find_map(|it| it.strip_prefix("q="));
        is_gzip && weight.is_none_or(|weight| weight.parse().is_ok_and(|it: f32| it > 0.0))
    })
}

async fn describe(State(served): Shared, headers: HeaderMap) -> Result<Response, ApiError> {
    served.may_read(&headers)?;
    Ok(([(CONTENT_TYPE, "application/json")], DESCRIPTION).into_response())
}

/// The process that answers.
#[derive(Serialize)]
struct ProcessBody<'a> {
    application: &'a str,
    version: &'static str,
    build: &'static str,
    state: &'static str,
    uptime_seconds: u64,
    partitions: u32,
    /// True if other processes own some of the partitions.
    spread: bool,
    /// True if this request had the right to change something.
    may_change: bool,
    /// Condition of that right: `nothing`, `token`, `link` or `impossible`.
    changes_need: &'static str,
}

async fn show_process(State(served): Shared, request: Request) -> Result<Response, ApiError> {
    served.may_read(request.headers())?;
    let console = &served.console;
    let headers = request.headers();
    let changes_need = match console.writes {
        AdminAccess::Allowed => "nothing",
        AdminAccess::Programs(_) if browsers::is_from_web_page(headers) => "link",
        AdminAccess::Programs(_) => "nothing",
        AdminAccess::Token(_) => "token",
        AdminAccess::Denied => "impossible",
    };
    let body = ProcessBody {
        application: &console.application,
        version: env!("CARGO_PKG_VERSION"),
        build: env!("SATCHEL_BUILD"),
        state: console.readiness.borrow().name(),
        uptime_seconds: served.started.elapsed().as_secs(),
        partitions: console.requests.partitions(),
        spread: console.requests.is_spread(),
        may_change: console.writes.authorize(headers, "").is_ok(),
        changes_need,
    };
    Ok(json_response(StatusCode::OK, &body))
}

async fn follow(State(served): Shared, headers: HeaderMap) -> Result<Response, ApiError> {
    served.may_read(&headers)?;
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Arc::clone(&served.live).body()).into_response())
}

impl Served {
    fn may_read(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let reads = &self.console.reads;
        reads.authorize(headers, "reading more than health and metrics")
    }
}
