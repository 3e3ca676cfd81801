//! The application as it was declared: module files, endpoints, settings, versions.
//! `GET /api/application`.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::http::admin::json_response;
use crate::http::error::ApiError;
use crate::http::target::query;

/// Declared parts of the application that a process runs, without secrets.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Declared {
    /// `dev` or `run`.
    pub command: &'static str,
    /// Module files.
    pub modules: Vec<DeclaredFile>,
    /// Endpoints, in the order of the files.
    pub endpoints: Vec<DeclaredEndpoint>,
    /// Flags of the command line, with their values and origins.
    pub settings: Vec<DeclaredSetting>,
}

/// A module file.
#[derive(Debug, Clone, Serialize)]
pub struct DeclaredFile {
    /// Path.
    pub file: String,
    /// Content, with hidden secrets and without comments.
    pub text: String,
}

/// An endpoint.
#[derive(Debug, Clone, Serialize)]
pub struct DeclaredEndpoint {
    /// Name, as in metrics.
    pub name: String,
    /// `lambda` or `http`.
    pub kind: &'static str,
    /// Version or alias of a Lambda function, if the file names one.
    pub version: Option<String>,
    /// Functions that it serves, `namespace/name` or `namespace/*`.
    pub functions: Vec<String>,
}

/// A flag of the command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeclaredSetting {
    /// Flag, such as `--retention`.
    pub flag: String,
    /// Value.
    pub value: String,
    /// Origin: `command line`, `environment` or `default`.
    pub origin: &'static str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoQuery {}

#[derive(Serialize)]
struct ApplicationBody<'a> {
    application: &'a str,
    version: &'static str,
    build: &'static str,
    #[serde(flatten)]
    declared: &'a Declared,
}

pub(super) async fn show(State(served): Shared, request: Request) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    served.may_read(&parts.headers)?;
    let NoQuery {} = query(&parts)?;
    let body = ApplicationBody {
        application: &served.console.application,
        version: env!("CARGO_PKG_VERSION"),
        build: env!("SATCHEL_BUILD"),
        declared: &served.console.declared,
    };
    Ok(json_response(StatusCode::OK, &body))
}
