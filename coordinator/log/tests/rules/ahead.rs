//! Takeovers that continue from what was read while the former owner still wrote.

use satchel_log::{LogError, ObjectStore, Ownership, ReadAhead};
use satchel_log_simulation::{ManualOwner, State, begin_takeover_from, drive, read_ahead_now};

use crate::root::{HOUR_MS, Root, commit_until_snapshot};

/// Continues from what was read ahead.
fn take_over_from(root: &Root, ahead: (ReadAhead, State)) -> (Ownership, State) {
    let contender = root.contender_without_snapshots(2);
    let mut takeover = begin_takeover_from(ahead, contender);
    let (ownership, state) = drive(&mut takeover).expect("nothing holds the takeover up");
    (ownership.expect("everything durable is whole"), state)
}

fn read_ahead(root: &Root) -> (ReadAhead, State) {
    read_ahead_now(&root.contender_without_snapshots(2)).expect("everything durable is whole")
}

#[test]
fn a_takeover_reads_only_what_is_durable_since_it_read_ahead() {
    let root = Root::new();
    let mut a = ManualOwner::take_over(root.contender_without_snapshots(1)).unwrap();
    for value in ["one", "two", "three"] {
        a.commit(&[(0, "key", Some(value)), (2, "wide", Some(value))]);
    }
    let before = root.memory.keys();
    let ahead = read_ahead(&root);
    assert_eq!(root.memory.keys(), before, "reading ahead writes nothing");
    assert_eq!(ahead.1, a.state);
    assert_eq!((ahead.0.end(), ahead.0.replayed()), (5, 4));
    // The owner serves on, for longer than one round of guesses.
    for number in 0..20 {
        a.commit(&[(1, &format!("key {number}"), Some("late"))]);
    }
    assert_eq!(a.durable.len(), 23, "reading ahead stops no owner");
    let (ownership, state) = take_over_from(&root, ahead);
    assert_eq!(state, a.state);
    assert_eq!(ownership.recovery.restarts, 0);
    assert_eq!(ownership.recovery.replayed, 24);
    assert_eq!((ownership.owner.epoch, ownership.takeover), (2, 25));
    a.commit(&[(0, "key", Some("zombie"))]);
    assert!(a.is_fenced(), "{:?}", a.ended);
    let mut b = ManualOwner::begin(ownership, state);
    b.commit(&[(0, "key", Some("b"))]);
    assert_eq!(root.recovered(), b.state);
}

#[test]
fn what_was_read_ahead_of_a_newer_snapshot_is_read_anew() {
    let root = Root::new();
    let mut a = ManualOwner::take_over(root.contender(1)).unwrap();
    a.commit(&[(0, "key", Some("early")), (0, "removed", Some("early"))]);
    let ahead = read_ahead(&root);
    a.commit(&[(0, "removed", None)]);
    commit_until_snapshot(&mut a, "imaged");
    a.commit(&[(1, "key", Some("late"))]);
    let (ownership, state) = take_over_from(&root, ahead);
    assert_eq!(ownership.recovery.restarts, 1);
    assert!(ownership.recovery.manifest.is_some());
    assert_eq!(state, a.state);
}

#[test]
fn what_was_read_ahead_of_a_collection_is_read_anew() {
    let root = Root::new();
    let mut a = ManualOwner::take_over(root.contender(1)).unwrap();
    a.commit(&[(0, "key", Some("early"))]);
    let ahead = read_ahead(&root);
    let next = root.layout.log(ahead.0.end());
    a.commit(&[(0, "key", Some("late"))]);
    for number in 0..20 {
        a.commit(&[(0, "key", Some(&number.to_string()))]);
        a.image_and_advance();
    }
    root.clock.advance(3 * HOUR_MS);
    a.advance();
    assert!(!root.exists(&next), "the rest of the log is collected");
    let (ownership, state) = take_over_from(&root, ahead);
    assert_eq!(ownership.recovery.restarts, 1);
    assert_eq!(state, a.state);
    a.commit(&[(0, "key", Some("zombie"))]);
    assert!(a.is_fenced(), "{:?}", a.ended);
}

#[test]
fn rule_1_what_was_read_ahead_too_long_ago_is_read_anew() {
    let root = Root::new();
    let mut a = ManualOwner::take_over(root.contender_without_snapshots(1)).unwrap();
    a.commit(&[(0, "key", Some("a"))]);
    let ahead = read_ahead(&root);
    root.clock.advance(HOUR_MS);
    let (ownership, state) = take_over_from(&root, ahead);
    assert_eq!(ownership.recovery.restarts, 1);
    assert_eq!(state, a.state);
}

#[test]
fn another_process_may_take_over_between_reading_ahead_and_the_takeover() {
    let root = Root::new();
    let mut a = ManualOwner::take_over(root.contender_without_snapshots(1)).unwrap();
    a.commit(&[(0, "key", Some("a"))]);
    let ahead = read_ahead(&root);
    let mut c = ManualOwner::take_over(root.contender_without_snapshots(3)).unwrap();
    c.commit(&[(0, "key", Some("c"))]);
    a.commit(&[(0, "key", Some("zombie"))]);
    let (ownership, state) = take_over_from(&root, ahead);
    assert_eq!(ownership.owner.epoch, 3);
    assert_eq!(state, c.state);
    c.commit(&[(0, "key", Some("zombie"))]);
    assert!(c.is_fenced(), "{:?}", c.ended);
}

#[test]
fn a_commit_that_lands_during_the_takeover_is_read() {
    let root = Root::new();
    let mut a = ManualOwner::take_over(root.contender_without_snapshots(1)).unwrap();
    let ahead = read_ahead(&root);
    let claim = root.layout.epoch(2);
    root.store.hold(&claim);
    let contender = root.contender_without_snapshots(2);
    let mut b = begin_takeover_from(ahead, contender);
    assert!(drive(&mut b).is_none(), "B read the rest, and claims");
    a.commit(&[(0, "key", Some("late"))]);
    assert_eq!(a.durable, [1]);
    root.store.release(&claim);
    let (ownership, state) = drive(&mut b).expect("nothing holds it up");
    assert_eq!(ownership.unwrap().takeover, 3);
    assert_eq!(state, a.state);
}

#[test]
fn a_lost_record_of_the_rest_is_reported_as_by_any_takeover() {
    let root = Root::new();
    let mut a = ManualOwner::take_over(root.contender_without_snapshots(1)).unwrap();
    a.commit(&[(0, "key", Some("one"))]);
    let ahead = read_ahead(&root);
    for number in 0..30 {
        a.commit(&[(0, "key", Some(&number.to_string()))]);
    }
    let lost = root.layout.log(10);
    let deleted = drive(&mut root.memory.delete(std::slice::from_ref(&lost)));
    deleted.expect("nothing holds it up").unwrap();
    let contender = root.contender_without_snapshots(2);
    let (ownership, _) = drive(&mut begin_takeover_from(ahead, contender)).unwrap();
    match ownership.unwrap_err() {
        LogError::Missing { key, .. } => assert_eq!(key, lost),
        error => panic!("{error}"),
    }
}

#[test]
fn a_root_that_does_not_exist_is_not_read_ahead() {
    let root = Root::new();
    let read = read_ahead_now(&root.contender(1));
    assert!(matches!(read, Err(LogError::Missing { .. })), "{read:?}");
    assert!(root.memory.keys().is_empty());
}
