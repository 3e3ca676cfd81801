//! Tools that work on a root of durable data without a running application: everything comes from the objects themselves.
//!
//! ```text
//!  Place (a directory, or s3://bucket/prefix) ─► Root ─┬─► verification: every object looked at, each finding named
//!                                                      ├─► past: the state, now or at a moment ─► lines of NDJSON
//!                                                      └─► import: lines of NDJSON ─► a new root
//! ```
//!
//! All but the import only read. An owner may be at work on the root meanwhile.

mod import;
mod line;
mod moment;
mod past;
mod place;
mod verification;

pub use import::{Imported, import};
pub use line::{StateLine, parse_address};
pub use moment::parse_moment;
pub use past::{Wanted, states};
pub use place::Root;
pub use verification::{Verified, verify};
