//! Latency and cost of `satchel run` as on AWS: at stand-ins with the latency of S3 (PUT median
//! 25 ms, 99th percentile 80 ms), DynamoDB (5 ms, 15 ms) and functions (12 ms, 14 ms), which count
//! every request.
//!
//! ```text
//! cargo bench -p satchel --bench cloud [-- PART…] [SECONDS]
//! ```
//!
//! | Part | Measures |
//! |---|---|
//! | `alone` | one call at a time, after a quiet time and one after the other |
//! | `calls` | 100 and 800 calls/s with the default settings |
//! | `dial` | the same with each setting of `--commit-pace`, `--commit-depth` and `maxLinger` |
//! | `partitions` | 100 and 800 calls/s with 1, 4 and 8 partitions in one process |
//! | `table` | one call alone, and 100 and 800 calls/s, with the commit log in a DynamoDB table |
//! | `hops` | what messages between partitions add to a call, in one process and between two |
//! | `idle` | memory and requests of 1 to 64 partitions without work |
//! | `streams` | 1,000 records/s from stream to stream |
//! | `moves` | 8 partitions on two processes under 2,000 records/s: a join, planned moves, kills |
//!
//! Without a part, all are run, each load for SECONDS (10 by default). The binary is the real one,
//! the functions are the greeter's, run in this process. Calls come in an open loop: at random
//! times that do not depend on the answers, and a latency counts from the time at which its call
//! was due. Everything shares the machine's cores. Dollars are list prices (`satchel::cost`).

mod application;
mod calls;
mod hops;
mod idle;
mod moves;
mod priced;
mod relay;
mod streams;

use std::time::Duration;

use application::Settings;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seconds = arguments.iter().find_map(|argument| argument.parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(10));
    let parts = [
        "alone",
        "calls",
        "dial",
        "partitions",
        "table",
        "hops",
        "idle",
        "streams",
        "moves",
    ];
    let all = !arguments
        .iter()
        .any(|argument| parts.contains(&&**argument));
    let wanted = |part: &str| all || arguments.iter().any(|argument| argument == part);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be built");
    runtime.block_on(async {
        if wanted("alone") {
            calls::alone(&Settings::default(), time).await;
        }
        if wanted("calls") {
            calls::by_default(time).await;
        }
        if wanted("dial") {
            calls::dial(time).await;
        }
        if wanted("partitions") {
            calls::partitions(time).await;
        }
        if wanted("table") {
            calls::in_table(time).await;
        }
        if wanted("hops") {
            hops::measure(time).await;
        }
        if wanted("idle") {
            idle::measure().await;
        }
        if wanted("streams") {
            streams::measure(time).await;
        }
        if wanted("moves") {
            moves::measure().await;
        }
    });
}
