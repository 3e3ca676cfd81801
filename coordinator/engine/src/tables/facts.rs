//! The facts of a partition under their keys: the present value of each, and its changes.

use super::Tables;
use crate::durable::{Change, Key, Value};

impl Tables {
    /// Returns the present value of a fact.
    pub(crate) fn value(&self, key: &Key) -> Option<Value> {
        if let Some(address) = key.address() {
            let slot = self.bucket_slot(self.bucket_of(address));
            return match &slot.absence {
                // Entries replayed over the image are durable already, so their values are never
                // asked for.
                Some(absence) => absence.additions.get(key).cloned(),
                None => slot.bucket.value(&self.functions, key),
            };
        }
        match key {
            Key::DeadLetter { number, .. } => {
                self.dead_letter(*number).cloned().map(Value::DeadLetter)
            }
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
                let received = self.received.get(ingress, *id);
                received.map(Value::Received)
            }
            Key::FunctionPause { function } => {
                let pause = self.function_pauses.get(function);
                pause.cloned().map(Value::Pause)
            }
            Key::IngressPause { ingress } => {
                let pause = self.ingress_pauses.get(ingress);
                pause.cloned().map(Value::Pause)
            }
            key => self.links.value(key),
        }
    }

    /// Applies one change of a durable delta or image.
    pub(crate) fn apply(&mut self, change: Change) {
        let Change { key, value } = change;
        match value {
            Some(value) => self.put(key, value),
            None => self.remove(&key),
        }
    }

    /// Returns every fact of one bucket. The number of buckets stands for the partition-wide
    /// bucket.
    ///
    /// `next_number` is the value of the counter at the last seal. Numbers given out since then
    /// that left no trace are in no delta.
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
        match self.bucket_slots.get(usize::from(bucket)) {
            Some(slot) => slot.bucket.for_each_key(&self.functions, &mut keep),
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
                self.unaddressed_dead_letters.keys().for_each(|number| {
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
                for function in self.function_pauses.keys().cloned() {
                    keep(Key::FunctionPause { function });
                }
                for ingress in self.ingress_pauses.keys().cloned() {
                    keep(Key::IngressPause { ingress });
                }
                self.links.for_each_key(&mut keep);
            }
        }
        content
    }

    fn put(&mut self, key: Key, value: Value) {
        match (key, value) {
            (Key::Registration { function }, Value::Registration(specs)) => {
                self.states_of_mut(&function).set_declared(&specs);
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
            (Key::Received { ingress, id }, Value::Received(received)) => {
                self.received.keep(&ingress, id, received);
            }
            (Key::FunctionPause { function }, Value::Pause(pause)) => {
                self.function_pauses.insert(function, pause);
            }
            (Key::IngressPause { ingress }, Value::Pause(pause)) => {
                self.ingress_pauses.insert(ingress, pause);
            }
            (Key::DeadLetter { address, number }, Value::DeadLetter(letter)) => {
                self.add_dead_letter(address.as_ref(), number, letter);
                if let Some(address) = &address {
                    self.recount(address);
                }
            }
            (key, value) => {
                let Some(address) = key.address().cloned() else {
                    let left = self.links.put(key, value);
                    assert_eq!(
                        left, None,
                        "partition-wide facts are handled here and above"
                    );
                    return;
                };
                let bucket = self.bucket_of(&address);
                self.sizes.get_mut().may_change(bucket);
                let slot = &mut self.bucket_slots[usize::from(bucket)];
                slot.bucket.put(&mut self.functions, key, value);
                slot.bucket.recount(&address);
            }
        }
    }

    fn remove(&mut self, key: &Key) {
        match key {
            Key::DeadLetter { number, .. } => {
                self.take_dead_letter(*number);
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
            Key::FunctionPause { function } => {
                self.function_pauses.remove(function);
            }
            Key::IngressPause { ingress } => {
                self.ingress_pauses.remove(ingress);
            }
            _ => {
                if let Some(address) = key.address() {
                    let bucket = self.bucket_of(address);
                    self.sizes.get_mut().may_change(bucket);
                    let slot = &mut self.bucket_slots[usize::from(bucket)];
                    slot.bucket.remove(&self.functions, key);
                    slot.bucket.recount(address);
                } else {
                    self.links.remove(key);
                }
            }
        }
    }
}
