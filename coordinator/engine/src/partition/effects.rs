//! Ids and trace contexts of what an answer sends.

use std::sync::Arc;

use satchel_protocol::reqreply::TypedValue;

use crate::message::{IdSource, MessageId};
use crate::story::Hop;
use crate::trace::TraceParent;

/// Id and trace context of a processed message.
pub(super) type Parent = (MessageId, Option<TraceParent>);

/// Derives ids and trace contexts for the effects of one answer, from the message that caused each
/// effect if the SDK reports it.
pub(super) struct Effects {
    parents: Vec<MessageId>,
    traces: Vec<Option<TraceParent>>,
    /// Next index of the effects of the batch as a whole, then of each message.
    next: Vec<u32>,
    /// True if the messages of sampled traces are spans.
    has_spans: bool,
}

impl Effects {
    pub(super) fn new(parents: Vec<Parent>, has_spans: bool) -> Self {
        let (parents, traces): (Vec<_>, Vec<_>) = parents.into_iter().unzip();
        Self {
            next: vec![0; parents.len() + 1],
            parents,
            traces,
            has_spans,
        }
    }

    /// Returns the id and the trace context of the next effect with this cause.
    pub(super) fn next(&mut self, cause: u32, argument: &TypedValue) -> Parent {
        let id = self.next_id(cause, argument);
        (id, self.trace(cause, id))
    }

    /// Returns the next id. `cause` is 1 + the index of the message that caused the effect, or 0 if
    /// it is unknown.
    fn next_id(&mut self, cause: u32, argument: &TypedValue) -> MessageId {
        let cause = self.known(cause);
        let index = self.next[cause];
        self.next[cause] += 1;
        let source = match cause.checked_sub(1) {
            Some(parent) => IdSource::Effect {
                parent: self.parents[parent],
                index,
            },
            None => IdSource::BatchEffect {
                parents: &self.parents,
                index,
            },
        };
        MessageId::derive(source, argument)
    }

    /// Returns the trace context of an effect with this cause. An unknown cause is one of the
    /// batch, so the effect has a context only if all messages of the batch have the same one. With
    /// spans, the effect of messages of several traces begins a trace of its own if any of them is
    /// sampled.
    fn trace(&self, cause: u32, id: MessageId) -> Option<TraceParent> {
        if let Some(parent) = self.known(cause).checked_sub(1) {
            return self.through(parent);
        }
        let first = *self.traces.first()?;
        if !self.has_spans {
            return first.filter(|_| self.traces.iter().all(|trace| *trace == first));
        }
        let identity = |trace: &Option<TraceParent>| trace.map(|it| (it.trace_id, it.flags));
        let mut traces = self.traces.iter();
        if traces.all(|trace| identity(trace) == identity(&first)) {
            return self.through(0);
        }
        let is_sampled = self.hops().next().is_some();
        is_sampled.then(|| TraceParent::root(id.0))
    }

    /// Context of what the message at this index causes.
    fn through(&self, parent: usize) -> Option<TraceParent> {
        let trace = self.traces[parent]?;
        let is_span = self.has_spans && trace.is_sampled();
        Some(match is_span {
            true => trace.through(self.parents[parent].0),
            false => trace,
        })
    }

    /// Returns the sampled hops of the batch, if the effect with this cause and context begins a
    /// trace because of them.
    pub(super) fn linked(&self, (id, trace): Parent) -> Option<Arc<[Hop]>> {
        let begins = self.has_spans && trace == Some(TraceParent::root(id.0));
        begins.then(|| self.hops().collect())
    }

    fn hops(&self) -> impl Iterator<Item = Hop> {
        let hops = self.parents.iter().zip(&self.traces);
        hops.filter_map(|(id, trace)| {
            let trace = trace.filter(TraceParent::is_sampled)?;
            Some(Hop { id: *id, trace })
        })
    }

    fn known(&self, cause: u32) -> usize {
        let known = usize::try_from(cause)
            .ok()
            .filter(|cause| *cause <= self.parents.len());
        known.unwrap_or(0)
    }
}
