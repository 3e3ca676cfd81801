//! Leases in DynamoDB: who may try to own a partition.
//!
//! ```text
//!  keeper ──facts──► Lease (pure) ──Look, Write──► LeaseTable ──► DynamoDB
//!     │                 │
//!     │                 └─► Acquired, Lost, Released
//!     └─► LeaseStatus, for whoever takes over, serves and stops
//! ```
//!
//! A lease is liveness and never safety: two processes that both believe they hold one cannot both commit, because the log refuses the
//! second. So nothing here compares the clocks of two machines. The holder moves a counter; a watcher takes over when it has seen the
//! counter stand still for the lease time by its own clock, through a conditional write on exactly what it saw. When the table cannot be
//! reached, the holder goes on and a watcher waits.

mod item;
mod keeper;
mod table;

pub use satchel_engine::lease::{
    Claimant, Condition, Lease, LeaseInput, LeaseItem, LeaseOutput, Timing, Write, WriteOutcome,
};

pub use self::item::Malformed;
pub use self::keeper::{BootClock, LeaseHandle, LeaseStatus, keep};
pub use self::table::{LeaseTable, TableError};
