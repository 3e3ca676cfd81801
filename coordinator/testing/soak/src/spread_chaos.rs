//! Chaos driver of processes that share the partitions of an application: kills, pauses, joins,
//! leaves and cut links. It also counts the moves of partitions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use satchel_testkit::LONG;
use serde_json::Value;

use crate::clients::Clients;
use crate::peer_links::{Condition, PeerLinks};
use crate::random::Random;
use crate::supervisor::{End, Supervisor};

/// Interval between two polls of the processes.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Interval between two looks at the owners of the partitions, and the timeout of one.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
const LOOK_MAX: Duration = Duration::from_millis(300);

/// Pause of a process: minimum and additional random time. Longer than the lease time of 2 s.
const PAUSE: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(4));

/// Time for which a link is cut or stalled: minimum and additional random time.
const CUT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(6));

/// Probability, in percent, that all links of one process are struck instead of one link.
const ISOLATED_PERCENT: u64 = 25;

/// Intervals between two disruptions of a kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Intervals {
    /// One process is killed.
    pub(crate) kill: Duration,
    /// One process joins or leaves, in turn.
    pub(crate) change: Duration,
}

impl Intervals {
    fn of(&self, disruption: Disruption) -> Duration {
        match disruption {
            Disruption::Kill => self.kill,
            Disruption::Change => self.change,
            Disruption::Pause => self.kill * 2,
            Disruption::Cut => self.kill,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Disruption {
    Kill,
    Change,
    Pause,
    Cut,
}

const ALL: [Disruption; 4] = [
    Disruption::Kill,
    Disruption::Change,
    Disruption::Pause,
    Disruption::Cut,
];

/// The processes of an application, and the faults injected into them.
pub(crate) struct SpreadChaos {
    clients: Arc<Clients>,
    supervisors: Vec<Supervisor>,
    links: PeerLinks,
    token: String,
    random: Random,
    intervals: Intervals,
    /// Time with disruptions before the present round.
    before: Duration,
    /// Time with disruptions at which each is due next.
    due: BTreeMap<Disruption, Duration>,
    /// Struck links, and when they are whole again.
    struck: BTreeMap<(usize, usize), Instant>,
    /// Last known owner of each partition, and number of all claims.
    owners: BTreeMap<u64, String>,
    claims: u64,
    looked: Instant,
}

impl SpreadChaos {
    /// Creates a driver for these processes and the links between them. `token` is that of the
    /// administration ports.
    pub(crate) fn of(
        clients: Arc<Clients>,
        supervisors: Vec<Supervisor>,
        (links, token): (PeerLinks, &str),
        intervals: Intervals,
    ) -> Self {
        let due = ALL.map(|disruption| (disruption, intervals.of(disruption)));
        // Not at the same times as kills.
        let mut due = BTreeMap::from(due);
        due.insert(Disruption::Pause, intervals.kill / 2);
        due.insert(Disruption::Cut, intervals.kill * 3 / 4);
        let change = intervals.change.saturating_sub(intervals.kill / 4);
        due.insert(Disruption::Change, change);
        Self {
            random: Random::of(clients.seed, u64::MAX),
            clients,
            supervisors,
            links,
            token: token.to_owned(),
            intervals,
            before: Duration::ZERO,
            due,
            struck: BTreeMap::new(),
            owners: BTreeMap::new(),
            claims: 0,
            looked: Instant::now(),
        }
    }

    /// Injects faults for `time` or until a violation.
    pub(crate) async fn disrupt(&mut self, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time && !self.clients.violations.any() {
            self.poll().await;
            let now = self.before + begun.elapsed();
            for disruption in ALL {
                let interval = self.intervals.of(disruption);
                let due = self.due.entry(disruption).or_default();
                if *due <= now {
                    *due += interval;
                    self.apply(disruption);
                }
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        self.before += time;
    }

    /// Ends all disruptions, and waits until all processes that are to run do.
    pub(crate) async fn calm(&mut self) {
        for supervisor in &mut self.supervisors {
            supervisor.resume();
        }
        self.struck.clear();
        self.links.heal();
        let begun = Instant::now();
        loop {
            self.poll().await;
            let mut all_ready = true;
            for supervisor in &mut self.supervisors {
                all_ready &= supervisor.is_absent() || supervisor.is_ready().await;
            }
            if all_ready {
                return self.clients.metrics.observe("calming", begun.elapsed());
            }
            if begun.elapsed() > LONG {
                let what = format!("not all processes run {LONG:?} after the last disruption");
                return self.clients.violations.record(what);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Polls all processes, and heals the links that are due.
    pub(crate) async fn poll(&mut self) {
        self.clients.violations.collect();
        let now = Instant::now();
        for ((from, to), _) in self.struck.extract_if(.., |_, until| *until <= now) {
            self.links.set(from, to, None);
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
        let pids = self.supervisors.iter().map(Supervisor::pid);
        self.links.follow(pids.collect());
        if self.looked.elapsed() >= LOOK_INTERVAL {
            self.looked = Instant::now();
            self.look().await;
        }
    }

    /// Stops all processes gracefully.
    pub(crate) async fn end(&mut self) {
        self.links.heal();
        for supervisor in &mut self.supervisors {
            supervisor.resume();
            supervisor.leave();
        }
        let begun = Instant::now();
        while !self.supervisors.iter().all(Supervisor::is_absent) {
            self.poll().await;
            if begun.elapsed() > LONG {
                let what = "not all processes stop at the end";
                return self.clients.violations.record(what);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    fn apply(&mut self, disruption: Disruption) {
        match disruption {
            Disruption::Kill => self.kill(),
            Disruption::Change => self.change(),
            Disruption::Pause => self.pause(),
            Disruption::Cut => self.strike(),
        }
    }

    /// Kills a process, which is restarted at once. One that leaves is spared: its exit code
    /// counts.
    fn kill(&mut self) {
        let may = |supervisor: &Supervisor| !supervisor.has_ended() && !supervisor.is_leaving();
        if let Some(at) = self.victim(may) {
            self.clients.metrics.count("kills");
            self.supervisors[at].kill();
        }
    }

    /// Starts the absent process, or lets one leave if none is absent.
    fn change(&mut self) {
        if let Some(at) = self.victim(Supervisor::is_absent) {
            self.clients.metrics.count("joins");
            return self.supervisors[at].join();
        }
        // Each change is one: a process that is still leaving joins next time.
        let is_leaving = self.supervisors.iter().any(Supervisor::is_leaving);
        let victim = self.victim(Supervisor::is_up).filter(|_| !is_leaving);
        if let Some(at) = victim {
            self.clients.metrics.count("leaves begun");
            self.supervisors[at].leave();
        }
    }

    fn pause(&mut self) {
        let time = self.between(PAUSE);
        if let Some(at) = self.victim(Supervisor::is_up) {
            self.clients.metrics.count("pauses");
            self.supervisors[at].pause(time);
        }
    }

    /// Cuts or stalls one link, or all links of one process.
    fn strike(&mut self) {
        let count = self.supervisors.len();
        let (one, step) = (self.below(count), 1 + self.below(count - 1));
        let other = (one + step) % count;
        let (condition, name) = match self.random.percent(50) {
            true => (Condition::Cut, "cut"),
            false => (Condition::Stalled, "stalled"),
        };
        let struck: Vec<(usize, usize)> = if self.random.percent(ISOLATED_PERCENT) {
            self.clients.metrics.count(format!("processes {name} off"));
            let others = (0..count).filter(|at| *at != one);
            others.flat_map(|at| [(one, at), (at, one)]).collect()
        } else {
            self.clients.metrics.count(format!("links {name}"));
            vec![(one, other)]
        };
        let until = Instant::now() + self.between(CUT);
        for (from, to) in struck {
            self.links.set(from, to, Some(condition));
            self.struck.insert((from, to), until);
        }
    }

    fn victim(&mut self, may: impl Fn(&Supervisor) -> bool) -> Option<usize> {
        let all = self.supervisors.iter().enumerate();
        let may = all.filter(|(_, supervisor)| may(supervisor));
        let may: Vec<usize> = may.map(|(at, _)| at).collect();
        (!may.is_empty()).then(|| may[self.below(may.len())])
    }

    fn below(&mut self, end: usize) -> usize {
        self.random.below(end.max(1) as u64) as usize
    }

    /// Random time from `least` to `least + more`.
    fn between(&mut self, (least, more): (Duration, Duration)) -> Duration {
        let more = u64::try_from(more.as_millis()).unwrap_or(u64::MAX).max(1);
        least + Duration::from_millis(self.random.below(more))
    }

    /// Counts the partitions that have another owner than before.
    async fn look(&mut self) {
        let up = self.supervisors.iter().filter(|it| it.is_up());
        let clients: Vec<_> = up.map(Supervisor::client).collect();
        for client in clients {
            let asked = client.try_admin(Method::GET, "/api/members", Some(&self.token));
            let answered = tokio::time::timeout(LOOK_MAX, asked).await;
            let Ok(Ok(reply)) = answered else {
                continue;
            };
            let body = serde_json::from_slice::<Value>(&reply.body).unwrap_or_default();
            if let Some(partitions) = body["partitions"].as_array() {
                return self.compare(partitions);
            }
        }
    }

    fn compare(&mut self, partitions: &[Value]) {
        let claims = partitions.iter().filter_map(|it| it["claims"].as_u64());
        let claims: u64 = claims.sum();
        if claims <= self.claims {
            // The view of a process that has not looked since.
            return;
        }
        let metrics = &self.clients.metrics;
        metrics.add("claims of partitions", claims - self.claims);
        self.claims = claims;
        for partition in partitions {
            let number = partition["partition"].as_u64();
            let (Some(number), Some(owner)) = (number, partition["owner"].as_str()) else {
                continue;
            };
            let before = self.owners.insert(number, owner.to_owned());
            if before.is_some_and(|before| before != owner) {
                metrics.count("moves of partitions");
            }
        }
    }

    /// Checks whether a process may end this way: by a kill, or with exit code 0 when it leaves,
    /// unless its time ran out.
    fn judge(&self, at: usize, end: &End) {
        let End {
            ended,
            history,
            log,
        } = end;
        let (metrics, name) = (&self.clients.metrics, &self.supervisors[at].name);
        for message in errors(&ended.printed) {
            metrics.count(format!("logged errors: {message}"));
        }
        let wrong = match ended.code {
            _ if ended.printed.contains("panicked at") => "panicked",
            _ if claims_while_it_leaves(&ended.printed) => "took a partition over as it left",
            None if history.killed => return,
            // Before it has started, the process has no handler for SIGTERM.
            None if history.stop_requested.is_some() && ended.printed.trim().is_empty() => {
                return metrics.count("ended: stopped before it had started");
            }
            Some(0) if history.stop_requested.is_some() => {
                let took = history.stop_requested.map(|at| at.elapsed());
                metrics.observe("leave", took.unwrap_or_default());
                return metrics.count("leaves with exit code 0");
            }
            // The stop time ran out, which faults of the services can cause.
            Some(5) if history.stop_requested.is_some() && out_of_time(&ended.printed) => {
                return metrics.count("leaves that ran out of time (exit code 5)");
            }
            Some(_) if history.stop_requested.is_some() => "did not leave with exit code 0",
            Some(_) => "ended by itself",
            None => "ended by an unknown signal",
        };
        let lines: Vec<&str> = ended.printed.lines().rev().take(5).collect();
        let lines = lines.into_iter().rev().collect::<Vec<_>>().join("\n    ");
        self.clients.violations.record(format!(
            "{name} {wrong}: exit code {:?}, {history:?}; {} ends with\n    {lines}",
            ended.code,
            log.display()
        ));
    }
}

/// True if the process ended because a partition did not stop in time.
fn out_of_time(printed: &str) -> bool {
    let last = printed.lines().last().unwrap_or_default();
    last.contains("did not become durable within") || last.contains("did not stop within")
}

/// True if the process took a partition over after it had begun to give its partitions away.
fn claims_while_it_leaves(printed: &str) -> bool {
    let leaving = printed.split_once("partitions are given to other processes");
    leaving.is_some_and(|(_, after)| after.contains("claimed; taking over"))
}

/// Messages of the log lines that are errors.
fn errors(printed: &str) -> impl Iterator<Item = String> {
    let lines = printed.lines();
    let errors = lines.filter(|line| line.contains(r#""level":"ERROR""#));
    errors.filter_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        line["fields"]["message"].as_str().map(str::to_owned)
    })
}
