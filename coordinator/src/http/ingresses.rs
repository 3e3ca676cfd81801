//! Ingresses whose sources cannot be read, as `/readyz` shows them; and the resumption of
//! ingresses, paused ones and stopped ones.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use satchel_engine::input::Administration;
use serde::Serialize;

use super::admin::{Shared, ingress_id, json_response};
use super::error::ApiError;
use super::target::PathParams;
use crate::module::format_rfc3339;
use crate::sources::Sources;

/// Stopped source of an ingress, as `/readyz` shows it to every client. The full reason is in the
/// log, because it may name accounts and roles.
#[derive(Serialize)]
pub(super) struct StoppedIngress {
    id: String,
    source: String,
    problem: &'static str,
    since: String,
}

impl StoppedIngress {
    /// Lists the stopped sources of one ingress.
    pub(super) fn of(sources: &Sources, ingress: &str) -> Vec<Self> {
        let mut stopped = Self::list(sources);
        stopped.retain(|source| source.id == ingress);
        stopped
    }

    /// Lists the stopped sources.
    pub(super) fn list(sources: &Sources) -> Vec<Self> {
        let stopped = sources.stopped().into_iter();
        let shown = stopped.map(|source| Self {
            id: source.id.ingress.to_string(),
            source: source.id.name.to_string(),
            problem: source.stopped.problem.as_str(),
            since: format_rfc3339(source.since_ms),
        });
        shown.collect()
    }
}

/// Number of sources that are tried again.
#[derive(Serialize)]
struct Resumed {
    resumed: usize,
}

/// Resumes an ingress: ends a pause, and lets its stopped sources be tried again.
pub(super) async fn resume(
    State(admin): Shared,
    params: PathParams,
    request: Request,
) -> Result<Response, ApiError> {
    let ingress = ingress_id(&params)?;
    let (parts, _) = request.into_parts();
    let wait = admin.admit(&parts)?;
    let status = admin.metrics.status();
    let is_named = status.ingresses().iter().any(|it| it.id == *ingress);
    let resumed = admin.sources.resume(&ingress);
    // Another process may read it.
    let resumed = resumed.or((is_named && admin.requests.is_spread()).then_some(0));
    let Some(resumed) = resumed else {
        return Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("this application has no ingress {ingress:?}"),
        ));
    };
    let unpaused = Administration::ResumeIngress(ingress);
    match admin.apply(wait, unpaused).await {
        Ok(_) => {}
        // It was not paused.
        Err(error) if error.status() == StatusCode::NOT_FOUND => {}
        Err(error) => return Err(error),
    }
    Ok(json_response(StatusCode::OK, &Resumed { resumed }))
}
