//! Clocks of simulated processes: partition time, the dispatcher's time, and the law that a second
//! is a second.

use satchel_engine::clock::{PartitionClock, Reading};

use crate::mutants::Mutant;
use crate::process::Process;
use crate::store::MachineClock;

/// Maximum jump of the calendar that a process follows, in ms.
pub(crate) const JUMP_MAX_MS: u64 = 600_000;

/// Clocks of an owner.
pub(crate) struct Clocks {
    partition: PartitionClock,
    /// Jump of the calendar that only the partition sees, in ms.
    pub(crate) jump_ms: i64,
    /// True time and what was shown for it, of the partition and of the dispatcher.
    shown: [Option<(u64, u64)>; 2],
}

impl Clocks {
    pub(crate) fn start(clock: &MachineClock, committed_ms: u64, mutant: Option<Mutant>) -> Self {
        let jump_max_ms = match mutant {
            Some(Mutant::FollowJump) => u64::MAX,
            _ => JUMP_MAX_MS,
        };
        Self {
            partition: PartitionClock::start(reading(clock, 0), committed_ms, jump_max_ms),
            jump_ms: 0,
            shown: [None; 2],
        }
    }

    /// Returns the partition time, and a broken law.
    pub(crate) fn partition_ms(
        &mut self,
        clock: &MachineClock,
        mutant: Option<Mutant>,
    ) -> (u64, Option<String>) {
        let reading = reading(clock, self.jump_ms);
        let mut now_ms = self.partition.read(reading);
        if mutant == Some(Mutant::FreezeTime) {
            let before_ms = self.shown[0].map_or(0, |(_, shown)| shown);
            now_ms = reading.calendar_ms.max(before_ms);
        }
        (now_ms, self.check(0, clock.true_ms(), now_ms, JUMP_MAX_MS))
    }

    /// Returns the dispatcher's time, and a broken law.
    fn dispatcher_ms(
        &mut self,
        clock: &MachineClock,
        mutant: Option<Mutant>,
    ) -> (u64, Option<String>) {
        let now_ms = match mutant {
            Some(Mutant::FreezeBackoff) => reading(clock, self.jump_ms).calendar_ms,
            _ => clock.true_ms(),
        };
        (now_ms, self.check(1, clock.true_ms(), now_ms, 0))
    }

    /// Checks that time neither stands still nor jumps by more than `jump_max_ms`.
    fn check(
        &mut self,
        which: usize,
        true_ms: u64,
        now_ms: u64,
        jump_max_ms: u64,
    ) -> Option<String> {
        let (true_before, shown_before) = self.shown[which].replace((true_ms, now_ms))?;
        let passed_ms = true_ms - true_before;
        let shown_ms = now_ms.checked_sub(shown_before);
        let well = shown_ms.is_some_and(|ms| (passed_ms..=passed_ms + jump_max_ms).contains(&ms));
        (!well).then(|| {
            let of = ["the partition", "the dispatcher"][which];
            format!("{passed_ms} ms pass; to {of} it is {shown_before} and then {now_ms}")
        })
    }
}

fn reading(clock: &MachineClock, jump_ms: i64) -> Reading {
    Reading {
        boot_ms: clock.true_ms(),
        calendar_ms: clock.wall_ms().saturating_add_signed(jump_ms),
    }
}

impl Process {
    /// Returns the partition time of an owner, and a broken law.
    pub(crate) fn partition_ms(&mut self, mutant: Option<Mutant>) -> Option<(u64, Option<String>)> {
        let clock = self.clock.clone();
        let serving = self.serving()?;
        Some(serving.clocks.partition_ms(&clock, mutant))
    }

    /// Returns the time of an owner's dispatcher, and a broken law.
    pub(crate) fn dispatcher_ms(
        &mut self,
        mutant: Option<Mutant>,
    ) -> Option<(u64, Option<String>)> {
        let clock = self.clock.clone();
        let serving = self.serving()?;
        Some(serving.clocks.dispatcher_ms(&clock, mutant))
    }
}
