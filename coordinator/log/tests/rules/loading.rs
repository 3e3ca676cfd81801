//! Buckets that are not loaded.

use bytes::Bytes;
use satchel_log::{
    BucketSummary, Contender, Entry, ErrorKind, Fold, LogError, ObjectStore, Options,
    SnapshotPolicy, take_over,
};
use satchel_log_simulation::{ManualOwner, State, drive};

use crate::root::{HOUR_MS, Root};

/// A fold that leaves every image unread that it may.
#[derive(Default)]
struct Unread {
    asked: Vec<(u16, BucketSummary)>,
    applied: State,
}

impl Fold for Unread {
    fn clear(&mut self) {
        *self = Self::default();
    }

    fn absent(&mut self, bucket: u16, summary: BucketSummary) -> bool {
        self.asked.push((bucket, summary));
        true
    }

    fn apply(&mut self, entry: Entry<'_>) {
        self.applied.apply(entry);
    }
}

impl Root {
    /// A process that takes a snapshot whenever possible, and stores each image in a segment of its
    /// own.
    fn contender_with_many_segments(&self, process: u8) -> Contender {
        let options = Options {
            snapshots: SnapshotPolicy {
                floor_bytes: 1,
                log_percent: 0,
                segment_bytes: 1,
                ..SnapshotPolicy::default()
            },
            ..Options::default()
        };
        self.contender_with(process, options)
    }

    /// Takes over without reading any bucket that can stay unread. The owner knows only the log
    /// tail and the partition-wide bucket.
    fn take_over_unread(&self, process: u8) -> (ManualOwner, Vec<(u16, BucketSummary)>) {
        let mut fold = Unread::default();
        let taken = drive(&mut Box::pin(take_over(self.contender(process), &mut fold)));
        let ownership = taken.expect("nothing holds it up").expect("it is whole");
        (ManualOwner::begin(ownership, fold.applied), fold.asked)
    }

    fn segments(&self) -> Vec<String> {
        let prefix = self.layout.segments_prefix();
        let keys = self.memory.keys().into_iter();
        keys.filter(|key| key.starts_with(&prefix)).collect()
    }
}

/// A snapshot of buckets 0, 1 and the partition-wide one, 2; then one more commit.
fn root_with_a_snapshot() -> (Root, State) {
    let root = Root::new();
    let mut owner = ManualOwner::take_over(root.contender_with_many_segments(1)).unwrap();
    owner.commit(&[
        (0, "a", Some("1")),
        (1, "b", Some("2")),
        (2, "c", Some("3")),
    ]);
    owner.image_and_advance();
    assert_eq!(owner.snapshots.len(), 1);
    assert_eq!(owner.snapshots[0].images, [(0, 1), (1, 1), (2, 1)]);
    owner.commit(&[(0, "a", None), (0, "d", Some("4"))]);
    let state = owner.state.clone();
    (root, state)
}

fn only(owner: &ManualOwner) -> Vec<(u16, Vec<u8>, Vec<u8>)> {
    let [(_, entries)] = &owner.loaded[..] else {
        panic!("one bucket, not {}", owner.loaded.len());
    };
    let set = |entry: Entry<'_>| Some((entry.bucket, entry.key.to_vec(), entry.value?.to_vec()));
    entries.iter().filter_map(set).collect()
}

#[test]
fn rule_7_a_takeover_reads_no_image_that_can_stay_unread_and_the_log_over_it_is_an_overlay() {
    let (root, state) = root_with_a_snapshot();
    assert_eq!(root.segments().len(), 3);
    root.store.take_reads();
    let (mut owner, asked) = root.take_over_unread(2);
    let prefix = root.layout.segments_prefix();
    let reads = root.store.take_reads();
    let images = reads.iter().filter(|key| key.starts_with(&prefix)).count();
    assert_eq!(images, 1, "only the partition-wide bucket: {reads:?}");
    assert_eq!(asked.iter().map(|it| it.0).collect::<Vec<_>>(), [0, 1]);
    assert!(asked.iter().all(|(_, summary)| summary.raw_bytes > 0));
    let known: Vec<u16> = owner.state.0.keys().map(|(bucket, _)| *bucket).collect();
    assert_eq!(known, [0, 2], "the overlay of 0, all of 2");

    owner.load(0);
    assert_eq!(only(&owner), [(0, b"a".to_vec(), b"1".to_vec())]);
    owner.loaded.clear();
    owner.load(1);
    assert_eq!(only(&owner), [(1, b"b".to_vec(), b"2".to_vec())]);
    owner.state.0.insert((1, b"b".to_vec()), b"2".to_vec());
    assert_eq!(owner.state, state);
}

#[test]
fn a_bucket_without_an_image_is_loaded_as_an_empty_one() {
    let root = Root::new();
    let mut owner = ManualOwner::take_over(root.contender_without_snapshots(1)).unwrap();
    owner.commit(&[(0, "key", Some("1"))]);
    owner.load(0);
    assert_eq!(only(&owner), []);
}

#[test]
fn rule_7_no_snapshot_takes_effect_before_every_changed_bucket_is_loaded_and_imaged() {
    let (root, state) = root_with_a_snapshot();
    let (mut owner, _) = root.take_over_unread(2);
    owner.commit(&[(2, "c", Some("5"))]);
    owner.want_snapshot();
    assert!(owner.wanted.contains(&0), "its tail is not merged");
    let unread: Vec<u16> = owner.wanted.extract_if(..2, |_| true).collect();
    owner.image_and_advance();
    for value in ["6", "7", "8"] {
        owner.commit(&[(2, "c", Some(value))]);
        owner.image_and_advance();
    }
    assert!(owner.snapshots.is_empty(), "bucket 0 is missing");

    owner.load(0);
    // The overlay removes "a". The owner applied that before it had the image.
    assert_eq!(only(&owner).len(), 1);
    owner.load(1);
    owner.state.0.insert((1, b"b".to_vec()), b"2".to_vec());
    owner.wanted.extend(unread);
    owner.image_and_advance();
    assert_eq!(owner.snapshots.len(), 1);
    root.clock.advance(2 * HOUR_MS);
    owner.advance();
    let mut expected = state;
    expected.0.insert((2, b"c".to_vec()), b"8".to_vec());
    assert_eq!(root.recovered(), expected);
}

#[test]
fn an_image_that_moves_and_is_collected_during_a_read_is_read_where_it_lies_then() {
    let root = Root::new();
    let mut owner = ManualOwner::take_over(root.contender(1)).unwrap();
    owner.commit(&[(0, "key", Some("old"))]);
    owner.image_and_advance();
    let segment = root.segments().pop().expect("a segment");
    root.store.hold_reads(&segment);
    owner.load(0);
    assert!(owner.loaded.is_empty(), "the read is under way");

    owner.commit(&[(0, "key", Some("new"))]);
    owner.image_and_advance();
    root.clock.advance(2 * HOUR_MS);
    owner.advance();
    assert!(!root.exists(&segment), "it is collected");
    root.store.release_reads(&segment);
    owner.advance();
    assert_eq!(only(&owner), [(0, b"key".to_vec(), b"new".to_vec())]);
    assert!(owner.ended.is_none());
}

#[test]
fn a_sleeper_whose_images_were_collected_is_fenced_and_reports_no_damage() {
    let root = Root::new();
    let mut a = ManualOwner::take_over(root.contender(1)).unwrap();
    a.commit(&[(0, "key", Some("a"))]);
    a.image_and_advance();
    let mut b = ManualOwner::take_over(root.contender(2)).unwrap();
    b.commit(&[
        (0, "key", Some("b")),
        (1, "key", Some("b")),
        (2, "key", Some("b")),
    ]);
    b.image_and_advance();
    root.clock.advance(2 * HOUR_MS);
    b.advance();
    a.load(0);
    assert!(a.loaded.is_empty() && a.is_fenced(), "{:?}", a.ended);
}

#[test]
fn an_image_that_is_damaged_or_missing_ends_the_log_with_its_name_and_its_bucket() {
    for lost in [false, true] {
        let (root, _) = root_with_a_snapshot();
        let (mut owner, _) = root.take_over_unread(2);
        let segment = root.segments()[1].clone();
        let object = drive(&mut root.memory.get(&segment)).unwrap().unwrap();
        if lost {
            let deleted = drive(&mut root.memory.delete(std::slice::from_ref(&segment)));
            assert_eq!(deleted, Some(Ok(())));
        } else {
            let mut bytes = object.expect("it exists").to_vec();
            let at = bytes.len() / 3;
            bytes[at..].iter_mut().for_each(|byte| *byte ^= 0x10);
            root.memory.plant(&segment, Bytes::from(bytes));
        }
        owner.load(0);
        assert_eq!(owner.loaded.len(), 1, "another segment is whole");
        owner.load(1);
        let Some(Err(error)) = &owner.ended else {
            panic!("the driver did not end");
        };
        assert_eq!(error.kind(), ErrorKind::Refused);
        let expected = if lost {
            format!("{segment} is missing: the image of bucket 1 lies in it")
        } else {
            format!(
                "{segment}: the image of bucket 1 cannot be read: \
                 the checksum of its image of a bucket does not match"
            )
        };
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_bucket_that_does_not_exist_cannot_be_loaded() {
    let root = Root::new();
    let mut owner = ManualOwner::take_over(root.contender(1)).unwrap();
    owner.load(3);
    assert_eq!(
        owner.ended,
        Some(Err(LogError::Misuse("bucket 3 does not exist".to_owned())))
    );
}

#[test]
fn a_requested_snapshot_begins_however_small_the_log_is() {
    let root = Root::new();
    let mut owner = ManualOwner::take_over(root.contender_without_snapshots(1)).unwrap();
    owner.want_snapshot();
    assert!(owner.wanted.is_empty(), "nothing changed");
    owner.commit(&[(0, "key", Some("1"))]);
    assert_eq!(
        owner.wanted.iter().copied().collect::<Vec<_>>(),
        [0],
        "a request waits for the first change"
    );
    owner.want_snapshot();

    // One request was for this snapshot, and one for the next.
    owner.commit(&[(1, "key", Some("2"))]);
    owner.image_and_advance();
    assert_eq!(owner.snapshots.len(), 1);
    assert!(owner.wanted.contains(&1), "{:?}", owner.wanted);
    owner.image_and_advance();
    assert_eq!(owner.snapshots.len(), 2);
    owner.commit(&[(0, "key", Some("3"))]);
    assert!(owner.wanted.is_empty());
    assert_eq!(root.recovered(), owner.state);
}
