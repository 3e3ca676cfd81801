//! Owners of the partitions: production's takeover, pump and log around each partition, with
//! virtual time in place of tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::FutureExt;
use satchel_engine::durable::{Key, Value};
use satchel_engine::input::Input;
use satchel_engine::partition::Config;
use satchel_engine::position::{ShardId, ShardPosition};
use satchel_log::{Application, At, ErrorKind, Notice, Source, read};
use satchel_storage::fork::Refusal;
use satchel_storage::pump::Reaction;

use super::connections::ConnectionId;
use super::faults::PeersPlan;
use super::functions::IDS;
use super::{Event, PeersWorld};
use crate::clocks::Clocks;
use crate::durable::DurableFacts;
use crate::process::{Life, Process, ProcessId, Serving};
use crate::recovery::Unread;
use crate::store::{MachineClock, Mailbox, Request, Still};
use crate::store_requests::{Step, arrive, depart};
use crate::world::Fate;

/// Root of the application.
const ROOT: &str = "root";

/// A process that owns a partition, or wants to.
pub(super) struct Owner {
    pub(super) partition: u32,
    pub(super) machine: usize,
    pub(super) process: Process,
    /// Connection that it made to each other partition.
    pub(super) outgoing: BTreeMap<u32, ConnectionId>,
    /// Partitions that it is about to connect to.
    pub(super) connecting: BTreeSet<u32>,
    /// Last record that it read of its shard, once it reads.
    pub(super) reads_after: Option<u64>,
    /// Shards of the moving stream that it reads or plans.
    pub(super) moving: super::moving::Reading,
    pub(super) paused: bool,
    /// Lead of its last delta, in ms.
    pub(super) lead_ms: u64,
    /// Time of its last delta, in ms since the epoch.
    pub(super) committed_at_ms: u64,
    /// Latest time of a frame, for a mutant.
    pub(super) moved_ms: u64,
    /// Answers that a mutant holds back, by connection.
    pub(super) held: BTreeMap<ConnectionId, satchel_engine::link::Answer>,
}

impl Owner {
    pub(super) fn serving(&mut self) -> Option<&mut Serving> {
        self.process.serving()
    }

    pub(super) fn is_serving(&self) -> bool {
        self.process.is_serving()
    }

    /// Epoch of a serving owner; 0 before that.
    pub(super) fn epoch(&self) -> u64 {
        match &self.process.life {
            Life::Serving(serving) => serving.epoch,
            Life::TakingOver(_) => 0,
        }
    }

    /// Returns whether nothing is pending.
    pub(super) fn is_idle(&self, plan: &PeersPlan) -> bool {
        let Life::Serving(serving) = &self.process.life else {
            return false;
        };
        let gauges = serving.partition.gauges();
        !serving.stopped
            && self.reads_after == Some(plan.records)
            && gauges.in_flight == 0
            && gauges.pending_bytes == 0
            && gauges.timers == 0
            && gauges.sealed == gauges.durable
    }

    pub(super) fn describe(&self) -> String {
        match &self.process.life {
            Life::Serving(serving) => format!(
                "epoch {}, reads after {:?}, {:?}",
                serving.epoch,
                self.reads_after,
                serving.partition.gauges()
            ),
            Life::TakingOver(_) => "takes over".to_owned(),
        }
    }
}

pub(super) fn shard_of(partition: u32) -> ShardId {
    ShardId {
        ingress: "bank/in".into(),
        stream: "in".into(),
        shard: partition.to_string().into(),
    }
}

/// Target of a record of a shard, among the instances of `ordered`.
pub(super) fn record_target(partition: u32, number: u64) -> u64 {
    (u64::from(partition) * 3 + number % 2) % IDS
}

impl PeersWorld {
    /// Returns the serving owner of a partition with the highest epoch.
    pub(super) fn newest_owner(&self, partition: u32) -> Option<ProcessId> {
        let owners = self.owners.iter();
        let owners = owners.filter(|(_, owner)| owner.partition == partition && owner.is_serving());
        let newest = owners.max_by_key(|(_, owner)| owner.epoch());
        newest.map(|(id, _)| *id)
    }

    /// Returns whether no later epoch was claimed.
    pub(super) fn owns(&self, id: ProcessId) -> bool {
        let owner = &self.owners[&id];
        let prefix = format!("{ROOT}/partitions/{}/epochs/", owner.partition);
        let keys = self.objects.objects.range(prefix.clone()..);
        let claimed = keys.take_while(|(key, _)| key.starts_with(&prefix)).count() as u64;
        owner.epoch() == claimed
    }

    /// Schedules a new owner for each partition that has none.
    pub(super) fn start_missing_owners(&mut self) {
        for partition in 0..self.plan.partitions {
            let has = self
                .owners
                .values()
                .any(|owner| owner.partition == partition);
            if !has && !self.starting[partition as usize] {
                self.starting[partition as usize] = true;
                let delay_ms = 1 + self.random.below(800);
                self.timeline.after(delay_ms, Event::OwnerStarts(partition));
            }
        }
    }

    pub(super) fn owner_starts(&mut self, partition: u32) {
        self.starting[partition as usize] = false;
        let of_partition = self.owners.values();
        let of_partition = of_partition.filter(|owner| owner.partition == partition);
        let limit = if self.faults_ended { 1 } else { 3 };
        if of_partition.count() >= limit {
            return;
        }
        let id = self.next_owner;
        self.next_owner += 1;
        let machine = self.random.below(self.machines.len() as u64) as usize;
        let config = Config {
            partition,
            ..self.plan.config.clone()
        };
        let process = Process::start(
            id,
            (ROOT.to_owned(), false),
            &config,
            self.plan.log,
            self.machines[machine].error_ms,
            self.mutant,
            Unread {
                share: self.plan.unread,
                salt: id,
            },
        );
        process.clock.set(self.timeline.now_ms());
        self.record(|| format!("owner {id} of partition {partition} starts on machine {machine}"));
        self.allow_error(partition, machine);
        let owner = Owner {
            partition,
            machine,
            process,
            outgoing: BTreeMap::new(),
            connecting: BTreeSet::new(),
            reads_after: None,
            moving: super::moving::Reading::default(),
            paused: false,
            lead_ms: 0,
            committed_at_ms: 0,
            moved_ms: 0,
            held: BTreeMap::new(),
        };
        self.owners.insert(id, owner);
        self.advance(id);
    }

    /// Ends an owner wherever it is. Its requests in flight continue.
    pub(super) fn crash(&mut self, id: ProcessId, why: &str) {
        let Some(owner) = self.owners.remove(&id) else {
            return;
        };
        self.report.crashes += 1;
        let partition = owner.partition;
        self.record(|| format!("owner {id} of partition {partition} ends: {why}"));
        if let Life::Serving(serving) = owner.process.life {
            let counts = serving.partition.counts();
            self.report.stale_answers += counts.stale_answers;
            self.report.timers_fired += counts.timers_fired;
            self.report.loads += counts.loads;
            self.report.evictions += counts.evictions;
            for waiting in serving.waiting.into_values() {
                self.client_unanswered(waiting);
            }
        }
        self.break_all_of(id);
        if self.congested[partition as usize] {
            self.say_congested(partition, false);
        }
    }

    /// Lets an owner do everything that it can do now.
    pub(super) fn advance(&mut self, id: ProcessId) {
        loop {
            let progressed = match self.owners.get(&id).map(|owner| &owner.process.life) {
                None => return,
                Some(Life::TakingOver(_)) => self.take_over_on(id),
                Some(Life::Serving(_)) => self.drive_log(id) | self.round(id),
            };
            self.dispatch_outgoing(id);
            if !progressed {
                return;
            }
        }
    }

    pub(super) fn notify(&mut self, id: ProcessId, input: Input) {
        let Some(owner) = self.owners.get_mut(&id) else {
            return;
        };
        match owner.serving() {
            Some(serving) => {
                serving.facts.push(input);
                self.advance(id);
            }
            None if matches!(input, Input::StopRequested) => {
                self.crash(id, "it was stopped during its takeover");
            }
            None => {}
        }
    }

    fn dispatch_outgoing(&mut self, id: ProcessId) {
        let Some(owner) = self.owners.get(&id) else {
            return;
        };
        let outgoing = owner.process.mailbox.take();
        for (ms, slot) in outgoing.sleeps {
            self.timeline.after(ms, Event::SleepOver(id, slot));
        }
        for request in outgoing.requests {
            self.report.requests += 1;
            for (delay_ms, step) in depart(&self.random, self.plan.store, request) {
                let event = match step {
                    Step::Effect(op) => Event::Effect(op),
                    Step::Arrives(request, fate) => Event::Arrives(id, request, fate),
                    Step::Fails(request, error) => Event::Answered(id, request, Err(error)),
                };
                self.timeline.after(delay_ms, event);
            }
        }
    }

    pub(super) fn request_arrives(&mut self, id: ProcessId, request: Request, fate: Fate) {
        let faults = self.plan.store;
        let (back_ms, (request, answer)) =
            arrive(&self.random, faults, &mut self.objects, request, fate);
        self.timeline
            .after(back_ms, Event::Answered(id, request, answer));
    }

    fn take_over_on(&mut self, id: ProcessId) -> bool {
        let Some(owner) = self.owners.get_mut(&id) else {
            return false;
        };
        let Life::TakingOver(taking) = &mut owner.process.life else {
            return false;
        };
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(result) = taking.as_mut().poll(&mut context) else {
            return false;
        };
        let partition = owner.partition;
        let (ownership, recovery) = match result {
            Ok(taken_over) => taken_over,
            Err(Refusal::Log(error)) => {
                self.ended(id, &error);
                return false;
            }
            Err(refusal) => {
                self.violations
                    .push(format!("owner {id} finds its root unfinished: {refusal}"));
                return false;
            }
        };
        let durable = self.read_durable(partition);
        let recovered = durable.and_then(|durable| match recovery.finish(&durable.facts) {
            Ok(recovery) => Ok((recovery, durable)),
            Err(problem) => Err(problem.to_string()),
        });
        let (recovery, durable) = match recovered {
            Ok(recovered) => recovered,
            Err(problem) => {
                self.violations.push(problem);
                return false;
            }
        };
        let epoch = ownership.owner.epoch;
        self.report.takeovers += 1;
        self.report.void += ownership.recovery.void;
        self.report.clean += u64::from(ownership.clean && epoch > 1);
        let truth = &mut self.truth[partition as usize];
        if let Err(problem) = truth.took_over(epoch, &durable.facts) {
            self.violations
                .push(format!("partition {partition}: {problem}"));
        }
        let committed_at_ms = ownership.committed_at_ms;
        let own_ms = self.own_time_ms(&recovery, committed_at_ms);
        let mutant = self.mutant;
        let Some(owner) = self.owners.get_mut(&id) else {
            return false;
        };
        let process = &mut owner.process;
        let mut clocks = Clocks::start(&process.clock, own_ms, mutant);
        let (now_ms, _) = clocks.partition_ms(&process.clock, mutant);
        let config = process.config.clone();
        let serving = Serving::start(ownership, recovery, &durable, &config, clocks, now_ms);
        process.life = Life::Serving(Box::new(serving));
        owner.committed_at_ms = committed_at_ms;
        owner.lead_ms = match durable.facts.get(Key::Lead) {
            Some(Value::Lead(ms)) => *ms,
            _ => 0,
        };
        self.record(|| format!("owner {id} takes partition {partition} over as epoch {epoch}"));
        let found = Input::ShardFound {
            shard: shard_of(partition),
            start: ShardPosition::Beginning,
        };
        if let Some(serving) = self.owners.get_mut(&id).and_then(Owner::serving) {
            serving.facts.push(found);
            serving.facts.push(super::moving::found());
            let congested = self.congested.iter().any(|congested| *congested);
            serving.facts.push(Input::ApplicationCongested(congested));
        }
        for peer in (0..self.plan.partitions).filter(|peer| *peer != partition) {
            self.connect_later(id, peer);
        }
        self.announce_owner(partition);
        // The first round takes up what the last owner left.
        self.round(id);
        true
    }

    fn still(&self, partition: u32) -> Result<(Source, Application), String> {
        let source = Source {
            store: Arc::new(Still::new(&self.objects)),
            root: ROOT.to_owned(),
            clock: Arc::new(MachineClock::new(0, Mailbox::default())),
            retry: self.plan.log.retry,
            on_store_failure: Arc::new(|_| {}),
        };
        let record = self.objects.objects.get(&format!("{ROOT}/application"));
        let record = record.ok_or(format!("partition {partition} has no application"))?;
        let application = Application::decode(record).map_err(|defect| defect.to_string())?;
        Ok((source, application))
    }

    /// Reads what is durable of a partition from the store. Just after a takeover this equals what
    /// the takeover read.
    fn read_durable(&self, partition: u32) -> Result<DurableFacts, String> {
        let (source, application) = self.still(partition)?;
        let mut durable = DurableFacts::default();
        let read = read(&source, &application, partition, At::Latest, &mut durable);
        match read.now_or_never() {
            Some(Ok(_)) => durable.problem.take().map_or(Ok(durable), Err),
            Some(Err(error)) => Err(format!("partition {partition} cannot be read: {error}")),
            None => Err("reading the durable state waits for something".to_owned()),
        }
    }

    /// Compares every log with the truth.
    pub(super) fn check_logs(&mut self) {
        for partition in 0..self.plan.partitions {
            let problem = match self.read_durable(partition) {
                Ok(durable) => {
                    let facts = &self.truth[partition as usize].facts;
                    (facts.hash() != durable.facts.hash())
                        .then(|| format!("the log of {partition} holds another state"))
                }
                Err(problem) => Some(problem),
            };
            self.violations.extend(problem);
        }
    }

    fn drive_log(&mut self, id: ProcessId) -> bool {
        let now = Duration::from_millis(self.timeline.now_ms());
        let mut context = Context::from_waker(Waker::noop());
        let Some(owner) = self.owners.get_mut(&id) else {
            return false;
        };
        let partition = owner.partition;
        let Some(serving) = owner.serving() else {
            return false;
        };
        let driver = serving.driver.as_mut();
        let ended = driver.map(|driver| driver.as_mut().poll(&mut context));
        let epoch = serving.epoch;
        let (mut durable, mut facts, mut jobs) = (Vec::new(), Vec::new(), Vec::new());
        while let Ok(notice) = serving.notices.try_recv() {
            if let Notice::Durable { sequence, .. } = &notice {
                durable.push(*sequence);
            }
            self.report.snapshots += u64::from(matches!(notice, Notice::Snapshot(_)));
            match serving.pump.on_notice(now, notice).0 {
                Reaction::Tell(fact) => facts.push(fact),
                Reaction::Decode(job) => jobs.push(job),
                Reaction::Nothing => {}
            }
        }
        self.mutate_facts(&mut facts);
        let progressed = !facts.is_empty();
        if let Some(serving) = self.owners.get_mut(&id).and_then(Owner::serving) {
            serving.facts.append(&mut facts);
        }
        for job in jobs {
            match job.run() {
                Ok(input) => {
                    let late = self.random.chance(200);
                    let delay_ms = self.random.below(if late { 3_000 } else { 30 });
                    self.timeline.after(delay_ms, Event::Notify(id, input));
                }
                Err(problem) => self.violations.push(problem.to_string()),
            }
        }
        for sequence in durable {
            self.record(|| format!("partition {partition}, epoch {epoch}: {sequence} is durable"));
            self.report.deltas += 1;
            self.truth[partition as usize].durable(epoch, sequence);
        }
        match ended {
            Some(Poll::Ready(Ok(()))) => {
                self.crash(id, "it has stopped");
                false
            }
            Some(Poll::Ready(Err(error))) => {
                // What was reported durable before the end may still be released.
                self.round(id);
                self.ended(id, &error);
                false
            }
            Some(Poll::Pending) | None => progressed,
        }
    }

    /// Handles an owner that ended by itself.
    fn ended(&mut self, id: ProcessId, error: &satchel_log::LogError) {
        match error.kind() {
            ErrorKind::Fenced => self.report.fenced += 1,
            ErrorKind::Environment => {}
            ErrorKind::Refused | ErrorKind::Bug => {
                self.violations
                    .push(format!("owner {id} ended with: {error}"));
            }
        }
        self.crash(id, &error.to_string());
    }
}
