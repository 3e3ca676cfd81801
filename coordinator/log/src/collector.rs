//! Collection: an object is deleted only if a durable condemnation names it, and only after this
//! process has known that condemnation for the whole grace period.
//!
//! The grace period is measured by the boot clock, from the moment this process saw the
//! condemnation. A wrong calendar can delay a deletion but never make it earlier.

use crate::clock::Now;
use crate::control::Condemned;

/// The durable condemnations of one partition.
#[derive(Debug)]
pub(crate) struct Collector {
    grace_ms: u64,
    standing: Vec<(Condemned, Now)>,
    /// Objects past the grace period that are kept because savepoints need them.
    held: Condemned,
    performing: Option<Condemned>,
}

impl Collector {
    /// Takes over the condemnations that former owners left.
    pub(crate) fn new(grace_ms: u64, inherited: Vec<Condemned>, now: Now) -> Self {
        Self {
            grace_ms,
            standing: inherited
                .into_iter()
                .map(|condemned| (condemned, now))
                .collect(),
            held: Condemned::default(),
            performing: None,
        }
    }

    /// Adds a condemnation that became durable.
    pub(crate) fn condemned(&mut self, condemned: Condemned, now: Now) {
        if !condemned.is_empty() {
            self.standing.push((condemned, now));
        }
    }

    /// Returns all condemnations that are not performed yet.
    pub(crate) fn standing(&self) -> Vec<Condemned> {
        let held = Some(&self.held).filter(|held| !held.is_empty());
        held.into_iter()
            .chain(&self.performing)
            .chain(self.standing.iter().map(|(condemned, _)| condemned))
            .cloned()
            .collect()
    }

    /// Returns the next condemnation to perform, together with everything held back so far. The
    /// caller then calls [`Collector::performed`]. One is performed at a time.
    pub(crate) fn poll(&mut self, now: Now) -> Option<Condemned> {
        if self.performing.is_some() || self.wait_ms(now)? > 0 {
            return None;
        }
        let (condemned, _) = self.standing.remove(0);
        let condemned = std::mem::take(&mut self.held).and(condemned);
        self.performing = Some(condemned.clone());
        Some(condemned)
    }

    /// Handles the end of the deletion that [`Collector::poll`] returned; `held` is what savepoints
    /// need.
    pub(crate) fn performed(&mut self, held: Condemned) {
        self.performing = None;
        self.held = held;
    }

    /// Returns true unless a condemnation is being performed.
    pub(crate) fn is_idle(&self) -> bool {
        self.performing.is_none()
    }

    /// Time until the oldest condemnation may be performed, in milliseconds; `None` if there is
    /// none.
    pub(crate) fn wait_ms(&self, now: Now) -> Option<u64> {
        let (_, seen) = self.standing.first()?;
        Some(self.grace_ms.saturating_sub(now.elapsed_at_least_ms(seen)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(boot_ms: u64, wall_ms: u64) -> Now {
        Now { boot_ms, wall_ms }
    }

    fn below(number: u64) -> Condemned {
        Condemned {
            log_below: number,
            ..Condemned::default()
        }
    }

    #[test]
    fn a_condemnation_is_carried_out_after_the_grace_and_not_before() {
        let mut collector = Collector::new(1000, vec![below(5)], at(100, 0));
        collector.condemned(below(9), at(600, 0));
        assert_eq!(collector.poll(at(1099, 0)), None);
        assert_eq!(collector.wait_ms(at(1099, 0)), Some(1));
        assert_eq!(collector.poll(at(1100, 0)), Some(below(5)));
        assert_eq!(collector.standing(), vec![below(5), below(9)]);
        assert_eq!(collector.poll(at(9999, 0)), None, "one at a time");
        collector.performed(Condemned::default());
        assert_eq!(collector.poll(at(1599, 0)), None);
        assert_eq!(collector.poll(at(1600, 0)), Some(below(9)));
        collector.performed(Condemned::default());
        assert_eq!(collector.standing(), vec![]);
        assert_eq!(collector.wait_ms(at(9999, 0)), None);
    }

    #[test]
    fn objects_held_back_for_savepoints_stay_condemned_and_are_retried_with_the_next() {
        let mut collector = Collector::new(1000, vec![below(5)], at(0, 0));
        assert_eq!(collector.poll(at(1000, 0)), Some(below(5)));
        collector.performed(below(5));
        assert_eq!(collector.standing(), vec![below(5)]);
        assert_eq!(
            collector.wait_ms(at(9999, 0)),
            None,
            "it alone causes no deletion"
        );
        collector.condemned(
            Condemned {
                manifests: vec![3],
                ..below(4)
            },
            at(1000, 0),
        );
        let both = Condemned {
            manifests: vec![3],
            ..below(5)
        };
        assert_eq!(collector.poll(at(2000, 0)), Some(both.clone()));
        assert_eq!(collector.standing(), vec![both]);
    }

    #[test]
    fn a_calendar_that_jumps_ahead_makes_no_deletion_earlier() {
        let mut collector = Collector::new(1000, vec![below(5)], at(100, 0));
        assert_eq!(collector.poll(at(200, 86_400_000)), None);
    }
}
