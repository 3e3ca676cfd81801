//! A long run with snapshots: their write amplification, and their effect on the latency of
//! commits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use satchel::store::DirectoryStore;
use satchel_log::Options;

use crate::counting::Counting;
use crate::owner::{Latency, Owner};

/// Number of keys in the state: 120 MB of addresses and values.
const KEYS: u64 = 500_000;

const KEYS_PER_COMMIT: u64 = 1_000;

/// Average number of writes per key, at random, in the measurement.
const ROUNDS: u64 = 10;

/// Prints the write amplification, and the latency of commits with and without a snapshot under
/// way.
pub(crate) async fn measure() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = DirectoryStore::open(directory.path()).expect("a writable directory");
    let (store, written) = Counting::over(Arc::new(store));
    let mut owner = Owner::of(Arc::new(store), Options::default()).await;
    for first in (0..KEYS).step_by(KEYS_PER_COMMIT as usize) {
        owner.write(first..first + KEYS_PER_COMMIT).await;
    }
    owner.measured.commits.clear();
    let (log, all) = (written.log(), written.all());
    let begun = Instant::now();
    let mut random = 1u64;
    let commits = KEYS * ROUNDS / KEYS_PER_COMMIT;
    for _ in 0..commits {
        let keys = (0..KEYS_PER_COMMIT).map(|_| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % KEYS
        });
        owner.write(keys.collect::<Vec<_>>().into_iter()).await;
    }
    let took = begun.elapsed();
    let measured = owner.stop().await;
    let (log, all) = (written.log() - log, written.all() - all);
    println!(
        "\n{} random writes over {KEYS} keys in {:.1} s, {KEYS_PER_COMMIT} per commit",
        KEYS * ROUNDS,
        took.as_secs_f64()
    );
    println!(
        "written: {:.0} MB of log, {:.0} MB in all: write amplification {:.2}",
        log as f64 / 1e6,
        all as f64 / 1e6,
        all as f64 / log as f64
    );
    println!(
        "{:<26} {:>8} {:>10} {:>10} {:>10}",
        "commits", "number", "p50 ms", "p99 ms", "max ms"
    );
    for (name, during) in [("without a snapshot", false), ("while one was taken", true)] {
        print_latencies(name, &measured.commits, during);
    }
}

fn print_latencies(name: &str, commits: &[Latency], during_snapshot: bool) {
    let of_interest = commits
        .iter()
        .filter(|commit| commit.during_snapshot == during_snapshot);
    let mut took: Vec<Duration> = of_interest.map(|commit| commit.took).collect();
    took.sort_unstable();
    if took.is_empty() {
        println!("{name:<26} {:>8}", 0);
        return;
    }
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{name:<26} {:>8} {:>10.2} {:>10.2} {:>10.2}",
        took.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
