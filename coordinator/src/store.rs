//! Where the durable truth lies: the backends of [`satchel_log::ObjectStore`], and the clocks of this machine.
//!
//! - [`DirectoryStore`]: a directory of this machine, for development and single machines.
//! - [`S3Store`]: a bucket of Amazon S3, or of a store that speaks its protocol.
//! - [`satchel_log::MemoryStore`]: nowhere, for what may be forgotten.
//!
//! [`Place`] is what people write to name one of the first two.

pub use clock::SystemClock;
pub use counted::OnWritten;
pub use directory::DirectoryStore;
pub use place::{Opened, Place, PlaceOptions};
pub use s3::S3Store;

mod clock;
mod counted;
mod directory;
mod place;
pub mod s3;
pub(crate) mod unfinished;
