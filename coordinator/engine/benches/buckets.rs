//! Cost of a key: bytes of memory, and time to reload it. `cargo bench -p satchel-engine` prints
//! both for a million keys.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a benchmark looks at the clock"
)]

use std::hint::black_box;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Instant;

use satchel_engine::address::{Address, FunctionType};
use satchel_engine::durable::{Change, Key, StoredState, Value, bucket_of};
use satchel_engine::partition::{LoadedBucket, Overlay};

const KEYS: usize = 1_000_000;
const BUCKETS: u16 = 256;
const THREADS: usize = 2;

type Entry = (Vec<u8>, Vec<u8>);

fn main() {
    let buckets = buckets();
    let before = resident_bytes();
    let begun = Instant::now();
    let loaded = decode(&buckets);
    let seconds = begun.elapsed().as_secs_f64();
    let resident = resident_bytes().saturating_sub(before);
    let counted: usize = loaded.iter().map(LoadedBucket::bytes).sum();
    println!("{KEYS} keys with addresses of 40 bytes and values of 200 bytes:");
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
fn buckets() -> Vec<Vec<Entry>> {
    let function = FunctionType::new("example", "shopping-cart");
    let mut buckets: Vec<Vec<Entry>> = (0..BUCKETS).map(|_| Vec::new()).collect();
    for key in 0..KEYS {
        let address = Address::new(function.clone(), format!("customer-{key:031}"));
        let bucket = bucket_of(&address, BUCKETS);
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

fn decode(buckets: &[Vec<Entry>]) -> Vec<LoadedBucket> {
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
            let content = LoadedBucket::decode(bucket, BUCKETS, image, entries.len(), &nothing);
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
