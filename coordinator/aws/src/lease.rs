//! Leases in DynamoDB, which decide which process tries to own a partition.
//!
//! ```text
//!  keeper ──facts──► Lease (pure) ──Look, Write──► LeaseTable ──► DynamoDB
//!     │                 │
//!     │                 └─► Acquired, Lost, Released
//!     └─► LeaseStatus, for takeover, serving and shutdown
//! ```
//!
//! A lease provides liveness, never safety. Two processes that both believe they hold a lease
//! cannot both commit, because the log refuses the second one. Nothing here therefore compares the
//! clocks of two machines.
//!
//! The holder advances a counter. A watcher takes over when the counter has not moved for the lease
//! time, measured by the watcher's own clock. It does so by a write that is conditional on exactly
//! the item it saw. While the table is unreachable, the holder continues and a watcher waits.

mod item;
mod keeper;
mod table;

pub use satchel_engine::lease::members::MemberItem;
pub use satchel_engine::lease::{
    Claimant, Condition, Lease, LeaseInput, LeaseItem, LeaseOutput, PeerPort, Timing, Write,
    WriteOutcome,
};

pub use satchel_engine::spread::roster::{Roster, RosterMember};

pub use self::item::Malformed;
pub use self::keeper::{BootClock, LeaseHandle, LeaseStatus, keep};
pub use self::table::{LeaseTable, TableError};
