//! Rounds of an owner: facts in, outputs performed, functions invoked, records read.

use std::rc::Rc;
use std::time::Duration;

use satchel_engine::dispatcher::{DispatcherInput, DispatcherOutput};
use satchel_engine::durable::{Key, Value};
use satchel_engine::input::{Input, Record};
use satchel_engine::invocation::{Bundle, BundleId, BundleOutcome, Failure, FailureKind};
use satchel_engine::output::{Delta, Output};
use satchel_engine::position::ShardPosition;

use super::functions::{address, run};
use super::moving::{RECORDS_OF, STREAM};
use super::owners::{Owner, record_target, shard_of};
use super::{Event, PeersWorld};
use crate::functions::text;
use crate::process::ProcessId;

/// Maximum wait in ms. The calendar may be set meanwhile.
const WAIT_MAX_MS: u64 = 2_000;

/// Time at which calendars begin, in ms since the epoch.
const CALENDAR_MS: u64 = 1_700_000_000_000;

impl PeersWorld {
    /// Hands all facts to a partition and performs its outputs.
    pub(super) fn round(&mut self, id: ProcessId) -> bool {
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
                    self.client_answered(waiting, &answer);
                }
            }
            Output::Read { shard, after } if &*shard.stream == STREAM => {
                self.starts_shard(id, &shard.shard, &after);
            }
            Output::Read { after, .. } => self.start_reading(id, &after),
            Output::Plan { applied, .. } => self.planned(id, applied),
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
            | Output::Receive { .. }
            | Output::Deletable { .. }
            | Output::SetIngressPause { .. }) => {
                self.violations
                    .push(format!("an unexpected output: {output:?}"));
            }
        }
    }

    /// Says for a partition that it has too many messages for others. All owners hear of it.
    pub(super) fn say_congested(&mut self, partition: u32, congested: bool) {
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
                DispatcherOutput::Send(bundle) => self.invoke(id, &bundle),
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
    fn invoke(&mut self, id: ProcessId, bundle: &Bundle) {
        self.report.bundles += 1;
        let mut broken = Vec::new();
        let delay_ms = 1 + self.random.below(self.plan.latency_max_ms);
        let outcome = if self.random.chance(self.plan.failed) {
            let failure = Failure::new(FailureKind::Unavailable, "port is closed");
            BundleOutcome::Failed(failure)
        } else {
            let results = bundle.batches.iter().map(|batch| {
                let outcome = if self.random.chance(self.plan.failed) {
                    Err(Failure::new(FailureKind::Function, "it failed"))
                } else {
                    Ok(run(batch, &mut broken))
                };
                (batch.attempt, outcome)
            });
            BundleOutcome::Answered(results.collect())
        };
        if !self.owns(id) {
            // A former owner may get a record whose predecessors another partition has forwarded to
            // its successor. Nothing of what it does with it counts.
            broken.retain(|violation| !violation.contains(RECORDS_OF));
        }
        self.violations.append(&mut broken);
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
