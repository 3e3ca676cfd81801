//! Traces as JSON.

use std::collections::BTreeSet;

use satchel_engine::hex::Hex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::steps::{name_of, outcome_of, target_of};
use super::store::{HopStory, Tree};
use super::{Arc, TimedStep, TraceFilter};
use crate::module::format_rfc3339;

/// A trace: its hops in the order in which they began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TraceBody {
    /// Id of the trace, 32 hexadecimal digits.
    pub(crate) trace: String,
    /// Time of the first event.
    pub(crate) begun_at: String,
    /// Time from the first event to the last one that is known, in microseconds.
    pub(crate) duration_us: u64,
    /// Hops.
    pub(crate) hops: Vec<HopBody>,
    /// Number of hops that were not kept because there are too many.
    pub(crate) omitted_hops: usize,
}

/// A hop of a trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct HopBody {
    /// Id of the message, record or reply, 32 hexadecimal digits.
    pub(crate) id: String,
    /// Id of its span, 16 hexadecimal digits.
    pub(crate) span: String,
    /// Span that caused it; none for the root of a trace that began here.
    pub(crate) parent: Option<String>,
    /// `message`, `record` or `reply`.
    pub(crate) kind: String,
    /// Address `namespace/name/id` that it is for, or egress `namespace/type`.
    pub(crate) target: Option<String>,
    /// Present state.
    pub(crate) state: String,
    /// True once the conclusion is durable.
    pub(crate) durable: bool,
    /// Number of attempts so far.
    pub(crate) attempts: usize,
    /// Events, oldest first.
    pub(crate) steps: Vec<StepBody>,
    /// Number of events that were left out between the first and the last ones.
    pub(crate) omitted_steps: usize,
}

/// An event of a hop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StepBody {
    /// Time, in microseconds since the epoch.
    pub(crate) at_us: u64,
    /// Partition that reported it.
    pub(crate) partition: u32,
    /// Name of the event.
    pub(crate) step: String,
    /// Details, which depend on the event.
    #[serde(flatten)]
    pub(crate) details: Map<String, Value>,
}

/// A trace in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SummaryBody {
    /// Id of the trace, 32 hexadecimal digits.
    pub(crate) trace: String,
    /// Time of the first event.
    pub(crate) begun_at: String,
    /// The same, in microseconds since the epoch.
    pub(crate) begun_us: u64,
    /// Time from the first event to the last one that is known, in microseconds.
    pub(crate) duration_us: u64,
    /// Target of the hop that began first.
    pub(crate) first: Option<String>,
    /// Number of hops.
    pub(crate) hops: usize,
    /// Number of hops that are not concluded.
    pub(crate) pending: usize,
    /// True if a message was given up, rejected, or waits after a failure.
    pub(crate) failed: bool,
    /// Functions of the hops, `namespace/name`.
    pub(crate) functions: BTreeSet<String>,
    /// Addresses of the hops, for filters. They are not shown.
    #[serde(skip)]
    addresses: BTreeSet<String>,
}

impl SummaryBody {
    pub(super) fn matches(&self, filter: &TraceFilter) -> bool {
        let function = filter.function.as_deref();
        let address = filter.address.as_deref();
        function.is_none_or(|function| self.functions.contains(function))
            && address.is_none_or(|address| self.addresses.contains(address))
            && (self.failed || !filter.failed)
    }
}

impl HopBody {
    /// Derives what the events say together.
    pub(super) fn conclude(&mut self) {
        self.steps.sort_by_key(|step| step.at_us);
        let text = |step: &StepBody, name: &str| {
            let value = step.details.get(name)?.as_str();
            value.map(str::to_owned)
        };
        let mut state = "received";
        for step in &self.steps {
            let outcome = step.details.get("outcome").and_then(Value::as_str);
            if let Some(next) = state_after(&step.step, outcome) {
                state = next;
            }
            match step.step.as_str() {
                "emitted" => self.kind = "record".to_owned(),
                "replied" => self.kind = "reply".to_owned(),
                _ => {}
            }
            let target = text(step, "target").or_else(|| text(step, "egress"));
            if target.is_some() {
                self.target = target;
            }
            let is = |name: &str| step.details.get(name).and_then(Value::as_bool);
            self.durable |= step.step == "committed" && is("concluded") == Some(true);
        }
        self.state = state.to_owned();
        let invoked = self.steps.iter().filter(|step| step.step == "invoked");
        self.attempts = invoked.count();
    }

    fn begun_us(&self) -> u64 {
        self.steps.first().map_or(u64::MAX, |step| step.at_us)
    }

    fn ended_us(&self) -> u64 {
        self.steps.last().map_or(0, |step| step.at_us)
    }
}

/// States in which a message was given up, rejected, or waits after a failure.
const FAILED: [&str; 5] = ["dead_letter", "rejected", "suspended", "failed", "deferred"];

/// States in which a hop needs nothing more.
const CONCLUDED: [&str; 6] = [
    "done",
    "left",
    "replied",
    "rejected",
    "dead_letter",
    "cancelled",
];

/// State of a hop after an event, with the outcome of an attempt, if it changes the state.
fn state_after(step: &str, outcome: Option<&str>) -> Option<&'static str> {
    Some(match step {
        "queued" | "fired" | "recovered" => "waiting",
        "delayed" => "delayed",
        "forwarded" => "forwarded",
        "invoked" | "requested" => "in_flight",
        "answered" => match outcome {
            Some("ok") => "done",
            Some("failed") => "failed",
            _ => "waiting",
        },
        "deferred" => "deferred",
        "suspended" => "suspended",
        "blocked" => "blocked",
        "emitted" => "outbox",
        "left" => "left",
        "replied" => "replied",
        "rejected" => "rejected",
        "dead_letter" => "dead_letter",
        "cancelled" => "cancelled",
        _ => return None,
    })
}

fn hop_of(story: &HopStory, endpoints: &[Arc<str>]) -> HopBody {
    let parent = story.hop.parent_id();
    let steps = story.steps.iter();
    let mut body = HopBody {
        id: story.hop.id.to_string(),
        span: Hex(&story.hop.span_id()).to_string(),
        parent: parent.map(|parent| Hex(&parent).to_string()),
        kind: "message".to_owned(),
        target: None,
        state: String::new(),
        durable: false,
        attempts: 0,
        steps: steps.map(|step| StepBody::of(step, endpoints)).collect(),
        omitted_steps: story.omitted,
    };
    body.conclude();
    body
}

/// Converts a trace. `endpoints` are the names of the endpoints by index.
pub(super) fn trace_of(
    trace: [u8; 16],
    (hops, omitted): (&[HopStory], usize),
    endpoints: &[Arc<str>],
) -> TraceBody {
    let hops = hops.iter().map(|story| hop_of(story, endpoints));
    TraceBody::of(Hex(&trace).to_string(), hops.collect(), omitted)
}

impl TraceBody {
    /// Makes a trace of concluded hops.
    pub(super) fn of(trace: String, mut hops: Vec<HopBody>, omitted_hops: usize) -> Self {
        hops.sort_by(|one, other| {
            let key = |hop: &HopBody| (hop.begun_us(), hop.parent.is_some());
            key(one).cmp(&key(other)).then(one.id.cmp(&other.id))
        });
        let begun_us = hops.iter().map(HopBody::begun_us).min().unwrap_or(0);
        let ended_us = hops.iter().map(HopBody::ended_us).max().unwrap_or(0);
        Self {
            trace,
            begun_at: format_rfc3339(begun_us / 1000),
            duration_us: ended_us.saturating_sub(begun_us),
            hops,
            omitted_hops,
        }
    }
}

/// Sums a trace up. Visits every event, and makes no texts but those of the answer.
pub(super) fn summary_of(trace: [u8; 16], tree: &Tree) -> SummaryBody {
    let (mut begun_us, mut ended_us) = (u64::MAX, 0);
    let mut first = None;
    let (mut hops, mut pending, mut failed) = (0, 0, false);
    let (mut functions, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for story in &tree.hops {
        let mut state = "received";
        for TimedStep { at_us, step, .. } in &story.steps {
            if let Some(next) = state_after(name_of(step), outcome_of(step)) {
                state = next;
            }
            if let Some(target) = target_of(step) {
                functions.insert(&target.function);
                addresses.insert(target);
            }
            begun_us = begun_us.min(*at_us);
            ended_us = ended_us.max(*at_us);
        }
        first = first.or_else(|| story.steps.iter().find_map(|it| target_of(&it.step)));
        // One that was forwarded is a hop of the partition that took it.
        if state != "forwarded" {
            hops += 1;
            pending += usize::from(!CONCLUDED.contains(&state));
        }
        failed |= FAILED.contains(&state);
    }
    SummaryBody {
        trace: Hex(&trace).to_string(),
        begun_at: format_rfc3339(begun_us / 1000),
        begun_us,
        duration_us: ended_us.saturating_sub(begun_us),
        first: first.map(ToString::to_string),
        hops,
        pending,
        failed,
        functions: functions.into_iter().map(ToString::to_string).collect(),
        addresses: addresses.into_iter().map(ToString::to_string).collect(),
    }
}
