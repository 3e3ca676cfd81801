//! The instances of one bucket, by function and id.

use std::hash::BuildHasher;

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::body::{Body, States};
use super::functions::Functions;
use super::live::{Live, Standing};
use crate::address::{Address, FunctionType};
use crate::durable::{Key, StoredState, Value};
use crate::output::BucketSummary;

/// For how long a bucket that is not in memory is left alone after the first of its values has expired: such a value is never shown, so
/// there is no hurry to remove it, and loading a bucket for each one would cost much.
const EXPIRY_SLACK_MS: u64 = 60 * 60 * 1000;

/// The instances of one bucket.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bucket {
    shelves: Vec<Shelf>,
    /// What bodies take, in bytes.
    body_bytes: usize,
    /// What is known of what `Live`s take, in bytes.
    live_bytes: usize,
    /// What the tables take, in bytes.
    table_bytes: usize,
    /// At how many addresses there is something that must be in memory, as far as it is counted.
    pending: usize,
    /// At how many there are messages that are worked off.
    working: usize,
}

/// The instances of one function, which is thus not stored with each.
#[derive(Debug, Clone)]
struct Shelf {
    function: FunctionType,
    instances: HashTable<Instance>,
}

/// One virtual instance. Most only keep state, so everything else is behind one pointer.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    body: Body,
    pub(crate) live: Option<Box<Live>>,
}

impl Instance {
    /// A state with an expiry has a place on the agenda, which is counted here.
    const EXPIRY_BYTES: usize = 200;

    pub(crate) fn states(&self) -> States<'_> {
        self.body.states()
    }

    /// The value of one state: when it expires, and its bytes.
    pub(crate) fn state(&self, slot: u16) -> Option<(Option<u64>, Bytes)> {
        let mut states = self.body.states();
        let state = states.find(|state| state.slot == slot)?;
        Some((state.expires_at_ms(), state.value()))
    }

    /// When the state expires; outer `None` if it has no value.
    pub(crate) fn expiry(&self, slot: u16) -> Option<Option<u64>> {
        let mut states = self.body.states();
        let state = states.find(|state| state.slot == slot)?;
        Some(state.expires_at_ms())
    }

    /// Whether something at the address must be done at a time, or goes on.
    pub(crate) fn is_lively(&self) -> bool {
        self.live.is_some() || self.states().any(|state| state.expires_at_ms().is_some())
    }

    fn is_empty(&self) -> bool {
        self.live.is_none() && self.body.is_without_states()
    }

    fn body_bytes(&self) -> usize {
        let expiring = self
            .states()
            .filter(|state| state.expires_at_ms().is_some());
        self.body.bytes() + expiring.count() * Self::EXPIRY_BYTES
    }

    fn summary(&self, summary: &mut BucketSummary) {
        let expiries = self.states().filter_map(|state| state.expires_at_ms());
        let live = self.live.as_deref();
        let outcomes = live.and_then(Live::earliest_expiry_ms);
        let expiry_ms = expiries.chain(outcomes).min();
        let late_ms = expiry_ms.map(|at_ms| at_ms.saturating_add(EXPIRY_SLACK_MS));
        let timer_ms = live.and_then(Live::earliest_timer_ms);
        let due = [summary.earliest_due_ms, late_ms, timer_ms];
        summary.earliest_due_ms = due.into_iter().flatten().min();
        summary.pending |= live.is_some_and(Live::is_pending);
    }
}

fn hash_of(id: &str) -> u64 {
    FixedState::default().hash_one(id)
}

impl Bucket {
    pub(crate) fn get(&self, address: &Address) -> Option<&Instance> {
        let shelf = self.shelf(&address.function)?;
        let id = &*address.id;
        let instances = &self.shelves[shelf].instances;
        instances.find(hash_of(id), |instance| instance.body.has_id(id))
    }

    pub(super) fn get_mut(&mut self, address: &Address) -> Option<&mut Instance> {
        let shelf = self.shelf(&address.function)?;
        let id = &*address.id;
        let instances = &mut self.shelves[shelf].instances;
        instances.find_mut(hash_of(id), |instance| instance.body.has_id(id))
    }

    pub(super) fn get_or_new(&mut self, address: &Address) -> &mut Instance {
        let shelf = self.shelf_or_new(&address.function);
        let id = &*address.id;
        let instances = &mut self.shelves[shelf].instances;
        let before = table_bytes(instances);
        let is = |instance: &Instance| instance.body.has_id(id);
        let of = |instance: &Instance| hash_of(instance.body.id());
        if instances.find(hash_of(id), is).is_none() {
            let body = Body::new(id);
            self.body_bytes += body.bytes();
            instances.insert_unique(hash_of(id), Instance { body, live: None }, of);
            self.table_bytes += table_bytes(instances) - before;
        }
        let instance = instances.find_mut(hash_of(id), is);
        instance.expect("it was there, or was just made")
    }

    /// Every instance, with its function and id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&FunctionType, &str, &Instance)> {
        self.shelves.iter().flat_map(|shelf| {
            let instances = shelf.instances.iter();
            instances.map(|instance| (&shelf.function, instance.body.id(), instance))
        })
    }

    /// The addresses at which something must be done at a time, or goes on.
    pub(crate) fn lively(&self) -> Vec<Address> {
        self.iter()
            .filter(|(.., instance)| instance.is_lively())
            .map(|(function, id, _)| Address::new(function.clone(), id))
            .collect()
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

    /// As [`Self::set_state`], for the state of an instance that is mostly not there yet, given by its parts.
    pub(super) fn load_state(
        &mut self,
        (function, id): (&FunctionType, &str),
        slot: u16,
        expires_at_ms: Option<u64>,
        value: &[u8],
        expected: usize,
    ) {
        let shelf = match self.shelves.last() {
            // Entries of one function mostly follow each other.
            Some(last) if last.function == *function => self.shelves.len() - 1,
            _ => self.shelf_or_new(function),
        };
        let instances = &mut self.shelves[shelf].instances;
        let table_before = table_bytes(instances);
        let of = |instance: &Instance| hash_of(instance.body.id());
        if instances.is_empty() && expected > 0 {
            instances.reserve(expected, of);
        }
        let is = |instance: &Instance| instance.body.has_id(id);
        match instances.entry(hash_of(id), is, of) {
            Entry::Vacant(vacant) => {
                let body = Body::with_state(id, slot, expires_at_ms, value);
                let instance = Instance { body, live: None };
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
        let table_after = table_bytes(&self.shelves[shelf].instances);
        self.table_bytes = self.table_bytes + table_after - table_before;
    }

    /// Counts what was loaded, and gives back what its tables do not need.
    pub(super) fn settle(&mut self) {
        self.table_bytes = 0;
        self.live_bytes = 0;
        self.pending = 0;
        self.working = 0;
        let mut standings = Vec::new();
        for shelf in &mut self.shelves {
            let of = |instance: &Instance| hash_of(instance.body.id());
            shelf.instances.shrink_to_fit(of);
            self.table_bytes += table_bytes(&shelf.instances);
            for live in shelf.instances.iter_mut().filter_map(|it| it.live.as_mut()) {
                live.counted_bytes = live.bytes();
                self.live_bytes += live.counted_bytes;
                live.counted = live.standing();
                standings.push(live.counted);
            }
        }
        for standing in standings {
            self.restand(Standing::Free, standing);
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

    /// Forgets what is empty of the instance at `address`.
    pub(super) fn tidy(&mut self, address: &Address) {
        let Some(instance) = self.get_mut(address) else {
            return;
        };
        let over = instance.live.take_if(|live| live.is_empty());
        if let Some(live) = &mut instance.live {
            live.give_back_room();
        }
        let gone = instance.is_empty();
        if let Some(live) = over {
            self.live_bytes -= live.counted_bytes;
            self.restand(live.counted, Standing::Free);
        }
        if gone {
            self.forget(address);
        } else {
            self.recount(address);
        }
    }

    /// Counts again what goes on at `address`.
    pub(super) fn recount(&mut self, address: &Address) {
        let Some(live) = self.get_mut(address).and_then(|it| it.live.as_mut()) else {
            return;
        };
        let after = live.bytes();
        let before = std::mem::replace(&mut live.counted_bytes, after);
        let standing = live.standing();
        let stood = std::mem::replace(&mut live.counted, standing);
        self.live_bytes = self.live_bytes + after - before;
        self.restand(stood, standing);
    }

    /// One that was counted as `before` counts as `after`.
    fn restand(&mut self, before: Standing, after: Standing) {
        match before {
            Standing::Free => {}
            Standing::Pending => self.pending -= 1,
            Standing::Working => self.working -= 1,
        }
        match after {
            Standing::Free => {}
            Standing::Pending => self.pending += 1,
            Standing::Working => self.working += 1,
        }
    }

    fn forget(&mut self, address: &Address) {
        let Some(shelf) = self.shelf(&address.function) else {
            return;
        };
        let id = &*address.id;
        let instances = &mut self.shelves[shelf].instances;
        let before = table_bytes(instances);
        let is = |instance: &Instance| instance.body.has_id(id);
        if let Ok(found) = instances.find_entry(hash_of(id), is) {
            let (instance, _) = found.remove();
            self.body_bytes -= instance.body_bytes();
        }
        if instances.is_empty() {
            // Names of functions may come from outside: one that nobody uses any more leaves nothing behind.
            self.table_bytes -= before;
            self.shelves.swap_remove(shelf);
        } else if instances.len() * 8 < instances.capacity() {
            // A table that has become mostly empty gives its room back.
            instances.shrink_to_fit(|instance| hash_of(instance.body.id()));
            self.table_bytes = self.table_bytes + table_bytes(instances) - before;
        }
    }

    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.body_bytes + self.live_bytes + self.table_bytes
    }

    /// Whether what is counted as it goes is what there is; `sealed` says that a seal has counted all that goes on.
    pub(super) fn is_well_counted(&self, sealed: bool) -> bool {
        let mut anew = Self::default();
        for shelf in &self.shelves {
            anew.table_bytes += table_bytes(&shelf.instances);
        }
        let mut lives_are = true;
        for (.., instance) in self.iter() {
            anew.body_bytes += instance.body_bytes();
            if let Some(live) = &instance.live {
                let counted = (live.bytes(), live.standing()) == (live.counted_bytes, live.counted);
                lives_are &= live.is_well_counted() && (counted || !sealed);
                anew.live_bytes += live.counted_bytes;
                anew.restand(Standing::Free, live.counted);
            }
        }
        let counts = |it: &Self| {
            let bytes = (it.body_bytes, it.live_bytes, it.table_bytes);
            (bytes, it.pending, it.working)
        };
        lives_are && counts(&anew) == counts(self)
    }

    /// Whether it must be in memory, as of the last seal.
    pub(crate) fn standing(&self) -> Standing {
        match (self.pending, self.working) {
            (0, 0) => Standing::Free,
            (0, _) => Standing::Working,
            _ => Standing::Pending,
        }
    }

    /// When something in it is due, and whether it must be in memory.
    pub(crate) fn summary(&self) -> BucketSummary {
        let mut summary = BucketSummary::default();
        self.iter()
            .for_each(|(.., instance)| instance.summary(&mut summary));
        summary
    }

    /// Takes the new value of a fact of an address.
    pub(super) fn put(&mut self, functions: &mut Functions, key: Key, value: Value) {
        match (key, value) {
            (Key::State { address, name }, Value::State(state)) => {
                let slot = functions.slot_for(&address.function, &name, &state.typename);
                self.set_state(&address, slot, state.expires_at_ms, &state.value);
            }
            (key, value) => {
                let address = key.address().expect("facts of a bucket have an address");
                let live = self.get_or_new(address).live.get_or_insert_default();
                live.put(key, value);
            }
        }
    }

    /// Takes the removal of a fact of an address.
    pub(super) fn remove(&mut self, functions: &Functions, key: &Key) {
        let Some(address) = key.address() else { return };
        if let Key::State { name, .. } = key {
            let states = functions.get(&address.function);
            if let Some((slot, _)) = states.and_then(|states| states.find(name)) {
                self.remove_state(address, slot);
            }
        } else if let Some(live) = self.get_mut(address).and_then(|it| it.live.as_mut()) {
            live.remove(key);
        }
        self.tidy(address);
    }

    /// The present value of a fact of an address.
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
        instance.live.as_ref()?.value(key)
    }

    /// Names every fact.
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
            if let Some(live) = &instance.live {
                live.for_each_key(&address, keep);
            }
        }
    }

    /// Lets the slots be those of `ours` instead of `theirs`, with which it was decoded.
    pub(super) fn adopt(&mut self, theirs: &Functions, ours: &mut Functions) {
        for shelf in &mut self.shelves {
            let Some(states) = theirs.get(&shelf.function) else {
                continue;
            };
            let numbers: Vec<u16> = states
                .slots
                .iter()
                .map(|slot| ours.slot_for(&shelf.function, &slot.name, &slot.typename))
                .collect();
            if (0..).zip(&numbers).all(|(slot, number)| slot == *number) {
                continue;
            }
            for instance in &mut shelf.instances {
                instance.body.renumber(&numbers);
            }
        }
    }

    fn shelf(&self, function: &FunctionType) -> Option<usize> {
        let mut shelves = self.shelves.iter();
        shelves.position(|shelf| shelf.function == *function)
    }

    fn shelf_or_new(&mut self, function: &FunctionType) -> usize {
        if let Some(shelf) = self.shelf(function) {
            return shelf;
        }
        self.shelves.push(Shelf {
            function: function.clone(),
            instances: HashTable::new(),
        });
        self.shelves.len() - 1
    }
}

fn table_bytes(instances: &HashTable<Instance>) -> usize {
    if instances.capacity() == 0 {
        return 0;
    }
    instances.num_buckets() * (size_of::<Instance>() + 1)
}
