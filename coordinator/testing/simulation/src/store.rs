//! A simulated object store, with a table for logs. Requests to it are lost, take effect late or
//! twice, and their answers are lost.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::{BoxFuture, ready};
use satchel_log::{Clock, Created, Now, ObjectMeta, ObjectStore, StoreError};
use satchel_log_simulation::Random;

use crate::timeline::Slot;

pub(crate) use self::table::in_table;

use self::table::item_key;

mod table;

/// Operation of a request.
#[derive(Debug, Clone)]
pub(crate) enum StoreOp {
    Create(String, Bytes),
    Get(String),
    GetRange(String, Range<u64>),
    List(String, Option<String>, usize),
    /// First and last key, and the maximum number of items.
    Query(String, String, usize),
    Delete(Vec<String>),
    DeleteExactly(String, Bytes),
}

/// Answer to a request.
#[derive(Debug, Clone)]
pub(crate) enum StoreReply {
    Created(Created),
    Object(Option<Bytes>),
    Listed(Vec<ObjectMeta>),
    /// Keys and contents, and true if more follow.
    Items(Vec<(String, Bytes)>, bool),
    Deleted,
}

/// Request in flight.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) op: StoreOp,
    pub(crate) answer: Slot<Result<StoreReply, StoreError>>,
}

impl Request {
    fn key(&self) -> &str {
        match &self.op {
            StoreOp::Create(key, _)
            | StoreOp::Get(key)
            | StoreOp::GetRange(key, _)
            | StoreOp::List(key, ..)
            | StoreOp::Query(key, ..)
            | StoreOp::DeleteExactly(key, _) => key,
            StoreOp::Delete(keys) => keys.first().map_or("", String::as_str),
        }
    }

    pub(crate) fn lost(&self) -> StoreError {
        StoreError::Unavailable {
            key: self.key().to_owned(),
            reason: "simulated".to_owned(),
        }
    }

    pub(crate) fn conflict(&self) -> StoreError {
        StoreError::Conflict {
            key: self.key().to_owned(),
            reason: "simulated".to_owned(),
        }
    }
}

/// Requests and sleeps of a process that the world has not scheduled yet.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) requests: Vec<Request>,
    pub(crate) sleeps: Vec<(u64, Slot<()>)>,
}

/// Store of a process, as the process sees it. The world decides when requests are answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mailbox {
    outgoing: Arc<Mutex<Outgoing>>,
    /// True if no savepoints are visible, for a mutant.
    pub(crate) blind: bool,
}

impl Mailbox {
    pub(crate) fn take(&self) -> Outgoing {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, op: StoreOp) -> Result<StoreReply, StoreError> {
        let answer = Slot::new();
        self.lock().requests.push(Request {
            op,
            answer: answer.clone(),
        });
        answer.await
    }
}

impl ObjectStore for Mailbox {
    fn create<'a>(
        &'a self,
        key: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        Box::pin(async move {
            match self.send(StoreOp::Create(key.to_owned(), bytes)).await? {
                StoreReply::Created(created) => Ok(created),
                reply => unreachable!("a create was answered {reply:?}"),
            }
        })
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(async move {
            match self.send(StoreOp::Get(key.to_owned())).await? {
                StoreReply::Object(object) => Ok(object),
                reply => unreachable!("a get was answered {reply:?}"),
            }
        })
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(async move {
            match self.send(StoreOp::GetRange(key.to_owned(), range)).await? {
                StoreReply::Object(object) => Ok(object),
                reply => unreachable!("a get was answered {reply:?}"),
            }
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectMeta>, StoreError>> {
        Box::pin(async move {
            if self.blind && prefix.ends_with("/savepoints/") {
                return Ok(Vec::new());
            }
            let after = start_after.map(str::to_owned);
            match self
                .send(StoreOp::List(prefix.to_owned(), after, max))
                .await?
            {
                StoreReply::Listed(listed) => Ok(listed),
                reply => unreachable!("a list was answered {reply:?}"),
            }
        })
    }

    fn delete<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            match self.send(StoreOp::Delete(keys.to_vec())).await? {
                StoreReply::Deleted => Ok(()),
                reply => unreachable!("a delete was answered {reply:?}"),
            }
        })
    }

    fn delete_exactly<'a>(
        &'a self,
        key: &'a str,
        bytes: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let op = StoreOp::DeleteExactly(key.to_owned(), bytes.clone());
            match self.send(op).await? {
                StoreReply::Deleted => Ok(()),
                reply => unreachable!("a delete was answered {reply:?}"),
            }
        })
    }
}

/// Content of the store.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    pub(crate) objects: BTreeMap<String, Bytes>,
    /// Number of objects that were deleted.
    pub(crate) collected: u64,
    /// True if a create replaces an existing object, for a mutant.
    pub(crate) unconditional: bool,
}

impl Objects {
    /// Returns the number of ownership periods that were claimed.
    pub(crate) fn claimed_epochs(&self, root: &str) -> u64 {
        let count = |prefix: String| {
            let keys = self.objects.range(prefix.clone()..).map(|(key, _)| key);
            keys.take_while(|key| key.starts_with(&prefix)).count() as u64
        };
        let items = item_key(&format!("{root}#0"), "epochs/");
        count(format!("{root}/partitions/0/epochs/")) + count(items)
    }

    pub(crate) fn perform(&mut self, op: &StoreOp) -> StoreReply {
        match op {
            StoreOp::Create(key, bytes) => {
                if self.objects.contains_key(key) && !self.unconditional {
                    return StoreReply::Created(Created::Exists);
                }
                self.objects.insert(key.clone(), bytes.clone());
                StoreReply::Created(Created::Stored)
            }
            StoreOp::Get(key) => StoreReply::Object(self.objects.get(key).cloned()),
            StoreOp::GetRange(key, range) => {
                StoreReply::Object(self.objects.get(key).map(|object| {
                    let end = range.end.min(object.len() as u64) as usize;
                    object.slice((range.start as usize).min(end)..end)
                }))
            }
            StoreOp::List(prefix, after, max) => {
                let from = after.clone().unwrap_or_else(|| prefix.clone());
                let listed = self
                    .objects
                    .range(from..)
                    .filter(|(key, _)| after.as_ref() != Some(*key))
                    .take_while(|(key, _)| key.starts_with(prefix.as_str()))
                    .take(*max)
                    .map(|(key, object)| ObjectMeta {
                        key: key.clone(),
                        size: object.len() as u64,
                    });
                StoreReply::Listed(listed.collect())
            }
            StoreOp::Query(first, last, max) => {
                let mut range = self.objects.range(first.clone()..=last.clone());
                let items = range.by_ref().take(*max);
                let items = items.map(|(key, content)| (key.clone(), content.clone()));
                StoreReply::Items(items.collect(), range.next().is_some())
            }
            StoreOp::Delete(keys) => {
                for key in keys {
                    self.collected += u64::from(self.objects.remove(key).is_some());
                }
                StoreReply::Deleted
            }
            StoreOp::DeleteExactly(key, bytes) => {
                if self.objects.get(key) == Some(bytes) {
                    self.objects.remove(key);
                    self.collected += 1;
                }
                StoreReply::Deleted
            }
        }
    }
}

/// Snapshot of the store for reads outside of all processes.
#[derive(Debug)]
pub(crate) struct Still(Mutex<Objects>);

impl Still {
    pub(crate) fn new(objects: &Objects) -> Self {
        Self(Mutex::new(Objects {
            objects: objects.objects.clone(),
            ..Objects::default()
        }))
    }

    fn send(&self, op: &StoreOp) -> StoreReply {
        let mut objects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        objects.perform(op)
    }
}

impl ObjectStore for Still {
    fn create<'a>(
        &'a self,
        key: &'a str,
        _bytes: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        unreachable!("{key} would be created by a reader")
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        match self.send(&StoreOp::Get(key.to_owned())) {
            StoreReply::Object(object) => Box::pin(ready(Ok(object))),
            reply => unreachable!("a get was answered {reply:?}"),
        }
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        match self.send(&StoreOp::GetRange(key.to_owned(), range)) {
            StoreReply::Object(object) => Box::pin(ready(Ok(object))),
            reply => unreachable!("a get was answered {reply:?}"),
        }
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectMeta>, StoreError>> {
        let after = start_after.map(str::to_owned);
        match self.send(&StoreOp::List(prefix.to_owned(), after, max)) {
            StoreReply::Listed(listed) => Box::pin(ready(Ok(listed))),
            reply => unreachable!("a list was answered {reply:?}"),
        }
    }

    fn delete<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>> {
        unreachable!("{keys:?} would be deleted by a reader")
    }

    fn delete_exactly<'a>(
        &'a self,
        key: &'a str,
        _bytes: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        unreachable!("{key} would be deleted by a reader")
    }
}

/// Rates of faults of requests to the store, per mille.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StoreFaults {
    pub(crate) lost: u64,
    pub(crate) answer_lost: u64,
    pub(crate) delayed: u64,
    pub(crate) repeated: u64,
    pub(crate) conflict: u64,
    /// Maximum latency of a request, and of its answer, in ms.
    pub(crate) latency_max_ms: u64,
}

impl StoreFaults {
    pub(crate) fn draw(random: &Random) -> Self {
        let rate = |max| {
            if random.chance(400) {
                random.below(max)
            } else {
                0
            }
        };
        Self {
            lost: rate(80),
            answer_lost: rate(80),
            delayed: rate(60),
            repeated: rate(60),
            conflict: rate(40),
            latency_max_ms: 2 + random.below(60),
        }
    }

    pub(crate) fn healed(self) -> Self {
        Self {
            latency_max_ms: self.latency_max_ms,
            ..Self::default()
        }
    }
}

/// Clocks of one machine: the true time since its start, and a calendar with an error.
#[derive(Debug, Clone)]
pub(crate) struct MachineClock {
    times: Arc<Mutex<Times>>,
    mailbox: Mailbox,
}

#[derive(Debug)]
struct Times {
    true_ms: u64,
    error_ms: i64,
    /// Set if a mutant freezes the time of the log; the inner value is that time, once it was read.
    frozen: Option<Option<u64>>,
}

/// Beginning of the calendar, in ms since the epoch.
const BEGINNING_MS: u64 = 1_700_000_000_000;

impl MachineClock {
    pub(crate) fn new(error_ms: i64, mailbox: Mailbox) -> Self {
        Self {
            times: Arc::new(Mutex::new(Times {
                true_ms: 0,
                error_ms,
                frozen: None,
            })),
            mailbox,
        }
    }

    /// Freezes the log's time at the next time that it reads.
    pub(crate) fn freeze(&self) {
        self.times().frozen = Some(None);
    }

    pub(crate) fn set(&self, true_ms: u64) {
        self.times().true_ms = true_ms;
    }

    pub(crate) fn shift(&self, ms: i64) {
        self.times().error_ms += ms;
    }

    pub(crate) fn true_ms(&self) -> u64 {
        self.times().true_ms
    }

    pub(crate) fn wall_ms(&self) -> u64 {
        let times = self.times();
        (BEGINNING_MS + times.true_ms).saturating_add_signed(times.error_ms)
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for MachineClock {
    fn now(&self) -> Now {
        let wall_ms = self.wall_ms();
        let mut times = self.times();
        let true_ms = times.true_ms;
        match &mut times.frozen {
            None => Now {
                boot_ms: true_ms,
                wall_ms,
            },
            Some(first) => {
                let boot_ms = *first.get_or_insert(true_ms);
                // The calendar stands still as well, so that neither clock reveals the time.
                let wall_ms = BEGINNING_MS + boot_ms;
                Now { boot_ms, wall_ms }
            }
        }
    }

    fn sleep(&self, ms: u64) -> BoxFuture<'static, ()> {
        let mailbox = self.mailbox.clone();
        Box::pin(async move {
            let over = Slot::new();
            mailbox.lock().sleeps.push((ms, over.clone()));
            over.await;
        })
    }
}
