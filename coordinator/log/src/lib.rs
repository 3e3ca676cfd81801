//! Durable storage of one partition: a commit log with fenced takeover and incremental snapshots.
//! It works over any object store with a conditional create.
//!
//! # The law
//!
//! The content of a partition is a set of `(bucket, key) → value`. The log does not interpret keys
//! or values.
//!
//! - The state of a partition is exactly the fold of its durable commits, in their order.
//! - A commit is durable only when [`Notice::Durable`] reports it. Whatever depends on a delta (a
//!   reply, a message, an acknowledgement) must wait for that notice.
//! - Once another process has taken over, nothing that the former owner writes counts. The former
//!   owner is fenced, even if it was paused meanwhile: [`Driver::run`] ends with
//!   [`LogError::Fenced`].
//!
//! # The parts
//!
//! - [`take_over`] makes this process the owner. It hands everything durable to a [`Fold`], except
//!   images that the fold leaves unread for now ([`Fold::absent`], [`Log::load`]).
//! - [`Ownership::start`] returns a [`Log`] to commit deltas with, the [`Notice`]s of their
//!   results, and a [`Driver`] that does the I/O.
//! - [`read()`] hands the state to a [`Fold`] without taking over: the latest state, or the state
//!   at a past moment.
//!   [`read_buckets()`] hands it over bucket by bucket, to a [`BucketFold`].
//! - [`savepoints`] are named states. They are kept until they are deleted.
//! - [`verify()`] checks every object of a root and names each that is damaged, missing or foreign.
//! - [`Writer`] holds the rules of committing without any I/O.
//! - [`ObjectStore`] is everything that a backend must provide. [`MemoryStore`] is the smallest
//!   one. [`TabledStore`] adds a [`LogTable`] for the log, whose commits are faster and cheaper.
//!
//! # The loop
//!
//! An owner polls the driver and handles notices until it stops or is fenced:
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::sync::Arc;
//!
//! use futures::StreamExt;
//! use futures::executor::block_on;
//! use futures::future::{BoxFuture, join, ready};
//! use satchel_log::{
//!     Contender, Clock, Delta, Entries, Entry, Fold, Identity, LogError, MemoryStore, Notice, Now,
//!     Options, Placement, take_over,
//! };
//!
//! #[derive(Default)]
//! struct State(BTreeMap<Vec<u8>, Vec<u8>>);
//!
//! impl Fold for State {
//!     fn clear(&mut self) {
//!         self.0.clear();
//!     }
//!     fn apply(&mut self, entry: Entry<'_>) {
//!         match entry.value {
//!             Some(value) => self.0.insert(entry.key.to_vec(), value.to_vec()),
//!             None => self.0.remove(entry.key),
//!         };
//!     }
//! }
//!
//! struct Frozen;
//!
//! impl Clock for Frozen {
//!     fn now(&self) -> Now {
//!         Now::default()
//!     }
//!     fn sleep(&self, _ms: u64) -> BoxFuture<'static, ()> {
//!         Box::pin(ready(()))
//!     }
//! }
//!
//! # fn main() -> Result<(), LogError> {
//! let contender = Contender {
//!     store: Arc::new(MemoryStore::new()),
//!     root: "state".to_owned(),
//!     identity: Identity {
//!         application: "shop".to_owned(),
//!         partition: 0,
//!         partitions: 1,
//!         buckets: 1_024,
//!         placement: Placement::IdMd5 { hash_tags: false },
//!     },
//!     nonce: *b"16 random bytes.",
//!     clock: Arc::new(Frozen),
//!     options: Options::default(),
//!     on_store_failure: Arc::new(|failure| eprintln!("{}", failure.error)),
//! };
//! let mut state = State::default();
//! let ownership = block_on(take_over(contender.clone(), &mut state))?;
//!
//! let (log, mut notices, driver) = ownership.start();
//! let engine = async move {
//!     let mut released = Vec::new();
//!     let entries = Entries::from_iter([Entry { bucket: 7, key: b"stock", value: Some(b"12") }]);
//!     log.commit(Delta { sequence: 1, committed_at_ms: 0, clean: true, entries });
//!     while let Some(notice) = notices.next().await {
//!         match notice {
//!             // Release everything that waited for this delta, then stop.
//!             Notice::Durable { sequence, .. } => {
//!                 released.push(sequence);
//!                 break;
//!             }
//!             // A long-running owner answers each bucket here with `log.keep(image)`.
//!             Notice::WantImages(_) => {}
//!             _ => {}
//!         }
//!     }
//!     // Dropping the log ends the driver once everything handed over is durable.
//!     released
//! };
//! let (ended, released) = block_on(join(driver.run(), engine));
//! ended?;
//! assert_eq!(released, [1]);
//!
//! let next_owner = block_on(take_over(contender, &mut state))?;
//! assert!(next_owner.clean);
//! assert_eq!(state.0[b"stock".as_slice()], b"12");
//! # Ok(())
//! # }
//! ```
//!
//! This crate does not spawn tasks, sleep or read a clock by itself. Futures run where the caller
//! polls them, and time comes from [`Clock`]. The same code runs in production and in a
//! deterministic simulation.

#![warn(missing_docs)]

pub use application::{Application, Identity, Placement, RECORD_BYTES_MAX, TableLocation};
pub use buckets::BucketFold;
pub use clock::{Clock, Now};
pub use condensed::CondensedName;
pub use control::{Condemned, Control, Effect};
pub use entries::{Entries, EntriesBuilder, Entry};
pub use error::{Defect, ErrorKind, LogError};
pub use fold::{BucketSummary, Fold};
pub use history::{At, HistoryError, Reading, read, read_buckets};
pub use io::{Io, OnStoreFailure, Retry, StoreFailure};
pub use keys::Layout;
pub use loading::{Offload, Work};
pub use log::{Driver, Log, Notice, Notices};
pub use manifest::{ImageLocation, Manifest, ManifestBucket};
pub use memory::MemoryStore;
pub use options::{Condensation, Options, SnapshotPolicy};
pub use owner::{Nonce, Owner};
pub use record::{BODY_BYTES_MAX, Header, Kind, Record};
pub use savepoint::{InvalidSavepointName, Savepoint, SavepointName};
pub use segment::{Block, BlockLocation, BucketImage, SegmentName, check_segment};
pub use snapshotter::Snapshot;
pub use source::Source;
pub use store::{Created, OBJECT_BYTES_MAX, ObjectMeta, ObjectRange, ObjectStore, StoreError};
pub use tabled::{
    ATTRIBUTE_NAMES_BYTES, ITEM_BYTES_MAX, ItemPage, LogTable, MemoryTable, TabledStore,
};
pub use takeover::{
    Contender, Ownership, ReadAhead, Recovery, read_ahead, take_over, take_over_from,
    take_over_with,
};
pub use verify::{Verification, verify};
pub use writer::{Action, Committed, CommittedKind, DEPTH_MAX, Delta, Start, Writer};

mod application;
mod archiver;
mod background;
mod buckets;
mod clock;
mod codec;
mod collector;
mod condensed;
mod condenser;
mod control;
#[cfg(test)]
mod damage;
mod deletion;
mod entries;
mod epoch;
mod error;
mod fold;
mod frame;
mod hedge;
mod history;
mod io;
mod keys;
mod loading;
mod log;
mod manifest;
mod memory;
mod options;
mod owner;
mod reader;
mod record;
mod savepoint;
pub mod savepoints;
mod segment;
mod snapshotter;
mod source;
mod store;
mod tabled;
mod takeover;
mod verify;
mod writer;
