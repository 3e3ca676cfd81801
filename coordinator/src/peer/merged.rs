//! Lists of which each process has its part, merged for clients.
//!
//! The process that a client reached asks all others that own partitions for the same list, and
//! makes one of them. Entries about the same thing become one entry: figures add up, times are the
//! latest, an outage or a stop of any process shows. A body has `missing_partitions` if the owners
//! of some partitions did not answer.

mod traces;

use std::collections::BTreeSet;

use axum::body::{Body, to_bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{Method, Request, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::future::join_all;
use satchel_aws::lease::PeerPort;
use satchel_engine::forwarding::Owner;
use serde_json::{Map, Value};

use super::gate::Gate;
use super::identity::NAME;
use super::link::Links;
use super::server::ADMIN;
use crate::cost::Observed;
use crate::http::cost_of_all;

/// Maximum size of the list of one process, in bytes.
const LIST_BYTES_MAX: usize = 16 << 20;

/// Path of the bill, which is computed from the figures of each process.
const COST: &str = "/api/cost";

/// Paths of the lists, the name of the entries in the body, and the field that tells them apart.
const LISTS: [(&str, &str, &str); 9] = [
    ("/api/partitions", "partitions", "partition"),
    ("/api/endpoints", "endpoints", "name"),
    ("/api/functions", "functions", "function"),
    ("/api/ingresses", "ingresses", "id"),
    ("/api/egresses", "egresses", "id"),
    ("/api/shards", "shards", "id"),
    ("/api/graph", "edges", "edge"),
    (COST, "processes", "process"),
    (traces::PATH, "traces", "trace"),
];

/// The routes of this process, which can be asked again for a client.
pub(super) struct Own {
    next: Next,
    parts: Parts,
}

impl Own {
    /// Routes behind `next`, for the client that sent a request with this head.
    pub(super) fn new(next: Next, parts: Parts) -> Self {
        Self { next, parts }
    }

    /// Answers a request of the client.
    pub(super) async fn ask(&self, request: Request<Body>) -> Response {
        self.next.clone().run(request).await
    }

    /// Answers the same request for another path.
    async fn get(&self, path: &str) -> Option<Response> {
        let mut parts = self.parts.clone();
        parts.uri = path.parse().ok()?;
        let request = Request::from_parts(parts, Body::empty());
        Some(self.ask(request).await)
    }
}

/// List of which each process has its part.
#[derive(Debug, Clone)]
pub(super) struct List {
    entries: &'static str,
    key: &'static str,
    path_and_query: String,
}

impl List {
    /// Returns the list that a request asks for, if it is one.
    pub(super) fn of(request: &Request<Body>) -> Option<Self> {
        let uri = request.uri();
        let is_one = |path: &str, of: &str| {
            // The hops of one trace are a list too.
            of == "traces"
                && uri
                    .path()
                    .strip_prefix(path)
                    .is_some_and(|id| id.starts_with('/'))
        };
        let is = |path: &str, of| path == uri.path() || is_one(path, of);
        let list = LISTS.iter().find(|(path, of, _)| is(path, of));
        let list = list.filter(|_| request.method() == Method::GET);
        list.map(|(_, entries, key)| Self {
            entries,
            key,
            path_and_query: uri
                .path_and_query()
                .map(ToString::to_string)
                .unwrap_or_default(),
        })
    }

    /// Adds the parts of the other processes to that of this one.
    pub(super) async fn complete(
        self,
        (own, again): (Response, Own),
        gate: &Gate,
        links: &Links,
    ) -> Response {
        if self.entries == "traces" {
            return traces::complete(self, (own, again), gate, links).await;
        }
        if own.status() != StatusCode::OK {
            return own;
        }
        let (parts, body) = own.into_parts();
        let Some(own) = read(body).await else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let (peers, mut missing) = others(gate);
        let asked = peers.iter().map(async |(peer, partitions)| {
            let list = self.ask(peer, &self.path_and_query, links).await;
            list.ok_or_else(|| partitions.clone())
        });
        let mut lists = vec![own];
        for answered in join_all(asked).await {
            match answered {
                Ok(list) => lists.push(list),
                Err(partitions) => missing.extend(partitions),
            }
        }
        let mut merged = self.merge(lists);
        if self.entries == "processes" {
            merged = bill(merged, &self.path_and_query).await;
        }
        if !missing.is_empty() {
            let missing: Vec<Value> = missing.into_iter().map(Value::from).collect();
            merged.insert("missing_partitions".to_owned(), Value::Array(missing));
        }
        let body = Value::Object(merged).to_string();
        (parts.status, [(CONTENT_TYPE, "application/json")], body).into_response()
    }

    async fn ask(&self, peer: &PeerPort, path: &str, links: &Links) -> Option<Map<String, Value>> {
        let request = Request::get(format!("https://{NAME}{ADMIN}{path}"));
        let answered = links
            .send(peer, request.body(Body::empty()).ok()?)
            .await
            .ok()?;
        let is_list = answered.status() == StatusCode::OK;
        read(Body::new(answered.into_body()))
            .await
            .filter(|_| is_list)
    }

    /// Makes one body of several.
    fn merge(&self, lists: Vec<Map<String, Value>>) -> Map<String, Value> {
        let mut merged: Vec<Value> = Vec::new();
        let mut next = Value::Null;
        let mut page = usize::MAX;
        for mut list in lists {
            let Some(Value::Array(entries)) = list.remove(self.entries) else {
                continue;
            };
            if let Some(more) = list.remove("next").filter(|next| !next.is_null()) {
                // A process that has more has filled its page.
                page = page.min(entries.len());
                next = more;
            }
            for entry in entries {
                let same = |known: &&mut Value| known[self.key] == entry[self.key];
                match merged.iter_mut().find(same) {
                    Some(known) => combine(self.key, known, entry),
                    None => merged.push(entry),
                }
            }
        }
        let by_name = |entry: &Value| entry[self.key].as_str().unwrap_or_default().to_owned();
        match self.entries {
            "partitions" => merged.sort_by_key(|entry| entry[self.key].as_u64()),
            "functions" => {
                merged.sort_by_key(by_name);
                if !next.is_null() {
                    merged.truncate(page);
                    next = merged
                        .last()
                        .map_or(Value::Null, |last| last[self.key].clone());
                }
            }
            // In the order of the module files, like the pages.
            _ => {}
        }
        let entries = (self.entries.to_owned(), Value::Array(merged));
        match self.entries {
            "partitions" | "edges" | "processes" => Map::from_iter([entries]),
            _ => Map::from_iter([entries, ("next".to_owned(), next)]),
        }
    }
}

/// Adds the bill of all processes to their figures.
async fn bill(mut merged: Map<String, Value>, path_and_query: &str) -> Map<String, Value> {
    let processes = merged.remove("processes").unwrap_or_default();
    // A process of another version may count other things. It is left out.
    let processes = processes.as_array().into_iter().flatten();
    let processes =
        processes.filter_map(|one| serde_json::from_value::<Observed>(one.clone()).ok());
    let request = Request::get(path_and_query).body(()).unwrap_or_default();
    let body = cost_of_all(processes.collect(), &request.into_parts().0).await;
    match serde_json::to_value(&body) {
        Ok(Value::Object(body)) => body,
        _ => merged,
    }
}

/// Returns the other processes that own partitions with these, and the partitions without an owner.
fn others(gate: &Gate) -> (Vec<(PeerPort, Vec<u32>)>, BTreeSet<u32>) {
    let mut peers: Vec<(PeerPort, Vec<u32>)> = Vec::new();
    let mut missing = BTreeSet::new();
    for partition in 0..gate.partitions() {
        match &*gate.owner(partition).borrow() {
            Owner::Here => {}
            Owner::There(peer) => match peers.iter_mut().find(|(known, _)| known == peer) {
                Some((_, partitions)) => partitions.push(partition),
                None => peers.push((peer.clone(), vec![partition])),
            },
            Owner::Arriving | Owner::Unreachable | Owner::Unknown => {
                missing.insert(partition);
            }
        }
    }
    (peers, missing)
}

async fn read(body: Body) -> Option<Map<String, Value>> {
    let bytes = to_bytes(body, LIST_BYTES_MAX).await.ok()?;
    match serde_json::from_slice(&bytes).ok()? {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

/// Adds what another process says to a value of the field `name`.
fn combine(name: &str, known: &mut Value, more: Value) {
    match (&mut *known, more) {
        (_, Value::Null) => {}
        (Value::Null, more) => *known = more,
        (Value::Bool(flag), Value::Bool(more)) => *flag |= more,
        (Value::Object(known), Value::Object(more)) => {
            let time =
                |of: &Map<String, Value>| of.get("at").and_then(Value::as_str).map(str::to_owned);
            match (time(known), time(&more)) {
                (Some(at), Some(later)) if later <= at => {}
                (Some(_), Some(_)) => *known = more,
                _ => {
                    for (name, more) in more {
                        combine(&name, known.entry(&name).or_insert(Value::Null), more);
                    }
                }
            }
        }
        (Value::Array(known), Value::Array(more)) => {
            for entry in more {
                if !known.contains(&entry) {
                    known.push(entry);
                }
            }
        }
        (Value::Number(_), Value::Number(more)) => {
            let more = Value::Number(more);
            *known = match (name, known.as_u64(), more.as_u64()) {
                ("partition", ..) => return,
                (_, Some(one), Some(other)) => Value::from(one + other),
                // Times.
                _ => {
                    let of = |number: &Value| number.as_f64().unwrap_or_default();
                    Value::from(of(known).max(of(&more)))
                }
            };
        }
        (Value::String(text), Value::String(more)) => {
            // An endpoint that is down for one process is down; an outage has its first beginning.
            let is_first = matches!(name, "state" | "endpoint_state" | "since");
            if (is_first && more < *text) || (name == "last_success" && more > *text) {
                *text = more;
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn list(path: &str) -> List {
        let request = Request::get(path).body(Body::empty()).unwrap();
        List::of(&request).unwrap()
    }

    fn merged(path: &str, lists: &[Value]) -> Value {
        let lists = lists.iter().map(|list| list.as_object().unwrap().clone());
        Value::Object(list(path).merge(lists.collect()))
    }

    #[test]
    fn only_lists_are_merged() {
        let is_list = |request: axum::http::request::Builder| {
            List::of(&request.body(Body::empty()).unwrap()).is_some()
        };
        assert!(is_list(Request::get("/api/endpoints?limit=1")));
        assert!(!is_list(Request::post("/api/endpoints")));
        assert!(!is_list(Request::get("/api/timers")));
    }

    #[test]
    fn partitions_of_several_processes_are_listed_by_number() {
        let lists = [
            json!({"partitions": [{"partition": 2, "processed": 5}]}),
            json!({"partitions": [{"partition": 0, "processed": 7}]}),
            json!({"partitions": []}),
        ];
        let expected = json!({"partitions": [
            {"partition": 0, "processed": 7},
            {"partition": 2, "processed": 5},
        ]});
        assert_eq!(merged("/api/partitions", &lists), expected);
    }

    #[test]
    fn an_endpoint_is_down_if_one_process_says_so_and_figures_add_up() {
        let one = json!({
            "name": "a", "state": "up", "since": null, "last_success": "2026-11-30T10:00:01Z",
            "last_failure": {"at": "2026-11-30T09:00:00Z", "kind": "throttled"},
            "functions": ["x/*"], "requests_in_flight": 2,
        });
        let other = json!({
            "name": "a", "state": "down", "since": "2026-11-30T10:00:00Z", "last_success": null,
            "last_failure": {"at": "2026-11-30T10:00:00Z", "kind": "unavailable"},
            "functions": ["x/*"], "requests_in_flight": 3,
        });
        let expected = json!({"next": null, "endpoints": [{
            "name": "a", "state": "down", "since": "2026-11-30T10:00:00Z",
            "last_success": "2026-11-30T10:00:01Z",
            "last_failure": {"at": "2026-11-30T10:00:00Z", "kind": "unavailable"},
            "functions": ["x/*"], "requests_in_flight": 5,
        }]});
        let lists = |one: &Value, other: &Value| {
            [one, other].map(|it| json!({"endpoints": [it], "next": null}))
        };
        assert_eq!(merged("/api/endpoints", &lists(&one, &other)), expected);
        assert_eq!(merged("/api/endpoints", &lists(&other, &one)), expected);
    }

    #[test]
    fn the_lag_of_an_ingress_is_the_largest_and_the_reader_s_figures_count() {
        let lists = [
            json!({"ingresses": [{"id": "i", "lag_seconds": null, "received": 0}]}),
            json!({"ingresses": [{"id": "i", "lag_seconds": 1.5, "received": 4}]}),
            json!({"ingresses": [{"id": "i", "lag_seconds": 0.5, "received": 1}]}),
        ];
        let expected = json!({"next": null, "ingresses": [
            {"id": "i", "lag_seconds": 1.5, "received": 5},
        ]});
        assert_eq!(merged("/api/ingresses", &lists), expected);
    }

    #[test]
    fn messages_of_an_edge_count_over_all_processes() {
        let edge = |name: &str, messages: u64| {
            let from = json!({"kind": "function", "name": name});
            json!({"edge": format!("function {name} > callers"), "from": from, "to": null,
                   "messages": messages})
        };
        let lists = [
            json!({"edges": [edge("a/a", 1), edge("a/b", 2)]}),
            json!({"edges": [edge("a/b", 40)]}),
        ];
        let expected = json!({"edges": [edge("a/a", 1), edge("a/b", 42)]});
        assert_eq!(merged("/api/graph", &lists), expected);
    }

    #[test]
    fn pages_of_functions_are_cut_where_every_process_is_known() {
        let function = |name: &str, addresses: u64, messages: u64| {
            let backlog = json!({"messages": messages});
            json!({"function": name, "addresses": addresses, "backlog": backlog})
        };
        let lists = [
            json!({"functions": [function("a/a", 1, 1), function("a/c", 2, 0)], "next": "a/c"}),
            json!({"functions": [function("a/a", 3, 4), function("a/b", 1, 0)], "next": null}),
        ];
        let expected = json!({
            "functions": [function("a/a", 4, 5), function("a/b", 1, 0)],
            "next": "a/b",
        });
        assert_eq!(merged("/api/functions", &lists), expected);
    }
}
