//! A fork at work: a world of its own that begins with what was true of another, held until somebody lets it go on.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use satchel_engine::durable::{Key, Value};
use satchel_engine::input::Input;
use satchel_engine::output::Output;

use crate::forks::{Copy, Kind};
use crate::functions::{Stage, text_of};
use crate::outside::Caller;
use crate::process::ProcessId;
use crate::queue::Queue;
use crate::streams::Streams;
use crate::timeline::Timeline;
use crate::truth::{Facts, Truth};
use crate::world::World;
use crate::{Failure, Plan};

/// Of what a world was made, if it was.
#[derive(Default)]
pub(crate) struct Origin {
    hold: Hold,
    /// States came alone, without what was on its way.
    pub(crate) imported: bool,
    /// Operations below this one were asked of the origin.
    pub(crate) operations: u64,
    /// What was in the outbox when that was dropped.
    dropped: BTreeSet<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Hold {
    /// There never was one.
    #[default]
    None,
    Held,
    Lifted {
        drop_outbox: bool,
    },
}

impl World {
    /// Lets a fork go on to its end, beside which nothing changes.
    pub(crate) fn serve_fork(
        &mut self,
        (root, buckets): (&str, u16),
        kind: Kind,
        copy: &Copy,
        facts: &Facts,
    ) {
        let mut fork = self.forked(root, kind, copy, facts);
        fork.weather.config.buckets = buckets;
        let begun_ms = self.timeline.now_ms();
        self.say(|| format!("{root} is served, {kind:?}"));
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
                let violation = format!("in {root}, it panics: {}", crate::text_of_panic(&*panic));
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
            let violation = format!("{root} has changed what is not its own");
            self.stage.violations.push(violation);
        }
        self.say(|| format!("{root} has come to its end"));
    }

    fn forked(&self, root: &str, kind: Kind, copy: &Copy, facts: &Facts) -> World {
        let plan = Plan {
            seed: self.random.next(),
            mutant: self.mutant,
        };
        let mut fork = World::new(&plan, false);
        fork.root = root.to_owned();
        fork.timeline = Timeline::new(self.timeline.now_ms());
        fork.objects.objects = self.objects.objects.clone();
        let random = &fork.random;
        let weather = &mut fork.weather;
        weather.forks = 0;
        weather.startup = self.weather.startup;
        if kind == Kind::Import {
            weather.reshard_every_ms = 0;
        }
        weather.operates = false;
        weather.storm_ms = 1_000 + random.below(8_000);
        if weather.sleepy {
            weather.sleepy = false;
            weather.pause_min_ms = 1;
            weather.pause_max_ms = 4_000;
        }
        weather.config.idempotency_ttl_ms = self.weather.config.idempotency_ttl_ms;
        let streams = match kind {
            Kind::Restore => self.streams.borrow().clone(),
            Kind::Import => Streams::default(),
        };
        fork.streams = Rc::new(RefCell::new(streams));
        let streams = fork.streams.clone();
        fork.truth = Truth::of(facts, copy.committed_at_ms, &self.truth, streams);
        if kind == Kind::Restore {
            // What had left by then had left; what was refused by then is a dead letter.
            let left = self.truth.left_by(&copy.facts).into_iter();
            let refused = &self.sink.refused;
            fork.sink.records = left
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
        fork.sink.go_on_from(&self.sink);
        fork.queue = Queue::default();
        fork.stage = Stage {
            tells_cause: fork.stage.tells_cause,
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
        fork.administrator.go_on_from(&self.administrator);
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
        self.judge()?;
        let drop_outbox = self.random.chance(300);
        let storm_ends_ms = self.timeline.now_ms() + self.weather.storm_ms;
        let held_until_ms = self.timeline.now_ms() + self.random.below(self.weather.storm_ms);
        while self.timeline.now_ms() < held_until_ms {
            self.next()?;
        }
        if self.origin.hold == Hold::Held {
            if drop_outbox {
                self.calm_down();
                self.rest_held()?;
            }
            self.lift(drop_outbox);
        }
        while self.timeline.now_ms() < storm_ends_ms {
            self.next()?;
        }
        self.go_to_rest()
    }

    /// Waits until what is dropped is known: nothing more comes into the outbox.
    fn rest_held(&mut self) -> Result<(), Failure> {
        let until_ms = self.timeline.now_ms() + 900_000;
        loop {
            self.next()?;
            // Callers may be refused until it is lifted, if the outbox is full; what they ask for does not leave by it.
            let waiting = self.truth.only_suspended_wait();
            let serving = self.processes.values_mut().find(|it| it.is_serving());
            let gauges = serving
                .and_then(crate::process::Process::serving)
                .map(|serving| serving.partition.gauges());
            if waiting && gauges.is_some_and(|it| it.in_flight == 0 && it.sealed == it.durable) {
                return Ok(());
            }
            if self.timeline.now_ms() > until_ms {
                return self.fail("a fork that is held does not come to rest".to_owned());
            }
        }
    }

    fn lift(&mut self, drop_outbox: bool) {
        self.say(|| format!("the hold is lifted, the outbox dropped: {drop_outbox}"));
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
            // They count as gone, and must not go.
            self.sink.records.extend(dropped);
            self.sink.records.sort();
        }
        let ids: Vec<ProcessId> = self.processes.keys().copied().collect();
        for id in ids {
            self.tell_lifted(id);
            self.pump(id);
        }
    }

    /// The first fact that an owner is told, if somebody let it go on.
    pub(crate) fn tell_lifted(&mut self, id: ProcessId) {
        if let Hold::Lifted { drop_outbox } = self.origin.hold
            && let Some(serving) = self.serving(id)
        {
            serving.facts.push(Input::HoldLifted { drop_outbox });
        }
    }

    /// Under a hold nothing is read, no timer fires and nothing leaves.
    pub(crate) fn check_held(&mut self, id: ProcessId, output: &Output) {
        if self.origin.hold == Hold::None {
            return;
        }
        if let Output::Emit(emissions) = output {
            let dropped = &self.origin.dropped;
            if let Some(emission) = emissions.iter().find(|one| dropped.contains(&one.number)) {
                let violation = format!("{emission:?} leaves, and was dropped");
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
            let violation = format!("a fork is held, and there is {output:?}, timers {fired}");
            self.stage.violations.push(violation);
        }
    }
}
