//! Absent buckets while the partition stops, dies or is held, and memory that stays short for long.

use std::sync::Arc;

use satchel_protocol::reqreply::FromFunction;
use satchel_protocol::reqreply::from_function::InvocationResponse;

use super::fixture::*;
use super::library::*;
use crate::durable::{Change, Hold, Key, Value};
use crate::endpoint::OnPoison;
use crate::input::{Administration, Input};
use crate::invocation::Batch;
use crate::output::{Answer, Delta, Output};
use crate::partition::Config;
use crate::position::ShardPosition;

fn one_load_at_once() -> Config {
    Config {
        loads_at_once: Some(1),
        ..config(OnPoison::DeadLetter)
    }
}

/// The call of bucket 3 was passed on to bucket 0, whose function has just received it. Bucket 3,
/// with the open request, is still absent.
fn passed_on() -> (Library, Arc<Batch>, FromFunction) {
    let mut library = Library::new(one_load_at_once());
    let (asked, answerer) = (library.id(3, 0), library.id(0, 0));
    library.fixture.call_with_key(&asked, "hello", "key");
    let batch = library.fixture.batch();
    let caller = batch.messages[0].caller.clone().unwrap();
    let passing = says(&address(&answerer), "answer for me");
    library.fixture.complete(batch.attempt, passing);
    library.snapshot();
    library.crash();
    library.load(0);
    library.fixture.settle();
    let batch = library.fixture.batch();
    (library, batch, says(&caller, "here"))
}

fn says(to: &crate::address::Address, text: &str) -> FromFunction {
    effects(InvocationResponse {
        outgoing_messages: vec![message_to(to, text)],
        ..Default::default()
    })
}

fn told(library: &Library, wanted: &Output) -> usize {
    let outputs = library.fixture.outputs.iter();
    outputs.filter(|output| *output == wanted).count()
}

#[test]
fn an_orderly_stop_waits_for_the_bucket_that_an_answer_waits_for() {
    let (mut library, batch, answer) = passed_on();
    library.fixture.complete(batch.attempt, answer);
    library.fixture.handle(Input::StopRequested);
    library.fixture.settle();
    assert_eq!(told(&library, &Output::Stopped), 0, "it is in flight");
    library.load_all();
    library.fixture.settle();
    assert_eq!(told(&library, &Output::Stopped), 1);
    library.take_over(true);
    library.load_all();
    assert_eq!(library.fixture.batches().len(), 0, "it was applied");
    let again = library
        .fixture
        .call_with_key(&library.id(3, 0), "hello", "key");
    library.fixture.settle();
    let reply = library.fixture.answer_to(again);
    assert_eq!(reply, Some(Answer::Replied(value("here"))));
}

#[test]
fn a_deferred_answer_lost_in_a_crash_is_requested_again_by_the_next_owner() {
    let (mut library, batch, answer) = passed_on();
    library.fixture.complete(batch.attempt, answer.clone());
    library.fixture.settle();
    library.fixture.handle(Input::StopForced);
    library.fixture.settle();
    assert_eq!(told(&library, &Output::Stopped), 1, "without a load");
    library.take_over(true);
    library.load_all();
    let batch = library.fixture.batch();
    assert_eq!(texts(&batch), ["answer for me"]);
    library.fixture.complete(batch.attempt, answer);
    let again = library
        .fixture
        .call_with_key(&library.id(3, 0), "hello", "key");
    library.fixture.settle();
    let reply = library.fixture.answer_to(again);
    assert_eq!(reply, Some(Answer::Replied(value("here"))));
}

#[test]
fn a_deferred_answer_that_arrives_twice_counts_once() {
    let (mut library, batch, answer) = passed_on();
    library.fixture.complete(batch.attempt, answer.clone());
    library.fixture.complete(batch.attempt, answer);
    library.load_all();
    library.fixture.settle();
    let counts = library.fixture.partition.counts();
    assert_eq!((counts.processed, counts.stale_answers), (1, 1));
    assert_eq!(counts.stale_replies, 0);
}

#[test]
fn a_stop_before_pending_buckets_are_loaded_counts_as_orderly() {
    let mut library = Library::new(one_load_at_once());
    let id = library.id(2, 0);
    library.fixture.send(&id, "hello");
    library.fixture.batch();
    library.snapshot();
    library.crash();
    library.fixture.handle(Input::StopRequested);
    library.fixture.settle();
    assert_eq!(told(&library, &Output::Stopped), 1);
    let last = library.fixture.log.last().unwrap();
    assert!(
        last.clean,
        "otherwise the message would be suspected of one more crash"
    );
}

#[test]
fn a_held_fork_loads_due_buckets_and_fires_timers_only_after_the_hold() {
    let mut library = Library::new(Config {
        memory_limit_bytes: Some(1),
        ..one_load_at_once()
    });
    let owner = library.id(1, 0);
    library.fixture.send(&owner, "set");
    let batch = library.fixture.batch();
    let timer = later_messages(vec![delayed(&owner, 60_000, "ring", "")]);
    library.fixture.complete(batch.attempt, timer);
    library.snapshot();
    library.fixture.log.push(Delta {
        number: 1,
        committed_at_ms: library.fixture.now_ms,
        clean: true,
        changes: vec![Change {
            key: Key::Hold,
            value: Some(Value::Hold(Hold {
                origin: "shop@monday".into(),
                since_ms: 1_000,
                filling: false,
            })),
        }],
    });
    library.take_over(true);
    library.load_all();
    library.fixture.later(120_000);
    library.load_all();
    for _ in 0..10 {
        library.fixture.later(1_000);
    }
    assert_eq!(library.asked(), [0_u16; 0], "it is in memory, and stays");
    assert_eq!(library.fixture.batches().len(), 0, "it is held");
    library
        .fixture
        .handle(Input::HoldLifted { drop_outbox: false });
    library.load_all();
    assert_eq!(texts(&library.fixture.batch()), ["ring"]);
    assert_eq!(library.fixture.partition.counts().timers_fired, 1);
}

/// Creates a partition whose changed buckets exceed the memory limit.
fn short_of_memory() -> Library {
    let mut library = Library::new(Config {
        memory_limit_bytes: Some(20_000),
        ..config(OnPoison::DeadLetter)
    });
    library.fixture.find_shard(ShardPosition::Beginning);
    library.fixture.settle();
    for bucket in 0..4 {
        let id = library.id(bucket, 0);
        library.set_seen(&id, &"x".repeat(6_000));
    }
    library.collect_loads();
    library
}

#[test]
fn reading_pauses_while_buckets_beyond_the_memory_limit_wait_for_a_snapshot() {
    let mut library = short_of_memory();
    assert_eq!(told(&library, &Output::PauseIngress), 1);
    assert!(library.fixture.partition.gauges().ingress_paused);
    assert_eq!(library.snapshots_wanted, 1);
    // Callers are still served.
    let id = library.id(0, 0);
    library.set_seen(&id, "small");
    assert_eq!(told(&library, &Output::ResumeIngress), 1, "there is room");
    library.set_seen(&id, &"x".repeat(6_000));
    assert_eq!(told(&library, &Output::PauseIngress), 2);
    library.snapshot();
    let gauges = library.fixture.partition.gauges();
    assert!(
        gauges.state_bytes <= 20_000 && !gauges.ingress_paused,
        "{gauges:?}"
    );
    assert_eq!(told(&library, &Output::ResumeIngress), 2);
    assert_eq!(library.snapshots_wanted, 1, "one was enough");
}

#[test]
fn reading_pauses_while_messages_are_processed_in_buckets_beyond_the_memory_limit() {
    let mut library = short_of_memory();
    library.snapshot();
    let ids: Vec<String> = (0..4).map(|bucket| library.id(bucket, 0)).collect();
    for id in &ids {
        library.fixture.send(id, "hello");
    }
    library.load_all();
    library.fixture.settle();
    let gauges = library.fixture.partition.gauges();
    assert_eq!((gauges.in_flight, gauges.buckets_loaded), (4, 4));
    assert!(gauges.ingress_paused, "{gauges:?}");
    for batch in library.fixture.batches() {
        library.fixture.complete(batch.attempt, set_seen("small"));
    }
    library.fixture.settle();
    let gauges = library.fixture.partition.gauges();
    assert!(!gauges.ingress_paused, "{gauges:?}");
}

#[test]
fn administrators_do_not_wait_for_memory() {
    let mut library = short_of_memory();
    let id = library.id(1, 0);
    let delete = Administration::DeleteState {
        address: address(&id),
        state: "seen".into(),
    };
    assert_eq!(library.fixture.administer(delete), Some(Answer::Done));
    assert_eq!(library.fixture.seen(&id), None);
    let gauges = library.fixture.partition.gauges();
    assert!(!gauges.ingress_paused, "{gauges:?}");
}
