//! Soak test: real Satchel processes with a real handler, over emulated AWS services and over a
//! directory. Clients keep them busy while they are killed, paused, stopped, disconnected and
//! deprived of disk space.
//!
//! ```text
//! environment "cloud": satchel run
//!
//!  workloads ──calls, messages──► [ owner ][ standby ] ──proxies──► S3, DynamoDB, Kinesis, Lambda
//!      │   └──────records──────►          ▲                              └─► soak-handler
//!      │                                  │
//!      │          chaos driver: kill -9, SIGSTOP, SIGTERM; restarts processes that ended
//!      │                                  │
//! environment "machine": satchel dev      ▼
//!      └──────the same──────────► [ satchel dev ] ──► a small disk that is filled and freed
//!
//! environment "spread": satchel run, partitions shared by several processes
//!
//!  workloads ──calls, messages──► [ 0 ]◄─links─►[ 1 ]◄─links─►[ 2 ] ──proxies──► stand-ins
//!  hot keys ──calls, timed──────►      links: proxies that cut and stall connections
//! ```
//!
//! - The functions check their inputs immediately. They write violations into a file outside the
//!   system under test.
//! - Each workload (one file in `workloads`, its functions in `functions`) knows the expected
//!   result of its operations. A run consists of rounds. At the end of each round the faults stop,
//!   the application must settle, and everything is checked: states, answers and egress.
//! - Hot keys (`hot_keys`) are called through any process. Their histories must be linearizable
//!   (`linearizability`).
//! - The chaos driver (`chaos`, `spread_chaos`) injects faults, restarts processes that ended, and
//!   judges how they ended.
//!
//! The command `soak` runs it for any length of time, the test `short` for a minute.

mod chaos;
mod clients;
mod disk;
mod egress;
mod environment;
mod fault_plan;
mod functions;
mod hot_keys;
mod linearizability;
mod metrics;
mod peer_links;
mod random;
mod retrying_client;
mod sabotage;
mod socket_owner;
mod spread_chaos;
mod supervisor;
mod verification;
mod violations;
mod workloads;

pub use disk::Disk;
pub use environment::{Environment, Plan, Report, run};
pub use functions::functions;
pub use sabotage::Sabotage;
