//! Partition time, from the clocks of a machine.
//!
//! ```text
//!  calendar ──accepted unless it jumps──┐
//!                                       ├─ the later one ──► partition time
//!  last partition time + boot time ─────┘
//! ```
//!
//! Partition time follows the calendar, because timers and expiries are moments of the calendar. It
//! never goes back, over restarts either, and never stands still: while the calendar is behind,
//! because it was ahead before, partition time moves on with the boot-time clock. So a second is a
//! second, whatever the calendar does.
//!
//! A running process does not follow a calendar that jumps against the boot-time clock by more than
//! a limit. It continues with the boot-time clock. A start accepts any calendar.

/// Difference up to which a calendar is said to be adjusted, rather than to jump, in ms.
const ADJUSTMENT_MAX_MS: u64 = 1_000;

/// Reading of the clocks of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Time since boot, which counts a suspended machine's sleep too, in ms.
    pub boot_ms: u64,
    /// Calendar, in ms since the epoch.
    pub calendar_ms: u64,
}

/// Partition time of one process.
#[derive(Debug, Clone)]
pub struct PartitionClock {
    jump_max_ms: u64,
    /// Last reading whose calendar was accepted as exact.
    accepted: Reading,
    /// Partition time, and the boot time at which it was equal to that.
    time_ms: u64,
    boot_ms: u64,
    last: Reading,
    jump_ms: Option<i64>,
}

impl PartitionClock {
    /// Starts the clock of a process. `committed_ms` is the last committed partition time.
    /// `jump_max_ms` limits the jumps of the calendar that the process follows.
    pub fn start(reading: Reading, committed_ms: u64, jump_max_ms: u64) -> Self {
        Self {
            jump_max_ms,
            accepted: reading,
            time_ms: reading.calendar_ms.max(committed_ms),
            boot_ms: reading.boot_ms,
            last: reading,
            jump_ms: None,
        }
    }

    /// Returns the partition time at a reading, in ms since the epoch.
    pub fn read(&mut self, reading: Reading) -> u64 {
        let boot_ms = reading.boot_ms.max(self.last.boot_ms);
        self.last = Reading { boot_ms, ..reading };
        let expected_ms = self.accepted.calendar_ms + (boot_ms - self.accepted.boot_ms);
        let difference_ms = reading.calendar_ms.abs_diff(expected_ms);
        let calendar_ms = if difference_ms <= self.jump_max_ms {
            self.jump_ms = None;
            if difference_ms <= ADJUSTMENT_MAX_MS {
                self.accepted = self.last;
            }
            reading.calendar_ms
        } else {
            self.jump_ms = Some(signed(reading.calendar_ms, expected_ms));
            expected_ms
        };
        let moved_on_ms = self.time_ms + (boot_ms - self.boot_ms);
        self.time_ms = moved_on_ms.max(calendar_ms);
        self.boot_ms = boot_ms;
        self.time_ms
    }

    /// Returns by how much partition time is ahead of the calendar at the last reading, in ms;
    /// negative if the calendar jumped ahead and is not followed.
    pub fn ahead_ms(&self) -> i64 {
        signed(self.time_ms, self.last.calendar_ms)
    }

    /// Returns the jump of the calendar that the process does not follow, in ms, if there is one.
    pub fn jump_ms(&self) -> Option<i64> {
        self.jump_ms
    }
}

fn signed(left: u64, right: u64) -> i64 {
    let difference = i64::try_from(left.abs_diff(right)).unwrap_or(i64::MAX);
    if left < right {
        -difference
    } else {
        difference
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;
    const YEAR: u64 = 365 * 24 * 60 * MINUTE;

    /// A machine with a boot-time clock and a calendar that can be set.
    struct Machine {
        boot_ms: u64,
        calendar_ms: u64,
    }

    impl Machine {
        fn new() -> Self {
            Self {
                boot_ms: 5_000,
                calendar_ms: 10 * YEAR,
            }
        }

        fn reading(&self) -> Reading {
            Reading {
                boot_ms: self.boot_ms,
                calendar_ms: self.calendar_ms,
            }
        }

        fn start(&self, committed_ms: u64) -> PartitionClock {
            PartitionClock::start(self.reading(), committed_ms, 10 * MINUTE)
        }

        fn passes(&mut self, ms: u64) {
            self.boot_ms += ms;
            self.calendar_ms += ms;
        }
    }

    #[test]
    fn time_follows_the_calendar_and_its_adjustments() {
        let mut machine = Machine::new();
        let mut clock = machine.start(0);
        for _ in 0..10_000 {
            machine.passes(100);
            // A clock that is slewed gains 50 ms on each 100.
            machine.calendar_ms += 50;
            assert_eq!(clock.read(machine.reading()), machine.calendar_ms);
            assert_eq!((clock.ahead_ms(), clock.jump_ms()), (0, None));
        }
        machine.calendar_ms += 9 * MINUTE;
        assert_eq!(clock.read(machine.reading()), machine.calendar_ms);
    }

    #[test]
    fn a_second_is_a_second_after_a_clock_that_was_ahead() {
        for ahead_ms in [MINUTE, 10 * YEAR] {
            let mut machine = Machine::new();
            let committed_ms = machine.calendar_ms + ahead_ms;
            let mut clock = machine.start(committed_ms);
            for seconds in 1..100 {
                machine.passes(1_000);
                let expected_ms = committed_ms + seconds * 1_000;
                assert_eq!(clock.read(machine.reading()), expected_ms);
                assert_eq!(clock.ahead_ms(), ahead_ms as i64);
            }
        }
    }

    #[test]
    fn a_calendar_that_is_set_back_stops_nothing() {
        for back_ms in [5_000, 5 * MINUTE, YEAR] {
            let mut machine = Machine::new();
            let mut clock = machine.start(0);
            let before_ms = clock.read(machine.reading());
            machine.calendar_ms -= back_ms;
            machine.passes(1_000);
            assert_eq!(clock.read(machine.reading()), before_ms + 1_000);
            assert_eq!(clock.ahead_ms(), back_ms as i64);
            let jump_ms = (back_ms == YEAR).then_some(-(YEAR as i64));
            assert_eq!(clock.jump_ms(), jump_ms);
        }
    }

    #[test]
    fn a_jump_over_the_limit_is_not_followed_until_it_is_undone_or_the_process_starts_again() {
        let mut machine = Machine::new();
        let mut clock = machine.start(0);
        let before_ms = clock.read(machine.reading());
        machine.calendar_ms += YEAR;
        for seconds in 1..100 {
            machine.passes(1_000);
            assert_eq!(clock.read(machine.reading()), before_ms + seconds * 1_000);
            assert_eq!(clock.jump_ms(), Some(YEAR as i64));
            assert_eq!(clock.ahead_ms(), -(YEAR as i64));
        }
        let mut started_again = machine.start(before_ms);
        assert_eq!(started_again.read(machine.reading()), machine.calendar_ms);
        machine.calendar_ms -= YEAR;
        machine.passes(1_000);
        assert_eq!(clock.read(machine.reading()), machine.calendar_ms);
        assert_eq!((clock.ahead_ms(), clock.jump_ms()), (0, None));
    }

    #[test]
    fn several_jumps_within_the_limit_do_not_add_up_beyond_it() {
        let mut machine = Machine::new();
        let mut clock = machine.start(0);
        machine.calendar_ms += 9 * MINUTE;
        assert_eq!(clock.read(machine.reading()), machine.calendar_ms);
        machine.calendar_ms += 9 * MINUTE;
        machine.passes(1_000);
        clock.read(machine.reading());
        assert_eq!(clock.jump_ms(), Some(18 * MINUTE as i64));
    }

    #[test]
    fn readings_out_of_order_never_turn_time_back() {
        let mut machine = Machine::new();
        let mut clock = machine.start(0);
        let early = machine.reading();
        machine.passes(10);
        let now_ms = clock.read(machine.reading());
        assert_eq!(clock.read(early), now_ms);
    }
}
