//! A stream whose shards another partition reads than the one that plans it.

use super::super::fixture::*;
use super::pair::*;
use crate::durable::{Change, Key, Value};
use crate::input::{FoundShard, Input};
use crate::output::Output;
use crate::position::ShardPosition;

/// A pair, and which of its sides plans the stream and reads its only shard.
struct Stream {
    pair: Pair,
    home: usize,
    reader: usize,
}

const START: ShardPosition = ShardPosition::Since { time_ms: 7 };

impl Stream {
    fn new() -> Self {
        let home = side(0).home_of_stream(&shard().stream) as usize;
        let mut pair = Pair::new();
        pair.connect(0);
        pair.connect(1);
        pair.carry();
        Self {
            pair,
            home,
            reader: 1 - home,
        }
    }

    /// The same, and the shard is handed over.
    fn handed() -> Self {
        let mut stream = Self::new();
        stream.find();
        stream.pass();
        assert_eq!(stream.reads(stream.reader), [START]);
        stream
    }

    /// The home finds the shard, all of whose keys belong to the other side.
    fn find(&mut self) {
        let half = u128::MAX / 2;
        let range = [(0, half), (half + 1, u128::MAX)][self.reader];
        self.find_with(Some(range));
    }

    fn find_with(&mut self, hash_range: Option<(u128, u128)>) {
        self.pair.sides[self.home].handle(Input::ShardsFound(vec![FoundShard {
            shard: shard(),
            start: START,
            hash_range,
        }]));
    }

    /// Makes everything durable, and carries everything that waits to pass.
    fn pass(&mut self) {
        for _ in 0..4 {
            self.pair.sides.iter_mut().for_each(|side| side.settle());
            self.pair.carry();
        }
    }

    fn reads(&mut self, side: usize) -> Vec<ShardPosition> {
        self.pair.sides[side].reads()
    }

    /// Position of the shard in the log of a side, as the last delta with it says.
    fn position(&self, side: usize) -> Option<ShardPosition> {
        let deltas = self.pair.sides[side].log.iter().rev();
        let mut changes = deltas.flat_map(|delta| delta.changes.iter().rev());
        let last = changes.find(|change| change.key == Key::Shard(shard()))?;
        match &last.value {
            Some(Value::Shard(position)) => Some(position.clone()),
            _ => None,
        }
    }

    fn reader(&mut self) -> &mut Fixture {
        &mut self.pair.sides[self.reader]
    }
}

#[test]
fn rule_24_a_shard_is_handed_to_the_partition_of_its_keys_in_the_delta_of_its_start() {
    let mut stream = Stream::new();
    stream.find();
    let sides = &mut stream.pair.sides;
    sides[stream.home].commit();
    let handed = Key::Out {
        peer: stream.reader as u32,
        number: 1,
    };
    let delta = delta_with(&sides[stream.home].log, &handed);
    let elsewhere = Change {
        key: Key::Shard(shard()),
        value: Some(Value::Shard(ShardPosition::Elsewhere)),
    };
    assert!(delta.changes.contains(&elsewhere), "{delta:?}");
    stream.pair.carry();
    assert_eq!(stream.reads(stream.reader), [], "its start is not durable");
    stream.pass();
    assert_eq!(stream.reads(stream.reader), [START]);
    assert_eq!(stream.reads(stream.home), []);
    assert_eq!(stream.position(stream.reader), Some(START));
}

#[test]
fn rule_24_an_end_is_told_only_when_what_was_forwarded_is_acknowledged() {
    let mut stream = Stream::handed();
    let forwarded = id(stream.home as u32, 0);
    stream.reader().read(&forwarded, [1, 2]);
    stream.reader().handle(Input::ShardEnded { shard: shard() });
    stream.reader().settle();
    assert_eq!(stream.reads(stream.reader), [ShardPosition::End]);
    assert_eq!(stream.position(stream.reader), Some(ShardPosition::End));
    assert_eq!(stream.reads(stream.home), []);
    let sent = frames(stream.reader());
    assert_eq!(sent.len(), 1, "the records, and nothing about the end");
    for (connection, generation, frame) in sent {
        let home = &mut stream.pair.sides[stream.home];
        home.handle(Input::PeerFrame {
            connection,
            generation,
            frame,
        });
    }
    let batch = stream.pair.sides[stream.home].batch();
    assert_eq!(texts(&batch), ["1", "2"]);
    stream.pass();
    assert_eq!(stream.reads(stream.home), [ShardPosition::End]);
    assert_eq!(stream.position(stream.home), Some(ShardPosition::End));
    assert_eq!(stream.position(stream.reader), None, "the home keeps it");
}

#[test]
fn rule_24_the_next_owner_of_a_reader_tells_the_end() {
    let mut stream = Stream::handed();
    let forwarded = id(stream.home as u32, 0);
    stream.reader().read(&forwarded, [1]);
    stream.reader().handle(Input::ShardEnded { shard: shard() });
    stream.reader().settle();
    stream.reader().crash();
    stream.pair.connect(stream.reader);
    stream.pair.connect(stream.home);
    stream.pass();
    assert_eq!(stream.reads(stream.home), [ShardPosition::End]);
    assert_eq!(stream.position(stream.reader), None);
    // The home learns of it once.
    stream.reader().crash();
    stream.pair.connect(stream.reader);
    stream.pass();
    assert_eq!(stream.reads(stream.home), []);
}

#[test]
fn rule_24_the_next_owner_of_the_home_hands_a_shard_over_once_and_learns_of_its_end() {
    let mut stream = Stream::new();
    stream.find();
    stream.pair.sides[stream.home].commit();
    stream.pair.sides[stream.home].crash();
    stream.pair.connect(stream.home);
    stream.pair.connect(stream.reader);
    stream.pass();
    let planned = stream.pair.sides[stream.home].plan();
    assert_eq!(planned, [(shard().shard, ShardPosition::Elsewhere)]);
    // The home waits for the end, also of a shard that its stream does not list any more.
    stream.find_with(None);
    stream.find();
    stream.pass();
    assert_eq!(stream.reads(stream.reader), [START]);
    assert_eq!(stream.reads(stream.home), []);
    stream.reader().handle(Input::ShardEnded { shard: shard() });
    stream.pass();
    assert_eq!(stream.reads(stream.home), [ShardPosition::End]);
    stream.find_with(None);
    stream.pass();
    assert_eq!(stream.reads(stream.home), [ShardPosition::End]);
}

#[test]
fn rule_24_a_home_that_read_the_shard_itself_hands_it_over_after_what_it_forwarded() {
    let mut stream = Stream::new();
    // Former versions read every shard at the home.
    let home = &mut stream.pair.sides[stream.home];
    home.find_shard(ShardPosition::Beginning);
    home.settle();
    assert_eq!(home.reads(), [ShardPosition::Beginning]);
    home.read(&id(stream.reader as u32, 0), [1, 2]);
    home.settle();
    home.crash();
    stream.pair.connect(stream.home);
    stream.find();
    let applied = ShardPosition::After {
        sequence: 2.into(),
        sub_sequence: 0,
    };
    stream.pair.sides[stream.home].settle();
    assert_eq!(stream.position(stream.home), Some(applied.clone()));
    stream.pair.carry();
    let batch = stream.reader().batch();
    assert_eq!(texts(&batch), ["1", "2"]);
    stream.pass();
    assert_eq!(stream.position(stream.home), Some(ShardPosition::Elsewhere));
    assert_eq!(stream.reads(stream.reader), [applied]);
    assert_eq!(stream.reads(stream.home), []);
}

#[test]
fn rule_24_a_shard_that_begins_at_its_end_is_not_handed_over() {
    // `latest` begins a closed shard at its end if its children are not listed yet.
    let mut stream = Stream::new();
    let half = u128::MAX / 2;
    let range = [(0, half), (half + 1, u128::MAX)][stream.reader];
    let found = Input::ShardsFound(vec![FoundShard {
        shard: shard(),
        start: ShardPosition::End,
        hash_range: Some(range),
    }]);
    stream.pair.sides[stream.home].handle(found);
    stream.pass();
    assert_eq!(stream.reads(stream.home), [ShardPosition::End]);
    assert_eq!(stream.reads(stream.reader), []);
    assert_eq!(stream.position(stream.home), Some(ShardPosition::End));
}

#[test]
fn rule_24_a_shard_that_is_about_to_be_handed_over_is_not_read_at_home() {
    let mut stream = Stream::new();
    let home = stream.home;
    // What the home has forwarded is not acknowledged yet.
    let (from, to) = (id(home as u32, 0), address(&id(stream.reader as u32, 0)));
    stream.pair.sides[home].send(&from, "go");
    let batch = stream.pair.sides[home].batch();
    let forwarded = sending(vec![message_to(&to, "one")]);
    stream.pair.sides[home].complete(batch.attempt, forwarded);
    stream.pair.sides[home].settle();
    stream.find();
    stream.pair.sides[home].settle();
    // Its ingress begins again meanwhile, and then finds that it has lost the shard.
    stream.find_with(None);
    stream.pair.sides[home].settle();
    assert_eq!(stream.reads(home), []);
    stream.pair.sides[home].handle(Input::ShardEnded { shard: shard() });
    stream.pass();
    assert_eq!(stream.reads(home), [ShardPosition::End]);
    assert_eq!(stream.position(home), Some(ShardPosition::End));
    assert_eq!(stream.position(stream.reader), None);
    assert_eq!(stream.reads(stream.reader), []);
}

#[test]
fn rule_24_only_the_reader_ends_a_shard_that_was_handed_over() {
    let mut stream = Stream::handed();
    let ended = Input::ShardEnded { shard: shard() };
    stream.pair.sides[stream.home].handle(ended);
    stream.pass();
    assert_eq!(stream.reads(stream.home), []);
    assert_eq!(stream.position(stream.home), Some(ShardPosition::Elsewhere));
}

#[test]
fn a_function_cannot_tell_a_partition_about_shards() {
    let mut stream = Stream::handed();
    let reserved = crate::address::RESERVED_NAMESPACE;
    let function = crate::address::FunctionType::new(reserved, "shards");
    let target = crate::address::Address::new(function, "in");
    for side in [0, 1] {
        let from = id(side as u32, 0);
        stream.pair.sides[side].send(&from, "go");
        let batch = stream.pair.sides[side].batch();
        let forged = sending(vec![message_to(&target, "forged")]);
        stream.pair.sides[side].complete(batch.attempt, forged);
    }
    stream.pass();
    assert_eq!(stream.position(stream.home), Some(ShardPosition::Elsewhere));
    assert_eq!(stream.position(stream.reader), Some(START));
    let outputs = stream.pair.sides.iter().flat_map(|side| &side.outputs);
    let frames = outputs.filter(|output| matches!(output, Output::PeerFrame { .. }));
    assert_eq!(frames.count(), 0);
}
