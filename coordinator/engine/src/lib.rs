//! The pure core of Satchel: owns state and pending messages, and decides when effects may be
//! released.
//!
//! Two main state machines, driven in the same way: the driver hands in a fact about the past, then
//! takes imperatives until there are none.
//!
//! - [`partition`] owns a range of addresses: mailboxes, state, timers, outbox, positions, dead
//!   letters;
//! - [`dispatcher`] gathers the partition's batches into requests, and limits the requests in
//!   flight per endpoint.
//!
//! ```text
//!  Input ──► Partition ──Invoke──► Dispatcher ──Send──► Lambda, HTTP, in-process
//!               │  ▲                   │ ▲                      │
//!        Commit │  └────Completed──────┘ └─────BundleReturned───┘
//!               ▼
//!           commit log ── CommitDurable ──► Emit, Reply, Read
//! ```
//!
//! Smaller state machines of the same kind decide for the adapters around a partition: [`source`]
//! (reading streams and queues), [`sink`] (delivering records), [`lease`] (choosing the process
//! that tries to own the partition), [`spread`] (which process should own which partition),
//! [`link`] (numbers, frames and acknowledgements of the messages from one partition to another,
//! which [`partition`] drives).
//!
//! The crate has no clock, randomness, threads or `await`. Time is an argument. Values that must
//! look random derive from a seed or a counter, so every run can be replayed. Adapters perform all
//! I/O.
//!
//! Imports between modules point one way, from left to right:
//!
//! ```text
//!  partition ─► input, output ─► tables ─► durable ─► queue, request
//!                                            │            └─► message, position ─► address, trace
//!                                            └─► placement ─► address
//!  partition, input, output ─► link
//!  partition ─► story ─► invocation, request
//!  dispatcher ─► endpoint ─► invocation ─► address
//!  sink, source ─► input, queue, position
//! ```

pub mod address;
pub mod clock;
pub mod dispatcher;
pub mod durable;
pub mod endpoint;
pub mod forwarding;
pub mod hex;
pub mod input;
pub mod invocation;
pub mod lease;
pub mod link;
mod map;
pub mod message;
pub mod output;
pub mod partition;
pub mod placement;
pub mod position;
pub mod queue;
pub mod request;
pub mod sink;
pub mod source;
pub mod spread;
pub mod story;
mod tables;
pub mod trace;
