//! Costs of durable state on this machine and a local directory: CPU and bytes per committed key,
//! write amplification, the effect of snapshots on commits, the time of a start, and the memory of
//! a key.
//!
//! ```text
//! cargo bench -p satchel --bench state [-- commits | long-run | start [KEYS…]] [--seconds N]
//! ```
//!
//! A key is one state of one address: 40 bytes of address and 200 bytes of value, JSON-like text.
//! `commits` and `long-run` run the real partition, committer, log and directory store in this
//! process, with a function that answers at once. CPU time is that of the process, so that other
//! load on the machine does not count. `start` runs the real binary on prepared roots. All files
//! are in a temporary directory (`TMPDIR`).

mod commits;
mod counting;
mod long_run;
mod owner;
mod start;

use std::time::Duration;

/// Same allocator as the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut wanted = Vec::new();
    let mut seconds = 5;
    let mut keys = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // Cargo adds this argument.
            "--bench" => {}
            "--seconds" => {
                let text = arguments.next().unwrap_or_default();
                seconds = text.parse().expect("--seconds takes a number");
            }
            "commits" | "long-run" | "start" => wanted.push(argument),
            number => keys.push(number.parse().unwrap_or_else(|_| {
                panic!("`{number}` is neither commits, long-run, start nor a number of keys")
            })),
        }
    }
    if keys.is_empty() {
        keys = vec![1_000_000, 5_000_000];
    }
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    if wants("commits") {
        runtime.block_on(commits::measure(Duration::from_secs(seconds)));
    }
    if wants("long-run") {
        runtime.block_on(long_run::measure());
    }
    if wants("start") {
        runtime.block_on(start::measure(&keys));
    }
}
