//! Pauses by a person: `POST /api/{ingresses,functions}/{namespace}/{name}/{pause,resume}`; and
//! functions and ingresses that stand still, as `/readyz` shows them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use satchel_engine::address::FunctionType;
use satchel_engine::input::Administration;
use satchel_engine::output::{Stoppage, Stoppages};
use serde::{Deserialize, Serialize};

use super::{Admin, Shared};
use crate::http::error::ApiError;
use crate::http::ingresses;
use crate::http::target::{PathParams, query};
use crate::http::traffic::WaitQuery;
use crate::module::format_rfc3339;

/// Maximum length of the reason of a pause, in bytes.
const REASON_BYTES_MAX: usize = 1_000;

/// Routes that pause and resume.
pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route(
            "/api/ingresses/{namespace}/{name}/pause",
            post(pause_ingress),
        )
        .route(
            "/api/ingresses/{namespace}/{name}/resume",
            post(ingresses::resume),
        )
        .route(
            "/api/functions/{namespace}/{name}/pause",
            post(pause_function),
        )
        .route(
            "/api/functions/{namespace}/{name}/resume",
            post(resume_function),
        )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PauseQuery {
    reason: Option<String>,
    timeout: Option<String>,
}

async fn pause_ingress(
    State(admin): Shared,
    params: PathParams,
    request: Request,
) -> Result<Response, ApiError> {
    let ingress = ingress_id(&params)?;
    let (parts, _) = request.into_parts();
    let (reason, wait) = read_query(query(&parts)?)?;
    let wait = admin.admit_for(&parts, wait)?;
    let pause = Administration::PauseIngress { ingress, reason };
    admin.apply(wait, pause).await
}

async fn pause_function(
    State(admin): Shared,
    params: PathParams,
    request: Request,
) -> Result<Response, ApiError> {
    let function = function_type(&params)?;
    let (parts, _) = request.into_parts();
    let (reason, wait) = read_query(query(&parts)?)?;
    let wait = admin.admit_for(&parts, wait)?;
    let pause = Administration::PauseFunction { function, reason };
    admin.apply(wait, pause).await
}

async fn resume_function(
    State(admin): Shared,
    params: PathParams,
    request: Request,
) -> Result<Response, ApiError> {
    let function = function_type(&params)?;
    admin
        .correct(request, Administration::ResumeFunction(function))
        .await
}

fn read_query(query: PauseQuery) -> Result<(Arc<str>, WaitQuery), ApiError> {
    let reason = query.reason.unwrap_or_default();
    if reason.len() > REASON_BYTES_MAX {
        return Err(ApiError::bad_request(
            "invalid_query",
            format!(
                "the reason has {} bytes; it may have {REASON_BYTES_MAX}",
                reason.len()
            ),
        ));
    }
    let wait = WaitQuery {
        timeout: query.timeout,
    };
    Ok((reason.into(), wait))
}

pub(in crate::http) fn ingress_id(params: &PathParams) -> Result<Arc<str>, ApiError> {
    let [namespace, name] = named(params, "an ingress")?;
    Ok(format!("{namespace}/{name}").into())
}

pub(super) fn function_type(params: &PathParams) -> Result<FunctionType, ApiError> {
    let [namespace, name] = named(params, "a function")?;
    Ok(FunctionType::new(namespace, name))
}

fn named<'a>(params: &'a PathParams, what: &str) -> Result<[&'a str; 2], ApiError> {
    let parts = ["namespace", "name"].map(|part| params.get(part));
    if parts.iter().any(|part| part.is_empty()) || parts[1].contains('/') {
        return Err(ApiError::bad_request(
            "invalid_path",
            format!("the path does not name {what}, which is namespace/name"),
        ));
    }
    Ok(parts)
}

/// Functions and ingresses that stand still. Empty lists are left out.
#[derive(Serialize, Default)]
pub(super) struct Stopped {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    suspended_functions: Vec<StoppedFunction>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paused_functions: Vec<StoppedFunction>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paused_ingresses: Vec<StoppedIngress>,
}

#[derive(Serialize)]
struct StoppedFunction {
    function: String,
    reason: String,
    since: String,
}

#[derive(Serialize)]
struct StoppedIngress {
    ingress: String,
    reason: String,
    since: String,
}

impl Stopped {
    pub(super) fn of(stoppages: &Stoppages) -> Self {
        let functions = |list: &[Stoppage]| list.iter().map(StoppedFunction::of).collect();
        let ingresses = stoppages.paused_ingresses.iter();
        Self {
            suspended_functions: functions(&stoppages.suspended_functions),
            paused_functions: functions(&stoppages.paused_functions),
            paused_ingresses: ingresses.map(StoppedIngress::of).collect(),
        }
    }
}

impl StoppedFunction {
    fn of(stoppage: &Stoppage) -> Self {
        Self {
            function: stoppage.name.clone(),
            reason: stoppage.reason.clone(),
            since: format_rfc3339(stoppage.since_ms),
        }
    }
}

impl StoppedIngress {
    fn of(stoppage: &Stoppage) -> Self {
        Self {
            ingress: stoppage.name.clone(),
            reason: stoppage.reason.clone(),
            since: format_rfc3339(stoppage.since_ms),
        }
    }
}
