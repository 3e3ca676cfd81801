//! A seeded world for the commit log: owners that crash, sleep and overlap, over a store that loses
//! requests and answers.
//!
//! One thread, one seed, virtual time. The owners run the real takeover, writer, snapshotter and
//! collector. Only the behaviour of the store, the clock and the order in which futures are polled
//! are drawn from the seed. [`run`] checks after every takeover that the recovered state is the
//! fold of the durable prefix, that nothing acknowledged is missing, and that no zombie is
//! acknowledged.
//!
//! [`run_in_table`] does the same with the log in a table, whose requests fail on their own.
//!
//! A run over a store without real I/O is the same each time. Over real files only the choices are.

pub use clock::SimulatedClock;
pub use executor::{Executor, yield_turns};
pub use faults::Faults;
pub use faulty_table::FaultyTable;
pub use intercept::InterceptingStore;
pub use manual_owner::{
    ManualOwner, PendingTakeover, begin_takeover, begin_takeover_from, drive, read_ahead_now,
};
pub use memory_root::{LogForm, MemoryRoot, simulated_table};
pub use model::{Model, State};
pub use mutants::Mutant;
pub use random::Random;
pub use store::FaultyStore;
pub use world::{Plan, Report, run, run_in_table, seeds};

mod clock;
mod executor;
mod faults;
mod faulty_table;
mod intercept;
mod manual_owner;
mod memory;
mod memory_root;
mod mistaken_parts;
mod model;
mod mutants;
mod owner;
mod random;
mod readers;
mod stale_store;
mod store;
mod world;
