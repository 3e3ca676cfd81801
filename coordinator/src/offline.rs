//! Tools that work on a root of durable data without a running application.
//!
//! ```text
//!  directory, or ─► Root ─┬─► verification: check every object, name each finding
//!  s3://bucket/prefix     ├─► states: the state, now or at a moment ─► lines of NDJSON
//!                         ├─► scene: one address at a moment, for a replay
//!                         ├─► savepoint: keep the state under a name
//!                         └─► restore: the whole content, at a moment ─► new root, a fork
//!  lines of NDJSON ─────────► import ─► new root
//! ```
//!
//! Only savepoints write to the root that they work on. An import and a restore write a new root,
//! and everything else only reads. An owner may be serving the root meanwhile.

mod export;
mod import;
mod line;
mod moment;
mod new_root;
mod past;
mod restore;
mod root;
pub mod savepoint;
mod scene;
mod states;
mod verification;

pub use export::{Export, Exported, Format, Table, export};
pub use import::{Imported, import};
pub use line::{StateLine, parse_address};
pub(crate) use moment::note_of_moment;
pub use moment::{parse_at, parse_moment};
pub(crate) use past::{Past, PastProblem};
pub use restore::{Fork, Origin, Restored, restore};
pub use root::Root;
pub(crate) use scene::{Scene, dead_letter, scene};
pub use states::{FoundStates, Wanted, states};
pub use verification::{Verified, verify};
