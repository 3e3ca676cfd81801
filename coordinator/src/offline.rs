//! Tools that work on a root of durable data without a running application: everything comes from the objects themselves.
//!
//! ```text
//!  Place (a directory, or s3://bucket/prefix) ─► Root ─┬─► verification: every object looked at, each finding named
//!                                                      ├─► past: the state, now or at a moment ─► lines of NDJSON
//!                                                      ├─► savepoint: a state that is kept under a name
//!                                                      └─► restore: all of it, at a moment ─► a new root, a fork
//!  lines of NDJSON ─► import ─► a new root
//! ```
//!
//! All but the import and the restore, which make new roots, only read, savepoints aside. An owner may be at work on the root meanwhile.

mod filling;
mod import;
mod line;
mod moment;
mod past;
mod place;
mod restore;
pub mod savepoint;
mod verification;

pub use import::{Imported, import};
pub use line::{StateLine, parse_address};
pub use moment::{parse_at, parse_moment};
pub use past::{Wanted, states};
pub use place::Root;
pub use restore::{Fork, Origin, Restored, restore};
pub use verification::{Verified, verify};
