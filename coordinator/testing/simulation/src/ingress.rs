//! Reading the stream: the real plan of its shards, over lists that are lost or stale, and records
//! that are read again.

use std::collections::BTreeMap;

use satchel_engine::input::{FoundShard, Input, Record};
use satchel_engine::output::Output;
use satchel_engine::position::ShardPosition;
use satchel_engine::source::shards::{ShardPlan, Step};

use crate::mutants::Mutant;
use crate::process::ProcessId;
use crate::streams::{INGRESS, STREAM, shard_id};
use crate::world::{Event, World};

/// Knowledge of a process about the stream.
#[derive(Default)]
pub(crate) struct Reading {
    plan: Option<ShardPlan>,
    /// True if the last list was stale, so that the next one is not.
    stale: bool,
    /// Index of the next record of each shard that may be read.
    pub(crate) next: BTreeMap<String, u64>,
    /// First record of each shard whose position is a moment. Nothing before it is read.
    begins: BTreeMap<String, u64>,
    pub(crate) paused: bool,
}

impl World {
    /// Reports the stream to a new owner, which answers with the durable positions of its shards.
    pub(crate) fn report_stream(&mut self, id: ProcessId) {
        if let Some(serving) = self.serving(id) {
            serving.facts.push(Input::StreamFound {
                ingress: INGRESS.into(),
                stream: STREAM.into(),
            });
        }
    }

    /// Handles an output of the partition about reading.
    pub(crate) fn handle_reading(&mut self, id: ProcessId, output: Output) {
        match output {
            Output::Plan { applied, .. } => {
                let startup = self.faults.startup;
                if let Some(serving) = self.serving(id) {
                    serving.reading.plan = Some(ShardPlan::new(startup, applied));
                    self.timeline.after(1, Event::Lists(id));
                }
            }
            Output::Read { shard, after } => {
                let shard = shard.shard.to_string();
                if after == ShardPosition::End {
                    return self.shard_is_over(id, &shard);
                }
                let mut next = self.streams.borrow().index_after(&shard, &after);
                if self.mutant == Some(Mutant::ResolveAgain) {
                    next = next.max(self.streams.borrow().end(&shard));
                }
                if let Some(serving) = self.serving(id)
                    && matches!(after, ShardPosition::Since { .. })
                {
                    serving.reading.begins.insert(shard.clone(), next);
                }
                if let Some(serving) = self.serving(id)
                    && serving.reading.next.insert(shard.clone(), next).is_none()
                {
                    self.timeline.after(1, Event::Reads(id, shard));
                }
            }
            _ => {}
        }
    }

    fn shard_is_over(&mut self, id: ProcessId, shard: &str) {
        if let Some(serving) = self.serving(id) {
            serving.reading.next.remove(shard);
            if let Some(plan) = &mut serving.reading.plan {
                let steps = plan.ended(shard);
                self.perform_steps(id, steps);
            }
        }
    }

    /// Lists the shards of the stream, at intervals.
    pub(crate) fn lists(&mut self, id: ProcessId) {
        let now_ms = self.timeline.now_ms();
        let unreliable = !self.faults_ended;
        let lost = unreliable && self.random.chance(self.faults.read_again);
        let stale = unreliable && self.random.chance(self.faults.read_again);
        let delay_ms = 200 + self.random.below(1_500);
        let Some(serving) = self.processes.get_mut(&id).and_then(|it| it.serving()) else {
            return;
        };
        if serving.stopped {
            return;
        }
        self.timeline.after(delay_ms, Event::Lists(id));
        if lost {
            return;
        }
        let stale = stale && !std::mem::replace(&mut serving.reading.stale, stale);
        let streams = self.streams.borrow();
        let mut list = match stale {
            true => streams.stale_list(),
            false => streams.list(),
        };
        drop(streams);
        if self.mutant == Some(Mutant::ChildrenEarly) {
            list.iter_mut().for_each(|shard| shard.parents.clear());
        }
        let Some(plan) = &mut serving.reading.plan else {
            return;
        };
        let steps = plan.listed(&list, now_ms);
        self.perform_steps(id, steps);
        self.advance(id);
    }

    fn perform_steps(&mut self, id: ProcessId, steps: Vec<Step>) {
        for step in steps {
            let Some(serving) = self.serving(id) else {
                return;
            };
            match step {
                Step::Find(found) => {
                    let found = found.into_iter().map(|(shard, start)| FoundShard {
                        shard: shard_id(&shard),
                        start,
                        hash_range: None,
                    });
                    serving.facts.push(Input::ShardsFound(found.collect()));
                }
                Step::Forget(shard) => {
                    let shard = shard_id(&shard);
                    serving.facts.push(Input::ShardForgotten { shard });
                }
                Step::Lost(shard) => {
                    if serving.epoch < self.objects.claimed_epochs(&self.root) {
                        // A later owner has read the shard to its end.
                        return self.crash(id, "it slept for longer than the stream keeps records");
                    }
                    let violation = format!("{shard} counts as lost");
                    self.stage.violations.push(violation);
                }
            }
        }
    }

    /// Reads the next records of a shard. Some reads repeat earlier records.
    pub(crate) fn reads(&mut self, id: ProcessId, shard: &str) {
        let Some(serving) = self.serving(id) else {
            return;
        };
        if serving.stopped {
            return;
        }
        let paused = serving.reading.paused;
        let Some(next) = serving.reading.next.get(shard).copied() else {
            return;
        };
        let begin = serving.reading.begins.get(shard).copied().unwrap_or(0);
        let delay_ms = 5 + self.random.below(300);
        self.timeline
            .after(delay_ms, Event::Reads(id, shard.to_owned()));
        if paused {
            return;
        }
        let back = if self.random.chance(self.faults.read_again) {
            self.random.below(5).min(next - begin)
        } else {
            0
        };
        let count = 1 + self.random.below(12) as usize;
        let streams = self.streams.borrow();
        let mut records = streams.read(shard, next - back, back as usize + count);
        let closed = !streams.is_open(shard);
        let read = (records.len() as u64).saturating_sub(back);
        let at_its_end = next + read == streams.end(shard);
        drop(streams);
        if closed && self.mutant == Some(Mutant::EndEarly) {
            records.truncate(back as usize);
            return self.notify_read(id, shard, records, true);
        }
        if self.mutant == Some(Mutant::SkipDedup) {
            disguise(&mut records, back as usize, read as usize);
        }
        if let Some(serving) = self.serving(id) {
            serving.reading.next.insert(shard.to_owned(), next + read);
        }
        if read == 0 && !closed && self.random.chance(50) {
            let until_ms = self.timeline.now_ms();
            let shard = shard_id(shard);
            return self.notify(id, Input::ShardQuiet { shard, until_ms });
        }
        self.notify_read(id, shard, records, closed && at_its_end);
    }

    fn notify_read(&mut self, id: ProcessId, shard: &str, records: Vec<Record>, ended: bool) {
        let shard = shard_id(shard);
        if !records.is_empty() {
            let shard = shard.clone();
            self.notify(id, Input::RecordsRead { shard, records });
        }
        if ended {
            self.notify(id, Input::ShardEnded { shard });
        }
    }

    /// Appends records of a producer, which knows nothing of shards.
    pub(crate) fn appends(&mut self, producer: usize) {
        let count = 1 + self.random.below(6) as usize;
        let now_ms = self.timeline.now_ms();
        self.streams.borrow_mut().append(producer, count, now_ms);
        if !self.streams.borrow().all_appended() {
            let delay_ms = 1 + self.random.below(1_500);
            self.timeline.after(delay_ms, Event::Appends(producer));
        }
    }

    /// Splits or merges shards, or forgets a shard that is no longer needed.
    pub(crate) fn reshards(&mut self) {
        if self.faults_ended {
            return;
        }
        let delay_ms = 500 + self.random.below(self.faults.reshard_every_ms);
        self.timeline.after(delay_ms, Event::Reshards);
        let now_ms = self.timeline.now_ms();
        let names: Vec<String> = self.streams.borrow().names().cloned().collect();
        let over = names.iter().find(|name| {
            let streams = self.streams.borrow();
            // A stream forgets shards some time after they were closed, so parents before their
            // children.
            streams.may_be_forgotten(name)
                && (self.truth.is_over(name) || self.truth.is_passed(name))
        });
        if let Some(over) = over
            && self.random.chance(500)
        {
            self.streams.borrow_mut().forget(over);
            return self.record(|| format!("the stream forgets {over}"));
        }
        if names.len() < 20 {
            let resharded = self.streams.borrow_mut().reshard(&self.random, now_ms);
            if let Some(what) = resharded {
                self.report.reshardings += 1;
                self.record(|| what);
            }
        }
    }

    /// Returns true if everything was read that must be read, and its position is durable.
    pub(crate) fn all_is_read(&mut self) -> bool {
        let streams = self.streams.clone();
        let streams = streams.borrow();
        let Some(process) = self.processes.values_mut().find(|it| it.is_serving()) else {
            return false;
        };
        let Some(serving) = process.serving() else {
            return false;
        };
        let next = &serving.reading.next;
        streams.names().all(|name| {
            let read = next.get(name) == Some(&streams.end(name)) && streams.is_open(name);
            read || self.truth.is_over(name) || self.truth.is_passed(name)
        })
    }
}

/// Presents repeated records as new ones, for a mutant: as further user records of the last number
/// that was read.
fn disguise(records: &mut Vec<Record>, again: usize, new: usize) {
    if again == 0 || new > 0 {
        return;
    }
    let Some(last) = records.last().cloned() else {
        return;
    };
    for (more, record) in (1..).zip(records) {
        record.sequence = last.sequence.clone();
        record.sub_sequence = last.sub_sequence + 100 + more;
    }
}
