//! Ids and trace contexts of what an answer sends.

use satchel_protocol::reqreply::TypedValue;

use crate::message::{IdSource, MessageId};
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
}

impl Effects {
    pub(super) fn new(parents: Vec<Parent>) -> Self {
        let (parents, traces): (Vec<_>, Vec<_>) = parents.into_iter().unzip();
        Self {
            next: vec![0; parents.len() + 1],
            parents,
            traces,
        }
    }

    /// Returns the next id. `cause` is 1 + the index of the message that caused the effect, or 0 if
    /// it is unknown.
    pub(super) fn next_id(&mut self, cause: u32, argument: &TypedValue) -> MessageId {
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
    /// batch, so the effect has a context only if all messages of the batch have the same one.
    pub(super) fn trace(&self, cause: u32) -> Option<TraceParent> {
        match self.known(cause).checked_sub(1) {
            Some(parent) => self.traces[parent],
            None => {
                let first = *self.traces.first()?;
                first.filter(|_| self.traces.iter().all(|trace| *trace == first))
            }
        }
    }

    fn known(&self, cause: u32) -> usize {
        let known = usize::try_from(cause)
            .ok()
            .filter(|cause| *cause <= self.parents.len());
        known.unwrap_or(0)
    }
}
