//! Stories of messages: what happened to each message of a sampled trace, hop by hop.
//!
//! A hop is a message, a record of an egress or the reply to a call. Its id is that of the message,
//! which is the same at every attempt and under every owner. So the events of a hop from several
//! owners, and from several processes, are of one hop.
//!
//! A trace is sampled or not at its root, by the id of the root message, or by the flag of a trace
//! context from outside. The decision travels in the trace context of each message. All partitions
//! and processes therefore agree, and a crash changes nothing.
//!
//! Events are observations, like notices: they may precede the commit of what they report, and a
//! crash may undo what they report. Nothing depends on them.

use std::sync::Arc;

use crate::address::Address;
use crate::invocation::{AttemptId, EndpointIndex};
use crate::message::MessageId;
use crate::request::{CallId, Verb};
use crate::trace::TraceParent;

/// Share of the traces that begin here and are sampled. Traces that begin outside are sampled if
/// their context says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    /// Minimum of the last 56 bits of a trace id that is sampled, as in OpenTelemetry's consistent
    /// probability sampling.
    threshold: u64,
    /// True if contexts from outside decide about their traces.
    honours_context: bool,
}

/// Number of values of the last 56 bits of an id.
const RANDOM_VALUES: u64 = 1 << 56;

impl Sampling {
    /// Samples this share of the traces, from 0 to 1, and those of sampled contexts.
    #[must_use]
    pub fn of_share(share: f64) -> Self {
        let sampled = share.clamp(0.0, 1.0) * RANDOM_VALUES as f64;
        Self {
            threshold: RANDOM_VALUES - (sampled as u64).min(RANDOM_VALUES),
            honours_context: true,
        }
    }

    /// The same share, whatever the contexts from outside say.
    #[must_use]
    pub fn without_contexts(self) -> Self {
        Self {
            honours_context: false,
            ..self
        }
    }

    /// Returns the context of a message from outside, with or without one of its own. `None` if it
    /// has none and its trace is not sampled.
    #[must_use]
    pub fn begin(self, message: MessageId, context: Option<TraceParent>) -> Option<TraceParent> {
        match context {
            None => {
                let root = TraceParent::root(message.0);
                self.takes(root.trace_id).then_some(root)
            }
            Some(context) if self.honours_context => Some(context),
            Some(context) => Some(context.sampled(self.takes(context.trace_id))),
        }
    }

    fn takes(self, trace_id: [u8; 16]) -> bool {
        let [.., a, b, c, d, e, f, g] = trace_id;
        u64::from_be_bytes([0, a, b, c, d, e, f, g]) >= self.threshold
    }
}

/// A message, record or reply of a sampled trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// Id of the message, record or reply.
    pub id: MessageId,
    /// Trace context that it came with: the span of the hop before it is the parent.
    pub trace: TraceParent,
}

impl Hop {
    /// Id of the span of the hop.
    #[must_use]
    pub fn span_id(&self) -> [u8; 8] {
        TraceParent::span_of(self.id.0)
    }

    /// Id of the span that caused the hop; none for the root of a trace that began here.
    #[must_use]
    pub fn parent_id(&self) -> Option<[u8; 8]> {
        (self.trace != TraceParent::root(self.id.0)).then_some(self.trace.parent_id)
    }
}

/// Event in the story of a hop.
#[derive(Debug, Clone, PartialEq)]
pub struct StoryEvent {
    /// The hop.
    pub hop: Hop,
    /// The event itself.
    pub step: Step,
}

/// Event of a hop.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A client called or sent.
    Requested {
        /// Kind of the request.
        verb: Verb,
        /// Id of the request.
        call: CallId,
    },
    /// A record of a shard or a message of a queue was read.
    Read {
        /// The shard or queue.
        source: Arc<str>,
        /// Sequence number or id within it.
        sequence: Arc<str>,
    },
    /// A function sent the message or the record.
    Sent {
        /// Address that sent it.
        from: Address,
        /// Hops of the batch, if it is not known which of several messages was the cause. The hop
        /// then begins a trace of its own.
        batch: Option<Arc<[Hop]>>,
    },
    /// An operator retried a dead letter.
    Retried {
        /// Id of the dead letter.
        letter: MessageId,
    },
    /// The message came from another partition.
    Taken {
        /// Number of that partition.
        partition: u32,
    },
    /// The owner found the message in its mailbox when it took over.
    Recovered {
        /// Address that the message is for.
        target: Address,
    },
    /// The message waits in the mailbox of its target.
    Queued {
        /// Address that the message is for.
        target: Address,
        /// Typename of the message.
        typename: Arc<str>,
        /// Size of the message, in bytes.
        bytes: usize,
    },
    /// The message waits for a timer.
    Delayed {
        /// Address that the message is for.
        target: Address,
        /// Due time, in ms since the epoch.
        until_ms: u64,
    },
    /// The timer of the message is due.
    Fired,
    /// The timer of the message was cancelled, or the record was dropped with the outbox of a fork.
    Cancelled,
    /// The message leaves for the partition that owns its target.
    Forwarded {
        /// Address that the message is for.
        target: Address,
        /// Number of that partition.
        partition: u32,
    },
    /// The message is in a batch that waits for a request.
    Invoked {
        /// The attempt.
        attempt: AttemptId,
        /// Endpoint of the function.
        endpoint: EndpointIndex,
        /// Address that processes the message.
        target: Address,
        /// Number of messages of the batch.
        messages: usize,
        /// Hops of the batch that are sampled, if there are several.
        batch: Option<Arc<[Hop]>>,
    },
    /// The function answered, or failed to.
    Answered {
        /// The attempt.
        attempt: AttemptId,
        /// Outcome of the attempt.
        outcome: AttemptOutcome,
    },
    /// The message is tried again later.
    Deferred {
        /// Time of the next attempt, in ms since the epoch.
        until_ms: u64,
    },
    /// The address waits for a person, with this message at the head of its mailbox.
    Suspended {
        /// Reason.
        reason: Arc<str>,
    },
    /// The message waits because its function stands still.
    Blocked {
        /// Reason.
        reason: Arc<str>,
    },
    /// The record waits in the outbox.
    Emitted {
        /// The egress, `namespace/type`.
        egress: Arc<str>,
        /// Typename of the record.
        typename: Arc<str>,
        /// Size of the record, in bytes.
        bytes: usize,
    },
    /// The egress delivered the record.
    Left,
    /// The message was rejected for good, and its caller has the verdict.
    Rejected {
        /// HTTP status for the caller.
        code: u16,
        /// Text for the caller.
        reason: Arc<str>,
    },
    /// The reply answers a call.
    Replied {
        /// Address that stands for the caller.
        caller: Address,
    },
    /// The message or record became a dead letter under its own id.
    DeadLetter {
        /// Reason.
        reason: Arc<str>,
        /// Number of attempts made.
        attempts: u32,
    },
    /// All events of the hop so far are durable.
    Committed {
        /// Ownership period of the delta.
        epoch: u64,
        /// Number of the delta within it.
        delta: u64,
        /// True if the hop is concluded; otherwise the message is pending.
        concluded: bool,
    },
}

/// Outcome of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The answer was applied.
    Ok,
    /// The function declared its states, and gets the messages again.
    Declared,
    /// The attempt failed.
    Failed {
        /// Kind of the failure, such as `throttled`.
        kind: crate::invocation::FailureKind,
        /// Reason.
        reason: Arc<str>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> MessageId {
        let mut id = [7; 16];
        id[9..13].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
        MessageId(id)
    }

    #[test]
    fn the_share_of_sampled_roots_is_the_one_that_was_asked_for() {
        for (share, expected) in [(0.0, 0), (0.25, 250), (0.5, 500), (1.0, 1000)] {
            let sampling = Sampling::of_share(share);
            let begun = (0..1000).filter(|number| sampling.begin(id(*number), None).is_some());
            let sampled = begun.count();
            assert!(sampled.abs_diff(expected) <= 10, "{share}: {sampled}");
        }
    }

    #[test]
    fn a_root_that_a_small_share_samples_is_sampled_by_every_larger_one() {
        let (small, large) = (Sampling::of_share(0.1), Sampling::of_share(0.3));
        let sampled = |sampling: Sampling, number| sampling.begin(id(number), None).is_some();
        assert!((0..1000).all(|number| !sampled(small, number) || sampled(large, number)));
    }

    #[test]
    fn a_context_from_outside_decides_about_its_trace_unless_it_is_ignored() {
        let context = |flags| TraceParent {
            trace_id: [5; 16],
            parent_id: [6; 8],
            flags,
        };
        let none = Sampling::of_share(0.0);
        assert_eq!(none.begin(id(1), Some(context(1))), Some(context(1)));
        assert_eq!(none.begin(id(1), None), None);
        let ignoring = none.without_contexts();
        assert_eq!(ignoring.begin(id(1), Some(context(1))), Some(context(0)));
        let all = Sampling::of_share(1.0);
        assert_eq!(all.begin(id(1), Some(context(0))), Some(context(0)));
        let ignoring = all.without_contexts();
        assert_eq!(ignoring.begin(id(1), Some(context(2))), Some(context(3)));
    }

    #[test]
    fn only_the_root_of_a_trace_has_no_parent() {
        let root = Sampling::of_share(1.0).begin(id(1), None).unwrap();
        let hop = |id, trace| Hop { id, trace };
        assert_eq!(root.trace_id, id(1).0);
        assert_eq!(hop(id(1), root).parent_id(), None);
        let sent = root.through(id(1).0);
        assert_eq!(hop(id(2), sent).parent_id(), Some([7; 8]));
        let outside = root.through(id(3).0);
        assert!(
            hop(
                id(1),
                TraceParent {
                    trace_id: [9; 16],
                    ..outside
                }
            )
            .parent_id()
            .is_some()
        );
    }
}
