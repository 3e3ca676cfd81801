//! Stories of messages: events, parents and sampling.

use std::collections::BTreeMap;

use satchel_protocol::reqreply::from_function::{
    DelayedInvocation, EgressMessage, Invocation, InvocationResponse,
};

use super::fixture::*;
use super::peering::pair::{Pair, id, sending};
use crate::endpoint::OnPoison;
use crate::input::{Administration, Input};
use crate::invocation::{FailureKind, Rejection};
use crate::message::MessageId;
use crate::output::{Answer, Output};
use crate::partition::Config;
use crate::position::ShardPosition;
use crate::story::{AttemptOutcome, Hop, Sampling, Step, StoryEvent};
use crate::trace::TraceParent;

fn telling(share: f64) -> Config {
    Config {
        stories: Some(Sampling::of_share(share)),
        ..config(OnPoison::DeadLetter)
    }
}

fn events(fixture: &mut Fixture) -> Vec<StoryEvent> {
    let (events, missed) = fixture.partition.take_story_events();
    assert_eq!(missed, 0);
    events
}

/// Stories of hops, in the order in which they began.
#[derive(Default)]
struct Told {
    order: Vec<Hop>,
    steps: BTreeMap<MessageId, Vec<Step>>,
}

impl Told {
    fn of(events: Vec<StoryEvent>) -> Self {
        let mut told = Self::default();
        told.add(events);
        told
    }

    fn add(&mut self, events: Vec<StoryEvent>) {
        for StoryEvent { hop, step } in events {
            match self.order.iter().find(|known| known.id == hop.id) {
                Some(known) => assert_eq!(*known, hop, "a hop has one context"),
                None => self.order.push(hop),
            }
            self.steps.entry(hop.id).or_default().push(step);
        }
    }

    /// Names of the events of the hop at this place.
    fn names(&self, place: usize) -> Vec<String> {
        self.steps[&self.order[place].id].iter().map(name).collect()
    }
}

/// Name of an event, with what matters most.
fn name(step: &Step) -> String {
    match step {
        Step::Queued { target, .. } => format!("queued for {}", target.id),
        Step::Recovered { target } => format!("recovered for {}", target.id),
        Step::Answered { outcome, .. } => match outcome {
            AttemptOutcome::Ok => "answered".to_owned(),
            AttemptOutcome::Declared => "declared".to_owned(),
            AttemptOutcome::Failed { reason, .. } => format!("failed: {reason}"),
        },
        Step::DeadLetter { attempts, .. } => format!("dead letter after {attempts}"),
        Step::Committed {
            concluded: true, ..
        } => "concluded durably".to_owned(),
        Step::Committed { .. } => "durable".to_owned(),
        Step::Forwarded { partition, .. } => format!("forwarded to {partition}"),
        Step::Taken { partition } => format!("taken from {partition}"),
        Step::Rejected { code, .. } => format!("rejected with {code}"),
        other => {
            let debug = format!("{other:?}");
            let end = debug.find([' ', '{']).unwrap_or(debug.len());
            debug[..end].to_lowercase()
        }
    }
}

fn span_of(hop: &Hop) -> Option<[u8; 8]> {
    Some(hop.span_id())
}

#[test]
fn a_call_that_fans_out_is_one_tree_with_right_parents() {
    let mut fixture = Fixture::with(telling(1.0));
    fixture.call("alice", "1");
    let first = fixture.batch();
    let caller = first.messages[0].caller.clone().unwrap();
    fixture.complete(
        first.attempt,
        effects(InvocationResponse {
            outgoing_messages: vec![
                message_to(&address("bob"), "2"),
                message_to(&caller, "reply"),
            ],
            delayed_invocations: vec![delayed("carol", 500, "later", "")],
            outgoing_egresses: vec![egress("out", "record")],
            ..Default::default()
        }),
    );
    let bob = fixture.batch();
    fixture.complete(bob.attempt, nothing());
    fixture.settle();
    let emitted = fixture.emissions();
    fixture.handle(Input::EgressAcked {
        numbers: vec![emitted[0].number],
    });
    fixture.later(500);
    let carol = fixture.batch();
    fixture.complete(carol.attempt, nothing());
    fixture.settle();
    let told = Told::of(events(&mut fixture));
    let [root, to_bob, reply, to_carol, record] = &told.order[..] else {
        panic!("five hops: {:?}", told.order);
    };
    assert_eq!(root.trace.trace_id, root.id.0, "the root names the trace");
    assert_eq!(root.parent_id(), None);
    for hop in [to_bob, reply, to_carol, record] {
        assert_eq!(hop.trace.trace_id, root.id.0);
        assert_eq!(hop.parent_id(), span_of(root));
    }
    let queued = "queued for bob";
    let bob_told = [
        "sent",
        queued,
        "invoked",
        "answered",
        "durable",
        "concluded durably",
    ];
    assert_eq!(
        told.names(0),
        [
            "requested",
            "queued for alice",
            "invoked",
            "answered",
            "concluded durably"
        ]
    );
    assert_eq!(told.names(1), bob_told);
    assert_eq!(told.names(2), ["sent", "replied", "concluded durably"]);
    assert_eq!(
        told.names(3),
        [
            "sent",
            "delayed",
            "durable",
            "fired",
            "queued for carol",
            "invoked",
            "answered",
            "durable",
            "concluded durably"
        ]
    );
    assert_eq!(
        told.names(4),
        ["sent", "emitted", "durable", "left", "concluded durably"]
    );
    // The function's own work is below the span of its message, and so is what it sends outside.
    let below = |hop: &Hop| Some(hop.trace.through(hop.id.0));
    assert_eq!(first.messages[0].trace, below(root));
    assert_eq!(bob.messages[0].trace, below(to_bob));
    assert_eq!(emitted[0].trace, below(root));
}

#[test]
fn a_hop_that_is_tried_again_after_a_crash_has_the_same_span_and_parent() {
    let mut fixture = Fixture::with(telling(1.0));
    fixture.send("alice", "1");
    let batch = fixture.batch();
    let next = vec![message_to(&address("bob"), "2")];
    fixture.complete(batch.attempt, sending(next));
    fixture.batch();
    fixture.settle();
    let before = Told::of(events(&mut fixture));
    assert_eq!(
        before.names(1),
        ["sent", "queued for bob", "invoked", "durable"]
    );
    fixture.crash();
    // After a crash, a message is tried once it is durable.
    fixture.settle();
    let batch = fixture.batch();
    fixture.complete(batch.attempt, nothing());
    fixture.settle();
    let after = Told::of(events(&mut fixture));
    assert_eq!(after.order, before.order[1..], "alice is concluded");
    assert_eq!(
        after.names(0),
        [
            "recovered for bob",
            "invoked",
            "answered",
            "concluded durably"
        ]
    );
    assert_eq!(after.order[0].parent_id(), span_of(&before.order[0]));
}

#[test]
fn what_a_crash_undoes_is_told_again_under_the_same_ids_and_was_never_called_durable() {
    let mut fixture = Fixture::with(telling(1.0));
    fixture.send("alice", "1");
    fixture.settle();
    let batch = fixture.batch();
    let next = || vec![message_to(&address("bob"), "2")];
    fixture.complete(batch.attempt, sending(next()));
    let before = Told::of(events(&mut fixture));
    assert_eq!(before.names(1), ["sent", "queued for bob", "invoked"]);
    fixture.crash();
    // After a crash, a message is tried once it is durable.
    fixture.settle();
    let batch = fixture.batch();
    fixture.complete(batch.attempt, sending(next()));
    fixture.settle();
    let after = Told::of(events(&mut fixture));
    assert_eq!(after.order, before.order);
    assert_eq!(after.names(0).last().unwrap(), "concluded durably");
}

#[test]
fn a_message_that_fails_tells_each_attempt_and_its_retry_is_its_child() {
    let mut fixture = Fixture::with(telling(1.0));
    fixture.send("alice", "1");
    for _ in 0..3 {
        let attempt = fixture.batch().attempt;
        fixture.fail(attempt, "it panicked");
        fixture.later(1_000);
    }
    fixture.settle();
    let told = Told::of(events(&mut fixture));
    let letter = told.order[0];
    assert_eq!(
        told.names(0),
        [
            "requested",
            "queued for alice",
            "invoked",
            "failed: it panicked",
            "deferred",
            "invoked",
            "failed: it panicked",
            "deferred",
            "invoked",
            "failed: it panicked",
            "dead letter after 3",
            "durable",
            "concluded durably"
        ]
    );
    let retried = fixture.administer(Administration::RetryDeadLetter(letter.id));
    assert_eq!(retried, Some(Answer::Done));
    let told = Told::of(events(&mut fixture));
    let again = told.order[0];
    assert_eq!(again.trace.trace_id, letter.id.0);
    assert_eq!(again.parent_id(), span_of(&letter));
    let names = told.names(0);
    assert_eq!(names[..3], ["retried", "queued for alice", "invoked"]);
}

#[test]
fn a_rejection_concludes_a_call_with_its_code() {
    let mut fixture = Fixture::with(telling(1.0));
    fixture.call("alice", "1");
    let attempt = fixture.batch().attempt;
    let failure = crate::invocation::Failure {
        kind: FailureKind::Terminal,
        rejection: Some(Rejection::new(None, 409, "sold out")),
        ..crate::invocation::Failure::new(FailureKind::Terminal, "sold out")
    };
    fixture.handle(Input::InvocationFailed { attempt, failure });
    fixture.settle();
    let told = Told::of(events(&mut fixture));
    let names = told.names(0);
    assert_eq!(
        names[names.len() - 3..],
        ["failed: sold out", "rejected with 409", "concluded durably"]
    );
}

#[test]
fn a_suspended_address_and_a_cancelled_timer_say_so() {
    let mut fixture = Fixture::with(Config {
        stories: Some(Sampling::of_share(1.0)),
        ..config(OnPoison::Suspend)
    });
    fixture.send("alice", "1");
    let first = fixture.batch();
    fixture.complete(
        first.attempt,
        later_messages(vec![delayed("bob", 500, "later", "token")]),
    );
    fixture.send("alice", "2");
    let second = fixture.batch();
    fixture.complete(second.attempt, later_messages(vec![cancellation("token")]));
    fixture.send("alice", "3");
    for _ in 0..3 {
        let attempt = fixture.batch().attempt;
        fixture.fail(attempt, "poison");
        fixture.later(1_000);
    }
    fixture.settle();
    let told = Told::of(events(&mut fixture));
    let timer = told.names(1);
    assert!(timer.contains(&"cancelled".to_owned()), "{timer:?}");
    assert_eq!(timer.last().unwrap(), "concluded durably");
    let poison = told.names(3);
    let suspended = Step::Suspended {
        reason: "poison".into(),
    };
    assert!(
        told.steps[&told.order[3].id].contains(&suspended),
        "{poison:?}"
    );
}

#[test]
fn a_message_between_partitions_is_one_hop_that_both_tell() {
    let mut pair = Pair::with(|config| config.stories = Some(Sampling::of_share(1.0)));
    pair.connect(0);
    pair.carry();
    pair.send(&["1"]);
    pair.sides[0].settle();
    pair.carry();
    pair.sides[1].settle();
    pair.carry();
    let batch = pair.sides[1].batch();
    pair.sides[1].complete(batch.attempt, nothing());
    pair.sides[1].settle();
    let sender = Told::of(events(&mut pair.sides[0]));
    let receiver = Told::of(events(&mut pair.sides[1]));
    assert_eq!(sender.names(1), ["sent", "forwarded to 1", "durable"]);
    let queued = format!("queued for {}", id(1, 0));
    assert_eq!(
        receiver.names(0)[..3],
        ["taken from 0", &*queued, "invoked"]
    );
    assert_eq!(receiver.names(0).last().unwrap(), "concluded durably");
    assert_eq!(receiver.order[0], sender.order[1]);
    assert_eq!(receiver.order[0].parent_id(), span_of(&sender.order[0]));
}

#[test]
fn a_context_from_outside_is_the_parent_and_decides_about_sampling() {
    let context = |flags| TraceParent {
        trace_id: [7; 16],
        parent_id: [8; 8],
        flags,
    };
    let mut fixture = Fixture::with(telling(0.5));
    fixture.trace = Some(context(1));
    fixture.send("alice", "1");
    let hop = events(&mut fixture)[0].hop;
    assert_eq!(hop.trace, context(1));
    assert_eq!(hop.parent_id(), Some([8; 8]));
    let sampled = fixture.batch();
    assert_eq!(
        sampled.messages[0].trace,
        Some(context(1).through(hop.id.0))
    );
    // One that is not sampled passes unchanged, as without stories.
    fixture.trace = Some(context(0));
    fixture.send("bob", "1");
    assert_eq!(fixture.batch().messages[0].trace, Some(context(0)));
    assert_eq!(events(&mut fixture), []);
}

#[test]
fn records_are_sampled_by_their_ids_and_what_follows_shares_the_decision() {
    let mut fixture = Fixture::with(telling(0.5));
    fixture.find_shard(ShardPosition::Beginning);
    fixture.commit();
    fixture.read("alice", 1..=40);
    let batch = fixture.batch();
    let roots = events(&mut fixture);
    let sampled = batch.messages.iter().filter(|it| it.trace.is_some());
    let sampled = sampled.count();
    assert!((8..=32).contains(&sampled), "about half: {sampled}");
    let read = roots.iter().filter(|event| name(&event.step) == "read");
    assert_eq!(read.count(), sampled);
    let to_bob = (1..=40).map(|cause| Invocation {
        cause,
        ..message_to(&address("bob"), "next")
    });
    fixture.complete(batch.attempt, sending(to_bob.collect()));
    let next = fixture.batch();
    for (parent, child) in batch.messages.iter().zip(&next.messages) {
        let trace_of = |it: Option<TraceParent>| it.map(|trace| trace.trace_id);
        assert_eq!(trace_of(parent.trace), trace_of(child.trace));
    }
}

#[test]
fn an_effect_of_a_batch_of_several_traces_begins_one_that_is_linked_to_them() {
    let mut fixture = Fixture::with(telling(1.0));
    fixture.send("alice", "0");
    let first = fixture.batch();
    fixture.send("alice", "1");
    fixture.send("alice", "2");
    fixture.complete(first.attempt, nothing());
    let batch = fixture.batch();
    let parents = Told::of(events(&mut fixture)).order[1..].to_vec();
    let known = EgressMessage {
        cause: 2,
        ..egress("out", "known")
    };
    let later = DelayedInvocation {
        cause: 1,
        ..delayed("dave", 10, "later", "")
    };
    fixture.complete(
        batch.attempt,
        effects(InvocationResponse {
            outgoing_messages: vec![message_to(&address("bob"), "unknown")],
            delayed_invocations: vec![later],
            outgoing_egresses: vec![known],
            ..Default::default()
        }),
    );
    let told = events(&mut fixture);
    let sent: Vec<_> = told
        .iter()
        .filter_map(|event| match &event.step {
            Step::Sent { batch, .. } => Some((event.hop, batch.as_deref())),
            _ => None,
        })
        .collect();
    let [(bob, linked), (dave, None), (record, None)] = sent[..] else {
        panic!("three effects: {sent:?}");
    };
    assert_eq!(linked, Some(&parents[..]));
    assert_eq!((bob.parent_id(), bob.trace.trace_id), (None, bob.id.0));
    assert_eq!(dave.parent_id(), span_of(&parents[0]));
    assert_eq!(record.parent_id(), span_of(&parents[1]));
    let invoked = told.iter().find_map(|event| match &event.step {
        Step::Invoked { messages, .. } => Some(*messages),
        _ => None,
    });
    assert_eq!(invoked, Some(1), "bob's");
}

#[test]
fn without_stories_nothing_is_told_and_contexts_pass_unchanged() {
    let mut fixture = Fixture::new();
    let context = TraceParent {
        trace_id: [7; 16],
        parent_id: [8; 8],
        flags: 1,
    };
    fixture.trace = Some(context);
    fixture.send("alice", "1");
    let batch = fixture.batch();
    let next = vec![message_to(&address("bob"), "2")];
    fixture.complete(batch.attempt, sending(next));
    let next = fixture.batch();
    assert_eq!(batch.messages[0].trace, Some(context));
    assert_eq!(next.messages[0].trace, Some(context));
    fixture.settle();
    assert_eq!(events(&mut fixture), []);
}

#[test]
fn stories_change_nothing_else() {
    let run = |stories: Option<Sampling>| {
        let mut fixture = Fixture::with(Config {
            stories,
            ..config(OnPoison::DeadLetter)
        });
        fixture.find_shard(ShardPosition::Beginning);
        fixture.commit();
        fixture.read("alice", 1..=5);
        let batch = fixture.batch();
        let answer = InvocationResponse {
            outgoing_messages: vec![message_to(&address("bob"), "next")],
            outgoing_egresses: vec![egress("out", "record")],
            ..Default::default()
        };
        fixture.complete(batch.attempt, effects(answer));
        fixture.settle();
        let attempt = fixture.batch().attempt;
        fixture.fail(attempt, "not now");
        fixture.later(1_000);
        fixture.settle();
        let mut outputs = std::mem::take(&mut fixture.outputs);
        for output in &mut outputs {
            if let Output::Emit(emissions) = output {
                emissions.iter_mut().for_each(|it| it.trace = None);
            }
            if let Output::Invoke { batch, .. } = output {
                let mut plain = (**batch).clone();
                plain.messages.iter_mut().for_each(|it| it.trace = None);
                *batch = plain.into();
            }
        }
        (outputs, fixture.log.len(), fixture.partition.gauges())
    };
    assert_eq!(run(None), run(Some(Sampling::of_share(1.0))));
}

#[test]
fn events_that_nobody_takes_are_bounded_and_counted() {
    let mut fixture = Fixture::with(telling(1.0));
    for round in 0..12 {
        fixture.send("alice", &round.to_string());
        let attempt = fixture.batch().attempt;
        let timers = (0..3_000).map(|_| delayed("bob", 1_000_000, "later", ""));
        fixture.complete(attempt, later_messages(timers.collect()));
        fixture.settle();
    }
    let (events, missed) = fixture.partition.take_story_events();
    assert_eq!(events.len(), 1 << 16);
    // Each delayed message is sent, delayed and durable.
    assert!(missed as usize >= 12 * 3 * 3_000 - (1 << 16), "{missed}");
    assert_eq!(fixture.partition.take_story_events(), (vec![], 0));
}
