//! Board of a process: readiness, stoppages and gauges of its partitions, shown as those of the
//! application.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use satchel_engine::output::{Stoppage, Stoppages};
use satchel_engine::partition::Gauges;
use tokio::sync::watch;

use super::stoppages;
use crate::metrics::{Metrics, total};
use crate::readiness::Readiness;

/// Board of all partitions of a process.
pub(super) struct Board {
    shown: Mutex<Facts>,
    readiness: watch::Sender<Readiness>,
    stoppages: watch::Sender<Stoppages>,
    metrics: Metrics,
}

/// Facts about the process.
struct Facts {
    /// Facts of each partition; none for one that runs elsewhere.
    partitions: Vec<Option<Shown>>,
    /// None if this process runs all partitions. True once the process answers requests, if the
    /// partitions are spread over several processes.
    is_member: Option<bool>,
}

impl Facts {
    fn present(&self) -> impl Iterator<Item = &Shown> + Clone {
        self.partitions.iter().flatten()
    }

    /// Readiness of the process.
    fn readiness(&self) -> Readiness {
        let all = self.present().map(|shown| shown.readiness);
        match self.is_member {
            None => together(all),
            Some(is_member) => among_others(all, is_member),
        }
    }
}

/// Facts that a partition shows.
#[derive(Debug, Clone)]
struct Shown {
    readiness: Readiness,
    /// Share of the buckets absent at the takeover that are in memory, also while it is held.
    recovered: f64,
    stoppages: Stoppages,
    gauges: Gauges,
}

/// Place of one partition on the board.
#[derive(Clone)]
pub(crate) struct BoardPlace {
    board: Arc<Board>,
    place: usize,
}

impl Shown {
    /// Facts of a partition of which nothing is known yet.
    fn nothing() -> Self {
        Self {
            readiness: Readiness::Starting { recovered: 0.0 },
            recovered: 0.0,
            stoppages: Stoppages::default(),
            gauges: Gauges::default(),
        }
    }
}

impl Board {
    /// Creates a board for this number of partitions, all of which this process runs unless they
    /// are spread over several processes. It shows the process through these senders.
    pub(super) fn new(
        (partitions, is_spread): (usize, bool),
        (readiness, stoppages): (watch::Sender<Readiness>, watch::Sender<Stoppages>),
        metrics: Metrics,
    ) -> Arc<Self> {
        let nothing = (!is_spread).then(Shown::nothing);
        Arc::new(Self {
            shown: Mutex::new(Facts {
                partitions: vec![nothing; partitions],
                is_member: is_spread.then_some(false),
            }),
            readiness,
            stoppages,
            metrics,
        })
    }

    /// Returns the place of a partition that will run in this process.
    pub(super) fn place(self: &Arc<Self>, place: usize) -> BoardPlace {
        self.shown().partitions[place].get_or_insert_with(Shown::nothing);
        BoardPlace {
            board: Arc::clone(self),
            place,
        }
    }

    /// Removes a partition that has left this process.
    #[cfg(feature = "aws")]
    pub(super) fn leave(&self, place: usize) {
        let mut facts = self.shown();
        facts.partitions[place] = None;
        self.show_process(&facts);
        self.show_total(&facts);
        self.show_union(&facts);
    }

    /// Notes that this process answers requests, also about partitions of other processes.
    #[cfg(feature = "aws")]
    pub(super) fn show_member(&self) {
        let mut facts = self.shown();
        facts.is_member = Some(true);
        self.show_process(&facts);
    }

    fn show_process(&self, facts: &Facts) {
        let all = facts.readiness();
        self.readiness.send_if_modified(|process| {
            // The process alone says that it waits, and that it ends.
            let is_serving = !matches!(process, Readiness::Standby | Readiness::Stopping);
            if is_serving {
                *process = all;
            }
            is_serving
        });
    }

    fn show_total(&self, facts: &Facts) {
        let total = total(facts.present().map(|shown| &shown.gauges));
        self.metrics.observe_gauges(&total);
    }

    fn show_union(&self, facts: &Facts) {
        let now = united(facts.present().map(|shown| &shown.stoppages));
        let before = self.stoppages.send_replace(now.clone());
        self.metrics.observe_stoppages(&now);
        stoppages::log_changes(&before, &now);
    }

    fn shown(&self) -> MutexGuard<'_, Facts> {
        // Nothing here panics between two changes that belong together.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BoardPlace {
    /// Changes what the partition shows. Nothing changes after it has left this process.
    fn change(&self, change: impl FnOnce(&mut Shown), show: impl FnOnce(&Board, &Facts)) {
        let mut facts = self.board.shown();
        if let Some(shown) = &mut facts.partitions[self.place] {
            change(shown);
            show(&self.board, &facts);
        }
    }

    /// Shows the progress of the partition towards serving.
    pub(super) fn show_readiness(&self, readiness: Readiness) {
        self.change(|shown| shown.readiness = readiness, Board::show_process);
    }

    /// Shows the share of the buckets absent at the takeover that are in memory, from 0 to 1.
    /// A partition that is held stays shown as held.
    pub(super) fn show_loaded(&self, recovered: f64, is_complete: bool) {
        let loaded = match is_complete {
            true => Readiness::Serving,
            false => Readiness::Loading { recovered },
        };
        self.change(
            |shown| {
                let own = shown.readiness;
                if matches!(own, Readiness::Serving | Readiness::Loading { .. }) {
                    shown.readiness = loaded;
                }
                shown.recovered = recovered;
            },
            |board, facts| {
                board.show_process(facts);
                let shares = facts.present().map(|shown| shown.recovered);
                let mean = shares.sum::<f64>() / facts.present().count() as f64;
                board.metrics.observe_recovered(mean);
            },
        );
    }

    /// Shows the gauges of the partition.
    pub(super) fn show_gauges(&self, gauges: &Gauges) {
        self.change(|shown| shown.gauges = gauges.clone(), Board::show_total);
    }

    /// Logs and shows the functions and ingresses of the partition that stand still.
    pub(super) fn show_stoppages(&self, now: Stoppages) {
        self.change(|shown| shown.stoppages = now, Board::show_union);
    }
}

/// Readiness of a process that has some of the partitions: it answers requests about any of them
/// once it is a member, by asking the other processes.
fn among_others(all: impl Iterator<Item = Readiness> + Clone, is_member: bool) -> Readiness {
    let has = |wanted: fn(&Readiness) -> bool| all.clone().any(|it| wanted(&it));
    let serves = has(|it| !matches!(it, Readiness::Starting { .. }));
    if has(|it| matches!(it, Readiness::Held)) {
        Readiness::Held
    } else if serves || is_member {
        Readiness::Serving
    } else {
        together(all)
    }
}

/// Readiness of a process whose partitions have these: the least advanced one.
fn together(all: impl Iterator<Item = Readiness> + Clone) -> Readiness {
    let count = all.clone().count().max(1) as f64;
    let has = |wanted: fn(&Readiness) -> bool| all.clone().any(|it| wanted(&it));
    if has(|it| matches!(it, Readiness::Starting { .. })) {
        let read = all.map(|it| match it {
            Readiness::Starting { recovered } => recovered,
            _ => 1.0,
        });
        Readiness::Starting {
            recovered: read.sum::<f64>() / count,
        }
    } else if has(|it| matches!(it, Readiness::Held)) {
        Readiness::Held
    } else if has(|it| matches!(it, Readiness::Loading { .. })) {
        Readiness::Loading {
            recovered: all.map(loaded).sum::<f64>() / count,
        }
    } else {
        Readiness::Serving
    }
}

/// Share of the buckets absent at the takeover that are in memory.
fn loaded(readiness: Readiness) -> f64 {
    match readiness {
        Readiness::Loading { recovered } => recovered,
        Readiness::Starting { .. } => 0.0,
        _ => 1.0,
    }
}

/// Stoppages of several partitions together: each name once, with the longest stop.
fn united<'a>(all: impl Iterator<Item = &'a Stoppages>) -> Stoppages {
    let mut united = Stoppages::default();
    for of in all {
        let lists = [
            (&mut united.suspended_functions, &of.suspended_functions),
            (&mut united.paused_functions, &of.paused_functions),
            (&mut united.paused_ingresses, &of.paused_ingresses),
        ];
        for (list, more) in lists {
            for stoppage in more {
                add(list, stoppage);
            }
        }
    }
    united
}

fn add(list: &mut Vec<Stoppage>, stoppage: &Stoppage) {
    match list.iter_mut().find(|it| it.name == stoppage.name) {
        Some(known) if known.since_ms <= stoppage.since_ms => {}
        Some(known) => known.clone_from(stoppage),
        None => list.push(stoppage.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(partitions: usize) -> (Arc<Board>, watch::Receiver<Readiness>) {
        let readiness = watch::Sender::new(Readiness::Starting { recovered: 0.0 });
        let shown = readiness.subscribe();
        let senders = (readiness, watch::Sender::default());
        let partitions = (partitions, false);
        (Board::new(partitions, senders, Metrics::new()), shown)
    }

    #[test]
    fn a_process_serves_when_its_last_partition_does() {
        let (board, shown) = board(2);
        let places = [board.place(0), board.place(1)];
        let now = || *shown.borrow();
        places[0].show_readiness(Readiness::Starting { recovered: 0.5 });
        assert_eq!(now(), Readiness::Starting { recovered: 0.25 });
        places[0].show_readiness(Readiness::Serving);
        assert_eq!(now(), Readiness::Starting { recovered: 0.5 });
        places[1].show_readiness(Readiness::Serving);
        assert_eq!(now(), Readiness::Serving);
        places[1].show_loaded(0.5, false);
        assert_eq!(now(), Readiness::Loading { recovered: 0.75 });
        places[1].show_loaded(1.0, true);
        assert_eq!(now(), Readiness::Serving);
        board.readiness.send_replace(Readiness::Stopping);
        places[0].show_loaded(0.5, false);
        assert_eq!(now(), Readiness::Stopping);
    }

    #[test]
    fn a_process_among_others_serves_with_any_partition_and_with_none() {
        let readiness = watch::Sender::new(Readiness::Starting { recovered: 0.0 });
        let shown = readiness.subscribe();
        let senders = (readiness, watch::Sender::default());
        let board = Board::new((4, true), senders, Metrics::new());
        let now = || *shown.borrow();
        let place = board.place(3);
        place.show_readiness(Readiness::Starting { recovered: 0.5 });
        assert_eq!(now(), Readiness::Starting { recovered: 0.5 });
        board.place(1).show_readiness(Readiness::Serving);
        assert_eq!(now(), Readiness::Serving);
        board.leave(1);
        assert_eq!(now(), Readiness::Starting { recovered: 0.5 });
        board.show_member();
        assert_eq!(now(), Readiness::Serving);
        place.show_readiness(Readiness::Held);
        assert_eq!(now(), Readiness::Held);
        board.leave(3);
        place.show_readiness(Readiness::Held);
        assert_eq!(now(), Readiness::Serving, "it has left");
    }

    #[test]
    fn a_hold_stays_shown_while_buckets_are_loaded() {
        let (board, shown) = board(1);
        let place = board.place(0);
        place.show_readiness(Readiness::Held);
        place.show_loaded(0.5, false);
        let metrics = board.metrics.encode();
        assert!(
            metrics.contains("\nsatchel_recovered_ratio 0.5\n"),
            "{metrics}"
        );
        place.show_loaded(1.0, true);
        assert_eq!(*shown.borrow(), Readiness::Held);
    }

    #[test]
    fn what_several_partitions_stop_is_shown_once_with_its_longest_stop() {
        let stoppage = |name: &str, since_ms| Stoppage {
            name: name.to_owned(),
            reason: String::new(),
            since_ms,
        };
        let of = |paused: &[Stoppage]| Stoppages {
            paused_functions: paused.to_vec(),
            ..Stoppages::default()
        };
        let all = [
            of(&[stoppage("a/b", 7)]),
            of(&[stoppage("a/c", 1), stoppage("a/b", 5)]),
        ];
        let expected = of(&[stoppage("a/b", 5), stoppage("a/c", 1)]);
        assert_eq!(united(all.iter()), expected);
    }
}
