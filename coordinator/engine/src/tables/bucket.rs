//! The instances of one bucket, by function and id.

use std::hash::BuildHasher;

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::active_state::{ActiveState, Eviction};
use super::body::{Body, States};
use super::functions::Functions;
use crate::address::{Address, FunctionType};
use crate::durable::{BucketSummary, Key, StoredState, Value};

/// Delay between the first expiry in an absent bucket and its loading. An expired value is never
/// shown, so its removal is not urgent, and loading a bucket for each one would be expensive.
const EXPIRY_SLACK_MS: u64 = 60 * 60 * 1000;

/// The instances of one bucket.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bucket {
    function_tables: Vec<FunctionTable>,
    /// Size of all bodies, in bytes.
    body_bytes: usize,
    /// Size of all active states as far as it was counted, in bytes.
    active_bytes: usize,
    /// Size of the hash tables, in bytes.
    table_bytes: usize,
    /// Number of addresses that were counted as [`Eviction::Blocked`].
    blocked: usize,
    /// Number of addresses that were counted as [`Eviction::AfterDrain`].
    draining: usize,
    /// Size of the messages of the former, in bytes.
    standing_bytes: usize,
}

/// The instances of one function, which is therefore not stored with each instance.
#[derive(Debug, Clone)]
struct FunctionTable {
    function: FunctionType,
    instances: HashTable<Instance>,
}

/// One virtual instance. Most instances only have state, so everything else is behind one pointer.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    body: Body,
    pub(crate) active: Option<Box<ActiveState>>,
}

impl Instance {
    /// Size of the schedule entry of a state with an expiry, counted here.
    const EXPIRY_BYTES: usize = 200;

    pub(crate) fn states(&self) -> States<'_> {
        self.body.states()
    }

    /// Returns the expiry and the value of one state.
    pub(crate) fn state(&self, slot: u16) -> Option<(Option<u64>, Bytes)> {
        let mut states = self.body.states();
        let state = states.find(|state| state.slot == slot)?;
        Some((state.expires_at_ms(), state.value()))
    }

    /// Returns the expiry of a state; the outer `None` means that the state has no value.
    pub(crate) fn expiry(&self, slot: u16) -> Option<Option<u64>> {
        let mut states = self.body.states();
        let state = states.find(|state| state.slot == slot)?;
        Some(state.expires_at_ms())
    }

    /// Returns whether the address has an active state, or a value that expires.
    pub(crate) fn is_active(&self) -> bool {
        self.active.is_some() || self.states().any(|state| state.expires_at_ms().is_some())
    }

    fn is_empty(&self) -> bool {
        self.active.is_none() && self.body.is_without_states()
    }

    fn body_bytes(&self) -> usize {
        let expiring = self
            .states()
            .filter(|state| state.expires_at_ms().is_some());
        self.body.bytes() + expiring.count() * Self::EXPIRY_BYTES
    }

    fn summary(&self, summary: &mut BucketSummary) {
        let expiries = self.states().filter_map(|state| state.expires_at_ms());
        let active = self.active.as_deref();
        let outcomes = active.and_then(ActiveState::earliest_expiry_ms);
        let expiry_ms = expiries.chain(outcomes).min();
        let late_ms = expiry_ms.map(|at_ms| at_ms.saturating_add(EXPIRY_SLACK_MS));
        let timer_ms = active.and_then(ActiveState::earliest_timer_ms);
        let due = [summary.earliest_due_ms, late_ms, timer_ms];
        summary.earliest_due_ms = due.into_iter().flatten().min();
        summary.pending |= active.is_some_and(ActiveState::is_pending);
    }
}

fn hash_of(id: &str) -> u64 {
    FixedState::default().hash_one(id)
}

impl Bucket {
    pub(crate) fn get(&self, address: &Address) -> Option<&Instance> {
        let table = self.table_of(&address.function)?;
        let id = &*address.id;
        let instances = &self.function_tables[table].instances;
        instances.find(hash_of(id), |instance| instance.body.has_id(id))
    }

    pub(super) fn get_mut(&mut self, address: &Address) -> Option<&mut Instance> {
        let table = self.table_of(&address.function)?;
        let id = &*address.id;
        let instances = &mut self.function_tables[table].instances;
        instances.find_mut(hash_of(id), |instance| instance.body.has_id(id))
    }

    pub(super) fn get_or_new(&mut self, address: &Address) -> &mut Instance {
        let table = self.table_or_new(&address.function);
        let id = &*address.id;
        let instances = &mut self.function_tables[table].instances;
        let before = table_bytes(instances);
        let is = |instance: &Instance| instance.body.has_id(id);
        let of = |instance: &Instance| hash_of(instance.body.id());
        if instances.find(hash_of(id), is).is_none() {
            let body = Body::new(id);
            self.body_bytes += body.bytes();
            instances.insert_unique(hash_of(id), Instance { body, active: None }, of);
            self.table_bytes += table_bytes(instances) - before;
        }
        let instance = instances.find_mut(hash_of(id), is);
        instance.expect("it was there, or was just made")
    }

    /// Iterates over all instances, with function and id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&FunctionType, &str, &Instance)> {
        self.function_tables.iter().flat_map(|table| {
            let instances = table.instances.iter();
            instances.map(|instance| (&table.function, instance.body.id(), instance))
        })
    }

    /// Lists the addresses with an active state, or with a value that expires.
    pub(crate) fn active_addresses(&self) -> Vec<Address> {
        let mut addresses = Vec::new();
        for table in &self.function_tables {
            let active = table.instances.iter().filter(|it| it.is_active());
            addresses.extend(active.map(|it| Address::new(table.function.clone(), it.body.id())));
        }
        addresses
    }

    pub(super) fn set_state(
        &mut self,
        address: &Address,
        slot: u16,
        expires_at_ms: Option<u64>,
        value: &[u8],
    ) {
        let instance = self.get_or_new(address);
        let before = instance.body_bytes();
        instance.body.set(slot, expires_at_ms, value);
        let after = instance.body_bytes();
        self.body_bytes = self.body_bytes + after - before;
    }

    /// Like [`Self::set_state`], for an instance that is usually new, given by its parts.
    pub(super) fn load_state(
        &mut self,
        (function, id): (&FunctionType, &str),
        slot: u16,
        expires_at_ms: Option<u64>,
        value: &[u8],
        expected: usize,
    ) {
        let table = match self.function_tables.last() {
            // Entries of one function usually follow each other.
            Some(last) if last.function == *function => self.function_tables.len() - 1,
            _ => self.table_or_new(function),
        };
        let instances = &mut self.function_tables[table].instances;
        let table_before = table_bytes(instances);
        let of = |instance: &Instance| hash_of(instance.body.id());
        if instances.is_empty() && expected > 0 {
            instances.reserve(expected, of);
        }
        let is = |instance: &Instance| instance.body.has_id(id);
        match instances.entry(hash_of(id), is, of) {
            Entry::Vacant(vacant) => {
                let body = Body::with_state(id, slot, expires_at_ms, value);
                let instance = Instance { body, active: None };
                self.body_bytes += instance.body_bytes();
                vacant.insert(instance);
            }
            Entry::Occupied(mut occupied) => {
                let instance = occupied.get_mut();
                let before = instance.body_bytes();
                instance.body.set(slot, expires_at_ms, value);
                self.body_bytes = self.body_bytes + instance.body_bytes() - before;
            }
        }
        let table_after = table_bytes(&self.function_tables[table].instances);
        self.table_bytes = self.table_bytes + table_after - table_before;
    }

    /// Counts the loaded content, and releases unneeded capacity of the tables.
    pub(super) fn finish_loading(&mut self) {
        self.table_bytes = 0;
        self.active_bytes = 0;
        self.blocked = 0;
        self.draining = 0;
        self.standing_bytes = 0;
        let mut evictions = Vec::new();
        for table in &mut self.function_tables {
            let of = |instance: &Instance| hash_of(instance.body.id());
            table.instances.shrink_to_fit(of);
            self.table_bytes += table_bytes(&table.instances);
            for active in table
                .instances
                .iter_mut()
                .filter_map(|it| it.active.as_mut())
            {
                active.counted_bytes = active.bytes();
                self.active_bytes += active.counted_bytes;
                active.counted_eviction = active.eviction();
                evictions.push(active.counted_eviction);
                active.counted_standing_bytes = active.standing_bytes();
                self.standing_bytes += active.counted_standing_bytes;
            }
        }
        for eviction in evictions {
            self.recount_eviction(Eviction::Allowed, eviction);
        }
    }

    pub(super) fn refresh_state(&mut self, address: &Address, slot: u16, at_ms: u64) -> bool {
        let Some(instance) = self.get_mut(address) else {
            return false;
        };
        let before = instance.body_bytes();
        let refreshed = instance.body.refresh(slot, at_ms);
        let after = instance.body_bytes();
        self.body_bytes = self.body_bytes + after - before;
        refreshed
    }

    pub(super) fn remove_state(&mut self, address: &Address, slot: u16) -> bool {
        let Some(instance) = self.get_mut(address) else {
            return false;
        };
        let before = instance.body_bytes();
        let removed = instance.body.remove(slot);
        let after = instance.body_bytes();
        self.body_bytes = self.body_bytes + after - before;
        removed
    }

    /// Removes the empty parts of the instance at `address`.
    pub(super) fn prune(&mut self, address: &Address) {
        let Some(instance) = self.get_mut(address) else {
            return;
        };
        let over = instance.active.take_if(|active| active.is_empty());
        if let Some(active) = &mut instance.active {
            active.release_capacity();
        }
        let gone = instance.is_empty();
        if let Some(active) = over {
            self.active_bytes -= active.counted_bytes;
            self.standing_bytes -= active.counted_standing_bytes;
            self.recount_eviction(active.counted_eviction, Eviction::Allowed);
        }
        if gone {
            self.forget(address);
        } else {
            self.recount(address);
        }
    }

    /// Updates the counters for the active state of `address`.
    pub(super) fn recount(&mut self, address: &Address) {
        let Some(active) = self.get_mut(address).and_then(|it| it.active.as_mut()) else {
            return;
        };
        let after = active.bytes();
        let before = std::mem::replace(&mut active.counted_bytes, after);
        let eviction = active.eviction();
        let before_eviction = std::mem::replace(&mut active.counted_eviction, eviction);
        let standing = active.standing_bytes();
        let before_standing = std::mem::replace(&mut active.counted_standing_bytes, standing);
        self.active_bytes = self.active_bytes + after - before;
        self.standing_bytes = self.standing_bytes + standing - before_standing;
        self.recount_eviction(before_eviction, eviction);
    }

    /// Counts one address as `after` that was counted as `before`.
    fn recount_eviction(&mut self, before: Eviction, after: Eviction) {
        match before {
            Eviction::Allowed => {}
            Eviction::Blocked => self.blocked -= 1,
            Eviction::AfterDrain => self.draining -= 1,
        }
        match after {
            Eviction::Allowed => {}
            Eviction::Blocked => self.blocked += 1,
            Eviction::AfterDrain => self.draining += 1,
        }
    }

    fn forget(&mut self, address: &Address) {
        let Some(table) = self.table_of(&address.function) else {
            return;
        };
        let id = &*address.id;
        let instances = &mut self.function_tables[table].instances;
        let before = table_bytes(instances);
        let is = |instance: &Instance| instance.body.has_id(id);
        if let Ok(found) = instances.find_entry(hash_of(id), is) {
            let (instance, _) = found.remove();
            self.body_bytes -= instance.body_bytes();
        }
        if instances.is_empty() {
            // Names of functions may come from outside: an unused one must leave nothing behind.
            self.table_bytes -= before;
            self.function_tables.swap_remove(table);
        } else if instances.len() * 8 < instances.capacity() {
            // A mostly empty table releases its capacity.
            instances.shrink_to_fit(|instance| hash_of(instance.body.id()));
            self.table_bytes = self.table_bytes + table_bytes(instances) - before;
        }
    }

    /// Approximate size, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.body_bytes + self.active_bytes + self.table_bytes
    }

    /// Size of the messages that wait until a suspension or a pause ends, in bytes, as of the last
    /// seal.
    pub(crate) fn standing_bytes(&self) -> usize {
        self.standing_bytes
    }

    /// Audits the counters. With `sealed`, a seal has counted every active state.
    pub(super) fn is_well_counted(&self, sealed: bool) -> bool {
        let mut anew = Self::default();
        for table in &self.function_tables {
            anew.table_bytes += table_bytes(&table.instances);
        }
        let mut active_states_are = true;
        for (.., instance) in self.iter() {
            anew.body_bytes += instance.body_bytes();
            if let Some(active) = &instance.active {
                let counted_eviction = (active.bytes(), active.eviction())
                    == (active.counted_bytes, active.counted_eviction);
                active_states_are &= active.is_well_counted() && (counted_eviction || !sealed);
                anew.active_bytes += active.counted_bytes;
                anew.standing_bytes += active.counted_standing_bytes;
                anew.recount_eviction(Eviction::Allowed, active.counted_eviction);
            }
        }
        let counts = |it: &Self| {
            let bytes = (it.body_bytes, it.active_bytes, it.table_bytes);
            (bytes, it.blocked, it.draining, it.standing_bytes)
        };
        active_states_are && counts(&anew) == counts(self)
    }

    /// Effect of this bucket's addresses on its eviction, as of the last seal.
    pub(crate) fn eviction(&self) -> Eviction {
        match (self.blocked, self.draining) {
            (0, 0) => Eviction::Allowed,
            (0, _) => Eviction::AfterDrain,
            _ => Eviction::Blocked,
        }
    }

    /// Summary of this bucket: the earliest due time, and whether it must be in memory.
    pub(crate) fn summary(&self) -> BucketSummary {
        let mut summary = BucketSummary::default();
        for table in &self.function_tables {
            table
                .instances
                .iter()
                .for_each(|it| it.summary(&mut summary));
        }
        summary
    }

    /// Sets the value of a fact of an address.
    pub(super) fn put(&mut self, functions: &mut Functions, key: Key, value: Value) {
        match (key, value) {
            (Key::State { address, name }, Value::State(state)) => {
                let slot = functions.slot_for(&address.function, &name, &state.typename);
                self.set_state(&address, slot, state.expires_at_ms, &state.value);
            }
            (key, value) => {
                let address = key.address().expect("facts of a bucket have an address");
                let active = self.get_or_new(address).active.get_or_insert_default();
                active.put(key, value);
            }
        }
    }

    /// Removes a fact of an address.
    pub(super) fn remove(&mut self, functions: &Functions, key: &Key) {
        let Some(address) = key.address() else { return };
        if let Key::State { name, .. } = key {
            let states = functions.get(&address.function);
            if let Some((slot, _)) = states.and_then(|states| states.find(name)) {
                self.remove_state(address, slot);
            }
        } else if let Some(active) = self.get_mut(address).and_then(|it| it.active.as_mut()) {
            active.remove(key);
        }
        self.prune(address);
    }

    /// Returns the present value of a fact of an address.
    pub(super) fn value(&self, functions: &Functions, key: &Key) -> Option<Value> {
        let address = key.address()?;
        let instance = self.get(address)?;
        if let Key::State { name, .. } = key {
            let (index, slot) = functions.get(&address.function)?.find(name)?;
            let (expires_at_ms, value) = instance.state(index)?;
            return Some(Value::State(StoredState {
                typename: slot.typename.clone(),
                expires_at_ms,
                value,
            }));
        }
        instance.active.as_ref()?.value(key)
    }

    /// Calls `keep` with the key of every fact.
    pub(super) fn for_each_key(&self, functions: &Functions, keep: &mut impl FnMut(Key)) {
        for (function, id, instance) in self.iter() {
            let address = Address::new(function.clone(), id);
            let slots = functions.get(function);
            for state in instance.states() {
                let slots = slots.expect("an instance with state has a function with slots");
                keep(Key::State {
                    address: address.clone(),
                    name: slots.slots[usize::from(state.slot)].name.clone(),
                });
            }
            if let Some(active) = &instance.active {
                active.for_each_key(&address, keep);
            }
        }
    }

    /// Returns for each function of the bucket which slots of its states hold a value.
    pub(super) fn used_slots(&self) -> Vec<Vec<bool>> {
        let used = self.function_tables.iter().map(|table| {
            let mut used = Vec::new();
            for state in table.instances.iter().flat_map(Instance::states) {
                let slot = usize::from(state.slot);
                if used.len() <= slot {
                    used.resize(slot + 1, false);
                }
                used[slot] = true;
            }
            used
        });
        used.collect()
    }

    /// Replaces the slots of `theirs`, with which the bucket was decoded, by those of `ours`.
    /// `used` are its [`Self::used_slots`]. Takes no time for each instance, unless functions have
    /// other slots here.
    pub(super) fn adopt(&mut self, theirs: &Functions, used: Vec<Vec<bool>>, ours: &mut Functions) {
        for (table, mut used) in self.function_tables.iter_mut().zip(used) {
            let Some(states) = theirs.get(&table.function) else {
                continue;
            };
            // A state whose values were all removed by the log needs no slot.
            used.resize(states.slots.len(), false);
            let numbers: Vec<u16> = (0..)
                .zip(states.slots.iter().zip(used))
                .map(|(unused, (slot, used))| match used {
                    true => ours.slot_for(&table.function, &slot.name, &slot.typename),
                    false => unused,
                })
                .collect();
            if (0..).zip(&numbers).all(|(slot, number)| slot == *number) {
                continue;
            }
            for instance in &mut table.instances {
                instance.body.renumber(&numbers);
            }
        }
    }

    fn table_of(&self, function: &FunctionType) -> Option<usize> {
        let mut function_tables = self.function_tables.iter();
        function_tables.position(|table| table.function == *function)
    }

    fn table_or_new(&mut self, function: &FunctionType) -> usize {
        if let Some(table) = self.table_of(function) {
            return table;
        }
        self.function_tables.push(FunctionTable {
            function: function.clone(),
            instances: HashTable::new(),
        });
        self.function_tables.len() - 1
    }
}

fn table_bytes(instances: &HashTable<Instance>) -> usize {
    if instances.capacity() == 0 {
        return 0;
    }
    instances.num_buckets() * (size_of::<Instance>() + 1)
}
