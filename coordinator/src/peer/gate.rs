//! Knowledge of the owner, and the requests that this process serves itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use satchel_aws::lease::PeerPort;
use satchel_engine::forwarding::Owner;
use tokio::sync::{Notify, watch};

use crate::clock::boot_ms;

/// Owner of the partition.
pub(crate) type PeerOwner = Owner<PeerPort>;

/// State that the forwarding layers of all ports share. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    owner: watch::Sender<PeerOwner>,
    /// True while this process serves. Read for every request, without a lock.
    here: AtomicBool,
    /// Requests that this process serves itself at present.
    served: AtomicUsize,
    served_less: Notify,
    /// True once the process is to stop: connections are closed after their next answer.
    stopping: AtomicBool,
    /// Requests of clients and of other processes in progress at present.
    present: AtomicUsize,
    /// Boot time of the last arrival of such a request.
    arrived_ms: AtomicU64,
}

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(Inner {
            owner: watch::Sender::new(Owner::Unknown),
            here: AtomicBool::new(false),
            served: AtomicUsize::new(0),
            served_less: Notify::new(),
            stopping: AtomicBool::new(false),
            present: AtomicUsize::new(0),
            arrived_ms: AtomicU64::new(boot_ms()),
        }))
    }
}

impl Gate {
    /// Sets what is known of the owner.
    pub(crate) fn set(&self, owner: PeerOwner) {
        self.0.owner.send_if_modified(|known| {
            // Under the lock of the channel, so that both are of the same call.
            self.0.here.store(owner == Owner::Here, Ordering::SeqCst);
            let changed = *known != owner;
            *known = owner;
            changed
        });
    }

    /// Owner of the partition, now and later.
    pub(crate) fn owner(&self) -> watch::Receiver<PeerOwner> {
        self.0.owner.subscribe()
    }

    /// Lets a request in that this process serves itself, if it serves.
    pub(super) fn enter(&self) -> Option<Served> {
        // Counted before the look, so that no request passes a gate that was closed and counted.
        self.0.served.fetch_add(1, Ordering::SeqCst);
        let served = Served(self.clone());
        self.0.here.load(Ordering::SeqCst).then_some(served)
    }

    /// Waits until this process serves no request itself, for at most `limit`. Returns whether
    /// that is so. The gate must be closed: the owner must not be [`Owner::Here`].
    pub(crate) async fn quiet(&self, limit: Duration) -> bool {
        let quiet = async {
            loop {
                let less = self.0.served_less.notified();
                let mut less = std::pin::pin!(less);
                less.as_mut().enable();
                if self.0.served.load(Ordering::SeqCst) == 0 {
                    return;
                }
                less.await;
            }
        };
        tokio::time::timeout(limit, quiet).await.is_ok()
    }

    /// Number of requests that this process serves itself at present.
    pub(crate) fn served(&self) -> usize {
        self.0.served.load(Ordering::SeqCst)
    }

    /// Closes each connection after its next answer.
    pub(crate) fn stop(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
    }

    /// Returns true if the process is to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Relaxed)
    }

    /// Counts a request while it is in progress.
    pub(super) fn arrive(&self) -> Present {
        self.0.present.fetch_add(1, Ordering::SeqCst);
        self.0.arrived_ms.store(boot_ms(), Ordering::Relaxed);
        Present(self.clone())
    }

    /// Waits until no request was in progress for `quiet`, and none arrived, for at most `limit`.
    pub(crate) async fn deserted(&self, quiet: Duration, limit: Duration) {
        const EVERY: Duration = Duration::from_millis(20);
        let begun = Instant::now();
        let quiet_ms = u64::try_from(quiet.as_millis()).unwrap_or(u64::MAX);
        while begun.elapsed() < limit {
            let arrived_ms = self.0.arrived_ms.load(Ordering::Relaxed);
            let long_ago = boot_ms().saturating_sub(arrived_ms) >= quiet_ms;
            if long_ago && self.0.present.load(Ordering::SeqCst) == 0 {
                return;
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// Request that this process serves itself.
#[derive(Debug)]
pub(super) struct Served(Gate);

impl Drop for Served {
    fn drop(&mut self) {
        if self.0.0.served.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.0.served_less.notify_waiters();
        }
    }
}

/// Request in progress.
#[derive(Debug)]
pub(super) struct Present(Gate);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.0.present.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_gate_lets_none_in_and_waits_for_those_inside() {
        let gate = Gate::default();
        assert!(gate.enter().is_none());
        gate.set(Owner::Here);
        let inside = gate.enter().unwrap();
        gate.set(Owner::Unknown);
        assert!(gate.enter().is_none());
        assert_eq!(gate.served(), 1);
        assert!(!gate.quiet(Duration::from_millis(20)).await);
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.quiet(Duration::from_secs(60)).await }
        });
        tokio::task::yield_now().await;
        drop(inside);
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn a_process_is_deserted_when_nothing_arrived_for_a_while() {
        let gate = Gate::default();
        let present = gate.arrive();
        let begun = Instant::now();
        let limit = Duration::from_millis(60);
        gate.deserted(Duration::ZERO, limit).await;
        assert!(begun.elapsed() >= limit, "a request is in progress");
        drop(present);
        let begun = Instant::now();
        drop(gate.arrive());
        gate.deserted(Duration::from_millis(200), Duration::from_secs(60))
            .await;
        assert!(begun.elapsed() >= Duration::from_millis(190));
        assert!(begun.elapsed() < Duration::from_secs(50));
    }
}
