//! The pure core of Satchel: who has state, what is pending, what may leave, and when it is durable.
//!
//! Two state machines, both driven in the same way: hand in a fact about the past, then take imperatives until there are none.
//!
//! - [`partition`] owns a range of addresses: mailboxes, state, timers, outbox, positions, dead letters;
//! - [`dispatcher`] gathers the partition's batches into requests, as many at once as an endpoint bears.
//!
//! ```text
//!  Input ──► Partition ──Invoke──► Dispatcher ──Send──► Lambda, HTTP, in-process
//!               │  ▲                   │ ▲                      │
//!        Commit │  └────Completed──────┘ └─────BundleReturned───┘
//!               ▼
//!           commit log ── CommitDurable ──► Emit, Reply, Read
//! ```
//!
//! There is no clock, no randomness, no thread and no `await` in here: time is an argument, and where something must look random it
//! derives from a seed or a counter, so that any run can be replayed. Adapters do everything that touches the world.

pub mod address;
pub mod dispatcher;
pub mod durable;
pub mod endpoint;
pub mod input;
pub mod invocation;
pub mod lease;
mod map;
pub mod message;
pub mod output;
pub mod partition;
pub mod position;
pub mod queue;
pub mod sink;
pub mod source;
mod tables;
