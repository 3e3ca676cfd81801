//! What lies in a root. A checksum ends each object, which no mutation would survive: so each input is decoded as it is, and again with its checksum
//! put right, as if a program with other ideas had written it.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use satchel_engine::durable::Change;
use satchel_log::{
    Application, At, Identity, Kind, Layout, Manifest, MemoryStore, ObjectStore,
    Options, Place, Record, Retry, SegmentName, SnapshotPolicy, Source, check_segment, read,
    verify,
};
use satchel_log_simulation::{Puppet, SimulatedClock, State, push};
use satchel_storage::encode::encode_changes;
use xxhash_rust::xxh3::xxh3_64;

use super::{functions, told};
use crate::Target;

const BUCKETS: u16 = 3;
/// Bytes of a record before its body: magic to the body's length.
const RECORD_HEADER_BYTES: usize = 64;
/// Bytes of a segment before its blocks, and after its index.
const SEGMENT_HEAD_BYTES: usize = 46;
const SEGMENT_TAIL_BYTES: usize = 20;

/// Log objects. The number that an object says is the one it is looked for under, so that mutations get further.
pub(super) const RECORD: Target = Target {
    name: "log-record",
    words: &["SLOG"],
    seeds: || objects("/log/"),
    decode: |input| {
        both(input, mended, |object| {
            let number = object.get(36..44).and_then(|bytes| bytes.try_into().ok());
            record(object, number.map_or(0, u64::from_le_bytes))
        })
    },
};

/// The body of a log object, before compression: its first byte is the kind of the record.
pub(super) const ENTRIES: Target = Target {
    name: "log-body",
    words: &["example", "greeter", "satchel/json"],
    seeds: || {
        let mut seeds: Vec<Vec<u8>> = Vec::new();
        let changes = functions::changes();
        let each = changes.chunks(1);
        for changes in each.chain([&changes[..]]) {
            let entries = encode_changes(BUCKETS, changes);
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
        record(&mended(&object), 0)
    },
};

/// Segments of snapshots.
pub(super) const SEGMENT: Target = Target {
    name: "segment",
    words: &["SSEG", "GESS"],
    seeds: || objects("/snapshots/"),
    decode: |input| {
        both(input, mended_segment, |object| {
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
            told(&check_segment(object, 0, &name))
        })
    },
};

/// Manifests.
pub(super) const MANIFEST: Target = Target {
    name: "manifest",
    words: &["SMAN"],
    seeds: || objects("/manifests/"),
    decode: |input| {
        both(input, mended, |object| {
            let number = object.get(10..18).and_then(|bytes| bytes.try_into().ok());
            let number = number.map_or(0, u64::from_le_bytes);
            let manifest = Manifest::decode(object, 0, number, BUCKETS);
            if let Ok(manifest) = &manifest {
                // A block that a manifest names is read and unpacked.
                for placed in manifest
                    .buckets
                    .iter()
                    .filter_map(|bucket| bucket.image.as_ref())
                {
                    let _ = placed.at.range();
                    let mut at = placed.at;
                    at.stored_len = BLOCK.len() as u64;
                    at.checksum = xxh3_64(BLOCK);
                    // Refused or not: it may not ask for more than there is.
                    let _ = at.open(BLOCK, 0);
                }
            }
            told(&manifest)
        })
    },
};

/// A zstd frame that holds nothing and does not say so beforehand: how long it is only its manifest says.
const BLOCK: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58, 0x01, 0x00, 0x00];

/// A root with one object replaced: the first byte says which. Epochs, savepoints and the application's record are in it too, and whether objects fit
/// together.
pub(super) const ROOT: Target = Target {
    name: "root",
    words: &[
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
            let said = both(
                object,
                if key.contains("/snapshots/") {
                    mended_segment
                } else {
                    mended
                },
                |object| {
                    world.store.plant(key, object.clone());
                    world.looked_through()
                },
            );
            world.store.plant(key, whole);
            said
        })
    },
};

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::new());
}

/// A root that the log itself made: several owners, a snapshot, a collection.
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
            let mut owner = Puppet::take_over(world.place(nonce)).expect("nobody else owns it");
            for commit in 0..4_u16 {
                let key = format!("key-{commit}");
                owner.commit(&[
                    (commit % BUCKETS, &key, Some("value")),
                    (BUCKETS, "all", None),
                ]);
                owner.image_and_go_on();
            }
            if nonce == 2 {
                world.clock.advance(2 * 3_600_000);
                owner.go_on();
            }
        }
        world
    }

    fn place(&self, nonce: u8) -> Place {
        Place {
            store: self.store.clone(),
            root: "root".to_owned(),
            identity: Identity {
                application: "fuzzed".to_owned(),
                partition: 0,
                partitions: 1,
                buckets: BUCKETS,
            },
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
            on_trouble: Arc::new(|_| {}),
        }
    }

    fn object(&self, key: &str) -> Bytes {
        let got = push(&mut self.store.get(key)).expect("memory answers at once");
        got.ok().flatten().unwrap_or_default()
    }

    /// What verification and a reader say.
    fn looked_through(&self) -> String {
        let retry = Retry {
            initial_ms: 1,
            max_ms: 1,
            give_up_ms: Some(1),
        };
        let clock = Arc::new(self.clock.clone());
        let mut looking = Box::pin(verify(
            self.store.clone(),
            "root",
            clock.clone(),
            retry,
            Arc::new(|_| {}),
        ));
        let verified = push(&mut looking).expect("memory answers at once");
        let verified = verified.expect("memory always answers");
        let mut said: String = verified.findings.iter().map(ToString::to_string).collect();

        let Ok(application) =
            Application::decode(&self.object(Layout::new("root", 0).application()))
        else {
            return said;
        };
        let source = Source {
            store: self.store.clone(),
            root: "root".to_owned(),
            clock,
            retry,
            on_trouble: Arc::new(|_| {}),
        };
        for at in [At::Latest, At::Moment(2_500)] {
            let mut state = State::default();
            let mut reading = Box::pin(read(&source, &application, 0, at, &mut state));
            // A reader that waits for what was collected while it read waits for a clock that stands still.
            let read = push(&mut reading);
            said += &read.map_or("waits".to_owned(), |read| told(&read));
        }
        said
    }
}

/// The objects of the world whose keys hold `part`.
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
        return told(&record.control());
    }
    let entries = match record.entries(BUCKETS) {
        Ok(entries) => entries,
        Err(defect) => return defect.to_string(),
    };
    let read = |entry: satchel_log::Entry<'_>| told(&Change::decode(entry.key, entry.value));
    let mut kinds: Vec<String> = entries.iter().map(read).collect();
    kinds.sort();
    kinds.dedup();
    kinds.join(" ")
}

/// As it is, and put right.
fn both(input: &[u8], mend: fn(&[u8]) -> Bytes, decode: impl Fn(&Bytes) -> String) -> String {
    let as_it_is = decode(&Bytes::copy_from_slice(input));
    let put_right = decode(&mend(input));
    format!("{as_it_is} / {put_right}")
}

/// With the right checksum at its end.
fn mended(object: &[u8]) -> Bytes {
    let end = object.len().saturating_sub(8);
    let content = &object[..end];
    [content, &xxh3_64(content).to_le_bytes()].concat().into()
}

/// With the right checksum of head and index. Those of the blocks are in the index.
fn mended_segment(object: &[u8]) -> Bytes {
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
    let mut mended = object.to_vec();
    mended[tail_at + 8..tail_at + 16].copy_from_slice(&xxh3_64(&covered).to_le_bytes());
    mended.into()
}
