//! The world of one run: one thread, one seed, virtual time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use satchel_engine::input::Input;
use satchel_engine::invocation::{AttemptId, Bundle, BundleId, BundleOutcome};
use satchel_engine::lease::{LeaseInput, LeaseItem};
use satchel_log::{ErrorKind, LogError, StoreError};
use satchel_log_simulation::Random;
use satchel_protocol::reqreply::FromFunction;

use crate::clients::{Administrator, Caller};
use crate::deploys::is_whole;
use crate::egress::EgressEvent;
use crate::egress_sink::EgressSink;
use crate::fault_plan::FaultPlan;
use crate::fork_world::Origin;
use crate::forks::Forks;
use crate::functions::Stage;
use crate::history::History;
use crate::lease::{Candidate, LeaseMessage};
use crate::mutants::Mutant;
use crate::operators::{Operators, is_operator};
use crate::outages::Outage;
use crate::process::{Life, Process, ProcessId};
use crate::queue::{Queue, QueueEvent};
use crate::recovery::Unread;
use crate::store::{Objects, Request, StoreOp, StoreReply};
use crate::streams::Streams;
use crate::timeline::{Slot, Timeline};
use crate::truth::Truth;
use crate::{Failure, Plan, Report};

/// Scheduled event.
pub(crate) enum Event {
    /// A request to the store takes effect without an answer.
    Effect(StoreOp),
    /// A request to the store takes effect. Its answer is sent or lost.
    Arrives(ProcessId, Request, Fate),
    /// The answer to a request arrives.
    Answered(ProcessId, Request, Result<StoreReply, StoreError>),
    SleepOver(ProcessId, Slot<()>),
    Notify(ProcessId, Input),
    PartitionWakes(ProcessId, u64),
    DispatcherWakes(ProcessId),
    /// A request reaches its functions.
    Runs(ProcessId, Bundle),
    Returns(ProcessId, BundleId, BundleOutcome),
    Reads(ProcessId, String),
    Egress(ProcessId, EgressEvent),
    ProducesToQueue,
    Queue(ProcessId, QueueEvent),
    Lease(ProcessId, LeaseMessage),
    Appends(usize),
    Reshards,
    Lists(ProcessId),
    CallerActs(usize, u64),
    CallerGivesUp(usize, u64),
    AdministratorActs,
    Fault,
    ProcessStarts,
    StopForced(ProcessId),
    /// A message kills the process that read it.
    Killed(ProcessId),
    /// An operator process makes progress.
    OperatorRuns(ProcessId),
    OperatorDies(ProcessId),
    OperatorSleeps(ProcessId, u64),
    OperatorActs,
    ForkWanted,
    MakerStarts(usize),
    EarlyOwnerStarts(usize),
    ForkServed(usize),
}

/// Fate of the answer to a request that reached the store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Answered,
    AnswerLost,
}

/// State of one run.
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) faults: FaultPlan,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) timeline: Timeline<Event>,
    pub(crate) processes: BTreeMap<ProcessId, Process>,
    next_process: ProcessId,
    pub(crate) objects: Objects,
    /// Prefix of this world's root in the store.
    pub(crate) root: String,
    /// True if the log of this world's root is in the table of the store.
    pub(crate) in_table: bool,
    pub(crate) origin: Origin,
    pub(crate) operators: Operators,
    pub(crate) history: History,
    pub(crate) forks: Forks,
    pub(crate) streams: Rc<RefCell<Streams>>,
    pub(crate) egress_sink: EgressSink,
    pub(crate) queue: Queue,
    /// Item in the table of leases.
    pub(crate) table: Option<LeaseItem>,
    pub(crate) stage: Stage,
    pub(crate) truth: Truth,
    pub(crate) callers: Vec<Caller>,
    pub(crate) administrator: Administrator,
    pub(crate) next_request: u64,
    pub(crate) next_operation: u64,
    /// Answers that may arrive once more, at the current owner.
    pub(crate) old_answers: Vec<(satchel_engine::address::Address, AttemptId, FromFunction)>,
    /// Outages of endpoints.
    pub(crate) outages: Vec<Outage>,
    /// Number of failures of each message that may count as its attempts.
    pub(crate) allowed: BTreeMap<String, u64>,
    pub(crate) faults_ended: bool,
    /// True once clients request nothing new.
    pub(crate) ending: bool,
    pub(crate) report: Report,
    pub(crate) trace: Option<Vec<String>>,
    pub(crate) starting: bool,
}

/// Time at which every run begins, in ms.
pub(crate) const BEGINNING_MS: u64 = 1_000_000;

/// Maximum number of events. A run that exceeds it makes no progress.
const EVENTS_MAX: u64 = 400_000;

/// Maximum time until the world settles after the last fault, in ms.
const SETTLE_MS: u64 = 900_000;

impl World {
    pub(crate) fn new(plan: &Plan, trace: bool) -> Self {
        let random = Random::new(plan.seed);
        let faults = FaultPlan::draw(&random);
        let streams = Rc::new(RefCell::new(Streams::draw(&random, BEGINNING_MS)));
        let queue = Queue::draw(&random);
        let callers = (0..faults.callers).map(|_| Caller::new(faults.operations));
        let callers = callers.collect();
        let names_cause = random.chance(500);
        let mut world = Self {
            truth: Truth::new(streams.clone()),
            timeline: Timeline::new(BEGINNING_MS),
            processes: BTreeMap::new(),
            next_process: 1,
            objects: Objects::default(),
            root: "root".to_owned(),
            in_table: plan.seed.is_multiple_of(3),
            origin: Origin::default(),
            operators: Operators::default(),
            history: History::default(),
            forks: Forks::default(),
            streams,
            egress_sink: EgressSink::new(faults.exactly_once.is_some()),
            queue,
            table: None,
            stage: Stage {
                names_cause,
                keeps_expirations: plan.mutant == Some(Mutant::KeepOldExpiration),
                ..Stage::default()
            },
            callers,
            administrator: Administrator::default(),
            next_request: 1,
            next_operation: 1,
            old_answers: Vec::new(),
            outages: crate::outages::draw(&random, faults.faulty_ms, BEGINNING_MS),
            allowed: BTreeMap::new(),
            faults_ended: false,
            ending: false,
            report: Report::default(),
            trace: trace.then(Vec::new),
            starting: false,
            mutant: plan.mutant,
            faults,
            random,
        };
        world.objects.unconditional = plan.mutant == Some(Mutant::UnconditionalCreate);
        world
    }

    /// Runs to the end of the plan.
    pub(crate) fn run(&mut self) -> Result<(), Failure> {
        self.begin();
        let faults_end_ms = self.timeline.now_ms() + self.faults.faulty_ms;
        while self.timeline.now_ms() < faults_end_ms {
            self.next()?;
        }
        self.settle_and_check()
    }

    /// Settles the world without further faults, and checks its final state.
    pub(crate) fn settle_and_check(&mut self) -> Result<(), Failure> {
        self.end_faults();
        self.settle("with poisonous messages")?;
        self.stage.healed = true;
        self.record(|| "no message is poisonous any more".to_owned());
        self.administrator.retry_all();
        self.settle("without poisonous messages")?;
        self.end()?;
        self.check_end();
        self.check_history();
        self.check_violations()
    }

    pub(crate) fn begin(&mut self) {
        self.record_fault_plan();
        self.timeline.after(0, Event::ProcessStarts);
        let producers = self.streams.borrow().producers();
        for producer in 0..producers {
            let delay_ms = self.random.below(500);
            self.timeline.after(delay_ms, Event::Appends(producer));
        }
        if self.faults.reshard_every_ms > 0 {
            self.timeline.after(1_000, Event::Reshards);
        }
        self.timeline.after(100, Event::ProducesToQueue);
        for caller in 0..self.callers.len() {
            let delay_ms = self.random.below(500);
            self.timeline.after(delay_ms, Event::CallerActs(caller, 0));
        }
        self.timeline.after(1_000, Event::AdministratorActs);
        self.schedule_command();
        self.schedule_forks();
        self.schedule_fault();
    }

    fn record_fault_plan(&mut self) {
        if self.trace.is_some() {
            let faults = format!("{:?}", self.faults);
            self.record(|| faults);
        }
    }

    pub(crate) fn schedule_fault(&mut self) {
        if self.faults.fault_every_ms > 0 {
            let delay_ms = 1 + self.random.below(2 * self.faults.fault_every_ms);
            self.timeline.after(delay_ms, Event::Fault);
        }
    }

    /// Ends all faults.
    pub(crate) fn end_faults(&mut self) {
        self.record(|| "the faults end".to_owned());
        self.faults_ended = true;
        self.wake_operators();
        self.deploy_whole();
        self.faults.store = self.faults.store.healed();
        let latency_max_ms = self.faults.requests.latency_max_ms;
        self.faults.requests = crate::fault_plan::RequestFaults {
            latency_max_ms,
            ..Default::default()
        };
        self.faults.ack_lost = 0;
        self.faults.read_again = 0;
        self.faults.abandon = 0;
        for process in self.processes.values_mut() {
            process.paused_until_ms = 0;
        }
        // The current owner continues. Other processes would learn that they are fenced only at a
        // commit, which they may never have a reason for.
        let claimed = self.objects.claimed_epochs(&self.root);
        let ids: Vec<ProcessId> = self.processes.keys().copied().collect();
        for id in ids {
            let process = self.processes.get(&id);
            let whole = process.is_some_and(|process| is_whole(&process.config));
            let owns = self
                .serving(id)
                .is_some_and(|serving| serving.epoch == claimed);
            if !owns || !whole {
                self.crash(id, "the faults end");
            }
        }
    }

    /// Waits until everything pending is done.
    fn settle(&mut self, how: &str) -> Result<(), Failure> {
        let until_ms = self.timeline.now_ms() + SETTLE_MS;
        let mut looked_at_ms = 0;
        loop {
            self.next()?;
            // The check costs more than most events do.
            if self.timeline.now_ms() > looked_at_ms + 500 {
                looked_at_ms = self.timeline.now_ms();
                if self.is_settled() {
                    return Ok(());
                }
                if looked_at_ms > until_ms {
                    let pending = self.pending();
                    return self.fail(format!("the world does not settle {how}: {pending}"));
                }
            }
        }
    }

    fn is_settled(&mut self) -> bool {
        let outside = self.streams.borrow().all_appended()
            && self.callers.iter().all(|caller| {
                caller.is_done() || (!self.stage.healed && caller.waits_for_healing())
            })
            && self.administrator.is_done()
            && self.forks.is_done()
            && self.queue.is_done();
        let read = self.all_is_read();
        let Some(process) = self.processes.values_mut().find(|it| it.is_serving()) else {
            return false;
        };
        // Images that were read at the takeover, which the coordinator never does, are not known to
        // be published, and are kept.
        let limit = process.config.memory_limit_bytes;
        let limit = limit.filter(|_| self.faults.unread == 1_000);
        let Some(serving) = process.serving() else {
            return false;
        };
        let within = serving.is_within(limit);
        let gauges = serving.partition.gauges();
        outside
            && read
            && gauges.in_flight == 0
            && (gauges.pending_bytes == 0
                || (!self.stage.healed && self.truth.only_suspended_wait()))
            && gauges.timers == 0
            && !self.truth.is_a_timer_pending()
            && gauges.outbox == 0
            && gauges.sealed == gauges.durable
            && within
    }

    fn pending(&mut self) -> String {
        let callers: Vec<_> = self
            .callers
            .iter()
            .filter(|caller| !caller.is_done())
            .collect();
        let callers = format!("{callers:?}, {:?}", self.administrator);
        let serving: Vec<_> = self
            .processes
            .iter_mut()
            .map(|(id, process)| match process.serving() {
                Some(serving) => format!("process {id}: {:?}", serving.partition.gauges()),
                None => format!("process {id} is taking over"),
            })
            .collect();
        format!(
            "{serving:?}, callers {callers}, {} forks pending, {} dead letters",
            self.forks.pending(),
            self.truth.dead_letters().len()
        )
    }

    /// Stops all processes in an orderly way, and waits for one more takeover that sees the durable
    /// state.
    fn end(&mut self) -> Result<(), Failure> {
        self.ending = true;
        let ids: Vec<ProcessId> = self.processes.keys().copied().collect();
        for id in ids {
            self.notify(id, Input::StopRequested);
        }
        let before = self.report.takeovers;
        let until_ms = self.timeline.now_ms() + 60_000;
        while self.report.takeovers == before {
            self.next()?;
            if self.timeline.now_ms() > until_ms {
                let pending = self.pending();
                return self.fail(format!("the last takeover does not happen: {pending}"));
            }
        }
        Ok(())
    }

    pub(crate) fn next(&mut self) -> Result<(), Failure> {
        self.report.events += 1;
        if self.report.events > EVENTS_MAX {
            let pending = self.pending();
            return self.fail(format!(
                "the run exceeds its maximum number of events: {pending}"
            ));
        }
        // With a lease, a second process waits for it.
        let wanted = match self.faults.lease_ms {
            Some(_) if !self.faults_ended => 2,
            _ => 1,
        };
        if self.processes.len() < wanted && !self.starting {
            self.starting = true;
            let delay_ms = 10 + self.random.below(1_000);
            self.timeline.after(delay_ms, Event::ProcessStarts);
        }
        let Some(event) = self.timeline.pop() else {
            return self.fail("no event is left".to_owned());
        };
        self.handle(event);
        self.check_violations()
    }

    pub(crate) fn check_violations(&mut self) -> Result<(), Failure> {
        let mut violations = std::mem::take(&mut self.stage.violations);
        violations.append(&mut self.truth.violations);
        if violations.is_empty() {
            return Ok(());
        }
        self.fail(violations.join("\n"))
    }

    pub(crate) fn fail<T>(&mut self, what: String) -> Result<T, Failure> {
        Err(Failure {
            what,
            trace: self.trace.take().unwrap_or_default(),
        })
    }

    fn handle(&mut self, event: Event) {
        let Some(event) = self.unless_paused(event) else {
            return;
        };
        match event {
            Event::Effect(op) => {
                if let StoreOp::Create(key, _) = &op {
                    self.history.lands_late(key);
                }
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
            Event::Runs(id, bundle) => self.runs(id, &bundle),
            Event::Returns(id, bundle, outcome) => self.returns(id, bundle, outcome),
            Event::Reads(id, shard) => self.reads(id, &shard),
            Event::Egress(id, event) => self.handle_egress_event(id, event),
            Event::ProducesToQueue => self.produce_to_queue(),
            Event::Queue(id, event) => self.handle_queue_event(id, event),
            Event::Lease(id, message) => self.handle_lease_message(id, message),
            Event::Appends(producer) => self.appends(producer),
            Event::Reshards => self.reshards(),
            Event::Lists(id) => self.lists(id),
            Event::CallerActs(caller, turn) => self.caller_acts(caller, turn),
            Event::CallerGivesUp(caller, turn) => self.caller_gives_up(caller, turn),
            Event::AdministratorActs => self.administrator_acts(),
            Event::Fault => self.inject_fault(),
            Event::ProcessStarts => self.process_starts(),
            Event::StopForced(id) => self.notify(id, Input::StopForced),
            Event::Killed(id) => self.crash(id, "a message killed it"),
            Event::OperatorRuns(id) => self.advance(id),
            Event::OperatorDies(id) => self.operator_dies(id),
            Event::OperatorSleeps(id, ms) => self.operator_sleeps(id, ms),
            Event::OperatorActs => self.give_command(),
            Event::ForkWanted => self.fork_wanted(),
            Event::MakerStarts(fork) => self.maker_starts(fork),
            Event::EarlyOwnerStarts(fork) => self.early_owner_starts(fork),
            Event::ForkServed(fork) => self.fork_served(fork),
        }
    }

    /// Postpones events of a paused process.
    fn unless_paused(&mut self, event: Event) -> Option<Event> {
        let id = match &event {
            Event::Egress(
                id,
                EgressEvent::PutOutcome(..)
                | EgressEvent::Scanned(..)
                | EgressEvent::Confirmed(..)
                | EgressEvent::Wakes(_),
            )
            | Event::Queue(
                id,
                QueueEvent::Poll
                | QueueEvent::Received(..)
                | QueueEvent::Answered(..)
                | QueueEvent::Wakes(_),
            )
            | Event::Lease(id, LeaseMessage::Reply(..) | LeaseMessage::Wakes(_))
            | Event::Answered(id, ..)
            | Event::SleepOver(id, _)
            | Event::Notify(id, _)
            | Event::PartitionWakes(id, _)
            | Event::DispatcherWakes(id)
            | Event::Returns(id, ..)
            | Event::Reads(id, _)
            | Event::Lists(id)
            | Event::StopForced(id)
            | Event::Killed(id)
            | Event::OperatorRuns(id) => *id,
            _ => return Some(event),
        };
        if is_operator(id) {
            return self.unless_operator_sleeps(id, event);
        }
        let process = self.processes.get(&id)?;
        if process.paused_until_ms > self.timeline.now_ms() {
            self.timeline.at(process.paused_until_ms, event);
            return None;
        }
        process.clock.set(self.timeline.now_ms());
        Some(event)
    }

    fn process_starts(&mut self) {
        self.starting = false;
        self.perhaps_deploy();
        let id = self.next_process;
        self.next_process += 1;
        let error_max_ms = self.faults.clock_error_max_ms;
        let error_ms = self.random.below(2 * error_max_ms + 1) as i64 - error_max_ms as i64;
        let log = self.faults.log;
        let mut process = Process::start(
            id,
            (self.root.clone(), self.in_table),
            &self.faults.config,
            log,
            error_ms,
            self.mutant,
            Unread {
                share: self.faults.unread,
                salt: id,
            },
        );
        process.clock.set(self.timeline.now_ms());
        process.candidate = self
            .faults
            .lease_ms
            .map(|lease_ms| Candidate::new(id, lease_ms));
        self.processes.insert(id, process);
        self.record(|| format!("process {id} starts"));
        self.notify_lease(id, LeaseInput::TimeReached);
        self.advance(id);
    }

    /// Ends a process wherever it is. Its requests in flight continue.
    pub(crate) fn crash(&mut self, id: ProcessId, why: &str) {
        let Some(process) = self.processes.remove(&id) else {
            return;
        };
        self.report.crashes += 1;
        self.record(|| format!("process {id} ends: {why}"));
        if let Life::Serving(serving) = process.life {
            let counts = serving.partition.counts();
            self.report.stale_answers += counts.stale_answers;
            self.report.repeated_records += counts.repeated_records;
            self.report.timers_fired += counts.timers_fired;
            self.report.expired += counts.expired;
            self.report.dead_letters += counts.dead_letters;
            self.report.rejected += counts.rejected;
            self.report.loads += counts.loads;
            self.report.evictions += counts.evictions;
            for waiting in serving.waiting.into_values() {
                self.unanswered(waiting);
            }
        }
    }

    /// Handles an owner or candidate that ended by itself.
    pub(crate) fn ended(&mut self, id: ProcessId, error: &LogError) {
        match error.kind() {
            ErrorKind::Fenced => self.report.fenced += 1,
            ErrorKind::Environment => {}
            ErrorKind::Refused | ErrorKind::Bug => {
                let violation = format!("process {id} ended with: {error}");
                self.stage.violations.push(violation);
            }
        }
        self.crash(id, &error.to_string());
    }

    pub(crate) fn record(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!(
                "{:>9} {}{}",
                self.timeline.now_ms() - 1_000_000,
                if self.origin.operations > 0 {
                    "fork: "
                } else {
                    ""
                },
                what()
            ));
        }
    }
}
