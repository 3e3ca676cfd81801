//! Processes that own nothing: commands of an operator, makers of forks, and early owners. Each is
//! one future over a store and clocks of its own. It may die or sleep wherever it waits.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use satchel_log::{Application, Layout, LogError, ObjectStore, Retry, Source};

use crate::forks::ForkEnded;
use crate::history::EndedCommand;
use crate::process::ProcessId;
use crate::store::{MachineClock, Mailbox, Still, StoreOp, in_table};
use crate::world::{Event, World};

/// First number of an operator process. Owners are numbered as if there were no operators.
const FIRST_OPERATOR: ProcessId = 1 << 32;

/// Result of a task.
pub(crate) enum Done {
    Command(EndedCommand),
    Fork(ForkEnded),
}

/// Waker that remembers whether a future was woken while it was polled.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

type Task = Pin<Box<dyn Future<Output = Done>>>;

/// Operator processes under way.
#[derive(Default)]
pub(crate) struct Operators {
    running: BTreeMap<ProcessId, Operator>,
    begun: u64,
}

struct Operator {
    mailbox: Mailbox,
    clock: MachineClock,
    paused_until_ms: u64,
    /// Prefixes of all keys that the process may write.
    writes: Vec<String>,
    task: Task,
}

impl Operators {
    pub(crate) fn count(&self) -> usize {
        self.running.len()
    }

    pub(crate) fn mailbox(&self, id: ProcessId) -> Option<&Mailbox> {
        self.running.get(&id).map(|operator| &operator.mailbox)
    }
}

/// Returns true if a process owns nothing.
pub(crate) fn is_operator(id: ProcessId) -> bool {
    id >= FIRST_OPERATOR
}

/// Returns 16 bytes that no other process has.
pub(crate) fn nonce(id: ProcessId) -> [u8; 16] {
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&id.to_le_bytes());
    nonce
}

/// Reads the application record of a root.
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
    /// Returns the store as it is now, for reads of this world's root.
    pub(crate) fn still(&self) -> Arc<dyn ObjectStore> {
        let still = Arc::new(Still::new(&self.objects));
        match self.in_table {
            true => in_table(still, &self.root),
            false => still,
        }
    }

    /// Starts a task over this world's root. Returns its process.
    pub(crate) fn start_operator<F>(
        &mut self,
        writes: Vec<String>,
        task: impl FnOnce(ProcessId, Source) -> F,
    ) -> ProcessId
    where
        F: Future<Output = Done> + 'static,
    {
        self.start_maker(writes, |id, source, _| task(id, source))
    }

    /// Starts a task over this world's root, which is also given the store for other roots. Returns
    /// its process.
    pub(crate) fn start_maker<F>(
        &mut self,
        writes: Vec<String>,
        task: impl FnOnce(ProcessId, Source, Arc<dyn ObjectStore>) -> F,
    ) -> ProcessId
    where
        F: Future<Output = Done> + 'static,
    {
        let id = FIRST_OPERATOR + self.operators.begun;
        self.operators.begun += 1;
        let max_ms = self.faults.clock_error_max_ms;
        let error_ms = self.random.below(2 * max_ms + 1) as i64 - max_ms as i64;
        let mailbox = Mailbox::default();
        let clock = MachineClock::new(error_ms, mailbox.clone());
        clock.set(self.timeline.now_ms());
        let store: Arc<dyn ObjectStore> = Arc::new(mailbox.clone());
        let source = Source {
            store: match self.in_table {
                true => in_table(Arc::new(mailbox.clone()), &self.root),
                false => store.clone(),
            },
            root: self.root.clone(),
            clock: Arc::new(clock.clone()),
            retry: Retry {
                initial_ms: 10,
                max_ms: 500,
                give_up_ms: Some(20_000),
            },
            on_store_failure: Arc::new(|_| {}),
        };
        let operator = Operator {
            mailbox,
            clock,
            paused_until_ms: 0,
            writes,
            task: Box::pin(task(id, source, store)),
        };
        self.operators.running.insert(id, operator);
        // The task begins with the next event, so that its caller knows its number before it ends.
        self.timeline.after(0, Event::OperatorRuns(id));
        id
    }

    /// Polls a task. Returns true if it can make further progress at once.
    pub(crate) fn advance_operator(&mut self, id: ProcessId) -> bool {
        let Some(operator) = self.operators.running.get_mut(&id) else {
            return false;
        };
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let Poll::Ready(done) = operator
            .task
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
        else {
            // Its own actions, such as a notice of its log, may have woken the task.
            return woken.0.load(Ordering::Relaxed);
        };
        self.dispatch_outgoing(id);
        self.operators.running.remove(&id);
        match done {
            Done::Command(ended) => self.command_ended(id, ended),
            Done::Fork(ended) => self.fork_ended(id, ended),
        }
        false
    }

    /// Makes an operator process die, or sleep for a while, at a random time.
    pub(crate) fn disturb_operator(&mut self, id: ProcessId, dies: u64, sleeps: u64) {
        if self.faults_ended {
            return;
        }
        if self.random.chance(dies) {
            let delay_ms = self.random.below(20 * self.faults.store.latency_max_ms);
            self.timeline.after(delay_ms, Event::OperatorDies(id));
        } else if self.random.chance(sleeps) {
            let delay_ms = self.random.below(20 * self.faults.store.latency_max_ms);
            let sleep_ms = self.random.below(2 * self.faults.log.grace_ms);
            self.timeline
                .after(delay_ms, Event::OperatorSleeps(id, sleep_ms));
        }
    }

    pub(crate) fn operator_sleeps(&mut self, id: ProcessId, ms: u64) {
        let until_ms = self.timeline.now_ms() + ms;
        if let Some(operator) = self.operators.running.get_mut(&id)
            && !self.faults_ended
        {
            operator.paused_until_ms = until_ms;
            self.record(|| format!("operator {id} sleeps for {ms} ms"));
        }
    }

    pub(crate) fn operator_dies(&mut self, id: ProcessId) {
        if self.operators.running.remove(&id).is_some() {
            self.record(|| format!("operator {id} dies"));
            self.command_died(id);
            self.maker_died(id);
        }
    }

    /// Ends the sleep of all operator processes.
    pub(crate) fn wake_operators(&mut self) {
        for operator in self.operators.running.values_mut() {
            operator.paused_until_ms = 0;
        }
    }

    /// Postpones events of a sleeping operator process.
    pub(crate) fn unless_operator_sleeps(&mut self, id: ProcessId, event: Event) -> Option<Event> {
        let operator = self.operators.running.get(&id)?;
        if operator.paused_until_ms > self.timeline.now_ms() {
            self.timeline.at(operator.paused_until_ms, event);
            return None;
        }
        operator.clock.set(self.timeline.now_ms());
        Some(event)
    }

    /// Checks that an operator process writes only its own objects.
    pub(crate) fn check_operator_writes(&mut self, id: ProcessId, op: &StoreOp) {
        let keys = match op {
            StoreOp::Create(key, _) | StoreOp::DeleteExactly(key, _) => std::slice::from_ref(key),
            StoreOp::Delete(keys) => keys.as_slice(),
            StoreOp::Get(_) | StoreOp::GetRange(..) | StoreOp::List(..) | StoreOp::Query(..) => {
                return;
            }
        };
        let Some(operator) = self.operators.running.get(&id) else {
            return;
        };
        let own = |key: &String| operator.writes.iter().any(|prefix| key.starts_with(prefix));
        if let Some(foreign) = keys.iter().find(|key| !own(key)) {
            let violation = format!("an operator process writes {foreign}, which is not its own");
            self.stage.violations.push(violation);
        }
    }
}
