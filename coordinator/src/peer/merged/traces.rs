//! Traces whose hops are spread over processes, made one for clients.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::future::join_all;
use satchel_aws::lease::PeerPort;
use serde_json::{Map, Value, json};

use super::{List, Own, others, read};
use crate::peer::gate::Gate;
use crate::peer::link::Links;
use crate::stories::{SummaryBody, TraceBody, merge};

/// Path of the list, before that of one trace.
pub(super) const PATH: &str = "/api/traces";

/// Limit of a list whose query names none. It is that of the routes.
const LIMIT_DEFAULT: usize = 100;

/// Adds the parts of the other processes to the traces of this one.
pub(super) async fn complete(
    list: List,
    (own, again): (Response, Own),
    gate: &Gate,
    links: &Links,
) -> Response {
    let (peers, missing) = others(gate);
    let processes = (&*peers, missing);
    match list.path_and_query.strip_prefix(PATH) {
        Some(rest) if rest.starts_with('/') => one(&list, (own, again), processes, links).await,
        _ => all(&list, own, processes, links).await,
    }
}

type Processes<'a> = (&'a [(PeerPort, Vec<u32>)], BTreeSet<u32>);

async fn all(
    list: &List,
    own: Response,
    (peers, mut missing): Processes<'_>,
    links: &Links,
) -> Response {
    if own.status() != StatusCode::OK {
        return own;
    }
    let Some(own) = read(own.into_body()).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut tracing = own.get("tracing") == Some(&Value::Bool(true));
    let mut summaries = summaries(own);
    let asked = peers.iter().map(async |(peer, partitions)| {
        let answered = list.ask(peer, &list.path_and_query, links).await;
        answered.ok_or(partitions)
    });
    for answered in join_all(asked).await {
        match answered {
            Ok(body) => {
                tracing |= body.get("tracing") == Some(&Value::Bool(true));
                summaries.extend(self::summaries(body));
            }
            Err(partitions) => missing.extend(partitions),
        }
    }
    let limit = limit(&list.path_and_query);
    let merged = merge::lists(summaries, limit);
    let mut body = json!({"traces": merged, "tracing": tracing});
    if !missing.is_empty() {
        body["missing_partitions"] = missing.into_iter().collect();
    }
    response(&body)
}

/// Limit that the query names.
fn limit(path_and_query: &str) -> usize {
    let (_, query) = path_and_query.split_once('?').unwrap_or_default();
    let mut limits = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("limit="));
    // The routes have checked it.
    let limit = limits.next().and_then(|limit| limit.parse().ok());
    limit.unwrap_or(LIMIT_DEFAULT)
}

fn summaries(mut body: Map<String, Value>) -> Vec<SummaryBody> {
    let traces = body.remove("traces").unwrap_or_default();
    serde_json::from_value(traces).unwrap_or_default()
}

async fn one(
    list: &List,
    (own, again): (Response, Own),
    (peers, missing): Processes<'_>,
    links: &Links,
) -> Response {
    // A process that has other hops of the trace may not know the id that the client gave.
    let is_known = own.status() == StatusCode::OK;
    if !is_known && own.status() != StatusCode::NOT_FOUND {
        return own;
    }
    let (parts, body) = own.into_parts();
    let Ok(body) = axum::body::to_bytes(body, super::LIST_BYTES_MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let own = is_known.then(|| serde_json::from_slice::<TraceBody>(&body).ok());
    let ask = async |peer: &PeerPort, path: &str| {
        let body = list.ask(peer, path, links).await?;
        serde_json::from_value::<TraceBody>(Value::Object(body)).ok()
    };
    let first = peers
        .iter()
        .map(|(peer, _)| ask(peer, &list.path_and_query));
    let first: Vec<_> = join_all(first).await;
    let mut known: Vec<TraceBody> = own
        .flatten()
        .into_iter()
        .chain(first.iter().flatten().cloned())
        .collect();
    let Some(trace) = known.first().map(|part| part.trace.clone()) else {
        return Response::from_parts(parts, body.into());
    };
    let path = format!("{PATH}/{trace}");
    if path != list.path_and_query {
        let unknown = peers.iter().zip(&first).filter(|(_, part)| part.is_none());
        let asked = unknown.map(|((peer, _), _)| ask(peer, &path));
        known.extend(join_all(asked).await.into_iter().flatten());
        if !is_known && let Some(own) = again.get(&path).await {
            let body = read(own.into_body()).await.map(Value::Object);
            known.extend(body.and_then(|body| serde_json::from_value(body).ok()));
        }
    }
    let Some(merged) = merge::traces(known) else {
        return Response::from_parts(parts, body.into());
    };
    let mut body = json!(merged);
    if !missing.is_empty() {
        body["missing_partitions"] = missing.into_iter().collect();
    }
    response(&body)
}

fn response(body: &Value) -> Response {
    let headers = [(CONTENT_TYPE, "application/json")];
    (StatusCode::OK, headers, body.to_string()).into_response()
}
