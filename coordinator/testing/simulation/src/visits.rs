//! Processes that own nothing: an operator's commands, and those who make one root of another. Each is one future over a store and clocks of its own,
//! which may die or sleep wherever it waits.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use satchel_log::{Application, Layout, LogError, Retry, Source};

use crate::forks::Made;
use crate::past::Operated;
use crate::process::ProcessId;
use crate::store::{Ask, MachineClock, Mailbox};
use crate::world::{Event, World};

/// Visitors have numbers from here on, so that owners count as if there were none.
const FIRST_VISITOR: ProcessId = 1 << 32;

/// How an errand ended.
pub(crate) enum Done {
    Operated(Operated),
    Made(Made),
}

/// Whether a future was woken while it was polled.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

type Errand = Pin<Box<dyn Future<Output = Done>>>;

/// Those who are under way.
#[derive(Default)]
pub(crate) struct Visits {
    visitors: BTreeMap<ProcessId, Visitor>,
    begun: u64,
}

struct Visitor {
    mailbox: Mailbox,
    clock: MachineClock,
    paused_until_ms: u64,
    /// All that it may write lies under one of these.
    writes: Vec<String>,
    errand: Errand,
}

impl Visits {
    pub(crate) fn count(&self) -> usize {
        self.visitors.len()
    }

    pub(crate) fn mailbox(&self, id: ProcessId) -> Option<&Mailbox> {
        self.visitors.get(&id).map(|visitor| &visitor.mailbox)
    }
}

/// Whether a process owns nothing.
pub(crate) fn is_visitor(id: ProcessId) -> bool {
    id >= FIRST_VISITOR
}

/// 16 bytes that no other process has.
pub(crate) fn nonce(id: ProcessId) -> [u8; 16] {
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&id.to_le_bytes());
    nonce
}

/// Whose root it is.
pub(crate) async fn application(source: &Source) -> Result<Application, LogError> {
    let key = Layout::new(&source.root, 0).application().to_owned();
    let found = source.io().get(&key).await?;
    let found = found.ok_or_else(|| LogError::Missing {
        key: key.clone(),
        reason: "it is never deleted".to_owned(),
    })?;
    Application::decode(&found).map_err(|defect| LogError::Damaged { key, defect })
}

impl World {
    /// Somebody begins an errand, with this world's root as he sees it.
    pub(crate) fn visit<F>(
        &mut self,
        writes: Vec<String>,
        errand: impl FnOnce(ProcessId, Source) -> F,
    ) -> ProcessId
    where
        F: Future<Output = Done> + 'static,
    {
        let id = FIRST_VISITOR + self.visits.begun;
        self.visits.begun += 1;
        let max_ms = self.weather.clock_error_max_ms;
        let error_ms = self.random.below(2 * max_ms + 1) as i64 - max_ms as i64;
        let mailbox = Mailbox::default();
        let clock = MachineClock::new(error_ms, mailbox.clone());
        clock.set(self.timeline.now_ms());
        let source = Source {
            store: Arc::new(mailbox.clone()),
            root: self.root.clone(),
            clock: Arc::new(clock.clone()),
            retry: Retry {
                initial_ms: 10,
                max_ms: 500,
                give_up_ms: Some(20_000),
            },
            on_trouble: Arc::new(|_| {}),
        };
        let visitor = Visitor {
            mailbox,
            clock,
            paused_until_ms: 0,
            writes,
            errand: Box::pin(errand(id, source)),
        };
        self.visits.visitors.insert(id, visitor);
        // It begins with the next event, so that whoever sends it knows of it before it ends.
        self.timeline.after(0, Event::VisitorGoesOn(id));
        id
    }

    /// It goes on as far as it can; says whether it may go on further at once.
    pub(crate) fn visit_on(&mut self, id: ProcessId) -> bool {
        let Some(visitor) = self.visits.visitors.get_mut(&id) else {
            return false;
        };
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let Poll::Ready(done) = visitor
            .errand
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
        else {
            // What it does itself, such as a notice of its log, may let it go on.
            return woken.0.load(Ordering::Relaxed);
        };
        self.dispatch_asked(id);
        self.visits.visitors.remove(&id);
        match done {
            Done::Operated(operated) => self.operated(id, operated),
            Done::Made(made) => self.made(id, made),
        }
        false
    }

    /// It dies, or sleeps for a while, somewhere amid its errand.
    pub(crate) fn trouble_visitor(&mut self, id: ProcessId, dies: u64, sleeps: u64) {
        if self.calm {
            return;
        }
        if self.random.chance(dies) {
            let delay_ms = self.random.below(20 * self.weather.store.latency_max_ms);
            self.timeline.after(delay_ms, Event::VisitorDies(id));
        } else if self.random.chance(sleeps) {
            let delay_ms = self.random.below(20 * self.weather.store.latency_max_ms);
            let sleep_ms = self.random.below(2 * self.weather.log.grace_ms);
            self.timeline
                .after(delay_ms, Event::VisitorSleeps(id, sleep_ms));
        }
    }

    pub(crate) fn visitor_sleeps(&mut self, id: ProcessId, ms: u64) {
        let until_ms = self.timeline.now_ms() + ms;
        if let Some(visitor) = self.visits.visitors.get_mut(&id)
            && !self.calm
        {
            visitor.paused_until_ms = until_ms;
            self.say(|| format!("visitor {id} sleeps for {ms} ms"));
        }
    }

    pub(crate) fn visitor_dies(&mut self, id: ProcessId) {
        if self.visits.visitors.remove(&id).is_some() {
            self.say(|| format!("visitor {id} dies"));
            self.operator_died(id);
            self.maker_died(id);
        }
    }

    /// Nobody sleeps any more.
    pub(crate) fn wake_visitors(&mut self) {
        for visitor in self.visits.visitors.values_mut() {
            visitor.paused_until_ms = 0;
        }
    }

    /// Puts off what a sleeping visitor would do now.
    pub(crate) fn unless_visitor_sleeps(&mut self, id: ProcessId, event: Event) -> Option<Event> {
        let visitor = self.visits.visitors.get(&id)?;
        if visitor.paused_until_ms > self.timeline.now_ms() {
            self.timeline.at(visitor.paused_until_ms, event);
            return None;
        }
        visitor.clock.set(self.timeline.now_ms());
        Some(event)
    }

    /// A visitor writes nothing but what is its own.
    pub(crate) fn check_visitor(&mut self, id: ProcessId, ask: &Ask) {
        let keys = match ask {
            Ask::Create(key, _) | Ask::DeleteExactly(key, _) => std::slice::from_ref(key),
            Ask::Delete(keys) => keys.as_slice(),
            Ask::Get(_) | Ask::GetRange(..) | Ask::List(..) => return,
        };
        let Some(visitor) = self.visits.visitors.get(&id) else {
            return;
        };
        let own = |key: &String| visitor.writes.iter().any(|prefix| key.starts_with(prefix));
        if let Some(foreign) = keys.iter().find(|key| !own(key)) {
            let violation = format!("a visitor writes {foreign}, which is not its own");
            self.stage.violations.push(violation);
        }
    }
}
