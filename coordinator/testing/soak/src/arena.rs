//! Where it is run, and how: rounds of trouble, each followed by a check of everything.

mod cloud;
mod machine;
mod module;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::crew::Crew;
use crate::left::SeenToLeave;
use crate::outside::{Outside, Reader};
use crate::sabotage::Sabotage;
use crate::verification::Root;
use crate::weather::Weather;
use crate::workloads::Workloads;

/// How often is looked whether everything has settled.
const LOOK: Duration = Duration::from_millis(500);

/// How long something may be missing while nothing happens.
const STILL_MAX: Duration = Duration::from_secs(90);

/// How long must pass, after everything has settled, in which nothing else happens.
const QUIET: Duration = Duration::from_secs(2);

/// What is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arena {
    /// `satchel run`, an owner and a standby, over stand-ins for AWS and bad connections.
    Cloud,
    /// `satchel dev` over a directory on a disk that gets full.
    Machine,
}

/// How it is run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where.
    pub arena: Arena,
    /// For how long there is trouble.
    pub time: Duration,
    /// How often there is trouble.
    pub kill_every: Duration,
    /// After how much trouble everything is checked.
    pub round: Duration,
    /// How many operations a second there are, in all.
    pub rate: f64,
    /// What decides about everything but time.
    pub seed: u64,
    /// The handler's executable.
    pub handler: PathBuf,
    /// Where everything that processes print is kept.
    pub logs: PathBuf,
    /// In [`Arena::Machine`]: whether the disk gets full.
    pub full_disk: bool,
    /// The defect that is put in, which must be found.
    pub sabotage: Option<Sabotage>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Report {
    /// Where it was run.
    pub arena: Arena,
    /// For how long there was trouble.
    pub time: Duration,
    /// How often everything was checked.
    pub rounds: u64,
    /// What was counted.
    pub counts: BTreeMap<String, u64>,
    /// The longest of times, by what they are.
    pub longest: BTreeMap<String, Duration>,
    /// How often each service met which fault.
    pub faults: BTreeMap<String, u64>,
    /// What must not be, and was.
    pub violations: Vec<String>,
}

/// An application that runs.
struct Running {
    outside: Arc<Outside>,
    crew: Crew,
    weather: Option<Weather>,
    root: Root,
}

impl fmt::Display for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Arena {
    fn name(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::Machine => "machine",
        }
    }
}

/// Runs it, to its end or to the first violation.
///
/// # Errors
///
/// What the machine lacks, for a person.
///
/// # Panics
///
/// When a stand-in or a program is missing, or does not come up; with how to get it.
pub async fn run(plan: &Plan) -> Result<Report, String> {
    let mut running = match plan.arena {
        Arena::Cloud => cloud::begin(plan).await?,
        Arena::Machine => machine::begin(plan)?,
    };
    running.crew.calm().await;
    let mut workloads = Workloads::default();
    let mut seen = SeenToLeave::default();
    let mut out = running.outside.out();
    let (mut time, mut rounds) = (Duration::ZERO, 0);
    while time < plan.time && !running.outside.violations.any() {
        let round = plan.round.min(plan.time - time);
        running.round(plan, round, &mut workloads).await;
        time += round;
        if !running.outside.violations.any() {
            running.settle(&workloads, (&mut out, &mut seen)).await;
        }
        rounds += 1;
        running.tell(plan, time, &seen);
    }
    running.crew.end().await;
    running.outside.violations.look();
    let begun = Instant::now();
    println!("soak: {}: verifying the durable state", plan.arena);
    if let Some(wrong) = running.root.verify().await {
        running.outside.violations.note(wrong);
    }
    running.outside.tally.took("verification", begun.elapsed());
    let outside = &running.outside;
    Ok(Report {
        arena: plan.arena,
        time,
        rounds,
        counts: outside.tally.counts(),
        longest: outside.tally.longest(),
        faults: running
            .weather
            .as_ref()
            .map_or_else(BTreeMap::new, Weather::figures),
        violations: outside.violations.found(),
    })
}

impl Running {
    /// Work and trouble for so long; then everything that was asked for is answered.
    async fn round(&mut self, plan: &Plan, time: Duration, workloads: &mut Workloads) {
        let (stop, stopping) = watch::channel(false);
        let (ended, mut has_ended) = watch::channel(false);
        let outside = Arc::clone(&self.outside);
        self.is_bad(true);
        outside.door.listen(true);
        let working = async {
            workloads.drive(&outside, plan.rate, &stopping).await;
            ended.send_replace(true);
        };
        let troubling = async {
            self.crew.trouble(time, plan.kill_every).await;
            stop.send_replace(true);
            self.is_bad(false);
            self.crew.calm().await;
            // What is still asked for needs somebody to look after the processes.
            while !*has_ended.borrow_and_update() {
                self.crew.look().await;
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::join!(working, troubling);
        self.outside.door.listen(false);
    }

    /// Waits until everything is as it must be, for as long as something still happens.
    async fn settle(&mut self, workloads: &Workloads, left: (&mut Reader, &mut SeenToLeave)) {
        let (out, seen) = left;
        let begun = Instant::now();
        let (mut moved, mut last) = (Instant::now(), (0, None));
        let mut settled: Option<Instant> = None;
        while !self.outside.violations.any() {
            self.crew.look().await;
            self.outside.see_what_left(out, seen).await;
            let lack = workloads.lack(&self.outside, seen).await;
            match (&lack, settled) {
                (None, None) => settled = Some(Instant::now()),
                (None, Some(since)) if since.elapsed() > QUIET => {
                    self.outside.tally.took("settling", begun.elapsed());
                    return;
                }
                (None, Some(_)) => {}
                (Some(lack), Some(_)) => {
                    let what = format!("everything had settled, and then {lack}");
                    self.outside.violations.note(what);
                }
                (Some(_), None) => {}
            }
            let now = (seen.count, lack);
            if now != last {
                (moved, last) = (Instant::now(), now);
            } else if moved.elapsed() > STILL_MAX
                && let Some(lack) = &last.1
            {
                let what = format!("nothing has happened for {STILL_MAX:?}, and {lack}");
                self.outside.violations.note(what);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn is_bad(&self, bad: bool) {
        if let Some(weather) = &self.weather {
            weather.is_bad(bad);
        }
    }

    fn tell(&self, plan: &Plan, time: Duration, seen: &SeenToLeave) {
        let tally = &self.outside.tally;
        let operations: u64 = tally
            .counts()
            .iter()
            .filter(|(name, _)| name.starts_with("operations"))
            .map(|(_, count)| count)
            .sum();
        println!(
            "soak: {}: {} of {} s, {operations} operations, {} records left, {} kills, {} pauses, {} stops, {} full disks, {} takeovers; {}",
            plan.arena,
            time.as_secs(),
            plan.time.as_secs(),
            seen.count,
            tally.counted("kills"),
            tally.counted("pauses"),
            tally.counted("orderly stops"),
            tally.counted("disks filled"),
            tally.counted("takeovers"),
            match self.outside.violations.any() {
                true => "VIOLATED",
                false => "everything is as it must be",
            }
        );
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.time.as_secs_f64() / 60.0;
        writeln!(
            f,
            "{}: {minutes:.1} minutes of trouble, checked {} times, {} violations",
            self.arena,
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
            "  {operations} operations, {:.0} a second",
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
            writeln!(f, "  faults of connections: {faults}, {:?}", self.faults)?;
        }
        for violation in &self.violations {
            writeln!(f, "  VIOLATION: {violation}")?;
        }
        Ok(())
    }
}
