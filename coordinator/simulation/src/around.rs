//! What goes on around the owners: streams that are read and written, and the troubles of processes.

use satchel_engine::input::{Input, Record};
use satchel_engine::output::Emission;

use crate::mutants::Mutant;
use crate::process::{Process, ProcessId};
use crate::world::{Event, World};

impl World {
    pub(crate) fn appends(&mut self, shard: String) {
        let count = 1 + self.random.below(6) as usize;
        self.streams.borrow_mut().append(&shard, count);
        if !self.streams.borrow().all_appended() {
            let delay_ms = 1 + self.random.below(1_500);
            self.timeline.after(delay_ms, Event::Appends(shard));
        }
    }

    /// An ingress reads on; now and then it reads again what it has read already.
    pub(crate) fn reads(&mut self, id: ProcessId, shard: String) {
        let Some(serving) = self.serving(id) else {
            return;
        };
        if serving.stopped {
            return;
        }
        let next = serving.reading.get(&shard).copied().unwrap_or(0);
        let paused = serving.ingress_paused;
        let delay_ms = 5 + self.random.below(300);
        self.timeline
            .after(delay_ms, Event::Reads(id, shard.clone()));
        if paused {
            return;
        }
        let back = if self.random.chance(self.weather.read_again) {
            self.random.below(5).min(next)
        } else {
            0
        };
        let count = 1 + self.random.below(12) as usize;
        let mut records = self
            .streams
            .borrow()
            .read(&shard, next - back, back as usize + count);
        let read = (records.len() as u64).saturating_sub(back);
        if records.is_empty() {
            return;
        }
        if self.mutant == Some(Mutant::SkipDedup) {
            disguise(&mut records, back as usize, read as usize);
        }
        let shards = self.streams.borrow().ids();
        let Some(shard_id) = shards.into_iter().find(|known| *known.shard == *shard) else {
            return;
        };
        if let Some(serving) = self.serving(id) {
            serving.reading.insert(shard, next + read);
        }
        self.tell(
            id,
            Input::RecordsRead {
                shard: shard_id,
                records,
            },
        );
    }

    /// Records leave in order, one behind the other.
    pub(crate) fn emit(&mut self, id: ProcessId, emissions: Vec<Emission>) {
        let mutant = self.mutant;
        for emission in emissions {
            let number = emission.number;
            match self.truth.left_durably(number) {
                Some(entry) if entry.id == emission.id && entry.value == emission.value => {}
                known => {
                    let violation =
                        format!("{emission:?} leaves before it is durable; {known:?} is");
                    self.stage.violations.push(violation);
                }
            }
            let Some(serving) = self.serving(id) else {
                return;
            };
            match mutant {
                Some(Mutant::SkipReemission) if number < serving.broken.first_number => continue,
                Some(Mutant::AcknowledgeEarly) => {
                    let numbers = vec![number];
                    serving.facts.push(Input::EgressAcked { numbers });
                }
                _ => {}
            }
            serving.emissions.push_back(emission);
        }
        self.emit_next(id);
    }

    fn emit_next(&mut self, id: ProcessId) {
        let Some(serving) = self.serving(id) else {
            return;
        };
        if serving.emitting {
            return;
        }
        if let Some(emission) = serving.emissions.pop_front() {
            serving.emitting = true;
            let delay_ms = 1 + self.random.below(30);
            self.timeline.after(delay_ms, Event::Lands(id, emission));
        }
    }

    /// A record has arrived, whoever sent it.
    pub(crate) fn lands(&mut self, id: ProcessId, emission: Emission) {
        let refused = self.refuses(&emission);
        let lost = self.random.chance(self.weather.ack_lost) && self.random.chance(500);
        if !refused
            && !lost
            && let Err(violation) = self.sink.arrive(&emission)
        {
            self.stage.violations.push(violation);
        }
        if refused {
            let number = emission.number;
            let reason = "the egress does not take it".to_owned();
            self.timeline
                .after(1, Event::Tell(id, Input::EgressRefused { number, reason }));
            self.timeline
                .after(1, Event::EgressAnswers(id, emission, true));
            return;
        }
        let well = !lost && !self.random.chance(self.weather.ack_lost);
        let delay_ms = 1 + self.random.below(30);
        self.timeline
            .after(delay_ms, Event::EgressAnswers(id, emission, well));
    }

    /// Whether the egress refuses a record: for good, whoever sends it again.
    fn refuses(&mut self, emission: &Emission) -> bool {
        let number = emission.number;
        let dislikes = emission.value.value.starts_with(b"gathered ") && number.is_multiple_of(3);
        if dislikes && !self.stage.healed {
            self.sink.refused.insert(number);
        }
        self.sink.refused.contains(&number)
    }

    /// The egress has answered, or not.
    pub(crate) fn egress_answers(&mut self, id: ProcessId, emission: Emission, well: bool) {
        let refused = self.sink.refused.contains(&emission.number);
        let Some(serving) = self.serving(id) else {
            return;
        };
        serving.emitting = false;
        if well {
            if !refused {
                let numbers = vec![emission.number];
                self.tell(id, Input::EgressAcked { numbers });
            }
        } else {
            serving.emissions.push_front(emission);
        }
        self.emit_next(id);
    }

    /// Something happens to a process.
    pub(crate) fn trouble(&mut self) {
        if self.calm {
            return;
        }
        self.trouble_later();
        let now_ms = self.timeline.now_ms();
        let sleeps = |process: &Process| process.paused_until_ms > now_ms;
        if self.weather.sleepy && self.processes.values().any(sleeps) {
            return;
        }
        let ids: Vec<ProcessId> = self.processes.keys().copied().collect();
        if ids.len() < 3 && self.random.chance(self.weather.second_owner) {
            self.timeline.after(0, Event::ProcessStarts);
        }
        if ids.is_empty() {
            return;
        }
        let id = ids[self.random.below(ids.len() as u64) as usize];
        match self.random.below(10) {
            0..4 => self.crash(id, "it crashes"),
            4..7 => {
                let (min_ms, max_ms) = (self.weather.pause_min_ms, self.weather.pause_max_ms);
                let until_ms = now_ms + min_ms + self.random.below(max_ms - min_ms + 1);
                self.say(|| format!("process {id} is paused until {}", until_ms - 1_000_000));
                if let Some(process) = self.processes.get_mut(&id) {
                    process.paused_until_ms = until_ms;
                }
                // Another one takes it for dead.
                if self.random.chance(700) {
                    let delay_ms = self.random.below(2_000);
                    self.timeline.after(delay_ms, Event::ProcessStarts);
                }
            }
            7 => {
                let max_ms = self.weather.clock_error_max_ms;
                let ms = self.random.below(2 * max_ms + 1) as i64 - max_ms as i64;
                self.say(|| format!("the calendar of process {id} jumps by {ms} ms"));
                if let Some(process) = self.processes.get(&id) {
                    process.clock.shift(ms);
                }
            }
            _ => {
                self.say(|| format!("process {id} is to stop"));
                let limit_ms = self.random.below(4_000);
                self.timeline
                    .after(0, Event::Tell(id, Input::StopRequested));
                self.timeline.after(limit_ms, Event::StopForced(id));
            }
        }
    }
}

/// A mutant tells records that were read before as new ones: as further user records of the last number that was read.
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
