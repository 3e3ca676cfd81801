//! Law 9, bounded everywhere: what is counted is what there is, who is over a limit reads nothing more, and memory comes back to its limit.

use satchel_engine::input::Input;

use crate::process::{ProcessId, Serving};
use crate::world::World;

/// Every so many rounds of a process everything that it counts is counted anew.
const ROUNDS_PER_AUDIT: u64 = 64;

impl World {
    /// Records that are told to a partition which has asked that none be read.
    pub(crate) fn check_paused(&mut self, id: ProcessId, fact: &Input) {
        let Some(serving) = self.serving(id) else {
            return;
        };
        if matches!(fact, Input::RecordsRead { .. }) && serving.partition.gauges().ingress_paused {
            let violation = format!("process {id} reads records though it was told to pause");
            self.stage.violations.push(violation);
        }
    }

    /// After a round, when the partition has nothing more to say.
    pub(crate) fn check_bounds(&mut self, id: ProcessId) {
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        let limit = process.config.pending_bytes_max;
        let Some(serving) = process.serving() else {
            return;
        };
        serving.rounds += 1;
        if serving.stopped || !serving.rounds.is_multiple_of(ROUNDS_PER_AUDIT) {
            return;
        }
        let mut wrong = serving.partition.audit();
        let pending_bytes = serving.partition.gauges().pending_bytes;
        if pending_bytes > limit && !serving.partition.gauges().ingress_paused && !serving.stops {
            wrong.push(format!("{pending_bytes} bytes are pending, over the limit of {limit}, and ingress is not paused"));
        }
        let wrong = wrong
            .into_iter()
            .map(|what| format!("process {id}: {what}"));
        self.stage.violations.extend(wrong);
    }
}

impl Serving {
    /// Whether no more is in memory than may be, but for what must be there. What would give back little is not worth a snapshot, which is an
    /// eighth of the limit for what changed, and another one for what the log says over images.
    pub(crate) fn is_within(&self, limit: Option<usize>) -> bool {
        let Some(limit) = limit else { return true };
        let gauges = self.partition.gauges();
        gauges.state_bytes <= limit + limit / 4 + gauges.pinned_bytes
    }
}
