//! A fork at work: a world of its own that begins with the durable state of its origin, held until
//! a person lifts the hold.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use satchel_engine::durable::{Key, Value};
use satchel_engine::input::Input;
use satchel_engine::output::Output;
use satchel_engine::placement::Placement;

use crate::clients::Caller;
use crate::forks::{ForkContent, Kind};
use crate::functions::{Stage, text_of};
use crate::process::ProcessId;
use crate::queue::Queue;
use crate::streams::Streams;
use crate::timeline::Timeline;
use crate::truth::{Facts, Truth};
use crate::world::World;
use crate::{Failure, Plan};

/// Origin of a world, if it is a fork.
#[derive(Default)]
pub(crate) struct Origin {
    hold: Hold,
    /// True if only states were imported, without messages in flight.
    pub(crate) imported: bool,
    /// Operations with a lower number were requested from the origin.
    pub(crate) operations: u64,
    /// Numbers of the outbox entries that were dropped.
    dropped: BTreeSet<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Hold {
    /// The world was never held.
    #[default]
    None,
    Held,
    Lifted {
        drop_outbox: bool,
    },
}

impl World {
    /// Returns true if this world began with the root of another one.
    pub(crate) fn is_fork(&self) -> bool {
        self.origin.hold != Hold::None || self.origin.imported
    }

    /// Runs a fork to its end. Meanwhile nothing else changes in this world.
    pub(crate) fn serve_fork(
        &mut self,
        (root, placement): (&str, Placement),
        kind: Kind,
        copy: &ForkContent,
        facts: &Facts,
    ) {
        let mut fork = self.forked(root, kind, copy, facts);
        fork.faults.config.placement = placement;
        let begun_ms = self.timeline.now_ms();
        self.record(|| format!("fork {root} runs, {kind:?}"));
        let traced = self.trace.is_some();
        fork.trace = self.trace.take();
        let ended = catch_unwind(AssertUnwindSafe(|| fork.run_fork()));
        self.trace = fork.trace.take();
        let mut report = fork.report.clone();
        report.simulated_ms = fork.timeline.now_ms() - begun_ms;
        report.deltas = fork.truth.deltas;
        report.collected = fork.objects.collected;
        match kind {
            Kind::Restore => report.forks += 1,
            Kind::Import => report.imports += 1,
        }
        self.report.add(&report);
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => {
                self.trace = traced.then_some(failure.trace);
                let violation = format!("in {root}: {}", failure.what);
                self.stage.violations.push(violation);
            }
            Err(panic) => {
                let violation = format!("in {root}, a panic: {}", crate::text_of_panic(&*panic));
                self.stage.violations.push(violation);
            }
        }
        let own = format!("{root}/");
        let others = |world: &World| {
            let objects = world.objects.objects.iter();
            let others = objects.filter(|(key, _)| !key.starts_with(&own));
            others
                .map(|(key, object)| (key.clone(), object.clone()))
                .collect::<Vec<_>>()
        };
        if others(&fork) != others(self) {
            let violation = format!("{root} has changed objects outside of its root");
            self.stage.violations.push(violation);
        }
        self.record(|| format!("fork {root} ends"));
    }

    fn forked(&self, root: &str, kind: Kind, copy: &ForkContent, facts: &Facts) -> World {
        let plan = Plan {
            seed: self.random.next(),
            mutant: self.mutant,
        };
        let mut fork = World::new(&plan, false);
        fork.root = root.to_owned();
        // The makers of forks keep their logs in objects.
        fork.in_table = false;
        fork.timeline = Timeline::new(self.timeline.now_ms());
        fork.objects.objects = self.objects.objects.clone();
        let random = &fork.random;
        let faults = &mut fork.faults;
        faults.forks = 0;
        faults.startup = self.faults.startup;
        if kind == Kind::Import {
            faults.reshard_every_ms = 0;
        }
        faults.has_operator = false;
        faults.faulty_ms = 1_000 + random.below(8_000);
        if faults.long_pauses {
            faults.long_pauses = false;
            faults.pause_min_ms = 1;
            faults.pause_max_ms = 4_000;
        }
        faults.config.idempotency_ttl_ms = self.faults.config.idempotency_ttl_ms;
        let streams = match kind {
            Kind::Restore => self.streams.borrow().clone(),
            Kind::Import => Streams::default(),
        };
        fork.streams = Rc::new(RefCell::new(streams));
        let streams = fork.streams.clone();
        fork.truth = Truth::of(facts, copy.committed_at_ms, &self.truth, streams);
        if kind == Kind::Restore {
            // Records that the origin had emitted stay emitted. Records that it rejected are dead
            // letters.
            let left = self.truth.departed_by(&copy.facts).into_iter();
            let refused = &self.egress_sink.refused;
            fork.egress_sink.records = left
                .filter(|(number, _)| !refused.contains(number))
                .collect();
        } else {
            fork.truth.grant();
        }
        fork.truth.check_money();
        let truth = &fork.truth;
        let is_needed = |shard: &str| !truth.is_over(shard) && !truth.is_passed(shard);
        let mut streams = fork.streams.borrow().clone();
        streams.remember(is_needed);
        fork.streams.replace(streams);
        fork.egress_sink.continue_from(&self.egress_sink);
        fork.queue = Queue::default();
        fork.stage = Stage {
            names_cause: fork.stage.names_cause,
            keeps_expirations: fork.stage.keeps_expirations,
            version: self.stage.version,
            ids: self.stage.ids.clone(),
            ..Stage::default()
        };
        fork.next_operation = self.next_operation;
        fork.next_request = self.next_request;
        let callers = 1 + fork.random.below(2);
        fork.callers = (0..callers)
            .map(|_| Caller::new(2 + fork.random.below(6)))
            .collect();
        fork.administrator.continue_from(&self.administrator);
        fork.origin = Origin {
            hold: match kind {
                Kind::Restore => Hold::Held,
                // A flag that stays on a command line drops nothing where nothing is held.
                Kind::Import => Hold::Lifted { drop_outbox: true },
            },
            imported: kind == Kind::Import,
            operations: self.next_operation,
            dropped: BTreeSet::new(),
        };
        fork
    }

    fn run_fork(&mut self) -> Result<(), Failure> {
        self.begin();
        self.check_violations()?;
        let drop_outbox = self.random.chance(300);
        let faults_end_ms = self.timeline.now_ms() + self.faults.faulty_ms;
        let held_until_ms = self.timeline.now_ms() + self.random.below(self.faults.faulty_ms);
        while self.timeline.now_ms() < held_until_ms {
            self.next()?;
        }
        if self.origin.hold == Hold::Held {
            if drop_outbox {
                self.end_faults();
                self.settle_held()?;
            }
            self.lift(drop_outbox);
        }
        while self.timeline.now_ms() < faults_end_ms {
            self.next()?;
        }
        self.settle_and_check()
    }

    /// Waits until the content of the outbox is final, so that the dropped entries are known.
    fn settle_held(&mut self) -> Result<(), Failure> {
        let until_ms = self.timeline.now_ms() + 900_000;
        loop {
            self.next()?;
            // A full outbox may keep callers rejected until the hold is lifted. Their operations do
            // not leave through it.
            let waiting = self.truth.only_suspended_wait();
            let serving = self.processes.values_mut().find(|it| it.is_serving());
            let gauges = serving
                .and_then(crate::process::Process::serving)
                .map(|serving| serving.partition.gauges());
            if waiting && gauges.is_some_and(|it| it.in_flight == 0 && it.sealed == it.durable) {
                return Ok(());
            }
            if self.timeline.now_ms() > until_ms {
                return self.fail("a held fork does not settle".to_owned());
            }
        }
    }

    fn lift(&mut self, drop_outbox: bool) {
        self.record(|| format!("the hold is lifted, outbox dropped: {drop_outbox}"));
        self.origin.hold = Hold::Lifted { drop_outbox };
        if drop_outbox {
            let dropped = self.truth.facts.iter().filter_map(|fact| match fact {
                (Key::Outbox { number }, Value::Outbox(entry)) => {
                    Some((*number, text_of(&entry.value)))
                }
                _ => None,
            });
            let dropped: Vec<(u64, String)> = dropped.collect();
            self.origin.dropped = dropped.iter().map(|(number, _)| *number).collect();
            // Dropped records count as emitted, and must not be emitted.
            self.egress_sink.records.extend(dropped);
            self.egress_sink.records.sort();
        }
        let ids: Vec<ProcessId> = self.processes.keys().copied().collect();
        for id in ids {
            self.notify_lifted(id);
            self.advance(id);
        }
    }

    /// Lifts the hold of a new owner with its first fact, if the fork was released.
    pub(crate) fn notify_lifted(&mut self, id: ProcessId) {
        if let Hold::Lifted { drop_outbox } = self.origin.hold
            && let Some(serving) = self.serving(id)
        {
            serving.facts.push(Input::HoldLifted { drop_outbox });
        }
    }

    /// Checks that a held fork reads nothing, fires no timer and emits nothing.
    pub(crate) fn check_held(&mut self, id: ProcessId, output: &Output) {
        if self.origin.hold == Hold::None {
            return;
        }
        if let Output::Emit(emissions) = output {
            let dropped = &self.origin.dropped;
            if let Some(emission) = emissions.iter().find(|one| dropped.contains(&one.number)) {
                let violation = format!("{emission:?} leaves, but was dropped");
                self.stage.violations.push(violation);
            }
        }
        if self.origin.hold != Hold::Held {
            return;
        }
        let fired = self
            .serving(id)
            .is_some_and(|serving| serving.partition.counts().timers_fired > 0);
        let leaves = matches!(
            output,
            Output::Read { .. } | Output::Plan { .. } | Output::Emit(_) | Output::Receive { .. }
        );
        if fired || leaves {
            let violation = format!("a held fork outputs {output:?}, timers fired: {fired}");
            self.stage.violations.push(violation);
        }
    }
}
