//! Graph of an application as observed: numbers of messages between ingresses, functions, egresses
//! and callers.
//!
//! A message is counted where it is made: when a record or a request arrives, and when an answer is
//! applied. So a message to another partition counts once, at the sender. The counts are an
//! observation, lost with the process, and nothing decides by them.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use satchel_protocol::reqreply::TypedValue;
use satchel_protocol::reqreply::from_function::InvocationResponse;

use super::Partition;
use crate::address::{Address, FunctionType, RESERVED_NAMESPACE};

/// Maximum number of edges. Further ones are counted together.
const EDGES_MAX: usize = 512;

/// Maximum length of the names of an edge, in bytes. A function may send to any name.
const NAMES_BYTES_MAX: usize = 1024;

/// Kind of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeKind {
    /// Ingress.
    Ingress,
    /// Callers outside: requests come from them, and replies go to them.
    Callers,
    /// Function.
    Function,
    /// Egress.
    Egress,
}

impl NodeKind {
    /// Name of the kind in the HTTP API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Callers => "callers",
            Self::Function => "function",
            Self::Egress => "egress",
        }
    }
}

/// Node of the graph.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GraphNode {
    /// Kind.
    pub kind: NodeKind,
    /// `namespace/name`; empty for callers.
    pub name: String,
}

/// Edge of the graph.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GraphEdge {
    /// Origin of the messages.
    pub from: GraphNode,
    /// Target of the messages.
    pub to: GraphNode,
    /// Number of messages since the start of the partition at this owner.
    pub messages: u64,
}

/// Edges of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GraphView {
    /// Edges, in order.
    pub edges: Vec<GraphEdge>,
    /// Messages over edges beyond the limit.
    pub other: u64,
}

/// Node with borrowed names: kind, namespace, name. Ingresses have their id as name.
type Node<'a> = (NodeKind, &'a str, &'a str);

const CALLERS: Node<'static> = (NodeKind::Callers, "", "");

struct Edge {
    from: (NodeKind, Box<str>, Box<str>),
    to: (NodeKind, Box<str>, Box<str>),
    messages: u64,
}

/// Counts of the edges of a partition.
#[derive(Default)]
pub(super) struct Graph {
    edges: Vec<Edge>,
    /// Numbers of the edges, by their nodes.
    numbers: HashTable<usize>,
    /// Edge that was counted last.
    last: usize,
    /// Ingress, function and edge of the record that arrived last. Most records go the same way.
    arrival: Option<(Arc<str>, FunctionType, usize)>,
    other: u64,
}

impl Graph {
    /// Counts the messages that a record of an ingress became.
    pub(super) fn arrived(&mut self, ingress: &Arc<str>, messages: &[(Address, TypedValue)]) {
        for (Address { function, .. }, _) in messages {
            if let Some((from, to, edge)) = &self.arrival
                && Arc::ptr_eq(from, ingress)
                && to == function
            {
                self.edges[*edge].messages += 1;
                continue;
            }
            let counted = self.count((NodeKind::Ingress, "", ingress), of_function(function));
            self.arrival = counted.map(|edge| (Arc::clone(ingress), function.clone(), edge));
        }
    }

    /// Counts a request from outside.
    pub(super) fn requested(&mut self, function: &FunctionType) {
        self.count(CALLERS, of_function(function));
    }

    /// Counts what an answer sends. A delayed message counts when its timer is set.
    pub(super) fn sent(&mut self, function: &FunctionType, answer: &InvocationResponse) {
        let from = of_function(function);
        let messages = answer.outgoing_messages.iter();
        let messages = messages.filter_map(|message| message.target.as_ref());
        let delayed = answer.delayed_invocations.iter();
        let delayed = delayed.filter(|delayed| !delayed.is_cancellation_request);
        let delayed = delayed.filter_map(|delayed| delayed.target.as_ref());
        for target in messages.chain(delayed) {
            let to = match &*target.namespace {
                RESERVED_NAMESPACE => CALLERS,
                namespace => (NodeKind::Function, namespace, &*target.r#type),
            };
            self.count(from, to);
        }
        for egress in &answer.outgoing_egresses {
            let (namespace, name) = (&*egress.egress_namespace, &*egress.egress_type);
            self.count(from, (NodeKind::Egress, namespace, name));
        }
    }

    /// Counts a message. Returns the number of its edge, unless it is beyond the limit.
    fn count(&mut self, from: Node<'_>, to: Node<'_>) -> Option<usize> {
        if let Some(edge) = self.edges.get_mut(self.last)
            && edge.joins(from, to)
        {
            edge.messages += 1;
            return Some(self.last);
        }
        let hash = hash(from, to);
        let known = self
            .numbers
            .find(hash, |number| self.edges[*number].joins(from, to));
        let number = match known {
            Some(number) => *number,
            None => self.add(hash, from, to)?,
        };
        self.edges[number].messages += 1;
        self.last = number;
        Some(number)
    }

    fn add(&mut self, hash: u64, from: Node<'_>, to: Node<'_>) -> Option<usize> {
        let names = [from.1, from.2, to.1, to.2];
        let bytes = names.iter().map(|name| name.len()).sum::<usize>();
        if self.edges.len() >= EDGES_MAX || bytes > NAMES_BYTES_MAX {
            self.other += 1;
            return None;
        }
        let number = self.edges.len();
        let owned = |(kind, namespace, name): Node<'_>| (kind, namespace.into(), name.into());
        self.edges.push(Edge {
            from: owned(from),
            to: owned(to),
            messages: 0,
        });
        let edges = &self.edges;
        self.numbers
            .insert_unique(hash, number, |number| edges[*number].hash());
        Some(number)
    }

    fn view(&self) -> GraphView {
        let node = |(kind, namespace, name): &(NodeKind, Box<str>, Box<str>)| GraphNode {
            kind: *kind,
            name: match &**namespace {
                "" => name.to_string(),
                namespace => format!("{namespace}/{name}"),
            },
        };
        let edges = self.edges.iter().map(|edge| GraphEdge {
            from: node(&edge.from),
            to: node(&edge.to),
            messages: edge.messages,
        });
        let mut edges: Vec<_> = edges.collect();
        edges.sort();
        GraphView {
            edges,
            other: self.other,
        }
    }
}

impl Edge {
    fn joins(&self, from: Node<'_>, to: Node<'_>) -> bool {
        let is = |own: &(NodeKind, Box<str>, Box<str>), node: Node<'_>| {
            own.0 == node.0 && *own.2 == *node.2 && *own.1 == *node.1
        };
        is(&self.to, to) && is(&self.from, from)
    }

    fn hash(&self) -> u64 {
        let (from, to) = (&self.from, &self.to);
        hash((from.0, &from.1, &from.2), (to.0, &to.1, &to.2))
    }
}

fn hash(from: Node<'_>, to: Node<'_>) -> u64 {
    FixedState::default().hash_one((from, to))
}

fn of_function(function: &FunctionType) -> Node<'_> {
    (NodeKind::Function, function.namespace(), function.name())
}

impl Partition {
    /// Returns the messages between ingresses, functions, egresses and callers since the start of
    /// the partition at this owner.
    pub fn graph(&self) -> GraphView {
        self.graph.view()
    }
}
