//! Law 9, bounded everywhere: counts equal what they count, an ingress over its limit reads nothing
//! more, and memory returns to its limit.

use satchel_engine::input::Input;

use crate::process::{ProcessId, Serving};
use crate::world::World;

/// Number of rounds of a process between two audits of everything that it counts.
const ROUNDS_PER_AUDIT: u64 = 64;

impl World {
    /// Checks that no records are handed to a partition that has paused its ingress.
    pub(crate) fn check_paused(&mut self, id: ProcessId, fact: &Input) {
        let Some(serving) = self.serving(id) else {
            return;
        };
        if matches!(fact, Input::RecordsRead { .. }) && serving.partition.gauges().ingress_paused {
            let violation = format!("process {id} reads records though its ingress is paused");
            self.stage.violations.push(violation);
        }
    }

    /// Checks limits and counts after a round, when the partition has no more outputs.
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
            wrong.push(format!(
                "{pending_bytes} bytes are pending, over the limit of {limit}, \
                 and ingress is not paused"
            ));
        }
        let wrong = wrong
            .into_iter()
            .map(|what| format!("process {id}: {what}"));
        self.stage.violations.extend(wrong);
    }
}

impl Serving {
    /// Returns true if the partition holds no more in memory than its limit, except for what it
    /// must hold.
    ///
    /// A partition takes no snapshot to free little memory: an eighth of the limit for what
    /// changed, and another eighth for what the log says over images.
    pub(crate) fn is_within(&self, limit: Option<usize>) -> bool {
        let Some(limit) = limit else { return true };
        let gauges = self.partition.gauges();
        gauges.state_bytes <= limit + limit / 4 + gauges.pinned_bytes
    }
}
