//! The application as observed: `GET /api/graph`.
//!
//! Functions, ingresses and egresses are nodes. An edge counts the messages between two of them
//! since the start of the partitions at this process, so that two answers show a rate.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use satchel_engine::partition::{GraphEdge, GraphNode, GraphView};
use serde::Serialize;

use super::admin::{Admin, Shared, json_response};
use super::error::ApiError;

/// Route of the graph.
pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new().route("/api/graph", get(show))
}

#[derive(Serialize)]
struct GraphBody {
    edges: Vec<EdgeBody>,
}

#[derive(Serialize)]
struct EdgeBody {
    /// Name of the edge, or `other`: all edges beyond the limit.
    edge: String,
    from: Option<NodeBody>,
    to: Option<NodeBody>,
    messages: u64,
}

#[derive(Serialize)]
struct NodeBody {
    kind: &'static str,
    name: String,
}

async fn show(State(admin): Shared, request: Request) -> Result<Response, ApiError> {
    admin.observe(request)?;
    let views = admin.observed(|partition| partition.graph()).await?;
    let edges = edges(views.into_iter().map(|(_, view)| view));
    Ok(json_response(StatusCode::OK, &GraphBody { edges }))
}

/// Adds the edges of several partitions.
fn edges(views: impl IntoIterator<Item = GraphView>) -> Vec<EdgeBody> {
    let mut counts: BTreeMap<(GraphNode, GraphNode), u64> = BTreeMap::new();
    let mut other = 0;
    for view in views {
        other += view.other;
        for GraphEdge { from, to, messages } in view.edges {
            *counts.entry((from, to)).or_default() += messages;
        }
    }
    let mut edges: Vec<_> = counts.into_iter().map(EdgeBody::of).collect();
    if other > 0 {
        edges.push(EdgeBody {
            edge: "other".to_owned(),
            from: None,
            to: None,
            messages: other,
        });
    }
    edges
}

impl EdgeBody {
    fn of(((from, to), messages): ((GraphNode, GraphNode), u64)) -> Self {
        let named = |node: &GraphNode| match &*node.name {
            "" => node.kind.as_str().to_owned(),
            name => format!("{} {name}", node.kind.as_str()),
        };
        let body = |node: GraphNode| NodeBody {
            kind: node.kind.as_str(),
            name: node.name,
        };
        Self {
            edge: format!("{} > {}", named(&from), named(&to)),
            from: Some(body(from)),
            to: Some(body(to)),
            messages,
        }
    }
}

#[cfg(test)]
mod tests {
    use satchel_engine::partition::NodeKind;
    use serde_json::json;

    use super::*;

    fn edge(from: (NodeKind, &str), to: (NodeKind, &str), messages: u64) -> GraphEdge {
        let node = |(kind, name): (NodeKind, &str)| GraphNode {
            kind,
            name: name.to_owned(),
        };
        GraphEdge {
            from: node(from),
            to: node(to),
            messages,
        }
    }

    #[test]
    fn edges_of_several_partitions_add_up() {
        let (ingress, function) = ((NodeKind::Ingress, "a/in"), (NodeKind::Function, "a/f"));
        let callers = (NodeKind::Callers, "");
        let one = GraphView {
            edges: vec![edge(ingress, function, 3), edge(callers, function, 1)],
            other: 2,
        };
        let more = GraphView {
            edges: vec![edge(ingress, function, 4), edge(function, callers, 5)],
            other: 0,
        };
        let (ingress, function, callers) = (
            json!({"kind": "ingress", "name": "a/in"}),
            json!({"kind": "function", "name": "a/f"}),
            json!({"kind": "callers", "name": ""}),
        );
        let expected = json!([
            {"edge": "ingress a/in > function a/f", "from": ingress, "to": function, "messages": 7},
            {"edge": "callers > function a/f", "from": callers, "to": function, "messages": 1},
            {"edge": "function a/f > callers", "from": function, "to": callers, "messages": 5},
            {"edge": "other", "from": null, "to": null, "messages": 2},
        ]);
        let edges = serde_json::to_value(edges([one, more])).unwrap();
        assert_eq!(edges, expected);
    }
}
