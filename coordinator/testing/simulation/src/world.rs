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

use crate::deploys::is_whole;
use crate::egress::Travel;
use crate::forks::Forks;
use crate::functions::Stage;
use crate::lease::{Candidate, Errand};
use crate::mutants::Mutant;
use crate::outside::{Administrator, Caller};
use crate::past::Past;
use crate::process::{Life, Process, ProcessId};
use crate::queue::{Handing, Queue};
use crate::recovery::Unread;
use crate::served::Origin;
use crate::sink::Sink;
use crate::store::{Ask, Objects, Request, Told};
use crate::streams::Streams;
use crate::timeline::{Slot, Timeline};
use crate::truth::Truth;
use crate::visits::{Visits, is_visitor};
use crate::weather::Weather;
use crate::{Failure, Plan, Report};

/// What is to happen.
pub(crate) enum Event {
    /// A request to the store has its effect; nobody is told.
    Effect(Ask),
    /// A request to the store has its effect, and is answered later, if it is.
    Arrives(ProcessId, Request, Fate),
    /// The answer to a request comes back.
    Answered(ProcessId, Request, Result<Told, StoreError>),
    SleepOver(ProcessId, Slot<()>),
    Tell(ProcessId, Input),
    PartitionWakes(ProcessId, u64),
    DispatcherWakes(ProcessId),
    /// A request reaches its functions.
    Runs(ProcessId, Bundle),
    Returns(ProcessId, BundleId, BundleOutcome),
    Reads(ProcessId, String),
    Egress(ProcessId, Travel),
    SendsToQueue,
    Queue(ProcessId, Handing),
    Lease(ProcessId, Errand),
    Appends(usize),
    Reshards,
    Lists(ProcessId),
    CallerActs(usize, u64),
    CallerTiresOf(usize, u64),
    AdministratorActs,
    Trouble,
    ProcessStarts,
    StopForced(ProcessId),
    /// A message has ended the process that read it.
    Killed(ProcessId),
    /// A visitor goes on as far as it can.
    VisitorGoesOn(ProcessId),
    VisitorDies(ProcessId),
    VisitorSleeps(ProcessId, u64),
    Operates,
    ForkIsWanted,
    MakerStarts(usize),
    OwnerComes(usize),
    ForkIsServed(usize),
}

/// What becomes of a request that has reached the store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Answered,
    AnswerLost,
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) weather: Weather,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) timeline: Timeline<Event>,
    pub(crate) processes: BTreeMap<ProcessId, Process>,
    next_process: ProcessId,
    pub(crate) objects: Objects,
    /// The prefix of this world's root in the store.
    pub(crate) root: String,
    pub(crate) origin: Origin,
    pub(crate) visits: Visits,
    pub(crate) past: Past,
    pub(crate) forks: Forks,
    pub(crate) streams: Rc<RefCell<Streams>>,
    pub(crate) sink: Sink,
    pub(crate) queue: Queue,
    /// What stands in the table of leases.
    pub(crate) table: Option<LeaseItem>,
    pub(crate) stage: Stage,
    pub(crate) truth: Truth,
    pub(crate) callers: Vec<Caller>,
    pub(crate) administrator: Administrator,
    pub(crate) next_request: u64,
    pub(crate) next_operation: u64,
    /// Answers that may come once more, to whoever owns the partition then.
    pub(crate) old_answers: Vec<(satchel_engine::address::Address, AttemptId, FromFunction)>,
    pub(crate) calm: bool,
    /// Nothing of the outside asks for anything new.
    pub(crate) ending: bool,
    pub(crate) report: Report,
    pub(crate) trace: Option<Vec<String>>,
    pub(crate) starting: bool,
}

/// When everything begins, in ms.
pub(crate) const BEGINNING_MS: u64 = 1_000_000;

/// More events than any run needs: one that takes more makes no progress.
const EVENTS_MAX: u64 = 400_000;

/// How long the world may take to come to rest once nothing goes wrong, in ms.
const REST_MS: u64 = 900_000;

impl World {
    pub(crate) fn new(plan: &Plan, trace: bool) -> Self {
        let random = Random::new(plan.seed);
        let weather = Weather::draw(&random);
        let streams = Rc::new(RefCell::new(Streams::draw(&random, BEGINNING_MS)));
        let queue = Queue::draw(&random);
        let callers = (0..weather.callers).map(|_| Caller::new(weather.operations));
        let callers = callers.collect();
        let tells_cause = random.chance(500);
        let mut world = Self {
            truth: Truth::new(streams.clone()),
            timeline: Timeline::new(BEGINNING_MS),
            processes: BTreeMap::new(),
            next_process: 1,
            objects: Objects::default(),
            root: "root".to_owned(),
            origin: Origin::default(),
            visits: Visits::default(),
            past: Past::default(),
            forks: Forks::default(),
            streams,
            sink: Sink::new(weather.once.is_some()),
            queue,
            table: None,
            stage: Stage {
                tells_cause,
                ..Stage::default()
            },
            callers,
            administrator: Administrator::default(),
            next_request: 1,
            next_operation: 1,
            old_answers: Vec::new(),
            calm: false,
            ending: false,
            report: Report::default(),
            trace: trace.then(Vec::new),
            starting: false,
            mutant: plan.mutant,
            weather,
            random,
        };
        world.objects.unconditional = plan.mutant == Some(Mutant::UnconditionalCreate);
        world
    }

    /// Runs to the end.
    pub(crate) fn run(&mut self) -> Result<(), Failure> {
        self.begin();
        let storm_ends_ms = self.timeline.now_ms() + self.weather.storm_ms;
        while self.timeline.now_ms() < storm_ends_ms {
            self.next()?;
        }
        self.go_to_rest()
    }

    /// What has to happen once nothing goes wrong any more.
    pub(crate) fn go_to_rest(&mut self) -> Result<(), Failure> {
        self.calm_down();
        self.rest("with what is poisonous")?;
        self.stage.healed = true;
        self.say(|| "everything is healed".to_owned());
        self.administrator.retry_all();
        self.rest("with everything healed")?;
        self.end()?;
        self.check_end();
        self.check_past();
        self.judge()
    }

    pub(crate) fn begin(&mut self) {
        self.say_weather();
        self.timeline.after(0, Event::ProcessStarts);
        let producers = self.streams.borrow().producers();
        for producer in 0..producers {
            let delay_ms = self.random.below(500);
            self.timeline.after(delay_ms, Event::Appends(producer));
        }
        if self.weather.reshard_every_ms > 0 {
            self.timeline.after(1_000, Event::Reshards);
        }
        self.timeline.after(100, Event::SendsToQueue);
        for caller in 0..self.callers.len() {
            let delay_ms = self.random.below(500);
            self.timeline.after(delay_ms, Event::CallerActs(caller, 0));
        }
        self.timeline.after(1_000, Event::AdministratorActs);
        self.operates_later();
        self.wants_forks();
        self.trouble_later();
    }

    fn say_weather(&mut self) {
        if self.trace.is_some() {
            let weather = format!("{:?}", self.weather);
            self.say(|| weather);
        }
    }

    pub(crate) fn trouble_later(&mut self) {
        if self.weather.trouble_every_ms > 0 {
            let delay_ms = 1 + self.random.below(2 * self.weather.trouble_every_ms);
            self.timeline.after(delay_ms, Event::Trouble);
        }
    }

    /// From now on nothing goes wrong by itself.
    pub(crate) fn calm_down(&mut self) {
        self.say(|| "calm".to_owned());
        self.calm = true;
        self.wake_visitors();
        self.deploy_whole();
        self.weather.store = self.weather.store.healed();
        let latency_max_ms = self.weather.requests.latency_max_ms;
        self.weather.requests = crate::weather::RequestFaults {
            latency_max_ms,
            ..Default::default()
        };
        self.weather.ack_lost = 0;
        self.weather.read_again = 0;
        self.weather.abandon = 0;
        for process in self.processes.values_mut() {
            process.paused_until_ms = 0;
        }
        // Who owns the partition goes on. Others would learn that they do not only when they commit, and may have no reason to.
        let claimed = self.objects.claimed_epochs(&self.root);
        let ids: Vec<ProcessId> = self.processes.keys().copied().collect();
        for id in ids {
            let process = self.processes.get(&id);
            let whole = process.is_some_and(|process| is_whole(&process.config));
            let owns = self
                .serving(id)
                .is_some_and(|serving| serving.epoch == claimed);
            if !owns || !whole {
                self.crash(id, "the world calms down");
            }
        }
    }

    /// Waits until everything that is pending is done.
    fn rest(&mut self, how: &str) -> Result<(), Failure> {
        let until_ms = self.timeline.now_ms() + REST_MS;
        let mut looked_at_ms = 0;
        loop {
            self.next()?;
            // Looking costs more than most events do.
            if self.timeline.now_ms() > looked_at_ms + 500 {
                looked_at_ms = self.timeline.now_ms();
                if self.is_at_rest() {
                    return Ok(());
                }
                if looked_at_ms > until_ms {
                    let pending = self.pending();
                    return self.fail(format!("the world does not come to rest {how}: {pending}"));
                }
            }
        }
    }

    fn is_at_rest(&mut self) -> bool {
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
        // Images that were read at the takeover, which the coordinator never does, are not known to be as they are, and are kept.
        let limit = process.config.memory_limit_bytes;
        let limit = limit.filter(|_| self.weather.unread == 1_000);
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
            "{serving:?}, callers {callers}, {} roots to be made, {} letters",
            self.forks.pending(),
            self.truth.dead_letters().len()
        )
    }

    /// An orderly stop, and one more takeover that sees what is durable.
    fn end(&mut self) -> Result<(), Failure> {
        self.ending = true;
        let ids: Vec<ProcessId> = self.processes.keys().copied().collect();
        for id in ids {
            self.tell(id, Input::StopRequested);
        }
        let before = self.report.takeovers;
        let until_ms = self.timeline.now_ms() + 60_000;
        while self.report.takeovers == before {
            self.next()?;
            if self.timeline.now_ms() > until_ms {
                let pending = self.pending();
                return self.fail(format!("there is no last takeover: {pending}"));
            }
        }
        Ok(())
    }

    pub(crate) fn next(&mut self) -> Result<(), Failure> {
        self.report.events += 1;
        if self.report.events > EVENTS_MAX {
            let pending = self.pending();
            return self.fail(format!("there is no end of events: {pending}"));
        }
        // Where there is a lease, another one waits for it.
        let wanted = match self.weather.lease_ms {
            Some(_) if !self.calm => 2,
            _ => 1,
        };
        if self.processes.len() < wanted && !self.starting {
            self.starting = true;
            let delay_ms = 10 + self.random.below(1_000);
            self.timeline.after(delay_ms, Event::ProcessStarts);
        }
        let Some(event) = self.timeline.pop() else {
            return self.fail("nothing happens any more".to_owned());
        };
        self.happen(event);
        self.judge()
    }

    pub(crate) fn judge(&mut self) -> Result<(), Failure> {
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

    fn happen(&mut self, event: Event) {
        let Some(event) = self.unless_paused(event) else {
            return;
        };
        match event {
            Event::Effect(ask) => {
                if let Ask::Create(key, _) = &ask {
                    self.past.lands_late(key);
                }
                self.objects.perform(&ask);
            }
            Event::Arrives(id, request, fate) => self.request_arrives(id, request, fate),
            Event::Answered(id, request, answer) => {
                request.answer.fill(answer);
                self.pump(id);
            }
            Event::SleepOver(id, slot) => {
                slot.fill(());
                self.pump(id);
            }
            Event::Tell(id, input) => self.tell(id, input),
            Event::PartitionWakes(id, at_ms) => self.partition_wakes(id, at_ms),
            Event::DispatcherWakes(id) => self.dispatcher_wakes(id),
            Event::Runs(id, bundle) => self.runs(id, &bundle),
            Event::Returns(id, bundle, outcome) => self.returns(id, bundle, outcome),
            Event::Reads(id, shard) => self.reads(id, &shard),
            Event::Egress(id, travel) => self.travels(id, travel),
            Event::SendsToQueue => self.sends_to_queue(),
            Event::Queue(id, handing) => self.hands(id, handing),
            Event::Lease(id, errand) => self.runs_errand(id, errand),
            Event::Appends(producer) => self.appends(producer),
            Event::Reshards => self.reshards(),
            Event::Lists(id) => self.lists(id),
            Event::CallerActs(caller, turn) => self.caller_acts(caller, turn),
            Event::CallerTiresOf(caller, turn) => self.caller_tires(caller, turn),
            Event::AdministratorActs => self.administrator_acts(),
            Event::Trouble => self.trouble(),
            Event::ProcessStarts => self.process_starts(),
            Event::StopForced(id) => self.tell(id, Input::StopForced),
            Event::Killed(id) => self.crash(id, "a message killed it"),
            Event::VisitorGoesOn(id) => self.pump(id),
            Event::VisitorDies(id) => self.visitor_dies(id),
            Event::VisitorSleeps(id, ms) => self.visitor_sleeps(id, ms),
            Event::Operates => self.operates(),
            Event::ForkIsWanted => self.fork_is_wanted(),
            Event::MakerStarts(fork) => self.maker_starts(fork),
            Event::OwnerComes(fork) => self.owner_comes(fork),
            Event::ForkIsServed(fork) => self.fork_is_served(fork),
        }
    }

    /// Puts off what a paused process would do now.
    fn unless_paused(&mut self, event: Event) -> Option<Event> {
        let id = match &event {
            Event::Egress(
                id,
                Travel::Told(..) | Travel::Looked(..) | Travel::Confirmed(..) | Travel::Wakes(_),
            )
            | Event::Queue(
                id,
                Handing::Asks | Handing::Received(..) | Handing::Told(..) | Handing::Wakes(_),
            )
            | Event::Lease(id, Errand::Told(..) | Errand::Wakes(_))
            | Event::Answered(id, ..)
            | Event::SleepOver(id, _)
            | Event::Tell(id, _)
            | Event::PartitionWakes(id, _)
            | Event::DispatcherWakes(id)
            | Event::Returns(id, ..)
            | Event::Reads(id, _)
            | Event::Lists(id)
            | Event::StopForced(id)
            | Event::Killed(id)
            | Event::VisitorGoesOn(id) => *id,
            _ => return Some(event),
        };
        if is_visitor(id) {
            return self.unless_visitor_sleeps(id, event);
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
        let error_max_ms = self.weather.clock_error_max_ms;
        let error_ms = self.random.below(2 * error_max_ms + 1) as i64 - error_max_ms as i64;
        let log = self.weather.log;
        let mut process = Process::start(
            id,
            self.root.clone(),
            &self.weather.config,
            log,
            error_ms,
            self.mutant,
            Unread {
                share: self.weather.unread,
                salt: id,
            },
        );
        process.clock.set(self.timeline.now_ms());
        process.candidate = self
            .weather
            .lease_ms
            .map(|lease_ms| Candidate::new(id, lease_ms));
        self.processes.insert(id, process);
        self.say(|| format!("process {id} starts"));
        self.tell_lease(id, LeaseInput::TimeReached);
        self.pump(id);
    }

    /// A process ends wherever it is. What it has sent travels on.
    pub(crate) fn crash(&mut self, id: ProcessId, why: &str) {
        let Some(process) = self.processes.remove(&id) else {
            return;
        };
        self.report.crashes += 1;
        self.say(|| format!("process {id} ends: {why}"));
        if let Life::Serving(serving) = process.life {
            let counts = serving.partition.counts();
            self.report.stale_answers += counts.stale_answers;
            self.report.repeated_records += counts.repeated_records;
            self.report.timers_fired += counts.timers_fired;
            self.report.expired += counts.expired;
            self.report.dead_letters += counts.dead_letters;
            self.report.loads += counts.loads;
            self.report.evictions += counts.evictions;
            for waiting in serving.waiting.into_values() {
                self.unanswered(waiting);
            }
        }
    }

    /// An owner or would-be owner ended by itself.
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

    pub(crate) fn say(&mut self, what: impl FnOnce() -> String) {
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
