//! Recovery is replay: a new owner always continues from exactly the durable deltas.
//!
//! A partition is driven at random (seeded) through arrivals, answers, failures, timers, commits
//! and crashes. The result of its functions is known: each message of a shard is counted once by
//! its address, passed on once along a fixed chain, and emitted once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use satchel_protocol::reqreply::FromFunction;
use satchel_protocol::reqreply::from_function::{InvocationResponse, expiration_spec::ExpireMode};

use super::fixture::*;
use crate::durable::{Change, Key};
use crate::endpoint::OnPoison;
use crate::input::Input;
use crate::invocation::Batch;
use crate::output::{Delta, Output};
use crate::partition::Recovery;
use crate::position::ShardPosition;

/// Pseudo-random numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut draw = self.0;
        draw = (draw ^ (draw >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        draw = (draw ^ (draw >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((draw ^ (draw >> 31)) % limit as u64) as usize
    }
}

const RECORDS: u64 = 40;

/// Counts each message in `seen`. A message from a shard is passed to `sum`, at once or delayed;
/// `sum` emits what it receives.
fn handle(batch: &Batch) -> FromFunction {
    if batch.state.is_empty() {
        return incomplete("seen", "t/text", ExpireMode::None, 0);
    }
    let value = batch.state[0].value.as_ref();
    let seen: u64 = value.map_or(0, |(_, value)| {
        std::str::from_utf8(value).unwrap().parse().unwrap()
    });
    let seen = seen + batch.messages.len() as u64;
    let mut response = InvocationResponse {
        state_mutations: vec![mutation("seen", "t/text", &seen.to_string())],
        ..Default::default()
    };
    for (cause, (message, text)) in (1..).zip(batch.messages.iter().zip(texts(batch))) {
        if &*batch.target.id == "sum" {
            let mut record = egress("out", &text);
            record.cause = cause;
            response.outgoing_egresses.push(record);
        } else if text.parse::<u64>().unwrap() % 5 == 0 {
            response
                .delayed_invocations
                .push(delayed("sum", 300, &text, ""));
        } else {
            let mut passed = message_to(&address("sum"), &text);
            passed.cause = cause;
            response.outgoing_messages.push(passed);
        }
        assert!(message.id.len() == 32);
    }
    effects(response)
}

/// The world outside the partition, which survives its crashes.
#[derive(Default)]
struct World {
    in_flight: Vec<Arc<Batch>>,
    /// Answers that will come a second time, or to a later owner than the one that asked.
    late: Vec<Arc<Batch>>,
    /// Records that arrived at the egress, by outbox number. A number has the same content forever.
    arrived: BTreeMap<u64, String>,
    acks: VecDeque<u64>,
    reading_from: Option<u64>,
}

impl World {
    fn take(&mut self, fixture: &mut Fixture) {
        for output in std::mem::take(&mut fixture.outputs) {
            match output {
                Output::Invoke { batch, .. } => {
                    let twice = self.in_flight.iter().any(|other| {
                        other.target == batch.target && other.attempt.epoch == batch.attempt.epoch
                    });
                    assert!(!twice, "{} has one batch in flight", batch.target);
                    self.in_flight.push(batch);
                }
                Output::Emit(emissions) => {
                    for emission in emissions {
                        let durable = fixture.log.iter().any(|delta| {
                            let key = Key::Outbox {
                                number: emission.number,
                            };
                            delta.changes.iter().any(|change| change.key == key)
                        });
                        assert!(durable, "nothing leaves before its commit");
                        let text = text_of(&emission.value);
                        let before = self.arrived.insert(emission.number, text.clone());
                        assert!(
                            before.is_none_or(|before| before == text),
                            "a number has one content"
                        );
                        self.acks.push_back(emission.number);
                    }
                }
                Output::Read { after, .. } => {
                    self.reading_from = Some(match after {
                        ShardPosition::Beginning => 0,
                        ShardPosition::After { sequence, .. } => sequence.as_str().parse().unwrap(),
                        other => panic!("this shard is never at {other:?}"),
                    });
                }
                _ => {}
            }
        }
    }

    fn crash(&mut self, random: &mut Random) {
        let in_flight = std::mem::take(&mut self.in_flight);
        if random.below(2) == 0 {
            self.late.extend(in_flight);
        }
        self.acks.clear();
        self.reading_from = None;
    }

    fn done(&self) -> bool {
        self.arrived.len() as u64 == RECORDS
    }
}

fn step(fixture: &mut Fixture, world: &mut World, random: &mut Random, faults: bool) {
    match random.below(12) {
        0..=2 => {
            if let Some(from) = world.reading_from.filter(|from| *from < RECORDS) {
                // Some records are read again.
                let first = from.saturating_sub(random.below(3) as u64) + 1;
                let last = (from + 1 + random.below(5) as u64).min(RECORDS);
                let address = ["alice", "bob", "carol"][random.below(3)];
                for number in first..=last {
                    fixture.read(if number % 2 == 0 { "even" } else { address }, [number]);
                }
                world.reading_from = Some(last);
            }
        }
        3..=6 => {
            if !world.in_flight.is_empty() {
                let index = random.below(world.in_flight.len());
                let batch = world.in_flight[index].clone();
                world.in_flight.remove(index);
                if faults && random.below(6) == 0 {
                    fixture.fail(batch.attempt, "fault");
                } else {
                    fixture.complete(batch.attempt, handle(&batch));
                }
                if random.below(5) == 0 {
                    world.late.push(batch);
                }
            } else if let Some(batch) = world.late.pop() {
                fixture.complete(batch.attempt, handle(&batch));
            }
        }
        7..=8 => {
            if !fixture.sealed.is_empty() {
                let count = 1 + random.below(fixture.sealed.len());
                let durable: Vec<Delta> = fixture.sealed.drain(..count).collect();
                let number = durable.last().unwrap().number;
                fixture.log.extend(durable);
                fixture.handle(Input::CommitDurable { number });
            }
        }
        9 => {
            if let Some(number) = world.acks.pop_front() {
                let numbers = vec![number];
                fixture.handle(Input::EgressAcked { numbers });
            }
        }
        10 => fixture.later(random.below(400) as u64),
        _ => {
            if faults && random.below(8) == 0 {
                // Some of the deltas on their way become durable, as an unbroken prefix.
                let count = random.below(fixture.sealed.len() + 1);
                let durable: Vec<Delta> = fixture.sealed.drain(..count).collect();
                fixture.log.extend(durable);
                world.crash(random);
                fixture.crash();
                fixture.find_shard(ShardPosition::Beginning);
            }
        }
    }
    world.take(fixture);
}

/// The durable content as a map: the fold of the deltas.
fn fold(log: &[Delta]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut content = BTreeMap::new();
    for change in log.iter().flat_map(|delta| &delta.changes) {
        put(&mut content, change);
    }
    content
}

fn put(content: &mut BTreeMap<Vec<u8>, Vec<u8>>, change: &Change) {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    change.encode_key(&mut key);
    if change.encode_value(&mut value) {
        content.insert(key, value);
    } else {
        content.remove(&key);
    }
}

/// Asserts that the images of all buckets of `fixture`, which has nothing to commit, equal the fold
/// of its log.
fn assert_images_equal_the_fold(fixture: &mut Fixture) {
    let placement = fixture.config.placement;
    let buckets = placement.buckets();
    fixture.handle(Input::ImagesWanted((0..=buckets).collect()));
    let mut content = BTreeMap::new();
    let mut imaged = Vec::new();
    for output in std::mem::take(&mut fixture.outputs) {
        if let Output::Image(image) = output {
            assert_eq!(image.delta, fixture.partition.gauges().sealed);
            for change in &image.content {
                assert_eq!(change.key.bucket(&placement), image.bucket);
                put(&mut content, change);
            }
            imaged.push(image.bucket);
        }
    }
    assert_eq!(imaged, (0..=buckets).collect::<Vec<_>>());
    assert_eq!(content, fold(&fixture.log));
}

fn run(seed: u64) -> Vec<Delta> {
    let mut fixture = Fixture::with(crate::partition::Config {
        commit_depth: 1 + seed % 4,
        ..config(crate::endpoint::OnPoison::DeadLetter)
    });
    let mut random = Random(seed);
    let mut world = World::default();
    fixture.config.endpoints = without_dead_letters();
    fixture.take_over();
    fixture.find_shard(ShardPosition::Beginning);
    for _ in 0..1500 {
        step(&mut fixture, &mut world, &mut random, true);
    }
    for _ in 0..20_000 {
        if world.done() && fixture.partition.gauges().outbox == 0 {
            break;
        }
        step(&mut fixture, &mut world, &mut random, false);
    }
    fixture.settle();
    world.take(&mut fixture);
    assert!(
        world.done(),
        "once faults stop, everything pending completes: {:?}",
        fixture.partition.gauges()
    );
    let mut arrived: Vec<u64> = world
        .arrived
        .values()
        .map(|text| text.parse().unwrap())
        .collect();
    arrived.sort_unstable();
    assert_eq!(
        arrived,
        (1..=RECORDS).collect::<Vec<_>>(),
        "each record once"
    );
    assert_eq!(fixture.seen("sum"), Some(RECORDS.to_string()));
    let counted = ["alice", "bob", "carol", "even"].map(|id| {
        let seen = fixture.seen(id);
        seen.map_or(0, |seen| seen.parse::<u64>().unwrap())
    });
    assert_eq!(counted.iter().sum::<u64>(), RECORDS);
    assert_images_equal_the_fold(&mut fixture);
    fixture.log
}

/// Faults are frequent here, and must not use up a message's attempts.
fn without_dead_letters() -> crate::endpoint::Endpoints {
    let base = config(crate::endpoint::OnPoison::DeadLetter).endpoints;
    let endpoint = base.get(crate::invocation::EndpointIndex(0)).clone();
    let retries = crate::endpoint::Retries {
        attempts_max: u32::MAX,
        ..endpoint.retries
    };
    crate::endpoint::Endpoints::new(vec![crate::endpoint::Endpoint {
        retries,
        ..endpoint
    }])
}

#[test]
fn whatever_crashes_each_record_takes_effect_exactly_once() {
    for seed in 0..300 {
        let outcome = std::panic::catch_unwind(|| run(seed));
        assert!(outcome.is_ok(), "seed {seed} fails");
    }
}

#[test]
fn a_seed_run_twice_gives_the_same_deltas() {
    for seed in 0..10 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

#[test]
fn applying_the_log_twice_is_harmless() {
    let log = run(42);
    let mut fixture = Fixture::new();
    fixture.log = log.clone();
    fixture.take_over();
    fixture.settle();
    let once = fold(&fixture.log);
    let mut recovery = Recovery::new(fixture.config.clone());
    for change in log.iter().chain(&log).flat_map(|delta| &delta.changes) {
        recovery.apply(through_bytes(change));
    }
    let ownership = crate::partition::Ownership {
        epoch: 9,
        committed_at_ms: 0,
        clean: true,
    };
    fixture.partition = recovery.start(ownership, fixture.now_ms);
    assert_eq!(fold(&fixture.log), once);
    assert_images_equal_the_fold(&mut fixture);
}

#[test]
fn an_image_excludes_what_left_no_trace_since_the_last_seal() {
    let mut fixture = Fixture::new();
    fixture.send("alice", "1");
    fixture.settle();
    let batch = fixture.batch();
    fixture.complete(batch.attempt, nothing());
    fixture.settle();
    fixture.call("alice", "it takes a number");
    let batch = fixture.batch();
    fixture.complete(batch.attempt, nothing());
    assert!(fixture.sealed.is_empty());
    assert_images_equal_the_fold(&mut fixture);
}

#[test]
fn a_few_images_follow_each_input_so_that_inputs_need_not_wait_for_a_snapshot() {
    let mut config = super::fixture::config(OnPoison::DeadLetter);
    config.image_bytes_per_seal = 1;
    let mut fixture = Fixture::with(config);
    for id in ["alice", "bob", "carol", "dave", "erin"] {
        fixture.send(id, "hello");
    }
    fixture.settle();
    fixture.outputs.clear();
    let mut images = Vec::new();
    fixture.handle(Input::ImagesWanted((0..=4).collect()));
    while images.len() < 5 {
        let taken: Vec<_> = fixture
            .outputs
            .drain(..)
            .filter_map(|output| match output {
                Output::Image(image) => Some((image.bucket, image.content.len())),
                _ => None,
            })
            .collect();
        let with_content = taken.iter().filter(|(_, facts)| *facts > 0);
        assert_eq!(with_content.count(), 1, "{taken:?} after one input");
        images.extend(taken.into_iter().map(|(bucket, _)| bucket));
        fixture.handle(Input::TimeReached);
    }
    assert_eq!(images, [0, 1, 2, 3, 4]);
}
