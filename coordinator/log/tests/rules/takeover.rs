//! Takeover, commits, collection.

use satchel_log::{Created, LogError, ObjectStore};
use satchel_log_simulation::{ManualOwner, State, begin_takeover, drive};

use crate::root::{HOUR_MS, Root, commit_until_snapshot};

#[test]
fn rule_1_a_sleeper_whose_number_was_collected_commits_nothing() {
    let root = Root::new();
    let mut a = ManualOwner::take_over(root.contender_without_snapshots(1)).unwrap();
    a.commit(&[(0, "key", Some("a"))]);
    assert_eq!(a.numbers, [2]);

    let mut b = ManualOwner::take_over(root.contender(2)).unwrap();
    assert_eq!(b.takeover, 3);
    commit_until_snapshot(&mut b, "b");
    root.clock.advance(3 * HOUR_MS);
    b.advance();
    assert!(
        !root.exists(&root.layout.log(3)),
        "A's next number is collected"
    );

    a.commit(&[(0, "key", Some("zombie"))]);
    assert!(root.exists(&root.layout.log(3)), "A's create succeeds");
    assert_eq!(a.durable, [1], "and still does not count");
    assert!(a.is_fenced(), "{:?}", a.ended);
    assert_eq!(root.recovered(), b.state);
}

#[test]
fn rule_1_a_takeover_written_into_a_collected_hole_is_discarded() {
    let root = Root::new();
    let mut a = ManualOwner::take_over(root.contender(1)).unwrap();
    a.commit(&[(0, "key", Some("early"))]);
    let hole = root.layout.log(3);
    root.store.hold(&hole);
    let mut b = begin_takeover(root.contender_without_snapshots(2));
    assert!(
        drive(&mut b).is_none(),
        "B found the end and is about to write"
    );

    // A's own create waits at the same key. Its request was first.
    let mut a = {
        root.store.release(&hole);
        a.commit(&[(0, "key", Some("late"))]);
        root.store.hold(&hole);
        a
    };
    // B was never released: it is polled again only below.
    a.image_and_advance();
    a.commit(&[(0, "key", Some("later"))]);
    a.image_and_advance();
    assert!(!a.snapshots.is_empty(), "A's snapshot is in effect");
    root.clock.advance(2 * HOUR_MS);
    a.advance();
    assert!(!root.exists(&hole), "the number is collected");

    root.store.release(&hole);
    let (ownership, state) = drive(&mut b).expect("nothing holds it up");
    let ownership = ownership.unwrap();
    assert!(root.exists(&hole), "B's first takeover lies in the hole");
    assert_eq!(ownership.recovery.restarts, 1);
    assert!(ownership.takeover > 3, "{ownership:?}");
    assert_eq!(state, a.state);
    a.commit(&[(0, "key", Some("zombie"))]);
    assert!(a.is_fenced(), "{:?}", a.ended);
}

#[test]
fn rule_1_a_takeover_that_read_for_longer_than_collection_waits_begins_anew() {
    let root = Root::new();
    let mut a = ManualOwner::take_over(root.contender_without_snapshots(1)).unwrap();
    a.commit(&[(0, "key", Some("early"))]);
    let hole = root.layout.log(3);
    // B and C found the end. B's takeover is on its way for hours, and C sleeps before its own.
    root.store.delay(&hole);
    let mut b = begin_takeover(root.contender_without_snapshots(2));
    assert!(drive(&mut b).is_none());
    root.store.stop_delaying(&hole);
    root.store.hold(&hole);
    let mut c = begin_takeover(root.contender_without_snapshots(3));
    assert!(drive(&mut c).is_none());

    root.store.release(&hole);
    a.commit(&[(0, "key", Some("late"))]);
    root.store.hold(&hole);
    a.want_snapshot();
    a.image_and_advance();
    assert_eq!(a.snapshots[0].replay_from, 4, "A's snapshot is in effect");
    a.commit(&[(0, "key", Some("later"))]);
    assert_eq!(a.durable.len(), 3, "A's commits count");
    root.clock.advance(2 * HOUR_MS);
    a.advance();
    assert!(!root.exists(&hole), "the number is collected");

    // B's takeover lands in the hole. To C, everything after it that A wrote looks void.
    let landed = drive(&mut Box::pin(root.store.deliver(&hole)));
    assert_eq!(landed, Some(Created::Stored));
    root.store.release(&hole);
    let (ownership, state) = drive(&mut c).expect("nothing holds it up");
    assert_eq!(ownership.unwrap().recovery.restarts, 1);
    assert_eq!(state, a.state);
}

#[test]
fn rule_3_a_taker_that_slept_writes_nothing_where_its_successor_commits() {
    let root = Root::new();
    let mut a = ManualOwner::take_over(root.contender_without_snapshots(1)).unwrap();
    a.commit(&[(0, "key", Some("a"))]);
    let end = root.layout.log(3);
    root.store.hold(&end);
    let mut b = begin_takeover(root.contender_without_snapshots(2));
    assert!(drive(&mut b).is_none(), "B found the end");
    // A's commit is on its way to the same number when A dies, and stays so for hours.
    root.store.release(&end);
    root.store.delay(&end);
    a.seal(&[(0, "key", Some("late"))]);
    a.advance();
    root.store.stop_delaying(&end);

    let mut c = ManualOwner::take_over(root.contender(3)).unwrap();
    assert_eq!(c.takeover, 3);
    commit_until_snapshot(&mut c, "c");
    root.clock.advance(3 * HOUR_MS);
    c.advance();
    assert!(!root.exists(&end), "the number is collected");
    let last = *c.numbers.last().unwrap();
    let landed = drive(&mut Box::pin(root.store.deliver(&end)));
    assert_eq!(landed, Some(Created::Stored));

    // B's create is refused by A's record. The numbers after it may be C's to write.
    let (ownership, state) = drive(&mut b).expect("nothing holds it up");
    let ownership = ownership.unwrap();
    assert_eq!((ownership.owner.epoch, ownership.recovery.restarts), (4, 1));
    assert!(ownership.takeover > last, "{ownership:?}");
    assert!(
        !root.exists(&root.layout.log(4)),
        "it went into no other hole"
    );
    assert_eq!(state, c.state);
}

#[test]
fn rule_2_two_takers_that_choose_the_same_epoch_do_not_share_it() {
    let root = Root::new();
    let epoch = root.layout.epoch(1);
    root.store.hold(&epoch);
    let mut b = begin_takeover(root.contender(2));
    let mut c = begin_takeover(root.contender(3));
    assert!(
        drive(&mut b).is_none() && drive(&mut c).is_none(),
        "both chose epoch 1"
    );
    root.store.release(&epoch);
    let (c, state) = drive(&mut c).expect("nothing holds it up");
    let mut c = ManualOwner::begin(c.unwrap(), state);
    c.commit(&[(0, "key", Some("c"))]);
    let (b, state) = drive(&mut b).expect("nothing holds it up");
    let b = b.unwrap();
    assert_eq!((c.epoch, b.owner.epoch), (1, 2));
    assert_eq!(state, c.state);
    c.commit(&[(0, "key", Some("zombie"))]);
    assert_eq!(c.durable, [1]);
    assert!(c.is_fenced());
}

#[test]
fn rule_2_a_record_of_the_right_epoch_and_the_wrong_process_is_void() {
    let root = Root::new();
    let other = Root::new();
    let mut twin = ManualOwner::take_over(other.contender_without_snapshots(7)).unwrap();
    twin.commit(&[(0, "key", Some("twin"))]);
    let mut a = ManualOwner::take_over(root.contender_without_snapshots(1)).unwrap();
    assert_eq!((a.epoch, twin.epoch), (1, 1));
    a.stop();
    let foreign = drive(&mut other.memory.get(&other.layout.log(2))).unwrap();
    root.memory
        .plant(&root.layout.log(2), foreign.unwrap().unwrap());
    assert_eq!(root.recovered(), State::default());
}

#[test]
fn rule_3_late_writes_of_a_former_owner_change_no_order() {
    let root = Root::new();
    let mut a = ManualOwner::take_over(root.contender_without_snapshots(1)).unwrap();
    for _ in 1..10 {
        a.commit(&[(0, "key", Some("a"))]);
    }
    assert_eq!(a.numbers.last(), Some(&10));
    let numbers = 11..15;
    for number in numbers.clone() {
        root.store.delay(&root.layout.log(number));
        a.seal(&[(0, "key", Some("void"))]);
    }
    a.advance();
    for number in numbers {
        root.store.stop_delaying(&root.layout.log(number));
    }

    let mut b = ManualOwner::take_over(root.contender_without_snapshots(2)).unwrap();
    assert_eq!(b.takeover, 11);
    for number in [12, 14] {
        let landed = drive(&mut Box::pin(root.store.deliver(&root.layout.log(number))));
        assert_eq!(landed, Some(Created::Stored));
    }
    for value in ["b1", "b2", "b3"] {
        b.seal(&[(0, "key", Some(value))]);
    }
    b.advance();
    assert_eq!(b.durable, [1, 2, 3]);
    assert_eq!(b.numbers, [13, 15, 16], "in order, past A's void objects");
    assert_eq!(root.recovered(), b.state);
    a.advance();
    assert_eq!(
        a.durable.len(),
        9,
        "nothing of A's void objects is acknowledged"
    );
}

#[test]
fn rule_4_a_void_record_behind_a_trimmed_takeover_stays_void() {
    let root = Root::new();
    let mut a = ManualOwner::take_over(root.contender_without_snapshots(1)).unwrap();
    for _ in 1..10 {
        a.commit(&[(0, "key", Some("a"))]);
    }
    for number in 11..14 {
        root.store.delay(&root.layout.log(number));
        a.seal(&[(0, "void", Some("void")), (1, "void", Some("void"))]);
    }
    a.advance();
    for number in 11..14 {
        root.store.stop_delaying(&root.layout.log(number));
    }

    let mut b = ManualOwner::take_over(root.contender(2)).unwrap();
    assert_eq!(b.takeover, 11);
    b.commit(&[(0, "key", Some("b"))]);
    assert_eq!(b.numbers, [12]);
    drive(&mut Box::pin(root.store.deliver(&root.layout.log(13)))).unwrap();
    b.image_and_advance();
    assert_eq!(b.snapshots.len(), 1);
    assert_eq!(
        b.snapshots[0].replay_from, 13,
        "the void record comes first"
    );
    root.clock.advance(2 * HOUR_MS);
    b.advance();
    assert!(
        !root.exists(&root.layout.log(11)),
        "the takeover is trimmed"
    );
    assert!(root.exists(&root.layout.log(13)));
    assert_eq!(root.recovered(), b.state);
}

#[test]
fn rule_5_changes_after_an_image_are_replayed_over_it() {
    let root = Root::new();
    let mut a = ManualOwner::take_over(root.contender(1)).unwrap();
    a.commit(&[(0, "message", Some("pending")), (1, "other", Some("1"))]);
    assert!(!a.wanted.is_empty());
    a.image();
    a.seal(&[(0, "message", None), (0, "result", Some("done"))]);
    a.advance();
    assert_eq!(a.snapshots.len(), 1);
    let state = root.recovered();
    assert_eq!(state, a.state);
    assert_eq!(state.0.len(), 2);
}

#[test]
fn rule_5_a_manifest_waits_until_the_seals_of_its_images_are_durable() {
    let root = Root::new();
    let mut a = ManualOwner::take_over(root.contender(1)).unwrap();
    a.commit(&[(0, "key", Some("1"))]);
    assert_eq!(a.durable, [1]);
    root.store.hold(&root.layout.log(3));
    a.seal(&[(0, "key", Some("2"))]);
    a.image_and_advance();
    let published = || {
        let prefix = root.layout.manifests_prefix();
        root.memory
            .keys()
            .iter()
            .any(|key| key.starts_with(&prefix))
    };
    let prefix = root.layout.segments_prefix();
    assert!(
        root.memory
            .keys()
            .iter()
            .any(|key| key.starts_with(&prefix)),
        "the image is stored"
    );
    assert!(!published());
    root.store.release(&root.layout.log(3));
    a.advance();
    assert!(published());
    assert_eq!(a.snapshots.len(), 1);
    assert_eq!(
        a.snapshots[0].replay_from, 3,
        "from the unchanged buckets' number on"
    );
}

#[test]
fn rule_6_a_manifest_without_a_committed_record_is_not_in_effect() {
    let root = Root::new();
    let mut a = ManualOwner::take_over(root.contender(1)).unwrap();
    a.commit(&[(0, "key", Some("1"))]);
    root.store.hold(&root.layout.log(3));
    a.image_and_advance();
    assert!(root.exists(&root.layout.manifest(2)), "published");
    assert!(a.snapshots.is_empty(), "not in effect");

    let recovered = a.state.clone();
    drop(a);
    root.store.release(&root.layout.log(3));

    let (ownership, state) =
        drive(&mut begin_takeover(root.contender_without_snapshots(2))).unwrap();
    let ownership = ownership.unwrap();
    assert_eq!(ownership.recovery.manifest, None);
    assert_eq!(state, recovered);
}

#[test]
fn rule_6_a_zombie_deletes_nothing_that_its_successor_uses() {
    let root = Root::new();
    let mut a = ManualOwner::take_over(root.contender(1)).unwrap();
    commit_until_snapshot(&mut a, "a");
    a.commit(&[(0, "key", Some("a2"))]);

    let mut b = ManualOwner::take_over(root.contender(2)).unwrap();
    b.commit(&[(0, "key", Some("b"))]);
    // B's segment is uploaded, its manifest is not.
    b.seal(&[(1, "other", Some("b"))]);
    root.store.hold(&root.layout.log(b.takeover + 2));
    b.image_and_advance();
    let prefix = root.layout.segments_prefix();
    let of_b = |key: &String| key.starts_with(&prefix) && key.contains("00000000000000000002-");
    assert!(root.memory.keys().iter().any(of_b), "uploaded, unpublished");

    // A wakes, wants a snapshot of its own, and would collect.
    root.clock.advance(3 * HOUR_MS);
    a.image();
    a.commit(&[(0, "key", Some("zombie"))]);
    a.image_and_advance();
    root.clock.advance(3 * HOUR_MS);
    a.advance();
    assert!(a.is_fenced(), "{:?}", a.ended);
    assert!(root.memory.keys().iter().any(of_b));

    root.store.release(&root.layout.log(b.takeover + 2));
    b.advance();
    root.clock.advance(3 * HOUR_MS);
    b.advance();
    assert!(!b.snapshots.is_empty());
    assert_eq!(root.recovered(), b.state);
}

#[test]
fn rule_6_only_what_stood_condemned_for_the_whole_grace_is_deleted() {
    let root = Root::new();
    let mut a = ManualOwner::take_over(root.contender(1)).unwrap();
    commit_until_snapshot(&mut a, "a");
    let log_1 = root.layout.log(1);
    root.clock.advance(HOUR_MS - 60_000);
    root.clock
        .shift_calendar(i64::try_from(100 * HOUR_MS).unwrap());
    a.advance();
    assert!(
        root.exists(&log_1),
        "a calendar that jumps makes no deletion earlier"
    );
    root.clock.advance(120_000);
    a.advance();
    assert!(!root.exists(&log_1));
    let newest = root.layout.manifest(a.snapshots[0].manifest);
    assert!(root.exists(&newest), "the newest manifest stays");
    assert!(root.exists(&root.layout.epoch(1)), "claims stay");
    assert_eq!(root.recovered(), a.state);
}

#[test]
fn rule_6_orphans_of_an_earlier_epoch_are_collected_and_own_ones_are_not() {
    let root = Root::new();
    let mut a = ManualOwner::take_over(root.contender(1)).unwrap();
    a.commit(&[(0, "key", Some("a"))]);
    root.store.hold(&root.layout.manifest(2));
    a.image_and_advance();
    let prefix = root.layout.segments_prefix();
    let segments = || -> Vec<String> {
        let keys = root.memory.keys();
        keys.into_iter()
            .filter(|key| key.starts_with(&prefix))
            .collect()
    };
    let orphan = segments().pop().expect("A uploaded a segment");
    drop(a);
    root.store.release(&root.layout.manifest(2));

    let mut b = ManualOwner::take_over(root.contender(2)).unwrap();
    commit_until_snapshot(&mut b, "b");
    let own = segments();
    assert!(own.contains(&orphan) && own.len() > 1);
    root.clock.advance(2 * HOUR_MS);
    b.advance();
    assert!(!segments().contains(&orphan), "{:?}", segments());
    assert_eq!(root.recovered(), b.state);
}

#[test]
fn an_idle_owner_makes_no_request() {
    let root = Root::new();
    let mut a = ManualOwner::take_over(root.contender_without_snapshots(1)).unwrap();
    a.commit(&[(0, "key", Some("1"))]);
    let before = root.store.requests();
    root.clock.advance(24 * HOUR_MS);
    a.advance();
    assert_eq!(root.store.requests(), before);
    a.stop();
    assert_eq!(a.ended, Some(Ok(())));
}

#[test]
fn a_clean_stop_is_known_to_the_next_owner() {
    let root = Root::new();
    let (first, _) = drive(&mut begin_takeover(root.contender(1))).unwrap();
    assert!(first.unwrap().clean, "a new root was not cut off");
    let mut a = ManualOwner::take_over(root.contender(2)).unwrap();
    a.commit(&[(0, "key", Some("1"))]);
    let (cut_off, _) = drive(&mut begin_takeover(root.contender(3))).unwrap();
    assert!(!cut_off.unwrap().clean);
    assert!(matches!(a.ended, None | Some(Err(LogError::Fenced { .. }))));
}
