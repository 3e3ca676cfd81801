use super::*;
use crate::entries::EntriesBuilder;

const OWNER: Owner = Owner {
    epoch: 3,
    nonce: [3; 16],
};
const TAKEOVER: u64 = 10;

/// A snapshotter beside an engine that commits and images at once.
struct Bench {
    snapshotter: Snapshotter,
    state: BTreeMap<(u16, u64), Vec<u8>>,
    sequence: u64,
    number: u64,
    log_bytes: u64,
    image_bytes: u64,
    manifests: Vec<Manifest>,
    wanted: Vec<Vec<u16>>,
    buckets: u16,
}

impl Bench {
    fn new(buckets: u16, policy: SnapshotPolicy) -> Self {
        let base = Base {
            manifest: None,
            dirty: vec![false; usize::from(buckets) + 1],
            log_bytes: 0,
            log_reads: 0,
            manifests: Vec::new(),
            condemned: Vec::new(),
        };
        Self {
            snapshotter: Snapshotter::new(0, OWNER, TAKEOVER, policy, 0, &base),
            state: BTreeMap::new(),
            sequence: 0,
            number: TAKEOVER,
            log_bytes: 0,
            image_bytes: 0,
            manifests: Vec::new(),
            wanted: Vec::new(),
            buckets,
        }
    }

    /// Commits new values, which do not compress, under these keys.
    fn commit(&mut self, keys: &[(u16, u64)]) {
        self.sequence += 1;
        self.number += 1;
        let mut entries = EntriesBuilder::new();
        for (bucket, key) in keys {
            let value = noise(self.sequence ^ (key << 20) ^ (u64::from(*bucket) << 50));
            entries.push(*bucket, &key.to_le_bytes(), Some(&value));
            self.state.insert((*bucket, *key), value);
        }
        let entries = entries.finish();
        let bytes = entries.as_bytes().len() as u64 + 80;
        self.log_bytes += bytes;
        self.snapshotter.sealed(self.sequence, &entries);
        self.snapshotter
            .durable(Some(self.sequence), self.number, bytes);
        self.work();
    }

    /// Performs all tasks, as a store without faults would.
    fn work(&mut self) {
        while let Some(step) = self.snapshotter.poll() {
            match step {
                Step::Want(buckets) => {
                    for bucket in &buckets {
                        let image = self.image(*bucket);
                        self.snapshotter.imaged(&image);
                    }
                    self.wanted.push(buckets);
                }
                Step::PutSegment { name, bytes } => {
                    self.image_bytes += bytes.len() as u64;
                    self.snapshotter.segment_stored(&name);
                }
                Step::TakeInventory { .. } => self.snapshotter.inventory_taken(Inventory {
                    readable: true,
                    ..Inventory::default()
                }),
                Step::Publish => self.snapshotter.publish(&[], 0, 0),
                Step::PutManifest { number, bytes } => {
                    let manifest = Manifest::decode(&bytes, 0, number, self.buckets).unwrap();
                    self.manifests.push(manifest);
                    self.snapshotter
                        .manifest_stored(crate::codec::checksum(&bytes));
                }
                Step::Commit(_) => {
                    self.number += 1;
                    self.snapshotter.took_effect().expect("a snapshot");
                    self.snapshotter.durable(None, self.number, 100);
                }
            }
        }
    }

    fn image(&self, bucket: u16) -> BucketImage {
        let mut entries = EntriesBuilder::new();
        for ((_, key), value) in self.state.range((bucket, 0)..=(bucket, u64::MAX)) {
            entries.push(bucket, &key.to_le_bytes(), Some(value));
        }
        BucketImage {
            bucket,
            sequence: self.sequence,
            earliest_due_ms: Some(u64::from(bucket)),
            pending: bucket == 1,
            entries: entries.finish(),
        }
    }
}

/// 100 bytes that depend on `seed` and do not compress.
fn noise(seed: u64) -> Vec<u8> {
    (0..13u64)
        .flat_map(|at| checksum_of(seed, at).to_le_bytes())
        .take(100)
        .collect()
}

fn checksum_of(seed: u64, at: u64) -> u64 {
    crate::codec::checksum(&[seed.to_le_bytes(), at.to_le_bytes()].concat())
}

fn policy(floor_bytes: u64) -> SnapshotPolicy {
    SnapshotPolicy {
        floor_bytes,
        segment_bytes: 20_000,
        object_bytes: 0,
        ..SnapshotPolicy::default()
    }
}

#[test]
fn only_changed_buckets_are_imaged_and_the_others_equal_the_snapshots_number() {
    let mut bench = Bench::new(4, policy(1000));
    bench.commit(&[(0, 1), (1, 1), (4, 1)]);
    bench.commit(&[(0, 2), (1, 2), (2, 2)]);
    bench.commit(&[(0, 3), (0, 4), (0, 5)]);
    assert_eq!(bench.wanted, [vec![0, 1, 2, 4]]);
    for key in 0..6 {
        bench.commit(&[(1, key)]);
    }
    assert_eq!(bench.wanted.len(), 2);
    assert_eq!(bench.wanted[1], [1]);
    let [first, second] = &bench.manifests[..] else {
        panic!("two manifests, not {}", bench.manifests.len());
    };
    assert_eq!(first.number, TAKEOVER + 3);
    assert_eq!(first.replay_from(), TAKEOVER + 4);
    assert!(first.buckets.iter().all(|at| at.number == TAKEOVER + 3));
    assert_eq!(first.buckets[3].image, None, "an empty bucket has no image");
    assert!(second.buckets.iter().all(|at| at.number == second.number));
    for bucket in [0, 2, 4] {
        assert_eq!(
            second.buckets[bucket].image, first.buckets[bucket].image,
            "bucket {bucket} keeps its image"
        );
    }
    assert_ne!(second.buckets[1].image, first.buckets[1].image);
    assert_eq!(second.buckets[1].earliest_due_ms, Some(1));
    assert!(second.buckets[1].pending && !second.buckets[0].pending);
    assert_eq!((second.writer, second.before), (OWNER, OWNER));
}

#[test]
fn segments_of_which_little_is_needed_are_rewritten_and_dropped() {
    let mut bench = Bench::new(8, policy(1000));
    let everywhere: Vec<(u16, u64)> = (0..9).map(|bucket| (bucket, 0)).collect();
    bench.commit(&everywhere);
    bench.commit(&[(0, 1), (0, 2)]);
    assert_eq!(bench.wanted.len(), 1);
    // All buckets but 8 change again and again, so only the image of bucket 8 keeps the first
    // segment.
    for round in 0..30 {
        let most: Vec<(u16, u64)> = (0..8).map(|bucket| (bucket, round % 3)).collect();
        bench.commit(&most);
    }
    assert!(
        bench.wanted[1..].iter().any(|wanted| wanted.contains(&8)),
        "{:?}",
        bench.wanted
    );
    let first = bench.manifests[0].segments.keys().next().unwrap();
    let last = bench.manifests.last().unwrap();
    assert!(!last.segments.contains_key(first));
}

fn amplification(bench: &Bench) -> f64 {
    (bench.log_bytes + bench.image_bytes) as f64 / bench.log_bytes as f64
}

#[test]
fn write_amplification_stays_bounded_when_values_are_overwritten() {
    let mut bench = Bench::new(16, policy(50_000));
    for round in 0..40_000u64 {
        let key = checksum_of(round, 1) % 2000;
        bench.commit(&[((key % 16) as u16, key), (16, 0)]);
    }
    assert!(bench.manifests.len() > 5, "{}", bench.manifests.len());
    let amplification = amplification(&bench);
    assert!(amplification < 2.5, "{amplification}");
}

#[test]
fn write_amplification_stays_bounded_when_the_state_only_grows() {
    let mut bench = Bench::new(16, policy(50_000));
    for key in 0..20_000u64 {
        bench.commit(&[((key % 16) as u16, key)]);
    }
    assert!(bench.manifests.len() > 2, "{}", bench.manifests.len());
    let amplification = amplification(&bench);
    assert!(amplification < 2.5, "{amplification}");
}

#[test]
fn many_small_commits_are_a_long_log_too() {
    let mut bench = Bench::new(16, policy(50_000));
    bench.snapshotter.policy.object_bytes = 1000;
    for key in 0..60u64 {
        bench.commit(&[(0, key)]);
    }
    assert!(bench.log_bytes < 20_000, "{}", bench.log_bytes);
    assert_eq!(bench.manifests.len(), 1);
}

#[test]
fn an_image_that_was_not_requested_is_dropped() {
    let mut bench = Bench::new(2, policy(1 << 20));
    bench.commit(&[(0, 1)]);
    let image = bench.image(0);
    bench.snapshotter.imaged(&image);
    assert_eq!(bench.snapshotter.poll(), None);
}

#[test]
fn a_bucket_that_changes_after_its_image_belongs_to_the_next_snapshot_too() {
    let mut bench = Bench::new(2, policy(1));
    bench.snapshotter.policy.log_percent = 0;
    let change = |bench: &mut Bench| {
        bench.sequence += 1;
        let mut entries = EntriesBuilder::new();
        entries.push(0, b"key", Some(b"value"));
        bench.snapshotter.sealed(bench.sequence, &entries.finish());
    };
    change(&mut bench);
    bench.snapshotter.durable(Some(1), TAKEOVER + 1, 100);
    assert_eq!(bench.snapshotter.poll(), Some(Step::Want(vec![0])));
    let image = bench.image(0);
    bench.snapshotter.imaged(&image);
    change(&mut bench);
    bench.number = TAKEOVER + 1;
    bench.work();
    assert_eq!(bench.manifests.len(), 1);
    assert_eq!(
        bench.wanted,
        [[0]],
        "asked for again as soon as the first took effect"
    );
}

#[test]
fn buckets_that_the_log_tail_changed_before_this_epoch_are_imaged() {
    let base = Base {
        manifest: None,
        dirty: vec![true, false, false],
        log_bytes: 5000,
        log_reads: 0,
        manifests: Vec::new(),
        condemned: Vec::new(),
    };
    let mut snapshotter = Snapshotter::new(0, OWNER, TAKEOVER, policy(1000), 0, &base);
    snapshotter.durable(Some(1), TAKEOVER + 1, 1000);
    assert_eq!(snapshotter.poll(), Some(Step::Want(vec![0])));
}

#[test]
fn a_snapshot_requested_while_nothing_has_changed_begins_after_the_next_change() {
    let mut bench = Bench::new(2, policy(1_000_000));
    bench.snapshotter.want();
    assert_eq!(bench.snapshotter.poll(), None);
    bench.commit(&[(0, 1)]);
    assert_eq!(bench.wanted, [[0]]);
    bench.commit(&[(1, 1)]);
    assert_eq!(bench.wanted, [[0]], "it was wanted once");
}

/// Bytes of images that one hour writes: 110 commits per second with one random key each, over a
/// state of 1 GB in 32 buckets. Everything is scaled down by 1,024. `condensed` says that small
/// log objects are copied.
fn image_bytes_an_hour(condensed: bool) -> u64 {
    const SCALE: u64 = 1_024;
    let policy = SnapshotPolicy {
        floor_bytes: (4 << 20) / SCALE,
        segment_bytes: (8 << 20) / SCALE,
        tail_bytes_max: (256 << 20) / SCALE,
        object_bytes: (16 << 10) / SCALE,
        ..SnapshotPolicy::default()
    };
    let mut bench = Bench::new(32, policy);
    for bucket in 0..32 {
        for key in 0..320 {
            let value = noise(u64::from(bucket) << 32 ^ key);
            bench.state.insert((bucket, key), value);
        }
    }
    let everything: Vec<_> = (0..32).map(|bucket| (bucket, 0)).collect();
    bench.commit(&everything);
    bench.snapshotter.want();
    bench.work();
    bench.image_bytes = 0;
    let settings = condensed.then(crate::options::Condensation::default);
    let mut condenser = crate::condenser::Condenser::new(OWNER.epoch, settings);
    for commit in 0..110 * 3_600_u64 {
        bench.sequence += 1;
        bench.number += 1;
        let mut entries = EntriesBuilder::new();
        entries.push((checksum_of(7, commit) % 32) as u16, b"key", Some(b"value"));
        bench.snapshotter.sealed(bench.sequence, &entries.finish());
        // A commit of one key takes about a kilobyte.
        let (sequence, number) = (bench.sequence, bench.number);
        bench.snapshotter.durable(Some(sequence), number, 1);
        condenser.sealed(number, &Bytes::from_static(&[0; 1_024]));
        if let Some(copy) = condenser.durable(number) {
            bench.snapshotter.condensed(copy.saves);
        }
        bench.work();
    }
    bench.image_bytes * SCALE
}

#[test]
fn many_small_commits_do_not_rewrite_the_state_all_the_time() {
    let [without, with] = [false, true].map(image_bytes_an_hour);
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    println!(
        "bytes of images an hour: {:.1} GB, with copies of small objects {:.1} GB",
        gigabytes(without),
        gigabytes(with)
    );
    assert!(without > 20 << 30, "{without}");
    assert!(with < 4 << 30, "{with}");
}
