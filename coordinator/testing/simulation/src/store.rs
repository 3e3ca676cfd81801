//! A simulated object store: requests travel, are lost, have their effect late or twice, and their answers are lost.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::{BoxFuture, ready};
use satchel_log::{Clock, Created, Now, ObjectMeta, ObjectStore, StoreError};
use satchel_log_simulation::Random;

use crate::timeline::Slot;

/// What a request asks for.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Create(String, Bytes),
    Get(String),
    GetRange(String, Range<u64>),
    List(String, Option<String>, usize),
    Delete(Vec<String>),
    DeleteExactly(String, Bytes),
}

/// What it is answered.
#[derive(Debug, Clone)]
pub(crate) enum Told {
    Created(Created),
    Object(Option<Bytes>),
    Listed(Vec<ObjectMeta>),
    Deleted,
}

/// A request on its way.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) ask: Ask,
    pub(crate) answer: Slot<Result<Told, StoreError>>,
}

impl Request {
    fn key(&self) -> &str {
        match &self.ask {
            Ask::Create(key, _)
            | Ask::Get(key)
            | Ask::GetRange(key, _)
            | Ask::List(key, ..)
            | Ask::DeleteExactly(key, _) => key,
            Ask::Delete(keys) => keys.first().map_or("", String::as_str),
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

/// What a process has just asked for, to be scheduled by the world.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) requests: Vec<Request>,
    pub(crate) sleeps: Vec<(u64, Slot<()>)>,
}

/// Where a process asks; it hears nothing before the world says so.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mailbox {
    asked: Arc<Mutex<Asked>>,
    /// A mutant: whoever asks sees no savepoints.
    pub(crate) blind: bool,
}

impl Mailbox {
    pub(crate) fn take(&self) -> Asked {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, ask: Ask) -> Result<Told, StoreError> {
        let answer = Slot::new();
        self.lock().requests.push(Request {
            ask,
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
            match self.ask(Ask::Create(key.to_owned(), bytes)).await? {
                Told::Created(created) => Ok(created),
                told => unreachable!("a create was answered {told:?}"),
            }
        })
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(async move {
            match self.ask(Ask::Get(key.to_owned())).await? {
                Told::Object(object) => Ok(object),
                told => unreachable!("a get was answered {told:?}"),
            }
        })
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(async move {
            match self.ask(Ask::GetRange(key.to_owned(), range)).await? {
                Told::Object(object) => Ok(object),
                told => unreachable!("a get was answered {told:?}"),
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
            match self.ask(Ask::List(prefix.to_owned(), after, max)).await? {
                Told::Listed(listed) => Ok(listed),
                told => unreachable!("a list was answered {told:?}"),
            }
        })
    }

    fn delete<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            match self.ask(Ask::Delete(keys.to_vec())).await? {
                Told::Deleted => Ok(()),
                told => unreachable!("a delete was answered {told:?}"),
            }
        })
    }

    fn delete_exactly<'a>(
        &'a self,
        key: &'a str,
        bytes: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let ask = Ask::DeleteExactly(key.to_owned(), bytes.clone());
            match self.ask(ask).await? {
                Told::Deleted => Ok(()),
                told => unreachable!("a delete was answered {told:?}"),
            }
        })
    }
}

/// What the store holds.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    pub(crate) objects: BTreeMap<String, Bytes>,
    /// How many objects were removed.
    pub(crate) collected: u64,
    /// A mutant: a create replaces what is there.
    pub(crate) unconditional: bool,
}

impl Objects {
    /// How many ownership periods were claimed.
    pub(crate) fn claimed_epochs(&self, root: &str) -> u64 {
        let prefix = format!("{root}/partitions/0/epochs/");
        let keys = self.objects.range(prefix.clone()..).map(|(key, _)| key);
        keys.take_while(|key| key.starts_with(&prefix)).count() as u64
    }

    pub(crate) fn perform(&mut self, ask: &Ask) -> Told {
        match ask {
            Ask::Create(key, bytes) => {
                if self.objects.contains_key(key) && !self.unconditional {
                    return Told::Created(Created::Exists);
                }
                self.objects.insert(key.clone(), bytes.clone());
                Told::Created(Created::Stored)
            }
            Ask::Get(key) => Told::Object(self.objects.get(key).cloned()),
            Ask::GetRange(key, range) => Told::Object(self.objects.get(key).map(|object| {
                let end = range.end.min(object.len() as u64) as usize;
                object.slice((range.start as usize).min(end)..end)
            })),
            Ask::List(prefix, after, max) => {
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
                Told::Listed(listed.collect())
            }
            Ask::Delete(keys) => {
                for key in keys {
                    self.collected += u64::from(self.objects.remove(key).is_some());
                }
                Told::Deleted
            }
            Ask::DeleteExactly(key, bytes) => {
                if self.objects.get(key) == Some(bytes) {
                    self.objects.remove(key);
                    self.collected += 1;
                }
                Told::Deleted
            }
        }
    }
}

/// The store as it is at one moment, for looking at it from outside of all processes.
#[derive(Debug)]
pub(crate) struct Still(Mutex<Objects>);

impl Still {
    pub(crate) fn new(objects: &Objects) -> Self {
        Self(Mutex::new(Objects {
            objects: objects.objects.clone(),
            ..Objects::default()
        }))
    }

    fn ask(&self, ask: &Ask) -> Told {
        let mut objects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        objects.perform(ask)
    }
}

impl ObjectStore for Still {
    fn create<'a>(
        &'a self,
        key: &'a str,
        _bytes: Bytes,
    ) -> BoxFuture<'a, Result<Created, StoreError>> {
        unreachable!("{key} would be created by somebody who only looks")
    }

    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        match self.ask(&Ask::Get(key.to_owned())) {
            Told::Object(object) => Box::pin(ready(Ok(object))),
            told => unreachable!("a get was answered {told:?}"),
        }
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        match self.ask(&Ask::GetRange(key.to_owned(), range)) {
            Told::Object(object) => Box::pin(ready(Ok(object))),
            told => unreachable!("a get was answered {told:?}"),
        }
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        start_after: Option<&'a str>,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<ObjectMeta>, StoreError>> {
        let after = start_after.map(str::to_owned);
        match self.ask(&Ask::List(prefix.to_owned(), after, max)) {
            Told::Listed(listed) => Box::pin(ready(Ok(listed))),
            told => unreachable!("a list was answered {told:?}"),
        }
    }

    fn delete<'a>(&'a self, keys: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>> {
        unreachable!("{keys:?} would be deleted by somebody who only looks")
    }

    fn delete_exactly<'a>(
        &'a self,
        key: &'a str,
        _bytes: &'a Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        unreachable!("{key} would be deleted by somebody who only looks")
    }
}

/// How often what goes wrong with requests to the store, per mille.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StoreFaults {
    pub(crate) lost: u64,
    pub(crate) answer_lost: u64,
    pub(crate) delayed: u64,
    pub(crate) repeated: u64,
    pub(crate) conflict: u64,
    /// The longest way there, and back, in ms.
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

/// The clocks of one machine: the true time since it started, and a calendar with an error of its own.
#[derive(Debug, Clone)]
pub(crate) struct MachineClock {
    times: Arc<Mutex<Times>>,
    mailbox: Mailbox,
}

#[derive(Debug)]
struct Times {
    true_ms: u64,
    error_ms: i64,
    /// Whether a mutant makes the log see always the same time, and which, once it was seen.
    frozen: Option<Option<u64>>,
}

/// The calendar's beginning, in ms since the epoch.
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

    /// From now on the log sees the first time that it looks at for ever.
    pub(crate) fn freeze(&self) {
        self.times().frozen = Some(None);
    }

    pub(crate) fn set(&self, true_ms: u64) {
        self.times().true_ms = true_ms;
    }

    pub(crate) fn shift(&self, ms: i64) {
        self.times().error_ms += ms;
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
                // The calendar stands still with it, so that neither of both tells.
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
