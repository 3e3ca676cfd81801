//! The stories in memory: trees of hops by trace, the oldest of which go first.

use std::collections::{HashMap, VecDeque};

use satchel_engine::story::{AttemptOutcome, Hop, Step};

use super::{TimedStep, Told};

/// Maximum number of hops that are kept of one trace.
const HOPS_MAX: usize = 2_000;

/// Maximum number of events that are kept of one hop. Of more, those in the middle are left out.
const STEPS_MAX: usize = 100;

/// Number of the first events that are always kept.
const FIRST_STEPS: usize = 40;

/// Approximate size of a trace, a hop and an event besides their own texts, in bytes.
const TREE_BYTES: usize = 320;
const HOP_BYTES: usize = 400;
const STEP_BYTES: usize = 144;

type TraceId = [u8; 16];

/// Last bytes of the id of a request, whose first two name the key group of its target.
type RequestKey = [u8; 14];

/// Trees of hops by trace.
pub(super) struct Store {
    trees: HashMap<TraceId, Tree>,
    /// Traces in the order in which they were first seen.
    ages: VecDeque<TraceId>,
    messages: HashMap<[u8; 16], TraceId>,
    requests: HashMap<RequestKey, TraceId>,
    bytes: usize,
    bytes_max: usize,
}

/// Hops of a trace in this process.
#[derive(Default)]
pub(super) struct Tree {
    /// Hops in the order in which they were first seen.
    pub(super) hops: Vec<HopStory>,
    /// Number of hops beyond the limit.
    pub(super) omitted: usize,
    spans: HashMap<[u8; 8], usize>,
    requests: Vec<RequestKey>,
    bytes: usize,
}

/// Story of a hop in this process.
#[derive(Clone)]
pub(super) struct HopStory {
    /// The hop.
    pub(super) hop: Hop,
    /// Events, oldest first.
    pub(super) steps: Vec<TimedStep>,
    /// Number of events that were left out.
    pub(super) omitted: usize,
    /// True once the hop was exported.
    pub(super) is_exported: bool,
}

impl Store {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            trees: HashMap::new(),
            ages: VecDeque::new(),
            messages: HashMap::new(),
            requests: HashMap::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Adds an event to a hop. Returns the hop, unless the trace has too many.
    pub(super) fn add(&mut self, hop: Hop, step: TimedStep) -> Option<&mut HopStory> {
        let trace = hop.trace.trace_id;
        let tree = self.trees.entry(trace).or_insert_with(|| {
            self.ages.push_back(trace);
            self.bytes += TREE_BYTES;
            Tree {
                bytes: TREE_BYTES,
                ..Tree::default()
            }
        });
        let before = tree.bytes;
        if let Told::Engine(Step::Requested { call, .. }) = &step.step {
            let key = request_key(call.0);
            self.requests.insert(key, trace);
            tree.requests.push(key);
            tree.bytes += HOP_BYTES / 4;
        }
        let place = match tree.spans.get(&hop.span_id()) {
            Some(place) => *place,
            None if tree.hops.len() >= HOPS_MAX => {
                tree.omitted += 1;
                self.bytes += tree.bytes - before;
                return None;
            }
            None => {
                self.messages.insert(hop.id.0, trace);
                tree.spans.insert(hop.span_id(), tree.hops.len());
                tree.hops.push(HopStory {
                    hop,
                    steps: Vec::new(),
                    omitted: 0,
                    is_exported: false,
                });
                tree.bytes += HOP_BYTES;
                tree.hops.len() - 1
            }
        };
        tree.push(place, step);
        self.bytes = self.bytes + tree.bytes - before;
        tree.hops.get_mut(place)
    }

    /// Adds an event to the hop with this span, if it is known.
    pub(super) fn add_to_span(&mut self, trace: TraceId, span: [u8; 8], step: TimedStep) {
        let Some(tree) = self.trees.get_mut(&trace) else {
            return;
        };
        if let Some(place) = tree.spans.get(&span).copied() {
            let before = tree.bytes;
            tree.push(place, step);
            self.bytes = self.bytes + tree.bytes - before;
        }
    }

    /// Removes the oldest traces until the rest fits. Returns their number.
    pub(super) fn evict(&mut self) -> usize {
        let mut evicted = 0;
        while self.bytes > self.bytes_max
            && let Some(trace) = self.ages.pop_front()
        {
            let Some(tree) = self.trees.remove(&trace) else {
                continue;
            };
            for story in &tree.hops {
                self.messages.remove(&story.hop.id.0);
            }
            for key in &tree.requests {
                self.requests.remove(key);
            }
            self.bytes -= tree.bytes;
            evicted += 1;
        }
        evicted
    }

    /// Number of traces, and their approximate size in bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.trees.len(), self.bytes)
    }

    /// Returns the trace with this id, or with a message or request of this id.
    pub(super) fn find(&self, id: [u8; 16]) -> Option<(TraceId, &Tree)> {
        let of = |trace: TraceId| Some((trace, self.trees.get(&trace)?));
        let by_message = || of(*self.messages.get(&id)?);
        let by_request = || of(*self.requests.get(&request_key(id))?);
        of(id).or_else(by_message).or_else(by_request)
    }

    /// Iterates over the traces, newest first.
    pub(super) fn newest(&self) -> impl Iterator<Item = (TraceId, &Tree)> {
        let ages = self.ages.iter().rev();
        ages.filter_map(|trace| Some((*trace, self.trees.get(trace)?)))
    }
}

impl Tree {
    fn push(&mut self, place: usize, step: TimedStep) {
        let story = &mut self.hops[place];
        self.bytes += step_bytes(&step);
        if story.steps.len() >= STEPS_MAX {
            let left_out = story.steps.remove(FIRST_STEPS);
            self.bytes -= step_bytes(&left_out);
            story.omitted += 1;
        }
        story.steps.push(step);
    }
}

fn request_key(id: [u8; 16]) -> RequestKey {
    let [_, _, key @ ..] = id;
    key
}

/// Approximate size of an event, in bytes.
fn step_bytes(step: &TimedStep) -> usize {
    let texts = match &step.step {
        Told::Requested { .. } => 0,
        Told::Engine(step) => match step {
            Step::Read { source, sequence } => source.len() + sequence.len(),
            Step::Queued { target, .. }
            | Step::Delayed { target, .. }
            | Step::Forwarded { target, .. }
            | Step::Recovered { target } => target.id.len(),
            Step::Invoked { target, batch, .. } => {
                target.id.len() + batch.as_ref().map_or(0, |batch| batch.len() * 8)
            }
            Step::Sent { from, batch } => {
                from.id.len() + batch.as_ref().map_or(0, |batch| batch.len() * 48)
            }
            Step::Suspended { reason } | Step::Blocked { reason } => reason.len(),
            Step::DeadLetter { reason, .. } | Step::Rejected { reason, .. } => reason.len(),
            Step::Answered {
                outcome: AttemptOutcome::Failed { reason, .. },
                ..
            } => reason.len(),
            _ => 0,
        },
    };
    STEP_BYTES + texts
}
