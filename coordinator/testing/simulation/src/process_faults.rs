//! Faults of processes: crashes, pauses, clock errors and stops.

use satchel_engine::input::Input;

use crate::process::{Process, ProcessId};
use crate::world::{Event, World};

impl World {
    /// Injects a random fault and schedules the next one.
    pub(crate) fn inject_fault(&mut self) {
        if self.faults_ended {
            return;
        }
        self.schedule_fault();
        let now_ms = self.timeline.now_ms();
        let sleeps = |process: &Process| process.paused_until_ms > now_ms;
        if self.faults.long_pauses && self.processes.values().any(sleeps) {
            return;
        }
        let ids: Vec<ProcessId> = self.processes.keys().copied().collect();
        if ids.len() < 3 && self.random.chance(self.faults.second_owner) {
            self.timeline.after(0, Event::ProcessStarts);
        }
        if ids.is_empty() {
            return;
        }
        let id = ids[self.random.below(ids.len() as u64) as usize];
        match self.random.below(10) {
            0..4 => self.crash(id, "it crashes"),
            4..7 => {
                let (min_ms, max_ms) = (self.faults.pause_min_ms, self.faults.pause_max_ms);
                let until_ms = now_ms + min_ms + self.random.below(max_ms - min_ms + 1);
                self.record(|| format!("process {id} is paused until {}", until_ms - 1_000_000));
                if let Some(process) = self.processes.get_mut(&id) {
                    process.paused_until_ms = process.paused_until_ms.max(until_ms);
                }
                // Another process takes it for dead.
                if self.random.chance(700) {
                    let delay_ms = self.random.below(2_000);
                    self.timeline.after(delay_ms, Event::ProcessStarts);
                }
            }
            7 => {
                let max_ms = self.faults.clock_error_max_ms;
                let ms = self.random.below(2 * max_ms + 1) as i64 - max_ms as i64;
                self.record(|| format!("the calendar of process {id} jumps by {ms} ms"));
                if let Some(process) = self.processes.get(&id) {
                    process.clock.shift(ms);
                }
                self.calendar_jumps(id);
            }
            _ => {
                self.record(|| format!("process {id} is asked to stop"));
                let limit_ms = self.random.below(4_000);
                self.timeline
                    .after(0, Event::Notify(id, Input::StopRequested));
                self.timeline.after(limit_ms, Event::StopForced(id));
            }
        }
    }

    /// Sometimes sets the calendar of an owner by more than it follows, or sets it right again.
    fn calendar_jumps(&mut self, id: ProcessId) {
        if !self.random.chance(300) {
            return;
        }
        let minutes = 30 + self.random.below(60 * 24 * 365) as i64;
        let ahead = self.random.chance(500);
        let jump_ms = if ahead { minutes } else { -minutes } * 60_000;
        if let Some(serving) = self.serving(id) {
            let jumped = std::mem::take(&mut serving.clocks.jump_ms) != 0;
            serving.clocks.jump_ms = if jumped { 0 } else { jump_ms };
            self.record(|| format!("the calendar of process {id} jumps by {jump_ms} ms"));
        }
    }
}
