//! Calls and sends from outside, and their answers.
//!
//! A call appears to its function as a message from the address `satchel/call/<call id>`. A message
//! sent to that address is the reply. With an idempotency key, the key is in the delta of the
//! message, and the outcome is in the delta of the reply. A repeat therefore finds one or the
//! other, under any owner.

use std::sync::Arc;

use satchel_protocol::reqreply::TypedValue;

use super::schedule::Scheduled;
use super::{Partition, Stopping};
use crate::address::{Address, FunctionType, RESERVED_NAMESPACE};
use crate::durable::{Idempotency, Key, Outcome};
use crate::map::Map;
use crate::message::{IdSource, Message, MessageId, fingerprint, parse_hex};
use crate::output::{Answer, Output};
use crate::request::{Call, CallId, RequestId, Verb};
use crate::story::Step;

/// Name of the function type whose addresses stand for callers.
const CALLER_NAME: &str = "call";

/// Calls with a waiting request, or with an idempotency record.
#[derive(Default)]
pub(super) struct Calls {
    open: Map<CallId, OpenCall>,
    requests: Map<RequestId, CallId>,
}

#[derive(Default)]
struct OpenCall {
    /// Key of the record that keeps the outcome, if the call has an idempotency key.
    record: Option<RecordKey>,
    waiting: Vec<RequestId>,
}

pub(super) type RecordKey = (Address, Verb, Arc<str>);

impl Calls {
    /// Registers a call whose record is durable or about to be.
    pub(super) fn restore(&mut self, call: CallId, record: RecordKey) {
        self.open.entry(call).or_default().record = Some(record);
    }

    pub(super) fn forget(&mut self, call: CallId) {
        for request in self
            .open
            .remove(&call)
            .into_iter()
            .flat_map(|call| call.waiting)
        {
            self.requests.remove(&request);
        }
    }

    pub(super) fn abandon(&mut self, request: RequestId) {
        if let Some(call) = self.requests.remove(&request)
            && let Some(open) = self.open.get_mut(&call)
        {
            open.waiting.retain(|waiting| *waiting != request);
            if open.waiting.is_empty() && open.record.is_none() {
                self.open.remove(&call);
            }
        }
    }

    /// Removes and returns the requests that were not answered.
    pub(super) fn take_waiting(&mut self) -> Vec<RequestId> {
        let mut waiting: Vec<_> = self.requests.drain().map(|(request, _)| request).collect();
        waiting.sort_unstable();
        waiting
    }

    /// Returns whether the call of this caller is open: a request waits for its reply, or a repeat
    /// may ask for it.
    pub(super) fn knows(&self, caller: &Address) -> bool {
        call_id_of(caller).is_some_and(|call| self.open.contains_key(&call))
    }

    /// Audits that both indexes agree and that every open call has a reason.
    pub(super) fn is_well_kept(&self) -> bool {
        let waiting = self.open.iter().flat_map(|(call, open)| {
            let waiting = open.waiting.iter();
            waiting.map(move |request| (request, call))
        });
        let known = |(request, call)| self.requests.get(request) == Some(call);
        let has_reason = |open: &OpenCall| open.record.is_some() || !open.waiting.is_empty();
        waiting.clone().count() == self.requests.len()
            && waiting.clone().all(known)
            && self.open.values().all(has_reason)
    }

    /// Iterates over the open calls that have a record.
    pub(super) fn records(&self) -> impl Iterator<Item = (CallId, &RecordKey)> {
        let open = self.open.iter();
        open.filter_map(|(call, open)| Some((*call, open.record.as_ref()?)))
    }

    fn wait(&mut self, call: CallId, request: RequestId) {
        self.requests.insert(request, call);
        self.open.entry(call).or_default().waiting.push(request);
    }
}

impl Partition {
    pub(super) fn call_received(&mut self, mut call: Call) {
        let request = call.request;
        // Another partition may reply, and finds this one by the key group.
        if let Some(key_group) = self.tables.named_key_group(&call.target) {
            call.id = call.id.of_key_group(key_group);
        }
        if self.stopping != Stopping::No {
            self.answer(request, Answer::NotTaken);
            return;
        }
        if let Some(partition) = self.owner_elsewhere(&call.target) {
            self.answer(request, Answer::Elsewhere { partition });
            return;
        }
        let function = &call.target.function;
        let Some(index) = self.config.endpoints.serving(function) else {
            let function = function.clone();
            self.answer(request, Answer::UnknownFunction(function));
            return;
        };
        let bytes_max = self.config.endpoints.get(index).bundle_bytes_max;
        if call.argument.value.len() > bytes_max {
            // It would become a dead letter at once, kept until an operator handles it.
            self.answer(request, Answer::TooLarge { bytes_max });
            return;
        }
        if let Some(call) = self.defer_call(call) {
            self.process_call(call);
        }
    }

    /// Handles a call whose bucket, if it needs it, is in memory.
    pub(super) fn process_call(&mut self, call: Call) {
        let request = call.request;
        if let Some(key) = &call.idempotency_key
            && let Some(active) = self.tables.active(&call.target)
            && let Some(record) = active.record(call.verb, key)
        {
            let record = record.clone();
            self.call_repeated(&call, &record);
            return;
        }
        let function = &call.target.function;
        if call.verb == Verb::Call
            && let Some(pause) = self.tables.function_pauses.get(function)
        {
            // The caller learns the reason now, instead of waiting for its timeout.
            let reason = super::pauses::describe(function, pause);
            self.answer(request, Answer::Paused(reason));
            return;
        }
        if self.pending_bytes > self.config.pending_bytes_max || self.is_congested() {
            self.answer(request, Answer::Overloaded);
            return;
        }
        if self.has_too_many_dead_letters() {
            let bytes_max = self.config.dead_letter_bytes_max;
            self.answer(request, Answer::TooManyDeadLetters { bytes_max });
            return;
        }
        self.admit_call(call);
    }

    /// Answers a request with a known key like the first one: at once if the outcome is known,
    /// later otherwise.
    fn call_repeated(&mut self, call: &Call, record: &Idempotency) {
        if record.fingerprint != fingerprint(&call.argument) {
            self.reply_when_durable(call.request, Answer::KeyReused);
            return;
        }
        match &record.outcome {
            Some(outcome) => self.reply_when_durable(call.request, outcome.to_answer()),
            None => self.calls.wait(record.call, call.request),
        }
    }

    fn admit_call(&mut self, call: Call) {
        let source = match &call.idempotency_key {
            Some(key) => IdSource::Key {
                address: &call.target,
                verb: call.verb.as_str(),
                key,
            },
            None => IdSource::Request(&call.id.0),
        };
        let id = MessageId::derive(source, &call.argument);
        let trace = self.begin_trace(id, call.trace);
        self.tell(id, trace, || Step::Requested {
            verb: call.verb,
            call: call.id,
        });
        let caller = match call.verb {
            Verb::Call => {
                self.calls.wait(call.id, call.request);
                Some(caller_address(call.id))
            }
            Verb::Send => {
                self.reply_when_durable(call.request, Answer::Accepted);
                None
            }
        };
        if let Some(key) = call.idempotency_key {
            let record = Idempotency {
                fingerprint: fingerprint(&call.argument),
                call: call.id,
                outcome: None,
                expires_at_ms: None,
            };
            let record_key = (call.target.clone(), call.verb, key.clone());
            let active = self.tables.active_or_new(&call.target);
            active.insert_record(call.verb, key, record);
            self.calls.restore(call.id, record_key.clone());
            match call.verb {
                Verb::Call => self.mark_record(record_key),
                Verb::Send => self.set_outcome(record_key, Outcome::Accepted),
            }
        }
        let message = Message {
            id,
            caller,
            argument: call.argument,
            correction: None,
            trace,
            headers: None,
        };
        self.counts.messages += 1;
        self.graph.requested(&call.target.function);
        self.enqueue(&call.target, message);
    }

    /// Handles a message that a function sent to the address of a caller.
    pub(super) fn reply_arrived(&mut self, caller: &Address, reply: TypedValue) {
        self.resolve(caller, &Outcome::Replied(reply));
    }

    /// Resolves the call of a message that became a dead letter.
    pub(super) fn call_failed(&mut self, caller: &Address, dead_letter: MessageId, reason: &str) {
        if caller.function.namespace() == RESERVED_NAMESPACE {
            let reason = reason.to_owned();
            self.resolve(
                caller,
                &Outcome::Failed {
                    dead_letter,
                    reason,
                },
            );
        }
    }

    /// Reopens the outcome of a call whose dead letter is retried.
    pub(super) fn call_reopened(&mut self, caller: &Address) {
        let Some(call) = call_id_of(caller) else {
            return;
        };
        let record = self
            .calls
            .open
            .get(&call)
            .and_then(|open| open.record.clone());
        let Some((address, verb, key)) = record else {
            return;
        };
        if let Some(active) = self.tables.active_mut(&address)
            && active.set_outcome((verb, &key), None, None)
        {
            self.mark_record((address, verb, key));
        }
    }

    /// Starts the expiry of a call's key when its message was processed without a reply. A reply
    /// may still come, and a function that never replies must not keep keys forever.
    pub(super) fn call_processed(&mut self, caller: &Address) {
        let open = call_id_of(caller).and_then(|call| self.calls.open.get(&call));
        let Some((address, verb, key)) = open.and_then(|open| open.record.clone()) else {
            return;
        };
        let active = self.tables.active(&address);
        let record = active.and_then(|active| active.record(verb, &key));
        if record.is_some_and(|record| record.outcome.is_none()) {
            self.set_outcome_and_expiry((address, verb, key), None);
        }
    }

    /// Returns whether an outcome of this caller's call would reach a client: a request waits for
    /// it, or a repeat under its idempotency key may ask for it, and it has none yet.
    pub(super) fn awaits_outcome(&self, caller: &Address) -> bool {
        let open = call_id_of(caller).and_then(|call| self.calls.open.get(&call));
        open.is_some_and(|open| {
            let record = open.record.as_ref();
            record.is_none_or(|record| !self.has_outcome(record))
        })
    }

    /// Returns whether a request waits for the outcome of this call.
    pub(super) fn is_waited_for(&self, call: CallId) -> bool {
        let open = self.calls.open.get(&call);
        open.is_some_and(|open| !open.waiting.is_empty())
    }

    /// Sets the outcome of a call, and answers the waiting requests once it is durable. Only the
    /// first outcome counts.
    pub(super) fn resolve(&mut self, caller: &Address, outcome: &Outcome) {
        let open =
            call_id_of(caller).and_then(|call| Some((call, self.calls.open.get_mut(&call)?)));
        let Some((call, open)) = open else {
            self.counts.stale_replies += 1;
            return;
        };
        let waiting = std::mem::take(&mut open.waiting);
        match open.record.clone() {
            None => {
                self.calls.open.remove(&call);
            }
            Some(record) if self.has_outcome(&record) => {
                self.counts.stale_replies += 1;
                return;
            }
            Some(record) => self.set_outcome(record, outcome.clone()),
        }
        if !waiting.is_empty() {
            // An outcome may tell a state without changing it. Only a delta that begins now shows
            // that no other owner has changed that state meanwhile.
            self.commits.mark_changed(Key::Counter, self.now_ms);
        }
        for request in waiting {
            self.calls.requests.remove(&request);
            self.reply_when_durable(request, outcome.to_answer());
        }
    }

    fn has_outcome(&self, (address, verb, key): &RecordKey) -> bool {
        let active = self.tables.active(address);
        let record = active.and_then(|active| active.record(*verb, key));
        record.is_none_or(|record| record.outcome.is_some())
    }

    fn set_outcome(&mut self, record: RecordKey, outcome: Outcome) {
        self.set_outcome_and_expiry(record, Some(outcome));
    }

    /// Sets the outcome of a record, or leaves it open, and lets the record expire after the
    /// idempotency TTL.
    fn set_outcome_and_expiry(
        &mut self,
        (address, verb, key): RecordKey,
        outcome: Option<Outcome>,
    ) {
        let expires_at_ms = self.now_ms + self.config.idempotency_ttl_ms;
        let active = self.tables.active_mut(&address);
        let known = active
            .is_some_and(|active| active.set_outcome((verb, &key), outcome, Some(expires_at_ms)));
        if known {
            let due = Scheduled::Idempotency {
                address: address.clone(),
                verb,
                key: key.clone(),
            };
            self.schedule.add(expires_at_ms, due);
            self.mark_record((address, verb, key));
        }
    }

    fn mark_record(&mut self, (address, verb, key): RecordKey) {
        self.mark_changed(Key::Idempotency { address, verb, key });
    }

    /// Answers at once, because the answer depends on nothing that is not durable yet.
    pub(super) fn answer(&mut self, request: RequestId, answer: Answer) {
        self.outputs.push_back(Output::Reply { request, answer });
    }
}

impl Outcome {
    fn to_answer(&self) -> Answer {
        match self.clone() {
            Self::Accepted => Answer::Accepted,
            Self::Replied(value) => Answer::Replied(value),
            Self::Failed {
                dead_letter,
                reason,
            } => Answer::Failed {
                dead_letter,
                reason,
            },
            Self::Rejected { code, message } => Answer::Rejected { code, message },
        }
    }
}

/// The address by which a function knows a caller outside.
fn caller_address(call: CallId) -> Address {
    Address::new(
        FunctionType::new(RESERVED_NAMESPACE, CALLER_NAME),
        MessageId(call.0).to_string(),
    )
}

/// Returns whether an address stands for a caller outside.
pub(super) fn is_caller(address: &Address) -> bool {
    address.function.namespace() == RESERVED_NAMESPACE && address.function.name() == CALLER_NAME
}

fn call_id_of(caller: &Address) -> Option<CallId> {
    let id = is_caller(caller).then(|| parse_hex(&caller.id))?;
    id.map(CallId)
}
