//! The administration port: health, metrics, dead letters, addresses, timers.

mod bulk;
mod mailbox;
mod messages;
mod pauses;
mod state_drops;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use satchel_engine::address::FunctionType;
use satchel_engine::input::{Administration, Input};
use satchel_engine::message::MessageId;
use satchel_engine::output::{Answer, Stoppages};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::body::BodyLimits;
use super::components::{self, FailingEndpoint, StoppedEgress};
use super::cost;
use super::error::{ApiError, json};
use super::graph;
use super::ingresses::StoppedIngress;
use super::partitions;
use super::render::{AddressBody, DeadLetters, Timers};
use super::savepoints::{self, Savepoints};
use super::shards;
use super::target::{PathParams, Target, query};
use super::token::Token;
use super::traces;
use super::traffic::{Wait, WaitQuery};
use super::value::read_value;
use crate::metrics::{self, Metrics};
use crate::readiness::Readiness;
use crate::requests::Requests;
use crate::sources::Sources;
use crate::stories::Stories;
use crate::streams::browsers;

use pauses::Stopped;
pub(super) use pauses::ingress_id;

/// Settings of the administration port.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Random name of the process, which tells processes apart.
    pub process: Arc<str>,
    /// Requests to the partition.
    pub requests: Requests,
    /// Readiness, which `/readyz` shows.
    pub readiness: watch::Receiver<Readiness>,
    /// State of the ingresses' sources, of which `/readyz` shows the stopped ones.
    pub sources: Sources,
    /// Functions and ingresses that stand still, which `/readyz` shows.
    pub stoppages: watch::Receiver<Stoppages>,
    /// Metrics, which `/metrics` shows.
    pub metrics: Metrics,
    /// Savepoints of the durable state.
    pub savepoints: Savepoints,
    /// Stories of messages, if they are kept.
    pub(crate) stories: Option<Stories>,
    /// Right to read lists, addresses and timers. Health and metrics need no right.
    pub reads: AdminAccess,
    /// Right to change something.
    pub writes: AdminAccess,
    /// Limits of bodies.
    pub limits: BodyLimits,
}

/// Right to use a part of the administration port.
#[derive(Debug, Clone)]
pub enum AdminAccess {
    /// Every client has the right.
    Allowed,
    /// Programs have the right. Web pages need this token.
    Programs(Token),
    /// Clients that send this token have the right, as `Authorization: Bearer …`.
    Token(Token),
    /// No client has the right.
    Denied,
}

/// Routes `/healthz`, `/readyz`, `/metrics` and `/api/…`.
///
/// A correction is answered with `200 {}` once it is durable. It waits for its turn among the
/// address's messages, for 30 s unless `?timeout=` sets another limit. Health and metrics are open
/// to every client; [`Admin::reads`] and [`Admin::writes`] decide about the rest.
pub fn routes(admin: Admin) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(show_metrics))
        .route("/api/dead-letters", get(list_dead_letters))
        .route("/api/dead-letters/retry", post(bulk::retry_many))
        .route("/api/dead-letters/drop", post(bulk::drop_many))
        .route("/api/dead-letters/{id}/retry", post(retry_dead_letter))
        .route(
            "/api/dead-letters/{id}",
            axum::routing::delete(drop_dead_letter),
        )
        .route("/api/addresses/{namespace}/{name}/{id}", get(inspect))
        .route(
            "/api/addresses/{namespace}/{name}/{id}/state/{state}",
            put(set_state).delete(delete_state),
        )
        .route(
            "/api/addresses/{namespace}/{name}/{id}/resume",
            post(resume),
        )
        .route("/api/addresses/{namespace}/{name}/{id}/skip", post(skip))
        .route(
            "/api/functions/{namespace}/{name}/states/{state}/drop",
            post(state_drops::drop_state),
        )
        .route("/api/timers", get(list_timers))
        .merge(components::routes())
        .merge(cost::routes())
        .merge(graph::routes())
        .merge(mailbox::routes())
        .merge(messages::routes())
        .merge(pauses::routes())
        .merge(savepoints::routes())
        .merge(partitions::routes())
        .merge(shards::routes())
        .merge(traces::routes())
        .with_state(Arc::new(admin))
}

pub(super) type Shared = State<Arc<Admin>>;

async fn healthz() -> Response {
    json_response(StatusCode::OK, &Health::Alive)
}

async fn readyz(State(admin): Shared) -> Response {
    let health = match *admin.readiness.borrow() {
        Readiness::Serving => return admin.serving(false, None),
        Readiness::Held => return admin.serving(true, None),
        Readiness::Loading { recovered } => return admin.serving(false, Some(recovered)),
        Readiness::Starting { recovered } => Health::Starting {
            recovered: hundredths(recovered),
        },
        Readiness::Standby => Health::Standby,
        Readiness::Stopping => Health::Stopping,
    };
    let response = json_response(StatusCode::SERVICE_UNAVAILABLE, &health);
    ([(RETRY_AFTER, "1")], response).into_response()
}

#[derive(Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum Health {
    Alive,
    Serving {
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        held: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        recovered: Option<f64>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        stopped_ingresses: Vec<StoppedIngress>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        stopped_egresses: Vec<StoppedEgress>,
        #[serde(flatten)]
        stopped: Stopped,
        /// Endpoints that are down. The process serves nevertheless, and their messages wait.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        unhealthy_endpoints: Vec<String>,
        /// Difference of partition time from the calendar, if it is worth a warning.
        #[serde(skip_serializing_if = "Option::is_none")]
        partition_time_ahead_seconds: Option<f64>,
        /// Jump of the calendar that is not followed.
        #[serde(skip_serializing_if = "Option::is_none")]
        clock_jump_seconds: Option<f64>,
    },
    Starting {
        recovered: f64,
    },
    Standby,
    Stopping,
}

/// Rounds a share down to hundredths, so that it shows 1 only when it is complete.
fn hundredths(share: f64) -> f64 {
    (share.clamp(0.0, 1.0) * 100.0).floor() / 100.0
}

/// Maximum time to wait for the gauges of the partition.
const GAUGES_TIME_MAX: Duration = Duration::from_secs(1);

async fn show_metrics(State(admin): Shared) -> Response {
    // The partition shows its gauges from time to time only, because that takes work.
    let gauges = admin
        .metrics
        .status()
        .observe(|partition| partition.gauges());
    if let Ok(gauges) = tokio::time::timeout(GAUGES_TIME_MAX, gauges).await
        && !gauges.is_empty()
    {
        let gauges = gauges.iter().map(|(_, gauges)| gauges);
        admin.metrics.observe_gauges(&metrics::total(gauges));
    }
    let headers = [(CONTENT_TYPE, metrics::CONTENT_TYPE)];
    (headers, admin.metrics.encode()).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeadLetterQuery {
    function: Option<String>,
    reason: Option<String>,
    since: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

async fn list_dead_letters(State(admin): Shared, request: Request) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    admin.allow_reading(&parts.headers)?;
    let query: DeadLetterQuery = query(&parts)?;
    let limit = page_limit(query.limit)?;
    let after = query.after.as_deref().map(dead_letter_id).transpose()?;
    let asked = Administration::ListDeadLetters {
        filter: bulk::filter(query.function, query.reason, query.since.as_deref())?,
        after,
        // One more than the page shows whether there is a next page.
        limit: limit + 1,
    };
    match admin.ask(asked).await? {
        Answer::DeadLetters(views) => Ok(json_response(
            StatusCode::OK,
            &DeadLetters::page(views, limit),
        )),
        other => Err(ApiError::of_answer(other)),
    }
}

async fn retry_dead_letter(
    State(admin): Shared,
    params: PathParams,
    request: Request,
) -> Result<Response, ApiError> {
    let id = dead_letter_id(params.get("id"))?;
    admin
        .correct(request, Administration::RetryDeadLetter(id))
        .await
}

async fn drop_dead_letter(
    State(admin): Shared,
    params: PathParams,
    request: Request,
) -> Result<Response, ApiError> {
    let id = dead_letter_id(params.get("id"))?;
    admin
        .correct(request, Administration::DropDeadLetter(id))
        .await
}

async fn inspect(
    State(admin): Shared,
    Target(address): Target,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    admin.allow_reading(&headers)?;
    match admin.ask(Administration::Inspect(address)).await? {
        Answer::Address(view) => {
            let status = admin.metrics.status();
            let endpoint = status.endpoint_of(&view.address.function);
            let endpoint = endpoint.and_then(FailingEndpoint::of);
            let body = AddressBody::of(*view, endpoint);
            Ok(json_response(StatusCode::OK, &body))
        }
        other => Err(ApiError::of_answer(other)),
    }
}

async fn set_state(
    State(admin): Shared,
    Target(address): Target,
    params: PathParams,
    request: Request,
) -> Result<Response, ApiError> {
    let state = Arc::from(params.get("state"));
    let (parts, body) = request.into_parts();
    let wait = admin.admit(&parts)?;
    let value = read_value(&parts, body, admin.limits).await?;
    let owned = address.clone();
    let asking = admin.requests.ask(&owned, |request| Input::Administered {
        request,
        administration: Administration::SetState {
            address,
            state,
            value: value.into(),
        },
    });
    applied(wait.until(asking).await?)
}

async fn delete_state(
    State(admin): Shared,
    Target(address): Target,
    params: PathParams,
    request: Request,
) -> Result<Response, ApiError> {
    let state = Arc::from(params.get("state"));
    admin
        .correct(request, Administration::DeleteState { address, state })
        .await
}

async fn resume(
    State(admin): Shared,
    Target(address): Target,
    request: Request,
) -> Result<Response, ApiError> {
    admin
        .correct(request, Administration::Resume(address))
        .await
}

async fn skip(
    State(admin): Shared,
    Target(address): Target,
    request: Request,
) -> Result<Response, ApiError> {
    admin.correct(request, Administration::Skip(address)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TimerQuery {
    function: Option<String>,
    limit: Option<usize>,
}

async fn list_timers(State(admin): Shared, request: Request) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    admin.allow_reading(&parts.headers)?;
    let query: TimerQuery = query(&parts)?;
    let asked = Administration::ListTimers {
        function: function_filter(query.function)?,
        limit: page_limit(query.limit)?,
    };
    match admin.ask(asked).await? {
        Answer::Timers(views) => Ok(json_response(StatusCode::OK, &Timers::of(views))),
        other => Err(ApiError::of_answer(other)),
    }
}

/// Default of `?timeout=`. A partition answers questions at once and corrections in their turn.
const WAIT_DEFAULT: Duration = Duration::from_secs(30);
/// Maximum of `?timeout=`.
const WAIT_MAX: Duration = Duration::from_secs(3600);

impl Admin {
    /// Answers that the process serves.
    fn serving(&self, held: bool, recovered: Option<f64>) -> Response {
        let status = self.metrics.status();
        let unhealthy = status.unhealthy_endpoints();
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let health = Health::Serving {
            held,
            recovered: recovered.map(hundredths),
            stopped_ingresses: StoppedIngress::list(&self.sources),
            stopped_egresses: StoppedEgress::list(status.egresses()),
            stopped: Stopped::of(&self.stoppages.borrow()),
            unhealthy_endpoints: unhealthy.iter().map(ToString::to_string).collect(),
            partition_time_ahead_seconds: status.time_ahead_ms().map(seconds),
            clock_jump_seconds: status.clock_jump_ms().map(seconds),
        };
        json_response(StatusCode::OK, &health)
    }

    /// Asks the partition.
    pub(super) async fn ask(&self, question: Administration) -> Result<Answer, ApiError> {
        let readiness = *self.readiness.borrow();
        ApiError::not_serving(readiness)?;
        Wait::of(WAIT_DEFAULT)
            .until(self.requests.administer(question))
            .await
    }

    /// Sends a correction, if the client has the right.
    async fn correct(
        &self,
        request: Request,
        correction: Administration,
    ) -> Result<Response, ApiError> {
        let (parts, _) = request.into_parts();
        let wait = self.admit(&parts)?;
        self.apply(wait, correction).await
    }

    /// Admits a write: checks the right, the readiness of the process, and the timeout.
    pub(super) fn admit(&self, parts: &Parts) -> Result<Wait, ApiError> {
        self.admit_for(parts, query(parts)?)
    }

    /// As [`Self::admit`], with a timeout read before.
    fn admit_for(&self, parts: &Parts, query: WaitQuery) -> Result<Wait, ApiError> {
        self.allow_writing(&parts.headers)?;
        Wait::parse(query, WAIT_DEFAULT, WAIT_MAX)
    }

    /// Checks the right to write, and the readiness of the process.
    pub(super) fn allow_writing(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        self.writes.authorize(headers, "changing something")?;
        let readiness = *self.readiness.borrow();
        ApiError::not_serving(readiness)
    }

    pub(super) async fn apply(
        &self,
        wait: Wait,
        correction: Administration,
    ) -> Result<Response, ApiError> {
        applied(wait.until(self.requests.administer(correction)).await?)
    }

    pub(super) fn allow_reading(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        self.reads
            .authorize(headers, "reading more than health and metrics")
    }
}

/// Rights of the clients of an administration port, checked before a request is forwarded to
/// another process.
#[cfg(feature = "aws")]
#[derive(Debug, Clone)]
pub(crate) struct AdminRights {
    /// Right to read.
    pub(crate) reads: AdminAccess,
    /// Right to change something.
    pub(crate) writes: AdminAccess,
}

#[cfg(feature = "aws")]
impl AdminRights {
    /// Rights of the processes of the application: the one that a client reached checks those of
    /// the client.
    pub(crate) const ALL: Self = Self {
        reads: AdminAccess::Allowed,
        writes: AdminAccess::Allowed,
    };

    /// Checks the right to this request.
    pub(crate) fn check(&self, parts: &Parts) -> Result<(), ApiError> {
        match parts.method.is_safe() {
            true => self
                .reads
                .authorize(&parts.headers, "reading more than health and metrics"),
            false => self.writes.authorize(&parts.headers, "changing something"),
        }
    }
}

impl AdminAccess {
    /// Checks the right of a request with these headers. `what` describes the request, for the
    /// error message.
    pub(super) fn authorize(&self, headers: &HeaderMap, what: &str) -> Result<(), ApiError> {
        match self {
            Self::Allowed => Ok(()),
            Self::Programs(_) if !browsers::is_from_web_page(headers) => Ok(()),
            Self::Programs(token) => {
                let what = format!("{what} from a web page");
                let checked = token.authorize(headers, &what);
                checked.map_err(|refusal| refusal.with_hint(PAGE_HINT))
            }
            Self::Denied => Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "not_allowed",
                format!(
                    "{what} over this port needs a token for administration, \
                     and this process has none (--admin-token-file)"
                ),
            )),
            Self::Token(token) => token.authorize(headers, what),
        }
    }
}

/// Origin of the token for web pages.
const PAGE_HINT: &str = "the link to the console that `satchel dev` printed has it";

/// Converts the answer to a correction.
fn applied(answer: Answer) -> Result<Response, ApiError> {
    match answer {
        Answer::Done | Answer::Accepted => Ok(json_response(StatusCode::OK, &Empty {})),
        other => Err(ApiError::of_answer(other)),
    }
}

#[derive(Serialize)]
struct Empty {}

/// Default and maximum number of entries in a list.
const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1000;

pub(super) fn page_limit(limit: Option<usize>) -> Result<usize, ApiError> {
    match limit.unwrap_or(PAGE_DEFAULT) {
        limit @ 1..=PAGE_MAX => Ok(limit),
        limit => Err(ApiError::bad_request(
            "invalid_query",
            format!("limit={limit} is invalid: it must be from 1 to {PAGE_MAX}"),
        )),
    }
}

pub(super) fn function_filter(function: Option<String>) -> Result<Option<Arc<str>>, ApiError> {
    let Some(function) = function else {
        return Ok(None);
    };
    match function.parse::<FunctionType>() {
        Ok(_) => Ok(Some(function.into())),
        Err(error) => Err(ApiError::bad_request("invalid_query", error.to_string())),
    }
}

fn dead_letter_id(text: &str) -> Result<MessageId, ApiError> {
    MessageId::parse(text).ok_or_else(|| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!(
                "there is no dead letter {text:?}: ids of dead letters are 32 hexadecimal digits"
            ),
        )
    })
}

pub(super) fn json_response(status: StatusCode, body: &impl Serialize) -> Response {
    let headers = [(CONTENT_TYPE, "application/json")];
    (status, headers, json(body)).into_response()
}
