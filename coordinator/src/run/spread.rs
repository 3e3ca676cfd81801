//! The partitions of an application, spread over its processes.
//!
//! ```text
//!            ┌──────────── roster, counters ◄── lease table ◄── changes ◄─────────┐
//!            ▼                                                                    │
//!  look ─► Spread ─decisions─► Claim ─► Life: takeover ─► serves ─► gate, streams │
//!   ▲                          HandOver ─► Life: stop ─► released ────────────────┤
//!   │                          Offer, Withdraw, Decline ──────────────────────────┤
//!   └── once a second,         Prepare ─► root read ─► ready ─────────────────────┘
//!       and on news
//! ```
//!
//! Every process with a peer port is a *member*: it renews its item of the lease table, looks at
//! the roster and at the counters of the others, and does what [`Spread`] decides. A change of the
//! roster is one conditional write, after which the process tells the others to look. The roster
//! provides liveness and routing. Safety comes from the log of each partition, as ever: a process
//! that was silent, and whose partitions were claimed, is fenced there.
//!
//! A partition that fails does not end the process. It is released, and this process does not claim
//! it again for a while.

mod change;
mod leave;
mod life;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use satchel_aws::lease::{Roster, RosterMember};
use satchel_engine::forwarding::Owner;
use satchel_engine::spread::{Decision, Spread, Timing};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::lease::LeaseItems;
use super::peers::{Peers, know};
use super::{DRAIN_BEYOND, Stopping};
use crate::assemble::Process;
use crate::clock::boot_ms;
use crate::config::RunConfig;
use crate::error::{Exit, Failure};
use crate::http::{AskedWish, MembersBody};
use crate::peer::{PartitionPort, Routes, Streams, remote};
use crate::readiness::Readiness;
use crate::runtime::node::ReadAhead;
use crate::runtime::partitions::Host;

use life::{Life, NumberedReport, Report, Reports, Stage, Stop, Surroundings};

/// Time for which a partition that failed in this process is not claimed by it again.
const REFUSED: Duration = Duration::from_secs(30);

/// Pause before a partition that could not be read ahead is read again, while it is offered.
const PREPARES_AGAIN: Duration = Duration::from_secs(1);

/// Lease times after which the entry of a silent process is removed, and the minimum of that time.
const FORGOTTEN: (u32, Duration) = (10, Duration::from_secs(60));

/// Membership of this process in its application.
pub(super) struct Membership<'a> {
    config: &'a RunConfig,
    process: &'a Process,
    peers: &'a Peers,
    items: &'a LeaseItems,
    host: Host,
    me: RosterMember,
    spread: Spread,
    /// Last known roster and its version.
    roster: Option<(Roster, u64)>,
    /// Observations of each process.
    counters: BTreeMap<Arc<str>, Seen>,
    /// Boot time of the last read.
    read_ms: Option<u64>,
    lives: BTreeMap<u32, Life>,
    next_life: u64,
    /// Partitions whose offer this process is getting ready for.
    preparing: BTreeSet<u32>,
    /// Content of partitions that are offered to this process, read while they are served.
    ahead: BTreeMap<u32, Box<ReadAhead>>,
    /// Partitions that this process is ready for, until the roster says so.
    ready: BTreeSet<u32>,
    /// Partitions that ended here, until the roster says that they are released.
    released: BTreeSet<u32>,
    /// Partitions that failed here, and the boot time until which they are not claimed.
    refused: BTreeMap<u32, u64>,
    reports: (Reports, mpsc::UnboundedReceiver<NumberedReport>),
    news: Arc<Notify>,
    streams: Streams,
    routes: watch::Sender<Routes>,
    view: watch::Sender<Option<Arc<MembersBody>>>,
    wishes: mpsc::Receiver<AskedWish>,
    /// True once this process gives its partitions away to end.
    is_leaving: bool,
    /// True while the table does not answer.
    is_table_silent: bool,
    /// True once every partition had an owner.
    was_complete: bool,
    /// True once a partition was served here.
    has_served: bool,
}

/// Observation of a process.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Its last counter.
    counter: u64,
    /// Boot time at which the counter was seen first.
    since_ms: u64,
    /// True if it is another process that said that it is congested.
    congested: bool,
}

/// Prepares the partitions of this process and what other processes ask about them. Nothing is
/// claimed yet.
pub(super) fn open<'a>(
    (config, process): (&'a RunConfig, &'a Process),
    (peers, items): (&'a Peers, &'a LeaseItems),
    (host, port): (Host, &PartitionPort),
    (view, wishes): (
        watch::Sender<Option<Arc<MembersBody>>>,
        mpsc::Receiver<AskedWish>,
    ),
) -> Membership<'a> {
    let me: Arc<str> = items.id.as_str().into();
    let member = RosterMember {
        id: Arc::clone(&me),
        peer: peers.port(),
        software: software(),
        weight: cpus(),
        draining: false,
    };
    let lease_ms = u64::try_from(config.lease_time.as_millis()).unwrap_or(u64::MAX);
    let nowhere: Routes = vec![None; host.partitions() as usize].into();
    let (routes, followed) = watch::channel(nowhere);
    // On connections of their own, so that requests never wait for streams.
    let links = peers.links().separate();
    let streams = Streams::new(port.switch.clone(), links, followed);
    let asking = remote(
        peers.gate().clone(),
        peers.links().clone(),
        process.requests.clone(),
        config.lease_time + super::PATIENCE_BEYOND,
    );
    process.requests.ask_elsewhere(Box::new(asking));
    Membership {
        config,
        process,
        peers,
        items,
        host,
        me: member,
        spread: Spread::new(me, Timing::of(lease_ms)),
        roster: None,
        counters: BTreeMap::new(),
        read_ms: None,
        lives: BTreeMap::new(),
        next_life: 1,
        preparing: BTreeSet::new(),
        ahead: BTreeMap::new(),
        ready: BTreeSet::new(),
        released: BTreeSet::new(),
        refused: BTreeMap::new(),
        reports: mpsc::unbounded_channel(),
        news: Arc::clone(&port.news),
        streams,
        routes,
        view,
        wishes,
        is_leaving: false,
        is_table_silent: false,
        was_complete: false,
        has_served: false,
    }
}

/// Order of this software: the version, then the start of the process. A rolling update thus moves
/// partitions to processes that were started later.
fn software() -> u64 {
    let numbers = env!("CARGO_PKG_VERSION").split('.');
    let version = numbers.fold(0, |version: u64, number| {
        version << 8 | number.parse::<u8>().map_or(0, u64::from)
    });
    let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let started = started.map_or(0, |since| since.as_secs());
    version << 40 | started & ((1 << 40) - 1)
}

fn cpus() -> u32 {
    let cpus = std::thread::available_parallelism();
    cpus.map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(1))
}

impl Membership<'_> {
    /// Runs the partitions that this process should have until `shutdown`, then gives them away.
    ///
    /// # Errors
    ///
    /// The table refuses, the roster is of another application, or no partition can be run here.
    pub(super) async fn run(
        mut self,
        stopping: &Stopping,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), Failure> {
        let starting = Readiness::Starting { recovered: 0.0 };
        self.process.readiness.send_replace(starting);
        tracing::info!(
            process = &*self.me.id,
            partitions = self.host.partitions(),
            "member of the application; partitions are spread over its processes"
        );
        if !self.is_sole_owner_gone(shutdown.as_mut()).await? {
            return Ok(());
        }
        let _beating = self.beat();
        loop {
            self.look().await?;
            let event = tokio::select! {
                () = &mut shutdown => break,
                event = self.next_event() => event,
            };
            self.handle(event).await?;
        }
        stopping.begin(Some(self.peers));
        self.give_away(stopping).await
    }

    /// Notes all the time that this process is awake, until the result is dropped.
    fn beat(&self) -> JoinSet<()> {
        const EVERY: Duration = Duration::from_millis(100);
        let mut beating = JoinSet::new();
        let patience = self.config.lease_time / 2;
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        if let Some(switch) = self.host.switch().cloned() {
            beating.spawn(async move {
                loop {
                    switch.beat(patience_ms);
                    tokio::time::sleep(EVERY).await;
                }
            });
        }
        beating
    }

    /// Interval of looks: a second, or less for a short lease.
    fn interval(&self) -> Duration {
        (self.config.lease_time / 4).min(Duration::from_secs(1))
    }

    /// Waits for something to look at. Nothing is lost if it is dropped.
    async fn next_event(&mut self) -> Event {
        let due = Instant::now() + self.interval();
        let news = Arc::clone(&self.news);
        tokio::select! {
            Some(report) = self.reports.1.recv() => Event::Reported(report),
            failure = self.host.failed() => Event::Failed(failure),
            Some(asked) = self.wishes.recv() => Event::Asked(asked),
            () = news.notified() => Event::Due,
            () = sleep_until(due) => Event::Due,
        }
    }

    async fn handle(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Reported((partition, life, report)) => {
                self.reported(partition, life, report)?;
                self.note().await;
                Ok(())
            }
            Event::Failed(failure) => Err(failure),
            Event::Asked(asked) => {
                self.asked(asked).await;
                Ok(())
            }
            Event::Due => Ok(()),
        }
    }

    /// Looks at the table, and does what follows from it.
    async fn look(&mut self) -> Result<(), Failure> {
        // A refused change means that another process was faster.
        const ATTEMPTS: usize = 3;
        for _ in 0..ATTEMPTS {
            let begun_ms = boot_ms();
            if !self.read().await? {
                return Ok(());
            }
            self.follow();
            if let Some(switch) = self.host.switch() {
                switch.confirm(begun_ms);
            }
            if self.decide(begun_ms).await {
                self.follow();
                return Ok(());
            }
        }
        Ok(())
    }

    /// Decides on the roster whose reads began at `now_ms`, and writes the changes. Returns false
    /// if they were refused.
    async fn decide(&mut self, now_ms: u64) -> bool {
        let Some((roster, version)) = self.roster.clone() else {
            return true;
        };
        if let Some(listed) = roster.member(&self.me.id) {
            // A person may let it drain, and take that back.
            self.me.draining = listed.draining || self.is_leaving;
        }
        let counters = self.counters.iter();
        let counters = counters.map(|(id, seen)| (Arc::clone(id), seen.counter));
        let view = roster.view(&counters.collect());
        let is_serving = |life: &&Life| life.stage == Stage::Serving;
        let numbers = |wanted: bool| {
            let lives = self.lives.iter();
            let lives = lives.filter(move |(_, life)| is_serving(life) == wanted);
            lives.map(|(number, _)| *number)
        };
        let serving: BTreeSet<u32> = numbers(true).collect();
        let busy: BTreeSet<u32> = numbers(false)
            .chain(self.preparing.iter().copied())
            .collect();
        let mut decisions = self.spread.look(now_ms, &view, &serving, &busy);
        self.refused.retain(|_, until_ms| *until_ms > now_ms);
        // A partition may already run here, after a claim whose answer was lost.
        decisions.retain(|decision| match decision {
            Decision::Claim(number) => {
                !self.refused.contains_key(number) && !self.lives.contains_key(number)
            }
            _ => true,
        });
        let mut next = roster.clone();
        let mut changed = next.join(&self.me);
        changed |= self.note_in(&mut next);
        let kept: Vec<Decision> = self.unlisted(&roster).map(Decision::Claim).collect();
        changed |= next.apply(&self.me.id, &kept, calendar_ms());
        for silent in self.silent(now_ms, &roster) {
            tracing::info!(
                process = &*silent,
                "process removed; it was silent for long"
            );
            changed |= next.remove(&silent);
        }
        changed |= next.apply(&self.me.id, &decisions, calendar_ms());
        if changed && !self.write(next, version + 1).await {
            return false;
        }
        self.ready.clear();
        self.released.clear();
        for decision in decisions {
            self.carry_out(decision);
        }
        true
    }

    /// Carries out a decision whose change of the roster is written.
    fn carry_out(&mut self, decision: Decision) {
        match decision {
            Decision::Claim(partition) => self.start(partition),
            Decision::Prepare(partition) => self.prepare(partition),
            Decision::HandOver(partition) => {
                let drain = self.config.lease_time + DRAIN_BEYOND;
                let stop = Stop {
                    // The other process has read the partition. A snapshot that takes effect now
                    // would make it read everything anew.
                    shorten: None,
                    drain,
                    until: Instant::now() + drain,
                };
                if let Some(life) = self.lives.get_mut(&partition) {
                    tracing::info!(partition, "handing over to another process");
                    life.stop(stop);
                }
            }
            Decision::Offer(partition, to) => {
                tracing::info!(partition, to = &*to, "offered to another process");
            }
            Decision::Withdraw(partition) => {
                tracing::warn!(
                    partition,
                    "offer withdrawn; the other process was not ready"
                );
            }
            Decision::Decline(partition) => tracing::info!(partition, "offer declined"),
        }
    }

    /// Begins to take a partition over, which this process owns by the roster.
    fn start(&mut self, partition: u32) {
        let ahead = self.ahead.remove(&partition);
        let is_read = ahead.is_some();
        tracing::info!(partition, is_read, "claimed; taking over");
        let parts = self.host.prepare(partition, ahead);
        self.peers.gate().set(partition, Owner::Arriving);
        let number = self.next_life;
        self.next_life += 1;
        let surroundings = Surroundings {
            gate: self.peers.gate().clone(),
            metrics: self.process.metrics.clone(),
            patience: self.config.lease_time,
            reports: self.reports.0.clone(),
        };
        let life = Life::begin(number, parts, surroundings);
        self.lives.insert(partition, life);
        self.show_role();
    }

    /// Reads a partition that another process owns, before this process says that it is ready.
    fn prepare(&mut self, partition: u32) {
        self.preparing.insert(partition);
        let reports = self.reports.0.clone();
        let reading = self.host.read_ahead(partition);
        tokio::spawn(async move {
            let report = match reading.await {
                Ok(ahead) => Report::Ready(Box::new(ahead)),
                Err(failure) => {
                    // The next attempt follows the report at once.
                    tokio::time::sleep(PREPARES_AGAIN).await;
                    Report::Unready(failure.to_string())
                }
            };
            let _ = reports.send((partition, 0, report));
        });
    }

    /// Handles the report of a task.
    fn reported(&mut self, partition: u32, number: u64, report: Report) -> Result<(), Failure> {
        match report {
            Report::Ready(ahead) => {
                self.preparing.remove(&partition);
                tracing::info!(
                    partition,
                    records = ahead.replayed(),
                    "read ahead of a takeover"
                );
                self.ahead.insert(partition, ahead);
                self.ready.insert(partition);
            }
            Report::Unready(reason) => {
                self.preparing.remove(&partition);
                tracing::warn!(partition, reason, "not ready for an offered partition");
            }
            Report::Serves { recovered, held } => {
                let Some(life) = self.lives.get_mut(&partition) else {
                    return Ok(());
                };
                if life.number != number || life.stage != Stage::Arriving {
                    return Ok(());
                }
                life.stage = Stage::Serving;
                self.has_served = true;
                life.streams = Some(self.streams.begin(partition));
                self.host.arrive(partition);
                self.peers.gate().set(partition, Owner::Here);
                tracing::info!(
                    partition,
                    epoch = recovered.epoch,
                    bytes = recovered.bytes,
                    replayed = recovered.replayed,
                    held,
                    "serving"
                );
                self.tell_others();
            }
            Report::Ended(ended) => {
                let is_present = self.lives.get(&partition).map(|life| life.number);
                if is_present == Some(number) {
                    return self.ended(partition, ended);
                }
            }
        }
        Ok(())
    }

    /// Handles the end of a partition in this process.
    fn ended(&mut self, partition: u32, ended: Result<(), Failure>) -> Result<(), Failure> {
        self.forget(partition);
        self.released.insert(partition);
        match ended {
            Ok(()) => {}
            Err(failure) if failure.exit == Exit::Fenced => {
                tracing::warn!(partition, %failure, "partition lost to another process");
            }
            Err(failure) => {
                let is_final = matches!(failure.exit, Exit::Usage | Exit::Damaged);
                if is_final && self.lives.is_empty() && !self.has_served {
                    // Nothing of the application runs here, and nothing ever did.
                    return Err(failure);
                }
                tracing::error!(
                    partition,
                    error = failure.to_string(),
                    again_s = REFUSED.as_secs(),
                    "partition failed in this process; released for the others"
                );
                self.process.metrics.observe_partition_failed();
                let until_ms = boot_ms() + REFUSED.as_millis() as u64;
                self.refused.insert(partition, until_ms);
            }
        }
        Ok(())
    }

    /// Ends a partition here, if it has not ended, and forgets it.
    fn forget(&mut self, partition: u32) {
        self.lives.remove(&partition);
        self.host.leave(partition);
        self.peers.gate().set(partition, Owner::Unknown);
        self.show_role();
    }

    /// Knows the owners by the roster that was read last.
    fn follow(&mut self) {
        let Some((roster, _)) = self.roster.clone() else {
            return;
        };
        let me = Arc::clone(&self.me.id);
        let is_mine = |number| roster.is_owner(number, &me);
        let lives = self.lives.keys().copied();
        let kept: BTreeSet<u32> = self.unlisted(&roster).collect();
        let lost = lives.filter(|number| !is_mine(*number) && !kept.contains(number));
        let lost: Vec<u32> = lost.collect();
        for partition in lost {
            // The log refuses its commits from now on, or will.
            tracing::warn!(partition, "partition claimed by another process");
            self.forget(partition);
        }
        let all = 0..self.host.partitions();
        let mut places: Vec<Option<_>> = vec![None; all.len()];
        let (gate, links) = (self.peers.gate(), self.peers.links());
        for number in all.clone() {
            match roster.owner(number) {
                // The stage of a partition that runs here says what its gate is.
                _ if self.lives.contains_key(&number) => {}
                Some(owner) if owner.id == me => {}
                Some(owner) => {
                    places[number as usize] = Some(owner.peer.clone());
                    know((gate, number), links, Owner::There(owner.peer.clone()));
                }
                None => know((gate, number), links, Owner::Unknown),
            }
        }
        let routes: Routes = places.into();
        self.routes.send_if_modified(|known| {
            let changed = *known != routes;
            *known = routes;
            changed
        });
        for partition in all.clone() {
            let is_here = self.lives.contains_key(&partition);
            if !is_mine(partition) || is_here || self.released.contains(&partition) {
                continue;
            }
            if self.is_leaving || self.refused.contains_key(&partition) {
                self.released.insert(partition);
            } else {
                // After a claim whose answer was lost.
                self.start(partition);
            }
        }
        self.ahead
            .retain(|number, _| roster.is_offered(*number, &me));
        let is_complete = all.clone().all(|number| roster.owner(number).is_some());
        if is_complete && !self.was_complete {
            self.was_complete = true;
            self.host.show_member();
        }
        self.show();
    }
}

/// Something that a member does not decide itself.
enum Event {
    Reported(NumberedReport),
    Failed(Failure),
    Asked(AskedWish),
    /// It is time to look.
    Due,
}

fn calendar_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
