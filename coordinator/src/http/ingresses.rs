//! Ingresses whose sources cannot be read: what `/readyz` shows of them, and trying them again.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::admin::{Shared, json_response};
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

/// Lets the stopped sources of an ingress be tried again.
pub(super) async fn resume(
    State(admin): Shared,
    params: PathParams,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    admin.admit(&parts)?;
    let ingress = format!("{}/{}", params.get("namespace"), params.get("name"));
    match admin.sources.resume(&ingress) {
        Some(resumed) => Ok(json_response(StatusCode::OK, &Resumed { resumed })),
        None => Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("this application has no ingress {ingress:?}"),
        )),
    }
}
