//! Delivery of records: decisions between a partition's outbox and the adapters that send to
//! services.
//!
//! ```text
//!           ┌─ delivery      groups records into requests, in order per key, and retries them
//!  outbox ─►│  exactly_once  delivers to a stream that has neither fencing nor deduplication,
//!           └─ reconcile     scanning it for records whose requests are in doubt
//! ```
//!
//! They are state machines like the partition: facts in, imperatives out, with the time as an
//! argument.

pub mod delivery;
pub mod exactly_once;
pub mod reconcile;
