//! The loop around a partition: facts in, imperatives carried out. It mirrors the coordinator's own, with virtual time in place of tasks.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::FutureExt;
use satchel_engine::dispatcher::{DispatcherInput, DispatcherOutput};
use satchel_engine::input::{Input, Verb};
use satchel_engine::invocation::{Batch, EndpointIndex};
use satchel_engine::output::{Answer, BucketImage, Delta, Output};
use satchel_log::{Application, At, Source, read};
use satchel_storage::fork::Refusal;
use satchel_storage::pump::{DecodeJob, Observation, Reaction};

use crate::durable::DurableFacts;
use crate::egress::Egress;
use crate::mutants::Mutant;
use crate::mutants::storage::mutate_delta;
use crate::process::{Life, ProcessId, Serving, expiry};
use crate::queue::Receiving;
use crate::store::{MachineClock, Still};
use crate::world::{Event, World};

/// The calendar clock may be set, so no wait is longer than this, in ms.
const WAIT_MAX_MS: u64 = 2_000;

impl World {
    /// Lets a process do all that it can do now.
    pub(crate) fn pump(&mut self, id: ProcessId) {
        loop {
            let went_on = match self.processes.get(&id).map(|process| &process.life) {
                None => self.visit_on(id),
                Some(Life::TakingOver(_)) if self.waits_for_lease(id) => return,
                Some(Life::TakingOver(_)) => self.take_over_on(id),
                Some(Life::Serving(_)) => self.drive_on(id) | self.round(id),
            };
            self.dispatch_asked(id);
            if !went_on {
                return;
            }
        }
    }

    pub(crate) fn tell(&mut self, id: ProcessId, input: Input) {
        if self.serving(id).is_some() {
            if let Input::CallReceived(call) = &input
                && call.verb == Verb::Send
            {
                let request = call.request;
                if self.mutant == Some(Mutant::ReplyEarly) {
                    self.reply(id, request, Answer::Accepted);
                }
            }
            if let Some(serving) = self.serving(id) {
                serving.facts.push(input);
            }
            self.pump(id);
        } else if matches!(input, Input::StopRequested) {
            self.crash(id, "it was stopped while it took over");
        }
    }

    pub(crate) fn serving(&mut self, id: ProcessId) -> Option<&mut Serving> {
        self.processes.get_mut(&id)?.serving()
    }

    fn take_over_on(&mut self, id: ProcessId) -> bool {
        let Some(process) = self.processes.get_mut(&id) else {
            return false;
        };
        let Life::TakingOver(taking) = &mut process.life else {
            return false;
        };
        let Poll::Ready(result) = poll(taking.as_mut()) else {
            return false;
        };
        let (ownership, recovery) = match result {
            Ok(taken_over) => taken_over,
            Err(Refusal::Log(error)) => {
                self.ended(id, &error);
                return false;
            }
            Err(refusal) => {
                let violation = format!("process {id} finds its root unfinished: {refusal}");
                self.stage.violations.push(violation);
                return false;
            }
        };
        let clock = process.clock.clone();
        let recovered = self.look(clock).and_then(|durable| {
            let recovery = recovery.finish(&durable.facts);
            recovery.map_or_else(|problem| Err(problem.to_string()), |it| Ok((it, durable)))
        });
        let (recovery, durable) = match recovered {
            Ok(recovered) => recovered,
            Err(problem) => {
                self.stage.violations.push(problem);
                return false;
            }
        };
        let Some(process) = self.processes.get_mut(&id) else {
            return false;
        };
        let epoch = ownership.owner.epoch;
        self.report.takeovers += 1;
        self.report.void += ownership.recovery.void;
        self.report.clean += u64::from(ownership.clean && epoch > 1);
        self.truth.took_over(epoch, &durable.facts);
        let now_ms = process.clock.wall_ms();
        let timing = self.weather.once_of(id);
        let visibility_ms = self.queue.visibility_ms();
        let clean = ownership.clean;
        let manifest = ownership.recovery.manifest;
        let mut serving = Serving::start(ownership, recovery, &durable, &process.config, now_ms);
        serving.egress = Egress::start(
            &serving.partition,
            timing,
            self.mutant,
            self.timeline.now_ms(),
            id,
        );
        serving.receiving = Receiving::new(visibility_ms);
        process.life = Life::Serving(Box::new(serving));
        self.say(|| {
            format!(
                "process {id} takes over as epoch {epoch}, clean {clean}, manifest {manifest:?}"
            )
        });
        self.tell_lifted(id);
        self.finds_the_stream(id);
        self.finds_the_queue(id);
        self.begins_to_emit(id);
        // The first round takes up what the last owner left.
        self.round(id);
        true
    }

    /// Reads all that is durable, from outside of all processes. Just after a takeover that is what the takeover found: its owner has written
    /// nothing yet, and nobody after it matters.
    fn look(&self, clock: MachineClock) -> Result<DurableFacts, String> {
        let config = &self.weather.config;
        let source = Source {
            store: Arc::new(Still::new(&self.objects)),
            root: self.root.clone(),
            clock: Arc::new(clock),
            retry: self.weather.log.retry,
            on_trouble: Arc::new(|_| {}),
        };
        let record = format!("{}/application", self.root);
        let record = self.objects.objects.get(&record);
        let record = record.ok_or("the root has no application")?;
        let application = Application::decode(record).map_err(|defect| defect.to_string())?;
        let mut everything = DurableFacts::default();
        let read = read(
            &source,
            &application,
            config.partition,
            At::Latest,
            &mut everything,
        );
        match read.now_or_never() {
            Some(Ok(_)) => everything.problem.take().map_or(Ok(everything), Err),
            Some(Err(error)) => Err(format!("what is durable can not be read: {error}")),
            None => Err("reading what is durable waits for something".to_owned()),
        }
    }

    /// Lets the log go on, and takes its notices.
    fn drive_on(&mut self, id: ProcessId) -> bool {
        let now = self.monotonic();
        let Some(serving) = self.serving(id) else {
            return false;
        };
        let ended = serving
            .driver
            .as_mut()
            .and_then(|driver| match poll(driver.as_mut()) {
                Poll::Ready(ended) => Some(ended),
                Poll::Pending => None,
            });
        let epoch = serving.epoch;
        let mut durable = Vec::new();
        let mut facts = Vec::new();
        let mut jobs = Vec::new();
        let mut snapshots = 0;
        while let Ok(notice) = serving.notices.try_recv() {
            let (reaction, observed) = serving.pump.on_notice(now, notice);
            match reaction {
                Reaction::Tell(fact) => facts.push(fact),
                Reaction::Decode(job) => jobs.push(job),
                Reaction::Nothing => {}
            }
            match observed {
                Some(Observation::Committed(deltas)) => {
                    durable.extend(deltas.iter().map(|delta| delta.number));
                }
                Some(Observation::SnapshotTaken(_)) => snapshots += 1,
                Some(Observation::DeletionBlocked(_) | Observation::Retrying(_)) | None => {}
            }
        }
        if self.mutant == Some(Mutant::ReleaseBeforeCommit) {
            facts.retain(|fact| !matches!(fact, Input::CommitDurable { .. }));
        }
        let went_on = !facts.is_empty();
        if let Some(serving) = self.serving(id) {
            serving.facts.append(&mut facts);
        }
        for job in jobs {
            self.decode(id, job);
        }
        self.report.snapshots += snapshots;
        for sequence in durable {
            self.say(|| format!("epoch {epoch}: delta {sequence} is durable"));
            self.truth.durable(epoch, sequence);
        }
        match ended {
            None => went_on,
            Some(Ok(())) => {
                self.release_lease(id);
                self.crash(id, "it has stopped");
                false
            }
            Some(Err(error)) => {
                if self.mutant == Some(Mutant::IgnoreFence)
                    && let Some(serving) = self.serving(id)
                {
                    serving.driver = None;
                    serving.broken.fenced = true;
                    let number = serving.broken.sealed;
                    serving.facts.push(Input::CommitDurable { number });
                    return true;
                }
                // What was reported before it ended may still be released.
                self.round(id);
                self.ended(id, &error);
                false
            }
        }
    }

    /// Hands in what has happened and does what is wanted then.
    fn round(&mut self, id: ProcessId) -> bool {
        let Some(process) = self.processes.get_mut(&id) else {
            return false;
        };
        let now_ms = process.clock.wall_ms();
        let Some(serving) = process.serving() else {
            return false;
        };
        let facts = std::mem::take(&mut serving.facts);
        if serving.stopped {
            return false;
        }
        let some = !facts.is_empty();
        let tracing = self.trace.is_some();
        for fact in facts {
            if tracing {
                let said = format!("process {id} <- {}", brief(&fact));
                self.say(|| said);
            }
            let Some(serving) = self.serving(id) else {
                return false;
            };
            if let Input::InvocationCompleted { attempt, .. }
            | Input::InvocationFailed { attempt, .. } = &fact
            {
                serving.flights.retain(|_, flying| flying != attempt);
            }
            serving.stops |= matches!(fact, Input::StopRequested | Input::StopForced);
            self.check_paused(id, &fact);
            let Some(serving) = self.serving(id) else {
                return false;
            };
            serving.partition.handle_input(now_ms, fact);
        }
        let mut any = false;
        while let Some(output) = self
            .serving(id)
            .and_then(|serving| serving.partition.poll_output())
        {
            any = true;
            self.perform(id, output, now_ms);
        }
        self.check_bounds(id);
        some || any
    }

    fn perform(&mut self, id: ProcessId, output: Output, now_ms: u64) {
        if self.trace.is_some() {
            let said = format!("process {id} -> {}", brief_output(&output));
            self.say(|| said);
        }
        self.check_held(id, &output);
        match output {
            Output::Invoke { endpoint, batch } => self.invoke(id, endpoint, batch, now_ms),
            Output::Commit(delta) => self.commit(id, *delta),
            Output::Image(image) => self.image(id, image),
            output @ (Output::LoadBucket { .. } | Output::SnapshotWanted) => {
                self.hand_to_log(id, output);
            }
            Output::Emit(emissions) => self.emit(id, emissions),
            Output::MarksDurable { .. } => self.notes_are_durable(id),
            Output::Reply { request, answer } => self.reply(id, request, answer),
            output @ (Output::Read { .. } | Output::Plan { .. }) => self.read_as_told(id, output),
            Output::Receive { .. } => self.receive_as_told(id),
            Output::Deletable { ids, .. } => self.taken(id, &ids),
            Output::PauseIngress => self.pause_ingress(id, true),
            Output::ResumeIngress => self.pause_ingress(id, false),
            Output::WakeAt(due_ms) => {
                if let Some(serving) = self.serving(id) {
                    serving.wake_at_ms = Some(due_ms);
                }
                let wait_ms = due_ms.saturating_sub(now_ms).min(WAIT_MAX_MS);
                self.timeline
                    .after(wait_ms, Event::PartitionWakes(id, due_ms));
            }
            Output::Stopped => {
                if let Some(serving) = self.serving(id) {
                    serving.stopped = true;
                    serving.log = None;
                }
            }
        }
    }

    fn pause_ingress(&mut self, id: ProcessId, paused: bool) {
        let ignored = self.mutant == Some(Mutant::IgnorePause);
        if let Some(serving) = self.serving(id) {
            serving.reading.paused = paused && !ignored;
        }
    }

    pub(crate) fn partition_wakes(&mut self, id: ProcessId, at_ms: u64) {
        let Some(serving) = self.serving(id) else {
            return;
        };
        if serving.wake_at_ms != Some(at_ms) {
            return;
        }
        // It may be too early: after the longest wait, and when the calendar was set back meanwhile.
        serving.wake_at_ms = None;
        self.tell(id, Input::TimeReached);
    }

    fn invoke(&mut self, id: ProcessId, endpoint: EndpointIndex, batch: Arc<Batch>, now_ms: u64) {
        self.check_expired(id, &batch, now_ms);
        let Some(serving) = self.serving(id) else {
            return;
        };
        let before = serving.flights.insert(batch.target.clone(), batch.attempt);
        if let Some(before) = before {
            let violation = format!(
                "{} has the attempts {before} and {} in flight",
                batch.target, batch.attempt
            );
            self.stage.violations.push(violation);
        }
        self.apply_twice(id, &batch);
        self.dispatch(id, Some(DispatcherInput::BatchReady { endpoint, batch }));
    }

    /// An expired value is never given to a function.
    fn check_expired(&mut self, id: ProcessId, batch: &Batch, now_ms: u64) {
        let written = batch.state.iter().find(|state| &*state.name == "written");
        let Some((_, value)) = written.and_then(|state| state.value.as_ref()) else {
            return;
        };
        let value = String::from_utf8_lossy(value).into_owned();
        let expiry = self
            .serving(id)
            .and_then(|serving| serving.expiries.get(&value).copied());
        let expired = expiry.filter(|at_ms| *at_ms <= now_ms);
        if let Some(at_ms) = expired {
            let violation = format!(
                "{} is given {value}, which expired at {at_ms}, at {now_ms}",
                batch.target
            );
            self.stage.violations.push(violation);
        }
    }

    pub(crate) fn dispatcher_wakes(&mut self, id: ProcessId) {
        self.dispatch(id, Some(DispatcherInput::TimeReached));
        self.pump(id);
    }

    pub(crate) fn dispatch(&mut self, id: ProcessId, input: Option<DispatcherInput>) {
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        let now_ms = process.clock.wall_ms();
        let Some(serving) = process.serving() else {
            return;
        };
        if let Some(input) = input {
            serving.dispatcher.handle_input(now_ms, input);
        }
        while let Some(output) = self
            .serving(id)
            .and_then(|serving| serving.dispatcher.poll_output())
        {
            match output {
                DispatcherOutput::Send(bundle) => self.send(id, bundle),
                DispatcherOutput::Completed { attempt, answer } => {
                    self.completed(id, attempt, answer);
                }
                DispatcherOutput::Failed { attempt, failure } => {
                    if let Some(serving) = self.serving(id) {
                        serving
                            .facts
                            .push(Input::InvocationFailed { attempt, failure });
                    }
                }
                DispatcherOutput::WakeAt(due_ms) => {
                    let wait_ms = due_ms.saturating_sub(now_ms).min(WAIT_MAX_MS);
                    self.timeline.after(wait_ms, Event::DispatcherWakes(id));
                }
            }
        }
    }

    fn commit(&mut self, id: ProcessId, delta: Delta) {
        let mutant = self.mutant;
        let buckets = self.weather.config.buckets;
        let Some(serving) = self.serving(id) else {
            return;
        };
        if serving.stopped {
            let violation = format!(
                "process {id} seals delta {} after it has stopped",
                delta.number
            );
            self.stage.violations.push(violation);
            return;
        }
        let expiries = delta
            .changes
            .iter()
            .filter_map(|change| expiry(&change.key, change.value.as_ref()?));
        serving.expiries.extend(expiries);
        let number = delta.number;
        let first = number == 1 && serving.epoch == 1;
        let delta = mutate_delta(mutant, delta, first);
        serving.broken.sealed = number;
        let early = mutant == Some(Mutant::ReleaseBeforeCommit) || serving.broken.fenced;
        if early {
            serving.facts.push(Input::CommitDurable { number });
        }
        if mutant == Some(Mutant::DropDirty) {
            let images = (0..buckets).map(|bucket| (bucket, number)).collect();
            serving.facts.push(Input::SnapshotTaken(images));
        }
        let epoch = serving.epoch;
        let held = std::mem::take(&mut serving.broken.storage.held_images);
        self.hand_to_log(id, Output::Commit(Box::new(delta.clone())));
        for mut image in held {
            image.delta = number;
            self.hand_to_log(id, Output::Image(Box::new(image)));
        }
        self.truth.sealed(epoch, Rc::new(delta));
    }

    fn image(&mut self, id: ProcessId, image: Box<BucketImage>) {
        let holds = self.mutant == Some(Mutant::ImageTooOld);
        match self.serving(id) {
            Some(serving) if holds => serving.broken.storage.held_images.push(*image),
            _ => self.hand_to_log(id, Output::Image(image)),
        }
    }

    /// Translates an output with the pump, unless the process has dropped its log.
    fn hand_to_log(&mut self, id: ProcessId, output: Output) {
        let now = self.monotonic();
        if let Some(serving) = self.serving(id)
            && let Some(log) = &serving.log
        {
            match serving.pump.perform(now, output) {
                Ok(command) => command.send(log),
                Err(output) => unreachable!("the log does not perform {output:?}"),
            }
        }
    }

    /// Time for the pump, which measures durations.
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.timeline.now_ms())
    }

    /// Decodes a bucket at once. Another thread may take a while, so the partition is told late.
    fn decode(&mut self, id: ProcessId, job: DecodeJob) {
        let mutant = self.mutant;
        let Some(serving) = self.serving(id) else {
            return;
        };
        let Some(job) = serving.broken.storage.mutate_job(mutant, job) else {
            return;
        };
        match job.run() {
            Ok(input) => {
                let late = self.random.chance(200);
                let delay_ms = self.random.below(if late { 3_000 } else { 30 });
                // It comes twice, the second time when nobody waits for it any more.
                let twice = self.random.chance(50);
                let again = twice.then(|| (delay_ms + self.random.below(5_000), input.clone()));
                self.timeline.after(delay_ms, Event::Tell(id, input));
                if let Some((later_ms, again)) = again {
                    self.timeline.after(later_ms, Event::Tell(id, again));
                }
            }
            Err(problem) => self.stage.violations.push(problem.to_string()),
        }
    }
}

/// Polls a future once; who waits is found by polling again.
fn poll<T>(future: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// One line about an input, for the trace.
fn brief(input: &Input) -> String {
    let mut said = format!("{input:?}");
    shorten(&mut said);
    said
}

fn brief_output(output: &Output) -> String {
    let mut said = format!("{output:?}");
    shorten(&mut said);
    said
}

fn shorten(said: &mut String) {
    const LENGTH_MAX: usize = 600;
    if let Some((at, _)) = said.char_indices().nth(LENGTH_MAX) {
        said.truncate(at);
        said.push('…');
    }
}
