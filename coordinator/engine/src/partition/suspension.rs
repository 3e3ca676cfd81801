//! Suspension of a function type: its deployed version does not fit what is durable, or its
//! endpoint speaks an unknown version of the protocol.
//!
//! ```text
//!              a declaration that does not fit
//!  active ─────────────────────────────────────► suspended ◄──┐ does not fit, or no answer:
//!    ▲                                            │  probe ───┘ back-off up to 5 s
//!    └────────────────────────────────────────────┘
//!                   a declaration that fits
//! ```
//!
//! The messages of a suspended function type wait in their mailboxes. No attempt counts against
//! them. Other functions continue.
//!
//! A probe is a batch without messages and without states. Every SDK answers it with all states
//! that the function declares, and runs no code of the function. After a probe that failed, the
//! next one is the batch of one waiting address.
//!
//! A suspension is not durable. The next owner tries again, learns the same from the first answer,
//! and suspends the function anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use satchel_protocol::reqreply::FromFunction;
use satchel_protocol::reqreply::from_function::{InvocationResponse, Response};

use super::Partition;
use super::declarations::{Declaration, Declarations, Refusal};
use super::schedule::Scheduled;
use crate::address::{Address, FunctionType};
use crate::invocation::{AttemptId, Batch, Failure, FailureKind};
use crate::map::Map;
use crate::output::{Output, Stoppage, Stoppages};
use crate::story::Step;
use crate::tables::Activity;

/// Delay before the first probe, in ms. It doubles with each further probe.
const PROBE_INITIAL_MS: u64 = 250;
const PROBE_MAX_MS: u64 = 5_000;

/// Time after a suspension within which the next one continues its back-off, in ms. Two versions
/// behind one alias may alternate.
const RELAPSE_MS: u64 = 60_000;

/// Size of a batch without messages and states on the wire, in bytes.
const PROBE_BYTES: usize = 96;

/// In-memory knowledge about function types.
#[derive(Default)]
pub(super) struct FunctionTypes {
    suspended: BTreeMap<FunctionType, SuspendedFunction>,
    /// Addresses whose turn came while their function was suspended or paused.
    waiting: Map<FunctionType, Vec<Address>>,
    /// Functions of the probes in flight, by number of the attempt.
    probes: Map<u64, FunctionType>,
    /// Ends of recent suspensions: time, and number of probes.
    relapses: BTreeMap<FunctionType, (u64, u32)>,
    /// Functions with declared states that were invoked in this period.
    pub(super) declarations: Map<FunctionType, Declarations>,
    /// Addresses that answered with a value of another type than declared, and the attempt. An
    /// entry stays until the address succeeds or gives the message up.
    disputes: BTreeMap<Address, u64>,
    /// Messages to be given up once a probe has confirmed that the declarations fit, by function.
    unconfirmed: BTreeMap<FunctionType, Vec<Unconfirmed>>,
    /// Number of changes of [`Partition::stoppages`].
    stoppage_changes: u64,
}

/// A message at the head of a mailbox whose last attempt has failed.
struct Unconfirmed {
    address: Address,
    /// Number of that attempt.
    attempt: u64,
    reason: String,
}

struct SuspendedFunction {
    cause: Cause,
    reason: String,
    since_ms: u64,
    /// Address whose batch caused the suspension, which probes name as their target.
    address: Address,
    /// Number of probes made.
    probes: u32,
    /// True if the last probe failed, so that the next one is the batch of a waiting address.
    needs_messages: bool,
    /// Waiting address whose batch is let through as a probe.
    trial: Option<Address>,
}

/// Cause of a suspension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The function declares a state with another type than before.
    Declaration,
    /// The endpoint answers in an unknown version of the protocol.
    Protocol,
}

impl FunctionTypes {
    /// Records a change of what [`Partition::stoppages`] shows.
    pub(super) fn stoppages_changed(&mut self) {
        self.stoppage_changes += 1;
    }

    pub(super) fn is_suspended(&self, function: &FunctionType) -> bool {
        self.suspended.contains_key(function)
    }

    pub(super) fn is_probed(&self, function: &FunctionType) -> bool {
        self.probes.values().any(|probed| probed == function)
    }

    /// Removes the dispute of an address that succeeded or gave its message up.
    pub(super) fn settle_dispute(&mut self, address: &Address) {
        if !self.disputes.is_empty() {
            self.disputes.remove(address);
        }
    }
}

impl Partition {
    /// Returns the function types and ingresses that do not make progress although nothing failed
    /// in their messages, with the reasons.
    pub fn stoppages(&self) -> Stoppages {
        let suspended = self.function_types.suspended.iter();
        Stoppages {
            suspended_functions: suspended
                .map(|(function, suspended)| Stoppage {
                    name: function.to_string(),
                    reason: suspended.reason.clone(),
                    since_ms: suspended.since_ms,
                })
                .collect(),
            paused_functions: super::pauses::stoppages(&self.tables.function_pauses),
            paused_ingresses: super::pauses::stoppages(&self.tables.ingress_pauses),
        }
    }

    /// Number of changes of [`Self::stoppages`] so far.
    pub fn stoppage_changes(&self) -> u64 {
        self.function_types.stoppage_changes
    }

    /// Describes why the messages of a function wait, if they do.
    pub(super) fn block_of(&self, function: &FunctionType) -> Option<String> {
        if let Some(pause) = self.tables.function_pauses.get(function) {
            return Some(super::pauses::describe(function, pause));
        }
        let suspended = self.function_types.suspended.get(function)?;
        Some(format!(
            "the function {function} is suspended: {}",
            suspended.reason
        ))
    }

    /// Returns whether no batch of `address` may start, because its function is suspended or
    /// paused.
    pub(super) fn is_blocked(&self, address: &Address) -> bool {
        if self.tables.function_pauses.contains_key(&address.function) {
            return true;
        }
        let suspended = self.function_types.suspended.get(&address.function);
        suspended.is_some_and(|suspended| suspended.trial.as_ref() != Some(address))
    }

    /// Lets an address wait until its function continues.
    pub(super) fn wait_for_function(&mut self, address: &Address) {
        let Some(active) = self.tables.active_mut(address) else {
            return;
        };
        active.activity = Activity::Blocked;
        self.tables.recount(address);
        if self.stories.is_some() {
            let reason = self.block_of(&address.function).unwrap_or_default();
            let reason: Arc<str> = reason.into();
            self.tell_batch(address, 1, false, || Step::Blocked {
                reason: Arc::clone(&reason),
            });
        }
        let waiting = &mut self.function_types.waiting;
        let waiting = waiting.entry(address.function.clone()).or_default();
        waiting.push(address.clone());
    }

    /// Continues the addresses that waited, unless their function is still blocked.
    pub(super) fn release_waiting(&mut self, function: &FunctionType) {
        if self.tables.function_pauses.contains_key(function)
            || self.function_types.is_suspended(function)
        {
            return;
        }
        let waiting = self.function_types.waiting.remove(function);
        for address in waiting.into_iter().flatten() {
            self.unblock(&address);
        }
    }

    fn unblock(&mut self, address: &Address) {
        // A correction may have emptied the mailbox since, and the bucket may have been evicted.
        let active = self.tables.active(address);
        if active.is_some_and(|active| active.activity == Activity::Blocked)
            && let Some(active) = self.tables.active_mut(address)
        {
            active.activity = Activity::Idle;
            self.tables.recount(address);
            self.make_ready(address);
            self.tables.prune(address);
        }
    }

    /// Suspends the function of `address`, or updates the reason of its suspension.
    pub(super) fn suspend_function(&mut self, address: &Address, cause: Cause, reason: String) {
        let now_ms = self.now_ms;
        let function = &address.function;
        if let Some(suspended) = self.function_types.suspended.get_mut(function) {
            if suspended.trial.as_ref() == Some(address) {
                suspended.trial = None;
            }
            if suspended.reason != reason {
                suspended.cause = cause;
                suspended.reason = reason;
                self.function_types.stoppages_changed();
            }
            return;
        }
        let relapses = &mut self.function_types.relapses;
        relapses.retain(|_, (ended_ms, _)| now_ms < *ended_ms + RELAPSE_MS);
        let probes = relapses.get(function).map_or(0, |(_, probes)| *probes);
        let suspended = SuspendedFunction {
            cause,
            reason,
            since_ms: now_ms,
            address: address.clone(),
            probes,
            needs_messages: false,
            trial: None,
        };
        let functions = &mut self.function_types;
        functions.suspended.insert(function.clone(), suspended);
        functions.stoppages_changed();
        self.schedule_probe(function);
    }

    fn resume_function(&mut self, function: &FunctionType) {
        let Some(suspended) = self.function_types.suspended.remove(function) else {
            return;
        };
        let ended = (self.now_ms, suspended.probes);
        let functions = &mut self.function_types;
        functions.relapses.insert(function.clone(), ended);
        functions.stoppages_changed();
        self.schedule.remove(&Scheduled::Probe {
            function: function.clone(),
        });
        if let Some(address) = suspended.trial {
            self.unblock(&address);
        }
        self.release_waiting(function);
    }

    fn schedule_probe(&mut self, function: &FunctionType) {
        let Some(suspended) = self.function_types.suspended.get(function) else {
            return;
        };
        let delay_ms = PROBE_INITIAL_MS << suspended.probes.min(8);
        let due_ms = self.now_ms + delay_ms.min(PROBE_MAX_MS);
        let function = function.clone();
        self.schedule.add(due_ms, Scheduled::Probe { function });
    }

    /// Probes a suspended function: its back-off is over.
    pub(super) fn probe_due(&mut self, function: &FunctionType) {
        let paused = self.tables.function_pauses.contains_key(function);
        let probed = self.function_types.is_probed(function);
        let Some(suspended) = self.function_types.suspended.get_mut(function) else {
            return;
        };
        suspended.probes = suspended.probes.saturating_add(1);
        if paused || probed {
            return self.schedule_probe(function);
        }
        if let Some(address) = suspended.trial.clone() {
            let active = self.tables.active(&address);
            let busy = active.is_some_and(|active| {
                !matches!(active.activity, Activity::Idle | Activity::Blocked)
            });
            if busy {
                return self.schedule_probe(function);
            }
            self.end_trial(function);
        }
        let needs_messages = self
            .function_types
            .suspended
            .get(function)
            .is_some_and(|suspended| suspended.needs_messages);
        if !(needs_messages && self.start_trial(function)) {
            let suspended = self.function_types.suspended.get(function);
            let address = suspended.map(|suspended| suspended.address.clone());
            if let Some(address) = address {
                self.send_probe(&address);
            }
        }
    }

    /// Lets the batch of one waiting address through. Returns whether there is one.
    fn start_trial(&mut self, function: &FunctionType) -> bool {
        loop {
            let waiting = self.function_types.waiting.get_mut(function);
            let Some(waiting) = waiting.filter(|waiting| !waiting.is_empty()) else {
                return false;
            };
            // Each trial takes another address, so that one broken message does not decide.
            let address = waiting.remove(0);
            let active = self.tables.active(&address);
            let waits = active.is_some_and(|active| {
                active.activity == Activity::Blocked && !active.mailbox.is_empty()
            });
            if !waits {
                self.unblock(&address);
                continue;
            }
            if let Some(suspended) = self.function_types.suspended.get_mut(function) {
                suspended.trial = Some(address.clone());
                // If the trial shows nothing, a batch without messages is next.
                suspended.needs_messages = false;
            }
            self.unblock(&address);
            // The trial may end without an answer, for instance if the message is given up.
            self.schedule_probe(function);
            return true;
        }
    }

    fn end_trial(&mut self, function: &FunctionType) {
        if let Some(suspended) = self.function_types.suspended.get_mut(function) {
            suspended.trial = None;
        }
    }

    fn is_trial(&self, address: &Address) -> bool {
        let suspended = self.function_types.suspended.get(&address.function);
        suspended.is_some_and(|suspended| suspended.trial.as_ref() == Some(address))
    }

    /// Resumes a function whose probe was the batch of this address.
    pub(super) fn trial_succeeded(&mut self, address: &Address) {
        if self.is_trial(address) {
            self.resume_function(&address.function);
        }
    }

    /// Ends a probe by the batch of this address without a result.
    pub(super) fn trial_failed(&mut self, address: &Address) {
        if self.is_trial(address) {
            self.end_trial(&address.function);
        }
    }

    /// Sends a batch without messages and states to `address`.
    pub(super) fn send_probe(&mut self, address: &Address) {
        let Some(endpoint) = self.config.endpoints.serving(&address.function) else {
            return;
        };
        let (declarations, _) = self.declarations_for_request(&address.function);
        let attempt = AttemptId {
            partition: self.config.partition,
            epoch: self.epoch,
            number: self.next_attempt,
        };
        self.next_attempt += 1;
        let probes = &mut self.function_types.probes;
        probes.insert(attempt.number, address.function.clone());
        self.outputs.push_back(Output::Invoke {
            endpoint,
            batch: Arc::new(Batch {
                attempt,
                target: address.clone(),
                state: Vec::new(),
                messages: Vec::new(),
                declarations,
                bytes: PROBE_BYTES,
            }),
        });
    }

    /// Ends the flight of a probe. Returns its function, or nothing if the attempt is no probe.
    pub(super) fn take_probe(&mut self, attempt: AttemptId) -> Option<FunctionType> {
        let ours = attempt.epoch == self.epoch && attempt.partition == self.config.partition;
        let probes = &mut self.function_types.probes;
        ours.then(|| probes.remove(&attempt.number)).flatten()
    }

    /// Handles the answer to a probe: the declarations of the deployed version.
    pub(super) fn probe_answered(
        &mut self,
        function: &FunctionType,
        attempt: AttemptId,
        answer: FromFunction,
    ) {
        let declaration = match answer.response {
            Some(Response::IncompleteInvocationContext(missing)) => {
                Declaration::read(&missing, true)
            }
            Some(Response::InvocationResult(InvocationResponse { declaration, .. })) => {
                Ok(Declaration::of_nothing(declaration))
            }
            None => Ok(Declaration::of_nothing(0)),
        };
        let declared = declaration
            .map_err(Refusal::Invalid)
            .and_then(|declaration| self.declare(function, declaration, None));
        match declared {
            Ok(()) => {
                if let Some(known) = self.function_types.declarations.get_mut(function) {
                    known.confirmed_by = attempt.number;
                }
                self.resume_function(function);
                self.give_up_confirmed(function, attempt.number);
            }
            Err(Refusal::Misfit(reason)) => {
                let address = self.probe_address(function);
                self.suspend_function(&address, Cause::Declaration, reason);
                self.schedule_probe(function);
                self.excuse_unconfirmed(function);
            }
            Err(Refusal::Invalid(_)) => {
                self.schedule_probe(function);
                self.give_up_confirmed(function, attempt.number);
            }
        }
    }

    /// Handles a probe without an answer.
    pub(super) fn probe_failed(
        &mut self,
        function: &FunctionType,
        attempt: AttemptId,
        failure: &Failure,
    ) {
        match failure.kind {
            FailureKind::Incompatible => {
                let address = self.probe_address(function);
                self.suspend_function(&address, Cause::Protocol, failure.message.clone());
                self.excuse_unconfirmed(function);
            }
            FailureKind::Function
            | FailureKind::Terminal
            | FailureKind::Ambiguous
            | FailureKind::TimedOut
            | FailureKind::ConnectionLost
            | FailureKind::RequestTooLarge => {
                // It shows nothing about the declarations.
                self.give_up_confirmed(function, attempt.number);
                let suspended = self.function_types.suspended.get_mut(function);
                match suspended {
                    Some(suspended) if suspended.cause == Cause::Protocol => {
                        // The endpoint answers in a known version again.
                        return self.resume_function(function);
                    }
                    Some(suspended) => suspended.needs_messages = true,
                    None => {}
                }
            }
            FailureKind::Throttled | FailureKind::Unavailable => self.excuse_unconfirmed(function),
        }
        self.schedule_probe(function);
    }

    /// Lets a message that is about to be given up wait for a probe, if the function names no
    /// fingerprint: a deployed version that does not fit fails every message, and no message may be
    /// given up for that. Returns false if the declarations are confirmed.
    pub(super) fn await_confirmation(
        &mut self,
        address: &Address,
        attempt: u64,
        reason: &str,
    ) -> bool {
        let function = &address.function;
        let known = self.function_types.declarations.get(function);
        let needed = known.is_some_and(|known| known.needs_confirmation(attempt));
        if self.config.declarations_renewed_ms.is_none() || !needed {
            return false;
        }
        let Some(active) = self.tables.active_mut(address) else {
            return false;
        };
        active.activity = Activity::Blocked;
        self.tables.recount(address);
        let unconfirmed = &mut self.function_types.unconfirmed;
        let unconfirmed = unconfirmed.entry(function.clone()).or_default();
        unconfirmed.push(Unconfirmed {
            address: address.clone(),
            attempt,
            reason: reason.to_owned(),
        });
        if !self.function_types.is_probed(function) {
            self.send_probe(address);
        }
        true
    }

    /// Gives up the messages that failed before the probe `probe` was sent, and sends another one
    /// for the others.
    fn give_up_confirmed(&mut self, function: &FunctionType, probe: u64) {
        let unconfirmed = self.function_types.unconfirmed.remove(function);
        let unconfirmed = unconfirmed.unwrap_or_default().into_iter();
        let (confirmed, left): (Vec<_>, Vec<_>) = unconfirmed.partition(|it| it.attempt < probe);
        for Unconfirmed {
            address, reason, ..
        } in confirmed
        {
            let endpoint = self.config.endpoints.serving(&address.function);
            if let Some(active) = self.tables.active_mut(&address)
                && let Some(endpoint) = endpoint
            {
                active.activity = Activity::Idle;
                self.tables.recount(&address);
                self.give_up_or_suspend(&address, endpoint, reason);
            }
        }
        if let Some(first) = left.first() {
            let address = first.address.clone();
            let unconfirmed = &mut self.function_types.unconfirmed;
            unconfirmed.insert(function.clone(), left);
            self.send_probe(&address);
        }
    }

    /// Withdraws the last attempts of the messages that wait for a probe.
    fn excuse_unconfirmed(&mut self, function: &FunctionType) {
        let unconfirmed = self.function_types.unconfirmed.remove(function);
        let endpoint = self.config.endpoints.serving(function);
        let retries = endpoint.map(|endpoint| self.config.endpoints.get(endpoint).retries);
        for Unconfirmed { address, .. } in unconfirmed.into_iter().flatten() {
            self.withdraw_counted_attempt(&address);
            match retries {
                Some(retries) if !self.function_types.is_suspended(function) => {
                    self.back_off(&address, retries, 1);
                    self.tables.recount(&address);
                }
                _ => self.unblock(&address),
            }
        }
    }

    /// Address that probes of a function name as their target.
    fn probe_address(&self, function: &FunctionType) -> Address {
        let suspended = self.function_types.suspended.get(function);
        let address = suspended.map(|suspended| suspended.address.clone());
        address.unwrap_or_else(|| Address::new(function.clone(), "declarations"))
    }

    /// Returns whether an answer with a value of another type than declared is the function's own
    /// mistake, and not that of its deployment: a probe sent after an earlier one of this address
    /// found that the declarations fit. Records the answer otherwise.
    pub(super) fn is_own_mistake(&mut self, address: &Address, attempt: u64) -> bool {
        let known = self.function_types.declarations.get(&address.function);
        let confirmed_by = known.map_or(0, |known| known.confirmed_by);
        let disputes = &mut self.function_types.disputes;
        let first = *disputes.entry(address.clone()).or_insert(attempt);
        first < confirmed_by && confirmed_by < attempt
    }
}
