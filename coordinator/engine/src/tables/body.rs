//! The id and the states of one virtual instance, packed: an instance with only a small state is
//! one allocation.
//!
//! ```text
//! packed = length of the id (u32), id,
//!          then for each state: slot (u16), expiry (u64), length of the value (u32), value
//! ```

use std::sync::Arc;

use bytes::Bytes;

/// The id and the states of an instance.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Body {
    /// Everything in one allocation, rewritten by each change.
    Packed(Box<[u8]>),
    /// Large values in separate allocations, so that they can be shared and changed one by one.
    Unpacked(Box<Unpacked>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unpacked {
    id: Arc<str>,
    states: Vec<(u16, u64, Bytes)>,
}

/// Value of one state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StateEntry<'a> {
    pub(crate) slot: u16,
    /// `u64::MAX` stands for never.
    expires_at_ms: u64,
    value: Stored<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Stored<'a> {
    Packed(&'a [u8]),
    Unpacked(&'a Bytes),
}

/// Larger bodies are unpacked: below this size, copying is cheaper than sharing.
const PACKED_BYTES_MAX: usize = 2048;

/// Size of a state besides its value.
const STATE_HEAD_BYTES: usize = 2 + 8 + 4;

/// Average overhead of the allocator per allocation.
pub(super) const ALLOCATION_BYTES: usize = 16;

impl StateEntry<'_> {
    pub(crate) fn expires_at_ms(&self) -> Option<u64> {
        (self.expires_at_ms != u64::MAX).then_some(self.expires_at_ms)
    }

    pub(crate) fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms <= now_ms
    }

    /// Returns the value. A large one is shared instead of copied.
    pub(crate) fn value(&self) -> Bytes {
        match self.value {
            Stored::Packed(bytes) => Bytes::copy_from_slice(bytes),
            Stored::Unpacked(bytes) => bytes.clone(),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self.value {
            Stored::Packed(bytes) => bytes,
            Stored::Unpacked(bytes) => bytes,
        }
    }
}

impl Body {
    pub(super) fn new(id: &str) -> Self {
        Self::Packed(head(id, 0).into_boxed_slice())
    }

    /// Creates a body with one state in a single step.
    pub(super) fn with_state(
        id: &str,
        slot: u16,
        expires_at_ms: Option<u64>,
        value: &[u8],
    ) -> Self {
        let more = STATE_HEAD_BYTES + value.len();
        if 4 + id.len() + more <= PACKED_BYTES_MAX {
            let mut packed = head(id, more);
            put_state(&mut packed, slot, expires_at_ms.unwrap_or(u64::MAX), value);
            Self::Packed(packed.into_boxed_slice())
        } else {
            let mut body = Self::new(id);
            body.set(slot, expires_at_ms, value);
            body
        }
    }

    pub(super) fn id(&self) -> &str {
        match self {
            // These bytes were copied from a `str`, and nothing else writes to them.
            Self::Packed(packed) => {
                std::str::from_utf8(&packed[4..states_at(packed)]).unwrap_or_default()
            }
            Self::Unpacked(unpacked) => &unpacked.id,
        }
    }

    pub(super) fn has_id(&self, id: &str) -> bool {
        match self {
            Self::Packed(packed) => packed[4..states_at(packed)] == *id.as_bytes(),
            Self::Unpacked(unpacked) => *unpacked.id == *id,
        }
    }

    pub(super) fn is_without_states(&self) -> bool {
        match self {
            Self::Packed(packed) => packed.len() == states_at(packed),
            Self::Unpacked(unpacked) => unpacked.states.is_empty(),
        }
    }

    pub(super) fn states(&self) -> States<'_> {
        match self {
            Self::Packed(packed) => States::Packed(&packed[states_at(packed)..]),
            Self::Unpacked(unpacked) => States::Unpacked(unpacked.states.iter()),
        }
    }

    pub(super) fn set(&mut self, slot: u16, expires_at_ms: Option<u64>, value: &[u8]) {
        let expires_at_ms = expires_at_ms.unwrap_or(u64::MAX);
        match self {
            Self::Packed(packed) => {
                let found = find(packed, slot);
                if let Some((at, length)) = found
                    && length == value.len()
                {
                    packed[at + 2..at + 10].copy_from_slice(&expires_at_ms.to_le_bytes());
                    packed[at + STATE_HEAD_BYTES..][..length].copy_from_slice(value);
                    return;
                }
                let without =
                    packed.len() - found.map_or(0, |(_, length)| STATE_HEAD_BYTES + length);
                let total = without + STATE_HEAD_BYTES + value.len();
                if total > PACKED_BYTES_MAX {
                    self.unpack();
                    return self.set(
                        slot,
                        (expires_at_ms != u64::MAX).then_some(expires_at_ms),
                        value,
                    );
                }
                let mut anew = Vec::with_capacity(total);
                put_without(&mut anew, packed, found);
                put_state(&mut anew, slot, expires_at_ms, value);
                *packed = anew.into_boxed_slice();
            }
            Self::Unpacked(unpacked) => {
                let entry = (slot, expires_at_ms, Bytes::copy_from_slice(value));
                match unpacked.states.iter_mut().find(|state| state.0 == slot) {
                    Some(state) => *state = entry,
                    None => unpacked.states.push(entry),
                }
                self.pack_if_small();
            }
        }
    }

    /// Moves the expiry of a value. Returns whether there is a value.
    pub(super) fn refresh(&mut self, slot: u16, expires_at_ms: u64) -> bool {
        match self {
            Self::Packed(packed) => match find(packed, slot) {
                Some((at, _)) => {
                    packed[at + 2..at + 10].copy_from_slice(&expires_at_ms.to_le_bytes());
                    true
                }
                None => false,
            },
            Self::Unpacked(unpacked) => {
                match unpacked.states.iter_mut().find(|state| state.0 == slot) {
                    Some(state) => {
                        state.1 = expires_at_ms;
                        true
                    }
                    None => false,
                }
            }
        }
    }

    pub(super) fn remove(&mut self, slot: u16) -> bool {
        match self {
            Self::Packed(packed) => {
                let found = find(packed, slot);
                if found.is_some() {
                    let mut anew = Vec::with_capacity(packed.len());
                    put_without(&mut anew, packed, found);
                    *packed = anew.into_boxed_slice();
                }
                found.is_some()
            }
            Self::Unpacked(unpacked) => {
                let before = unpacked.states.len();
                unpacked.states.retain(|state| state.0 != slot);
                let removed = unpacked.states.len() < before;
                self.pack_if_small();
                removed
            }
        }
    }

    /// Replaces each slot number `n` by `numbers[n]`.
    pub(super) fn renumber(&mut self, numbers: &[u16]) {
        match self {
            Self::Packed(packed) => {
                let mut at = states_at(packed);
                while at < packed.len() {
                    let slot = u16::from_le_bytes([packed[at], packed[at + 1]]);
                    let number = numbers[usize::from(slot)];
                    packed[at..at + 2].copy_from_slice(&number.to_le_bytes());
                    at += STATE_HEAD_BYTES + length_at(packed, at + 10);
                }
            }
            Self::Unpacked(unpacked) => {
                for state in &mut unpacked.states {
                    state.0 = numbers[usize::from(state.0)];
                }
            }
        }
    }

    /// Approximate size besides its entry in the hash table, in bytes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Packed(packed) => packed.len() + ALLOCATION_BYTES,
            Self::Unpacked(unpacked) => {
                const ENTRY_BYTES: usize = size_of::<(u16, u64, Bytes)>() + 2 * ALLOCATION_BYTES;
                let states = unpacked.states.iter();
                size_of::<Unpacked>()
                    + unpacked.id.len()
                    + 4 * ALLOCATION_BYTES
                    + states
                        .map(|state| state.2.len() + ENTRY_BYTES)
                        .sum::<usize>()
            }
        }
    }

    fn unpack(&mut self) {
        if let Self::Packed(_) = self {
            let states = self.states();
            let states = states.map(|state| (state.slot, state.expires_at_ms, state.value()));
            let unpacked = Unpacked {
                states: states.collect(),
                id: self.id().into(),
            };
            *self = Self::Unpacked(Box::new(unpacked));
        }
    }

    fn pack_if_small(&mut self) {
        let Self::Unpacked(unpacked) = self else {
            return;
        };
        let states = unpacked.states.iter();
        let bytes: usize = states.map(|state| STATE_HEAD_BYTES + state.2.len()).sum();
        // Packed only at half the limit, so that a value around the limit does not cause repeated
        // conversions.
        if 4 + unpacked.id.len() + bytes <= PACKED_BYTES_MAX / 2 {
            let mut packed = head(&unpacked.id, bytes);
            for (slot, expires_at_ms, value) in &unpacked.states {
                put_state(&mut packed, *slot, *expires_at_ms, value);
            }
            *self = Self::Packed(packed.into_boxed_slice());
        }
    }
}

/// Iterator over the states of a body.
#[derive(Debug, Clone)]
pub(crate) enum States<'a> {
    Packed(&'a [u8]),
    Unpacked(std::slice::Iter<'a, (u16, u64, Bytes)>),
}

impl<'a> Iterator for States<'a> {
    type Item = StateEntry<'a>;

    fn next(&mut self) -> Option<StateEntry<'a>> {
        match self {
            Self::Packed(rest) => {
                let (slot, after) = rest.split_first_chunk::<2>()?;
                let (expires_at_ms, after) = after.split_first_chunk::<8>()?;
                let (length, after) = after.split_first_chunk::<4>()?;
                let (value, after) = after.split_at(u32::from_le_bytes(*length) as usize);
                *rest = after;
                Some(StateEntry {
                    slot: u16::from_le_bytes(*slot),
                    expires_at_ms: u64::from_le_bytes(*expires_at_ms),
                    value: Stored::Packed(value),
                })
            }
            Self::Unpacked(states) => {
                states
                    .next()
                    .map(|(slot, expires_at_ms, value)| StateEntry {
                        slot: *slot,
                        expires_at_ms: *expires_at_ms,
                        value: Stored::Unpacked(value),
                    })
            }
        }
    }
}

fn head(id: &str, more: usize) -> Vec<u8> {
    let mut packed = Vec::with_capacity(4 + id.len() + more);
    packed.extend_from_slice(&(id.len() as u32).to_le_bytes());
    packed.extend_from_slice(id.as_bytes());
    packed
}

fn put_state(packed: &mut Vec<u8>, slot: u16, expires_at_ms: u64, value: &[u8]) {
    packed.extend_from_slice(&slot.to_le_bytes());
    packed.extend_from_slice(&expires_at_ms.to_le_bytes());
    packed.extend_from_slice(&(value.len() as u32).to_le_bytes());
    packed.extend_from_slice(value);
}

/// Copies everything except the found state.
fn put_without(anew: &mut Vec<u8>, packed: &[u8], found: Option<(usize, usize)>) {
    match found {
        Some((at, length)) => {
            anew.extend_from_slice(&packed[..at]);
            anew.extend_from_slice(&packed[at + STATE_HEAD_BYTES + length..]);
        }
        None => anew.extend_from_slice(packed),
    }
}

/// Returns the offset of a state and the length of its value.
fn find(packed: &[u8], slot: u16) -> Option<(usize, usize)> {
    let mut at = states_at(packed);
    while at < packed.len() {
        let length = length_at(packed, at + 10);
        if packed[at..at + 2] == slot.to_le_bytes() {
            return Some((at, length));
        }
        at += STATE_HEAD_BYTES + length;
    }
    None
}

fn states_at(packed: &[u8]) -> usize {
    4 + length_at(packed, 0)
}

fn length_at(packed: &[u8], at: usize) -> usize {
    let length = [packed[at], packed[at + 1], packed[at + 2], packed[at + 3]];
    u32::from_le_bytes(length) as usize
}

impl PartialEq for StateEntry<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.slot, self.expires_at_ms, self.bytes())
            == (other.slot, other.expires_at_ms, other.bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Set(u16, Option<u64>, usize),
        Refresh(u16, u64),
        Remove(u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        let length = prop_oneof![0..40_usize, 900..3000_usize];
        prop_oneof![
            (0..4_u16, proptest::option::of(0..1000_u64), length)
                .prop_map(|(slot, expiry, length)| Step::Set(slot, expiry, length)),
            (0..4_u16, 0..1000_u64).prop_map(|(slot, expiry)| Step::Refresh(slot, expiry)),
            (0..4_u16).prop_map(Step::Remove),
        ]
    }

    proptest! {
        #[test]
        fn a_body_in_any_form_behaves_like_a_map(
            id in "\\PC{0,40}",
            steps in proptest::collection::vec(step(), 0..30),
        ) {
            let mut body = Body::new(&id);
            let mut model = std::collections::BTreeMap::new();
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Set(slot, expiry, length) => {
                        let value = vec![n as u8; length];
                        body.set(slot, expiry, &value);
                        model.insert(slot, (expiry, value));
                    }
                    Step::Refresh(slot, expiry) => {
                        let known = model.get_mut(&slot);
                        prop_assert_eq!(body.refresh(slot, expiry), known.is_some());
                        if let Some(known) = known {
                            known.0 = Some(expiry);
                        }
                    }
                    Step::Remove(slot) => {
                        prop_assert_eq!(body.remove(slot), model.remove(&slot).is_some());
                    }
                }
                prop_assert!(body.has_id(&id));
                prop_assert_eq!(body.id(), &id);
                prop_assert_eq!(body.is_without_states(), model.is_empty());
                let held: std::collections::BTreeMap<_, _> = body
                    .states()
                    .map(|state| (state.slot, (state.expires_at_ms(), state.value().to_vec())))
                    .collect();
                prop_assert_eq!(&held, &model);
            }
            body.renumber(&[13, 12, 11, 10]);
            let slots: Vec<u16> = body.states().map(|state| 13 - state.slot).collect();
            prop_assert!(slots.iter().all(|slot| model.contains_key(slot)));
            prop_assert_eq!(slots.len(), model.len());
        }
    }

    #[test]
    fn a_small_state_is_one_allocation_of_little_more_than_its_bytes() {
        let body = Body::with_state(&"k".repeat(40), 0, None, &[7; 200]);
        let Body::Packed(packed) = &body else {
            panic!("{body:?}");
        };
        assert_eq!(packed.len(), 40 + 200 + 4 + 14);
        assert_eq!(size_of::<Body>(), 16);
    }
}
