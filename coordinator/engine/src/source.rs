//! Reading of sources: decisions between a partition and the adapters that read streams and queues.
//!
//! ```text
//!                ┌─ shards  which shards of a stream are read, from which position, and when
//!  partition ◄──►│
//!                └─ queue   which received messages are deleted, and which stay invisible
//! ```
//!
//! Both are state machines like the partition: facts in, imperatives out, with the time as an
//! argument.

pub mod queue;
pub mod shards;
