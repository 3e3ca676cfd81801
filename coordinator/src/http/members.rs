//! Processes of an application of several partitions: `GET /api/members`, and what people want of
//! the partitions' places.
//!
//! | | |
//! |---|---|
//! | `GET /api/members` | processes, and the owner of each partition |
//! | `POST /api/partitions/{partition}/pin?process=ID` | this process should own the partition |
//! | `POST /api/partitions/{partition}/unpin` | any process may own it |
//! | `POST /api/partitions/{partition}/freeze`, `…/unfreeze` | it stays where it is, or may move |
//! | `POST /api/members/{process}/drain`, `…/undrain` | the process gives its partitions away |

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use super::admin::{AdminRights, json_response};
use super::error::ApiError;
use super::target::{PathParams, query};

/// Processes and partitions of an application, as one process knows them.
#[derive(Debug, Serialize)]
pub(crate) struct MembersBody {
    /// Id of the process that answers.
    pub(crate) process: Arc<str>,
    /// Processes, of which some may have died.
    pub(crate) members: Vec<MemberBody>,
    /// Partitions by number.
    pub(crate) partitions: Vec<PlaceBody>,
}

/// A process of an application.
#[derive(Debug, Serialize)]
pub(crate) struct MemberBody {
    /// Id of the process.
    pub(crate) process: Arc<str>,
    /// Address of its peer port.
    pub(crate) peer: String,
    /// Weight of its share.
    pub(crate) weight: u32,
    /// True if it gives its partitions away.
    pub(crate) draining: bool,
    /// Time since its counter moved, as seen by the process that answers, in ms.
    pub(crate) silent_ms: Option<u64>,
    /// Partitions that it owns.
    pub(crate) partitions: Vec<u32>,
}

/// Place of a partition.
#[derive(Debug, Serialize)]
pub(crate) struct PlaceBody {
    /// Number of the partition.
    pub(crate) partition: u32,
    /// Process that owned it last.
    pub(crate) owner: Option<Arc<str>>,
    /// Stage in the process that answers, if it runs there: `arriving`, `serving` or `leaving`.
    pub(crate) stage: Option<&'static str>,
    /// True if that process has released it.
    pub(crate) released: bool,
    /// Time of the last claim.
    pub(crate) since: Option<String>,
    /// Number of claims so far.
    pub(crate) claims: u64,
    /// Process that it is offered to.
    pub(crate) offered_to: Option<Arc<str>>,
    /// Process that a person wants to own it.
    pub(crate) pinned_to: Option<Arc<str>>,
    /// True if a person wants it to stay where it is.
    pub(crate) frozen: bool,
}

/// Wish of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    /// The process should own the partition; none for any process.
    Pin(u32, Option<String>),
    /// The partition should stay where it is, or may move.
    Freeze(u32, bool),
    /// The process should give its partitions away, or take some again.
    Drain(String, bool),
}

/// Wish, and where to say whether it could be noted. False means that there is no such partition or
/// process, none that the lease table did not answer.
pub(crate) type AskedWish = (Wish, oneshot::Sender<Option<bool>>);

/// Connection of the routes with the membership of this process.
#[derive(Debug, Clone)]
pub(crate) struct Members {
    /// Knowledge of the process.
    pub(crate) view: watch::Receiver<Option<Arc<MembersBody>>>,
    /// Wishes of people.
    pub(crate) wishes: mpsc::Sender<AskedWish>,
}

type Shared = State<Arc<(Members, AdminRights)>>;

/// Routes of the table above, for clients with these rights.
pub(crate) fn routes(members: Members, rights: AdminRights) -> Router {
    Router::new()
        .route("/api/members", get(list))
        .route("/api/partitions/{partition}/{wish}", post(of_partition))
        .route("/api/members/{process}/{wish}", post(of_member))
        .with_state(Arc::new((members, rights)))
}

async fn list(State(shared): Shared, request: Request) -> Result<Response, ApiError> {
    let (members, rights) = &*shared;
    let headers = request.headers();
    rights
        .reads
        .authorize(headers, "reading more than health and metrics")?;
    let known = members.view.borrow().clone();
    let known = known.ok_or_else(unknown)?;
    Ok(json_response(StatusCode::OK, &*known))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PinQuery {
    process: Option<String>,
}

async fn of_partition(
    State(shared): Shared,
    params: PathParams,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    let number = params.get("partition");
    let number = number.parse().map_err(|_| {
        let message = format!("{number:?} is not the number of a partition");
        ApiError::bad_request("invalid_partition", message)
    })?;
    let PinQuery { process } = query(&parts)?;
    let wish = match (params.get("wish"), process) {
        ("pin", Some(process)) => Wish::Pin(number, Some(process)),
        ("pin", None) => {
            let message = "name the process with ?process=ID; `satchel partitions` lists them";
            return Err(ApiError::bad_request("invalid_query", message));
        }
        ("unpin", None) => Wish::Pin(number, None),
        ("freeze", None) => Wish::Freeze(number, true),
        ("unfreeze", None) => Wish::Freeze(number, false),
        (wish, _) => return Err(no_such(wish)),
    };
    ask(&shared, &parts, wish).await
}

async fn of_member(
    State(shared): Shared,
    params: PathParams,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    let process = params.get("process").to_owned();
    let wish = match params.get("wish") {
        "drain" => Wish::Drain(process, true),
        "undrain" => Wish::Drain(process, false),
        wish => return Err(no_such(wish)),
    };
    ask(&shared, &parts, wish).await
}

async fn ask(
    (members, rights): &(Members, AdminRights),
    parts: &Parts,
    wish: Wish,
) -> Result<Response, ApiError> {
    rights
        .writes
        .authorize(&parts.headers, "changing something")?;
    let (reply, noted) = oneshot::channel();
    let sent = members.wishes.send((wish, reply)).await;
    sent.map_err(|_| unknown())?;
    match noted.await {
        Ok(Some(true)) => Ok(json_response(StatusCode::OK, &serde_json::json!({}))),
        Ok(None) => Err(ApiError::unavailable(
            "table_unreachable",
            1,
            "the lease table did not answer; the wish may have been noted, retry it",
        )),
        Ok(Some(false)) => Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "there is no such partition or process",
        )),
        Err(_) => Err(unknown()),
    }
}

fn no_such(wish: &str) -> ApiError {
    let message = format!("{wish:?} cannot be asked for here");
    ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
}

/// The process has not read the lease table yet, or ends.
fn unknown() -> ApiError {
    ApiError::unavailable("starting", 1, "the process is starting or stopping")
}
