//! The durable content of a partition, in memory: what the fold of its deltas gives, in the shape in which the engine works on it.

mod instance;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

use crate::address::{Address, FunctionType};
use crate::durable::{
    Change, DeadLetter, Expiration, Hold, Key, OutboxEntry, StateSpec, StoredState, Value,
    bucket_of,
};
use crate::message::MessageId;
use crate::position::{ShardId, ShardPosition};

pub(crate) use instance::{Activity, Flight, Instance, Isolation, Live};

/// A hash map whose order is the same in every run, so that a simulation can be replayed.
pub(crate) type Map<K, V> = HashMap<K, V, FixedState>;

/// A hash set of the same kind.
pub(crate) type Set<T> = HashSet<T, FixedState>;

/// Everything durable.
pub(crate) struct Tables {
    buckets: Vec<Map<Address, Instance>>,
    functions: Map<FunctionType, FunctionStates>,
    pub(crate) shards: BTreeMap<ShardId, ShardPosition>,
    pub(crate) outbox: BTreeMap<u64, OutboxEntry>,
    /// What egresses noted, by egress and name.
    pub(crate) egress_marks: BTreeMap<(Arc<str>, Arc<str>), Bytes>,
    /// Every dead letter by its place in their order; those of an address lie in its instance.
    pub(crate) letters: BTreeMap<u64, LetterPlace>,
    /// Dead letters that are for no address.
    pub(crate) stray_letters: BTreeMap<u64, DeadLetter>,
    pub(crate) next_number: u64,
    pub(crate) hold: Option<Hold>,
}

/// Where a dead letter lies.
#[derive(Debug, Clone)]
pub(crate) struct LetterPlace {
    pub(crate) id: MessageId,
    pub(crate) address: Option<Address>,
}

/// The states of one function, each in the slot by which instances refer to it.
#[derive(Debug, Default)]
pub(crate) struct FunctionStates {
    pub(crate) slots: Vec<Slot>,
}

/// One state of a function.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) name: Arc<str>,
    pub(crate) typename: Arc<str>,
    /// When its values expire, once the function has declared it.
    pub(crate) declared: Option<Expiration>,
}

impl FunctionStates {
    /// The slot of the state `name`.
    pub(crate) fn find(&self, name: &str) -> Option<(u16, &Slot)> {
        (0..).zip(&self.slots).find(|(_, slot)| *slot.name == *name)
    }

    /// The slot of the state `name`, made if there is none.
    fn slot_for(&mut self, name: &Arc<str>, typename: &Arc<str>) -> u16 {
        if let Some((index, _)) = self.find(name) {
            return index;
        }
        self.slots.push(Slot {
            name: name.clone(),
            typename: typename.clone(),
            declared: None,
        });
        (self.slots.len() - 1) as u16
    }

    /// How many states the function has declared.
    pub(crate) fn declared_count(&self) -> usize {
        let declared = self.slots.iter().filter(|slot| slot.declared.is_some());
        declared.count()
    }

    /// Takes a declaration.
    pub(crate) fn declare(&mut self, spec: &StateSpec) {
        let index = usize::from(self.slot_for(&spec.name, &spec.typename));
        self.slots[index].typename = spec.typename.clone();
        self.slots[index].declared = Some(spec.expiration);
    }

    /// What the function declared, by name: slots have another order after a recovery, and an image must equal the fold all the same.
    fn declared(&self) -> Vec<StateSpec> {
        let declared = self.slots.iter().filter_map(|slot| {
            Some(StateSpec {
                name: slot.name.clone(),
                typename: slot.typename.clone(),
                expiration: slot.declared?,
            })
        });
        let mut declared: Vec<_> = declared.collect();
        declared.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        declared
    }
}

impl Tables {
    pub(crate) fn new(buckets: u16) -> Self {
        Self {
            buckets: (0..buckets).map(|_| Map::default()).collect(),
            functions: Map::default(),
            shards: BTreeMap::new(),
            outbox: BTreeMap::new(),
            egress_marks: BTreeMap::new(),
            letters: BTreeMap::new(),
            stray_letters: BTreeMap::new(),
            next_number: 1,
            hold: None,
        }
    }

    /// A number that grows.
    pub(crate) fn take_number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    pub(crate) fn instance(&self, address: &Address) -> Option<&Instance> {
        self.buckets[self.index(address)].get(address)
    }

    pub(crate) fn instance_mut(&mut self, address: &Address) -> Option<&mut Instance> {
        let index = self.index(address);
        self.buckets[index].get_mut(address)
    }

    /// The instance at `address`, made if there is none.
    pub(crate) fn instance_or_new(&mut self, address: &Address) -> &mut Instance {
        let index = self.index(address);
        self.buckets[index].entry(address.clone()).or_default()
    }

    /// What of an instance is more than its states, if there is anything.
    pub(crate) fn live_mut(&mut self, address: &Address) -> Option<&mut Live> {
        self.instance_mut(address)?.live.as_deref_mut()
    }

    /// What of an instance is more than its states, if there is anything.
    pub(crate) fn live(&self, address: &Address) -> Option<&Live> {
        self.instance(address)?.live.as_deref()
    }

    /// Forgets what is empty of the instance at `address`.
    pub(crate) fn tidy(&mut self, address: &Address) {
        let index = self.index(address);
        if let Some(instance) = self.buckets[index].get_mut(address) {
            instance.tidy();
            if instance.is_empty() {
                self.buckets[index].remove(address);
            }
        }
    }

    pub(crate) fn states_of(&self, function: &FunctionType) -> Option<&FunctionStates> {
        self.functions.get(function)
    }

    pub(crate) fn states_of_mut(&mut self, function: &FunctionType) -> &mut FunctionStates {
        self.functions.entry(function.clone()).or_default()
    }

    /// Every instance.
    pub(crate) fn instances(&self) -> impl Iterator<Item = (&Address, &Instance)> {
        self.buckets.iter().flatten()
    }

    /// How far the shards of a stream were applied.
    pub(crate) fn shards_of(&self, ingress: &str, stream: &str) -> Vec<(Arc<str>, ShardPosition)> {
        let shards = self.shards.iter();
        shards
            .filter(|(shard, _)| *shard.ingress == *ingress && *shard.stream == *stream)
            .map(|(shard, position)| (shard.shard.clone(), position.clone()))
            .collect()
    }

    /// Adds a dead letter.
    pub(crate) fn put_letter(
        &mut self,
        address: Option<&Address>,
        number: u64,
        letter: DeadLetter,
    ) {
        let place = LetterPlace {
            id: letter.id,
            address: address.cloned(),
        };
        self.letters.insert(number, place);
        match address {
            Some(address) => {
                let live = self.instance_or_new(address).live_or_new();
                live.letters.insert(number, letter);
            }
            None => {
                self.stray_letters.insert(number, letter);
            }
        }
    }

    /// Removes a dead letter.
    pub(crate) fn take_letter(&mut self, number: u64) -> Option<(Option<Address>, DeadLetter)> {
        let place = self.letters.remove(&number)?;
        let letter = match &place.address {
            Some(address) => self.live_mut(address)?.letters.remove(&number),
            None => self.stray_letters.remove(&number),
        };
        if let Some(address) = &place.address {
            self.tidy(address);
        }
        letter.map(|letter| (place.address, letter))
    }

    pub(crate) fn letter(&self, number: u64) -> Option<&DeadLetter> {
        match &self.letters.get(&number)?.address {
            Some(address) => self.live(address)?.letters.get(&number),
            None => self.stray_letters.get(&number),
        }
    }

    /// The present value of a fact.
    pub(crate) fn value(&self, key: &Key) -> Option<Value> {
        match key {
            Key::State { address, name } => self.state_value(address, name).map(Value::State),
            Key::Message { address, number } => {
                let live = self.live(address)?;
                live.message(*number).cloned().map(Value::Message)
            }
            Key::Timer { owner, number } => {
                let timer = self.live(owner)?.timers.get(number)?;
                Some(Value::Timer(timer.clone()))
            }
            Key::Suspension { address } => {
                let suspension = self.live(address)?.suspension.clone()?;
                Some(Value::Suspension(suspension))
            }
            Key::Trouble { address } => {
                let trouble = self.live(address)?.trouble.as_deref()?;
                Some(Value::Trouble(trouble.clone()))
            }
            Key::Idempotency { address, verb, key } => {
                let live = self.live(address)?;
                let record = live.idempotency.get(&(*verb, key.clone()))?;
                Some(Value::Idempotency(record.clone()))
            }
            Key::DeadLetter { number, .. } => self.letter(*number).cloned().map(Value::DeadLetter),
            Key::Registration { function } => {
                let declared = self.states_of(function)?.declared();
                (!declared.is_empty()).then_some(Value::Registration(declared))
            }
            Key::Shard(shard) => self.shards.get(shard).cloned().map(Value::Shard),
            Key::Outbox { number } => self.outbox.get(number).cloned().map(Value::Outbox),
            Key::Counter => Some(Value::Counter(self.next_number)),
            Key::EgressMark { egress, name } => {
                let mark = self.egress_marks.get(&(egress.clone(), name.clone()));
                mark.cloned().map(Value::EgressMark)
            }
            Key::Hold => self.hold.clone().map(Value::Hold),
        }
    }

    /// Takes one change of a durable delta or image.
    pub(crate) fn apply(&mut self, change: Change) {
        let Change { key, value } = change;
        match value {
            Some(value) => self.put(key, value),
            None => self.remove(&key),
        }
    }

    /// Every fact of one bucket; the number of buckets names the partition-wide one. `next_number` is the counter's value at the last seal:
    /// numbers that were given out since and left no trace are in no delta.
    pub(crate) fn content(&self, bucket: u16, next_number: u64) -> Vec<Change> {
        let mut content = Vec::new();
        let mut keep = |key: Key| {
            let value = match key {
                Key::Counter => Some(Value::Counter(next_number)),
                _ => self.value(&key),
            };
            debug_assert!(value.is_some(), "{key:?} has a value");
            content.push(Change { key, value });
        };
        match self.buckets.get(usize::from(bucket)) {
            Some(instances) => {
                for (address, instance) in instances {
                    let slots = self.states_of(&address.function);
                    instance.for_each_key(address, slots, &mut keep);
                }
            }
            None => {
                let declared = self
                    .functions
                    .iter()
                    .filter(|(_, states)| states.slots.iter().any(|slot| slot.declared.is_some()));
                declared.for_each(|(function, _)| {
                    keep(Key::Registration {
                        function: function.clone(),
                    });
                });
                self.shards
                    .keys()
                    .cloned()
                    .map(Key::Shard)
                    .for_each(&mut keep);
                self.outbox
                    .keys()
                    .for_each(|number| keep(Key::Outbox { number: *number }));
                self.egress_marks.keys().for_each(|(egress, name)| {
                    keep(Key::EgressMark {
                        egress: egress.clone(),
                        name: name.clone(),
                    });
                });
                self.stray_letters.keys().for_each(|number| {
                    keep(Key::DeadLetter {
                        address: None,
                        number: *number,
                    });
                });
                keep(Key::Counter);
                if self.hold.is_some() {
                    keep(Key::Hold);
                }
            }
        }
        content
    }

    /// When something in a bucket is due, and whether messages wait in it.
    pub(crate) fn bucket_outlook(&self, bucket: u16) -> (Option<u64>, bool) {
        let mut earliest_due_ms = None;
        let mut pending = false;
        for instance in self
            .buckets
            .get(usize::from(bucket))
            .into_iter()
            .flat_map(Map::values)
        {
            earliest_due_ms = earliest_due_ms
                .into_iter()
                .chain(instance.earliest_due_ms())
                .min();
            pending |= instance
                .live
                .as_ref()
                .is_some_and(|live| !live.mailbox.is_empty());
        }
        (earliest_due_ms, pending)
    }

    fn index(&self, address: &Address) -> usize {
        bucket_of(address, self.buckets.len() as u16).into()
    }

    fn state_value(&self, address: &Address, name: &str) -> Option<StoredState> {
        let (index, slot) = self.states_of(&address.function)?.find(name)?;
        let entry = self.instance(address)?.state(index)?;
        Some(StoredState {
            typename: slot.typename.clone(),
            expires_at_ms: entry.expires_at_ms(),
            value: entry.value.clone(),
        })
    }

    fn put(&mut self, key: Key, value: Value) {
        match (key, value) {
            (Key::State { address, name }, Value::State(state)) => {
                let states = self.states_of_mut(&address.function);
                let slot = states.slot_for(&name, &state.typename);
                self.instance_or_new(&address)
                    .set_state(slot, state.value, state.expires_at_ms);
            }
            (Key::Message { address, number }, Value::Message(message)) => {
                self.instance_or_new(&address)
                    .live_or_new()
                    .insert_message(number, message);
            }
            (Key::Timer { owner, number }, Value::Timer(timer)) => {
                self.instance_or_new(&owner)
                    .live_or_new()
                    .insert_timer(number, timer);
            }
            (Key::Suspension { address }, Value::Suspension(suspension)) => {
                self.instance_or_new(&address).live_or_new().suspension = Some(suspension);
            }
            (Key::Trouble { address }, Value::Trouble(trouble)) => {
                self.instance_or_new(&address).live_or_new().trouble = Some(Box::new(trouble));
            }
            (Key::Idempotency { address, verb, key }, Value::Idempotency(record)) => {
                let live = self.instance_or_new(&address).live_or_new();
                live.idempotency.insert((verb, key), record);
            }
            (Key::DeadLetter { address, number }, Value::DeadLetter(letter)) => {
                self.put_letter(address.as_ref(), number, letter);
            }
            (Key::Registration { function }, Value::Registration(specs)) => {
                let states = self.states_of_mut(&function);
                specs.iter().for_each(|spec| states.declare(spec));
            }
            (Key::Shard(shard), Value::Shard(position)) => {
                self.shards.insert(shard, position);
            }
            (Key::Outbox { number }, Value::Outbox(entry)) => {
                self.outbox.insert(number, entry);
            }
            (Key::Counter, Value::Counter(next)) => self.next_number = next,
            (Key::EgressMark { egress, name }, Value::EgressMark(mark)) => {
                self.egress_marks.insert((egress, name), mark);
            }
            (Key::Hold, Value::Hold(hold)) => self.hold = Some(hold),
            (key, value) => {
                unreachable!("{key:?} was decoded with a value of another fact, {value:?}")
            }
        }
    }

    fn remove(&mut self, key: &Key) {
        match key {
            Key::State { address, name } => {
                let slot = self
                    .states_of(&address.function)
                    .and_then(|states| states.find(name));
                if let Some((slot, _)) = slot
                    && let Some(instance) = self.instance_mut(address)
                {
                    instance.remove_state(slot);
                }
            }
            Key::DeadLetter { number, .. } => {
                self.take_letter(*number);
            }
            Key::Registration { function } => {
                self.functions.remove(function);
            }
            Key::Shard(shard) => {
                self.shards.remove(shard);
            }
            Key::Outbox { number } => {
                self.outbox.remove(number);
            }
            Key::Counter => {}
            Key::EgressMark { egress, name } => {
                self.egress_marks.remove(&(egress.clone(), name.clone()));
            }
            Key::Hold => self.hold = None,
            Key::Message { .. }
            | Key::Timer { .. }
            | Key::Suspension { .. }
            | Key::Trouble { .. }
            | Key::Idempotency { .. } => {
                if let Some(address) = key.address()
                    && let Some(live) = self.live_mut(address)
                {
                    live.remove(key);
                }
            }
        }
        if let Some(address) = key.address() {
            self.tidy(address);
        }
    }
}
