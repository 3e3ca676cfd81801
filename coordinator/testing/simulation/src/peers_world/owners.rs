//! Owners of the partitions: production's takeover, pump and log around each partition, with
//! virtual time in place of tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::FutureExt;
use satchel_engine::dispatcher::{DispatcherInput, DispatcherOutput};
use satchel_engine::durable::{Key, Value};
use satchel_engine::input::{Input, Record};
use satchel_engine::invocation::{Bundle, BundleId, BundleOutcome, Failure, FailureKind};
use satchel_engine::output::{Delta, Output};
use satchel_engine::partition::Config;
use satchel_engine::position::{ShardId, ShardPosition};
use satchel_log::{Application, At, ErrorKind, Notice, Source, read};
use satchel_storage::fork::Refusal;
use satchel_storage::pump::Reaction;

use super::connections::ConnectionId;
use super::faults::PeersPlan;
use super::functions::{IDS, address, run};
use super::{Event, PeersWorld};
use crate::clocks::Clocks;
use crate::durable::DurableFacts;
use crate::functions::text;
use crate::process::{Life, Process, ProcessId, Serving};
use crate::recovery::Unread;
use crate::store::{MachineClock, Mailbox, Request, Still};
use crate::store_requests::{Step, arrive, depart};
use crate::world::Fate;

/// Root of the application.
const ROOT: &str = "root";

/// Maximum wait in ms. The calendar may be set meanwhile.
const WAIT_MAX_MS: u64 = 2_000;

/// Time at which calendars begin, in ms since the epoch.
const CALENDAR_MS: u64 = 1_700_000_000_000;

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
    reads_after: Option<u64>,
    paused: bool,
    /// Lead of its last delta, in ms.
    lead_ms: u64,
    /// Time of its last delta, in ms since the epoch.
    committed_at_ms: u64,
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

fn shard_of(partition: u32) -> ShardId {
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

    /// Hands all facts to a partition and performs its outputs.
    fn round(&mut self, id: ProcessId) -> bool {
        let mutant = self.mutant;
        let Some(owner) = self.owners.get_mut(&id) else {
            return false;
        };
        let moved_ms = owner.moved_ms;
        let Some((now_ms, broken)) = owner.process.partition_ms(mutant) else {
            return false;
        };
        let now_ms = now_ms.max(moved_ms);
        self.violations.extend(broken);
        let Some(serving) = owner.serving() else {
            return false;
        };
        if serving.stopped {
            return false;
        }
        serving.rounds += 1;
        let rounds = serving.rounds;
        let facts = std::mem::take(&mut serving.facts);
        let some = !facts.is_empty();
        let tracing = self.trace.is_some();
        for fact in facts {
            if tracing {
                let line = format!("owner {id} <- {}", crate::owner::brief(&fact));
                self.record(|| line);
            }
            if let Some(serving) = self.owners.get_mut(&id).and_then(Owner::serving) {
                serving.partition.handle_input(now_ms, fact);
            }
        }
        let mut any = false;
        while let Some(output) = self
            .owners
            .get_mut(&id)
            .and_then(Owner::serving)
            .and_then(|serving| serving.partition.poll_output())
        {
            any = true;
            self.perform(id, output, now_ms);
        }
        self.release_held(id);
        self.check_bounds(id, rounds);
        some || any
    }

    /// Checks the counters at times, and that mailboxes stay within the limit and the credit that
    /// was given.
    fn check_bounds(&mut self, id: ProcessId, rounds: u64) {
        if !rounds.is_multiple_of(64) {
            return;
        }
        let Some(serving) = self.owners.get_mut(&id).and_then(Owner::serving) else {
            return;
        };
        let wrong = serving.partition.audit();
        self.violations.extend(wrong);
    }

    fn perform(&mut self, id: ProcessId, output: Output, now_ms: u64) {
        if self.trace.is_some() {
            let line = format!("owner {id} -> {}", crate::owner::brief_output(&output));
            self.record(|| line);
        }
        match output {
            Output::Invoke { endpoint, batch } => {
                self.dispatch(id, Some(DispatcherInput::BatchReady { endpoint, batch }));
            }
            Output::Commit(delta) => self.commit(id, *delta),
            output @ (Output::Image(_) | Output::LoadBucket { .. } | Output::SnapshotWanted) => {
                self.hand_to_log(id, output);
            }
            Output::Reply { request, answer } => {
                let serving = self.owners.get_mut(&id).and_then(Owner::serving);
                let waiting = serving.and_then(|serving| serving.waiting.remove(&request));
                if let Some(waiting) = waiting {
                    self.client_answered(waiting, answer);
                }
            }
            Output::Read { after, .. } => self.start_reading(id, &after),
            Output::PauseIngress => self.pause(id, true),
            Output::ResumeIngress => self.pause(id, false),
            Output::PeerFrame {
                connection,
                generation,
                frame,
                ..
            } => self.send_frame(connection, generation, frame),
            Output::PeerAnswer {
                connection, answer, ..
            } => self.answer(id, connection, answer),
            Output::PeerClose { connection, .. } => self.breaks(connection),
            Output::PeerDamaged { peer, damage } => {
                // A former owner looks at its log, and ends.
                if self.owns(id) {
                    let violation = format!("owner {id} finds {damage:?} at partition {peer}");
                    self.violations.push(violation);
                } else {
                    self.crash(id, "it is a former owner");
                }
            }
            Output::Congested(congested) => {
                if let Some(owner) = self.owners.get(&id)
                    && self.newest_owner(owner.partition) == Some(id)
                {
                    let partition = owner.partition;
                    self.say_congested(partition, congested);
                }
            }
            Output::WakeAt(due_ms) => {
                if let Some(serving) = self.owners.get_mut(&id).and_then(Owner::serving) {
                    serving.wake_at_ms = Some(due_ms);
                }
                let wait_ms = due_ms.saturating_sub(now_ms).min(WAIT_MAX_MS);
                self.timeline
                    .after(wait_ms, Event::PartitionWakes(id, due_ms));
            }
            Output::Stopped => {
                if let Some(serving) = self.owners.get_mut(&id).and_then(Owner::serving) {
                    serving.stopped = true;
                    serving.log = None;
                }
            }
            output @ (Output::Emit(_)
            | Output::MarksDurable { .. }
            | Output::Plan { .. }
            | Output::Receive { .. }
            | Output::Deletable { .. }
            | Output::SetIngressPause { .. }) => {
                self.violations
                    .push(format!("an unexpected output: {output:?}"));
            }
        }
    }

    /// Says for a partition that it has too many messages for others. All owners hear of it.
    fn say_congested(&mut self, partition: u32, congested: bool) {
        let before = self.congested.iter().any(|congested| *congested);
        self.congested[partition as usize] = congested;
        let now = self.congested.iter().any(|congested| *congested);
        if before != now {
            self.timeline.after(1, Event::Congested(now));
        }
    }

    pub(super) fn partition_wakes(&mut self, id: ProcessId, at_ms: u64) {
        let serving = self.owners.get_mut(&id).and_then(Owner::serving);
        if let Some(serving) = serving.filter(|serving| serving.wake_at_ms == Some(at_ms)) {
            // It may be early: after the maximum wait, or because the calendar was set back.
            serving.wake_at_ms = None;
            self.notify(id, Input::TimeReached);
        }
    }

    fn commit(&mut self, id: ProcessId, delta: Delta) {
        let Some(owner) = self.owners.get_mut(&id) else {
            return;
        };
        for change in &delta.changes {
            match (&change.key, &change.value) {
                (Key::Lead, Some(Value::Lead(ms))) => owner.lead_ms = *ms,
                (Key::Lead, _) => owner.lead_ms = 0,
                _ => {}
            }
        }
        let own_ms = delta.committed_at_ms - owner.lead_ms;
        let partition = owner.partition;
        let epoch = owner.epoch();
        let latest_ms = (CALENDAR_MS + self.timeline.now_ms())
            .saturating_add_signed(self.errors_max_ms[partition as usize]);
        if own_ms > latest_ms {
            self.violations.push(format!(
                "the own time of partition {partition} is {own_ms}, which no clock of its owners \
                 has shown: {latest_ms}"
            ));
        }
        let delta = self.mutate_delta(id, delta, own_ms);
        self.hand_to_log(id, Output::Commit(Box::new(delta.clone())));
        self.truth[partition as usize].sealed(epoch, Rc::new(delta));
    }

    /// Time of the last delta before this one that the owner has sealed or read.
    pub(super) fn last_time_ms(&mut self, id: ProcessId, this_ms: u64) -> u64 {
        let Some(owner) = self.owners.get_mut(&id) else {
            return this_ms;
        };
        owner.committed_at_ms = owner.committed_at_ms.max(this_ms);
        owner.committed_at_ms
    }

    fn hand_to_log(&mut self, id: ProcessId, output: Output) {
        let now = Duration::from_millis(self.timeline.now_ms());
        if let Some(serving) = self.owners.get_mut(&id).and_then(Owner::serving)
            && let Some(log) = &serving.log
        {
            match serving.pump.perform(now, output) {
                Ok(command) => command.send(log),
                Err(output) => unreachable!("the log does not perform {output:?}"),
            }
        }
    }

    pub(super) fn dispatcher_wakes(&mut self, id: ProcessId) {
        self.dispatch(id, Some(DispatcherInput::TimeReached));
        self.advance(id);
    }

    fn dispatch(&mut self, id: ProcessId, input: Option<DispatcherInput>) {
        let mutant = self.mutant;
        let Some(owner) = self.owners.get_mut(&id) else {
            return;
        };
        let Some((now_ms, broken)) = owner.process.dispatcher_ms(mutant) else {
            return;
        };
        self.violations.extend(broken);
        if let (Some(serving), Some(input)) = (owner.serving(), input) {
            serving.dispatcher.handle_input(now_ms, input);
        }
        while let Some(serving) = self.owners.get_mut(&id).and_then(Owner::serving)
            && let Some(output) = serving.dispatcher.poll_output()
        {
            match output {
                DispatcherOutput::Send(bundle) => self.invoke(id, bundle),
                DispatcherOutput::Abandon(_) => {}
                DispatcherOutput::Completed { attempt, answer } => serving
                    .facts
                    .push(Input::InvocationCompleted { attempt, answer }),
                DispatcherOutput::Failed { attempt, failure } => serving
                    .facts
                    .push(Input::InvocationFailed { attempt, failure }),
                DispatcherOutput::WakeAt(due_ms) => {
                    let wait_ms = due_ms.saturating_sub(now_ms).min(WAIT_MAX_MS);
                    self.timeline.after(wait_ms, Event::DispatcherWakes(id));
                }
            }
        }
    }

    /// Runs the functions of a request, whose answer comes later.
    fn invoke(&mut self, id: ProcessId, bundle: Bundle) {
        self.report.bundles += 1;
        let delay_ms = 1 + self.random.below(self.plan.latency_max_ms);
        let outcome = if self.random.chance(self.plan.failed) {
            let failure = Failure::new(FailureKind::Unavailable, "port is closed");
            BundleOutcome::Failed(failure)
        } else {
            let results = bundle.batches.iter().map(|batch| {
                let outcome = if self.random.chance(self.plan.failed) {
                    Err(Failure::new(FailureKind::Function, "it failed"))
                } else {
                    Ok(run(batch, &mut self.violations))
                };
                (batch.attempt, outcome)
            });
            BundleOutcome::Answered(results.collect())
        };
        self.timeline
            .after(delay_ms, Event::Returns(id, bundle.id, outcome));
    }

    pub(super) fn returns(&mut self, id: ProcessId, bundle: BundleId, outcome: BundleOutcome) {
        self.dispatch(
            id,
            Some(DispatcherInput::BundleReturned { bundle, outcome }),
        );
        self.advance(id);
    }

    fn start_reading(&mut self, id: ProcessId, after: &ShardPosition) {
        let after = match after {
            ShardPosition::After { sequence, .. } => sequence.as_str().parse().unwrap_or(0),
            _ => 0,
        };
        if let Some(owner) = self.owners.get_mut(&id)
            && owner.reads_after.is_none()
        {
            owner.reads_after = Some(after);
            self.timeline.after(1, Event::Reads(id));
        }
    }

    fn pause(&mut self, id: ProcessId, paused: bool) {
        if let Some(owner) = self.owners.get_mut(&id) {
            owner.paused = paused;
        }
    }

    /// Reads the next records of an owner's shard.
    pub(super) fn reads(&mut self, id: ProcessId) {
        let count = 1 + self.random.below(4);
        let Some(owner) = self.owners.get_mut(&id) else {
            return;
        };
        let partition = owner.partition;
        let Some(after) = owner.reads_after else {
            return;
        };
        if after >= self.plan.records {
            return;
        }
        let delay_ms = 1 + self.random.below(300);
        self.timeline.after(delay_ms, Event::Reads(id));
        if owner.paused {
            return;
        }
        let last = (after + count).min(self.plan.records);
        owner.reads_after = Some(last);
        let records = (after + 1..=last).map(|number| {
            let target = record_target(partition, number);
            let sent = number.div_ceil(2);
            let content = format!("shard/{partition} {sent}");
            Record {
                sequence: number.into(),
                sub_sequence: 0,
                trace: None,
                headers: None,
                key: target.to_string().into(),
                routed: Ok(vec![(
                    address("ordered", target.to_string()),
                    text(content),
                )]),
            }
        });
        let read = Input::RecordsRead {
            shard: shard_of(partition),
            records: records.collect(),
        };
        self.notify(id, read);
    }
}
