//! Stories of messages, kept in memory for people: what happened to each message of a sampled
//! trace, hop by hop, with times.
//!
//! ```text
//!  partitions ──events──►┐            ┌─► /api/traces, `satchel trace`, the console
//!  dispatch ──requests──►├─ Stories ──┤
//!                        └ oldest out └─► concluded hops, to an exporter
//! ```
//!
//! A process has the events that happened in it. The process that a client asks adds those of the
//! others ([`merge`]). A story is an observation: it may be ahead of what is durable, it is lost
//! with the process, and nothing depends on it.

mod bodies;
#[cfg(any(test, feature = "aws"))]
pub(crate) mod merge;
mod steps;
mod store;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use satchel_clock::calendar_us;
use satchel_engine::invocation::Bundle;
use satchel_engine::story::{Hop, Step, StoryEvent};
use satchel_engine::trace::TraceParent;

pub(crate) use self::bodies::{StepBody, SummaryBody, TraceBody};
use self::bodies::{summary_of, trace_of};
use self::store::Store;
use crate::metrics::Metrics;

/// Stories of the messages of a process. Cheap to clone; clones share the content.
#[derive(Clone)]
pub(crate) struct Stories(Arc<Inner>);

struct Inner {
    store: Mutex<Store>,
    /// Names of the endpoints, in their order.
    endpoints: OnceLock<Vec<Arc<str>>>,
    metrics: Metrics,
    export: Option<Export>,
}

/// Receiver of hops that are concluded.
pub(crate) type Export = Box<dyn Fn(FinishedHop) + Send + Sync>;

/// Hop whose conclusion is durable.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FinishedHop {
    /// The hop.
    pub(crate) hop: Hop,
    /// Events of the hop in this process, oldest first.
    pub(crate) steps: Vec<TimedStep>,
    /// Names of the endpoints that the events refer to, in their order.
    pub(crate) endpoints: Vec<Arc<str>>,
}

/// Event of a hop, with its time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TimedStep {
    /// Time, in microseconds since the epoch.
    pub(crate) at_us: u64,
    /// Partition that reported it.
    pub(crate) partition: u32,
    /// The event.
    pub(crate) step: Told,
}

/// Event of a hop in a process.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Told {
    /// Event in the partition.
    Engine(Step),
    /// The batch of the message was sent in a request.
    Requested {
        /// Id of the request.
        bundle: Arc<str>,
        /// Number of batches in it.
        batches: usize,
    },
}

/// Conditions of a list of traces.
#[derive(Debug, Clone, Default)]
pub(crate) struct TraceFilter {
    /// A hop of the trace is of this function, `namespace/name`.
    pub(crate) function: Option<Arc<str>>,
    /// A hop of the trace is at this address, `namespace/name/id`.
    pub(crate) address: Option<String>,
    /// A message of the trace was given up, rejected, or waits after a failure.
    pub(crate) failed: bool,
}

impl Stories {
    /// Creates stories that take at most `bytes_max`, approximately.
    pub(crate) fn new(bytes_max: usize, metrics: Metrics, export: Option<Export>) -> Self {
        Self(Arc::new(Inner {
            store: Mutex::new(Store::new(bytes_max)),
            endpoints: OnceLock::new(),
            metrics,
            export,
        }))
    }

    /// Names the endpoints, in the order of their indexes.
    pub(crate) fn name_endpoints(&self, names: impl IntoIterator<Item = Arc<str>>) {
        // A process opens one application.
        let _ = self.0.endpoints.set(names.into_iter().collect());
    }

    /// Takes the events of a partition, and the number of those that were dropped there.
    pub(crate) fn told(&self, partition: u32, (events, missed): (Vec<StoryEvent>, u64)) {
        if events.is_empty() && missed == 0 {
            return;
        }
        let at_us = calendar_us();
        self.0.metrics.observe_story_events(events.len(), missed);
        let mut finished = Vec::new();
        let mut store = self.store();
        for StoryEvent { hop, step } in events {
            let concluded = matches!(
                step,
                Step::Committed {
                    concluded: true,
                    ..
                }
            );
            let step = TimedStep {
                at_us,
                partition,
                step: Told::Engine(step),
            };
            let story = store.add(hop, step);
            if concluded
                && self.0.export.is_some()
                && let Some(story) = story
                && !std::mem::replace(&mut story.is_exported, true)
            {
                finished.push((story.hop, story.steps.clone()));
            }
        }
        self.finish_change(store);
        for (hop, steps) in finished {
            let endpoints = self.endpoints().to_vec();
            if let Some(export) = &self.0.export {
                export(FinishedHop {
                    hop,
                    steps,
                    endpoints,
                });
            }
        }
    }

    /// Notes that a request is sent.
    pub(crate) fn requested(&self, bundle: &Bundle) {
        let messages = bundle.batches.iter().flat_map(|batch| {
            let partition = batch.attempt.partition;
            let messages = batch.messages.iter();
            messages.filter_map(move |message| Some((partition, message.trace?)))
        });
        let mut sampled = messages.filter(|(_, trace)| trace.is_sampled()).peekable();
        if sampled.peek().is_none() {
            return;
        }
        let at_us = calendar_us();
        let id: Arc<str> = bundle.id.to_string().into();
        let mut store = self.store();
        for (partition, trace) in sampled {
            // The function is a child of the span of its message.
            let TraceParent {
                trace_id,
                parent_id,
                ..
            } = trace;
            let step = TimedStep {
                at_us,
                partition,
                step: Told::Requested {
                    bundle: Arc::clone(&id),
                    batches: bundle.batches.len(),
                },
            };
            store.add_to_span(trace_id, parent_id, step);
        }
        self.finish_change(store);
    }

    /// Returns the trace with this id, or the one that has a message, a dead letter or a request
    /// with this id.
    pub(crate) fn find(&self, id: [u8; 16]) -> Option<TraceBody> {
        let store = self.store();
        let (trace, tree) = store.find(id)?;
        let (hops, omitted) = (tree.hops.clone(), tree.omitted);
        // Texts are made outside the lock, for which partitions may wait.
        drop(store);
        Some(trace_of(trace, (&hops, omitted), self.endpoints()))
    }

    /// Lists the newest traces that match.
    pub(crate) fn list(&self, filter: &TraceFilter, limit: usize) -> Vec<SummaryBody> {
        let store = self.store();
        let summaries = store.newest().map(|(trace, tree)| summary_of(trace, tree));
        let matching = summaries.filter(|summary| summary.matches(filter));
        matching.take(limit).collect()
    }

    fn endpoints(&self) -> &[Arc<str>] {
        self.0.endpoints.get().map_or(&[], |names| names)
    }

    /// Evicts what does not fit, and shows the size.
    fn finish_change(&self, mut store: MutexGuard<'_, Store>) {
        let evicted = store.evict();
        let (traces, bytes) = store.size();
        drop(store);
        self.0.metrics.observe_stories(traces, bytes, evicted);
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        // No code panics while it holds the lock.
        self.0.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Stories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stories")
    }
}
