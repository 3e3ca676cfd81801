//! When deltas are sealed: at once after quiet, at a pace under load, and never for what can wait.

use super::fixture::{Fixture, config, emit, nothing, set_seen};
use crate::endpoint::OnPoison;
use crate::input::Input;
use crate::output::Output;
use crate::partition::Config;
use crate::position::ShardPosition;

const PACE_MS: u64 = 50;
const INTERVAL_MS: u64 = 1_000;

/// A partition as it is on S3.
fn paced() -> Fixture {
    Fixture::with(Config {
        commit_pace_ms: PACE_MS,
        commit_interval_ms: INTERVAL_MS,
        commit_depth: 2,
        ..config(OnPoison::DeadLetter)
    })
}

/// Numbers and times of the sealed deltas that are not durable.
fn seals(fixture: &Fixture) -> Vec<(u64, u64)> {
    let sealed = fixture.sealed.iter();
    sealed
        .map(|delta| (delta.number, delta.committed_at_ms))
        .collect()
}

/// Sends a message that its function handles at once. The sender waits for the commit.
fn accepted(fixture: &mut Fixture, id: &str) {
    fixture.send(id, "hello");
    let batch = fixture.batch();
    fixture.complete(batch.attempt, set_seen("hello"));
}

/// Reads one record of a shard, whose function writes to an egress.
fn emits(fixture: &mut Fixture, number: u64) {
    fixture.read("alice", [number]);
    let batch = fixture.batch();
    fixture.complete(batch.attempt, emit("record"));
}

/// A partition that reads a shard, with nothing left to commit.
fn reading() -> Fixture {
    let mut fixture = paced();
    fixture.find_shard(ShardPosition::Beginning);
    fixture.settle();
    fixture.later(10_000);
    fixture
}

#[test]
fn the_first_change_after_quiet_is_sealed_at_once_and_the_next_after_the_pace() {
    let mut fixture = paced();
    accepted(&mut fixture, "alice");
    assert_eq!(seals(&fixture), [(1, 1_000)]);
    fixture.commit();

    fixture.later(10);
    accepted(&mut fixture, "bob");
    accepted(&mut fixture, "carol");
    fixture.later(PACE_MS - 11);
    assert_eq!(seals(&fixture), [], "one millisecond before the pace");
    fixture.later(1);
    assert_eq!(seals(&fixture), [(2, 1_050)], "one delta for both");
    fixture.commit();

    fixture.later(10_000);
    accepted(&mut fixture, "dave");
    assert_eq!(seals(&fixture), [(3, 11_050)]);
}

#[test]
fn a_burst_makes_one_commit_for_each_pace() {
    let mut fixture = paced();
    let mut commits = 0;
    for call in 0..1_000 {
        accepted(&mut fixture, &format!("address-{call}"));
        commits += fixture.sealed.len();
        fixture.commit();
        fixture.later(1);
        commits += fixture.sealed.len();
        fixture.commit();
    }
    assert_eq!(
        commits, 21,
        "one at once, and one for each 50 of the 1,000 ms"
    );
}

#[test]
fn a_shorter_commit_interval_does_not_break_the_pace() {
    let mut fixture = Fixture::with(Config {
        commit_pace_ms: PACE_MS,
        commit_interval_ms: 5,
        ..config(OnPoison::DeadLetter)
    });
    let mut commits = 0;
    for call in 0..100 {
        accepted(&mut fixture, &format!("address-{call}"));
        commits += fixture.sealed.len();
        fixture.commit();
        fixture.later(1);
        commits += fixture.sealed.len();
        fixture.commit();
    }
    assert_eq!(commits, 3, "one at once, and one for each 50 of the 100 ms");
}

#[test]
fn records_of_an_egress_alone_share_a_commit_for_five_paces() {
    let mut fixture = reading();
    emits(&mut fixture, 1);
    assert_eq!(seals(&fixture).len(), 1, "after quiet, at once");
    fixture.commit();
    emits(&mut fixture, 2);
    fixture.later(10);
    emits(&mut fixture, 3);
    fixture.later(5 * PACE_MS - 11);
    assert_eq!(seals(&fixture), []);
    fixture.later(1);
    assert_eq!(seals(&fixture).len(), 1);
    fixture.commit();
    assert_eq!(fixture.emissions().len(), 3);
}

#[test]
fn an_answer_takes_the_records_of_an_egress_along() {
    let mut fixture = reading();
    emits(&mut fixture, 1);
    fixture.commit();
    emits(&mut fixture, 2);
    accepted(&mut fixture, "bob");
    fixture.later(PACE_MS);
    fixture.commit();
    assert_eq!(fixture.emissions().len(), 2);
    assert_eq!(fixture.answers().len(), 1);
}

#[test]
fn an_acknowledgement_waits_for_the_commit_interval() {
    let mut fixture = reading();
    emits(&mut fixture, 1);
    fixture.commit();
    let emitted = fixture.emissions();
    assert_eq!(emitted.len(), 1, "{emitted:?}");

    fixture.later(10_000);
    fixture.handle(Input::EgressAcked {
        numbers: vec![emitted[0].number],
    });
    fixture.later(INTERVAL_MS - 1);
    assert_eq!(seals(&fixture), []);
    fixture.later(1);
    assert_eq!(seals(&fixture).len(), 1);
}

#[test]
fn the_last_deltas_of_a_stop_wait_for_no_interval() {
    let mut fixture = reading();
    emits(&mut fixture, 1);
    fixture.commit();
    let emitted = fixture.emissions();
    fixture.later(10_000);
    fixture.read("alice", [2]);
    let batch = fixture.batch();
    fixture.complete(batch.attempt, nothing());
    assert_eq!(seals(&fixture), []);
    fixture.handle(Input::StopRequested);
    assert_eq!(seals(&fixture).len(), 1);
    fixture.handle(Input::EgressAcked {
        numbers: vec![emitted[0].number],
    });
    fixture.commit();
    assert_eq!(fixture.outputs.last(), Some(&Output::Stopped));
}

#[test]
fn positions_without_effects_wait_for_the_commit_interval() {
    let mut fixture = reading();
    fixture.read("alice", [1]);
    let batch = fixture.batch();
    fixture.complete(batch.attempt, nothing());
    fixture.later(INTERVAL_MS - 1);
    assert_eq!(seals(&fixture), []);
    fixture.later(1);
    assert_eq!(seals(&fixture).len(), 1);
}

#[test]
fn a_slow_store_makes_the_next_delta_linger_for_half_of_its_time() {
    let mut fixture = Fixture::with(Config {
        commit_depth: 4,
        ..config(OnPoison::DeadLetter)
    });
    // Learns that a commit takes 40 ms.
    for round in 0..50 {
        accepted(&mut fixture, &format!("address-{round}"));
        fixture.later(40);
        fixture.commit();
        // The end of the message is sealed at the commit interval.
        fixture.later(1_000);
        fixture.later(40);
        fixture.commit();
    }
    accepted(&mut fixture, "alice");
    assert_eq!(fixture.sealed.len(), 1, "nothing is under way");
    let sealed_at = fixture.now_ms;
    fixture.later(1);
    accepted(&mut fixture, "bob");
    let mut waited = 1;
    while fixture.sealed.len() == 1 {
        fixture.later(1);
        waited += 1;
    }
    assert_eq!(fixture.now_ms, sealed_at + waited);
    assert!((17..=20).contains(&waited), "{waited} ms of 40");

    // The return of what is under way ends the wait.
    fixture.later(1);
    accepted(&mut fixture, "carol");
    assert_eq!(fixture.sealed.len(), 2);
    for delta in std::mem::take(&mut fixture.sealed) {
        let number = delta.number;
        fixture.log.push(delta);
        fixture.handle(Input::CommitDurable { number });
    }
    assert_eq!(fixture.sealed.len(), 1, "carol's call");
}

#[test]
fn a_full_log_is_waited_for() {
    let mut fixture = paced();
    for id in ["alice", "bob", "carol"] {
        accepted(&mut fixture, id);
        fixture.later(PACE_MS);
    }
    assert_eq!(seals(&fixture), [(1, 1_000), (2, 1_050)]);
    fixture.commit();
    assert_eq!(fixture.log.len(), 3);
    assert_eq!(fixture.answers().len(), 3);
}
