//! Objects of a root. A checksum ends each object, and no mutation would pass it. So each input is
//! decoded unchanged and again with a corrected checksum, as if a foreign program had written it.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use satchel_engine::durable::Change;
use satchel_engine::placement::Placement;
use satchel_log::{
    Application, At, Contender, Kind, Layout, Manifest, MemoryStore, ObjectStore, Options, Record,
    Retry, SegmentName, SnapshotPolicy, Source, check_segment, read, verify,
};
use satchel_log_simulation::{ManualOwner, SimulatedClock, State, drive};
use satchel_storage::encode::encode_changes;
use satchel_storage::placement::identity;
use xxhash_rust::xxh3::xxh3_64;

use super::{functions, outcome};
use crate::Target;

const BUCKETS: u16 = 3;
/// Size of a record before its body, from the magic to the body's length, in bytes.
const RECORD_HEADER_BYTES: usize = 64;
/// Sizes of a segment before its blocks and after its index, in bytes.
const SEGMENT_HEAD_BYTES: usize = 46;
const SEGMENT_TAIL_BYTES: usize = 20;

/// Log objects. Each is decoded under the number that it contains, so that mutations reach further.
pub(super) const RECORD: Target = Target {
    name: "log-record",
    dictionary: &["SLOG"],
    seeds: || objects("/log/"),
    decode: |input| {
        both(input, corrected, |object| {
            let number = object.get(36..44).and_then(|bytes| bytes.try_into().ok());
            record(object, number.map_or(0, u64::from_le_bytes))
        })
    },
};

/// Body of a log object before compression. Its first byte is the kind of the record.
pub(super) const ENTRIES: Target = Target {
    name: "log-body",
    dictionary: &["example", "greeter", "satchel/json"],
    seeds: || {
        let mut seeds: Vec<Vec<u8>> = Vec::new();
        let changes = functions::changes();
        let each = changes.chunks(1);
        for changes in each.chain([&changes[..]]) {
            let entries = encode_changes(Placement::id_md5(BUCKETS, false), changes);
            seeds.push([&[1], &entries.as_bytes()[..]].concat());
        }
        seeds.push(vec![3, 0, 0]);
        seeds
    },
    decode: |input| {
        let Some((kind, body)) = input.split_first() else {
            return "nothing".to_owned();
        };
        let mut object = [b"SLOG", &[1, 0, *kind, 0][..]].concat();
        object.resize(RECORD_HEADER_BYTES - 4, 0);
        object.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
        object.extend(zstd::bulk::compress(body, 1).expect("compressing to memory cannot fail"));
        object.extend_from_slice(&[0; 8]);
        record(&corrected(&object), 0)
    },
};

/// Segments of snapshots.
pub(super) const SEGMENT: Target = Target {
    name: "segment",
    dictionary: &["SSEG", "GESS"],
    seeds: || objects("/snapshots/"),
    decode: |input| {
        both(input, corrected_segment, |object| {
            let number = |at: usize| {
                let bytes = object
                    .get(at..at + 8)
                    .and_then(|bytes| bytes.try_into().ok());
                bytes.map_or(0, u64::from_le_bytes)
            };
            let name = SegmentName {
                snapshot: number(34),
                epoch: number(10),
                // Its last four bytes.
                index: (number(38) >> 32) as u32,
            };
            outcome(&check_segment(object, 0, &name))
        })
    },
};

/// Manifests.
pub(super) const MANIFEST: Target = Target {
    name: "manifest",
    dictionary: &["SMAN"],
    seeds: || objects("/manifests/"),
    decode: |input| {
        both(input, corrected, |object| {
            let number = object.get(10..18).and_then(|bytes| bytes.try_into().ok());
            let number = number.map_or(0, u64::from_le_bytes);
            let manifest = Manifest::decode(object, 0, number, BUCKETS);
            if let Ok(manifest) = &manifest {
                // A block named by a manifest is read and decompressed.
                for placed in manifest
                    .buckets
                    .iter()
                    .filter_map(|bucket| bucket.image.as_ref())
                {
                    let _ = placed.block.range();
                    let mut at = placed.block;
                    at.stored_len = BLOCK.len() as u64;
                    at.checksum = xxh3_64(BLOCK);
                    // Rejected or not: it must not allocate more than the block contains.
                    let _ = at.open(BLOCK, 0);
                }
            }
            outcome(&manifest)
        })
    },
};

/// An empty zstd frame without a content size. Only the manifest states its length.
const BLOCK: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58, 0x01, 0x00, 0x00];

/// A root in which the object selected by the first byte is replaced. This also covers epochs,
/// savepoints, the application record, and the consistency of objects with each other.
pub(super) const ROOT: Target = Target {
    name: "root",
    dictionary: &[
        "SEPO",
        "SLOG",
        "SMAN",
        "SSEG",
        "\"format\":1",
        "\"partitions\":",
    ],
    seeds: || {
        WORLD.with_borrow(|world| {
            let keys = world.store.keys();
            let object = |(at, key): (u8, &String)| [&[at], &world.object(key)[..]].concat();
            (0..).zip(&keys).map(object).collect()
        })
    },
    decode: |input| {
        let Some((at, object)) = input.split_first() else {
            return "nothing".to_owned();
        };
        WORLD.with_borrow(|world| {
            let keys = world.store.keys();
            let key = &keys[usize::from(*at) % keys.len()];
            let whole = world.object(key);
            let outcomes = both(
                object,
                if key.contains("/snapshots/") {
                    corrected_segment
                } else {
                    corrected
                },
                |object| {
                    world.store.plant(key, object.clone());
                    world.verify_and_read()
                },
            );
            world.store.plant(key, whole);
            outcomes
        })
    },
};

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::new());
}

/// A root written by the log itself: several owners, a snapshot, a collection.
struct World {
    store: Arc<MemoryStore>,
    clock: SimulatedClock,
}

impl World {
    fn new() -> Self {
        let world = Self {
            store: Arc::new(MemoryStore::new()),
            clock: SimulatedClock::default(),
        };
        for nonce in 1..=3 {
            world.clock.advance(1_000);
            let mut owner =
                ManualOwner::take_over(world.place(nonce)).expect("there is no other owner");
            for commit in 0..4_u16 {
                let key = format!("key-{commit}");
                owner.commit(&[
                    (commit % BUCKETS, &key, Some("value")),
                    (BUCKETS, "all", None),
                ]);
                owner.image_and_advance();
            }
            if nonce == 2 {
                world.clock.advance(2 * 3_600_000);
                owner.advance();
            }
        }
        world
    }

    fn place(&self, nonce: u8) -> Contender {
        Contender {
            store: self.store.clone(),
            root: "root".to_owned(),
            identity: identity("fuzzed", Placement::id_md5(BUCKETS, true)),
            nonce: [nonce; 16],
            clock: Arc::new(self.clock.clone()),
            options: Options {
                snapshots: SnapshotPolicy {
                    floor_bytes: 1,
                    log_percent: 0,
                    segment_bytes: 1 << 20,
                    ..SnapshotPolicy::default()
                },
                ..Options::default()
            },
            on_store_failure: Arc::new(|_| {}),
        }
    }

    fn object(&self, key: &str) -> Bytes {
        let got = drive(&mut self.store.get(key)).expect("memory answers at once");
        got.ok().flatten().unwrap_or_default()
    }

    /// Outcome of a verification and of reads.
    fn verify_and_read(&self) -> String {
        let retry = Retry {
            initial_ms: 1,
            max_ms: 1,
            give_up_ms: Some(1),
        };
        let clock = Arc::new(self.clock.clone());
        let mut verifying = Box::pin(verify(
            self.store.clone(),
            "root",
            clock.clone(),
            retry,
            Arc::new(|_| {}),
        ));
        let verified = drive(&mut verifying).expect("memory answers at once");
        let verified = verified.expect("memory always answers");
        let mut outcomes: String = verified.findings.iter().map(ToString::to_string).collect();

        let Ok(application) =
            Application::decode(&self.object(Layout::new("root", 0).application()))
        else {
            return outcomes;
        };
        let source = Source {
            store: self.store.clone(),
            root: "root".to_owned(),
            clock,
            retry,
            on_store_failure: Arc::new(|_| {}),
        };
        for at in [At::Latest, At::Moment(2_500)] {
            let mut state = State::default();
            let mut reading = Box::pin(read(&source, &application, 0, at, &mut state));
            // A reader that waits for an object collected meanwhile waits for a clock that stands
            // still.
            let read = drive(&mut reading);
            outcomes += &read.map_or("waits".to_owned(), |read| outcome(&read));
        }
        outcomes
    }
}

/// Objects whose keys contain `part`.
fn objects(part: &str) -> Vec<Vec<u8>> {
    WORLD.with_borrow(|world| {
        let keys = world.store.keys();
        let wanted = keys.iter().filter(|key| key.contains(part));
        wanted.map(|key| world.object(key).to_vec()).collect()
    })
}

fn record(object: &Bytes, number: u64) -> String {
    let record = match Record::decode(object, 0, number) {
        Ok(record) => record,
        Err(defect) => return defect.to_string(),
    };
    if record.header.kind != Kind::Delta {
        return outcome(&record.control());
    }
    let entries = match record.entries(BUCKETS) {
        Ok(entries) => entries,
        Err(defect) => return defect.to_string(),
    };
    let read = |entry: satchel_log::Entry<'_>| outcome(&Change::decode(entry.key, entry.value));
    let mut kinds: Vec<String> = entries.iter().map(read).collect();
    kinds.sort();
    kinds.dedup();
    kinds.join(" ")
}

/// Decodes the input unchanged and corrected.
fn both(input: &[u8], correct: fn(&[u8]) -> Bytes, decode: impl Fn(&Bytes) -> String) -> String {
    let unchanged = decode(&Bytes::copy_from_slice(input));
    let corrected = decode(&correct(input));
    format!("{unchanged} / {corrected}")
}

/// Returns the object with the correct checksum at its end.
fn corrected(object: &[u8]) -> Bytes {
    let end = object.len().saturating_sub(8);
    let content = &object[..end];
    [content, &xxh3_64(content).to_le_bytes()].concat().into()
}

/// Returns the segment with the correct checksum of head and index. The index contains the
/// checksums of the blocks.
fn corrected_segment(object: &[u8]) -> Bytes {
    let whole = Bytes::copy_from_slice(object);
    let Some(tail_at) = object.len().checked_sub(SEGMENT_TAIL_BYTES) else {
        return whole;
    };
    let index_at = object[tail_at..]
        .first_chunk::<8>()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let Some(index_at) = usize::try_from(index_at)
        .ok()
        .filter(|at| (SEGMENT_HEAD_BYTES..=tail_at).contains(at))
    else {
        return whole;
    };
    let covered = [
        &object[..SEGMENT_HEAD_BYTES],
        &object[index_at..tail_at + 8],
    ]
    .concat();
    let mut corrected = object.to_vec();
    corrected[tail_at + 8..tail_at + 16].copy_from_slice(&xxh3_64(&covered).to_le_bytes());
    corrected.into()
}
