//! Work deferred until absent buckets are loaded: requests that need one bucket, and work that
//! needs every bucket with pending facts.
//!
//! A reply to a caller needs the record of its request, which lies in a bucket that the caller's
//! address does not name. As long as such a bucket may still be absent, the answer that holds the
//! reply is deferred, and its batch stays in flight.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use satchel_protocol::reqreply::FromFunction;
use satchel_protocol::reqreply::from_function::{InvocationResponse, Response};

use super::{Partition, Stopping};
use crate::address::{Address, FunctionType, RESERVED_NAMESPACE};
use crate::input::Administration;
use crate::invocation::AttemptId;
use crate::map::Map;
use crate::output::{Answer, TimerView};
use crate::request::{Call, RequestId};

/// Deferred work.
#[derive(Default)]
pub(super) struct Deferred {
    requests: BTreeMap<u16, VecDeque<DeferredRequest>>,
    /// Bucket that each deferred call waits for.
    calls: Map<RequestId, u16>,
    /// Answers with replies to callers that are unknown, at least until all pending buckets are
    /// loaded.
    answers: Vec<(AttemptId, FromFunction)>,
    /// Timers with replies of that kind.
    timers: Vec<(Address, u64)>,
    /// Queries and corrections that concern all dead letters.
    administered: Vec<(RequestId, Administration)>,
    listings: VecDeque<Listing>,
    /// Size of the deferred administrator requests, in bytes.
    administered_bytes: usize,
}

enum DeferredRequest {
    Call(Call),
    Administered(RequestId, Administration),
}

/// A list of timers that is built by visiting one bucket after the other.
struct Listing {
    request: RequestId,
    function: Option<Arc<str>>,
    limit: usize,
    /// Buckets still to visit, with the earliest possible due time of a timer in each; latest
    /// first.
    unvisited: Vec<(u64, u16)>,
    /// Timers found in visited buckets, by due time and number.
    found: BTreeMap<(u64, u64), (u16, TimerView)>,
}

/// Size of a deferred request besides its own bytes.
const REQUEST_BYTES: usize = 512;

impl DeferredRequest {
    fn id(&self) -> RequestId {
        match self {
            Self::Call(call) => call.request,
            Self::Administered(request, _) => *request,
        }
    }

    fn answer_when_stopping(&self) -> Answer {
        match self {
            Self::Call(_) => Answer::NotTaken,
            Self::Administered(..) => Answer::Stopping,
        }
    }

    fn bytes(&self) -> usize {
        let content = match self {
            Self::Call(call) => {
                let key = call.idempotency_key.as_ref();
                call.argument.value.len() + call.target.id.len() + key.map_or(0, |key| key.len())
            }
            Self::Administered(_, Administration::SetState { value, address, .. }) => {
                value.value.len() + address.id.len()
            }
            Self::Administered(..) => 0,
        };
        content + REQUEST_BYTES
    }
}

impl Deferred {
    fn count(&mut self, request: &DeferredRequest) {
        if let DeferredRequest::Administered(..) = request {
            self.administered_bytes += request.bytes();
        }
    }

    fn uncount(&mut self, request: &DeferredRequest) {
        if let DeferredRequest::Administered(..) = request {
            self.administered_bytes -= request.bytes();
        }
    }

    /// Size of the deferred requests, counted from the content.
    pub(super) fn bytes(&self) -> usize {
        let requests = self.requests.values().flatten();
        requests.map(DeferredRequest::bytes).sum::<usize>()
            + self.administered.len() * REQUEST_BYTES
    }
}

impl Partition {
    pub(super) fn has_deferred(&self, bucket: u16) -> bool {
        self.deferred.requests.contains_key(&bucket)
    }

    /// Defers a call whose bucket is absent. Returns calls that need not wait: those without a key,
    /// or of a bucket in memory.
    pub(super) fn defer_call(&mut self, call: Call) -> Option<Call> {
        let bucket = self.tables.absent_bucket_of(&call.target);
        let Some(bucket) = bucket.filter(|_| call.idempotency_key.is_some()) else {
            return Some(call);
        };
        if self.pending_bytes > self.config.pending_bytes_max || self.is_congested() {
            self.answer(call.request, Answer::Overloaded);
            return None;
        }
        self.deferred.calls.insert(call.request, bucket);
        self.defer(bucket, DeferredRequest::Call(call));
        None
    }

    /// Defers an administrator request that needs absent buckets. Returns it if it need not wait.
    pub(super) fn defer_administration(
        &mut self,
        request: RequestId,
        administration: Administration,
    ) -> Option<Administration> {
        let bucket = match &administration {
            Administration::Inspect(address)
            | Administration::ShowMailbox { address, .. }
            | Administration::Resume(address)
            | Administration::Skip(address)
            | Administration::SetState { address, .. }
            | Administration::DeleteState { address, .. } => self.tables.absent_bucket_of(address),
            Administration::ListDeadLetters { .. }
            | Administration::RetryDeadLetter(_)
            | Administration::DropDeadLetter(_)
            | Administration::ChangeDeadLetters { .. } => {
                // Until all of them are loaded, the index of the dead letters is not complete.
                if self.loading.has_pending_buckets() {
                    if self.admits(request) {
                        self.pending_bytes += REQUEST_BYTES;
                        self.deferred.administered_bytes += REQUEST_BYTES;
                        self.deferred.administered.push((request, administration));
                    }
                    return None;
                }
                self.absent_bucket_of_changed_letter(&administration)
            }
            Administration::ListAddresses { bucket, .. }
            | Administration::DropState { bucket, .. } => {
                Some(*bucket).filter(|bucket| self.is_absent(*bucket))
            }
            Administration::PauseIngress { .. }
            | Administration::ResumeIngress(_)
            | Administration::PauseFunction { .. }
            | Administration::ResumeFunction(_)
            | Administration::ListTimers { .. } => None,
        };
        let Some(bucket) = bucket else {
            return Some(administration);
        };
        if self.admits(request) {
            self.defer(
                bucket,
                DeferredRequest::Administered(request, administration),
            );
        }
        None
    }

    /// Returns the bucket of the next dead letter that an administrator changes, if it is not in
    /// memory.
    fn absent_bucket_of_changed_letter(&self, administration: &Administration) -> Option<u16> {
        let number = match administration {
            Administration::RetryDeadLetter(id) | Administration::DropDeadLetter(id) => {
                self.tables.dead_letters.number_of(*id)?
            }
            Administration::ChangeDeadLetters { filter, cursor, .. } => {
                self.next_dead_letter_to_change(filter, *cursor)?
            }
            _ => return None,
        };
        self.absent_bucket_of_letter(number)
    }

    /// Returns whether one more administrator request may be deferred, and answers it otherwise.
    /// Pending messages do not block administrators, only other deferred requests of administrators
    /// do.
    pub(super) fn admits(&mut self, request: RequestId) -> bool {
        let answer = if self.stopping != Stopping::No {
            Answer::Stopping
        } else if self.deferred.administered_bytes > self.config.pending_bytes_max {
            Answer::Overloaded
        } else {
            return true;
        };
        self.answer(request, answer);
        false
    }

    fn defer(&mut self, bucket: u16, request: DeferredRequest) {
        self.pending_bytes += request.bytes();
        self.deferred.count(&request);
        self.deferred
            .requests
            .entry(bucket)
            .or_default()
            .push_back(request);
        self.request_load(bucket);
    }

    /// Handles the work deferred for a bucket that was loaded, in order of arrival.
    pub(super) fn run_deferred(&mut self, bucket: u16) {
        let waiting = self.deferred.requests.remove(&bucket);
        for request in waiting.into_iter().flatten() {
            self.subtract_pending(request.bytes());
            self.deferred.uncount(&request);
            self.deferred.calls.remove(&request.id());
            match request {
                DeferredRequest::Call(call) => self.process_call(call),
                DeferredRequest::Administered(request, administration) => {
                    self.administered(request, administration);
                }
            }
        }
        if self.loading.has_pending_buckets() {
            return;
        }
        for (owner, number) in std::mem::take(&mut self.deferred.timers) {
            self.fire(&owner, number);
        }
        for (attempt, answer) in std::mem::take(&mut self.deferred.answers) {
            self.invocation_completed(attempt, answer);
        }
        for (request, administration) in std::mem::take(&mut self.deferred.administered) {
            self.subtract_pending(REQUEST_BYTES);
            self.deferred.administered_bytes -= REQUEST_BYTES;
            self.administered(request, administration);
        }
    }

    /// Drops a deferred call whose client disconnected. Nothing of it was accepted.
    pub(super) fn abandon_deferred(&mut self, request: RequestId) {
        let Some(bucket) = self.deferred.calls.remove(&request) else {
            return;
        };
        if let Some(waiting) = self.deferred.requests.get_mut(&bucket)
            && let Some(index) = waiting.iter().position(|other| other.id() == request)
            && let Some(gone) = waiting.remove(index)
        {
            self.subtract_pending(gone.bytes());
        }
    }

    /// Answers the deferred requests when the partition stops. Clients may ask the next owner.
    pub(super) fn reject_deferred(&mut self) {
        let waiting = std::mem::take(&mut self.deferred.requests);
        for request in waiting.into_values().flatten() {
            self.subtract_pending(request.bytes());
            self.answer(request.id(), request.answer_when_stopping());
        }
        self.deferred.calls.clear();
        for (request, _) in std::mem::take(&mut self.deferred.administered) {
            self.subtract_pending(REQUEST_BYTES);
            self.answer(request, Answer::Stopping);
        }
        for listing in std::mem::take(&mut self.deferred.listings) {
            self.answer(listing.request, Answer::Stopping);
        }
        self.reject_letter_lists();
    }

    /// Returns whether an answer holds a reply to a caller whose record may be in a bucket still to
    /// be loaded.
    pub(super) fn awaits_pending(&self, answer: &FromFunction) -> bool {
        if !self.loading.has_pending_buckets() {
            return false;
        }
        let Some(Response::InvocationResult(InvocationResponse {
            outgoing_messages, ..
        })) = &answer.response
        else {
            return false;
        };
        let mut targets = outgoing_messages
            .iter()
            .filter_map(|message| message.target.as_ref());
        targets.any(|target| {
            target.namespace == RESERVED_NAMESPACE
                && self.awaits_pending_call(&Address::from(target))
        })
    }

    /// Returns whether the target is a caller whose record may be in a bucket still to be loaded.
    pub(super) fn awaits_pending_call(&self, target: &Address) -> bool {
        self.loading.has_pending_buckets()
            && target.function.namespace() == RESERVED_NAMESPACE
            && !self.calls.knows(target)
    }

    pub(super) fn defer_answer(&mut self, attempt: AttemptId, answer: FromFunction) {
        self.deferred.answers.push((attempt, answer));
    }

    pub(super) fn defer_timer(&mut self, owner: Address, number: u64) {
        self.deferred.timers.push((owner, number));
    }

    /// Starts a list of timers. Absent buckets that may hold due timers are loaded one after the
    /// other.
    pub(super) fn start_listing(
        &mut self,
        request: RequestId,
        function: Option<Arc<str>>,
        limit: usize,
    ) {
        let mut unvisited: Vec<(u64, u16)> = self
            .tables
            .bucket_slots()
            .filter_map(|(bucket, slot)| Some((slot.earliest_timer_ms()?, bucket)))
            .collect();
        if !unvisited.is_empty() && !self.admits(request) {
            return;
        }
        unvisited.sort_unstable_by(|one, other| other.cmp(one));
        self.deferred.listings.push_back(Listing {
            request,
            function,
            limit,
            unvisited,
            found: BTreeMap::new(),
        });
        self.advance_listings();
    }

    /// Adds the timers of a loaded bucket to every list in progress.
    pub(super) fn list_bucket_timers(&mut self, bucket: u16) {
        if self.deferred.listings.is_empty() {
            return;
        }
        let addresses = self.tables.bucket_slot(bucket).active_addresses();
        let mut listings = std::mem::take(&mut self.deferred.listings);
        for listing in &mut listings {
            listing
                .unvisited
                .retain(|(_, unvisited)| *unvisited != bucket);
            let mut owners = addresses.clone();
            owners.retain(|owner| listing.wants(&owner.function));
            for owner in &owners {
                let active = self.tables.active(owner);
                for (number, timer) in active.into_iter().flat_map(|active| active.timers()) {
                    let view = (bucket, view(owner, timer));
                    listing.found.insert((timer.due_ms, number), view);
                }
            }
            while listing.found.len() > listing.limit {
                listing.found.pop_last();
            }
        }
        self.deferred.listings = listings;
        self.advance_listings();
    }

    /// Answers the complete lists, and requests the next bucket for the others.
    fn advance_listings(&mut self) {
        for mut listing in std::mem::take(&mut self.deferred.listings) {
            let mut next = None;
            while let Some((due_ms, bucket)) = listing.unvisited.last().copied() {
                // The timers of a bucket that was loaded since are in the schedule.
                if self.is_absent(bucket) && !listing.is_full_before(due_ms) {
                    next = Some(bucket);
                    break;
                }
                listing.unvisited.pop();
            }
            match next {
                Some(bucket) => {
                    self.request_load(bucket);
                    self.deferred.listings.push_back(listing);
                }
                None => {
                    let timers = self.listed(&listing);
                    self.reply_when_durable(listing.request, Answer::Timers(timers));
                }
            }
        }
    }

    fn listed(&self, listing: &Listing) -> Vec<TimerView> {
        let mut timers: BTreeMap<(u64, u64), TimerView> = listing
            .found
            .iter()
            .filter(|(_, (bucket, _))| self.is_absent(*bucket))
            .map(|(at, (_, view))| (*at, view.clone()))
            .collect();
        let present = self
            .schedule
            .iter_timers()
            .filter(|(_, _, owner)| listing.wants(&owner.function));
        for (due_ms, number, owner) in present.take(listing.limit) {
            let active = self.tables.active(owner);
            if let Some(timer) = active.and_then(|active| active.timer(number)) {
                timers.insert((due_ms, number), view(owner, timer));
            }
        }
        timers.into_values().take(listing.limit).collect()
    }
}

impl Listing {
    fn wants(&self, function: &FunctionType) -> bool {
        let wanted = self.function.as_deref();
        wanted.is_none_or(|wanted| function.is_called(wanted))
    }

    /// Returns whether no timer due at `due_ms` or later can still enter the list.
    fn is_full_before(&self, due_ms: u64) -> bool {
        let last = self.found.last_key_value().map(|((at_ms, _), _)| *at_ms);
        self.found.len() >= self.limit && last.is_some_and(|last| last < due_ms)
    }
}

fn view(owner: &Address, timer: &crate::durable::Timer) -> TimerView {
    TimerView {
        owner: owner.clone(),
        due_ms: timer.due_ms,
        target: timer.target.clone(),
        typename: timer.message.argument.typename.clone(),
        token: timer.token.clone(),
    }
}
