//! Stories of hops as spans, by the semantic conventions for messaging and for functions as a
//! service (version 1.37 of the conventions).

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::{Span, SpanFlags, Status, status::StatusCode};
use satchel_engine::address::{Address, RESERVED_NAMESPACE};
use satchel_engine::story::{AttemptOutcome, Hop, Step};
use satchel_engine::trace::TraceParent;

use crate::status::kind_name;
use crate::stories::{FinishedHop, TimedStep, Told};

/// Version of the semantic conventions.
pub(super) const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.37.0";

/// Makes an attribute.
pub(super) fn text(name: &str, value: impl Into<String>) -> KeyValue {
    attribute(name, Value::StringValue(value.into()))
}

fn number(name: &str, value: usize) -> KeyValue {
    attribute(
        name,
        Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)),
    )
}

fn attribute(name: &str, value: Value) -> KeyValue {
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// Facts about a hop, gathered from its events.
#[derive(Default)]
struct Facts<'a> {
    target: Option<&'a Address>,
    egress: Option<&'a str>,
    is_reply: bool,
    trigger: Option<&'static str>,
    links: Vec<Hop>,
    attributes: Vec<KeyValue>,
    attempts: usize,
    ended_us: Option<u64>,
    error: Option<(&'a str, String)>,
}

/// Makes the span of a hop.
pub(super) fn span_of(finished: &FinishedHop) -> Span {
    let FinishedHop {
        hop,
        steps,
        endpoints,
    } = finished;
    let mut facts = Facts::default();
    for step in steps {
        facts.take(step, endpoints);
    }
    let begun_us = steps.first().map_or(0, |step| step.at_us);
    let last_us = steps.last().map_or(begun_us, |step| step.at_us);
    let ended_us = facts.ended_us.unwrap_or(last_us).max(begun_us);
    let (name, kind) = facts.name_and_kind();
    let attributes = facts.attributes(hop, kind);
    let status = facts.error.as_ref().map(|(_, reason)| Status {
        message: reason.clone(),
        code: StatusCode::Error.into(),
    });
    let parent = hop.parent_id();
    // A parent that the process did not make itself came over the network.
    let is_remote = facts.trigger.is_some() && parent.is_some();
    Span {
        trace_id: hop.trace.trace_id.to_vec(),
        span_id: hop.span_id().to_vec(),
        parent_span_id: parent.map_or_else(Vec::new, |parent| parent.to_vec()),
        flags: u32::from(hop.trace.flags) | remote(is_remote),
        name,
        kind: kind.into(),
        start_time_unix_nano: begun_us * 1_000,
        end_time_unix_nano: ended_us * 1_000,
        attributes,
        events: steps.iter().filter_map(event_of).collect(),
        links: facts.links.iter().map(link_to).collect(),
        status,
        ..Span::default()
    }
}

fn remote(is_remote: bool) -> u32 {
    let known = SpanFlags::ContextHasIsRemoteMask as u32;
    match is_remote {
        true => known | SpanFlags::ContextIsRemoteMask as u32,
        false => known,
    }
}

fn link_to(hop: &Hop) -> Link {
    Link {
        trace_id: hop.trace.trace_id.to_vec(),
        span_id: TraceParent::span_of(hop.id.0).to_vec(),
        flags: u32::from(hop.trace.flags) | remote(false),
        ..Link::default()
    }
}

impl<'a> Facts<'a> {
    fn take(&mut self, step: &'a TimedStep, endpoints: &[std::sync::Arc<str>]) {
        let Told::Engine(event) = &step.step else {
            return;
        };
        match event {
            Step::Requested { verb, .. } => {
                self.trigger = Some("http");
                self.attributes
                    .push(text("satchel.request.verb", verb.as_str()));
            }
            Step::Read { source, sequence } => {
                self.trigger = Some("pubsub");
                self.attributes
                    .push(text("satchel.source", source.as_ref()));
                self.attributes
                    .push(text("satchel.source.sequence", sequence.as_ref()));
            }
            Step::Sent { from, batch } => {
                self.attributes
                    .push(text("satchel.sender", from.to_string()));
                self.links
                    .extend(batch.iter().flat_map(|batch| batch.iter()));
            }
            Step::Retried { letter } => {
                let id = letter.to_string();
                self.attributes.push(text("satchel.dead_letter.id", id));
            }
            Step::Fired => self.trigger = Some("timer"),
            Step::Queued {
                target,
                typename,
                bytes,
            } => {
                self.target = Some(target);
                self.attributes
                    .push(text("satchel.message.typename", typename.as_ref()));
                self.attributes
                    .push(number("messaging.message.body.size", *bytes));
            }
            Step::Emitted {
                egress,
                typename,
                bytes,
            } => {
                self.egress = Some(egress);
                self.attributes
                    .push(text("satchel.message.typename", typename.as_ref()));
                self.attributes
                    .push(number("messaging.message.body.size", *bytes));
            }
            Step::Recovered { target } | Step::Delayed { target, .. } => self.target = Some(target),
            Step::Invoked {
                endpoint,
                target,
                messages,
                batch,
                ..
            } => {
                self.target = Some(target);
                self.attempts += 1;
                let is_of_batch = |it: &KeyValue| {
                    ["messaging.batch.message_count", "satchel.endpoint"].contains(&&*it.key)
                };
                self.attributes.retain(|it| !is_of_batch(it));
                if *messages > 1 {
                    self.attributes
                        .push(number("messaging.batch.message_count", *messages));
                }
                if let Some(name) = endpoints.get(endpoint.0 as usize) {
                    self.attributes
                        .push(text("satchel.endpoint", name.as_ref()));
                }
                let others = batch.iter().flat_map(|batch| batch.iter().copied());
                self.links.extend(others);
            }
            Step::Answered { outcome, .. } => {
                self.ended_us = Some(step.at_us);
                self.error = match outcome {
                    AttemptOutcome::Failed { kind, reason } => {
                        Some((kind_name(*kind), reason.to_string()))
                    }
                    AttemptOutcome::Ok | AttemptOutcome::Declared => None,
                };
            }
            Step::Left | Step::Cancelled => self.ended_us = Some(step.at_us),
            Step::Replied { .. } => {
                self.is_reply = true;
                self.ended_us = Some(step.at_us);
            }
            Step::Rejected { reason, .. } => {
                self.ended_us = Some(step.at_us);
                self.error = Some(("rejected", reason.to_string()));
            }
            Step::DeadLetter { reason, .. } => {
                self.ended_us = Some(step.at_us);
                self.error = Some(("dead_letter", reason.to_string()));
            }
            Step::Taken { .. }
            | Step::Forwarded { .. }
            | Step::Deferred { .. }
            | Step::Suspended { .. }
            | Step::Blocked { .. }
            | Step::Committed { .. } => {}
        }
    }

    fn name_and_kind(&self) -> (String, SpanKind) {
        if let Some(egress) = self.egress {
            return (format!("send {egress}"), SpanKind::Producer);
        }
        if self.is_reply {
            return ("reply".to_owned(), SpanKind::Producer);
        }
        let function = self.function();
        let name = format!("process {}", function.as_deref().unwrap_or("message"));
        match self.trigger {
            Some("http") => (name, SpanKind::Server),
            _ => (name, SpanKind::Consumer),
        }
    }

    fn function(&self) -> Option<String> {
        let target = self.target?;
        let is_named = target.function.namespace() != RESERVED_NAMESPACE;
        is_named.then(|| target.function.to_string())
    }

    fn attributes(&mut self, hop: &Hop, kind: SpanKind) -> Vec<KeyValue> {
        let mut attributes = std::mem::take(&mut self.attributes);
        attributes.push(text("messaging.system", "satchel"));
        attributes.push(text("messaging.message.id", hop.id.to_string()));
        let (operation, typed) = match kind {
            SpanKind::Producer => ("send", "send"),
            _ => ("process", "process"),
        };
        attributes.push(text("messaging.operation.name", operation));
        attributes.push(text("messaging.operation.type", typed));
        if let Some(egress) = self.egress {
            attributes.push(text("messaging.destination.name", egress));
        }
        if let Some(function) = self.function() {
            attributes.push(text("messaging.destination.name", function.as_str()));
            attributes.push(text("faas.name", function));
            attributes.push(text("faas.trigger", self.trigger.unwrap_or("pubsub")));
            if let Some(target) = self.target {
                attributes.push(text("satchel.address.id", &*target.id));
            }
        }
        if self.attempts > 1 {
            attributes.push(number("satchel.attempts", self.attempts));
        }
        if let Some((kind, _)) = self.error {
            attributes.push(text("error.type", kind));
        }
        // A hop is no link of its own.
        self.links.retain(|linked| linked.id != hop.id);
        self.links.sort_unstable_by_key(|linked| linked.id);
        self.links.dedup_by_key(|linked| linked.id);
        attributes
    }
}

/// Event of a span, for what its attributes and times do not say.
fn event_of(step: &TimedStep) -> Option<Event> {
    let (name, attributes) = match &step.step {
        Told::Requested { bundle, batches } => (
            "requested",
            vec![
                text("satchel.request.id", bundle.as_ref()),
                number("satchel.request.batches", *batches),
            ],
        ),
        Told::Engine(step) => match step {
            Step::Invoked { attempt, .. } => (
                "invoked",
                vec![text("satchel.attempt.id", attempt.to_string())],
            ),
            Step::Answered { attempt, outcome } => {
                let mut attributes = vec![text("satchel.attempt.id", attempt.to_string())];
                if let AttemptOutcome::Failed { kind, reason } = outcome {
                    attributes.push(text("error.type", kind_name(*kind)));
                    attributes.push(text("satchel.reason", reason.as_ref()));
                }
                ("answered", attributes)
            }
            Step::Recovered { .. } => ("recovered", vec![]),
            Step::Taken { partition } => (
                "taken",
                vec![number("satchel.partition", *partition as usize)],
            ),
            Step::Fired => ("fired", vec![]),
            Step::Cancelled => ("cancelled", vec![]),
            Step::Left => ("left", vec![]),
            Step::Suspended { reason } => {
                ("suspended", vec![text("satchel.reason", reason.as_ref())])
            }
            Step::Blocked { reason } => ("blocked", vec![text("satchel.reason", reason.as_ref())]),
            Step::Committed {
                epoch,
                delta,
                concluded: true,
            } => (
                "committed",
                vec![text("satchel.delta", format!("{epoch}-{delta}"))],
            ),
            _ => return None,
        },
    };
    Some(Event {
        time_unix_nano: step.at_us * 1_000,
        name: name.to_owned(),
        attributes,
        ..Event::default()
    })
}
