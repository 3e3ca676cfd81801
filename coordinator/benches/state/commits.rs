//! Commits per second, and the cost of a key in them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use satchel::store::DirectoryStore;
use satchel_log::{Options, SnapshotPolicy};

use crate::counting::Counting;
use crate::owner::{ADDRESS_BYTES, Owner, VALUE_BYTES, process_cpu};

/// Number of different keys, which are written over and over.
const KEYS: u64 = 200_000;

/// Prints a line for 1,000 and for 10,000 keys per commit. Snapshots are off; `long-run` has them.
pub(crate) async fn measure(time: Duration) {
    println!(
        "commits of keys of {ADDRESS_BYTES} B + {VALUE_BYTES} B; CPU in µs per key: of the \
         partition (record, message, batch, answer, delta), and of the commit (encoding, \
         compression, checksum, file)"
    );
    println!(
        "{:>12} {:>10} {:>12} {:>15} {:>12} {:>12}",
        "keys/commit", "commits/s", "keys/s", "partition µs", "commit µs", "bytes/key"
    );
    for per_commit in [1_000, 10_000] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = DirectoryStore::open(directory.path()).expect("a writable directory");
        let (store, written) = Counting::over(Arc::new(store));
        let options = Options {
            snapshots: SnapshotPolicy {
                floor_bytes: u64::MAX,
                ..SnapshotPolicy::default()
            },
            ..Options::default()
        };
        let mut owner = Owner::of(Arc::new(store), options).await;
        let mut next = 0;
        // Every key exists before the measurement begins.
        while next < KEYS {
            owner.write(next..next + per_commit).await;
            next += per_commit;
        }
        let (before, bytes_before) = (owner.measured.partition, written.log());
        let (begun, cpu_begun) = (Instant::now(), process_cpu());
        let mut commits = 0u64;
        while begun.elapsed() < time {
            let first = (next * 7) % KEYS;
            owner
                .write((first..first + per_commit).map(|key| key % KEYS))
                .await;
            next += per_commit;
            commits += 1;
        }
        let (took, cpu) = (begun.elapsed(), process_cpu() - cpu_begun);
        let partition = owner.measured.partition - before;
        let keys = (commits * per_commit) as f64;
        let bytes = written.log() - bytes_before;
        owner.stop().await;
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / keys;
        println!(
            "{per_commit:>12} {:>10.0} {:>12.0} {:>15.2} {:>12.2} {:>12.0}",
            commits as f64 / took.as_secs_f64(),
            keys / took.as_secs_f64(),
            micros(partition),
            micros(cpu.saturating_sub(partition)),
            bytes as f64 / keys,
        );
    }
}
