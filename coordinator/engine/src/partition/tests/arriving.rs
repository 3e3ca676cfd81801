//! Records, back pressure, stopping.

use satchel_protocol::reqreply::to_function;

use super::fixture::*;
use crate::input::{FoundShard, Header, Headers, Input, Record, Unroutable, Verb};
use crate::output::{Answer, Output};
use crate::position::{ShardId, ShardPosition};

fn after(number: u64) -> ShardPosition {
    ShardPosition::After {
        sequence: number.into(),
        sub_sequence: 0,
    }
}

#[test]
fn rule_8_a_shard_is_read_only_once_its_resolved_start_is_durable_and_always_from_there() {
    let mut fixture = Fixture::new();
    fixture.find_shard(after(7));
    assert_eq!(fixture.reads(), []);
    fixture.crash();
    fixture.find_shard(after(9));
    fixture.commit();
    assert_eq!(
        fixture.reads(),
        [after(9)],
        "the first start was lost before anything was read"
    );
    fixture.crash();
    fixture.find_shard(after(12));
    assert_eq!(fixture.reads(), [after(9)], "latest is resolved once");
}

#[test]
fn positions_are_in_the_delta_of_the_messages_and_records_read_again_are_dropped() {
    let mut fixture = Fixture::new();
    fixture.find_shard(ShardPosition::Beginning);
    fixture.commit();
    fixture.read("alice", 1..=3);
    let batch = fixture.batch();
    assert_eq!(texts(&batch), ["1", "2", "3"]);
    fixture.settle();
    fixture.crash();
    fixture.find_shard(ShardPosition::Beginning);
    fixture.commit();
    assert_eq!(fixture.reads(), [after(3)]);
    assert_eq!(
        texts(&fixture.batch()),
        ["1", "2", "3"],
        "they were pending"
    );
    fixture.read("alice", 2..=5);
    fixture.read("alice", 1..=5);
    assert_eq!(fixture.partition.counts().repeated_records, 2 + 5);
    assert_eq!(fixture.partition.counts().messages, 2);
}

#[test]
fn a_stream_that_is_read_anew_by_the_same_owner_continues_behind_what_the_old_reader_had_sent() {
    let mut fixture = Fixture::new();
    fixture.find_shard(ShardPosition::Beginning);
    fixture.commit();
    fixture.reads();
    fixture.read("alice", 1..=3);
    // The reader stops here. Another one asks for the positions, before they are durable.
    assert_eq!(fixture.plan(), [("shardId-0".into(), after(3))]);
    fixture.find_shard(ShardPosition::Beginning);
    fixture.settle();
    assert_eq!(fixture.reads(), [after(3)]);
    // What the old reader still sent, and what the new one reads again, is dropped.
    fixture.read("alice", 3..=4);
    fixture.read("alice", 3..=5);
    assert_eq!(fixture.partition.counts().repeated_records, 1 + 2);
    assert_eq!(fixture.partition.counts().messages, 5);
}

#[test]
fn rule_9_the_end_of_a_shard_is_reported_once_durable_and_the_shard_is_not_read_again() {
    let mut fixture = Fixture::new();
    fixture.find_shard(ShardPosition::Beginning);
    fixture.commit();
    fixture.reads();
    fixture.read("alice", 1..=3);
    fixture.handle(Input::ShardEnded { shard: shard() });
    assert_eq!(fixture.reads(), [], "the end is not durable yet");
    fixture.commit();
    assert_eq!(fixture.reads(), [ShardPosition::End]);
    fixture.crash();
    assert_eq!(fixture.plan(), [("shardId-0".into(), ShardPosition::End)]);
    assert_eq!(
        texts(&fixture.batch()),
        ["1", "2", "3"],
        "they are in its delta"
    );
    fixture.read("alice", 4..=5);
    assert_eq!(fixture.partition.counts().repeated_records, 2);
    fixture.handle(Input::ShardForgotten { shard: shard() });
    fixture.settle();
    fixture.crash();
    assert_eq!(fixture.plan(), []);
}

#[test]
fn only_an_ended_shard_is_forgotten_and_an_unknown_shard_does_not_end() {
    let mut fixture = Fixture::new();
    fixture.handle(Input::ShardEnded { shard: shard() });
    fixture.settle();
    assert_eq!(fixture.reads(), []);
    fixture.find_shard(after(7));
    fixture.handle(Input::ShardForgotten { shard: shard() });
    fixture.settle();
    assert_eq!(fixture.plan(), [("shardId-0".into(), after(7))]);
}

#[test]
fn rule_8_shards_that_are_found_together_have_their_starts_in_one_delta() {
    let mut fixture = Fixture::new();
    let start = ShardPosition::Since { time_ms: 900 };
    let other = ShardId {
        shard: "shardId-1".into(),
        ..shard()
    };
    let found = [shard(), other].map(|shard| FoundShard {
        shard,
        start: start.clone(),
        hash_range: None,
    });
    let found = found.to_vec();
    fixture.handle(Input::ShardsFound(found));
    assert_eq!(fixture.sealed.len(), 1);
    fixture.commit();
    assert_eq!(fixture.reads(), [start.clone(), start.clone()]);
    let known = [
        ("shardId-0".into(), start.clone()),
        ("shardId-1".into(), start),
    ];
    assert_eq!(fixture.plan(), known);
}

#[test]
fn a_quiet_position_is_kept_until_the_next_record() {
    let mut fixture = Fixture::new();
    fixture.find_shard(ShardPosition::Since { time_ms: 900 });
    let quiet = |until_ms| Input::ShardQuiet {
        shard: shard(),
        until_ms,
    };
    fixture.handle(quiet(950));
    fixture.handle(quiet(940));
    assert_eq!(
        fixture.plan(),
        [("shardId-0".into(), ShardPosition::Since { time_ms: 950 })]
    );
    fixture.read("alice", [1]);
    fixture.handle(quiet(1_000));
    let known = ShardPosition::Quiet {
        sequence: 1.into(),
        sub_sequence: 0,
        until_ms: 1_000,
    };
    assert_eq!(fixture.plan(), [("shardId-0".into(), known)]);
    fixture.read("alice", [1, 2]);
    assert_eq!(fixture.plan(), [("shardId-0".into(), after(2))]);
    assert_eq!(fixture.partition.counts().repeated_records, 1);
}

#[test]
fn the_headers_of_a_record_reach_the_function_after_a_crash_too() {
    let mut fixture = Fixture::new();
    fixture.find_shard(ShardPosition::Beginning);
    fixture.commit();
    let header = |name: &str, text: &'static str| Header {
        name: name.into(),
        value: text.into(),
    };
    let headers: Headers = Some([header("source", "shop"), header("source", "")].into());
    fixture.handle(Input::RecordsRead {
        shard: shard(),
        records: vec![Record {
            sequence: 1.into(),
            sub_sequence: 0,
            trace: None,
            headers: headers.clone(),
            key: "alice".into(),
            routed: Ok(vec![(address("alice"), value("1"))]),
        }],
    });
    assert_eq!(fixture.batch().messages[0].headers, headers);
    fixture.settle();
    fixture.crash();
    fixture.commit();
    let batch = fixture.batch();
    assert_eq!(batch.messages[0].headers, headers);
    let Some(to_function::Request::Invocation(wire)) = batch.to_wire().request else {
        panic!("not an invocation");
    };
    let wire: Vec<_> = wire.invocations[0]
        .headers
        .iter()
        .map(|header| (header.name.as_str(), &*header.value))
        .collect();
    assert_eq!(wire, [("source", &b"shop"[..]), ("source", &b""[..])]);
}

#[test]
fn an_unroutable_record_becomes_a_dead_letter_and_blocks_nothing() {
    let mut fixture = Fixture::new();
    fixture.find_shard(ShardPosition::Beginning);
    fixture.commit();
    let bad = Record {
        sequence: 1.into(),
        sub_sequence: 0,
        trace: None,
        headers: None,
        key: "k".into(),
        routed: Err(Unroutable {
            value: value("bad"),
            reason: "it has no /customer/id".into(),
        }),
    };
    fixture.handle(Input::RecordsRead {
        shard: shard(),
        records: vec![bad],
    });
    fixture.read("alice", [2]);
    assert_eq!(texts(&fixture.batch()), ["2"]);
    assert_eq!(
        fixture.dead_letters(),
        [("bad".to_owned(), "it has no /customer/id".to_owned())]
    );
}

#[test]
fn a_record_for_an_id_that_is_too_long_becomes_a_dead_letter_by_name() {
    let mut fixture = Fixture::new();
    fixture.find_shard(ShardPosition::Beginning);
    fixture.commit();
    fixture.read(&"a".repeat(crate::address::ID_BYTES_MAX), [1]);
    assert_eq!(texts(&fixture.batch()), ["1"]);
    fixture.read(&"a".repeat(crate::address::ID_BYTES_MAX + 1), [2]);
    let reason = "the id of an instance of example/greeter has 8193 bytes; \
                  at most 8192 are allowed";
    assert_eq!(
        fixture.dead_letters(),
        [("2".to_owned(), reason.to_owned())]
    );
}

#[test]
fn ids_count_as_pending() {
    let mut fixture = Fixture::new();
    let id = "a".repeat(8_000);
    fixture.send(&id, "1");
    let one = fixture.partition.gauges().pending_bytes;
    assert!(one >= 8_000, "{one}");
    for _ in 0..12 {
        fixture.send(&id, "1");
    }
    assert!(fixture.partition.gauges().ingress_paused);
    let refused = fixture.send(&id, "1");
    assert_eq!(fixture.answer_to(refused), Some(Answer::Overloaded));
    while let [batch] = &fixture.batches()[..] {
        fixture.complete(batch.attempt, nothing());
    }
    assert_eq!(fixture.partition.gauges().pending_bytes, 0);
}

#[test]
fn ingress_pauses_over_the_limit_and_resumes_clearly_below_it_and_messages_between_functions_pass()
{
    let mut fixture = Fixture::new();
    for number in 0..11 {
        fixture.send(&format!("large-{number}"), &"x".repeat(9_000));
    }
    assert!(fixture.outputs.contains(&Output::PauseIngress));
    fixture.commit();
    fixture.answers();
    let refused = fixture.send("alice", "1");
    assert_eq!(fixture.answers(), [(refused, Answer::Overloaded)]);
    fixture
        .outputs
        .retain(|output| matches!(output, Output::Invoke { .. }));
    let batches = fixture.batches();
    assert_eq!(batches.len(), 11);
    for (done, batch) in (1..).zip(batches) {
        let to_bob = satchel_protocol::reqreply::from_function::InvocationResponse {
            outgoing_messages: vec![message_to(&address("bob"), "x")],
            ..Default::default()
        };
        fixture.complete(batch.attempt, effects(to_bob));
        let resumed = fixture.outputs.contains(&Output::ResumeIngress);
        assert_eq!(resumed, done >= 3, "after {done} of 11");
    }
    assert_eq!(fixture.partition.counts().messages, 22);
}

#[test]
fn an_abandoned_call_is_forgotten_and_its_reply_dropped() {
    let mut fixture = Fixture::new();
    let request = fixture.call("alice", "1");
    let batch = fixture.batch();
    fixture.handle(Input::RequestAbandoned(request));
    fixture.complete(batch.attempt, reply(&batch, "hi"));
    fixture.settle();
    assert_eq!(fixture.answers(), []);
    assert_eq!(fixture.partition.counts().stale_replies, 1);
}

#[test]
fn an_orderly_stop_finishes_what_is_in_flight_and_starts_nothing_new() {
    let mut fixture = Fixture::new();
    let request = fixture.call("alice", "1");
    let batch = fixture.batch();
    fixture.call("alice", "2");
    let waiting = fixture.call("alice", "3");
    fixture.handle(Input::StopRequested);
    let late = fixture.request(Verb::Call, "bob", "4", None);
    assert_eq!(fixture.answers(), [(late, Answer::NotTaken)]);
    fixture.complete(batch.attempt, reply(&batch, "hi"));
    fixture.commit();
    assert_eq!(fixture.batches(), []);
    assert_eq!(
        fixture.answer_to(request),
        Some(Answer::Replied(value("hi")))
    );
    assert_eq!(fixture.answer_to(waiting), Some(Answer::Stopping));
    assert_eq!(fixture.outputs.last(), Some(&Output::Stopped));
    assert!(fixture.log.last().unwrap().clean);
    fixture.take_over();
    assert_eq!(texts(&fixture.batch()), ["2", "3"]);
}

#[test]
fn a_forced_stop_leaves_what_is_in_flight_to_the_next_owner() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "1");
    let batch = fixture.batch();
    fixture.handle(Input::StopRequested);
    fixture.commit();
    assert!(!fixture.outputs.contains(&Output::Stopped));
    fixture.handle(Input::StopForced);
    fixture.commit();
    assert_eq!(fixture.outputs.last(), Some(&Output::Stopped));
    fixture.complete(batch.attempt, nothing());
    fixture.take_over();
    assert_eq!(texts(&fixture.batch()), ["1"]);
}

#[test]
fn an_idle_partition_wants_nothing() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "1");
    let batch = fixture.batch();
    fixture.complete(batch.attempt, nothing());
    fixture.settle();
    fixture.answers();
    let deltas = fixture.log.len();
    fixture.later(1_000_000);
    fixture.settle();
    assert_eq!((fixture.log.len(), fixture.outputs.len()), (deltas, 0));
}

#[test]
fn a_shard_that_is_found_twice_is_not_read_before_its_start_is_durable() {
    let mut fixture = Fixture::new();
    fixture.find_shard(after(7));
    fixture.find_shard(after(9));
    assert_eq!(fixture.reads(), []);
    fixture.commit();
    assert_eq!(fixture.reads(), [after(7), after(7)]);
}

#[test]
fn a_stopping_partition_requests_no_more_reads() {
    let mut fixture = Fixture::new();
    let large = "x".repeat(9_000);
    for id in 0..12 {
        fixture.send(&id.to_string(), &large);
    }
    let batches = fixture.batches();
    assert!(fixture.partition.gauges().ingress_paused);
    fixture.outputs.clear();
    fixture.handle(Input::StopRequested);
    for batch in &batches {
        fixture.complete(batch.attempt, nothing());
    }
    fixture.commit();
    assert!(!fixture.outputs.contains(&Output::ResumeIngress));
    assert_eq!(fixture.outputs.last(), Some(&Output::Stopped));
}
