//! Chaos driver: injects faults into processes, restarts those that ended, and judges how they
//! ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use satchel_testkit::LONG;

use crate::clients::Clients;
use crate::disk::Disk;
use crate::random::Random;
use crate::supervisor::{End, Supervisor};

/// Interval between two polls of the processes.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Probability, in percent, that a paused process is spared, so that it resumes and finds that it
/// lost ownership.
const SPARED_PERCENT: u64 = 80;

/// Probability, in percent, that the owner is the victim when there are other processes.
const OWNER_PERCENT: u64 = 50;

/// Probabilities, in percent, of further disruptions per interval besides the kill: the owner is
/// paused, a process is stopped, the disk is filled.
const PAUSE_PERCENT: u64 = 35;
const STOP_PERCENT: u64 = 20;
const FULL_PERCENT: u64 = 25;

/// Time that a disk stays full: minimum and additional random time.
const FULL: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(6));

/// Time after freeing the disk during which a process may still end because it was full.
const FULL_ECHO: Duration = Duration::from_secs(10);

/// The processes of an application, and the faults injected into them.
pub(crate) struct ChaosDriver {
    pub(crate) clients: Arc<Clients>,
    supervisors: Vec<Supervisor>,
    disk: Option<DiskInUse>,
    random: Random,
    /// Pause of a process: minimum and additional random time.
    pause: (Duration, Duration),
    /// Index of the process that served last.
    owner: Option<usize>,
    /// Time of the disruption of the owner, until a process serves again.
    ownerless_since: Option<Instant>,
}

/// A disruption of an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disruption {
    Kill,
    Pause,
    Stop,
    FillDisk,
}

struct DiskInUse {
    disk: Disk,
    full_until: Option<Instant>,
    /// Last time at which it was full.
    full_at: Option<Instant>,
}

impl ChaosDriver {
    /// Creates a driver for these processes, and for this disk if it can be filled.
    pub(crate) fn of(
        clients: Arc<Clients>,
        supervisors: Vec<Supervisor>,
        disk: Option<Disk>,
        pause: (Duration, Duration),
    ) -> Self {
        let random = Random::of(clients.seed, u64::MAX);
        Self {
            clients,
            supervisors,
            disk: disk.map(|disk| DiskInUse {
                disk,
                full_until: None,
                full_at: None,
            }),
            random,
            pause,
            owner: None,
            ownerless_since: None,
        }
    }

    /// Kills one process per interval `every` and injects further disruptions, for `time` or until
    /// a violation.
    pub(crate) async fn disrupt(&mut self, time: Duration, every: Duration) {
        let begun = Instant::now();
        let mut next = begun;
        let mut schedule: Vec<(Instant, Disruption)> = Vec::new();
        while begun.elapsed() < time && !self.clients.violations.any() {
            self.poll().await;
            let now = Instant::now();
            if next <= now {
                schedule.extend(self.plan(next, every));
                next += every;
            }
            for (_, disruption) in schedule.extract_if(.., |(due, _)| *due <= now) {
                self.apply(disruption);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Disruptions of one interval: a kill at its end, and possibly others before.
    fn plan(&mut self, begin: Instant, length: Duration) -> Vec<(Instant, Disruption)> {
        let mut disruptions = vec![(begin + length, Disruption::Kill)];
        for (disruption, percent) in [
            (Disruption::Pause, PAUSE_PERCENT),
            (Disruption::Stop, STOP_PERCENT),
            (Disruption::FillDisk, FULL_PERCENT),
        ] {
            if self.random.percent(percent) {
                let at = begin + self.between((Duration::ZERO, length));
                disruptions.push((at, disruption));
            }
        }
        disruptions
    }

    /// Ends all disruptions, and waits until all processes run.
    pub(crate) async fn calm(&mut self) {
        for supervisor in &mut self.supervisors {
            supervisor.resume();
        }
        self.free_disk();
        let begun = Instant::now();
        loop {
            self.poll().await;
            let all_up = self.supervisors.iter().all(Supervisor::is_up);
            if all_up && self.serving().await.is_some() {
                return;
            }
            if begun.elapsed() > LONG {
                let what = format!("not all processes run {LONG:?} after the last disruption");
                return self.clients.violations.record(what);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Polls all processes and the disk.
    pub(crate) async fn poll(&mut self) {
        self.clients.violations.collect();
        let freed = self.disk.as_ref().and_then(|disk| disk.full_until);
        if freed.is_some_and(|until| until <= Instant::now()) {
            self.free_disk();
        }
        for at in 0..self.supervisors.len() {
            if let Some(end) = self.supervisors[at].poll().await {
                self.judge(at, &end);
            }
            if self.supervisors[at].hangs() {
                let what = format!("{} does not stop after SIGTERM", self.supervisors[at].name);
                self.clients.violations.record(what);
                self.supervisors[at].kill();
            }
        }
        if let Some(serving) = self.serving().await {
            if self.owner != Some(serving) || self.ownerless_since.is_some() {
                self.clients.metrics.count("takeovers");
            }
            if let Some(since) = self.ownerless_since.take() {
                self.clients.metrics.observe("takeover", since.elapsed());
            }
            self.owner = Some(serving);
        }
    }

    /// Stops all processes gracefully.
    pub(crate) async fn end(&mut self) {
        self.free_disk();
        for supervisor in &mut self.supervisors {
            supervisor.resume();
            supervisor.stop();
        }
        let begun = Instant::now();
        for at in 0..self.supervisors.len() {
            if self.supervisors[at].has_ended() {
                continue;
            }
            let end = loop {
                if let Some(end) = self.supervisors[at].poll().await {
                    break end;
                }
                if begun.elapsed() > LONG {
                    let what = format!("{} does not stop", self.supervisors[at].name);
                    return self.clients.violations.record(what);
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            };
            self.judge(at, &end);
        }
    }

    /// Index of the process that serves now. The last owner is asked first.
    async fn serving(&mut self) -> Option<usize> {
        let last = self.owner.unwrap_or(0);
        for step in 0..self.supervisors.len() {
            let at = (last + step) % self.supervisors.len();
            if self.supervisors[at].is_ready().await {
                return Some(at);
            }
        }
        None
    }

    fn apply(&mut self, disruption: Disruption) {
        if disruption == Disruption::FillDisk {
            return self.fill_disk();
        }
        let Some(at) = self.victim(disruption) else {
            return;
        };
        if Some(at) == self.owner {
            self.ownerless_since.get_or_insert_with(Instant::now);
        }
        let time = self.between(self.pause);
        let supervisor = &mut self.supervisors[at];
        let metrics = &self.clients.metrics;
        match disruption {
            Disruption::Kill => {
                metrics.count("kills");
                supervisor.kill();
            }
            Disruption::Pause => {
                metrics.count("pauses");
                supervisor.pause(time);
            }
            Disruption::Stop => {
                metrics.count("orderly stops");
                supervisor.stop();
            }
            Disruption::FillDisk => {}
        }
    }

    /// Victim of a disruption: the owner for a pause; otherwise any process, rarely a paused one.
    fn victim(&mut self, disruption: Disruption) -> Option<usize> {
        let owner = self.owner.unwrap_or(0);
        let others = (0..self.supervisors.len()).filter(|at| *at != owner);
        let mut order: Vec<usize> = others.collect();
        let first = disruption == Disruption::Pause || self.random.percent(OWNER_PERCENT);
        order.insert(if first { 0 } else { order.len() }, owner);
        let spared = self.random.percent(SPARED_PERCENT) || disruption == Disruption::Pause;
        order.into_iter().find(|at| {
            let supervisor = &self.supervisors[*at];
            let is_spared = spared && supervisor.is_paused();
            !supervisor.has_ended() && !is_spared
        })
    }

    fn fill_disk(&mut self) {
        let time = self.between(FULL);
        let Some(disk) = &mut self.disk else {
            return;
        };
        if disk.full_until.is_some() {
            return;
        }
        match disk.disk.fill() {
            Ok(()) => self.clients.metrics.count("disks filled"),
            Err(error) => panic!("the disk cannot be filled: {error}"),
        }
        disk.full_until = Some(Instant::now() + time);
    }

    /// Random time from `least` to `least + more`.
    fn between(&mut self, (least, more): (Duration, Duration)) -> Duration {
        let more = u64::try_from(more.as_millis()).unwrap_or(u64::MAX).max(1);
        least + Duration::from_millis(self.random.below(more))
    }

    fn free_disk(&mut self) {
        if let Some(disk) = &mut self.disk
            && disk.full_until.take().is_some()
        {
            disk.full_at = Some(Instant::now());
            if let Err(error) = disk.disk.free() {
                panic!("the disk cannot be freed: {error}");
            }
        }
    }

    /// Checks whether a process may end this way.
    fn judge(&self, at: usize, end: &End) {
        let End {
            ended,
            history,
            log,
        } = end;
        let metrics = &self.clients.metrics;
        let printed = &ended.printed;
        let no_space = printed.contains("no space left") || printed.contains("No space left");
        let name = &self.supervisors[at].name;
        let wrong = match ended.code {
            _ if printed.contains("panicked at") => "panicked",
            None if history.killed => return,
            // Before it has started, the process has no handler for SIGTERM.
            None if history.stop_requested.is_some() && printed.trim().is_empty() => {
                return metrics.count("ended: stopped before it had started");
            }
            Some(0) if history.stop_requested.is_some() => {
                return metrics.count(match history.was_ready {
                    true => "ended: stopped as the owner",
                    false => "ended: stopped",
                });
            }
            Some(3) => return metrics.count("ended: fenced"),
            Some(5) if no_space && self.was_full() => {
                return metrics.count("ended: no space left");
            }
            Some(5) if history.stop_requested.is_some() => {
                return metrics.count("ended: stopped, not everything durable");
            }
            Some(_) => "ended by itself",
            None => "ended by an unknown signal",
        };
        let code = ended.code;
        let lines: Vec<&str> = printed.lines().rev().take(5).collect();
        let lines = lines.into_iter().rev().collect::<Vec<_>>().join("\n    ");
        self.clients.violations.record(format!(
            "{name} {wrong}: exit code {code:?}, {history:?}; {} ends with\n    {lines}",
            log.display()
        ));
    }

    fn was_full(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| {
            let lately = |at: Instant| at.elapsed() < FULL_ECHO;
            disk.full_until.is_some() || disk.full_at.is_some_and(lately)
        })
    }
}
