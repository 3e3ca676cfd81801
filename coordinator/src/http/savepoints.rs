//! Savepoints: `GET`, `POST` and `DELETE /api/savepoints`.
//!
//! A savepoint of several partitions takes as long as reading all state. So it is made in the
//! background, one at a time, and the list shows what is being made and why the last one failed.
//! The client that asked waits for the end, but need not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{delete, get};
use satchel_log::{Application, Savepoint, SavepointName};
use serde::{Deserialize, Serialize};

use super::admin::{Admin, Shared, json_response};
use super::error::ApiError;
use super::target::{PathParams, query};
use super::traffic::{Wait, WaitQuery};
use crate::clock::now_ms;
use crate::error::{Exit, Failure};
use crate::module::format_rfc3339;
use crate::offline::savepoint::{self, SavepointRoot};
use crate::offline::{Past, PastProblem};

/// Maximum length of a comment, in bytes.
const COMMENT_BYTES_MAX: usize = 1_000;

/// Default of `?timeout=`.
const WAIT_DEFAULT: Duration = Duration::from_secs(30);
/// Maximum of `?timeout=`.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// Maximum time of a list.
const LIST_TIME_MAX: Duration = Duration::from_secs(30);

/// Savepoints of the root that this process has opened. Clones share the work in progress.
#[derive(Debug, Clone)]
pub struct Savepoints {
    past: Past,
    work: Arc<Mutex<Work>>,
}

#[derive(Debug, Default)]
struct Work {
    /// Savepoint that is being made, and the beginning, in ms since the epoch.
    creating: Option<(SavepointName, u64)>,
    /// Savepoint that could not be made last, the time in ms since the epoch, and the reason.
    failed: Option<(SavepointName, u64, String)>,
}

/// Routes of savepoints.
pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/api/savepoints", get(list).post(create))
        .route("/api/savepoints/{savepoint}", delete(remove))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoQuery {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewQuery {
    name: String,
    comment: Option<String>,
    timeout: Option<String>,
}

/// Savepoints by name, and the work in progress.
#[derive(Serialize)]
struct ListBody {
    savepoints: Vec<SavepointBody>,
    creating: Option<CreatingBody>,
    failed: Option<FailedBody>,
}

/// A savepoint, of all partitions that have it.
#[derive(Serialize)]
struct SavepointBody {
    savepoint: String,
    /// Time of the last commit that it holds.
    committed_at: String,
    created_at: String,
    comment: String,
    partitions: Vec<u32>,
    /// False if some partitions lack it, because its creator died. It can only be deleted.
    complete: bool,
}

#[derive(Serialize)]
struct CreatingBody {
    savepoint: String,
    since: String,
}

#[derive(Serialize)]
struct FailedBody {
    savepoint: String,
    at: String,
    reason: String,
}

#[derive(Serialize)]
struct Done {}

async fn list(State(admin): Shared, request: Request) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    admin.allow_reading(&parts.headers)?;
    let NoQuery {} = query(&parts)?;
    let savepoints = &admin.savepoints;
    let (root, application) = savepoints.open().await?;
    let listing = savepoint::list(&root, &application);
    let found = Wait::of(LIST_TIME_MAX).until(listing).await?;
    let found = found.map_err(|failure| refusal(&failure))?;
    let work = savepoints.work();
    let body = ListBody {
        savepoints: bodies(&found, &application),
        creating: work.creating.map(|(name, since_ms)| CreatingBody {
            savepoint: name.to_string(),
            since: format_rfc3339(since_ms),
        }),
        failed: work
            .failed
            .as_ref()
            .map(|(name, at_ms, reason)| FailedBody {
                savepoint: name.to_string(),
                at: format_rfc3339(*at_ms),
                reason: reason.clone(),
            }),
    };
    Ok(json_response(StatusCode::OK, &body))
}

async fn create(State(admin): Shared, request: Request) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    admin.allow_writing(&parts.headers)?;
    let NewQuery {
        name,
        comment,
        timeout,
    } = query(&parts)?;
    let wait = Wait::parse(WaitQuery { timeout }, WAIT_DEFAULT, WAIT_MAX)?;
    let name = savepoint_name(&name)?;
    let comment = comment.unwrap_or_default();
    if comment.len() > COMMENT_BYTES_MAX {
        let bytes = comment.len();
        let message = format!("the comment has {bytes} bytes; it may have {COMMENT_BYTES_MAX}");
        return Err(ApiError::bad_request("invalid_query", message));
    }
    let savepoints = admin.savepoints.clone();
    let (root, application) = savepoints.open().await?;
    savepoints.begin(name)?;
    // A client that leaves must not leave savepoints of some partitions behind.
    let creating = tokio::spawn(async move {
        let created = savepoint::create(&root, &application, name, &comment).await;
        savepoints.end(name, &created);
        created.map(|created| bodies(&created, &application))
    });
    let Ok(created) = tokio::time::timeout(wait.duration(), creating).await else {
        let creating = CreatingBody {
            savepoint: name.to_string(),
            since: format_rfc3339(now_ms()),
        };
        return Ok(json_response(StatusCode::ACCEPTED, &creating));
    };
    let created = created.map_err(|error| {
        tracing::error!(%error, "panic while a savepoint was made: this is a bug of Satchel");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "see the log")
    })?;
    let created = created.map_err(|failure| refusal(&failure))?;
    match created.first() {
        Some(created) => Ok(json_response(StatusCode::CREATED, created)),
        None => Ok(json_response(StatusCode::CREATED, &Done {})),
    }
}

async fn remove(
    State(admin): Shared,
    params: PathParams,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    let wait = admin.admit(&parts)?;
    let name = savepoint_name(params.get("savepoint"))?;
    let (root, application) = admin.savepoints.open().await?;
    if admin.savepoints.creates(name) {
        let message = format!("the savepoint {name} is being made; delete it afterwards");
        return Err(ApiError::new(StatusCode::CONFLICT, "refused", message));
    }
    let deleting = savepoint::delete(&root, &application, name);
    let deleted = wait.until(deleting).await?;
    deleted.map_err(|failure| match failure.exit {
        Exit::Refused => ApiError::new(StatusCode::NOT_FOUND, "not_found", failure.message),
        _ => refusal(&failure),
    })?;
    Ok(json_response(StatusCode::OK, &Done {}))
}

impl Savepoints {
    /// Creates the savepoints of the root that `past` opens.
    pub(crate) fn new(past: Past) -> Self {
        Self {
            past,
            work: Arc::default(),
        }
    }

    async fn open(&self) -> Result<(SavepointRoot, Application), ApiError> {
        self.past
            .savepoints()
            .await
            .map_err(|problem| match problem {
                PastProblem::NotOpen => ApiError::unavailable("starting", 1, problem.to_string()),
                problem => {
                    tracing::warn!(error = %problem, "savepoints not read");
                    ApiError::new(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        "unreadable",
                        "the durable state cannot be read; see the log",
                    )
                }
            })
    }

    fn begin(&self, name: SavepointName) -> Result<(), ApiError> {
        let mut work = self.work();
        if let Some((other, _)) = work.creating {
            let message = format!("the savepoint {other} is being made; retry afterwards");
            return Err(ApiError::unavailable("busy", 5, message));
        }
        work.creating = Some((name, now_ms()));
        Ok(())
    }

    fn end(&self, name: SavepointName, created: &Result<Vec<Savepoint>, Failure>) {
        let mut work = self.work();
        work.creating = None;
        work.failed = match created {
            Ok(_) => {
                tracing::info!(savepoint = %name, "savepoint created");
                None
            }
            Err(failure) => {
                tracing::warn!(savepoint = %name, error = %failure, "savepoint not created");
                Some((name, now_ms(), failure.message.clone()))
            }
        };
    }

    fn creates(&self, name: SavepointName) -> bool {
        matches!(self.work().creating, Some((creating, _)) if creating == name)
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        // No code panics between two changes that belong together.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Joins the savepoints of partitions by their names.
fn bodies(savepoints: &[Savepoint], application: &Application) -> Vec<SavepointBody> {
    let mut by_name: BTreeMap<SavepointName, Vec<&Savepoint>> = BTreeMap::new();
    for savepoint in savepoints {
        by_name.entry(savepoint.name).or_default().push(savepoint);
    }
    let bodies = by_name.into_iter().map(|(name, of_partitions)| {
        let latest = |of: fn(&Savepoint) -> u64| {
            let times = of_partitions.iter().map(|one| of(one));
            format_rfc3339(times.max().unwrap_or_default())
        };
        SavepointBody {
            savepoint: name.to_string(),
            committed_at: latest(|one| one.committed_at_ms),
            created_at: latest(|one| one.created_at_ms),
            comment: of_partitions[0].comment.clone(),
            partitions: of_partitions.iter().map(|one| one.partition).collect(),
            complete: of_partitions.len() == application.partitions as usize,
        }
    });
    bodies.collect()
}

fn savepoint_name(text: &str) -> Result<SavepointName, ApiError> {
    let name: Result<SavepointName, _> = text.parse();
    name.map_err(|error| ApiError::bad_request("invalid_name", error.to_string()))
}

fn refusal(failure: &Failure) -> ApiError {
    let message = failure.message.clone();
    match failure.exit {
        Exit::Refused => ApiError::new(StatusCode::CONFLICT, "refused", message),
        Exit::Environment => ApiError::unavailable("unreachable", 5, message),
        _ => {
            tracing::warn!(error = %failure, "savepoints not read");
            ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "unreadable",
                "the durable state cannot be read; see the log",
            )
        }
    }
}
