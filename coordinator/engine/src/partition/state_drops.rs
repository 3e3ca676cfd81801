//! Drops of a state that a function no longer declares, from all its addresses.
//!
//! A drop takes as many requests as it needs, bucket by bucket. Each is bounded in the values that
//! it removes, and waits for its bucket. Repeating a request whose answer was lost is harmless.
//! When a drop has visited every bucket and nothing wrote the state meanwhile, the partition
//! forgets the state, and a later version may declare it anew, with another type too.

use std::sync::Arc;

use super::Partition;
use crate::address::{Address, FunctionType};
use crate::durable::Key;
use crate::output::{Answer, StateDropped};

/// Progress of a drop.
#[derive(Debug, Clone, Copy)]
pub(super) struct StateDrop {
    /// Buckets below this number have no value of the state.
    visited: u16,
    /// Attempts below this number began before the drop.
    attempts_below: u64,
}

impl Partition {
    /// Removes the values of a state in a bucket that is in memory, at most `limit` of them.
    pub(super) fn drop_state(
        &mut self,
        bucket: u16,
        function: FunctionType,
        state: Arc<str>,
        limit: usize,
    ) -> Answer {
        if bucket >= self.tables.buckets() {
            return Answer::NotFound(format!("there is no bucket {bucket}"));
        }
        let states = self.tables.states_of(&function);
        let slot = states.and_then(|states| states.find(&state));
        if slot.is_some_and(|(_, slot)| slot.travels()) {
            return Answer::Refused(format!(
                "the function {function} declares the state {state:?}; only a state that no \
                 version has declared for a minute can be dropped"
            ));
        }
        let slot = slot.map(|(slot, _)| slot);
        let holders = slot.map_or_else(Vec::new, |slot| {
            self.addresses_with(bucket, &function, slot, limit.saturating_add(1))
        });
        let is_done = holders.len() <= limit;
        let mut dropped = 0;
        for address in holders.into_iter().take(limit) {
            self.withdraw_corrections(&address, &state);
            self.write_state(&address, &state, None);
            self.tables.prune(&address);
            dropped += 1;
        }
        let is_over = is_done && self.bucket_without(bucket, function, state);
        let next = if is_over {
            bucket
                .checked_add(1)
                .filter(|next| *next < self.tables.buckets())
        } else {
            Some(bucket)
        };
        Answer::StateDropped(StateDropped { dropped, next })
    }

    /// Lists addresses of a function in a bucket that have a value in `slot`.
    fn addresses_with(
        &self,
        bucket: u16,
        function: &FunctionType,
        slot: u16,
        limit: usize,
    ) -> Vec<Address> {
        let instances = self.tables.bucket_slot(bucket).instances();
        let holders = instances.filter(|(of, _, instance)| {
            *of == function && instance.states().any(|state| state.slot == slot)
        });
        let addresses = holders.map(|(_, id, _)| Address::new(function.clone(), id));
        addresses.take(limit).collect()
    }

    /// Takes note that a bucket has no value of a state. Forgets the state once no bucket has one.
    /// Returns false if an attempt in flight may still write it.
    fn bucket_without(&mut self, bucket: u16, function: FunctionType, name: Arc<str>) -> bool {
        let state = (function, name);
        let begun = StateDrop {
            visited: 0,
            attempts_below: self.next_attempt,
        };
        let progress = self.state_drops.get(&state).copied().unwrap_or(begun);
        if bucket > progress.visited {
            // Buckets before this one were not visited in this period, or were written to since.
            return true;
        }
        let progress = StateDrop {
            visited: progress.visited.max(bucket + 1),
            ..progress
        };
        if progress.visited < self.tables.buckets() {
            self.state_drops.insert(state, progress);
            return true;
        }
        // A request that began while the function declared the state may return a value of it.
        let mut flights = self.flights.iter();
        let writes = flights.any(|(attempt, address)| {
            *attempt < progress.attempts_below && address.function == state.0
        });
        if writes {
            self.state_drops.insert(state, progress);
            return false;
        }
        self.state_drops.remove(&state);
        let (function, name) = state;
        let is_known = self.tables.states_of(&function).is_some();
        if is_known && self.tables.states_of_mut(&function).forget(&name) {
            self.forget_declarations(&function, &name);
            self.mark_changed(Key::Registration { function });
        }
        true
    }

    /// Takes note that a value of a state was written.
    pub(super) fn disturb_state_drops(&mut self, function: &FunctionType, name: &Arc<str>) {
        if !self.state_drops.is_empty() {
            self.state_drops.remove(&(function.clone(), name.clone()));
        }
    }
}
