//! Time of a start with the tail of the log at its bound: until the takeover is complete, until the
//! first bucket can be read, and until all are loaded; and the memory that tail and keys take.
//!
//! ```text
//! cargo bench -p satchel-storage --bench start
//! ```
//!
//! The store is memory, so this is the work of the process alone.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a benchmark looks at the clock"
)]

use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use futures::channel::mpsc;
use futures::executor::block_on;
use futures::future::{BoxFuture, Either, join, pending, select};
use satchel_engine::address::{Address, FunctionType};
use satchel_engine::durable::{Change, Key, StoredState, Value};
use satchel_engine::input::Input;
use satchel_engine::partition::Config;
use satchel_log::{
    BucketImage, Clock, Contender, Delta, EntriesBuilder, MemoryStore, Notice, Now, Offload,
    Options, Ownership, SnapshotPolicy, Work, take_over, take_over_with,
};
use satchel_storage::encode::{ChangeEncoder, encode_changes};
use satchel_storage::placement::identity;
use satchel_storage::pump::{Pump, Reaction};
use satchel_storage::recovery::{RecoveryFold, period};

const KEYS: u64 = 1_000_000;
const KEYS_PER_COMMIT: u64 = 10_000;
const VALUE_BYTES: usize = 200;
const ROUNDS: usize = 5;

/// Same allocator as the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    drop(fold);
    println!(
        "{KEYS} keys in images, {entries} entries of {:.0} MB (stored) over them; \
         medians of {ROUNDS} starts:",
        written as f64 / 1e6,
    );
    for (name, offload) in [
        (
            "where the future is polled",
            Arc::new(|work: Work| work()) as Offload,
        ),
        ("on two other threads", threads()),
    ] {
        let started = (0..ROUNDS).map(|_| start(&store, &config, never, &offload));
        let started: Vec<Started> = started.collect();
        let median = |of: fn(&Started) -> f64| {
            let mut values: Vec<f64> = started.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[ROUNDS / 2]
        };
        println!("long computations {name}:");
        println!(
            "  takeover              {:.0} ms",
            median(|it| it.taken_over_ms)
        );
        println!(
            "  first bucket loaded   {:.0} ms",
            median(|it| it.first_bucket_ms)
        );
        println!(
            "  all buckets loaded    {:.0} ms",
            median(|it| it.loaded_ms)
        );
        println!(
            "  reload                {:.2} M keys/s",
            median(|it| KEYS as f64 / 1e3 / (it.loaded_ms - it.taken_over_ms))
        );
        println!(
            "  CPU time              {:.0} ms for the takeover, {:.0} ms of it in its thread; \
             {:.0} ms in all",
            median(|it| it.taken_over_cpu.process_ms),
            median(|it| it.taken_over_cpu.thread_ms),
            median(|it| it.loaded_cpu.process_ms),
        );
        // Later starts use memory that earlier ones released.
        println!(
            "  memory, first start   {:.0} bytes an entry after the takeover, {:.0} a key at last",
            started[0].overlay_bytes / entries as f64,
            started[0].loaded_bytes / KEYS as f64
        );
    }
}

/// CPU time that was used.
#[derive(Clone, Copy)]
struct Cpu {
    process_ms: f64,
    thread_ms: f64,
}

impl Cpu {
    /// CPU time used so far, as reported by Linux; 0 on other systems.
    fn used() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let number = |text: Option<&str>| text.and_then(|it| it.parse::<f64>().ok());
        let process = read("/proc/self/stat");
        // User and system time in hundredths of a second, behind the name in parentheses.
        let fields = process.rsplit(')').next().unwrap_or_default();
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: f64 = ticks.filter_map(|it| number(Some(it))).sum();
        let thread = read("/proc/thread-self/schedstat");
        Self {
            process_ms: ticks * 10.0,
            thread_ms: number(thread.split_whitespace().next()).unwrap_or(0.0) / 1e6,
        }
    }

    fn since(before: Self) -> Self {
        let now = Self::used();
        Self {
            process_ms: now.process_ms - before.process_ms,
            thread_ms: now.thread_ms - before.thread_ms,
        }
    }
}

/// Measurements of one start.
struct Started {
    taken_over_ms: f64,
    first_bucket_ms: f64,
    loaded_ms: f64,
    taken_over_cpu: Cpu,
    loaded_cpu: Cpu,
    /// Resident memory after the takeover, in bytes.
    overlay_bytes: f64,
    /// Resident memory with all buckets loaded, in bytes.
    loaded_bytes: f64,
}

/// Takes over, and loads all buckets.
fn start(
    store: &Arc<MemoryStore>,
    config: &Config,
    options: Options,
    offload: &Offload,
) -> Started {
    let (before, cpu) = (resident_bytes(), Cpu::used());
    let begun = Instant::now();
    let ms = || begun.elapsed().as_secs_f64() * 1e3;
    let memory = || resident_bytes().saturating_sub(before) as f64;
    let mut fold = RecoveryFold::new(config.clone(), |_| {});
    let contender = contender(store, config, options);
    let owner = block_on(take_over_with(contender, &mut fold, offload.clone()));
    let owner = owner.expect("a root");
    let recovery = fold.finish().expect("the root is whole");
    let mut partition = recovery.start(period(&owner), 0);
    let (taken_over_ms, overlay_bytes) = (ms(), memory());
    let taken_over_cpu = Cpu::since(cpu);

    let (log, mut notices, driver) = owner.start_with(offload.clone());
    let offload = offload.clone();
    let loading = async move {
        let (decoded, mut inputs) = mpsc::unbounded();
        let mut pump = Pump::new(partition.placement());
        let mut first_bucket_ms = None;
        partition.handle_input(0, Input::TimeReached);
        loop {
            while let Some(output) = partition.poll_output() {
                if let Ok(command) = pump.perform(begun.elapsed(), output) {
                    command.send(&log);
                }
            }
            let gauges = partition.gauges();
            if gauges.buckets_loaded > 0 && first_bucket_ms.is_none() {
                first_bucket_ms = Some(ms());
            }
            if gauges.buckets_awaited == 0 {
                let loaded_ms = ms();
                return Started {
                    taken_over_ms,
                    first_bucket_ms: first_bucket_ms.unwrap_or(loaded_ms),
                    loaded_ms,
                    taken_over_cpu,
                    loaded_cpu: Cpu::since(cpu),
                    overlay_bytes,
                    loaded_bytes: memory(),
                };
            }
            match select(notices.next(), inputs.next()).await {
                Either::Left((notice, _)) => {
                    let notice = notice.expect("the log runs");
                    match pump.on_notice(begun.elapsed(), notice).0 {
                        Reaction::Tell(input) => partition.handle_input(0, input),
                        Reaction::Decode(job) => {
                            let decoded = decoded.clone();
                            offload(Box::new(move || {
                                let input = job.run().expect("the bucket is whole");
                                decoded.unbounded_send(input).expect("it is waited for");
                            }));
                        }
                        Reaction::Nothing => {}
                    }
                }
                Either::Right((input, _)) => {
                    partition.handle_input(0, input.expect("a sender exists"));
                }
            }
        }
    };
    let (ended, started) = block_on(join(driver.run(), loading));
    ended.expect("the only owner");
    started
}

/// Returns an offload to two threads.
fn threads() -> Offload {
    let (sender, receiver) = std::sync::mpsc::channel::<Work>();
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..2 {
        let receiver = receiver.clone();
        std::thread::spawn(move || {
            loop {
                let next = receiver.lock().expect("no thread panics").recv();
                let Ok(work) = next else { return };
                work();
            }
        });
    }
    Arc::new(move |work| sender.send(work).expect("the threads run"))
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
