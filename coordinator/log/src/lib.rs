//! The durable form of one partition: a commit log with fenced takeover, and incremental snapshots, over any store with a conditional
//! create.
//!
//! What an entry means is nobody's business here: the content of a partition is a set of `(bucket, key) → value`, and a partition's state is
//! exactly the fold of its durable commits (the law of this crate).
//!
//! - [`take_over`] makes this process the owner and hands everything durable to a [`Fold`], except for the buckets that it would rather have later
//!   ([`Fold::absent`], [`Log::load`]).
//! - [`Ownership::start`] gives a [`Log`] to commit deltas with, the [`Notice`]s of what became of them, and a [`Driver`] that does the I/O.
//! - [`read()`] hands the state to a [`Fold`] without taking over: as it is, or as it was at a moment.
//! - [`savepoints`] are states that a person named, kept until they are deleted.
//! - [`verify()`] looks at every object of a root and names what is damaged, missing or foreign.
//! - [`Writer`] holds the rules of committing without any I/O.
//! - [`ObjectStore`] is all that is asked of a backend; [`MemoryStore`] is the smallest one.
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::sync::Arc;
//! use futures::{StreamExt, executor::block_on, future::{BoxFuture, ready}};
//! use satchel_log::{Clock, Delta, Entries, Entry, Fold, Identity, LogError, MemoryStore, Notice, Now, Options, Place, take_over};
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
//! let place = Place {
//!     store: Arc::new(MemoryStore::new()),
//!     root: "state".to_owned(),
//!     identity: Identity { application: "shop".to_owned(), partition: 0, partitions: 1, buckets: 256 },
//!     nonce: *b"16 random bytes.",
//!     clock: Arc::new(Frozen),
//!     options: Options::default(),
//!     on_trouble: Arc::new(|trouble| eprintln!("{}", trouble.error)),
//! };
//! let mut state = State::default();
//! let ownership = block_on(take_over(place.clone(), &mut state))?;
//!
//! let (log, mut notices, driver) = ownership.start();
//! let entries = Entries::from_iter([Entry { bucket: 7, key: b"stock", value: Some(b"12") }]);
//! log.commit(Delta { sequence: 1, committed_at_ms: 0, clean: true, entries });
//! drop(log); // the driver ends once everything is durable
//! block_on(driver.run())?;
//! assert!(matches!(block_on(notices.next()), Some(Notice::Durable { sequence: 1, number: 2, .. })));
//!
//! let next_owner = block_on(take_over(place, &mut state))?;
//! assert!(next_owner.clean);
//! assert_eq!(state.0[b"stock".as_slice()], b"12");
//! # Ok(())
//! # }
//! ```
//!
//! Nothing here spawns, sleeps or reads a clock by itself: futures run where the caller polls them, time comes through [`Clock`]; so the same code runs
//! in production and in a deterministic simulation.

#![warn(missing_docs)]

pub use application::{Application, DEFAULT_BUCKETS, Identity};
pub use clock::{Clock, Now};
pub use control::{Condemned, Control, Effect};
pub use entries::{Entries, EntriesBuilder, Entry};
pub use error::{Defect, ErrorKind, LogError};
pub use fold::{BucketSummary, Fold};
pub use history::{At, HistoryError, Reading, Source, read};
pub use io::{Io, OnTrouble, Retry, Trouble};
pub use keys::Layout;
pub use loading::{Offload, Work};
pub use log::{Driver, Log, Notice, Notices};
pub use manifest::{BucketAt, Manifest, Placed};
pub use memory::MemoryStore;
pub use options::Options;
pub use owner::{Nonce, Owner};
pub use record::{BODY_BYTES_MAX, Header, Kind, Record};
pub use savepoint::{Savepoint, SavepointName, WrongName};
pub use segment::{Block, BlockAt, BucketImage, SegmentName, check_segment};
pub use snapshotter::{Snapshot, SnapshotPolicy};
pub use store::{Created, ObjectMeta, ObjectStore, StoreError};
pub use takeover::{Ownership, Place, Recovery, take_over};
pub use verify::{Verification, verify};
pub use writer::{Action, Committed, DEPTH_MAX, Delta, Start, What, Writer};

mod application;
mod background;
mod clock;
mod codec;
mod collector;
mod control;
#[cfg(test)]
mod damage;
mod deletion;
mod entries;
mod epoch;
mod error;
mod fold;
mod frame;
mod history;
mod io;
mod keys;
mod loading;
mod log;
mod manifest;
mod memory;
mod options;
mod owner;
mod record;
mod savepoint;
pub mod savepoints;
mod segment;
mod snapshotter;
mod store;
mod takeover;
mod verify;
mod writer;
