//! What waits for buckets that are not in memory: requests that need one bucket, and what needs all in which something is pending.
//!
//! A reply to a caller finds the request it answers in a bucket that nothing in its address names. As long as such a bucket may still have
//! to be loaded, the answer that holds the reply waits, its batch in flight.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use satchel_protocol::reqreply::FromFunction;
use satchel_protocol::reqreply::from_function::{InvocationResponse, Response};

use super::{Partition, Stopping};
use crate::address::{Address, FunctionType, RESERVED_NAMESPACE};
use crate::input::{Administration, Call, RequestId};
use crate::invocation::AttemptId;
use crate::map::Map;
use crate::output::{Answer, TimerView};

/// What waits.
#[derive(Default)]
pub(super) struct Parked {
    requests: BTreeMap<u16, VecDeque<Request>>,
    /// The bucket for which a call waits.
    calls: Map<RequestId, u16>,
    /// Answers with replies to callers that are not known, or not known yet.
    answers: Vec<(AttemptId, FromFunction)>,
    /// Timers with such replies.
    timers: Vec<(Address, u64)>,
    /// What is asked of the dead letters as a whole.
    administered: Vec<(RequestId, Administration)>,
    listings: VecDeque<Listing>,
    /// What administrators asked for and waits, in bytes.
    administered_bytes: usize,
}

enum Request {
    Call(Call),
    Administered(RequestId, Administration),
}

/// A list of timers for which one bucket after the other is visited.
struct Listing {
    request: RequestId,
    function: Option<Arc<str>>,
    limit: usize,
    /// Buckets that are still to be visited, with when their first timer may be due, the latest first.
    left: Vec<(u64, u16)>,
    /// What was found in visited buckets, by due time and number.
    found: BTreeMap<(u64, u64), (u16, TimerView)>,
}

/// What a request that waits counts for besides the bytes that it brings.
const REQUEST_BYTES: usize = 512;

impl Request {
    fn id(&self) -> RequestId {
        match self {
            Self::Call(call) => call.request,
            Self::Administered(request, _) => *request,
        }
    }

    fn bytes(&self) -> usize {
        let value = match self {
            Self::Call(call) => call.argument.value.len(),
            Self::Administered(_, Administration::SetState { value, .. }) => value.value.len(),
            Self::Administered(..) => 0,
        };
        value + REQUEST_BYTES
    }
}

impl Parked {
    fn count(&mut self, request: &Request) {
        if let Request::Administered(..) = request {
            self.administered_bytes += request.bytes();
        }
    }

    fn uncount(&mut self, request: &Request) {
        if let Request::Administered(..) = request {
            self.administered_bytes -= request.bytes();
        }
    }

    /// How many bytes wait, counted anew.
    pub(super) fn bytes(&self) -> usize {
        let requests = self.requests.values().flatten();
        requests.map(Request::bytes).sum::<usize>() + self.administered.len() * REQUEST_BYTES
    }
}

impl Partition {
    pub(super) fn is_anything_parked(&self, bucket: u16) -> bool {
        self.parked.requests.contains_key(&bucket)
    }

    /// Gives back a call that need not wait: one without a key, or of a bucket that is in memory.
    pub(super) fn park_call(&mut self, call: Call) -> Option<Call> {
        let bucket = self.tables.absent_bucket_of(&call.target);
        let Some(bucket) = bucket.filter(|_| call.idempotency_key.is_some()) else {
            return Some(call);
        };
        if self.pending_bytes > self.config.pending_bytes_max {
            self.answer(call.request, Answer::Overloaded);
            return None;
        }
        self.parked.calls.insert(call.request, bucket);
        self.park(bucket, Request::Call(call));
        None
    }

    /// Gives back what need not wait.
    pub(super) fn park_administration(
        &mut self,
        request: RequestId,
        administration: Administration,
    ) -> Option<Administration> {
        let bucket = match &administration {
            Administration::Inspect(address)
            | Administration::Resume(address)
            | Administration::SetState { address, .. }
            | Administration::DeleteState { address, .. } => self.tables.absent_bucket_of(address),
            Administration::ListDeadLetters { .. }
            | Administration::RetryDeadLetter(_)
            | Administration::DropDeadLetter(_) => {
                if !self.loading.is_something_pending() {
                    return Some(administration);
                }
                if self.admits(request) {
                    self.pending_bytes += REQUEST_BYTES;
                    self.parked.administered_bytes += REQUEST_BYTES;
                    self.parked.administered.push((request, administration));
                }
                return None;
            }
            Administration::ListTimers { .. } => None,
        };
        let Some(bucket) = bucket else {
            return Some(administration);
        };
        if self.admits(request) {
            self.park(bucket, Request::Administered(request, administration));
        }
        None
    }

    /// Whether one more request of an administrator may wait; it is answered if not. Messages that wait do not keep him out, only others
    /// like his do.
    fn admits(&mut self, request: RequestId) -> bool {
        let answer = if self.stopping != Stopping::No {
            Answer::Stopping
        } else if self.parked.administered_bytes > self.config.pending_bytes_max {
            Answer::Overloaded
        } else {
            return true;
        };
        self.answer(request, answer);
        false
    }

    fn park(&mut self, bucket: u16, request: Request) {
        self.pending_bytes += request.bytes();
        self.parked.count(&request);
        self.parked
            .requests
            .entry(bucket)
            .or_default()
            .push_back(request);
        self.want_load(bucket);
    }

    /// A bucket is in memory: what waited for it goes on, in the order in which it came.
    pub(super) fn unpark(&mut self, bucket: u16) {
        let waiting = self.parked.requests.remove(&bucket);
        for request in waiting.into_iter().flatten() {
            self.no_more_pending(request.bytes());
            self.parked.uncount(&request);
            self.parked.calls.remove(&request.id());
            match request {
                Request::Call(call) => self.call_taken(call),
                Request::Administered(request, administration) => {
                    self.administered(request, administration);
                }
            }
        }
        if self.loading.is_something_pending() {
            return;
        }
        for (owner, number) in std::mem::take(&mut self.parked.timers) {
            self.fire(&owner, number);
        }
        for (attempt, answer) in std::mem::take(&mut self.parked.answers) {
            self.invocation_completed(attempt, answer);
        }
        for (request, administration) in std::mem::take(&mut self.parked.administered) {
            self.no_more_pending(REQUEST_BYTES);
            self.parked.administered_bytes -= REQUEST_BYTES;
            self.administered(request, administration);
        }
    }

    /// The one who waited for this call's answer is gone, and nothing of it was taken yet.
    pub(super) fn abandon_parked(&mut self, request: RequestId) {
        let Some(bucket) = self.parked.calls.remove(&request) else {
            return;
        };
        if let Some(waiting) = self.parked.requests.get_mut(&bucket)
            && let Some(index) = waiting.iter().position(|other| other.id() == request)
            && let Some(gone) = waiting.remove(index)
        {
            self.no_more_pending(gone.bytes());
        }
    }

    /// The process stops: whoever waits may ask the next owner.
    pub(super) fn refuse_parked(&mut self) {
        let waiting = std::mem::take(&mut self.parked.requests);
        for request in waiting.into_values().flatten() {
            self.no_more_pending(request.bytes());
            self.answer(request.id(), Answer::Stopping);
        }
        self.parked.calls.clear();
        for (request, _) in std::mem::take(&mut self.parked.administered) {
            self.no_more_pending(REQUEST_BYTES);
            self.answer(request, Answer::Stopping);
        }
        for listing in std::mem::take(&mut self.parked.listings) {
            self.answer(listing.request, Answer::Stopping);
        }
    }

    /// Whether an answer holds a reply to a caller whose request may be in a bucket that is still to be loaded.
    pub(super) fn awaits_pending(&self, answer: &FromFunction) -> bool {
        if !self.loading.is_something_pending() {
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

    /// Whether this is a caller whose request may be in a bucket that is still to be loaded.
    pub(super) fn awaits_pending_call(&self, target: &Address) -> bool {
        self.loading.is_something_pending()
            && target.function.namespace() == RESERVED_NAMESPACE
            && !self.calls.knows(target)
    }

    pub(super) fn park_answer(&mut self, attempt: AttemptId, answer: FromFunction) {
        self.parked.answers.push((attempt, answer));
    }

    pub(super) fn park_timer(&mut self, owner: Address, number: u64) {
        self.parked.timers.push((owner, number));
    }

    /// Lists timers: those of absent buckets in which some may be due are found by loading one bucket after the other.
    pub(super) fn begin_listing(
        &mut self,
        request: RequestId,
        function: Option<Arc<str>>,
        limit: usize,
    ) {
        let mut left: Vec<(u64, u16)> = self
            .tables
            .places()
            .filter_map(|(bucket, place)| Some((place.earliest_timer_ms()?, bucket)))
            .collect();
        if !left.is_empty() && !self.admits(request) {
            return;
        }
        left.sort_unstable_by(|one, other| other.cmp(one));
        self.parked.listings.push_back(Listing {
            request,
            function,
            limit,
            left,
            found: BTreeMap::new(),
        });
        self.go_on_listing();
    }

    /// A bucket came into memory: what it has is part of every list that is being made.
    pub(super) fn list_bucket(&mut self, bucket: u16) {
        if self.parked.listings.is_empty() {
            return;
        }
        let addresses = self.tables.place(bucket).lively();
        let mut listings = std::mem::take(&mut self.parked.listings);
        for listing in &mut listings {
            listing.left.retain(|(_, left)| *left != bucket);
            let mut owners = addresses.clone();
            owners.retain(|owner| listing.wants(&owner.function));
            for owner in &owners {
                let live = self.tables.live(owner);
                for (number, timer) in live.into_iter().flat_map(|live| live.timers()) {
                    let view = (bucket, view(owner, timer));
                    listing.found.insert((timer.due_ms, number), view);
                }
            }
            while listing.found.len() > listing.limit {
                listing.found.pop_last();
            }
        }
        self.parked.listings = listings;
        self.go_on_listing();
    }

    /// Answers the lists that are whole, and asks for the next bucket of the others.
    fn go_on_listing(&mut self) {
        for mut listing in std::mem::take(&mut self.parked.listings) {
            let mut next = None;
            while let Some((due_ms, bucket)) = listing.left.last().copied() {
                // One that came into memory since is found on the agenda.
                if self.is_absent(bucket) && !listing.is_full_before(due_ms) {
                    next = Some(bucket);
                    break;
                }
                listing.left.pop();
            }
            match next {
                Some(bucket) => {
                    self.want_load(bucket);
                    self.parked.listings.push_back(listing);
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
            .agenda
            .iter_timers()
            .filter(|(_, _, owner)| listing.wants(&owner.function));
        for (due_ms, number, owner) in present.take(listing.limit) {
            let live = self.tables.live(owner);
            if let Some(timer) = live.and_then(|live| live.timer(number)) {
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

    /// Whether nothing that is due at `due_ms` or later can be on the list any more.
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
