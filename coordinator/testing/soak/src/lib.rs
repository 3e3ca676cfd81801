//! The soak: real processes of Satchel with a real handler, over stand-ins for AWS and over a directory, with clients that keep them busy while
//! they are killed, put to sleep, stopped, cut off and robbed of their disk.
//!
//! ```text
//!  workloads ──calls, messages──► [ owner ][ standby ] ──proxies──► S3, DynamoDB, Kinesis, Lambda      arena "cloud": satchel run
//!      │   └──────records──────►         ▲                              └─► soak-handler
//!      │                               crew: kill -9, SIGSTOP, SIGTERM; starts again what ended
//!      │                                 ▼
//!      └────the same───────────► [ satchel dev ] ──► a small disk that is filled and freed             arena "machine"
//! ```
//!
//! - The functions check what they see on the spot, and write what must not be into a file that lies beside what is tested.
//! - Each workload (one file in `workloads`, its functions in `functions`) knows what must come of what it asked for. A run is divided into rounds; at
//!   the end of each the trouble stops, everything must settle, and all of it is checked: states, answers, and what left.
//! - The crew (`crew`) makes the trouble, starts again what ended, and judges how it ended.
//!
//! The command `soak` runs it for as long as one likes, the test `short` for a minute.

mod arena;
mod crew;
mod disk;
mod door;
mod functions;
mod left;
mod outside;
mod random;
mod sabotage;
mod slot;
mod tally;
mod verification;
mod violations;
mod weather;
mod workloads;

pub use arena::{Arena, Plan, Report, run};
pub use disk::Disk;
pub use functions::functions;
pub use sabotage::Sabotage;
