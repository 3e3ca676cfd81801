//! Time of a takeover with the tail of the log at its bound, and the memory that the tail takes:
//! `cargo bench -p satchel-storage --bench start`. The store is memory, so this is the work of the
//! process alone.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a benchmark looks at the clock"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use futures::executor::block_on;
use futures::future::{BoxFuture, join, pending};
use satchel_engine::address::{Address, FunctionType};
use satchel_engine::durable::{Change, Key, StoredState, Value};
use satchel_engine::partition::Config;
use satchel_log::{
    BucketImage, Clock, Contender, Delta, EntriesBuilder, MemoryStore, Notice, Now, Options,
    Ownership, SnapshotPolicy, take_over,
};
use satchel_storage::encode::{ChangeEncoder, encode_changes};
use satchel_storage::placement::identity;
use satchel_storage::recovery::RecoveryFold;

const KEYS: u64 = 1_000_000;
const KEYS_PER_COMMIT: u64 = 10_000;
const VALUE_BYTES: usize = 200;

fn main() {
    let store = Arc::new(MemoryStore::new());
    let config = Config::default();
    let never = Options {
        snapshots: SnapshotPolicy {
            floor_bytes: u64::MAX,
            tail_bytes_max: u64::MAX,
            ..SnapshotPolicy::default()
        },
        ..Options::default()
    };
    let mut empty = RecoveryFold::new(config.clone(), |_| {});
    let owner = block_on(take_over(contender(&store, &config, never), &mut empty));
    image(owner.expect("a new root"), &config);
    let mut fold = RecoveryFold::new(config.clone(), |_| {});
    let owner = block_on(take_over(contender(&store, &config, never), &mut fold));
    let bound = SnapshotPolicy::default().tail_bytes_max;
    let (written, entries) = write_tail(owner.expect("a root"), &config, bound);
    let before = resident_bytes();
    let begun = Instant::now();
    let mut fold = RecoveryFold::new(config.clone(), |_| {});
    let owner = block_on(take_over(contender(&store, &config, never), &mut fold));
    let took = begun.elapsed();
    let recovery = fold.finish().expect("the root is whole");
    println!(
        "{KEYS} keys in images, {entries} entries of {:.0} MB (stored) in {} log objects:",
        written as f64 / 1e6,
        owner.expect("a root").recovery.replayed
    );
    println!("  takeover            {:.0} ms", took.as_secs_f64() * 1e3);
    println!(
        "  entries             {:.2} M/s",
        entries as f64 / took.as_secs_f64() / 1e6
    );
    println!(
        "  memory, resident    {:.0} bytes an entry",
        resident_bytes().saturating_sub(before) as f64 / entries as f64
    );
    black_box(recovery);
}

/// Takes a snapshot of all keys.
fn image(owner: Ownership, config: &Config) {
    let (log, mut notices, driver) = owner.start();
    let mut images: Vec<EntriesBuilder> = Vec::new();
    images.resize_with(
        usize::from(config.placement.buckets()) + 1,
        EntriesBuilder::new,
    );
    let mut encoder = ChangeEncoder::new(config.placement);
    for key in 0..KEYS {
        let change = change(key, 0);
        let entry = encoder.encode(&change);
        images[usize::from(entry.bucket)].push(entry.bucket, entry.key, entry.value);
    }
    let work = async move {
        // Every bucket changes, so that the snapshot images it.
        let mut all = EntriesBuilder::new();
        (0..=config.placement.buckets()).for_each(|bucket| all.push(bucket, b"", None));
        log.commit(delta(1, all.finish()));
        log.want_snapshot();
        while let Some(notice) = notices.next().await {
            match notice {
                Notice::WantImages(buckets) => {
                    for bucket in buckets {
                        let image = std::mem::take(&mut images[usize::from(bucket)]);
                        log.keep(BucketImage {
                            bucket,
                            sequence: 1,
                            earliest_due_ms: None,
                            pending: false,
                            entries: image.finish(),
                        });
                    }
                }
                Notice::Snapshot(_) => return,
                _ => {}
            }
        }
    };
    block_on(join(driver.run(), work))
        .0
        .expect("the only owner");
}

/// Writes keys again until the log has this size. Returns its size and its entries.
fn write_tail(owner: Ownership, config: &Config, bytes_max: u64) -> (u64, u64) {
    let (log, mut notices, driver) = owner.start();
    let work = async move {
        let (mut sequence, mut bytes) = (0, 0);
        while bytes < bytes_max {
            let first = sequence * KEYS_PER_COMMIT;
            sequence += 1;
            let keys = first..first + KEYS_PER_COMMIT;
            let keys = keys.map(|key| change(key * 7_919 % KEYS, sequence));
            let changes: Vec<Change> = keys.collect();
            log.commit(delta(sequence, encode_changes(config.placement, &changes)));
            while let Some(notice) = notices.next().await {
                if let Notice::Durable { stored_bytes, .. } = notice {
                    bytes += stored_bytes;
                    break;
                }
            }
        }
        (bytes, sequence * KEYS_PER_COMMIT)
    };
    let (ended, written) = block_on(join(driver.run(), work));
    ended.expect("the only owner");
    written
}

fn delta(sequence: u64, entries: satchel_log::Entries) -> Delta {
    Delta {
        sequence,
        committed_at_ms: 0,
        clean: false,
        entries,
    }
}

/// State of one address, whose value compresses about like JSON with numbers.
fn change(key: u64, version: u64) -> Change {
    let mut value = String::with_capacity(VALUE_BYTES + 32);
    value.push_str(r#"{"currency":"EUR","balances":["#);
    let mut number = key << 20 ^ version;
    while value.len() < VALUE_BYTES - 2 {
        number = number
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        value.push_str(&(number >> 34).to_string());
        value.push(',');
    }
    value.truncate(VALUE_BYTES);
    Change {
        key: Key::State {
            address: Address::new(FunctionType::new("bench", "account"), format!("{key:026}")),
            name: "balance".into(),
        },
        value: Some(Value::State(StoredState {
            typename: "bench/json".into(),
            expires_at_ms: None,
            value: value.into_bytes().into(),
        })),
    }
}

fn contender(store: &Arc<MemoryStore>, config: &Config, options: Options) -> Contender {
    Contender {
        store: store.clone(),
        root: String::new(),
        identity: identity("bench", config.placement),
        nonce: *b"the bench's own.",
        clock: Arc::new(SystemClock),
        options,
        on_store_failure: Arc::new(|failure| eprintln!("{}", failure.error)),
    }
}

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let ms = since.map_or(0, |since| since.as_millis() as u64);
        Now {
            boot_ms: ms,
            wall_ms: ms,
        }
    }

    fn sleep(&self, _ms: u64) -> BoxFuture<'static, ()> {
        // Nothing is deleted and nothing fails, so nothing waits for the end of a sleep.
        Box::pin(pending())
    }
}

/// Resident memory of the process as reported by Linux; 0 on other systems.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = pages.split_whitespace().nth(1);
    pages
        .and_then(|pages| pages.parse::<usize>().ok())
        .unwrap_or(0)
        * 4096
}
