//! Ports of StateFun's playground: an ingress to every function, and an egress by topics.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use satchel_engine::input::Verb;
use satchel_engine::output::{Answer, Stoppages};
use tokio::sync::watch;

use super::error::ApiError;
use super::target::{PathParams, Target, query};
use super::traffic::{Traffic, Wait, ask};
use super::value::read_text_or_value;
use crate::egress::playground::PlaygroundTopics;
use crate::readiness::Readiness;

/// Default time for which a `GET` waits for a record.
const WAIT_DEFAULT: Duration = Duration::from_secs(30);

/// Maximum time for which a `GET` waits for a record.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// Ingress of the playground.
#[derive(Debug, Clone)]
pub(crate) struct PlaygroundIngress {
    /// Way to the functions.
    pub(crate) traffic: Traffic,
    /// Id of the ingress.
    pub(crate) id: String,
    /// Functions and ingresses that stand still.
    pub(crate) stoppages: watch::Receiver<Stoppages>,
}

impl PlaygroundIngress {
    fn is_paused(&self) -> bool {
        let stoppages = self.stoppages.borrow();
        let mut paused = stoppages.paused_ingresses.iter();
        paused.any(|ingress| ingress.name == self.id)
    }
}

/// Egress of the playground.
#[derive(Debug, Clone)]
pub(crate) struct PlaygroundEgress {
    /// Records by topic.
    pub(crate) topics: PlaygroundTopics,
    /// Readiness. Until the process serves, requests are answered with 503 and `Retry-After`.
    pub(crate) readiness: watch::Receiver<Readiness>,
}

/// Routes `PUT /{namespace}/{name}/{id}`, and `POST` as the same.
///
/// Answers are those of the traffic port's `/send`, but 200 instead of 202, as in the playground.
/// While a person pauses the ingress, it answers 503.
pub(crate) fn ingress_routes(ingress: PlaygroundIngress) -> Router {
    Router::new()
        .route("/{namespace}/{name}/{id}", put(send).post(send))
        .with_state(Arc::new(ingress))
}

/// Routes `GET /{topic}`.
///
/// | | |
/// |---|---|
/// | 200 | the oldest record, which no other client gets |
/// | 400 | path or query is invalid |
/// | 404 | there is no such topic, or no record within `?timeout=` (default 30 s) |
/// | 503 | starting, standby or stopping; with `Retry-After` |
pub(crate) fn egress_routes(egress: PlaygroundEgress) -> Router {
    Router::new()
        .route("/{topic}", get(take))
        .with_state(egress)
}

async fn send(
    State(ingress): State<Arc<PlaygroundIngress>>,
    target: Target,
    request: Request,
) -> Result<Response, ApiError> {
    if ingress.is_paused() {
        let message = "an operator has paused the ingress; the request had no effect, retry it";
        return Err(ApiError::unavailable("paused", 5, message));
    }
    let traffic = &ingress.traffic;
    match ask(traffic, Verb::Send, target, request, read_text_or_value)
        .await?
        .into_answer()?
    {
        Answer::Accepted => Ok(StatusCode::OK.into_response()),
        other => Err(ApiError::of_answer(other)),
    }
}

async fn take(
    State(PlaygroundEgress { topics, readiness }): State<PlaygroundEgress>,
    params: PathParams,
    request: Request,
) -> Result<Response, ApiError> {
    let readiness = *readiness.borrow();
    ApiError::not_serving(readiness)?;
    let (parts, _) = request.into_parts();
    let wait = Wait::parse(query(&parts)?, WAIT_DEFAULT, WAIT_MAX)?.duration();
    let topic = params.get("topic");
    let not_found = |code, message| ApiError::new(StatusCode::NOT_FOUND, code, message);
    if !topics.contains(topic) {
        let names = topics.names().join(", ");
        let message = format!("there is no topic {topic:?}; topics of this egress: {names}");
        return Err(not_found("no_such_topic", message));
    }
    let taken = tokio::time::timeout(wait, topics.take(topic)).await;
    let payload = taken.map_err(|_| {
        let message = format!("no record arrived in the topic {topic:?} within {wait:?}");
        not_found("no_record", message)
    })?;
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((headers, payload).into_response())
}
