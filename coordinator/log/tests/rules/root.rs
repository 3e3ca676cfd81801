//! A root in memory, on whose store a test can hold requests.

use std::sync::Arc;

use satchel_log::{Contender, Identity, Layout, Options, Placement, SnapshotPolicy};
use satchel_log_simulation::{InterceptingStore, ManualOwner, MemoryRoot, SimulatedClock, State};

pub(crate) const HOUR_MS: u64 = 3_600_000;

pub(crate) struct Root {
    pub(crate) memory: Arc<MemoryRoot>,
    pub(crate) store: Arc<InterceptingStore>,
    pub(crate) clock: SimulatedClock,
    pub(crate) layout: Layout,
}

impl Root {
    pub(crate) fn new() -> Self {
        let memory = Arc::new(MemoryRoot::new(crate::LOG));
        Self {
            store: Arc::new(InterceptingStore::new(memory.clone())),
            memory,
            clock: SimulatedClock::default(),
            layout: Layout::new("root", 0),
        }
    }

    /// A process that takes a snapshot whenever possible.
    pub(crate) fn contender(&self, process: u8) -> Contender {
        let options = Options {
            snapshots: SnapshotPolicy {
                floor_bytes: 1,
                log_percent: 0,
                segment_bytes: 1 << 20,
                ..SnapshotPolicy::default()
            },
            ..Options::default()
        };
        self.contender_with(process, options)
    }

    /// A process that takes no snapshots.
    pub(crate) fn contender_without_snapshots(&self, process: u8) -> Contender {
        self.contender_with(process, Options::default())
    }

    pub(crate) fn contender_with(&self, process: u8, options: Options) -> Contender {
        Contender {
            store: self.store.clone(),
            root: "root".to_owned(),
            identity: Identity {
                application: "rules".to_owned(),
                partition: 0,
                partitions: 1,
                buckets: 2,
                placement: Placement::IdMd5 { hash_tags: false },
            },
            nonce: [process; 16],
            clock: Arc::new(self.clock.clone()),
            options,
            on_store_failure: Arc::new(|_| {}),
        }
    }

    pub(crate) fn exists(&self, key: &str) -> bool {
        self.memory.keys().iter().any(|present| present == key)
    }

    /// Returns the state that a new owner recovers.
    pub(crate) fn recovered(&self) -> State {
        ManualOwner::take_over(self.contender_without_snapshots(99))
            .expect("everything durable is whole")
            .state
    }
}

/// Commits deltas, and images whenever requested, until a snapshot has taken effect.
pub(crate) fn commit_until_snapshot(owner: &mut ManualOwner, value: &str) {
    for _ in 0..20 {
        owner.commit(&[(0, "key", Some(value))]);
        owner.image_and_advance();
        if !owner.snapshots.is_empty() {
            return;
        }
    }
    panic!("no snapshot took effect");
}
