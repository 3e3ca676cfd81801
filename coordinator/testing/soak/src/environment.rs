//! Environments and rounds: each round of faults is followed by a check of everything.

mod cloud;
mod machine;
mod module;
mod spread;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::chaos::ChaosDriver;
use crate::clients::{Clients, Reader};
use crate::egress::SeenEgress;
use crate::fault_plan::FaultPlan;
use crate::hot_keys::HotKeys;
use crate::sabotage::Sabotage;
use crate::spread_chaos::SpreadChaos;
use crate::verification::Root;
use crate::workloads::Workloads;

/// Interval between two checks whether everything has settled.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Maximum time that something may be missing without any progress.
const STILL_MAX: Duration = Duration::from_secs(90);

/// Time after settling during which nothing else may happen.
const QUIET: Duration = Duration::from_secs(2);

/// Token of the administration ports of `satchel run`.
const TOKEN: &str = "the-token-of-the-soak";

/// Environment of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// `satchel run`, an owner and a standby, over emulated AWS services and faulty connections.
    Cloud,
    /// `satchel dev` over a directory on a disk that becomes full.
    Machine,
    /// `satchel run`, several processes that share the partitions, over stand-ins for AWS services,
    /// faulty connections, and links between the processes that are cut.
    Spread,
}

/// Parameters of a run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Environment.
    pub environment: Environment,
    /// Total time with faults.
    pub time: Duration,
    /// Interval between two kills.
    pub kill_every: Duration,
    /// Length of a round, after which everything is checked.
    pub round: Duration,
    /// Operations per second over all workloads.
    pub rate: f64,
    /// Seed of every decision except time.
    pub seed: u64,
    /// Executable of the handler.
    pub handler: PathBuf,
    /// Directory that keeps the output of all processes.
    pub logs: PathBuf,
    /// Number of processes, in [`Environment::Spread`]; at times there is one more.
    pub processes: u16,
    /// Interval between a join and a leave, in [`Environment::Spread`].
    pub change_every: Duration,
    /// Fill the disk, in [`Environment::Machine`].
    pub full_disk: bool,
    /// Keep the commit log in DynamoDB, in [`Environment::Cloud`] and [`Environment::Spread`].
    pub log_in_table: bool,
    /// Number of partitions of the application.
    pub partitions: u16,
    /// Injected defect, which the checks must find.
    pub sabotage: Option<Sabotage>,
}

/// Result of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// Environment.
    pub environment: Environment,
    /// Total time with faults.
    pub time: Duration,
    /// Number of complete checks.
    pub rounds: u64,
    /// Counts by name.
    pub counts: BTreeMap<String, u64>,
    /// Maximum durations by name.
    pub longest: BTreeMap<String, Duration>,
    /// Number of injected faults by service and kind.
    pub faults: BTreeMap<String, u64>,
    /// Violations found.
    pub violations: Vec<String>,
}

/// A running application.
struct Running {
    clients: Arc<Clients>,
    chaos: Chaos,
    /// Counters whose histories must be linearizable.
    hot_keys: Option<HotKeys>,
    fault_plan: Option<FaultPlan>,
    root: Root,
}

/// Driver of the faults of an environment.
enum Chaos {
    /// One process serves.
    One(ChaosDriver),
    /// The processes share the partitions.
    Spread(SpreadChaos),
}

impl Chaos {
    async fn disrupt(&mut self, time: Duration, kill_every: Duration) {
        match self {
            Self::One(chaos) => chaos.disrupt(time, kill_every).await,
            Self::Spread(chaos) => chaos.disrupt(time).await,
        }
    }

    async fn calm(&mut self) {
        match self {
            Self::One(chaos) => chaos.calm().await,
            Self::Spread(chaos) => chaos.calm().await,
        }
    }

    async fn poll(&mut self) {
        match self {
            Self::One(chaos) => chaos.poll().await,
            Self::Spread(chaos) => chaos.poll().await,
        }
    }

    async fn end(&mut self) {
        match self {
            Self::One(chaos) => chaos.end().await,
            Self::Spread(chaos) => chaos.end().await,
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Environment {
    fn name(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::Machine => "machine",
            Self::Spread => "spread",
        }
    }
}

/// Runs to the end of the plan or to the first violation.
///
/// # Errors
///
/// When the machine lacks a capability; the text names it.
///
/// # Panics
///
/// When an emulator or a program is missing or does not start; the text says how to get it.
pub async fn run(plan: &Plan) -> Result<Report, String> {
    let mut running = match plan.environment {
        Environment::Cloud => cloud::begin(plan).await?,
        Environment::Machine => machine::begin(plan)?,
        Environment::Spread => spread::begin(plan).await?,
    };
    running.chaos.calm().await;
    let mut workloads = Workloads::default();
    let mut seen = SeenEgress::default();
    let mut egress = running.clients.egress_reader().await;
    let (mut time, mut rounds) = (Duration::ZERO, 0);
    while time < plan.time && !running.clients.violations.any() {
        let round = plan.round.min(plan.time - time);
        running.round(plan, round, &mut workloads).await;
        time += round;
        if !running.clients.violations.any() {
            running.settle(&workloads, (&mut egress, &mut seen)).await;
        }
        rounds += 1;
        running.report_progress(plan, time, &seen);
    }
    running.chaos.end().await;
    if let Some(hot_keys) = &running.hot_keys {
        hot_keys.check(&running.clients);
    }
    running.clients.violations.collect();
    let begun = Instant::now();
    println!("soak: {}: verifying durable state", plan.environment);
    if let Some(wrong) = running.root.verify().await {
        running.clients.violations.record(wrong);
    }
    running
        .clients
        .metrics
        .observe("verification", begun.elapsed());
    let clients = &running.clients;
    Ok(Report {
        environment: plan.environment,
        time,
        rounds,
        counts: clients.metrics.counts(),
        longest: clients.metrics.longest(),
        faults: running
            .fault_plan
            .as_ref()
            .map_or_else(BTreeMap::new, FaultPlan::counts),
        violations: clients.violations.found(),
    })
}

impl Running {
    /// Runs workloads and faults for `time`, then waits until every request is answered.
    async fn round(&mut self, plan: &Plan, time: Duration, workloads: &mut Workloads) {
        let (stop, stopping) = watch::channel(false);
        let (ended, mut has_ended) = watch::channel(false);
        let clients = Arc::clone(&self.clients);
        inject_faults(self.fault_plan.as_ref(), true);
        clients.http.measure_silence(true);
        let working = async {
            let hot_keys = async {
                if let Some(hot_keys) = &mut self.hot_keys {
                    hot_keys.drive(&clients, plan.rate, &stopping).await;
                }
            };
            tokio::join!(workloads.drive(&clients, plan.rate, &stopping), hot_keys);
            ended.send_replace(true);
        };
        let disrupting = async {
            self.chaos.disrupt(time, plan.kill_every).await;
            stop.send_replace(true);
            inject_faults(self.fault_plan.as_ref(), false);
            self.chaos.calm().await;
            // Pending requests need running processes.
            while !*has_ended.borrow_and_update() {
                self.chaos.poll().await;
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        tokio::join!(working, disrupting);
        self.clients.http.measure_silence(false);
    }

    /// Waits until every workload has its expected result, as long as there is progress.
    async fn settle(&mut self, workloads: &Workloads, egress: (&mut Reader, &mut SeenEgress)) {
        let (reader, seen) = egress;
        let begun = Instant::now();
        let (mut moved, mut last) = (Instant::now(), (0, None));
        let mut settled: Option<Instant> = None;
        while !self.clients.violations.any() {
            self.chaos.poll().await;
            self.clients.observe_egress(reader, seen).await;
            let mismatch = workloads.mismatch(&self.clients, seen).await;
            match (&mismatch, settled) {
                (None, None) => settled = Some(Instant::now()),
                (None, Some(since)) if since.elapsed() > QUIET => {
                    self.clients.metrics.observe("settling", begun.elapsed());
                    return;
                }
                (None, Some(_)) => {}
                (Some(mismatch), Some(_)) => {
                    let what = format!("everything had settled, but then {mismatch}");
                    self.clients.violations.record(what);
                }
                (Some(_), None) => {}
            }
            let now = (seen.count, mismatch);
            if now != last {
                (moved, last) = (Instant::now(), now);
            } else if moved.elapsed() > STILL_MAX
                && let Some(mismatch) = &last.1
            {
                let what = format!("no progress for {STILL_MAX:?}: {mismatch}");
                self.clients.violations.record(what);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    fn report_progress(&self, plan: &Plan, time: Duration, seen: &SeenEgress) {
        let metrics = &self.clients.metrics;
        let operations: u64 = metrics
            .counts()
            .iter()
            .filter(|(name, _)| name.starts_with("operations"))
            .map(|(_, count)| count)
            .sum();
        println!(
            "soak: {}: {} of {} s, {operations} operations, {} egress records, {} kills, \
             {} pauses, {} stops, {} full disks, {} takeovers; {}",
            plan.environment,
            time.as_secs(),
            plan.time.as_secs(),
            seen.count,
            metrics.counted("kills"),
            metrics.counted("pauses"),
            metrics.counted("orderly stops"),
            metrics.counted("disks filled"),
            metrics.counted("takeovers"),
            match self.clients.violations.any() {
                true => "VIOLATED",
                false => "no violations",
            }
        );
    }
}

fn inject_faults(fault_plan: Option<&FaultPlan>, active: bool) {
    if let Some(fault_plan) = fault_plan {
        fault_plan.set_active(active);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.time.as_secs_f64() / 60.0;
        writeln!(
            f,
            "{}: {minutes:.1} minutes of faults, {} checks, {} violations",
            self.environment,
            self.rounds,
            self.violations.len()
        )?;
        let operations = self.counts.iter();
        let operations: u64 = operations
            .filter(|(name, _)| name.starts_with("operations"))
            .map(|(_, count)| count)
            .sum();
        let seconds = self.time.as_secs_f64().max(1.0);
        writeln!(
            f,
            "  {operations} operations, {:.0} per second",
            operations as f64 / seconds
        )?;
        for (name, count) in &self.counts {
            writeln!(f, "  {name}: {count}")?;
        }
        for (name, time) in &self.longest {
            writeln!(f, "  longest {name}: {:.1} s", time.as_secs_f64())?;
        }
        let faults: u64 = self.faults.values().sum();
        if faults > 0 {
            writeln!(f, "  connection faults: {faults}, {:?}", self.faults)?;
        }
        for violation in &self.violations {
            writeln!(f, "  VIOLATION: {violation}")?;
        }
        Ok(())
    }
}
