//! The loop around a partition, with virtual time in place of tasks. Between the partition and its
//! log runs production's pump.

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
use satchel_log::{Application, At, Notice, Source, read};
use satchel_storage::fork::Refusal;
use satchel_storage::pump::{DecodeJob, Observation, Reaction};

use crate::clocks::Clocks;
use crate::durable::DurableFacts;
use crate::egress::Egress;
use crate::fault_plan::LINGER_MAX_MS;
use crate::mutants::Mutant;
use crate::mutants::storage::mutate_delta;
use crate::process::{Life, ProcessId, Serving, expiry};
use crate::queue::Receiving;
use crate::store::MachineClock;
use crate::world::{Event, World};

/// Maximum wait in ms. The calendar clock may be set meanwhile.
const WAIT_MAX_MS: u64 = 2_000;

impl World {
    /// Lets a process do durable that it can do now.
    pub(crate) fn advance(&mut self, id: ProcessId) {
        loop {
            let progressed = match self.processes.get(&id).map(|process| &process.life) {
                None => self.advance_operator(id),
                Some(Life::TakingOver(_)) if self.waits_for_lease(id) => return,
                Some(Life::TakingOver(_)) => self.take_over_on(id),
                Some(Life::Serving(_)) => self.drive_log(id) | self.round(id),
            };
            self.dispatch_outgoing(id);
            if !progressed {
                return;
            }
        }
    }

    pub(crate) fn notify(&mut self, id: ProcessId, input: Input) {
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
            self.advance(id);
        } else if matches!(input, Input::StopRequested) {
            self.crash(id, "it was stopped during its takeover");
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
        let recovered =
            self.read_durable(clock)
                .and_then(|durable| match recovery.finish(&durable.facts) {
                    Ok(recovery) => Ok((recovery, durable)),
                    Err(problem) => Err(problem.to_string()),
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
        let clocks = Clocks::start(&process.clock, ownership.committed_at_ms, self.mutant);
        let now_ms = process.clock.wall_ms();
        let timing = self.faults.exactly_once_of(id);
        let visibility_ms = self.queue.visibility_ms();
        let clean = ownership.clean;
        let manifest = ownership.recovery.manifest;
        let mut serving = Serving::start(
            ownership,
            recovery,
            &durable,
            &process.config,
            clocks,
            now_ms,
        );
        serving.egress = Egress::start(
            &serving.partition,
            &self.faults,
            timing,
            self.mutant,
            self.timeline.now_ms(),
            id,
        );
        serving.receiving = Receiving::new(visibility_ms);
        process.life = Life::Serving(Box::new(serving));
        self.record(|| {
            format!(
                "process {id} takes over as epoch {epoch}, clean {clean}, manifest {manifest:?}"
            )
        });
        self.check_pause(id);
        self.notify_lifted(id);
        self.report_stream(id);
        self.report_queue(id);
        self.start_egress(id);
        // The first round takes up what the last owner left.
        self.round(id);
        true
    }

    /// Reads durable durable directly from the store. Just after a takeover this equals what the
    /// takeover read: its owner has not written yet, and later owners do not matter.
    fn read_durable(&self, clock: MachineClock) -> Result<DurableFacts, String> {
        let config = &self.faults.config;
        let source = Source {
            store: self.still(),
            root: self.root.clone(),
            clock: Arc::new(clock),
            retry: self.faults.log.retry,
            on_store_failure: Arc::new(|_| {}),
        };
        let record = format!("{}/application", self.root);
        let record = self.objects.objects.get(&record);
        let record = record.ok_or("the root has no application")?;
        let application = Application::decode(record).map_err(|defect| defect.to_string())?;
        let mut durable = DurableFacts::default();
        let read = read(
            &source,
            &application,
            config.partition,
            At::Latest,
            &mut durable,
        );
        match read.now_or_never() {
            Some(Ok(_)) => durable.problem.take().map_or(Ok(durable), Err),
            Some(Err(error)) => Err(format!("the durable state cannot be read: {error}")),
            None => Err("reading the durable state waits for something".to_owned()),
        }
    }

    /// Drives the log and handles its notices.
    fn drive_log(&mut self, id: ProcessId) -> bool {
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
            // The truth listens to the log itself, not to the pump.
            if let Notice::Durable { sequence, .. } = &notice {
                durable.push(*sequence);
            }
            let (reaction, observed) = serving.pump.on_notice(now, notice);
            match reaction {
                Reaction::Tell(fact) => facts.push(fact),
                Reaction::Decode(job) => jobs.push(job),
                Reaction::Nothing => {}
            }
            snapshots += u64::from(matches!(observed, Some(Observation::SnapshotTaken(_))));
        }
        if self.mutant == Some(Mutant::ReleaseBeforeCommit) {
            facts.retain(|fact| !matches!(fact, Input::CommitDurable { .. }));
        }
        let progressed = !facts.is_empty();
        if let Some(serving) = self.serving(id) {
            serving.facts.append(&mut facts);
        }
        for job in jobs {
            self.decode(id, job);
        }
        self.report.snapshots += snapshots;
        for sequence in durable {
            self.record(|| format!("epoch {epoch}: delta {sequence} is durable"));
            self.truth.durable(epoch, sequence);
            self.check_attempts();
        }
        match ended {
            None => progressed,
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
                    serving.mutants.fenced = true;
                    let number = serving.mutants.sealed;
                    serving.facts.push(Input::CommitDurable { number });
                    return true;
                }
                // What was reported durable before the end may still be released.
                self.round(id);
                self.ended(id, &error);
                false
            }
        }
    }

    /// Hands all facts to the partition and performs its outputs.
    fn round(&mut self, id: ProcessId) -> bool {
        let Some(process) = self.processes.get_mut(&id) else {
            return false;
        };
        let Some((now_ms, broken)) = process.partition_ms(self.mutant) else {
            return false;
        };
        self.stage.violations.extend(broken);
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
                let line = format!("process {id} <- {}", brief(&fact));
                self.record(|| line);
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
            let line = format!("process {id} -> {}", brief_output(&output));
            self.record(|| line);
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
            Output::MarksDurable { .. } => self.egress_marks_durable(id),
            Output::Reply { request, answer } => self.reply(id, request, answer),
            output @ (Output::Read { .. } | Output::Plan { .. }) => self.handle_reading(id, output),
            Output::Receive { .. } => self.start_receiving(id),
            Output::Deletable { ids, .. } => self.delete_from_queue(id, &ids),
            Output::PauseIngress => self.pause_ingress(id, true),
            Output::ResumeIngress => self.pause_ingress(id, false),
            // These worlds pause all ingresses together.
            Output::SetIngressPause { .. } => {}
            output @ (Output::PeerFrame { .. }
            | Output::PeerAnswer { .. }
            | Output::PeerClose { .. }
            | Output::PeerDamaged { .. }
            | Output::Congested(_)) => unreachable!("a world of one partition: {output:?}"),
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
        // The wake-up may be early: after the maximum wait, or because the calendar was set back.
        serving.wake_at_ms = None;
        self.notify(id, Input::TimeReached);
    }

    fn invoke(&mut self, id: ProcessId, endpoint: EndpointIndex, batch: Arc<Batch>, now_ms: u64) {
        self.check_expired(id, &batch, now_ms);
        if batch.messages.is_empty() {
            // A probe, beside the attempt in flight.
            if self.mutant != Some(Mutant::ForgetFunctionProbe) {
                self.dispatch(id, Some(DispatcherInput::BatchReady { endpoint, batch }));
            }
            return;
        }
        let Some(serving) = self.serving(id) else {
            return;
        };
        let before = serving.flights.insert(batch.target.clone(), batch.attempt);
        if let Some(before) = before {
            let violation = format!(
                "{} has two attempts in flight, {before} and {}",
                batch.target, batch.attempt
            );
            self.stage.violations.push(violation);
        }
        self.apply_twice(id, &batch);
        self.note_ready(id, endpoint, batch.attempt);
        self.dispatch(id, Some(DispatcherInput::BatchReady { endpoint, batch }));
    }

    /// Checks that a function never receives an expired value.
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
                "{} receives {value} at {now_ms}, which expired at {at_ms}",
                batch.target
            );
            self.stage.violations.push(violation);
        }
    }

    pub(crate) fn dispatcher_wakes(&mut self, id: ProcessId) {
        self.dispatch(id, Some(DispatcherInput::TimeReached));
        self.advance(id);
    }

    pub(crate) fn dispatch(&mut self, id: ProcessId, input: Option<DispatcherInput>) {
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        let Some((now_ms, broken)) = process.dispatcher_ms(self.mutant) else {
            return;
        };
        self.stage.violations.extend(broken);
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
                DispatcherOutput::Send(bundle) => {
                    self.note_sent(id, &bundle);
                    self.send(id, bundle);
                }
                DispatcherOutput::Abandon(bundle) => self.note_abandoned(id, bundle),
                DispatcherOutput::Completed { attempt, answer } => {
                    self.completed(id, attempt, answer);
                }
                DispatcherOutput::Failed { attempt, failure } => self.failed(id, attempt, failure),
                DispatcherOutput::WakeAt(due_ms) => {
                    let wait_ms = due_ms.saturating_sub(now_ms).min(WAIT_MAX_MS);
                    let forgets = match self.mutant {
                        Some(Mutant::ForgetProbe) => self.has_endpoint_down(id),
                        Some(Mutant::LingerForever) => wait_ms <= LINGER_MAX_MS,
                        _ => false,
                    };
                    let later_ms = if forgets { 10_000 } else { 0 };
                    let wait_ms = wait_ms + later_ms;
                    self.timeline.after(wait_ms, Event::DispatcherWakes(id));
                }
            }
        }
        self.note_waiting(id);
    }

    fn commit(&mut self, id: ProcessId, delta: Delta) {
        let mutant = self.mutant;
        let buckets = self.faults.config.placement.buckets();
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
        self.check_lifetimes(id, &delta);
        let Some(serving) = self.serving(id) else {
            return;
        };
        let number = delta.number;
        let first = number == 1 && serving.epoch == 1;
        let delta = mutate_delta(mutant, delta, first);
        serving.mutants.sealed = number;
        let early = mutant == Some(Mutant::ReleaseBeforeCommit) || serving.mutants.fenced;
        if early {
            serving.facts.push(Input::CommitDurable { number });
        }
        if mutant == Some(Mutant::DropDirty) {
            let images = (0..buckets).map(|bucket| (bucket, number)).collect();
            serving.facts.push(Input::SnapshotTaken(images));
        }
        let epoch = serving.epoch;
        let held = std::mem::take(&mut serving.mutants.storage.held_images);
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
            Some(serving) if holds => serving.mutants.storage.held_images.push(*image),
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

    /// Decodes a bucket at once. Another thread may take a while, so the partition receives the
    /// result later.
    fn decode(&mut self, id: ProcessId, job: DecodeJob) {
        let mutant = self.mutant;
        let Some(serving) = self.serving(id) else {
            return;
        };
        let Some(job) = serving.mutants.storage.mutate_job(mutant, job) else {
            return;
        };
        match job.run() {
            Ok(input) => {
                let late = self.random.chance(200);
                let delay_ms = self.random.below(if late { 3_000 } else { 30 });
                // The result may arrive twice, the second time when the partition no longer waits
                // for it.
                let twice = self.random.chance(50);
                let again = twice.then(|| (delay_ms + self.random.below(5_000), input.clone()));
                self.timeline.after(delay_ms, Event::Notify(id, input));
                if let Some((later_ms, again)) = again {
                    self.timeline.after(later_ms, Event::Notify(id, again));
                }
            }
            Err(problem) => self.stage.violations.push(problem.to_string()),
        }
    }
}

/// Polls a future once. The world polls waiting futures again, so the waker does nothing.
fn poll<T>(future: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Returns one line about an input, for the trace.
pub(crate) fn brief(input: &Input) -> String {
    let mut line = format!("{input:?}");
    shorten(&mut line);
    line
}

pub(crate) fn brief_output(output: &Output) -> String {
    let mut line = format!("{output:?}");
    shorten(&mut line);
    line
}

fn shorten(line: &mut String) {
    const LENGTH_MAX: usize = 600;
    if let Some((at, _)) = line.char_indices().nth(LENGTH_MAX) {
        line.truncate(at);
        line.push('…');
    }
}
