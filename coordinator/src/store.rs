//! Stores of the durable state: the backends of [`satchel_log::ObjectStore`].
//!
//! - [`DirectoryStore`]: a directory of this machine, for development and single machines.
//! - `S3Store` (feature `aws`): a bucket of Amazon S3, or of a store that speaks its protocol.
//! - [`satchel_log::TabledStore`]: a bucket, with the log in a table of Amazon DynamoDB.
//! - [`satchel_log::MemoryStore`]: memory of the process, for state that may be lost.
//!
//! A [`StateLocation`] names one of the first two, on the command line, and a [`LogLocation`] the
//! table.

pub use counted::OnWritten;
pub use directory::DirectoryStore;
pub use location::{StateLocation, StateStore, StoreKind, StoreOptions};
pub use log_location::LogLocation;
pub use placement::{AskedPlacement, Division};
#[cfg(feature = "aws")]
pub use s3::S3Store;

mod counted;
mod directory;
mod location;
mod log_location;
mod placement;
pub mod s3;
#[cfg(feature = "aws")]
mod tabled;
pub(crate) mod unfinished;
