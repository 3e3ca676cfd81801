//! The durable content of a partition in memory: the fold of its deltas, in the form in which the
//! engine works on it.

mod active_state;
mod body;
mod bucket;
mod bucket_slot;
mod dead_letters;
mod facts;
mod functions;
mod links;
mod loaded;
mod overlay;
mod packed;
mod received_ids;
mod sizes;
mod staging;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::address::{Address, FunctionType};
use crate::durable::{BucketSummary, DeadLetter, Hold, Key, OutboxEntry, Pause, Value};
use crate::placement::{CachedPlacement, KeyGroup, Placement};
use crate::position::{ShardId, ShardPosition};

use bucket::Bucket;
use bucket_slot::{Absence, BucketSlot};
pub(crate) use dead_letters::DeadLetterEntry;
use dead_letters::DeadLetterIndex;
use functions::Functions;
use links::Links;
use received_ids::ReceivedIds;
use sizes::Sizes;

pub(crate) use active_state::{ActiveState, Activity, Eviction, Flight, Isolation};
pub(crate) use bucket::Instance;
pub(crate) use dead_letters::home_of_unaddressed;
pub(crate) use functions::FunctionStates;
pub use loaded::{BucketProblem, LoadedBucket};
pub use overlay::Overlay;
pub(crate) use staging::Staging;

/// Everything durable of a partition.
pub(crate) struct Tables {
    placement: RefCell<CachedPlacement>,
    bucket_slots: Vec<BucketSlot>,
    sizes: RefCell<Sizes>,
    functions: Functions,
    pub(crate) shards: BTreeMap<ShardId, ShardPosition>,
    pub(crate) outbox: BTreeMap<u64, OutboxEntry>,
    /// Marks of egresses, by egress and name.
    pub(crate) egress_marks: BTreeMap<(Arc<str>, Arc<str>), Bytes>,
    pub(crate) dead_letters: DeadLetterIndex,
    /// Dead letters that belong to no address, from software that stored them so.
    pub(crate) unaddressed_dead_letters: BTreeMap<u64, DeadLetter>,
    /// Ids of the messages that were taken from queues.
    pub(crate) received: ReceivedIds,
    pub(crate) next_number: u64,
    pub(crate) hold: Option<Hold>,
    /// Function types that a person paused.
    pub(crate) function_pauses: BTreeMap<FunctionType, Pause>,
    /// Ingresses that a person paused.
    pub(crate) ingress_pauses: BTreeMap<Arc<str>, Pause>,
    /// Messages to and from other partitions.
    pub(crate) links: Links,
    /// Counts inputs, to find the least recently used buckets.
    pub(crate) turn: u64,
}

impl Tables {
    pub(crate) fn new(placement: Placement) -> Self {
        let buckets = 0..placement.buckets();
        Self {
            placement: RefCell::new(CachedPlacement::new(placement)),
            bucket_slots: buckets.map(|_| BucketSlot::default()).collect(),
            sizes: RefCell::default(),
            functions: Functions::default(),
            shards: BTreeMap::new(),
            outbox: BTreeMap::new(),
            egress_marks: BTreeMap::new(),
            dead_letters: DeadLetterIndex::default(),
            unaddressed_dead_letters: BTreeMap::new(),
            received: ReceivedIds::default(),
            next_number: 1,
            hold: None,
            function_pauses: BTreeMap::new(),
            ingress_pauses: BTreeMap::new(),
            links: Links::default(),
            turn: 1,
        }
    }

    /// Number of buckets, besides the partition-wide one.
    pub(crate) fn buckets(&self) -> u16 {
        self.bucket_slots.len() as u16
    }

    pub(crate) fn bucket_slot(&self, bucket: u16) -> &BucketSlot {
        &self.bucket_slots[usize::from(bucket)]
    }

    pub(crate) fn bucket_slot_mut(&mut self, bucket: u16) -> &mut BucketSlot {
        self.sizes.get_mut().may_change(bucket);
        &mut self.bucket_slots[usize::from(bucket)]
    }

    pub(crate) fn bucket_slots(&self) -> impl Iterator<Item = (u16, &BucketSlot)> {
        (0..).zip(&self.bucket_slots)
    }

    /// Returns the bucket of an address.
    pub(crate) fn bucket_of(&self, address: &Address) -> u16 {
        self.placement.borrow_mut().key_group(address).0
    }

    /// Returns the key group that a partition-wide fact about an address names; `None` if the
    /// placement has no key groups of ids.
    pub(crate) fn named_key_group(&self, address: &Address) -> Option<KeyGroup> {
        let mut placement = self.placement.borrow_mut();
        let named = placement.placement().has_key_groups_of_ids();
        named.then(|| placement.key_group(address))
    }

    /// Choice of the bucket of an address.
    pub(crate) fn placement(&self) -> Placement {
        self.placement.borrow().placement()
    }

    /// Returns the bucket of an address if it is not in memory.
    pub(crate) fn absent_bucket_of(&self, address: &Address) -> Option<u16> {
        let bucket = self.bucket_of(address);
        self.bucket_slot(bucket).is_absent().then_some(bucket)
    }

    /// Marks a bucket as absent: its image was not read.
    pub(crate) fn set_absent(&mut self, bucket: u16, summary: BucketSummary, raw_bytes: usize) {
        let slot = self.bucket_slot_mut(bucket);
        // Hash tables have free slots, and allocations have overhead.
        slot.expected_bytes = raw_bytes.saturating_add(raw_bytes / 2);
        slot.absence = Some(Absence::default());
        slot.summary = summary;
        slot.image = Some(0);
    }

    /// Adds entries of the log to a bucket whose image was not read. Called only during recovery.
    pub(crate) fn replay<'a>(
        &mut self,
        bucket: u16,
        entries: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) {
        let slot = self.bucket_slot_mut(bucket);
        let replayed = Arc::make_mut(&mut slot.replayed);
        entries.for_each(|(key, value)| replayed.put(key, value));
    }

    /// Adds a fact to a bucket that is not in memory.
    pub(crate) fn put_absent(&mut self, key: Key, value: Value) {
        let address = key.address().expect("facts of a bucket have an address");
        let bucket = self.bucket_of(address);
        let turn = self.turn;
        let slot = self.bucket_slot_mut(bucket);
        slot.touched = turn;
        let absence = slot.absence.get_or_insert_default();
        let id_bytes = key.address().map_or(0, |address| address.id.len());
        absence.additions_bytes += 2 * size_of::<Value>()
            + id_bytes
            + match &value {
                Value::Message(message) => message.bytes(),
                Value::DeadLetter(letter) => letter.argument.value.len() + letter.reason.len(),
                _ => 0,
            };
        absence.additions.insert(key, value);
    }

    /// Installs a loaded bucket, and applies the facts that arrived while it was absent. Returns
    /// its addresses with an active state, or with a value that expires.
    ///
    /// The partition does nothing else meanwhile, so nothing here looks at each instance.
    pub(crate) fn install(&mut self, bucket: u16, loaded: LoadedBucket) -> Vec<Address> {
        let LoadedBucket {
            bucket: mut content,
            functions,
            used_slots,
            summary,
            mut active,
        } = loaded;
        content.adopt(&functions, used_slots, &mut self.functions);
        self.sizes.get_mut().may_change(bucket);
        let slot = &mut self.bucket_slots[usize::from(bucket)];
        let absence = slot.absence.take().unwrap_or_default();
        slot.bucket = content;
        slot.summary = summary;
        let has_additions = !absence.additions.is_empty();
        for (key, value) in absence.additions {
            let address = key.address().cloned();
            slot.bucket.put(&mut self.functions, key, value);
            if let Some(address) = address {
                slot.bucket.recount(&address);
            }
        }
        if has_additions {
            active = slot.bucket.active_addresses();
        }
        for address in &active {
            let state = slot.bucket.get(address).and_then(|it| it.active.as_ref());
            for (number, letter) in state.into_iter().flat_map(|state| state.dead_letters()) {
                let entry = DeadLetterEntry::of(Some(address), letter);
                self.dead_letters.insert(number, entry);
            }
        }
        active
    }

    /// Removes the content of a bucket from memory. The image in effect, with the entries replayed
    /// over it, must equal that content.
    pub(crate) fn evict_bucket(&mut self, bucket: u16) {
        let slot = self.bucket_slot_mut(bucket);
        slot.expected_bytes = slot.bucket.bytes();
        slot.bucket = Bucket::default();
        slot.absence = Some(Absence::default());
    }

    /// Approximate size of all buckets, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.sizes.borrow_mut().total(&self.bucket_slots)
    }

    /// Audits the size of all buckets.
    pub(crate) fn is_size_right(&self) -> bool {
        self.bytes()
            == self
                .bucket_slots
                .iter()
                .map(BucketSlot::bytes)
                .sum::<usize>()
    }

    /// Approximate size of the buckets that must stay in memory, in bytes.
    pub(crate) fn pinned_bytes(&self) -> usize {
        let bucket_slots = self.bucket_slots.iter();
        let pinned = bucket_slots.filter(|slot| slot.eviction() != Eviction::Allowed);
        pinned.map(BucketSlot::bytes).sum()
    }

    /// Size of the messages that wait until a suspension or a pause ends, in bytes.
    pub(crate) fn standing_bytes(&self) -> usize {
        self.bucket_slots
            .iter()
            .map(BucketSlot::standing_bytes)
            .sum()
    }

    /// Takes the next number of the partition's counter.
    pub(crate) fn take_number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    pub(crate) fn instance(&self, address: &Address) -> Option<&Instance> {
        self.bucket_slot(self.bucket_of(address))
            .bucket
            .get(address)
    }

    pub(crate) fn instance_mut(&mut self, address: &Address) -> Option<&mut Instance> {
        self.bucket_mut(address).get_mut(address)
    }

    /// Returns the instance at `address`, created if there is none.
    pub(crate) fn instance_or_new(&mut self, address: &Address) -> &mut Instance {
        self.bucket_mut(address).get_or_new(address)
    }

    /// Returns the active state of `address`, created if there is none.
    pub(crate) fn active_or_new(&mut self, address: &Address) -> &mut ActiveState {
        self.instance_or_new(address).active.get_or_insert_default()
    }

    /// Returns the active state of `address`, if there is one.
    pub(crate) fn active_mut(&mut self, address: &Address) -> Option<&mut ActiveState> {
        self.instance_mut(address)?.active.as_deref_mut()
    }

    /// Returns the active state of `address`, if there is one.
    pub(crate) fn active(&self, address: &Address) -> Option<&ActiveState> {
        self.instance(address)?.active.as_deref()
    }

    pub(crate) fn set_state(
        &mut self,
        address: &Address,
        slot: u16,
        expires_at_ms: Option<u64>,
        value: &[u8],
    ) {
        self.bucket_mut(address)
            .set_state(address, slot, expires_at_ms, value);
    }

    /// Moves the expiry of a value. Returns whether there is a value.
    pub(crate) fn refresh_state(&mut self, address: &Address, slot: u16, at_ms: u64) -> bool {
        self.bucket_mut(address).refresh_state(address, slot, at_ms)
    }

    pub(crate) fn remove_state(&mut self, address: &Address, slot: u16) -> bool {
        self.bucket_mut(address).remove_state(address, slot)
    }

    /// Removes the empty parts of the instance at `address`.
    pub(crate) fn prune(&mut self, address: &Address) {
        self.bucket_mut(address).prune(address);
    }

    /// Updates the bucket's counters for the active state of `address`.
    pub(crate) fn recount(&mut self, address: &Address) {
        let bucket = self.bucket_of(address);
        self.bucket_slot_mut(bucket).bucket.recount(address);
    }

    pub(crate) fn states_of(&self, function: &FunctionType) -> Option<&FunctionStates> {
        self.functions.get(function)
    }

    /// Iterates over the known functions, with their states.
    pub(crate) fn functions(&self) -> impl Iterator<Item = (&FunctionType, &FunctionStates)> {
        self.functions.iter()
    }

    pub(crate) fn states_of_mut(&mut self, function: &FunctionType) -> &mut FunctionStates {
        self.functions.get_or_new(function)
    }

    /// Returns the applied positions of the shards of a stream.
    pub(crate) fn shards_of(&self, ingress: &str, stream: &str) -> Vec<(Arc<str>, ShardPosition)> {
        let shards = self.shards.iter();
        shards
            .filter(|(shard, _)| *shard.ingress == *ingress && *shard.stream == *stream)
            .map(|(shard, position)| (shard.shard.clone(), position.clone()))
            .collect()
    }

    /// Adds a dead letter.
    pub(crate) fn add_dead_letter(
        &mut self,
        address: Option<&Address>,
        number: u64,
        letter: DeadLetter,
    ) {
        let entry = DeadLetterEntry::of(address, &letter);
        self.dead_letters.insert(number, entry);
        match address {
            Some(address) => {
                self.active_or_new(address)
                    .insert_dead_letter(number, letter);
            }
            None => {
                self.unaddressed_dead_letters.insert(number, letter);
            }
        }
    }

    /// Adds a dead letter to a bucket that is not in memory.
    pub(crate) fn put_absent_dead_letter(
        &mut self,
        address: Address,
        number: u64,
        letter: DeadLetter,
    ) {
        let entry = DeadLetterEntry::of(Some(&address), &letter);
        self.dead_letters.insert(number, entry);
        let key = Key::DeadLetter {
            address: Some(address),
            number,
        };
        self.put_absent(key, Value::DeadLetter(letter));
    }

    /// Removes a dead letter, whose bucket is in memory. Returns it with the address that stored
    /// it.
    pub(crate) fn take_dead_letter(
        &mut self,
        number: u64,
    ) -> Option<(Option<Address>, DeadLetter)> {
        let entry = self.dead_letters.remove(number)?;
        let letter = match &entry.home {
            Some(home) => self.active_mut(home)?.take_dead_letter(number),
            None => self.unaddressed_dead_letters.remove(&number),
        };
        if let Some(home) = &entry.home {
            self.prune(home);
        }
        letter.map(|letter| (entry.home, letter))
    }

    /// Returns a dead letter, if its bucket is in memory.
    pub(crate) fn dead_letter(&self, number: u64) -> Option<&DeadLetter> {
        match &self.dead_letters.get(number)?.home {
            Some(home) => self.active(home)?.dead_letter(number),
            None => self.unaddressed_dead_letters.get(&number),
        }
    }

    /// Summary of a bucket that is in memory: the time at which something in it is due, and whether
    /// it must stay in memory.
    pub(crate) fn bucket_summary(&self, bucket: u16) -> BucketSummary {
        let slot = self.bucket_slots.get(usize::from(bucket));
        slot.map_or(BucketSummary::default(), |slot| slot.bucket.summary())
    }

    fn bucket_mut(&mut self, address: &Address) -> &mut Bucket {
        let turn = self.turn;
        let bucket = self.bucket_of(address);
        let slot = self.bucket_slot_mut(bucket);
        assert!(
            !slot.is_absent(),
            "{address} is used while bucket {bucket} is absent"
        );
        slot.touched = turn;
        &mut slot.bucket
    }
}
