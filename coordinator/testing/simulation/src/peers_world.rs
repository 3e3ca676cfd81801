//! The world of an application of several partitions: each has owners on several machines, and
//! they send each other messages over connections that break.
//!
//! ```text
//!  clients ─► owner of p0 ═══ connection ═══► owner of p1 ◄─ shard 1
//!              │  ▲  machine 0, its clock      │  machine 2, another clock
//!              ▼  │ log of p0                  ▼ log of p1        store with faults
//!             truth: the folds of all logs, at every moment
//! ```
//!
//! Store, processes, clocks, recovery, pump and log are those of the world of one partition. There
//! is no lease here: any owner may be joined by another one at any time, and learns from its log
//! alone that it is a former one.

mod clients;
mod connections;
mod faults;
mod functions;
mod moving;
mod mutants;
mod owners;
mod rounds;
mod truth;

use std::collections::BTreeMap;
use std::sync::Arc;

use satchel_engine::input::Input;
use satchel_engine::invocation::{BundleId, BundleOutcome};
use satchel_engine::link::{Answer, Frame};
use satchel_engine::message::PeerMessage;
use satchel_engine::partition::Generation;
use satchel_engine::placement::PartitionMap;
use satchel_log::StoreError;
use satchel_log_simulation::Random;

use crate::mutants::Mutant;
use crate::process::ProcessId;
use crate::store::{Objects, Request, StoreOp, StoreReply};
use crate::timeline::{Slot, Timeline};
use crate::world::{BEGINNING_MS, Fate};
use crate::{Failure, Plan, Report};

use self::clients::Clients;
use self::connections::{Connection, ConnectionId};
use self::faults::PeersPlan;
use self::owners::Owner;
use self::truth::PartitionTruth;

/// Maximum number of events. A run that exceeds it makes no progress.
const EVENTS_MAX: u64 = 400_000;

/// Maximum time until the world settles after the last fault, in ms.
const SETTLE_MS: u64 = 600_000;

/// Generation of every world here.
const GENERATION: u64 = 1;

/// Number of key groups.
const KEY_GROUPS: u16 = 64;

/// Scheduled event.
enum Event {
    /// A request to the store takes effect without an answer.
    Effect(StoreOp),
    Arrives(ProcessId, Request, Fate),
    Answered(ProcessId, Request, Result<StoreReply, StoreError>),
    SleepOver(ProcessId, Slot<()>),
    Notify(ProcessId, Input),
    PartitionWakes(ProcessId, u64),
    DispatcherWakes(ProcessId),
    Returns(ProcessId, BundleId, BundleOutcome),
    Reads(ProcessId),
    ReadsShard(ProcessId, Arc<str>),
    Lists(ProcessId),
    Appends,
    Reshards,
    /// An owner connects to the owner of another partition.
    Connects(ProcessId, u32),
    /// The other end has accepted a connection, and its maker learns it.
    Connected(ConnectionId),
    Frame(ConnectionId, u64, Frame<PeerMessage>),
    Answer(ConnectionId, Answer),
    Breaks(ConnectionId),
    /// One end of a broken connection notices it.
    Notices(ConnectionId, ProcessId),
    OwnerStarts(u32),
    /// All owners hear that some partition has too many messages for others, or none.
    Congested(bool),
    ClientActs(usize),
    ClientGivesUp(usize, u64),
    Fault,
}

/// State of one run.
pub(crate) struct PeersWorld {
    random: Random,
    mutant: Option<Mutant>,
    plan: PeersPlan,
    timeline: Timeline<Event>,
    objects: Objects,
    machines: Vec<Machine>,
    owners: BTreeMap<ProcessId, Owner>,
    next_owner: ProcessId,
    /// Partitions that a new owner is about to come for.
    starting: Vec<bool>,
    connections: BTreeMap<ConnectionId, Connection>,
    next_connection: ConnectionId,
    /// Partitions whose present owner says that it has too many messages for others.
    congested: Vec<bool>,
    clients: Clients,
    stream: moving::Stream,
    truth: Vec<PartitionTruth>,
    /// Largest error of a clock that any owner of the partition had, in ms.
    errors_max_ms: Vec<i64>,
    /// Number of answers that a mutant has changed.
    mutated: u64,
    faults_ended: bool,
    violations: Vec<String>,
    pub(crate) report: Report,
    pub(crate) trace: Option<Vec<String>>,
}

/// A machine that runs owners.
#[derive(Debug, Clone, Copy)]
struct Machine {
    /// Error of its calendar, in ms.
    error_ms: i64,
    /// True time until which it is paused, in ms.
    paused_until_ms: u64,
}

impl PeersWorld {
    pub(crate) fn new(plan: &Plan, trace: bool) -> Self {
        // Not the same choices as those of the other world of this seed.
        let random = Random::new(plan.seed ^ 0x005e_ed0f_9ee5);
        let mutant = plan.mutant;
        let plan = PeersPlan::draw(&random);
        let partitions = plan.partitions as usize;
        let machines = (0..plan.machines).map(|_| Machine {
            error_ms: plan.draw_error(&random),
            paused_until_ms: 0,
        });
        let machines = machines.collect();
        Self {
            clients: Clients::new(&plan, &random),
            stream: moving::Stream::draw(&random),
            timeline: Timeline::new(BEGINNING_MS),
            objects: Objects::default(),
            machines,
            owners: BTreeMap::new(),
            next_owner: 1,
            starting: vec![false; partitions],
            connections: BTreeMap::new(),
            next_connection: 1,
            congested: vec![false; partitions],
            truth: (0..partitions).map(|_| PartitionTruth::default()).collect(),
            errors_max_ms: vec![i64::MIN; partitions],
            mutated: 0,
            faults_ended: false,
            violations: Vec::new(),
            report: Report::default(),
            trace: trace.then(Vec::new),
            plan,
            mutant,
            random,
        }
    }

    /// Division of the key groups among the partitions.
    fn generation(partitions: u16) -> Generation {
        Generation {
            number: GENERATION,
            partitions: PartitionMap::even(KEY_GROUPS, partitions),
        }
    }

    /// Runs to the end of the plan, and checks the final state.
    pub(crate) fn run(&mut self) -> Result<(), Failure> {
        if self.trace.is_some() {
            let plan = format!("{:?}", self.plan);
            self.record(|| plan);
        }
        for client in 0..self.clients.number() {
            let delay_ms = self.random.below(500);
            self.timeline.after(delay_ms, Event::ClientActs(client));
        }
        self.timeline.after(1, Event::Appends);
        self.timeline.after(1_000, Event::Reshards);
        self.schedule_fault();
        let faults_end_ms = self.timeline.now_ms() + self.plan.faulty_ms;
        while self.timeline.now_ms() < faults_end_ms {
            self.next()?;
        }
        self.end_faults();
        self.settle()?;
        self.check_end();
        self.check_violations()
    }

    fn settle(&mut self) -> Result<(), Failure> {
        let until_ms = self.timeline.now_ms() + SETTLE_MS;
        let mut looked_at_ms = 0;
        loop {
            self.next()?;
            if self.timeline.now_ms() > looked_at_ms + 200 {
                looked_at_ms = self.timeline.now_ms();
                if self.is_settled() {
                    return Ok(());
                }
                if looked_at_ms > until_ms {
                    let pending = self.pending();
                    return self.fail(&format!("the partitions do not settle: {pending}"));
                }
            }
        }
    }

    fn is_settled(&self) -> bool {
        let partitions = 0..self.plan.partitions;
        self.clients.are_done()
            && self.stream.is_appended()
            && self.clients.all_have_arrived(&self.truth)
            && partitions.into_iter().all(|partition| {
                let owner = self.newest_owner(partition);
                owner.is_some_and(|owner| self.owners[&owner].is_idle(&self.plan))
            })
            && !self.truth.iter().any(truth::is_pending)
    }

    fn pending(&self) -> String {
        let owners = self
            .owners
            .iter()
            .map(|(id, owner)| format!("owner {id} of {}: {}", owner.partition, owner.describe()));
        let owners: Vec<String> = owners.collect();
        let left: Vec<String> = self.truth.iter().map(truth::left).collect();
        format!("{owners:?}, {:?}, {left:?}", self.clients)
    }

    fn next(&mut self) -> Result<(), Failure> {
        self.report.events += 1;
        if self.report.events > EVENTS_MAX {
            let pending = self.pending();
            return self.fail(&format!(
                "the partitions exceed the maximum number of events: {pending}"
            ));
        }
        self.start_missing_owners();
        let Some(event) = self.timeline.pop() else {
            return self.fail("no event is left");
        };
        if let Some(event) = self.unless_paused(event) {
            self.handle(event);
        }
        self.check_violations()
    }

    fn check_violations(&mut self) -> Result<(), Failure> {
        if self.violations.is_empty() {
            return Ok(());
        }
        let what = std::mem::take(&mut self.violations).join("\n");
        self.fail(&what)
    }

    fn fail<T>(&mut self, what: &str) -> Result<T, Failure> {
        Err(Failure {
            what: format!("several partitions: {what}"),
            trace: self.trace.take().unwrap_or_default(),
        })
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Effect(op) => {
                self.objects.perform(&op);
            }
            Event::Arrives(id, request, fate) => self.request_arrives(id, request, fate),
            Event::Answered(id, request, answer) => {
                request.answer.fill(answer);
                self.advance(id);
            }
            Event::SleepOver(id, slot) => {
                slot.fill(());
                self.advance(id);
            }
            Event::Notify(id, input) => self.notify(id, input),
            Event::PartitionWakes(id, at_ms) => self.partition_wakes(id, at_ms),
            Event::DispatcherWakes(id) => self.dispatcher_wakes(id),
            Event::Returns(id, bundle, outcome) => self.returns(id, bundle, outcome),
            Event::Reads(id) => self.reads(id),
            Event::ReadsShard(id, shard) => self.reads_shard(id, shard),
            Event::Lists(id) => self.lists(id),
            Event::Appends => self.appends(),
            Event::Reshards => self.reshards(),
            Event::Connects(id, peer) => self.connects(id, peer),
            Event::Connected(connection) => self.connected(connection),
            Event::Frame(connection, generation, frame) => {
                self.frame_arrives(connection, generation, frame);
            }
            Event::Answer(connection, answer) => self.answer_arrives(connection, answer),
            Event::Breaks(connection) => self.breaks(connection),
            Event::Notices(connection, id) => self.notices_break(connection, id),
            Event::OwnerStarts(partition) => self.owner_starts(partition),
            Event::Congested(congested) => {
                let ids: Vec<ProcessId> = self.owners.keys().copied().collect();
                for id in ids {
                    self.notify(id, Input::ApplicationCongested(congested));
                }
            }
            Event::ClientActs(client) => self.client_acts(client),
            Event::ClientGivesUp(client, turn) => self.client_gives_up(client, turn),
            Event::Fault => self.inject_fault(),
        }
    }

    /// Postpones events of a paused machine.
    fn unless_paused(&mut self, event: Event) -> Option<Event> {
        let id = match &event {
            Event::Answered(id, ..)
            | Event::SleepOver(id, _)
            | Event::Notify(id, _)
            | Event::PartitionWakes(id, _)
            | Event::DispatcherWakes(id)
            | Event::Returns(id, ..)
            | Event::Reads(id)
            | Event::ReadsShard(id, _)
            | Event::Lists(id)
            | Event::Connects(id, _)
            | Event::Notices(_, id) => *id,
            Event::Frame(connection, ..) => self.connections.get(connection)?.to,
            Event::Answer(connection, _) | Event::Connected(connection) => {
                self.connections.get(connection)?.from
            }
            _ => return Some(event),
        };
        let owner = self.owners.get(&id)?;
        let paused_until_ms = self.machines[owner.machine].paused_until_ms;
        if paused_until_ms > self.timeline.now_ms() {
            self.timeline.at(paused_until_ms, event);
            return None;
        }
        owner.process.clock.set(self.timeline.now_ms());
        Some(event)
    }

    /// Checks the final state: what each operation should have done, every log as it is read, and
    /// every moment before.
    fn check_end(&mut self) {
        let problems = self.clients.check(&self.truth);
        self.violations.extend(problems);
        self.check_logs();
        match truth::check_moments(&self.truth) {
            Ok(moments) => self.report.moments_checked += moments,
            Err(problem) => self.violations.push(problem),
        }
    }

    fn record(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let at_ms = self.timeline.now_ms() - BEGINNING_MS;
            trace.push(format!("{at_ms:>9} peers: {}", what()));
        }
    }

    /// Simulated time of the run so far, in ms.
    pub(crate) fn elapsed_ms(&self) -> u64 {
        self.timeline.now_ms() - BEGINNING_MS
    }
}
