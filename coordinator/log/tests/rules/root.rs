//! A root in memory, on whose store a test can hold requests up.

use std::sync::Arc;

use satchel_log::{Identity, Layout, MemoryStore, Options, Place, SnapshotPolicy};
use satchel_log_simulation::{GatedStore, Puppet, SimulatedClock, State};

pub(crate) const HOUR_MS: u64 = 3_600_000;

pub(crate) struct Root {
    pub(crate) memory: Arc<MemoryStore>,
    pub(crate) store: Arc<GatedStore>,
    pub(crate) clock: SimulatedClock,
    pub(crate) layout: Layout,
}

impl Root {
    pub(crate) fn new() -> Self {
        let memory = Arc::new(MemoryStore::new());
        Self {
            store: Arc::new(GatedStore::new(memory.clone())),
            memory,
            clock: SimulatedClock::default(),
            layout: Layout::new("root", 0),
        }
    }

    /// A place for a process that takes a snapshot whenever it may.
    pub(crate) fn place(&self, process: u8) -> Place {
        let options = Options {
            snapshots: SnapshotPolicy {
                floor_bytes: 1,
                log_percent: 0,
                segment_bytes: 1 << 20,
                ..SnapshotPolicy::default()
            },
            ..Options::default()
        };
        self.place_with(process, options)
    }

    /// A place for a process that takes no snapshots.
    pub(crate) fn place_without_snapshots(&self, process: u8) -> Place {
        self.place_with(process, Options::default())
    }

    pub(crate) fn place_with(&self, process: u8, options: Options) -> Place {
        Place {
            store: self.store.clone(),
            root: "root".to_owned(),
            identity: Identity {
                application: "rules".to_owned(),
                partition: 0,
                partitions: 1,
                buckets: 2,
            },
            nonce: [process; 16],
            clock: Arc::new(self.clock.clone()),
            options,
            on_trouble: Arc::new(|_| {}),
        }
    }

    pub(crate) fn exists(&self, key: &str) -> bool {
        self.memory.keys().iter().any(|present| present == key)
    }

    /// What a new owner recovers.
    pub(crate) fn recovered(&self) -> State {
        Puppet::take_over(self.place_without_snapshots(99))
            .expect("everything durable is whole")
            .state
    }
}

/// Commits one delta after the other, imaging whenever asked, until a snapshot has taken effect.
pub(crate) fn commit_until_snapshot(puppet: &mut Puppet, value: &str) {
    for _ in 0..20 {
        puppet.commit(&[(0, "key", Some(value))]);
        puppet.image_and_go_on();
        if !puppet.snapshots.is_empty() {
            return;
        }
    }
    panic!("no snapshot took effect");
}
