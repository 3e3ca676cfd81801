//! Knowledge of the owner of each partition, and the requests that this process serves itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use satchel_aws::lease::PeerPort;
use satchel_engine::forwarding::Owner;
use tokio::sync::{Notify, watch};

use crate::clock::boot_ms;

/// Owner of a partition.
pub(crate) type PeerOwner = Owner<PeerPort>;

/// State that the forwarding layers of all ports share. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    partitions: Vec<OfPartition>,
    /// True once the process is to stop: connections are closed after their next answer.
    stopping: AtomicBool,
    /// Requests of clients and of other processes in progress at present.
    present: AtomicUsize,
    /// Boot time of the last arrival of such a request.
    arrived_ms: AtomicU64,
}

/// State of one partition.
#[derive(Debug)]
struct OfPartition {
    owner: watch::Sender<PeerOwner>,
    /// True while this process serves it. Read for every request, without a lock.
    here: AtomicBool,
    /// Requests that this process serves itself at present.
    served: AtomicUsize,
    served_less: Notify,
}

impl Default for OfPartition {
    fn default() -> Self {
        Self {
            owner: watch::Sender::new(Owner::Unknown),
            here: AtomicBool::new(false),
            served: AtomicUsize::new(0),
            served_less: Notify::new(),
        }
    }
}

impl Gate {
    /// Creates the gate of an application of this number of partitions, at least one. No owner is
    /// known yet.
    pub(crate) fn new(partitions: u32) -> Self {
        let partitions = (0..partitions.max(1)).map(|_| OfPartition::default());
        Self(Arc::new(Inner {
            partitions: partitions.collect(),
            stopping: AtomicBool::new(false),
            present: AtomicUsize::new(0),
            arrived_ms: AtomicU64::new(boot_ms()),
        }))
    }

    /// Number of partitions of the application.
    pub(super) fn partitions(&self) -> u32 {
        self.0.partitions.len() as u32
    }

    /// State of a partition. A number that no partition has is a bug.
    fn of(&self, partition: u32) -> &OfPartition {
        &self.0.partitions[partition as usize]
    }

    /// Sets what is known of the owner of a partition.
    pub(crate) fn set(&self, partition: u32, owner: PeerOwner) {
        let of = self.of(partition);
        of.owner.send_if_modified(|known| {
            // Under the lock of the channel, so that both are of the same call.
            of.here.store(owner == Owner::Here, Ordering::SeqCst);
            let changed = *known != owner;
            *known = owner;
            changed
        });
    }

    /// Owner of a partition, now and later.
    pub(crate) fn owner(&self, partition: u32) -> watch::Receiver<PeerOwner> {
        self.of(partition).owner.subscribe()
    }

    /// Lets a request about a partition in that this process serves itself, if it serves.
    pub(super) fn enter(&self, partition: u32) -> Option<Served> {
        let of = self.of(partition);
        // Counted before the look, so that no request passes a gate that was closed and counted.
        of.served.fetch_add(1, Ordering::SeqCst);
        let served = Served(self.clone(), partition);
        of.here.load(Ordering::SeqCst).then_some(served)
    }

    /// Waits until this process serves no request about a partition itself, for at most `limit`.
    /// Returns whether that is so. The gate must be closed: the owner must not be [`Owner::Here`].
    pub(crate) async fn quiet(&self, partition: u32, limit: Duration) -> bool {
        let of = self.of(partition);
        let quiet = async {
            loop {
                let less = of.served_less.notified();
                let mut less = std::pin::pin!(less);
                less.as_mut().enable();
                if of.served.load(Ordering::SeqCst) == 0 {
                    return;
                }
                less.await;
            }
        };
        tokio::time::timeout(limit, quiet).await.is_ok()
    }

    /// Number of requests about a partition that this process serves itself at present.
    pub(crate) fn served(&self, partition: u32) -> usize {
        self.of(partition).served.load(Ordering::SeqCst)
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

/// Request about a partition that this process serves itself.
#[derive(Debug)]
pub(super) struct Served(Gate, u32);

impl Drop for Served {
    fn drop(&mut self) {
        let of = self.0.of(self.1);
        if of.served.fetch_sub(1, Ordering::SeqCst) == 1 {
            of.served_less.notify_waiters();
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
        let gate = Gate::new(2);
        gate.set(0, Owner::Here);
        assert!(gate.enter(1).is_none());
        gate.set(1, Owner::Here);
        let inside = gate.enter(1).unwrap();
        gate.set(1, Owner::Unknown);
        assert!(gate.enter(1).is_none());
        assert_eq!((gate.served(0), gate.served(1)), (0, 1));
        assert!(gate.quiet(0, Duration::from_millis(20)).await);
        assert!(!gate.quiet(1, Duration::from_millis(20)).await);
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.quiet(1, Duration::from_secs(60)).await }
        });
        tokio::task::yield_now().await;
        drop(inside);
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn a_process_is_deserted_when_nothing_arrived_for_a_while() {
        let gate = Gate::new(1);
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
