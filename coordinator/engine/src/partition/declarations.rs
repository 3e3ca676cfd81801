//! Declarations of states: those of the deployed version count.
//!
//! A function declares its states in three ways:
//!
//! - It answers that a request lacks states. That shows only the missing ones, or all of them if
//!   the request carried none (StateFun's handshake).
//! - It answers with all of them, because its fingerprint is not among those in the request (see
//!   [`satchel_protocol::declaration`]). It names its fingerprint in every later answer.
//! - It answers a probe, a batch without messages and states. Functions without fingerprints are
//!   probed after the start of an owner, after failures, and at an interval.
//!
//! Two versions may alternate behind one alias. A state therefore travels as long as any version
//! declared it within the last minute, and a request carries the union of the states. A state that
//! no version declares any longer is retired: its values are kept, and do not travel.
//!
//! The declarations are durable. Which version declared what, and when, is not: the next owner
//! learns it from the first answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use satchel_protocol::declaration::fingerprint;
use satchel_protocol::reqreply::from_function::{
    ExpirationSpec, IncompleteInvocationContext, PersistedValueSpec, expiration_spec::ExpireMode,
};

use super::{Partition, Stopping};
use crate::address::{Address, FunctionType};
use crate::durable::{Expiration, Key, StateSpec};
use crate::tables::{Flight, FunctionStates};

/// Maximum number of states per function. A function that declares more is broken: every request
/// carries all states.
const STATES_PER_FUNCTION_MAX: usize = 1000;

/// Maximum number of versions of a function that are distinguished.
const VERSIONS_MAX: usize = 4;

/// Time for which a declaration counts after it was last seen while another version declares
/// something else, in ms. A state that is retired too early costs one more handshake.
const ALTERNATION_MS: u64 = 60_000;

/// Minimum time between two probes of a function that fails, in ms.
const RENEWAL_AFTER_FAILURE_MS: u64 = 1_000;

/// Declarations of one function as seen in this period.
#[derive(Default)]
pub(super) struct Declarations {
    /// Complete declarations, by fingerprint.
    versions: BTreeMap<u64, Version>,
    /// Time at which each state was last declared by an answer that asks for it.
    seen_ms: BTreeMap<Arc<str>, u64>,
    /// Fingerprint of all states that travel.
    union: u64,
    /// Fingerprints for requests.
    listed: Arc<[u64]>,
    /// Number of changes of the states that travel and of `listed`.
    generation: u64,
    /// Fingerprint of the only version, if exactly its states travel.
    settled: Option<u64>,
    /// True if an answer named a fingerprint, so that probes are unnecessary.
    names_fingerprint: bool,
    /// Time of the last probe, or of the last complete declaration.
    renewed_ms: Option<u64>,
    /// Number of the last probe that found fitting declarations.
    pub(super) confirmed_by: u64,
}

struct Version {
    specs: Vec<StateSpec>,
    seen_ms: u64,
}

/// Declarations in one answer.
pub(super) struct Declaration {
    specs: Vec<StateSpec>,
    /// True if the function declares nothing else.
    complete: bool,
    /// Fingerprint, if the function knows this extension.
    fingerprint: Option<u64>,
}

/// Reason why a declaration was not accepted.
#[derive(Debug)]
pub(super) enum Refusal {
    /// A state was declared with another type before.
    Misfit(String),
    /// The answer breaks a rule of the protocol.
    Invalid(String),
}

impl Declaration {
    /// Reads an answer that asks for states. `bare` is true if the request carried no states.
    pub(super) fn read(missing: &IncompleteInvocationContext, bare: bool) -> Result<Self, String> {
        if missing.declaration == 0 {
            return Ok(Self {
                specs: read_specs(&missing.missing_values)?,
                complete: bare,
                fingerprint: None,
            });
        }
        if fingerprint(&missing.declared_values) != missing.declaration {
            return Err("its fingerprint is not that of the states that it declares".to_owned());
        }
        Ok(Self {
            specs: read_specs(&missing.declared_values)?,
            complete: true,
            fingerprint: Some(missing.declaration),
        })
    }

    /// The declaration of a function that asks for no states although the request carried none.
    pub(super) fn of_nothing(fingerprint: u64) -> Self {
        Self {
            specs: Vec::new(),
            complete: true,
            fingerprint: Some(fingerprint).filter(|fingerprint| *fingerprint != 0),
        }
    }
}

impl Declarations {
    fn new(states: &FunctionStates) -> Self {
        let mut new = Self::default();
        new.refresh(states);
        new
    }

    fn last_seen_ms(&self, name: &str) -> Option<u64> {
        let declares = |version: &&Version| version.specs.iter().any(|spec| *spec.name == *name);
        let versions = self.versions.values().filter(declares);
        let versions = versions.map(|version| version.seen_ms);
        versions.chain(self.seen_ms.get(name).copied()).max()
    }

    fn is_over(&self, name: &str, now_ms: u64) -> bool {
        let seen_ms = self.last_seen_ms(name);
        seen_ms.is_none_or(|seen_ms| seen_ms + ALTERNATION_MS <= now_ms)
    }

    /// Returns whether it is unknown that the version which processed attempt `attempt` declares
    /// fitting states.
    pub(super) fn needs_confirmation(&self, attempt: u64) -> bool {
        !self.names_fingerprint && self.confirmed_by < attempt
    }

    fn add_version(&mut self, fingerprint: u64, version: Version) {
        self.versions.insert(fingerprint, version);
        while self.versions.len() > VERSIONS_MAX {
            let oldest = self
                .versions
                .iter()
                .min_by_key(|(_, version)| version.seen_ms);
            let Some(oldest) = oldest.map(|(fingerprint, _)| *fingerprint) else {
                return;
            };
            self.versions.remove(&oldest);
        }
    }

    /// Derives the fields that depend on versions and states.
    fn refresh(&mut self, states: &FunctionStates) {
        let union = fingerprint_of(states.travelling_specs().iter());
        let listed: Arc<[u64]> = if self.versions.is_empty() {
            [union].into()
        } else {
            self.versions.keys().copied().collect()
        };
        if union != self.union || listed != self.listed {
            self.union = union;
            self.listed = listed;
            self.generation += 1;
        }
        let only = self.versions.keys().next().copied();
        self.settled = only.filter(|only| self.versions.len() == 1 && *only == union);
    }
}

impl Partition {
    /// Returns the fingerprints for a request to `function`, and the generation of its
    /// declarations.
    pub(super) fn declarations_for_request(
        &mut self,
        function: &FunctionType,
    ) -> (Arc<[u64]>, u64) {
        // Names of functions may come from outside: one without states leaves nothing behind.
        let Some(states) = self.tables.states_of(function) else {
            return ([fingerprint_of([].iter())].into(), 0);
        };
        let known = &mut self.function_types.declarations;
        let known = match known.get_mut(function) {
            Some(known) => known,
            None => known
                .entry(function.clone())
                .or_insert_with(|| Declarations::new(states)),
        };
        (known.listed.clone(), known.generation)
    }

    /// Applies a declaration. `flight` is the batch that it answers, if it answers one.
    pub(super) fn declare(
        &mut self,
        function: &FunctionType,
        declaration: Declaration,
        flight: Option<Flight>,
    ) -> Result<(), Refusal> {
        let Declaration {
            specs,
            complete,
            fingerprint,
        } = declaration;
        let nothing = FunctionStates::default();
        let states = self.tables.states_of(function).unwrap_or(&nothing);
        let new = check_specs(states, &specs)?;
        let known = self.function_types.declarations.get(function);
        let is_new_version = fingerprint.is_some_and(|fingerprint| {
            known.is_none_or(|known| !known.versions.contains_key(&fingerprint))
        });
        let generation = known.map_or(0, |known| known.generation);
        // Another address may have declared the same since the request.
        if let Some(flight) = flight
            && new == 0
            && !is_new_version
            && generation == flight.generation
        {
            let problem = "it asks for states that the request held";
            return Err(Refusal::Invalid(problem.to_owned()));
        }
        if specs.is_empty() && self.tables.states_of(function).is_none() {
            return Ok(());
        }
        let now_ms = self.now_ms;
        let states = self.tables.states_of_mut(function);
        let known = &mut self.function_types.declarations;
        let known = known
            .entry(function.clone())
            .or_insert_with(|| Declarations::new(states));
        let mut changed = false;
        for spec in &specs {
            changed |= states.declare(spec);
            known.seen_ms.insert(spec.name.clone(), now_ms);
        }
        if let Some(fingerprint) = fingerprint {
            known.names_fingerprint = true;
            let seen_ms = now_ms;
            known.add_version(fingerprint, Version { specs, seen_ms });
        }
        if complete {
            known.renewed_ms = Some(now_ms);
            changed |= states.retire(|name| known.is_over(name, now_ms));
        }
        known.refresh(states);
        if changed {
            self.mark_changed(Key::Registration {
                function: function.clone(),
            });
        }
        Ok(())
    }

    /// Takes note of the fingerprint in an answer, before the answer is applied: the expirations of
    /// the version that answers count for what it writes.
    pub(super) fn declaration_seen(&mut self, function: &FunctionType, fingerprint: u64) {
        let now_ms = self.now_ms;
        let Some(known) = self.function_types.declarations.get_mut(function) else {
            return;
        };
        known.names_fingerprint = fingerprint != 0;
        if fingerprint == 0 || known.settled == Some(fingerprint) {
            return;
        }
        let states = self.tables.states_of_mut(function);
        if !known.versions.contains_key(&fingerprint) && known.union == fingerprint {
            let specs = states.travelling_specs();
            let version = Version {
                specs,
                seen_ms: now_ms,
            };
            known.add_version(fingerprint, version);
        }
        let Some(version) = known.versions.get_mut(&fingerprint) else {
            // The version was seen by an earlier request, and forgotten since.
            return;
        };
        version.seen_ms = now_ms;
        let mut changed = false;
        for spec in &version.specs {
            changed |= states.declare(spec);
        }
        let is_present = |version: &Version| now_ms < version.seen_ms + ALTERNATION_MS;
        known.versions.retain(|_, version| is_present(version));
        changed |= states.retire(|name| known.is_over(name, now_ms));
        known.refresh(states);
        if changed {
            self.mark_changed(Key::Registration {
                function: function.clone(),
            });
        }
    }

    /// Takes note that a state is forgotten, which no version declares.
    pub(super) fn forget_declarations(&mut self, function: &FunctionType, name: &str) {
        let known = self.function_types.declarations.get_mut(function);
        if let (Some(known), Some(states)) = (known, self.tables.states_of(function)) {
            known.seen_ms.remove(name);
            known.refresh(states);
        }
    }

    /// Probes the function of `address` if it names no fingerprint and its declarations are due to
    /// be asked for. `failed` is true if its batch failed, which a new version may have caused.
    pub(super) fn renew_declarations(&mut self, address: &Address, failed: bool) {
        let Some(interval_ms) = self.config.declarations_renewed_ms else {
            return;
        };
        let function = &address.function;
        if self.stopping != Stopping::No
            || self.function_types.is_suspended(function)
            || self.function_types.is_probed(function)
        {
            return;
        }
        let now_ms = self.now_ms;
        let Some(known) = self.function_types.declarations.get_mut(function) else {
            return;
        };
        let wait_ms = match failed {
            true => interval_ms.min(RENEWAL_AFTER_FAILURE_MS),
            false => interval_ms,
        };
        let recent = known
            .renewed_ms
            .is_some_and(|at_ms| now_ms < at_ms + wait_ms);
        if known.names_fingerprint || recent {
            return;
        }
        known.renewed_ms = Some(now_ms);
        self.send_probe(address);
    }
}

/// Checks declared states against the known ones. Returns the number of those that do not travel
/// yet.
fn check_specs(states: &FunctionStates, specs: &[StateSpec]) -> Result<usize, Refusal> {
    let mut names = BTreeSet::new();
    let mut new = 0;
    for spec in specs {
        let slot = states.find(&spec.name).map(|(_, slot)| slot);
        if let Some(slot) = slot.filter(|slot| slot.typename != spec.typename) {
            return Err(Refusal::Misfit(format!(
                "the state {:?} is a {}, it cannot be declared as {}",
                spec.name, slot.typename, spec.typename
            )));
        }
        if !names.insert(&spec.name) {
            let name = &spec.name;
            let problem = format!("it declares the state {name:?} twice");
            return Err(Refusal::Invalid(problem));
        }
        new += usize::from(!slot.is_some_and(|slot| slot.travels()));
    }
    if states.travelling().count() + new > STATES_PER_FUNCTION_MAX {
        return Err(Refusal::Invalid(format!(
            "it declares more than {STATES_PER_FUNCTION_MAX} states"
        )));
    }
    Ok(new)
}

fn fingerprint_of<'a>(specs: impl Iterator<Item = &'a StateSpec>) -> u64 {
    let specs: Vec<PersistedValueSpec> = specs.map(to_wire).collect();
    fingerprint(&specs)
}

fn to_wire(spec: &StateSpec) -> PersistedValueSpec {
    let (mode, ms) = match spec.expiration {
        Expiration::Never => (ExpireMode::None, 0),
        Expiration::AfterWrite(ms) => (ExpireMode::AfterWrite, ms),
        Expiration::AfterInvoke(ms) => (ExpireMode::AfterInvoke, ms),
    };
    PersistedValueSpec {
        state_name: spec.name.as_ref().to_owned(),
        expiration_spec: Some(ExpirationSpec {
            mode: mode.into(),
            expire_after_millis: i64::try_from(ms).unwrap_or(i64::MAX),
        }),
        type_typename: spec.typename.as_ref().to_owned(),
    }
}

fn read_specs(specs: &[PersistedValueSpec]) -> Result<Vec<StateSpec>, String> {
    specs.iter().map(read_spec).collect()
}

fn read_spec(spec: &PersistedValueSpec) -> Result<StateSpec, String> {
    if spec.state_name.is_empty() {
        return Err("it declares a state without a name".to_owned());
    }
    let expiration = match &spec.expiration_spec {
        None => Expiration::Never,
        Some(ExpirationSpec {
            mode,
            expire_after_millis,
        }) => {
            let name = &spec.state_name;
            let after =
                |expiration: fn(u64) -> Expiration| match u64::try_from(*expire_after_millis) {
                    Ok(ms) if ms > 0 => Ok(expiration(ms)),
                    _ => Err(format!(
                        "the state {name:?} would expire after {expire_after_millis} ms, \
                     before it could be read"
                    )),
                };
            match ExpireMode::try_from(*mode) {
                Ok(ExpireMode::None) => Expiration::Never,
                Ok(ExpireMode::AfterWrite) => after(Expiration::AfterWrite)?,
                Ok(ExpireMode::AfterInvoke) => after(Expiration::AfterInvoke)?,
                Err(_) => {
                    return Err(format!(
                        "the state {name:?} has the unknown expiration mode {mode}"
                    ));
                }
            }
        }
    };
    Ok(StateSpec {
        name: spec.state_name.as_str().into(),
        typename: spec.type_typename.as_str().into(),
        expiration,
        retired: false,
    })
}
