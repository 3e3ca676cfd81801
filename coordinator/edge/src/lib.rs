//! What is decided between a partition and the services around it: state machines without clocks, tasks or sockets.
//!
//! ```text
//!                    ┌─ shards     which shards of a stream are read, from where, and when
//!  partition ◄─────► │  inbox      what was received from a queue and is to be deleted          ◄─────► adapters: sockets,
//!   (engine)         │  sequencer  which records leave in which request, and when again                  clocks, retries
//!                    │  once       how a stream that cannot refuse holds each record once
//!                    └─ lease      who may try to own the partition
//! ```
//!
//! Each takes facts and gives imperatives, as the engine does, with the time as an argument; the adapters carry them out. So the simulation runs
//! them as they are, over services that lose, delay and repeat.

pub mod doubt;
pub mod inbox;
pub mod lease;
pub mod once;
pub mod sequencer;
pub mod shards;
