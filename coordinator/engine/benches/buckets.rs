//! Cost of a key: bytes of memory, and time to reload it. `cargo bench -p satchel-engine` prints
//! both for a million keys, in the placement of a new root and in that of earlier ones, and the
//! cost of a partition without keys.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a benchmark looks at the clock"
)]

use std::hint::black_box;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Instant;

use satchel_engine::address::{Address, FunctionType};
use satchel_engine::durable::{Change, Key, StoredState, Value};
use satchel_engine::partition::{Config, LoadedBucket, Overlay, Recovery};
use satchel_engine::placement::{CachedPlacement, Placement};

const KEYS: usize = 1_000_000;
const THREADS: usize = 2;
const EMPTY: usize = 200;
const ROUNDS: usize = 200;

type Entry = (Vec<u8>, Vec<u8>);

fn main() {
    println!("{KEYS} keys with addresses of 40 bytes and values of 200 bytes:");
    for placement in [Placement::xxh3(256), Placement::default()] {
        measure(placement);
        measure_empty(placement);
        measure_placing(placement);
    }
}

fn measure_empty(placement: Placement) {
    let before = resident_bytes();
    let begun = Instant::now();
    let config = Config {
        placement,
        ..Config::default()
    };
    let empty: Vec<_> = (0..EMPTY).map(|_| Recovery::new(config.clone())).collect();
    let each = 1.0 / EMPTY as f64;
    println!(
        "  empty partition     {:.0} KB, made in {:.0} µs",
        resident_bytes().saturating_sub(before) as f64 * each / 1e3,
        begun.elapsed().as_secs_f64() * each * 1e6
    );
    black_box(empty);
}

fn measure_placing(placement: Placement) {
    let function = FunctionType::new("example", "shopping-cart");
    let ids = (0..1_000).map(|key| format!("customer-{key:031}"));
    let addresses: Vec<_> = ids.map(|id| Address::new(function.clone(), id)).collect();
    let mut cached = CachedPlacement::new(placement);
    let first = time_each(&addresses, |address| placement.key_group(address).0);
    let again = time_each(&addresses, |address| cached.key_group(address).0);
    println!("  bucket of an id     {first:.0} ns, {again:.0} ns while it is remembered");
}

/// Returns the time of `work` for one address, in ns.
fn time_each(addresses: &[Address], mut work: impl FnMut(&Address) -> u16) -> f64 {
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        for few in addresses.chunks(4) {
            // A message needs the bucket of its address several times in a row.
            for address in (0..4).flat_map(|_| few) {
                black_box(work(address));
            }
        }
    }
    begun.elapsed().as_secs_f64() * 1e9 / (ROUNDS * 4 * addresses.len()) as f64
}

fn measure(placement: Placement) {
    let buckets = buckets(placement);
    let before = resident_bytes();
    let begun = Instant::now();
    let loaded = decode(&buckets, placement);
    let seconds = begun.elapsed().as_secs_f64();
    let resident = resident_bytes().saturating_sub(before);
    let counted: usize = loaded.iter().map(LoadedBucket::bytes).sum();
    println!("{placement}:");
    println!(
        "  reload, {THREADS} threads   {:.2} M keys/s",
        KEYS as f64 / seconds / 1e6
    );
    println!(
        "  memory, counted     {:.0} bytes a key",
        counted as f64 / KEYS as f64
    );
    println!(
        "  memory, resident    {:.0} bytes a key",
        resident as f64 / KEYS as f64
    );
    black_box(loaded);
}

/// Entries of each bucket, as in its image.
fn buckets(placement: Placement) -> Vec<Vec<Entry>> {
    let function = FunctionType::new("example", "shopping-cart");
    let mut buckets: Vec<Vec<Entry>> = Vec::new();
    buckets.resize_with(usize::from(placement.buckets()), Vec::new);
    for key in 0..KEYS {
        let address = Address::new(function.clone(), format!("customer-{key:031}"));
        let bucket = placement.key_group(&address).0;
        let state = StoredState {
            typename: "example/Cart".into(),
            expires_at_ms: None,
            value: vec![key as u8; 200].into(),
        };
        let change = Change {
            key: Key::State {
                address,
                name: "cart".into(),
            },
            value: Some(Value::State(state)),
        };
        let (mut key, mut value) = (Vec::new(), Vec::new());
        change.encode_key(&mut key);
        change.encode_value(&mut value);
        buckets[usize::from(bucket)].push((key, value));
    }
    buckets
}

fn decode(buckets: &[Vec<Entry>], placement: Placement) -> Vec<LoadedBucket> {
    let next = AtomicU16::new(0);
    let worker = || {
        let mut loaded = Vec::new();
        loop {
            let bucket = next.fetch_add(1, Ordering::Relaxed);
            let Some(entries) = buckets.get(usize::from(bucket)) else {
                return loaded;
            };
            let image = entries
                .iter()
                .map(|(key, value)| (&key[..], Some(&value[..])));
            let nothing = Overlay::default();
            let content = LoadedBucket::decode(bucket, placement, image, entries.len(), &nothing);
            loaded.push(content.expect("the entries are of this bucket"));
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(worker)).collect();
        let loaded = workers.into_iter().map(|worker| worker.join());
        loaded
            .flat_map(|loaded| loaded.expect("decoding does not panic"))
            .collect()
    })
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
