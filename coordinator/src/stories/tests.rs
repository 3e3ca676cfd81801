//! Stories of a process: what is kept, found, listed, merged and evicted.

use std::sync::Mutex;

use satchel_engine::address::{Address, FunctionType};
use satchel_engine::invocation::{AttemptId, EndpointIndex};
use satchel_engine::message::MessageId;
use satchel_engine::request::{CallId, Verb};
use satchel_engine::story::AttemptOutcome;

use super::*;

fn id(number: u32) -> MessageId {
    let mut id = [7; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    MessageId(id)
}

/// Hop of a message that begins a trace.
fn root(number: u32) -> Hop {
    Hop {
        id: id(number),
        trace: TraceParent::root(id(number).0),
    }
}

/// Hop of a message that another one caused.
fn child(number: u32, parent: &Hop) -> Hop {
    Hop {
        id: id(number),
        trace: parent.trace.through(parent.id.0),
    }
}

fn address(name: &str, id: &str) -> Address {
    Address::new(FunctionType::new("example", name), id)
}

fn event(hop: Hop, step: Step) -> StoryEvent {
    StoryEvent { hop, step }
}

fn called(number: u32) -> Step {
    let mut call = [9; 16];
    call[12..].copy_from_slice(&number.to_be_bytes());
    Step::Requested {
        verb: Verb::Call,
        call: CallId(call),
    }
}

fn queued(name: &str) -> Step {
    Step::Queued {
        target: address(name, "x"),
        typename: "t/text".into(),
        bytes: 5,
    }
}

fn invoked(name: &str) -> Step {
    Step::Invoked {
        attempt: attempt(),
        endpoint: EndpointIndex(0),
        target: address(name, "x"),
        messages: 1,
        batch: None,
    }
}

fn attempt() -> AttemptId {
    AttemptId {
        partition: 0,
        epoch: 1,
        number: 4,
    }
}

fn answered(outcome: AttemptOutcome) -> Step {
    Step::Answered {
        attempt: attempt(),
        outcome,
    }
}

fn committed(concluded: bool) -> Step {
    Step::Committed {
        epoch: 1,
        delta: 3,
        concluded,
    }
}

fn stories() -> Stories {
    let stories = Stories::new(1 << 20, Metrics::new(), None);
    stories.name_endpoints(["example/*".into()]);
    stories
}

fn tell(stories: &Stories, partition: u32, hop: Hop, steps: Vec<Step>) {
    let events = steps.into_iter().map(|step| event(hop, step)).collect();
    stories.told(partition, (events, 0));
}

fn process_whole(stories: &Stories, hop: Hop, first: Step, name: &str) {
    let rest = [
        queued(name),
        invoked(name),
        answered(AttemptOutcome::Ok),
        committed(true),
    ];
    let steps = std::iter::once(first).chain(rest).collect();
    tell(stories, 0, hop, steps);
}

fn sent(name: &str) -> Step {
    Step::Sent {
        from: address(name, "x"),
        batch: None,
    }
}

#[test]
fn a_trace_is_found_by_its_id_by_a_message_and_by_a_request() {
    let stories = stories();
    let (first, second) = (root(1), child(2, &root(1)));
    process_whole(&stories, first, called(1), "one");
    process_whole(&stories, second, sent("one"), "two");
    let trace = stories.find(first.id.0).unwrap();
    assert_eq!(stories.find(second.id.0).unwrap(), trace);
    let mut call = [9; 16];
    call[12..].copy_from_slice(&1_u32.to_be_bytes());
    assert_eq!(stories.find(call).unwrap(), trace);
    // The partition may have replaced the first two bytes by a key group.
    call[..2].fill(0);
    assert_eq!(stories.find(call).unwrap(), trace);
    assert_eq!(stories.find([3; 16]), None);
    let [one, two] = &trace.hops[..] else {
        panic!("two hops: {trace:?}");
    };
    assert_eq!(one.parent, None);
    assert_eq!(two.parent.as_ref(), Some(&one.span));
    assert_eq!(two.target.as_deref(), Some("example/two/x"));
    let outline = (&*two.state, two.durable, two.attempts, &*two.kind);
    assert_eq!(outline, ("done", true, 1, "message"));
    let names: Vec<_> = two.steps.iter().map(|step| &*step.step).collect();
    assert_eq!(
        names,
        ["received", "queued", "invoked", "answered", "committed"]
    );
    assert_eq!(two.steps[2].details["endpoint"], "example/*");
    assert!(two.steps.is_sorted_by_key(|step| step.at_us));
}

#[test]
fn lists_are_newest_first_and_filtered_by_function_address_and_failure() {
    let stories = stories();
    process_whole(&stories, root(1), called(1), "one");
    process_whole(&stories, root(2), called(2), "two");
    let failed = AttemptOutcome::Failed {
        kind: satchel_engine::invocation::FailureKind::Function,
        reason: "it panicked".into(),
    };
    let steps = vec![called(3), queued("one"), invoked("one"), answered(failed)];
    tell(&stories, 0, root(3), steps);
    let listed = |filter: TraceFilter, limit| {
        let list = stories.list(&filter, limit);
        let numbers = list.iter().map(|it| {
            let number = u32::from_str_radix(&it.trace[..8], 16).unwrap();
            (number, it.hops, it.pending, it.failed)
        });
        numbers.collect::<Vec<_>>()
    };
    let (one, two, three) = ((1, 1, 0, false), (2, 1, 0, false), (3, 1, 1, true));
    assert_eq!(listed(TraceFilter::default(), 10), [three, two, one]);
    assert_eq!(listed(TraceFilter::default(), 2), [three, two]);
    let filter = TraceFilter {
        function: Some("example/one".into()),
        ..TraceFilter::default()
    };
    assert_eq!(listed(filter.clone(), 10), [three, one]);
    let failed = true;
    assert_eq!(listed(TraceFilter { failed, ..filter }, 10), [three]);
    let filter = TraceFilter {
        address: Some("example/two/x".to_owned()),
        ..TraceFilter::default()
    };
    assert_eq!(listed(filter, 10), [two]);
}

#[test]
fn the_oldest_traces_make_room_and_are_counted() {
    let metrics = Metrics::new();
    let stories = Stories::new(100_000, metrics.clone(), None);
    for number in 1..=500 {
        process_whole(&stories, root(number), called(number), "one");
    }
    let kept = stories.list(&TraceFilter::default(), 1_000);
    assert!((50..200).contains(&kept.len()), "{}", kept.len());
    let evicted = 500 - kept.len();
    assert!(stories.find(id(500).0).is_some());
    assert_eq!(stories.find(id(1).0), None);
    let text = metrics.encode();
    let shown = |line: String| assert!(text.contains(&line), "{line} in {text}");
    shown(format!("satchel_traces_kept {}\n", kept.len()));
    shown(format!("satchel_traces_evicted_total {evicted}\n"));
    shown("satchel_trace_events_total 2500\n".to_owned());
}

#[test]
fn a_trace_without_end_is_bounded_by_hops_and_a_hop_by_events() {
    let stories = Stories::new(16 << 20, Metrics::new(), None);
    let first = root(1);
    process_whole(&stories, first, called(1), "one");
    for number in 2..=2_500 {
        tell(&stories, 0, child(number, &first), vec![sent("one")]);
    }
    let deferred = |until_ms| Step::Deferred { until_ms };
    tell(&stories, 0, first, (0..300).map(deferred).collect());
    let trace = stories.find(first.id.0).unwrap();
    assert_eq!((trace.hops.len(), trace.omitted_hops), (2_000, 500));
    let retried = &trace.hops[0];
    assert_eq!((retried.steps.len(), retried.omitted_steps), (100, 205));
    assert_eq!(retried.steps[0].step, "received");
    let last = retried.steps.last().unwrap();
    assert_eq!(last.details["until"], "1970-01-01T00:00:00.299Z");
}

#[test]
fn parts_of_two_processes_are_one_trace_and_one_entry_of_a_list() {
    let (here, there) = (stories(), stories());
    let (first, second) = (root(1), child(2, &root(1)));
    process_whole(&here, first, called(1), "one");
    let forwarded = Step::Forwarded {
        target: address("two", "x"),
        partition: 1,
    };
    let steps = vec![sent("one"), forwarded, committed(false)];
    tell(&here, 0, second, steps);
    process_whole(&there, second, Step::Taken { partition: 0 }, "two");
    // The other process does not know the request, only the trace.
    let parts = vec![
        there.find(second.id.0).unwrap(),
        here.find(first.id.0).unwrap(),
    ];
    let merged = merge::traces(parts).unwrap();
    assert_eq!(merged.hops.len(), 2);
    let hop = &merged.hops[1];
    let names: Vec<_> = hop.steps.iter().map(|step| &*step.step).collect();
    assert_eq!(
        names,
        [
            "received",
            "forwarded",
            "committed",
            "taken",
            "queued",
            "invoked",
            "answered",
            "committed"
        ]
    );
    assert_eq!((&*hop.state, hop.durable), ("done", true));
    let lists = [&there, &here].map(|it| it.list(&TraceFilter::default(), 10));
    let list = merge::lists(lists.concat(), 10);
    let [entry] = &list[..] else {
        panic!("one trace: {list:?}");
    };
    assert_eq!((entry.hops, entry.pending, entry.failed), (2, 0, false));
    assert_eq!(entry.first.as_deref(), Some("example/one/x"));
    assert_eq!(entry.functions.len(), 2);
    assert_eq!(merge::traces(Vec::new()), None);
}

#[test]
fn a_hop_is_exported_once_when_its_conclusion_is_durable() {
    let exported: Arc<Mutex<Vec<FinishedHop>>> = Arc::default();
    let export: Export = {
        let exported = Arc::clone(&exported);
        Box::new(move |hop| exported.lock().unwrap().push(hop))
    };
    let stories = Stories::new(1 << 20, Metrics::new(), Some(export));
    let hop = root(1);
    let steps = vec![called(1), queued("one"), committed(false), invoked("one")];
    tell(&stories, 0, hop, steps);
    tell(&stories, 0, hop, vec![answered(AttemptOutcome::Ok)]);
    assert_eq!(exported.lock().unwrap().len(), 0);
    tell(&stories, 0, hop, vec![committed(true)]);
    tell(&stories, 0, hop, vec![committed(true)]);
    let exported = exported.lock().unwrap();
    let [finished] = &exported[..] else {
        panic!("one hop: {exported:?}");
    };
    assert_eq!((finished.hop, finished.steps.len()), (hop, 6));
}
