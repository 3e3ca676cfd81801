//! Buckets that are not in memory while the partition stops, dies or is held, and memory that is short for long.

use std::sync::Arc;

use satchel_protocol::reqreply::FromFunction;
use satchel_protocol::reqreply::from_function::InvocationResponse;

use super::library::*;
use super::scene::*;
use crate::durable::{Change, Hold, Key, Value};
use crate::endpoint::OnPoison;
use crate::input::{Administration, Input};
use crate::invocation::Batch;
use crate::output::{Answer, Delta, Output};
use crate::partition::Config;
use crate::position::ShardPosition;

fn one_load_at_once() -> Config {
    Config {
        loads_at_once: 1,
        ..config(OnPoison::DeadLetter)
    }
}

/// The call of bucket 3 was passed on to bucket 0, whose function has just been given it; bucket 3, with the open request, is still absent.
fn passed_on() -> (Library, Arc<Batch>, FromFunction) {
    let mut library = Library::new(one_load_at_once());
    let (asked, answerer) = (library.id(3, 0), library.id(0, 0));
    library.scene.call_with_key(&asked, "hello", "key");
    let batch = library.scene.batch();
    let caller = batch.messages[0].caller.clone().unwrap();
    let passing = says(&address(&answerer), "answer for me");
    library.scene.complete(batch.attempt, passing);
    library.snapshot();
    library.crash();
    library.load(0);
    library.scene.settle();
    let batch = library.scene.batch();
    (library, batch, says(&caller, "here"))
}

fn says(to: &crate::address::Address, text: &str) -> FromFunction {
    effects(InvocationResponse {
        outgoing_messages: vec![message_to(to, text)],
        ..Default::default()
    })
}

fn told(library: &Library, wanted: &Output) -> usize {
    let outputs = library.scene.outputs.iter();
    outputs.filter(|output| *output == wanted).count()
}

#[test]
fn an_orderly_stop_waits_for_the_bucket_that_an_answer_waits_for() {
    let (mut library, batch, answer) = passed_on();
    library.scene.complete(batch.attempt, answer);
    library.scene.tell(Input::StopRequested);
    library.scene.settle();
    assert_eq!(told(&library, &Output::Stopped), 0, "it is in flight");
    library.load_all();
    library.scene.settle();
    assert_eq!(told(&library, &Output::Stopped), 1);
    library.take_over(true);
    library.load_all();
    assert_eq!(library.scene.batches().len(), 0, "it was applied");
    let again = library
        .scene
        .call_with_key(&library.id(3, 0), "hello", "key");
    library.scene.settle();
    let reply = library.scene.answer_to(again);
    assert_eq!(reply, Some(Answer::Replied(value("here"))));
}

#[test]
fn an_answer_that_waited_in_vain_is_asked_for_again_by_the_next_owner() {
    let (mut library, batch, answer) = passed_on();
    library.scene.complete(batch.attempt, answer.clone());
    library.scene.settle();
    library.scene.tell(Input::StopForced);
    library.scene.settle();
    assert_eq!(told(&library, &Output::Stopped), 1, "without a load");
    library.take_over(true);
    library.load_all();
    let batch = library.scene.batch();
    assert_eq!(texts(&batch), ["answer for me"]);
    library.scene.complete(batch.attempt, answer);
    let again = library
        .scene
        .call_with_key(&library.id(3, 0), "hello", "key");
    library.scene.settle();
    let reply = library.scene.answer_to(again);
    assert_eq!(reply, Some(Answer::Replied(value("here"))));
}

#[test]
fn an_answer_that_comes_twice_while_it_waits_counts_once() {
    let (mut library, batch, answer) = passed_on();
    library.scene.complete(batch.attempt, answer.clone());
    library.scene.complete(batch.attempt, answer);
    library.load_all();
    library.scene.settle();
    let counts = library.scene.partition.counts();
    assert_eq!((counts.processed, counts.stale_answers), (1, 1));
    assert_eq!(counts.stale_replies, 0);
}

#[test]
fn a_stop_before_pending_buckets_are_loaded_is_known_as_an_orderly_one() {
    let mut library = Library::new(one_load_at_once());
    let id = library.id(2, 0);
    library.scene.send(&id, "hello");
    library.scene.batch();
    library.snapshot();
    library.crash();
    library.scene.tell(Input::StopRequested);
    library.scene.settle();
    assert_eq!(told(&library, &Output::Stopped), 1);
    let last = library.scene.log.last().unwrap();
    assert!(
        last.clean,
        "or the message would be suspected of one death more"
    );
}

#[test]
fn a_held_fork_loads_what_is_due_and_lets_it_go_only_when_the_hold_is_lifted() {
    let mut library = Library::new(Config {
        memory_limit_bytes: Some(1),
        ..one_load_at_once()
    });
    let owner = library.id(1, 0);
    library.scene.send(&owner, "set");
    let batch = library.scene.batch();
    let timer = later_messages(vec![delayed(&owner, 60_000, "ring", "")]);
    library.scene.complete(batch.attempt, timer);
    library.snapshot();
    library.scene.log.push(Delta {
        number: 1,
        committed_at_ms: library.scene.now_ms,
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
    library.scene.later(120_000);
    library.load_all();
    for _ in 0..10 {
        library.scene.later(1_000);
    }
    assert_eq!(library.asked(), [0_u16; 0], "it is in memory, and stays");
    assert_eq!(library.scene.batches().len(), 0, "it is held");
    library.scene.tell(Input::HoldLifted { drop_outbox: false });
    library.load_all();
    assert_eq!(texts(&library.scene.batch()), ["ring"]);
    assert_eq!(library.scene.partition.counts().timers_fired, 1);
}

/// The limit is passed by what has changed.
fn short_of_memory() -> Library {
    let mut library = Library::new(Config {
        memory_limit_bytes: Some(20_000),
        ..config(OnPoison::DeadLetter)
    });
    library.scene.find_shard(ShardPosition::Beginning);
    library.scene.settle();
    for bucket in 0..4 {
        let id = library.id(bucket, 0);
        library.see(&id, &"x".repeat(6_000));
    }
    library.look();
    library
}

#[test]
fn shards_are_not_read_while_what_is_too_much_in_memory_waits_for_a_snapshot() {
    let mut library = short_of_memory();
    assert_eq!(told(&library, &Output::PauseIngress), 1);
    assert!(library.scene.partition.gauges().ingress_paused);
    assert_eq!(library.snapshots_wanted, 1);
    // Whoever asks is still served.
    let id = library.id(0, 0);
    library.see(&id, "small");
    assert_eq!(told(&library, &Output::ResumeIngress), 1, "there is room");
    library.see(&id, &"x".repeat(6_000));
    assert_eq!(told(&library, &Output::PauseIngress), 2);
    library.snapshot();
    let gauges = library.scene.partition.gauges();
    assert!(
        gauges.state_bytes <= 20_000 && !gauges.ingress_paused,
        "{gauges:?}"
    );
    assert_eq!(told(&library, &Output::ResumeIngress), 2);
    assert_eq!(library.snapshots_wanted, 1, "one was enough");
}

#[test]
fn shards_are_not_read_while_messages_are_worked_off_in_buckets_that_are_too_much_in_memory() {
    let mut library = short_of_memory();
    library.snapshot();
    let ids: Vec<String> = (0..4).map(|bucket| library.id(bucket, 0)).collect();
    for id in &ids {
        library.scene.send(id, "hello");
    }
    library.load_all();
    library.scene.settle();
    let gauges = library.scene.partition.gauges();
    assert_eq!((gauges.in_flight, gauges.buckets_loaded), (4, 4));
    assert!(gauges.ingress_paused, "{gauges:?}");
    for batch in library.scene.batches() {
        library.scene.complete(batch.attempt, set_seen("small"));
    }
    library.scene.settle();
    let gauges = library.scene.partition.gauges();
    assert!(!gauges.ingress_paused, "{gauges:?}");
}

#[test]
fn dead_letters_that_fill_the_memory_do_not_keep_shards_from_being_read_nor_ask_for_snapshots_in_vain()
 {
    let mut library = Library::new(Config {
        memory_limit_bytes: Some(20_000),
        ..config(OnPoison::DeadLetter)
    });
    for bucket in 0..4 {
        let id = library.id(bucket, 0);
        library.scene.send(&id, &"x".repeat(10_000));
    }
    library.snapshot();
    let gauges = library.scene.partition.gauges();
    assert_eq!(gauges.dead_letters, 4);
    assert!(gauges.state_bytes > 20_000, "{gauges:?}");
    assert!(!gauges.ingress_paused, "{gauges:?}");
    let before = library.snapshots_wanted;
    let id = library.id(0, 1);
    library.see(&id, "small");
    library.look();
    assert_eq!(
        library.snapshots_wanted, before,
        "it would give back nothing"
    );
    assert!(!library.scene.partition.gauges().ingress_paused);
}

#[test]
fn administrators_do_not_wait_for_memory() {
    let mut library = short_of_memory();
    let id = library.id(1, 0);
    let delete = Administration::DeleteState {
        address: address(&id),
        state: "seen".into(),
    };
    assert_eq!(library.scene.administer(delete), Some(Answer::Done));
    assert_eq!(library.scene.seen(&id), None);
    let gauges = library.scene.partition.gauges();
    assert!(!gauges.ingress_paused, "{gauges:?}");
}
