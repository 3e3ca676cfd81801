//! The hash map of the core.

use foldhash::fast::FixedState;

/// A hash map whose iteration order is the same in every run, so that a simulation can be replayed.
pub(crate) type Map<K, V> = hashbrown::HashMap<K, V, FixedState>;
