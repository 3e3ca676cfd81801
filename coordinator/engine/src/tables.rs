//! The durable content of a partition, in memory: what the fold of its deltas gives, in the shape in which the engine works on it.

mod body;
mod bucket;
mod functions;
mod letters;
mod live;
mod loaded;
mod overlay;
mod received;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::address::{Address, FunctionType};
use crate::durable::{Change, DeadLetter, Hold, Key, OutboxEntry, Value, bucket_of};
use crate::map::Map;
use crate::output::BucketSummary;
use crate::position::{ShardId, ShardPosition};

use bucket::Bucket;
use functions::Functions;
use letters::{LetterPlace, Letters};
use received::Received;

pub(crate) use bucket::Instance;
pub(crate) use functions::FunctionStates;
pub(crate) use live::{Activity, Flight, Isolation, Live, Standing};
pub use loaded::{BucketProblem, LoadedBucket};
pub use overlay::Overlay;

/// Everything durable.
pub(crate) struct Tables {
    places: Vec<Place>,
    functions: Functions,
    pub(crate) shards: BTreeMap<ShardId, ShardPosition>,
    pub(crate) outbox: BTreeMap<u64, OutboxEntry>,
    /// What egresses noted, by egress and name.
    pub(crate) egress_marks: BTreeMap<(Arc<str>, Arc<str>), Bytes>,
    pub(crate) letters: Letters,
    /// Dead letters that are for no address.
    pub(crate) stray_letters: BTreeMap<u64, DeadLetter>,
    /// The ids of messages that were taken from queues.
    pub(crate) received: Received,
    pub(crate) next_number: u64,
    pub(crate) hold: Option<Hold>,
    /// Counts what was told, so that it is known which bucket was not used for longest.
    pub(crate) turn: u64,
}

/// Where a bucket is, in memory or not.
#[derive(Default)]
pub(crate) struct Place {
    bucket: Bucket,
    absence: Option<Absence>,
    /// What the log says over the image in effect, of deltas before this period: as long as the bucket may be dropped before a newer image
    /// takes effect, it is kept.
    pub(crate) replayed: Arc<Overlay>,
    /// Of the image in effect with `replayed`, or, while loaded, at the last image that was taken.
    pub(crate) summary: BucketSummary,
    /// About how many bytes it will take when it is loaded.
    pub(crate) expected_bytes: usize,
    /// The delta whose fold the image in effect equals; 0 for that of the takeover, with `replayed`. None if there is none.
    pub(crate) image: Option<u64>,
    /// The delta of this period that holds its last change; 0 for none.
    pub(crate) changed: u64,
    /// One more than the deltas that were sealed when a fact of it was marked last: only if no more are now, it may be in none of them.
    pub(crate) marked: u64,
    /// The turn at which it was used last.
    pub(crate) touched: u64,
}

/// What this period adds to a bucket that is not in memory: messages that came for it, and dead letters.
#[derive(Default)]
pub(crate) struct Absence {
    fresh: Map<Key, Value>,
    fresh_bytes: usize,
}

impl Place {
    pub(crate) fn is_absent(&self) -> bool {
        self.absence.is_some()
    }

    /// Whether it can be dropped: it is in memory, could be loaded as it is, and nothing in it must be in memory.
    pub(crate) fn is_idle(&self) -> bool {
        !self.is_absent() && self.is_as_imaged() && !self.summary.pending && self.bucket.bytes() > 0
    }

    /// When a timer of an absent bucket may be due first.
    pub(crate) fn earliest_timer_ms(&self) -> Option<u64> {
        let due = [
            self.summary.earliest_due_ms,
            self.replayed.earliest_timer_ms(),
        ];
        let due_ms = due.into_iter().flatten().min();
        due_ms.filter(|_| self.is_absent())
    }

    /// About how many bytes of messages are known of an absent bucket.
    pub(crate) fn message_bytes(&self) -> usize {
        let fresh = self
            .absence
            .iter()
            .flat_map(|absence| absence.fresh.values());
        let fresh = fresh.map(|value| match value {
            Value::Message(message) => message.bytes(),
            _ => 0,
        });
        self.replayed.message_bytes() + fresh.sum::<usize>()
    }

    /// Whether messages or dead letters have come since it is absent.
    pub(crate) fn has_news(&self) -> bool {
        let absence = self.absence.as_ref();
        absence.is_some_and(|absence| !absence.fresh.is_empty())
    }

    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        let fresh = self
            .absence
            .as_ref()
            .map_or(0, |absence| absence.fresh_bytes);
        self.bucket.bytes() + self.replayed.bytes() + fresh
    }

    /// The addresses at which something is due or goes on.
    pub(crate) fn lively(&self) -> Vec<Address> {
        self.bucket.lively()
    }

    /// Whether what is counted as it goes is what there is; `sealed` says that a seal has counted all that goes on.
    pub(crate) fn is_well_counted(&self, sealed: bool) -> bool {
        self.bucket.is_well_counted(sealed)
    }

    /// Whether it must be in memory, so that no image would let it be dropped.
    pub(crate) fn standing(&self) -> Standing {
        self.bucket.standing()
    }

    /// Whether it changed in this period, and no image that is in effect holds that.
    pub(crate) fn is_changed(&self) -> bool {
        self.changed > self.image.unwrap_or(0)
    }

    /// Whether it was in memory from the beginning, and nothing is known of an image of it.
    pub(crate) fn is_unknown(&self) -> bool {
        self.image.is_none() && self.bucket.bytes() > 0
    }

    /// Whether the image in effect, with what is replayed over it, equals what is in memory.
    pub(crate) fn is_as_imaged(&self) -> bool {
        self.image.is_some_and(|image| self.changed <= image)
    }
}

impl Tables {
    pub(crate) fn new(buckets: u16) -> Self {
        Self {
            places: (0..buckets).map(|_| Place::default()).collect(),
            functions: Functions::default(),
            shards: BTreeMap::new(),
            outbox: BTreeMap::new(),
            egress_marks: BTreeMap::new(),
            letters: Letters::default(),
            stray_letters: BTreeMap::new(),
            received: Received::default(),
            next_number: 1,
            hold: None,
            turn: 1,
        }
    }

    /// How many buckets there are, besides the partition-wide one.
    pub(crate) fn buckets(&self) -> u16 {
        self.places.len() as u16
    }

    pub(crate) fn place(&self, bucket: u16) -> &Place {
        &self.places[usize::from(bucket)]
    }

    pub(crate) fn place_mut(&mut self, bucket: u16) -> &mut Place {
        &mut self.places[usize::from(bucket)]
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = (u16, &Place)> {
        (0..).zip(&self.places)
    }

    /// The bucket of an address.
    pub(crate) fn bucket_of(&self, address: &Address) -> u16 {
        bucket_of(address, self.buckets())
    }

    /// The bucket of an address, if it is not in memory.
    pub(crate) fn absent_bucket_of(&self, address: &Address) -> Option<u16> {
        let bucket = self.bucket_of(address);
        self.place(bucket).is_absent().then_some(bucket)
    }

    /// The bucket's image was not read.
    pub(crate) fn set_absent(&mut self, bucket: u16, summary: BucketSummary, raw_bytes: usize) {
        let place = self.place_mut(bucket);
        // Tables have free places, and allocations a size of their own.
        place.expected_bytes = raw_bytes.saturating_add(raw_bytes / 2);
        place.absence = Some(Absence::default());
        place.summary = summary;
        place.image = Some(0);
    }

    /// The log says this of a bucket whose image was not read; only while what is durable is read.
    pub(crate) fn replay(&mut self, bucket: u16, key: &[u8], value: Option<&[u8]>) {
        let place = self.place_mut(bucket);
        Arc::make_mut(&mut place.replayed).put(key, value);
    }

    /// A fact is added to a bucket that is not in memory.
    pub(crate) fn put_absent(&mut self, key: Key, value: Value) {
        let address = key.address().expect("facts of a bucket have an address");
        let bucket = self.bucket_of(address);
        let turn = self.turn;
        let place = self.place_mut(bucket);
        place.touched = turn;
        let absence = place.absence.get_or_insert_default();
        absence.fresh_bytes += 2 * size_of::<Value>()
            + match &value {
                Value::Message(message) => message.bytes(),
                Value::DeadLetter(letter) => letter.argument.value.len() + letter.reason.len(),
                _ => 0,
            };
        absence.fresh.insert(key, value);
    }

    /// Puts a bucket that was loaded in its place, under what came while it was absent.
    pub(crate) fn install(&mut self, bucket: u16, loaded: LoadedBucket) {
        let LoadedBucket {
            bucket: mut content,
            functions,
            summary,
        } = loaded;
        content.adopt(&functions, &mut self.functions);
        let place = &mut self.places[usize::from(bucket)];
        let absence = place.absence.take().unwrap_or_default();
        place.bucket = content;
        place.summary = summary;
        for (key, value) in absence.fresh {
            let address = key.address().cloned();
            place.bucket.put(&mut self.functions, key, value);
            if let Some(address) = address {
                place.bucket.recount(&address);
            }
        }
        for address in place.bucket.lively() {
            let live = place.bucket.get(&address).and_then(|it| it.live.as_ref());
            for (number, letter) in live.into_iter().flat_map(|live| live.letters()) {
                let place = LetterPlace {
                    id: letter.id,
                    address: Some(address.clone()),
                };
                self.letters.insert(number, place);
            }
        }
    }

    /// Forgets the content of a bucket; the image in effect, with what is replayed over it, equals it.
    pub(crate) fn drop_bucket(&mut self, bucket: u16) {
        let place = self.place_mut(bucket);
        place.expected_bytes = place.bucket.bytes();
        place.bucket = Bucket::default();
        place.absence = Some(Absence::default());
    }

    /// About how many bytes all buckets take.
    pub(crate) fn bytes(&self) -> usize {
        self.places.iter().map(Place::bytes).sum()
    }

    /// About how many of them belong to buckets that must be in memory.
    pub(crate) fn pinned_bytes(&self) -> usize {
        let places = self.places.iter();
        let pinned = places.filter(|place| place.standing() != Standing::Free);
        pinned.map(Place::bytes).sum()
    }

    /// A number that grows.
    pub(crate) fn take_number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    pub(crate) fn instance(&self, address: &Address) -> Option<&Instance> {
        self.place(self.bucket_of(address)).bucket.get(address)
    }

    pub(crate) fn instance_mut(&mut self, address: &Address) -> Option<&mut Instance> {
        self.bucket_mut(address).get_mut(address)
    }

    /// The instance at `address`, made if there is none.
    pub(crate) fn instance_or_new(&mut self, address: &Address) -> &mut Instance {
        self.bucket_mut(address).get_or_new(address)
    }

    /// What goes on at `address`, whether anything does or not.
    pub(crate) fn live_or_new(&mut self, address: &Address) -> &mut Live {
        self.instance_or_new(address).live.get_or_insert_default()
    }

    /// What of an instance is more than its states, if there is anything.
    pub(crate) fn live_mut(&mut self, address: &Address) -> Option<&mut Live> {
        self.instance_mut(address)?.live.as_deref_mut()
    }

    /// What of an instance is more than its states, if there is anything.
    pub(crate) fn live(&self, address: &Address) -> Option<&Live> {
        self.instance(address)?.live.as_deref()
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

    /// Moves the expiry of a value, if there is one.
    pub(crate) fn refresh_state(&mut self, address: &Address, slot: u16, at_ms: u64) -> bool {
        self.bucket_mut(address).refresh_state(address, slot, at_ms)
    }

    pub(crate) fn remove_state(&mut self, address: &Address, slot: u16) -> bool {
        self.bucket_mut(address).remove_state(address, slot)
    }

    /// Forgets what is empty of the instance at `address`.
    pub(crate) fn tidy(&mut self, address: &Address) {
        self.bucket_mut(address).tidy(address);
    }

    /// Counts again what goes on at `address`.
    pub(crate) fn recount(&mut self, address: &Address) {
        let bucket = self.bucket_of(address);
        self.place_mut(bucket).bucket.recount(address);
    }

    pub(crate) fn states_of(&self, function: &FunctionType) -> Option<&FunctionStates> {
        self.functions.get(function)
    }

    pub(crate) fn states_of_mut(&mut self, function: &FunctionType) -> &mut FunctionStates {
        self.functions.get_or_new(function)
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
                self.live_or_new(address).insert_letter(number, letter);
            }
            None => {
                self.stray_letters.insert(number, letter);
            }
        }
    }

    /// Removes a dead letter.
    pub(crate) fn take_letter(&mut self, number: u64) -> Option<(Option<Address>, DeadLetter)> {
        let place = self.letters.remove(number)?;
        let letter = match &place.address {
            Some(address) => self.live_mut(address)?.take_letter(number),
            None => self.stray_letters.remove(&number),
        };
        if let Some(address) = &place.address {
            self.tidy(address);
        }
        letter.map(|letter| (place.address, letter))
    }

    pub(crate) fn letter(&self, number: u64) -> Option<&DeadLetter> {
        match &self.letters.get(number)?.address {
            Some(address) => self.live(address)?.letter(number),
            None => self.stray_letters.get(&number),
        }
    }

    /// The present value of a fact.
    pub(crate) fn value(&self, key: &Key) -> Option<Value> {
        if let Some(address) = key.address() {
            let place = self.place(self.bucket_of(address));
            return match &place.absence {
                // What is replayed over the image is durable already, so nobody asks for it.
                Some(absence) => absence.fresh.get(key).cloned(),
                None => place.bucket.value(&self.functions, key),
            };
        }
        match key {
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
            Key::Received { ingress, id } => {
                let expires_at_ms = self.received.expires_at_ms(ingress, *id);
                expires_at_ms.map(Value::Received)
            }
            _ => None,
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
        match self.places.get(usize::from(bucket)) {
            Some(place) => place.bucket.for_each_key(&self.functions, &mut keep),
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
                self.received.iter().for_each(|(ingress, id)| {
                    keep(Key::Received {
                        ingress: ingress.clone(),
                        id,
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

    /// When something in a bucket that is in memory is due, and whether it must stay there.
    pub(crate) fn bucket_summary(&self, bucket: u16) -> BucketSummary {
        let place = self.places.get(usize::from(bucket));
        place.map_or(BucketSummary::default(), |place| place.bucket.summary())
    }

    fn bucket_mut(&mut self, address: &Address) -> &mut Bucket {
        let turn = self.turn;
        let bucket = self.bucket_of(address);
        let place = self.place_mut(bucket);
        assert!(
            !place.is_absent(),
            "{address} is worked on while bucket {bucket} is absent"
        );
        place.touched = turn;
        &mut place.bucket
    }

    fn put(&mut self, key: Key, value: Value) {
        match (key, value) {
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
            (Key::Received { ingress, id }, Value::Received(expires_at_ms)) => {
                self.received.keep(&ingress, id, expires_at_ms);
            }
            (Key::DeadLetter { address, number }, Value::DeadLetter(letter)) => {
                self.put_letter(address.as_ref(), number, letter);
                if let Some(address) = &address {
                    self.recount(address);
                }
            }
            (key, value) => {
                let address = key.address().cloned();
                let address = address.expect("what belongs to the partition is above");
                let bucket = self.bucket_of(&address);
                let place = &mut self.places[usize::from(bucket)];
                place.bucket.put(&mut self.functions, key, value);
                place.bucket.recount(&address);
            }
        }
    }

    fn remove(&mut self, key: &Key) {
        match key {
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
            Key::Received { ingress, id } => self.received.forget(ingress, *id),
            _ => {
                if let Some(address) = key.address() {
                    let bucket = self.bucket_of(address);
                    let place = &mut self.places[usize::from(bucket)];
                    place.bucket.remove(&self.functions, key);
                    place.bucket.recount(address);
                }
            }
        }
    }
}
