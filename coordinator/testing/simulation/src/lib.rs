//! The simulation of a whole coordinator: one thread, one seed, virtual time.
//!
//! The real partition, dispatcher, storage, commit log, takeover and snapshots run in several
//! processes that own one partition in turn. Everything around them is simulated: an object store
//! that loses, delays and repeats requests; streams that are read again; functions that fail, hang
//! and answer garbage; clients that repeat and give up; clocks that are wrong; processes that
//! crash, freeze and come back as zombies.
//!
//! ```text
//!  streams ─► ┌───────── process ──────────┐ ─► functions (known results)
//!  callers ─► │ partition ◄─► dispatcher   │ ─► egress
//!  admin   ─► │  └─ pump ◄─► log, snapshots│ ─► object store
//!             └────────────────────────────┘      truth: the fold of what is durable
//! ```
//!
//! [`run`] gives a [`Report`] or says which law was broken. The same seed gives the same run.

mod bounds;
mod check;
mod clients;
mod clocks;
mod deploys;
mod durable;
mod egress;
mod egress_sink;
mod endpoints;
mod fault_plan;
mod fork_world;
mod forks;
mod functions;
mod history;
mod ingress;
mod lease;
mod mutants;
mod operators;
mod outages;
mod owner;
mod pauses;
mod peers_world;
mod process;
mod process_faults;
mod queue;
mod recovery;
mod store;
mod store_requests;
mod streams;
mod timeline;
mod truth;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use mutants::Mutant;

/// Run to perform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Seed of all random choices.
    pub seed: u64,
    /// Deliberate defect, if any.
    pub mutant: Option<Mutant>,
}

/// Counts of one or several runs.
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
    /// Owners that learned that another process had taken over.
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
    /// Leases that were acquired.
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
    /// Messages whose callers got the verdict that they are rejected for good.
    pub rejected: u64,
    /// Dead letters that were retried together with others.
    pub retried_in_bulk: u64,
    /// Values of a state that the administrator dropped from all addresses of a function.
    pub dropped_values: u64,
    /// Buckets that were loaded after a takeover.
    pub loads: u64,
    /// Buckets that were evicted from memory.
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
    /// Moments in history that were read.
    pub moments_read: u64,
    /// Moments to which history no longer reached back.
    pub moments_refused: u64,
    /// Forks of this root with all its content that then ran as a world of their own.
    pub forks: u64,
    /// Roots imported from exported states that then ran as a world of their own.
    pub imports: u64,
    /// Owners that came to a root before it was whole, and were refused.
    pub forks_refused: u64,
    /// Processes that started with another version of the application.
    pub deploys: u64,
    /// Egress records that arrived more than once, where they may.
    pub emitted_again: u64,
    /// Worlds of several partitions.
    pub peer_worlds: u64,
    /// Connections between owners of different partitions.
    pub peer_connections: u64,
    /// Messages that arrived at another partition, taken or not.
    pub peer_messages: u64,
    /// Moments at which the folds of all partitions were a consistent cut.
    pub moments_checked: u64,
}

impl Report {
    /// Adds the counts of another run.
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
        self.rejected += more.rejected;
        self.retried_in_bulk += more.retried_in_bulk;
        self.dropped_values += more.dropped_values;
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
        self.peer_worlds += more.peer_worlds;
        self.peer_connections += more.peer_connections;
        self.peer_messages += more.peer_messages;
        self.moments_checked += more.moments_checked;
    }
}

/// Broken law.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Description of the violation.
    pub what: String,
    /// Events before the violation, one per line; empty unless the trace was requested.
    pub trace: Vec<String>,
}

/// Performs a run. Returns its counts, and its trace if `trace` is set.
///
/// Every fourth seed also runs a world of several partitions. A mutant runs only in the worlds that
/// have its defect.
///
/// # Errors
///
/// The laws that were broken, with the trace if `trace` is set.
pub fn run(plan: &Plan, trace: bool) -> Result<(Report, Vec<String>), Failure> {
    match plan.mutant {
        Some(mutant) if mutant.is_between_partitions() => run_peers(plan, trace),
        None if plan.seed.is_multiple_of(4) => {
            let (mut report, mut lines) = run_peers(plan, trace)?;
            let (more, more_lines) = run_one(plan, trace)?;
            report.add(&more);
            lines.extend(more_lines);
            Ok((report, lines))
        }
        _ => run_one(plan, trace),
    }
}

/// Performs a run of a world of several partitions, as [`run`] does for some seeds.
///
/// # Errors
///
/// The laws that were broken, with the trace if `trace` is set.
pub fn run_peers(plan: &Plan, trace: bool) -> Result<(Report, Vec<String>), Failure> {
    let mut world = peers_world::PeersWorld::new(plan, trace);
    let ended = catch_unwind(AssertUnwindSafe(|| world.run()));
    let mut report = world.report.clone();
    report.simulated_ms = world.elapsed_ms();
    report.peer_worlds = 1;
    outcome(ended, report, world.trace)
}

fn outcome(
    ended: std::thread::Result<Result<(), Failure>>,
    report: Report,
    trace: Option<Vec<String>>,
) -> Result<(Report, Vec<String>), Failure> {
    let trace = trace.unwrap_or_default();
    match ended {
        Ok(Ok(())) => Ok((report, trace)),
        Ok(Err(failure)) => Err(failure),
        Err(panic) => Err(Failure {
            what: format!("a panic: {}", text_of_panic(&*panic)),
            trace,
        }),
    }
}

/// Runs a world of one partition.
fn run_one(plan: &Plan, trace: bool) -> Result<(Report, Vec<String>), Failure> {
    let mut world = world::World::new(plan, trace);
    let ended = catch_unwind(AssertUnwindSafe(|| world.run()));
    let mut report = world.report.clone();
    // Forks have already counted their time.
    report.simulated_ms += world.timeline.now_ms() - world::BEGINNING_MS;
    report.deltas += world.truth.deltas;
    report.collected += world.objects.collected;
    report.emitted_again += world.egress_sink.again;
    outcome(ended, report, world.trace)
}

fn text_of_panic(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without a message")
}
