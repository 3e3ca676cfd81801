//! Recording of stories: what happens to the messages of sampled traces.
//!
//! Without stories ([`super::Config::stories`] is `None`) each place that records one costs a
//! branch. The queue of events is bounded, so a driver that takes none loses nothing but stories.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Partition;
use super::effects::Parent;
use super::notices::shortened;
use crate::address::Address;
use crate::invocation::{AttemptId, EndpointIndex, Failure};
use crate::map::Map;
use crate::message::{Message, MessageId};
use crate::story::{AttemptOutcome, Hop, Sampling, Step, StoryEvent};
use crate::trace::TraceParent;

/// Maximum number of events kept for the driver. More are counted and dropped.
const EVENTS_MAX: usize = 1 << 16;

/// Maximum number of hops that an event names beside its own.
const BATCH_HOPS_MAX: usize = 128;

/// Events that the driver has not taken yet, and hops whose latest events are not durable.
pub(super) struct Stories {
    sampling: Sampling,
    epoch: u64,
    /// Messages with numbers below this one were pending when the owner took over.
    recovered_below: u64,
    events: VecDeque<StoryEvent>,
    missed: u64,
    /// Hops to be reported with the next delta, and whether they are concluded.
    unsealed: Map<MessageId, (Hop, bool)>,
    /// The same of deltas that are not durable, in their order.
    sealed: VecDeque<(u64, Vec<(Hop, bool)>)>,
}

impl Stories {
    pub(super) fn new(sampling: Sampling, epoch: u64, next_number: u64) -> Self {
        Self {
            sampling,
            epoch,
            recovered_below: next_number,
            events: VecDeque::new(),
            missed: 0,
            unsealed: Map::default(),
            sealed: VecDeque::new(),
        }
    }

    fn push(&mut self, hop: Hop, step: Step) {
        if self.events.len() < EVENTS_MAX {
            self.events.push_back(StoryEvent { hop, step });
        } else {
            self.missed += 1;
        }
    }

    fn commit(&mut self, hop: Hop, concluded: bool) {
        if self.unsealed.len() < EVENTS_MAX {
            let known = self.unsealed.entry(hop.id).or_insert((hop, false));
            known.1 |= concluded;
        }
    }

    fn take_unsealed(&mut self) -> Vec<(Hop, bool)> {
        let mut hops: Vec<_> = self.unsealed.drain().map(|(_, hop)| hop).collect();
        hops.sort_unstable_by_key(|(hop, _)| hop.id);
        hops
    }

    fn durable(&mut self, delta: u64, hops: Vec<(Hop, bool)>) {
        let epoch = self.epoch;
        for (hop, concluded) in hops {
            let committed = Step::Committed {
                epoch,
                delta,
                concluded,
            };
            self.push(hop, committed);
        }
    }
}

/// Returns the hop of a message, if its trace is sampled.
fn sampled(id: MessageId, trace: Option<TraceParent>) -> Option<Hop> {
    let trace = trace.filter(TraceParent::is_sampled)?;
    Some(Hop { id, trace })
}

impl Partition {
    /// Takes the events since the last call, oldest first, and the number of those that were
    /// dropped because the driver took none for too long. There are none without
    /// [`Config::stories`](super::Config::stories).
    pub fn take_story_events(&mut self) -> (Vec<StoryEvent>, u64) {
        match &mut self.stories {
            Some(stories) => (
                std::mem::take(&mut stories.events).into(),
                std::mem::take(&mut stories.missed),
            ),
            None => (Vec::new(), 0),
        }
    }

    /// Returns the trace context of a message that comes from outside, with this one or without.
    pub(super) fn begin_trace(
        &self,
        id: MessageId,
        context: Option<TraceParent>,
    ) -> Option<TraceParent> {
        match &self.stories {
            Some(stories) => stories.sampling.begin(id, context),
            None => context,
        }
    }

    /// Returns the trace context of what follows from a message or a dead letter.
    pub(super) fn trace_through(
        &self,
        id: MessageId,
        trace: Option<TraceParent>,
    ) -> Option<TraceParent> {
        match sampled(id, trace).filter(|_| self.stories.is_some()) {
            Some(hop) => Some(hop.trace.through(id.0)),
            None => trace,
        }
    }

    /// Records an event of a message, if its trace is sampled.
    pub(super) fn tell(
        &mut self,
        id: MessageId,
        trace: Option<TraceParent>,
        step: impl FnOnce() -> Step,
    ) {
        if let Some(stories) = &mut self.stories
            && let Some(hop) = sampled(id, trace)
        {
            stories.push(hop, step());
        }
    }

    /// Records an event of a message whose durability matters: with it the message is pending or
    /// concluded.
    pub(super) fn tell_fact(
        &mut self,
        (id, trace): Parent,
        concluded: bool,
        step: impl FnOnce() -> Step,
    ) {
        if let Some(stories) = &mut self.stories
            && let Some(hop) = sampled(id, trace)
        {
            stories.push(hop, step());
            stories.commit(hop, concluded);
        }
    }

    /// Records that a message entered the mailbox of its target.
    pub(super) fn tell_queued(&mut self, target: &Address, message: &Message) {
        self.tell_fact((message.id, message.trace), false, || Step::Queued {
            target: target.clone(),
            typename: message.argument.typename.as_str().into(),
            bytes: message.argument.value.len(),
        });
    }

    /// Records an event of the first `messages` messages of a mailbox.
    pub(super) fn tell_batch(
        &mut self,
        address: &Address,
        messages: usize,
        concluded: bool,
        step: impl Fn() -> Step,
    ) {
        let Some(stories) = &mut self.stories else {
            return;
        };
        let Some(active) = self.tables.active(address) else {
            return;
        };
        for (_, message) in active.mailbox.iter().take(messages) {
            if let Some(hop) = sampled(message.id, message.trace) {
                stories.push(hop, step());
                if concluded {
                    stories.commit(hop, true);
                }
            }
        }
    }

    /// Records that the first `messages` messages of a mailbox are in a batch.
    pub(super) fn tell_invoked(
        &mut self,
        address: &Address,
        attempt: AttemptId,
        endpoint: EndpointIndex,
        messages: usize,
    ) {
        if self.stories.is_none() {
            return;
        }
        let batch = self.batch_hops(address, messages);
        self.tell_batch(address, messages, false, || Step::Invoked {
            attempt,
            endpoint,
            target: address.clone(),
            messages,
            batch: batch.clone(),
        });
    }

    /// Returns the sampled hops among the first messages of a mailbox, if there are several.
    fn batch_hops(&self, address: &Address, messages: usize) -> Option<Arc<[Hop]>> {
        let active = self.tables.active(address)?;
        let batch = active.mailbox.iter().take(messages);
        let hops = batch.filter_map(|(_, message)| sampled(message.id, message.trace));
        let hops: Vec<_> = hops.take(BATCH_HOPS_MAX).collect();
        (hops.len() > 1).then(|| hops.into())
    }

    /// Records that the batch with the first messages of a mailbox was answered, or was not.
    pub(super) fn tell_answered(
        &mut self,
        address: &Address,
        (number, messages): (u64, usize),
        outcome: &AttemptOutcome,
    ) {
        if self.stories.is_none() {
            return;
        }
        let attempt = AttemptId {
            partition: self.config.partition,
            epoch: self.epoch,
            number,
        };
        let concluded = *outcome == AttemptOutcome::Ok;
        self.tell_batch(address, messages, concluded, || Step::Answered {
            attempt,
            outcome: outcome.clone(),
        });
    }

    /// Records that a batch failed.
    pub(super) fn tell_failed(
        &mut self,
        address: &Address,
        (attempt, messages): (u64, usize),
        failure: &Failure,
    ) {
        if self.stories.is_some() {
            let outcome = AttemptOutcome::Failed {
                kind: failure.kind,
                reason: shortened(&failure.message).into(),
            };
            self.tell_answered(address, (attempt, messages), &outcome);
        }
    }

    /// Records the messages that the former owner left in a mailbox.
    pub(super) fn tell_recovered(&mut self, address: &Address) {
        let (Some(stories), Some(active)) = (&mut self.stories, self.tables.active(address)) else {
            return;
        };
        let below = stories.recovered_below;
        for (_, message) in active.mailbox.iter().filter(|(number, _)| *number < below) {
            if let Some(hop) = sampled(message.id, message.trace) {
                let target = address.clone();
                stories.push(hop, Step::Recovered { target });
            }
        }
    }

    /// Assigns the events since the last seal to a delta. What changed nothing that is durable is
    /// as durable as the last delta.
    pub(super) fn seal_stories(&mut self, delta: u64) {
        let durable = self.commits.durable();
        let Some(stories) = &mut self.stories else {
            return;
        };
        if stories.unsealed.is_empty() {
            return;
        }
        let hops = stories.take_unsealed();
        if delta <= durable {
            stories.durable(delta, hops);
        } else {
            stories.sealed.push_back((delta, hops));
        }
    }

    /// Records that the deltas up to `delta` are durable.
    pub(super) fn commit_stories(&mut self, delta: u64) {
        let Some(stories) = &mut self.stories else {
            return;
        };
        while let Some((number, _)) = stories.sealed.front()
            && *number <= delta
            && let Some((number, hops)) = stories.sealed.pop_front()
        {
            stories.durable(number, hops);
        }
    }
}
