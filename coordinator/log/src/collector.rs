//! What may be deleted, and when: only what a durable condemnation names that this process has seen stand for the whole grace.
//!
//! The grace counts from when this process saw the condemnation, by the clock that nobody sets: a wrong calendar can delay a deletion,
//! never hasten one.

use crate::clock::Now;
use crate::control::Condemned;

/// The durable condemnations of one partition.
#[derive(Debug)]
pub(crate) struct Collector {
    grace_ms: u64,
    standing: Vec<(Condemned, Now)>,
    /// Older than the grace, and kept because savepoints need it.
    held: Condemned,
    carrying_out: Option<Condemned>,
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
            carrying_out: None,
        }
    }

    /// A condemnation became durable.
    pub(crate) fn condemned(&mut self, condemned: Condemned, now: Now) {
        if !condemned.is_empty() {
            self.standing.push((condemned, now));
        }
    }

    /// All that are not carried out yet.
    pub(crate) fn standing(&self) -> Vec<Condemned> {
        let held = Some(&self.held).filter(|held| !held.is_empty());
        held.into_iter()
            .chain(&self.carrying_out)
            .chain(self.standing.iter().map(|(condemned, _)| condemned))
            .cloned()
            .collect()
    }

    /// The next one to carry out, with everything that was held back so far; then [`Collector::carried_out`]. One at a time.
    pub(crate) fn poll(&mut self, now: Now) -> Option<Condemned> {
        if self.carrying_out.is_some() || self.wait_ms(now)? > 0 {
            return None;
        }
        let (condemned, _) = self.standing.remove(0);
        let condemned = std::mem::take(&mut self.held).and(condemned);
        self.carrying_out = Some(condemned.clone());
        Some(condemned)
    }

    /// What [`Collector::poll`] gave is deleted, except for what savepoints need.
    pub(crate) fn carried_out(&mut self, held: Condemned) {
        self.carrying_out = None;
        self.held = held;
    }

    /// How long until the oldest condemnation may be carried out, in milliseconds; `None` if there is none.
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
        collector.carried_out(Condemned::default());
        assert_eq!(collector.poll(at(1599, 0)), None);
        assert_eq!(collector.poll(at(1600, 0)), Some(below(9)));
        collector.carried_out(Condemned::default());
        assert_eq!(collector.standing(), vec![]);
        assert_eq!(collector.wait_ms(at(9999, 0)), None);
    }

    #[test]
    fn what_savepoints_hold_back_stays_standing_and_is_tried_again_with_the_next() {
        let mut collector = Collector::new(1000, vec![below(5)], at(0, 0));
        assert_eq!(collector.poll(at(1000, 0)), Some(below(5)));
        collector.carried_out(below(5));
        assert_eq!(collector.standing(), vec![below(5)]);
        assert_eq!(
            collector.wait_ms(at(9999, 0)),
            None,
            "nothing is done for it alone"
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
    fn a_calendar_that_jumps_ahead_hastens_no_deletion() {
        let mut collector = Collector::new(1000, vec![below(5)], at(100, 0));
        assert_eq!(collector.poll(at(200, 86_400_000)), None);
    }
}
