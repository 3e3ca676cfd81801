//! Where the durable truth lies: the backends of [`satchel_log::ObjectStore`], and the clocks of this machine.
//!
//! - [`DirectoryStore`]: a directory of this machine, for development and single machines.
//! - [`satchel_log::MemoryStore`]: nowhere, for what may be forgotten.

pub use clock::SystemClock;
pub use directory::DirectoryStore;

mod clock;
mod directory;
