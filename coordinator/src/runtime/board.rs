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
    shown: Mutex<Vec<Shown>>,
    readiness: watch::Sender<Readiness>,
    stoppages: watch::Sender<Stoppages>,
    metrics: Metrics,
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

impl Board {
    /// Creates a board for this number of partitions, of which nothing is known yet. It shows the
    /// process through these senders.
    pub(super) fn new(
        partitions: usize,
        (readiness, stoppages): (watch::Sender<Readiness>, watch::Sender<Stoppages>),
        metrics: Metrics,
    ) -> Arc<Self> {
        let nothing = Shown {
            readiness: Readiness::Starting { recovered: 0.0 },
            recovered: 0.0,
            stoppages: Stoppages::default(),
            gauges: Gauges::default(),
        };
        Arc::new(Self {
            shown: Mutex::new(vec![nothing; partitions]),
            readiness,
            stoppages,
            metrics,
        })
    }

    /// Returns the place of a partition.
    pub(super) fn place(self: &Arc<Self>, place: usize) -> BoardPlace {
        BoardPlace {
            board: Arc::clone(self),
            place,
        }
    }

    fn shown(&self) -> MutexGuard<'_, Vec<Shown>> {
        // Nothing here panics between two changes that belong together.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BoardPlace {
    /// Shows the progress of the partition towards serving.
    pub(super) fn show_readiness(&self, readiness: Readiness) {
        let mut shown = self.board.shown();
        shown[self.place].readiness = readiness;
        let all = together(shown.iter().map(|shown| shown.readiness));
        self.board.readiness.send_if_modified(|process| {
            // The process alone says that it waits, and that it ends.
            let is_serving = !matches!(process, Readiness::Standby | Readiness::Stopping);
            if is_serving {
                *process = all;
            }
            is_serving
        });
    }

    /// Shows the share of the buckets absent at the takeover that are in memory, from 0 to 1.
    /// A partition that is held stays shown as held.
    pub(super) fn show_loaded(&self, recovered: f64, is_complete: bool) {
        let own = self.board.shown()[self.place].readiness;
        if matches!(own, Readiness::Serving | Readiness::Loading { .. }) {
            self.show_readiness(match is_complete {
                true => Readiness::Serving,
                false => Readiness::Loading { recovered },
            });
        }
        let mut shown = self.board.shown();
        shown[self.place].recovered = recovered;
        let shares = shown.iter().map(|shown| shown.recovered);
        let mean = shares.sum::<f64>() / shown.len() as f64;
        self.board.metrics.observe_recovered(mean);
    }

    /// Shows the gauges of the partition.
    pub(super) fn show_gauges(&self, gauges: &Gauges) {
        let mut shown = self.board.shown();
        shown[self.place].gauges = gauges.clone();
        let total = total(shown.iter().map(|shown| &shown.gauges));
        drop(shown);
        self.board.metrics.observe_gauges(&total);
    }

    /// Logs and shows the functions and ingresses of the partition that stand still.
    pub(super) fn show_stoppages(&self, now: Stoppages) {
        let mut shown = self.board.shown();
        shown[self.place].stoppages = now;
        let now = united(shown.iter().map(|shown| &shown.stoppages));
        let before = self.board.stoppages.send_replace(now.clone());
        self.board.metrics.observe_stoppages(&now);
        stoppages::log_changes(&before, &now);
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
