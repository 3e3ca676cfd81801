//! Who keeps the application busy, and knows what must come of it. One file for each; the functions of the same name do the other half.

mod alarms;
mod asking;
mod bank;
mod counters;
mod gathering;
mod items;
mod poison;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::left::SeenToLeave;
use crate::outside::Outside;

/// How many operations of one workload may be under way at once: those that trouble delays pile up to here.
const UNDER_WAY_MAX: usize = 24;

/// A workload.
trait Workload: Default + Send + Sync + 'static {
    /// Its name in figures.
    const NAME: &'static str;
    /// How many of a hundred operations are its own.
    const SHARE: u64;

    /// One operation, until its end. `n` is another one each time.
    fn operate(&self, n: u64, outside: &Outside) -> impl Future<Output = ()> + Send;

    /// What is not as it must be in the end, if something is; nothing is under way.
    fn lacks(
        &self,
        outside: &Outside,
        seen: &SeenToLeave,
    ) -> impl Future<Output = Option<String>> + Send;
}

/// All of them.
#[derive(Default)]
pub(crate) struct Workloads {
    alarms: Driver<alarms::Alarms>,
    asking: Driver<asking::Asking>,
    bank: Driver<bank::Bank>,
    counters: Driver<counters::Counters>,
    gathering: Driver<gathering::Gathering>,
    items: Driver<items::Items>,
    poison: Driver<poison::Poison>,
}

impl Workloads {
    /// Operates until it is told to stop, so often a second in all; then until everything under way has ended.
    pub(crate) async fn drive(
        &mut self,
        outside: &Arc<Outside>,
        rate: f64,
        stop: &watch::Receiver<bool>,
    ) {
        tokio::join!(
            self.alarms.drive(outside, rate, stop),
            self.asking.drive(outside, rate, stop),
            self.bank.drive(outside, rate, stop),
            self.counters.drive(outside, rate, stop),
            self.gathering.drive(outside, rate, stop),
            self.items.drive(outside, rate, stop),
            self.poison.drive(outside, rate, stop),
        );
    }

    /// What is not as it must be in the end, if something is.
    pub(crate) async fn lack(&self, outside: &Outside, seen: &SeenToLeave) -> Option<String> {
        let letters = outside.dead_letters(None).await.unwrap_or_default();
        if let [first, ..] = &letters[..] {
            let count = letters.len();
            return Some(format!(
                "{count} dead letters are there; the first: {first}"
            ));
        }
        let lacks = [
            self.alarms.workload.lacks(outside, seen).await,
            self.asking.workload.lacks(outside, seen).await,
            self.bank.workload.lacks(outside, seen).await,
            self.counters.workload.lacks(outside, seen).await,
            self.gathering.workload.lacks(outside, seen).await,
            self.items.workload.lacks(outside, seen).await,
            self.poison.workload.lacks(outside, seen).await,
        ];
        let lacks: Vec<String> = lacks.into_iter().flatten().collect();
        (!lacks.is_empty()).then(|| lacks.join("; "))
    }
}

/// Lets a workload operate at its rate.
#[derive(Default)]
struct Driver<W> {
    workload: Arc<W>,
    next: u64,
}

impl<W: Workload> Driver<W> {
    async fn drive(&mut self, outside: &Arc<Outside>, rate: f64, stop: &watch::Receiver<bool>) {
        let mut stop = stop.clone();
        let a_second = rate * W::SHARE as f64 / 100.0;
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / a_second));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut under_way = JoinSet::new();
        loop {
            tokio::select! {
                // Gone or true: either way it is over.
                _ = stop.wait_for(|stop| *stop) => break,
                ended = under_way.join_next(), if !under_way.is_empty() => finished(ended),
                _ = ticks.tick(), if under_way.len() < UNDER_WAY_MAX => {
                    self.next += 1;
                    let (n, workload, outside) = (self.next, Arc::clone(&self.workload), Arc::clone(outside));
                    under_way.spawn(async move {
                        workload.operate(n, &outside).await;
                        outside.tally.count(format!("operations: {}", W::NAME));
                    });
                }
            }
        }
        while let Some(ended) = under_way.join_next().await {
            finished(Some(ended));
        }
    }
}

fn finished(ended: Option<Result<(), tokio::task::JoinError>>) {
    if let Some(Err(error)) = ended {
        // What is missing says so in a panic, which must not be taken for a result.
        std::panic::resume_unwind(error.into_panic());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The body of an answer, if it is JSON.
fn json(reply: &satchel_testkit::Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap_or_default()
}
