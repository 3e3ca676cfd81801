//! Workloads that keep the application busy and know its expected results. There is one file for
//! each; the functions of the same name are the other half.

mod alarms;
mod asking;
mod bank;
mod counters;
mod gathering;
mod items;
mod judging;
mod poison;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::clients::Clients;
use crate::egress::SeenEgress;

/// Maximum number of concurrent operations of one workload. Operations delayed by faults accumulate
/// up to this limit.
const CONCURRENT_MAX: usize = 24;

/// A workload.
trait Workload: Default + Send + Sync + 'static {
    /// Name in metrics.
    const NAME: &'static str;
    /// Share of all operations, in percent.
    const SHARE: u64;

    /// Runs one operation to its end. `n` is unique.
    fn operate(&self, n: u64, clients: &Clients) -> impl Future<Output = ()> + Send;

    /// Describes a mismatch with the expected final result, if there is one. No operation is
    /// running.
    fn mismatch(
        &self,
        clients: &Clients,
        seen: &SeenEgress,
    ) -> impl Future<Output = Option<String>> + Send;
}

/// All workloads.
#[derive(Default)]
pub(crate) struct Workloads {
    alarms: Driver<alarms::Alarms>,
    asking: Driver<asking::Asking>,
    bank: Driver<bank::Bank>,
    counters: Driver<counters::Counters>,
    gathering: Driver<gathering::Gathering>,
    items: Driver<items::Items>,
    judging: Driver<judging::Judging>,
    poison: Driver<poison::Poison>,
}

impl Workloads {
    /// Runs operations at this total rate per second until `stop`; then waits for the running ones.
    pub(crate) async fn drive(
        &mut self,
        clients: &Arc<Clients>,
        rate: f64,
        stop: &watch::Receiver<bool>,
    ) {
        tokio::join!(
            self.alarms.drive(clients, rate, stop),
            self.asking.drive(clients, rate, stop),
            self.bank.drive(clients, rate, stop),
            self.counters.drive(clients, rate, stop),
            self.gathering.drive(clients, rate, stop),
            self.items.drive(clients, rate, stop),
            self.judging.drive(clients, rate, stop),
            self.poison.drive(clients, rate, stop),
        );
    }

    /// Describes all mismatches with the expected final result, if there are any.
    pub(crate) async fn mismatch(&self, clients: &Clients, seen: &SeenEgress) -> Option<String> {
        let letters = clients.dead_letters(None).await.unwrap_or_default();
        if let [first, ..] = &letters[..] {
            let count = letters.len();
            return Some(format!("{count} dead letters exist; the first: {first}"));
        }
        let mismatches = [
            self.alarms.workload.mismatch(clients, seen).await,
            self.asking.workload.mismatch(clients, seen).await,
            self.bank.workload.mismatch(clients, seen).await,
            self.counters.workload.mismatch(clients, seen).await,
            self.gathering.workload.mismatch(clients, seen).await,
            self.items.workload.mismatch(clients, seen).await,
            self.judging.workload.mismatch(clients, seen).await,
            self.poison.workload.mismatch(clients, seen).await,
        ];
        let mismatches: Vec<String> = mismatches.into_iter().flatten().collect();
        (!mismatches.is_empty()).then(|| mismatches.join("; "))
    }
}

/// Runs a workload at its rate.
#[derive(Default)]
struct Driver<W> {
    workload: Arc<W>,
    next: u64,
}

impl<W: Workload> Driver<W> {
    async fn drive(&mut self, clients: &Arc<Clients>, rate: f64, stop: &watch::Receiver<bool>) {
        let mut stop = stop.clone();
        let a_second = rate * W::SHARE as f64 / 100.0;
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / a_second));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                // Closed or true: either way it is over.
                _ = stop.wait_for(|stop| *stop) => break,
                ended = running.join_next(), if !running.is_empty() => finished(ended),
                _ = ticks.tick(), if running.len() < CONCURRENT_MAX => {
                    self.next += 1;
                    let n = self.next;
                    let (workload, clients) =
                        (Arc::clone(&self.workload), Arc::clone(clients));
                    running.spawn(async move {
                        workload.operate(n, &clients).await;
                        clients.metrics.count(format!("operations: {}", W::NAME));
                    });
                }
            }
        }
        while let Some(ended) = running.join_next().await {
            finished(Some(ended));
        }
    }
}

fn finished(ended: Option<Result<(), tokio::task::JoinError>>) {
    if let Some(Err(error)) = ended {
        // A missing dependency is reported by a panic, which must not be taken for a result.
        std::panic::resume_unwind(error.into_panic());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Body of an answer, or null if it is not JSON.
fn json(reply: &satchel_testkit::Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap_or_default()
}
