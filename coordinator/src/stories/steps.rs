//! Events as JSON.

use std::sync::Arc;

use satchel_engine::address::{Address, RESERVED_NAMESPACE};
use satchel_engine::hex::Hex;
use satchel_engine::story::{AttemptOutcome, Hop, Step};
use serde_json::{Map, Value, json};

use super::{StepBody, TimedStep, Told};
use crate::module::format_rfc3339;
use crate::status::kind_name;

/// Name of an event.
pub(super) fn name_of(step: &Told) -> &'static str {
    let Told::Engine(step) = step else {
        return "requested";
    };
    match step {
        Step::Requested { .. } | Step::Read { .. } | Step::Sent { .. } | Step::Retried { .. } => {
            "received"
        }
        Step::Taken { .. } => "taken",
        Step::Recovered { .. } => "recovered",
        Step::Queued { .. } => "queued",
        Step::Delayed { .. } => "delayed",
        Step::Fired => "fired",
        Step::Cancelled => "cancelled",
        Step::Forwarded { .. } => "forwarded",
        Step::Invoked { .. } => "invoked",
        Step::Answered { .. } => "answered",
        Step::Deferred { .. } => "deferred",
        Step::Suspended { .. } => "suspended",
        Step::Blocked { .. } => "blocked",
        Step::Emitted { .. } => "emitted",
        Step::Left => "left",
        Step::Rejected { .. } => "rejected",
        Step::Replied { .. } => "replied",
        Step::DeadLetter { .. } => "dead_letter",
        Step::Committed { .. } => "committed",
    }
}

/// Outcome of an attempt: `ok`, `declared` or `failed`.
pub(super) fn outcome_of(step: &Told) -> Option<&'static str> {
    match step {
        Told::Engine(Step::Answered { outcome, .. }) => Some(match outcome {
            AttemptOutcome::Ok => "ok",
            AttemptOutcome::Declared => "declared",
            AttemptOutcome::Failed { .. } => "failed",
        }),
        _ => None,
    }
}

/// Address that an event names as that of its message.
pub(super) fn target_of(step: &Told) -> Option<&Address> {
    match step {
        Told::Engine(
            Step::Queued { target, .. }
            | Step::Delayed { target, .. }
            | Step::Forwarded { target, .. }
            | Step::Invoked { target, .. }
            | Step::Recovered { target },
        ) if target.function.namespace() != RESERVED_NAMESPACE => Some(target),
        _ => None,
    }
}

impl StepBody {
    /// Converts an event. `endpoints` are the names of the endpoints by index.
    pub(super) fn of(step: &TimedStep, endpoints: &[Arc<str>]) -> Self {
        let details = match &step.step {
            Told::Requested { bundle, batches } => json!({"request": bundle, "batches": batches}),
            Told::Engine(step) => describe(step, endpoints),
        };
        let details = match details {
            Value::Object(details) => details,
            _ => Map::new(),
        };
        Self {
            at_us: step.at_us,
            partition: step.partition,
            step: name_of(&step.step).into(),
            details,
        }
    }
}

fn describe(step: &Step, endpoints: &[Arc<str>]) -> Value {
    match step {
        Step::Requested { verb, .. } => json!({"by": verb.as_str()}),
        Step::Read { source, sequence } => {
            json!({"by": "record", "source": source, "sequence": sequence})
        }
        Step::Sent { from, batch: None } => json!({"by": "message", "from": from.to_string()}),
        Step::Sent {
            from,
            batch: Some(batch),
        } => json!({"by": "batch", "from": from.to_string(), "links": linked(batch)}),
        Step::Retried { letter } => json!({"by": "retry", "dead_letter": letter.to_string()}),
        Step::Taken { partition } => json!({"from_partition": partition}),
        Step::Recovered { target } => json!({"target": target.to_string()}),
        Step::Queued {
            target,
            typename,
            bytes,
        } => json!({"target": target.to_string(), "typename": typename, "bytes": bytes}),
        Step::Delayed { target, until_ms } => {
            json!({"target": target.to_string(), "until": format_rfc3339(*until_ms)})
        }
        Step::Forwarded { target, partition } => {
            json!({"target": target.to_string(), "to_partition": partition})
        }
        Step::Invoked {
            attempt,
            endpoint,
            target,
            messages,
            ..
        } => json!({
            "attempt": attempt.to_string(),
            "endpoint": endpoints.get(endpoint.0 as usize),
            "target": target.to_string(),
            "messages": messages,
        }),
        Step::Answered { attempt, outcome } => answered(&attempt.to_string(), outcome),
        Step::Deferred { until_ms } => json!({"until": format_rfc3339(*until_ms)}),
        Step::Suspended { reason } | Step::Blocked { reason } => json!({"reason": reason}),
        Step::Emitted {
            egress,
            typename,
            bytes,
        } => json!({"egress": egress, "typename": typename, "bytes": bytes}),
        Step::Rejected { code, reason } => json!({"code": code, "reason": reason}),
        Step::Replied { caller } => json!({"target": caller.to_string()}),
        Step::DeadLetter { reason, attempts } => json!({"reason": reason, "attempts": attempts}),
        Step::Committed {
            epoch,
            delta,
            concluded,
        } => json!({"epoch": epoch, "delta": delta, "concluded": concluded}),
        Step::Fired | Step::Cancelled | Step::Left => Value::Null,
    }
}

fn answered(attempt: &str, outcome: &AttemptOutcome) -> Value {
    match outcome {
        AttemptOutcome::Ok => json!({"attempt": attempt, "outcome": "ok"}),
        AttemptOutcome::Declared => json!({"attempt": attempt, "outcome": "declared"}),
        AttemptOutcome::Failed { kind, reason } => json!({
            "attempt": attempt,
            "outcome": "failed",
            "kind": kind_name(*kind),
            "reason": reason,
        }),
    }
}

/// Hops of other traces that caused a hop together.
fn linked(batch: &[Hop]) -> Value {
    let hops = batch.iter().map(|hop| {
        let trace = Hex(&hop.trace.trace_id).to_string();
        json!({"id": hop.id.to_string(), "trace": trace})
    });
    hops.collect()
}
