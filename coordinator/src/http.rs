//! HTTP API: a port for traffic and a port for administration.
//!
//! ```text
//!  listener ─► serve ─► observe ─► defend ─► behind ─► routes ─► Requests ─► the partition's loop
//!              budget   metrics    browsers  token     traffic, admin, further ones
//!              TLS
//! ```
//!
//! Bodies are the raw bytes of values, typenames travel in headers, errors are
//! `{"error":{"code","message"}}`. Only errors of the HTTP library itself, before a request exists
//! (a malformed or oversized head), have an empty body.

mod admin;
mod body;
mod changes;
mod components;
mod console;
mod cost;
mod error;
mod graph;
mod guard;
mod guest;
mod head;
mod ingresses;
mod ledger;
#[cfg(feature = "aws")]
mod members;
mod observe;
mod partitions;
mod playground;
mod progress;
mod render;
mod savepoints;
mod server;
mod shards;
mod target;
#[cfg(test)]
mod tests;
mod tls;
mod token;
mod traces;
mod traffic;
mod value;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{from_fn, from_fn_with_state};

pub use self::admin::{Admin, AdminAccess, routes as admin_routes};
pub use self::body::BodyLimits;
pub use self::console::{
    Console, Declared, DeclaredEndpoint, DeclaredFile, DeclaredSetting, routes as console_routes,
};
pub use self::guard::Guard;
pub use self::ledger::Limit;
pub(crate) use self::playground::{
    PlaygroundEgress, PlaygroundIngress, egress_routes, ingress_routes,
};
pub use self::savepoints::Savepoints;
pub use self::server::{BindError, Listening, ServeLimits, bind, serve};
pub use self::tls::{Tls, TlsProblem};
pub use self::token::{Token, behind};
pub use self::traffic::{Traffic, TrafficLimits, routes as traffic_routes};

pub(crate) use self::error::ApiError;
#[cfg(feature = "aws")]
pub(crate) use self::error::{NOT_HERE, NOT_TAKEN};
pub(crate) use self::guard::{for_one_program, for_programs};
#[cfg(feature = "aws")]
pub(crate) use self::{
    admin::AdminRights,
    cost::of_all as cost_of_all,
    error::{ErrorCode, UNKNOWN},
    guest::{Budget, Guest, Received},
    ledger::{Client, Exceeded, Ledger, Share},
    members::{
        AskedWish, MemberBody, Members, MembersBody, PlaceBody, Wish, routes as members_routes,
    },
    progress::Progressing,
    target::query,
    traffic::{Wait, WaitQuery},
};

use self::observe::Observer;
use crate::metrics::Metrics;

/// Port of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Calls, sends, streams.
    Traffic,
    /// Administration.
    Admin,
    /// Requests of other processes of the application.
    Peer,
    /// Ingress or egress of StateFun's playground.
    Playground,
    /// Kinesis API of `dev`.
    Kinesis,
    /// Invoke API of `dev`.
    Lambda,
}

impl Port {
    /// Name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Traffic => "traffic",
            Self::Admin => "admin",
            Self::Peer => "peer",
            Self::Playground => "playground",
            Self::Kinesis => "kinesis",
            Self::Lambda => "lambda",
        }
    }

    /// Purpose of the port, and the setting of its address.
    fn purpose(self) -> (&'static str, &'static str) {
        match self {
            Self::Traffic => ("traffic", "--http"),
            Self::Admin => ("administration", "--admin"),
            Self::Peer => ("other processes of the application", "--peer"),
            Self::Playground => ("the playground", "`port` in the module file"),
            Self::Kinesis => ("the Kinesis API", "--kinesis-api"),
            Self::Lambda => ("the Invoke API", "--lambda-api"),
        }
    }
}

/// Completes `routes` to the router of a port: adds the defence against browsers, answers to
/// unknown paths and methods, metrics, and the rules of the administration port.
///
/// `routes` must have no fallbacks of their own.
pub fn surface(port: Port, routes: Router, guard: Guard, metrics: Metrics) -> Router {
    let routes = match port {
        Port::Admin => changes::audited(routes),
        _ => routes,
    };
    let routes = routes
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed);
    let routes = match port {
        Port::Admin => routes.layer(from_fn(changes::restrict)),
        _ => routes,
    };
    routes
        .layer(from_fn_with_state(guard, guard::defend))
        .layer(from_fn_with_state(
            Observer { port, metrics },
            observe::observe,
        ))
}

async fn not_found(uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "no_such_path",
        format!(
            "nothing is served at {}; addresses are namespace/name/id, \
             each part percent-encoded and not empty",
            uri.path()
        ),
    )
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!(
            "{} does not allow {method}; see the header allow",
            uri.path()
        ),
    )
}
