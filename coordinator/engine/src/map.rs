//! The hash map used throughout this crate.

use foldhash::fast::FixedState;

/// Hash map whose iteration order is the same in every run, so that a simulation can be replayed.
pub(crate) type Map<K, V> = hashbrown::HashMap<K, V, FixedState>;
