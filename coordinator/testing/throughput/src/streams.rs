//! Records from stream to stream through a function.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use satchel_local_streams::{NewRecord, Streams};

use crate::application::{Build, Running};
use crate::{Measured, Protocol};

/// Records of one append while the stream is filled.
const RECORDS_PER_APPEND: usize = 1_000;

/// Pause between two looks at the number of delivered records.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Maximum time without a delivered record.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures how records of `keys` keys pass, from the first tenth to the last hundredth of them.
pub(crate) fn measure(build: &Build, (keys, records): (usize, usize), over: Protocol) -> Measured {
    let data = tempfile::tempdir().expect("a temporary directory");
    fill(&data.path().join("streams"), keys, records);
    let running = Running::start(build, over, Some(data.path()));
    let first = wait_for(&running, records / 10);
    let (begun, cpu) = (Instant::now(), running.cpu());
    let last = wait_for(&running, records - records / 100);
    let took = begun.elapsed().as_secs_f64();
    let used = running.cpu() - cpu;
    let passed = (last - first) as f64;
    Measured {
        per_second: passed / took,
        coordinator_us: used.coordinator / passed,
        functions_us: used.functions / passed,
        latency_ms: None,
    }
}

/// Waits until that many records are delivered. Returns how many are.
fn wait_for(running: &Running, wanted: usize) -> usize {
    let mut seen = (running.delivered(), Instant::now());
    while seen.0 < wanted {
        thread::sleep(LOOK_INTERVAL);
        let delivered = running.delivered();
        if delivered > seen.0 {
            seen = (delivered, Instant::now());
        }
        assert!(seen.1.elapsed() < PATIENCE, "no record for {PATIENCE:?}");
    }
    seen.0
}

fn fill(directory: &Path, keys: usize, records: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let streams = Streams::durable(directory.to_owned());
        let stream = streams.stream("names").await.expect("a new stream");
        let numbers: Vec<usize> = (0..records).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_ms = now.expect("a calendar after 1970").as_millis() as u64;
        for numbers in numbers.chunks(RECORDS_PER_APPEND) {
            let record = |number: &usize| NewRecord {
                key: format!("person-{}", number % keys),
                explicit_hash_key: None,
                data: br#"{"name":"Bob"}"#.as_slice().into(),
                time_ms: now_ms,
            };
            let appended = stream.append_all(numbers.iter().map(record).collect());
            appended.await.expect("room on the disk");
        }
    });
}
