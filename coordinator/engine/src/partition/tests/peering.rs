//! Two partitions of an application that send each other messages.

mod limits;
pub(super) mod pair;
mod shards;

use self::pair::*;
use super::fixture::*;
use crate::address::{Address, FunctionType};
use crate::durable::{Acknowledged, Change, Key, Value};
use crate::input::Input;
use crate::link::{AHEAD_MAX_MS, Answer as LinkAnswer, CloseCause, LinkDamage, Refusal};
use crate::output::{Answer, Output};
use crate::position::ShardPosition;
use std::sync::Arc;

#[test]
fn rule_21_a_message_has_its_number_in_the_delta_of_its_cause_and_leaves_after_it() {
    let mut pair = Pair::new();
    pair.connect(0);
    pair.carry();
    pair.send(&["one", "two"]);
    assert_eq!(frames(&mut pair.sides[0]), [], "nothing is durable");
    pair.sides[0].commit();
    let delta = delta_with(&pair.sides[0].log, &Key::Out { peer: 1, number: 1 });
    let keys = changed(std::slice::from_ref(&delta));
    assert!(keys.contains(&(Key::Out { peer: 1, number: 2 }, true)));
    let assigned = Change {
        key: Key::Assigned { peer: 1 },
        value: Some(Value::LinkNumber(2)),
    };
    assert!(delta.changes.contains(&assigned), "{delta:?}");
    let [(_, named, frame)] = &frames(&mut pair.sides[0])[..] else {
        panic!("one frame")
    };
    assert_eq!((*named, frame.first), (GENERATION, 1));
    assert_eq!(frame_texts(frame), ["one", "two"]);
    assert_eq!(frame.time_ms, delta.committed_at_ms);
    let sender = PLACEMENT.key_group(&address(&id(0, 0)));
    assert!(frame.messages.iter().all(|sent| sent.sender == sender));
}

#[test]
fn rule_20_a_message_and_its_number_are_in_one_delta_which_is_acknowledged_when_it_is_durable() {
    let mut pair = Pair::sent(&["one", "two"]);
    pair.carry();
    let batch = pair.sides[1].batch();
    assert_eq!(texts(&batch), ["one", "two"], "it runs ahead of its commit");
    pair.sides[0].settle();
    assert!(pair.sides[0].partition.gauges().peer_bytes > 0);
    pair.sides[1].settle();
    let taken = delta_with(&pair.sides[1].log, &Key::Taken { peer: 0 });
    let messages = taken.changes.iter();
    let messages = messages.filter(|change| matches!(change.key, Key::Message { .. }));
    assert_eq!(messages.count(), 2, "{taken:?}");

    let before = pair.sides[0].log.len();
    pair.carry();
    pair.sides[0].settle();
    assert_eq!(pair.sides[0].partition.gauges().peer_bytes, 0);
    let keys = changed(&pair.sides[0].log[before..]);
    assert!(keys.contains(&(Key::Acknowledged { peer: 1 }, true)));
    let removals = keys
        .iter()
        .filter(|(key, _)| matches!(key, Key::Out { .. }));
    assert_eq!(removals.count(), 0, "the acknowledgement removes them");
    pair.sides[0].crash();
    assert_eq!(pair.sides[0].partition.gauges().peer_bytes, 0);
}

#[test]
fn rule_21_the_next_owner_of_the_sender_sends_the_same_again_and_it_is_taken_once() {
    let mut pair = Pair::sent(&["one", "two"]);
    let first = frames(&mut pair.sides[0]);
    let frame = first[0].2.clone();
    pair.sides[0].crash();
    let connection = pair.connect(0);
    let again = frames(&mut pair.sides[0]);
    assert_eq!(again[0].2.messages, frame.messages);
    for (connection, frame) in [(1, frame.clone()), (connection, frame)] {
        pair.sides[1].handle(Input::PeerFrame {
            connection,
            generation: GENERATION,
            frame,
        });
    }
    assert_eq!(texts(&pair.sides[1].batch()), ["one", "two"]);
    assert_eq!(pair.sides[1].partition.counts().taken_from_peers, 2);
}

#[test]
fn rule_20_what_the_receivers_owner_took_and_lost_is_sent_again_to_the_next_one() {
    let mut pair = Pair::sent(&["one"]);
    pair.carry();
    assert_eq!(texts(&pair.sides[1].batch()), ["one"]);
    pair.sides[1].crash();
    assert_eq!(pair.sides[1].batches().len(), 0);
    pair.connect(0);
    pair.carry();
    assert_eq!(texts(&pair.sides[1].batch()), ["one"]);
    pair.sides[1].settle();
    pair.carry();
    pair.sides[0].settle();
    let acknowledged = Value::Acknowledged(Acknowledged { upto: 1, epoch: 2 });
    let delta = delta_with(&pair.sides[0].log, &Key::Acknowledged { peer: 1 });
    assert!(
        delta
            .changes
            .iter()
            .any(|change| change.value == Some(acknowledged.clone()))
    );
}

#[test]
fn rule_19_a_frame_beyond_the_next_number_is_refused_and_the_sender_goes_back() {
    let mut pair = Pair::with(|config| config.peer_frame_bytes = 1);
    pair.connect(0);
    pair.carry();
    pair.send(&["one", "two"]);
    pair.sides[0].settle();
    let mut sent = frames(&mut pair.sides[0]);
    assert_eq!(sent.len(), 2, "one message a frame");
    let (connection, generation, second) = sent.remove(1);
    pair.sides[1].handle(Input::PeerFrame {
        connection,
        generation,
        frame: second,
    });
    assert_eq!(pair.sides[1].batches().len(), 0);
    let [(_, gap)] = answers(&mut pair.sides[1])[..] else {
        panic!("one answer")
    };
    assert_eq!((gap.refused, gap.taken), (Some(Refusal::Gap), 0));
    pair.sides[0].handle(Input::PeerAnswered {
        connection,
        answer: gap,
    });
    pair.carry();
    let batch = pair.sides[1].batch();
    assert_eq!(texts(&batch), ["one"]);
    pair.sides[1].complete(batch.attempt, nothing());
    assert_eq!(texts(&pair.sides[1].batch()), ["two"]);
}

#[test]
fn rule_18_a_frame_of_another_generation_is_not_taken() {
    let mut pair = Pair::sent(&["one"]);
    let (connection, generation, frame) = frames(&mut pair.sides[0]).remove(0);
    pair.sides[1].handle(Input::PeerFrame {
        connection,
        generation: generation - 1,
        frame,
    });
    assert_eq!(pair.sides[1].batches().len(), 0);
    assert_eq!(closed(&mut pair.sides[1]), [CloseCause::OtherGeneration]);
}

#[test]
fn rule_22_the_delta_that_takes_or_removes_is_not_earlier_than_that_of_the_other_partition() {
    let mut pair = Pair::new();
    pair.sides[0].later(4_000);
    pair.connect(0);
    pair.carry();
    pair.send(&["one"]);
    pair.sides[0].settle();
    pair.carry();
    pair.sides[1].settle();
    let made = delta_with(&pair.sides[0].log, &Key::Out { peer: 1, number: 1 });
    let taken = delta_with(&pair.sides[1].log, &Key::Taken { peer: 0 });
    assert!(pair.sides[1].now_ms < made.committed_at_ms);
    assert_eq!(taken.committed_at_ms, made.committed_at_ms);
    // Times never go back, not even when nothing more comes.
    pair.sides[1].send(&id(1, 3), "own");
    pair.sides[1].settle();
    let last = pair.sides[1].log.last().unwrap().committed_at_ms;
    assert!(last >= taken.committed_at_ms);

    // The other way round: the receiver is ahead of the sender.
    let mut pair = Pair::sent(&["one"]);
    pair.sides[1].later(4_000);
    pair.carry();
    pair.sides[1].settle();
    pair.carry();
    pair.sides[0].settle();
    let taken = delta_with(&pair.sides[1].log, &Key::Taken { peer: 0 });
    let removed = delta_with(&pair.sides[0].log, &Key::Acknowledged { peer: 1 });
    assert!(removed.committed_at_ms >= taken.committed_at_ms);
}

#[test]
fn rule_36_no_other_partition_moves_the_time_of_timers_over_a_takeover_either() {
    let mut pair = Pair::new();
    pair.sides[0].later(4_000);
    let owner = id(1, 0);
    pair.sides[1].send(&owner, "set");
    let batch = pair.sides[1].batch();
    let timer = later_messages(vec![delayed(&owner, 2_000, "ring", "")]);
    pair.sides[1].complete(batch.attempt, timer);
    pair.connect(0);
    pair.carry();
    pair.send(&["one"]);
    pair.sides[0].settle();
    pair.carry();
    pair.sides[1].settle();
    let ahead_ms = pair.sides[1].log.last().unwrap().committed_at_ms;
    assert!(ahead_ms > pair.sides[1].now_ms + 2_000);
    pair.sides[1].crash();
    pair.sides[1].settle();
    assert_eq!(pair.sides[1].partition.counts().timers_fired, 0);
    assert_eq!(pair.sides[1].partition.gauges().timers, 1);
    pair.sides[1].later(2_000);
    assert_eq!(pair.sides[1].partition.counts().timers_fired, 1);
    pair.sides[1].settle();
    let last = pair.sides[1].log.last().unwrap().committed_at_ms;
    assert!(last >= ahead_ms, "the times of deltas do not go back");
}

#[test]
fn rule_36_a_frame_far_ahead_is_refused_and_its_connection_closed() {
    let mut pair = Pair::new();
    pair.sides[0].later(AHEAD_MAX_MS + 2_000);
    pair.connect(0);
    pair.carry();
    pair.send(&["one"]);
    pair.sides[0].settle();
    pair.carry();
    assert_eq!(closed(&mut pair.sides[0]), [CloseCause::ClocksDiffer]);
    assert_eq!(pair.sides[1].batches().len(), 0);
    pair.sides[1].later(5_000);
    pair.connect(0);
    pair.carry();
    assert_eq!(texts(&pair.sides[1].batch()), ["one"]);
}

#[test]
fn rule_44_a_reply_of_another_partition_finds_the_partition_of_its_call() {
    let mut pair = Pair::new();
    pair.connect(0);
    pair.connect(1);
    let request = pair.sides[0].call_with_key(&id(0, 0), "ask", "key");
    let batch = pair.sides[0].batch();
    let caller = batch.messages[0].caller.clone().unwrap();
    let to = address(&id(1, 0));
    pair.sides[0].complete(
        batch.attempt,
        sending(vec![message_to(&to, "for the caller")]),
    );
    pair.sides[0].settle();
    pair.carry();
    let batch = pair.sides[1].batch();
    pair.sides[1].complete(batch.attempt, sending(vec![message_to(&caller, "answer")]));
    pair.sides[1].settle();
    assert_eq!(pair.sides[0].answer_to(request), None);
    pair.carry();
    pair.sides[0].settle();
    let answer = Some(Answer::Replied(value("answer")));
    assert_eq!(pair.sides[0].answer_to(request), answer);
    pair.sides[0].crash();
    let again = pair.sides[0].call_with_key(&id(0, 0), "ask", "key");
    pair.sides[0].settle();
    assert_eq!(pair.sides[0].answer_to(again), answer);
}

#[test]
fn a_timer_for_another_partition_stays_with_its_owner_and_is_sent_when_it_fires() {
    let mut pair = Pair::new();
    pair.connect(0);
    let owner = id(0, 0);
    pair.sides[0].send(&owner, "set");
    let batch = pair.sides[0].batch();
    let timer = later_messages(vec![delayed(&id(1, 0), 2_000, "ring", "")]);
    pair.sides[0].complete(batch.attempt, timer);
    pair.sides[0].settle();
    pair.carry();
    assert_eq!(pair.sides[1].batches().len(), 0);
    let before = pair.sides[0].log.len();
    pair.sides[0].later(2_000);
    pair.sides[0].settle();
    let fired = delta_with(
        &pair.sides[0].log[before..],
        &Key::Out { peer: 1, number: 1 },
    );
    let removed =
        |change: &Change| matches!(change.key, Key::Timer { .. }) && change.value.is_none();
    assert!(fired.changes.iter().any(removed), "{fired:?}");
    pair.carry();
    assert_eq!(texts(&pair.sides[1].batch()), ["ring"]);
}

#[test]
fn a_record_for_another_partition_is_in_the_delta_of_its_position() {
    let mut pair = Pair::new();
    pair.sides[0].find_shard(ShardPosition::Beginning);
    pair.sides[0].settle();
    pair.sides[0].read(&id(1, 0), [7]);
    pair.sides[0].settle();
    let delta = delta_with(&pair.sides[0].log, &Key::Out { peer: 1, number: 1 });
    let position = |change: &Change| {
        change.key == Key::Shard(shard())
            && matches!(
                change.value,
                Some(Value::Shard(ShardPosition::After { .. }))
            )
    };
    assert!(delta.changes.iter().any(position), "{delta:?}");
    let sent = delta.changes.iter().find_map(|change| match &change.value {
        Some(Value::Out(sent)) => Some(sent.sender),
        _ => None,
    });
    let stream = shard().to_string();
    assert_eq!(sent, Some(PLACEMENT.key_group_of_id(&stream)));
}

#[test]
fn rule_45_a_former_owner_of_the_receiver_is_left_and_a_newest_one_that_lacks_messages_is_damage() {
    let mut pair = Pair::sent(&["one"]);
    pair.carry();
    pair.sides[1].settle();
    pair.carry();
    let answer = |epoch, taken| LinkAnswer {
        epoch,
        taken,
        durable: taken,
        time_ms: 0,
        refused: None,
        credit: 1,
    };
    let side = &mut pair.sides[0];
    side.settle();
    // The epoch that acknowledged survives a change of the sender's owner.
    side.crash();
    side.handle(Input::PeerConnected {
        peer: 1,
        connection: 8,
    });
    side.handle(Input::PeerAnswered {
        connection: 8,
        answer: answer(0, 0),
    });
    assert_eq!(closed(side), [CloseCause::FormerOwner]);
    side.handle(Input::PeerConnected {
        peer: 1,
        connection: 9,
    });
    side.handle(Input::PeerAnswered {
        connection: 9,
        answer: answer(2, 0),
    });
    let damage = side.take(|output| match output {
        Output::PeerDamaged { peer, damage } => Some((*peer, *damage)),
        _ => None,
    });
    assert_eq!(damage, [(1, LinkDamage::Lost { number: 1 })]);
    // The pair stands still until a person decides.
    side.handle(Input::PeerConnected {
        peer: 1,
        connection: 10,
    });
    let (from, to) = (id(0, 0), address(&id(1, 0)));
    side.send(&from, "go");
    side.commit();
    let batch = side.batch();
    side.complete(batch.attempt, sending(vec![message_to(&to, "two")]));
    side.settle();
    assert_eq!(frames(side), []);
}

#[test]
fn an_image_of_the_partition_holds_both_sides_of_each_link() {
    let mut pair = Pair::sent(&["one", "two"]);
    pair.carry();
    pair.sides[1].settle();
    for (side, expected) in [(0, 3), (1, 1)] {
        let buckets = PLACEMENT.key_groups;
        pair.sides[side].handle(Input::ImagesWanted(vec![buckets]));
        let images = pair.sides[side].take(|output| match output {
            Output::Image(image) => Some(image.content.clone()),
            _ => None,
        });
        let facts = images.iter().flatten().filter(|change| {
            matches!(
                change.key,
                Key::Out { .. } | Key::Assigned { .. } | Key::Taken { .. }
            )
        });
        let facts: Vec<_> = facts.map(through_bytes).collect();
        assert_eq!(facts.len(), expected, "{facts:?}");
    }
}

#[test]
fn the_key_group_of_a_call_is_in_its_id() {
    let caller = |id: &str| {
        let function = FunctionType::new(crate::address::RESERVED_NAMESPACE, "call");
        Address::new(function, Arc::<str>::from(id))
    };
    let of = |id: &str| side(0).partition_of(&caller(id));
    assert_eq!(of(&format!("0003{}", "e".repeat(28))), Some(0));
    assert_eq!(of(&format!("000c{}", "e".repeat(28))), Some(1));
    assert_eq!(of(&"e".repeat(32)), None, "there are fewer key groups");
    assert_eq!(of("nothing"), None);
}
