//! The states of functions, each with the slot by which instances refer to it.

use std::sync::Arc;

use crate::address::FunctionType;
use crate::durable::{Expiration, StateSpec};
use crate::map::Map;

/// The known functions with their states.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Functions(Map<FunctionType, FunctionStates>);

/// The states of one function.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct FunctionStates {
    pub(crate) slots: Vec<StateSlot>,
}

/// One state of a function.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StateSlot {
    pub(crate) name: Arc<str>,
    pub(crate) typename: Arc<str>,
    /// Expiration of its values, once the function has declared the state.
    pub(crate) declared: Option<Expiration>,
    /// True if the function declared the state before and no longer does.
    pub(crate) retired: bool,
    /// True if the slot stands for no state: it was forgotten.
    vacant: bool,
}

impl StateSlot {
    /// Creates the slot of a state that was not declared.
    fn new(name: &str, typename: &str) -> Self {
        Self {
            name: name.into(),
            typename: typename.into(),
            declared: None,
            retired: false,
            vacant: false,
        }
    }

    /// Returns whether the state is in every request to the function.
    pub(crate) fn travels(&self) -> bool {
        self.declared.is_some() && !self.retired
    }
}

impl Functions {
    pub(crate) fn get(&self, function: &FunctionType) -> Option<&FunctionStates> {
        self.0.get(function)
    }

    pub(crate) fn get_or_new(&mut self, function: &FunctionType) -> &mut FunctionStates {
        self.0.entry(function.clone()).or_default()
    }

    pub(super) fn remove(&mut self, function: &FunctionType) {
        self.0.remove(function);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&FunctionType, &FunctionStates)> {
        self.0.iter()
    }

    /// Returns the slot of the state `name`, created if there is none.
    pub(super) fn slot_for(&mut self, function: &FunctionType, name: &str, typename: &str) -> u16 {
        // Looked up first, because that does not clone the function type.
        match self.0.get_mut(function) {
            Some(states) => states.slot_for(name, typename),
            None => self.get_or_new(function).slot_for(name, typename),
        }
    }
}

impl FunctionStates {
    /// Returns the slot of the state `name`.
    pub(crate) fn find(&self, name: &str) -> Option<(u16, &StateSlot)> {
        (0..)
            .zip(&self.slots)
            .find(|(_, slot)| *slot.name == *name && !slot.vacant)
    }

    fn slot_for(&mut self, name: &str, typename: &str) -> u16 {
        if let Some((index, _)) = self.find(name) {
            return index;
        }
        let slot = StateSlot::new(name, typename);
        if let Some(index) = self.slots.iter().position(|slot| slot.vacant) {
            self.slots[index] = slot;
            return index as u16;
        }
        self.slots.push(slot);
        (self.slots.len() - 1) as u16
    }

    /// Iterates over the states that are in every request to the function.
    pub(crate) fn travelling(&self) -> impl Iterator<Item = &StateSlot> {
        self.slots.iter().filter(|slot| slot.travels())
    }

    /// Returns the declarations of the states that are in every request to the function.
    pub(crate) fn travelling_specs(&self) -> Vec<StateSpec> {
        let specs = self.travelling().filter_map(|slot| {
            Some(StateSpec {
                name: slot.name.clone(),
                typename: slot.typename.clone(),
                expiration: slot.declared?,
                retired: false,
            })
        });
        specs.collect()
    }

    /// Records a declaration. Returns whether it changes anything.
    pub(crate) fn declare(&mut self, spec: &StateSpec) -> bool {
        let index = usize::from(self.slot_for(&spec.name, &spec.typename));
        let slot = &mut self.slots[index];
        let declared = StateSlot {
            name: slot.name.clone(),
            typename: spec.typename.clone(),
            declared: Some(spec.expiration),
            retired: spec.retired,
            vacant: false,
        };
        let changes = *slot != declared;
        *slot = declared;
        changes
    }

    /// Forgets a state of which no instance has a value. Returns whether it was declared. Its slot
    /// is used again.
    pub(crate) fn forget(&mut self, name: &str) -> bool {
        let Some((index, _)) = self.find(name) else {
            return false;
        };
        let slot = &mut self.slots[usize::from(index)];
        let was_declared = slot.declared.is_some();
        *slot = StateSlot::new("", "");
        slot.vacant = true;
        was_declared
    }

    /// Replaces all declarations.
    pub(crate) fn set_declared(&mut self, specs: &[StateSpec]) {
        for slot in &mut self.slots {
            slot.declared = None;
            slot.retired = false;
        }
        for spec in specs {
            self.declare(spec);
        }
    }

    /// Marks the travelling states for which `is_over` holds as retired. Returns whether there are
    /// any.
    pub(crate) fn retire(&mut self, is_over: impl Fn(&str) -> bool) -> bool {
        let mut any = false;
        for slot in self.slots.iter_mut().filter(|slot| slot.travels()) {
            if is_over(&slot.name) {
                slot.retired = true;
                any = true;
            }
        }
        any
    }

    /// Returns the declared states, retired ones included, sorted by name. After a recovery the
    /// slots have another order, and an image must equal the fold nevertheless.
    pub(crate) fn declared(&self) -> Vec<StateSpec> {
        let declared = self.slots.iter().filter_map(|slot| {
            Some(StateSpec {
                name: slot.name.clone(),
                typename: slot.typename.clone(),
                expiration: slot.declared?,
                retired: slot.retired,
            })
        });
        let mut declared: Vec<_> = declared.collect();
        declared.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        declared
    }
}
