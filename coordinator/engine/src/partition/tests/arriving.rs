//! Records, back pressure, stopping.

use super::scene::*;
use crate::input::{Input, Record, Unroutable, Verb};
use crate::output::{Answer, Output};
use crate::position::{ShardId, ShardPosition};

fn after(number: u64) -> ShardPosition {
    ShardPosition::After {
        sequence: number.into(),
        sub_sequence: 0,
    }
}

#[test]
fn rule_8_a_shard_is_read_only_when_its_resolved_start_is_durable_and_from_there_ever_after() {
    let mut scene = Scene::new();
    scene.find_shard(after(7));
    assert_eq!(scene.reads(), []);
    scene.crash();
    scene.find_shard(after(9));
    scene.commit();
    assert_eq!(
        scene.reads(),
        [after(9)],
        "the first start was lost before anything was read"
    );
    scene.crash();
    scene.find_shard(after(12));
    assert_eq!(scene.reads(), [after(9)], "latest is resolved once");
}

#[test]
fn positions_are_in_the_delta_of_the_messages_and_records_read_again_are_dropped() {
    let mut scene = Scene::new();
    scene.find_shard(ShardPosition::Beginning);
    scene.commit();
    scene.read("alice", 1..=3);
    let batch = scene.batch();
    assert_eq!(texts(&batch), ["1", "2", "3"]);
    scene.settle();
    scene.crash();
    scene.find_shard(ShardPosition::Beginning);
    scene.commit();
    assert_eq!(scene.reads(), [after(3)]);
    assert_eq!(texts(&scene.batch()), ["1", "2", "3"], "they were pending");
    scene.read("alice", 2..=5);
    scene.read("alice", 1..=5);
    assert_eq!(scene.partition.counts().repeated_records, 2 + 5);
    assert_eq!(scene.partition.counts().messages, 2);
}

#[test]
fn rule_9_the_end_of_a_shard_is_told_when_it_is_durable_and_nothing_of_it_is_read_again() {
    let mut scene = Scene::new();
    scene.find_shard(ShardPosition::Beginning);
    scene.commit();
    scene.reads();
    scene.read("alice", 1..=3);
    scene.tell(Input::ShardEnded { shard: shard() });
    assert_eq!(scene.reads(), [], "the end is not durable yet");
    scene.commit();
    assert_eq!(scene.reads(), [ShardPosition::End]);
    scene.crash();
    assert_eq!(scene.plan(), [("shardId-0".into(), ShardPosition::End)]);
    assert_eq!(
        texts(&scene.batch()),
        ["1", "2", "3"],
        "they are in its delta"
    );
    scene.read("alice", 4..=5);
    assert_eq!(scene.partition.counts().repeated_records, 2);
    scene.tell(Input::ShardForgotten { shard: shard() });
    scene.settle();
    scene.crash();
    assert_eq!(scene.plan(), []);
}

#[test]
fn a_position_that_is_no_end_is_not_forgotten_and_an_unknown_shard_does_not_end() {
    let mut scene = Scene::new();
    scene.tell(Input::ShardEnded { shard: shard() });
    scene.settle();
    assert_eq!(scene.reads(), []);
    scene.find_shard(after(7));
    scene.tell(Input::ShardForgotten { shard: shard() });
    scene.settle();
    assert_eq!(scene.plan(), [("shardId-0".into(), after(7))]);
}

#[test]
fn rule_8_shards_that_are_found_together_have_their_starts_in_one_delta() {
    let mut scene = Scene::new();
    let start = ShardPosition::Since { time_ms: 900 };
    let other = ShardId {
        shard: "shardId-1".into(),
        ..shard()
    };
    let found = vec![(shard(), start.clone()), (other, start.clone())];
    scene.tell(Input::ShardsFound(found));
    assert_eq!(scene.sealed.len(), 1);
    scene.commit();
    assert_eq!(scene.reads(), [start.clone(), start.clone()]);
    let known = [
        ("shardId-0".into(), start.clone()),
        ("shardId-1".into(), start),
    ];
    assert_eq!(scene.plan(), known);
}

#[test]
fn that_a_shard_was_quiet_is_kept_until_its_next_record() {
    let mut scene = Scene::new();
    scene.find_shard(ShardPosition::Since { time_ms: 900 });
    let quiet = |until_ms| Input::ShardQuiet {
        shard: shard(),
        until_ms,
    };
    scene.tell(quiet(950));
    scene.tell(quiet(940));
    assert_eq!(
        scene.plan(),
        [("shardId-0".into(), ShardPosition::Since { time_ms: 950 })]
    );
    scene.read("alice", [1]);
    scene.tell(quiet(1_000));
    let known = ShardPosition::Quiet {
        sequence: 1.into(),
        sub_sequence: 0,
        until_ms: 1_000,
    };
    assert_eq!(scene.plan(), [("shardId-0".into(), known)]);
    scene.read("alice", [1, 2]);
    assert_eq!(scene.plan(), [("shardId-0".into(), after(2))]);
    assert_eq!(scene.partition.counts().repeated_records, 1);
}

#[test]
fn a_record_that_can_not_be_routed_becomes_a_dead_letter_and_stops_nothing() {
    let mut scene = Scene::new();
    scene.find_shard(ShardPosition::Beginning);
    scene.commit();
    let bad = Record {
        sequence: 1.into(),
        sub_sequence: 0,
        key: "k".into(),
        routed: Err(Unroutable {
            value: value("bad"),
            reason: "it has no /customer/id".into(),
        }),
    };
    scene.tell(Input::RecordsRead {
        shard: shard(),
        records: vec![bad],
    });
    scene.read("alice", [2]);
    assert_eq!(texts(&scene.batch()), ["2"]);
    assert_eq!(
        scene.dead_letters(),
        [("bad".to_owned(), "it has no /customer/id".to_owned())]
    );
}

#[test]
fn ingress_pauses_over_the_limit_and_resumes_clearly_below_it_and_messages_between_functions_pass()
{
    let mut scene = Scene::new();
    for number in 0..11 {
        scene.send(&format!("large-{number}"), &"x".repeat(9_000));
    }
    assert!(scene.outputs.contains(&Output::PauseIngress));
    scene.commit();
    scene.answers();
    let refused = scene.send("alice", "1");
    assert_eq!(scene.answers(), [(refused, Answer::Overloaded)]);
    scene
        .outputs
        .retain(|output| matches!(output, Output::Invoke { .. }));
    let batches = scene.batches();
    assert_eq!(batches.len(), 11);
    for (done, batch) in (1..).zip(batches) {
        let to_bob = satchel_protocol::reqreply::from_function::InvocationResponse {
            outgoing_messages: vec![message_to(&address("bob"), "x")],
            ..Default::default()
        };
        scene.complete(batch.attempt, effects(to_bob));
        let resumed = scene.outputs.contains(&Output::ResumeIngress);
        assert_eq!(resumed, done >= 3, "after {done} of 11");
    }
    assert_eq!(scene.partition.counts().messages, 22);
}

#[test]
fn an_abandoned_call_is_forgotten_and_its_reply_dropped() {
    let mut scene = Scene::new();
    let request = scene.call("alice", "1");
    let batch = scene.batch();
    scene.tell(Input::RequestAbandoned(request));
    scene.complete(batch.attempt, reply(&batch, "hi"));
    scene.settle();
    assert_eq!(scene.answers(), []);
    assert_eq!(scene.partition.counts().stale_replies, 1);
}

#[test]
fn an_orderly_stop_finishes_what_is_in_flight_and_starts_nothing_new() {
    let mut scene = Scene::new();
    let request = scene.call("alice", "1");
    let batch = scene.batch();
    scene.call("alice", "2");
    let waiting = scene.call("alice", "3");
    scene.tell(Input::StopRequested);
    let late = scene.request(Verb::Call, "bob", "4", None);
    assert_eq!(scene.answers(), [(late, Answer::Stopping)]);
    scene.complete(batch.attempt, reply(&batch, "hi"));
    scene.commit();
    assert_eq!(scene.batches(), []);
    assert_eq!(scene.answer_to(request), Some(Answer::Replied(value("hi"))));
    assert_eq!(scene.answer_to(waiting), Some(Answer::Stopping));
    assert_eq!(scene.outputs.last(), Some(&Output::Stopped));
    assert!(scene.log.last().unwrap().clean);
    scene.take_over();
    assert_eq!(texts(&scene.batch()), ["2", "3"]);
}

#[test]
fn a_forced_stop_leaves_what_is_in_flight_to_the_next_owner() {
    let mut scene = Scene::new();
    scene.send("alice", "1");
    let batch = scene.batch();
    scene.tell(Input::StopRequested);
    scene.commit();
    assert!(!scene.outputs.contains(&Output::Stopped));
    scene.tell(Input::StopForced);
    scene.commit();
    assert_eq!(scene.outputs.last(), Some(&Output::Stopped));
    scene.complete(batch.attempt, nothing());
    scene.take_over();
    assert_eq!(texts(&scene.batch()), ["1"]);
}

#[test]
fn an_idle_partition_wants_nothing() {
    let mut scene = Scene::new();
    scene.send("alice", "1");
    let batch = scene.batch();
    scene.complete(batch.attempt, nothing());
    scene.settle();
    scene.answers();
    let deltas = scene.log.len();
    scene.later(1_000_000);
    scene.settle();
    assert_eq!((scene.log.len(), scene.outputs.len()), (deltas, 0));
}

#[test]
fn a_shard_that_is_found_twice_is_not_read_before_its_start_is_durable() {
    let mut scene = Scene::new();
    scene.find_shard(after(7));
    scene.find_shard(after(9));
    assert_eq!(scene.reads(), []);
    scene.commit();
    assert_eq!(scene.reads(), [after(7), after(7)]);
}

#[test]
fn a_partition_that_stops_does_not_ask_for_more_to_read() {
    let mut scene = Scene::new();
    let large = "x".repeat(9_000);
    for id in 0..12 {
        scene.send(&id.to_string(), &large);
    }
    let batches = scene.batches();
    assert!(scene.partition.gauges().ingress_paused);
    scene.outputs.clear();
    scene.tell(Input::StopRequested);
    for batch in &batches {
        scene.complete(batch.attempt, nothing());
    }
    scene.commit();
    assert!(!scene.outputs.contains(&Output::ResumeIngress));
    assert_eq!(scene.outputs.last(), Some(&Output::Stopped));
}
