//! The simulation of a whole coordinator: one thread, one seed, virtual time.
//!
//! The real partition, dispatcher, commit log, takeover and snapshots run in several processes that own one partition in turn, over a
//! simulated outside: an object store that loses, delays and repeats requests; streams that are read again; functions that fail, hang and
//! answer garbage; callers that repeat and give up; clocks that are wrong; processes that crash, freeze and come back as zombies.
//!
//! ```text
//!  streams ─► ┌───────── process ─────────┐ ─► functions (known results)
//!  callers ─► │ partition ◄─► dispatcher   │ ─► egress
//!  admin   ─► │     └─ log, snapshots      │ ─► object store
//!             └───────────────────────────┘      truth: the fold of what is durable
//! ```
//!
//! [`run`] gives a [`Report`] or says which law was broken. The same seed gives the same run.

mod around;
mod bounds;
mod check;
mod deploys;
mod durable;
mod egress;
mod endpoints;
mod forks;
mod functions;
mod ingress;
mod lease;
mod mutants;
mod outside;
mod owner;
mod past;
mod process;
mod queue;
mod recovery;
mod requests;
mod served;
mod sink;
mod store;
mod streams;
mod timeline;
mod truth;
mod visits;
mod weather;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use mutants::Mutant;

/// What to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// All choices follow from it.
    pub seed: u64,
    /// What is deliberately broken.
    pub mutant: Option<Mutant>,
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Events of the simulated world.
    pub events: u64,
    /// Simulated time in ms.
    pub simulated_ms: u64,
    /// Takeovers that returned.
    pub takeovers: u64,
    /// Processes that ended, for whatever reason.
    pub crashes: u64,
    /// Owners that learned that their time was over.
    pub fenced: u64,
    /// Times that a message ended the process.
    pub kills: u64,
    /// Deltas that became durable.
    pub deltas: u64,
    /// Snapshots that took effect.
    pub snapshots: u64,
    /// Requests to the store.
    pub requests: u64,
    /// Objects that were collected.
    pub collected: u64,
    /// Log objects that a takeover found void.
    pub void: u64,
    /// Takeovers after a clean stop.
    pub clean: u64,
    /// Answers that a partition dropped because they answered no attempt in flight.
    pub stale_answers: u64,
    /// Leases that were had.
    pub leases: u64,
    /// Splits and merges of the stream.
    pub reshardings: u64,
    /// Records that were read again.
    pub repeated_records: u64,
    /// Timers that fired.
    pub timers_fired: u64,
    /// Values that expired.
    pub expired: u64,
    /// Messages that became dead letters.
    pub dead_letters: u64,
    /// Buckets that were loaded after a takeover.
    pub loads: u64,
    /// Buckets that were dropped from memory.
    pub evictions: u64,
    /// Requests to functions.
    pub bundles: u64,
    /// Operations of callers that ended.
    pub operations: u64,
    /// Savepoints that were made.
    pub savepoints_made: u64,
    /// Savepoints that were read.
    pub savepoints_read: u64,
    /// Lists of savepoints.
    pub savepoint_lists: u64,
    /// Moments of the past that were read.
    pub moments_read: u64,
    /// Moments that could not be read any more.
    pub moments_refused: u64,
    /// Roots that were made of this one with everything, and went on by themselves.
    pub forks: u64,
    /// Roots that were made of exported states, and went on by themselves.
    pub imports: u64,
    /// Owners that came too early to a root that was being made.
    pub forks_refused: u64,
    /// Processes that started with another version of the application.
    pub deploys: u64,
    /// Records of the egress that came more than once, where they may.
    pub emitted_again: u64,
}

impl Report {
    /// Adds what another run did.
    pub fn add(&mut self, more: &Self) {
        self.events += more.events;
        self.simulated_ms += more.simulated_ms;
        self.takeovers += more.takeovers;
        self.crashes += more.crashes;
        self.fenced += more.fenced;
        self.kills += more.kills;
        self.deltas += more.deltas;
        self.snapshots += more.snapshots;
        self.requests += more.requests;
        self.collected += more.collected;
        self.void += more.void;
        self.clean += more.clean;
        self.stale_answers += more.stale_answers;
        self.leases += more.leases;
        self.reshardings += more.reshardings;
        self.repeated_records += more.repeated_records;
        self.timers_fired += more.timers_fired;
        self.expired += more.expired;
        self.dead_letters += more.dead_letters;
        self.loads += more.loads;
        self.evictions += more.evictions;
        self.bundles += more.bundles;
        self.operations += more.operations;
        self.savepoints_made += more.savepoints_made;
        self.savepoints_read += more.savepoints_read;
        self.savepoint_lists += more.savepoint_lists;
        self.moments_read += more.moments_read;
        self.moments_refused += more.moments_refused;
        self.forks += more.forks;
        self.imports += more.imports;
        self.forks_refused += more.forks_refused;
        self.deploys += more.deploys;
        self.emitted_again += more.emitted_again;
    }
}

/// A law was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which, and how.
    pub what: String,
    /// What happened before, one line an event; empty unless it was asked for.
    pub trace: Vec<String>,
}

/// Runs a plan.
///
/// # Errors
///
/// The laws that were broken; with the trace if `trace` is set.
pub fn run(plan: &Plan, trace: bool) -> Result<(Report, Vec<String>), Failure> {
    let mut world = world::World::new(plan, trace);
    let ended = catch_unwind(AssertUnwindSafe(|| world.run()));
    let mut report = world.report.clone();
    // Forks have counted theirs.
    report.simulated_ms += world.timeline.now_ms() - world::BEGINNING_MS;
    report.deltas += world.truth.deltas;
    report.collected += world.objects.collected;
    report.emitted_again += world.sink.again;
    match ended {
        Ok(Ok(())) => Ok((report, world.trace.unwrap_or_default())),
        Ok(Err(failure)) => Err(failure),
        Err(panic) => Err(Failure {
            what: format!("it panics: {}", text_of_panic(&*panic)),
            trace: world.trace.unwrap_or_default(),
        }),
    }
}

fn text_of_panic(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without a word")
}
