//! Bridge between requests from outside and the loops that own the partitions.
//!
//! ```text
//!  ask ──Input(request 7)──► bounded queue ──► the loop ──► partition
//!   │                                                          │
//!   └── waits under request 7 ◄── answer(7, …) ◄── the loop ◄──┘ Output::Reply
//! ```
//!
//! The partition knows a request by its number only. This module knows the waiting caller. If the
//! caller stops waiting (connection lost, timeout), the partition is notified and forgets the
//! request.
//!
//! A request about an address goes to the partition that owns it. One about the application goes to
//! all partitions, and their answers become one.

mod scatter;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use futures::future::BoxFuture;
use satchel_engine::address::Address;
use satchel_engine::input::{Administration, Call, CallId, Input, RequestId, Verb};
use satchel_engine::output::Answer;
use satchel_engine::partition::Config;
use satchel_engine::placement::{KeyGroup, KeyGroupRange, Placement};
use satchel_engine::trace::TraceParent;
use satchel_protocol::reqreply::TypedValue;
use tokio::sync::{mpsc, oneshot};

use crate::metrics::Metrics;
use crate::random;

/// Sends requests to the partitions and waits for the answers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Requests {
    /// Queue of each partition, by number; none for one that does not run in this process.
    inputs: Arc<RwLock<Vec<Option<mpsc::Sender<Input>>>>>,
    /// Configuration of any partition, which tells who owns an address. Set once the root of an
    /// application of several partitions is open.
    division: Arc<OnceLock<Config>>,
    elsewhere: Arc<OnceLock<Elsewhere>>,
    waiting: Arc<Waiting>,
}

/// Asks the owner of a partition in another process.
pub(crate) type Ask = dyn Fn(u32, Administration) -> BoxFuture<'static, Answer> + Send + Sync;

/// The partitions of other processes.
struct Elsewhere(Box<Ask>);

impl std::fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Elsewhere")
    }
}

impl Requests {
    /// Creates requests to partitions, of which none runs in this process yet.
    ///
    /// The loop of a partition hands every `Output::Reply` to [`Requests::answer`]. It drops (or
    /// closes) its receiver only when it will answer nothing more. Pending requests then end with
    /// [`Answer::Stopping`].
    pub fn new(metrics: Metrics) -> Self {
        Self {
            inputs: Arc::new(RwLock::new(vec![None])),
            division: Arc::default(),
            elsewhere: Arc::default(),
            waiting: Arc::new(Waiting {
                next: AtomicU64::new(1),
                askers: Mutex::default(),
                metrics,
            }),
        }
    }

    /// Tells the requests of an application of several partitions who owns an address. `config` is
    /// the configuration of any partition. Before this, every request goes to partition 0, so the
    /// process must not serve yet.
    pub fn divide(&self, config: Config) {
        // A process opens one root.
        let _ = self.division.set(config);
        let partitions = self.partitions() as usize;
        let mut inputs = self.inputs.write().unwrap_or_else(PoisonError::into_inner);
        inputs.resize(partitions, None);
    }

    /// Sets how partitions of other processes are asked. Without it, a partition that does not run
    /// here is stopping.
    #[cfg(feature = "aws")]
    pub(crate) fn ask_elsewhere(&self, ask: Box<Ask>) {
        let _ = self.elsewhere.set(Elsewhere(ask));
    }

    /// Sends the requests about a partition to its loop in this process, which receives from
    /// `inputs`.
    pub fn attach(&self, partition: u32, inputs: mpsc::Sender<Input>) {
        self.set_inputs(partition, Some(inputs));
    }

    /// Sends no more requests to a partition that leaves this process.
    pub fn detach(&self, partition: u32) {
        self.set_inputs(partition, None);
    }

    fn set_inputs(&self, partition: u32, queue: Option<mpsc::Sender<Input>>) {
        let mut inputs = self.inputs.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = inputs.get_mut(partition as usize) {
            *place = queue;
        }
    }

    /// Number of partitions.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        let generation = self.division.get().and_then(|it| it.generation.as_ref());
        generation.map_or(1, |generation| {
            generation.partitions.partitions().count() as u32
        })
    }

    /// Returns true if other processes run some of the partitions.
    pub(crate) fn is_spread(&self) -> bool {
        self.elsewhere.get().is_some()
    }

    /// Returns the placement of addresses, if the application has several partitions.
    pub(crate) fn placement(&self) -> Option<Placement> {
        self.division.get().map(|division| division.placement)
    }

    /// Returns the partition that owns an address. A reserved address that no partition owns has
    /// partition 0.
    pub(crate) fn owner_of(&self, address: &Address) -> u32 {
        let division = self.division.get();
        let owner = division.and_then(|division| division.partition_of(address));
        owner.unwrap_or(0)
    }

    /// Returns the partition that owns a key group.
    pub fn owner_of_key_group(&self, key_group: KeyGroup) -> u32 {
        let division = self.division.get();
        let generation = division.and_then(|division| division.generation.as_ref());
        generation.map_or(0, |generation| {
            generation.partitions.partition_of(key_group)
        })
    }

    /// Returns the key groups of a partition; none if the application has only one.
    pub fn range_of(&self, partition: u32) -> Option<KeyGroupRange> {
        let generation = self.division.get()?.generation.as_ref()?;
        generation.partitions.range_of(partition)
    }

    /// Queue of a partition, if it runs in this process.
    fn inputs_of(&self, partition: u32) -> Option<mpsc::Sender<Input>> {
        let inputs = self.inputs.read().unwrap_or_else(PoisonError::into_inner);
        inputs.get(partition as usize).cloned().flatten()
    }

    /// Sends the input that `input` makes of a new request number to the owner of `address`, and
    /// waits for the answer.
    ///
    /// `input` is called when the partition's queue has room, and dropped with everything that it
    /// holds before the wait for the answer.
    ///
    /// The caller bounds the wait. If this future is dropped, the partition learns that the request
    /// is abandoned. The effects of the input may happen all the same.
    pub async fn ask(&self, address: &Address, input: impl FnOnce(RequestId) -> Input) -> Answer {
        self.ask_at(self.owner_of(address), input).await
    }

    /// As [`Self::ask`], to a partition of this process by its number.
    async fn ask_at(&self, partition: u32, input: impl FnOnce(RequestId) -> Input) -> Answer {
        let Some(inputs) = self.inputs_of(partition) else {
            return match self.is_spread() {
                // Nothing was taken, which the client should know.
                true => Answer::Elsewhere { partition },
                false => Answer::NotTaken,
            };
        };
        let (mut asker, mut answer) = self.register(&inputs);
        let Ok(room) = inputs.reserve().await else {
            return Answer::NotTaken;
        };
        room.send(input(asker.request));
        asker.sent = true;
        tokio::select! {
            // An answer that came before the loop ended counts.
            biased;
            answer = &mut answer => answer.unwrap_or(Answer::Stopping),
            () = inputs.closed() => answer.try_recv().unwrap_or(Answer::Stopping),
        }
    }

    /// Draws the id of a new call or send.
    #[must_use]
    pub fn new_id() -> CallId {
        CallId(random::bytes())
    }

    /// Calls `target` or sends to it, under this id, with an idempotency key and a trace context if
    /// there are any. The argument is converted when the partition's queue has room.
    pub async fn call(
        &self,
        (id, verb): (CallId, Verb),
        target: Address,
        argument: impl Into<TypedValue>,
        (idempotency_key, trace): (Option<Arc<str>>, Option<TraceParent>),
    ) -> Answer {
        self.ask_at(self.owner_of(&target), |request| {
            Input::CallReceived(Call {
                request,
                id,
                verb,
                target,
                argument: argument.into(),
                idempotency_key,
                trace,
            })
        })
        .await
    }

    /// Sends a request of the administration port to the partitions that it concerns, and waits for
    /// their answer.
    pub async fn administer(&self, administration: Administration) -> Answer {
        match self.partitions() {
            1 => self.administer_at(0, administration).await,
            _ => scatter::administer(self, administration).await,
        }
    }

    /// Sends a request of the administration port to one partition, of this process or another.
    pub async fn administer_at(&self, partition: u32, administration: Administration) -> Answer {
        let is_here = self.inputs_of(partition).is_some();
        match self.elsewhere.get().filter(|_| !is_here) {
            Some(Elsewhere(ask)) => ask(partition, administration).await,
            None => self.administer_here(partition, administration).await,
        }
    }

    /// As [`Self::administer_at`], to a partition of this process.
    pub(crate) async fn administer_here(
        &self,
        partition: u32,
        administration: Administration,
    ) -> Answer {
        self.ask_at(partition, |request| Input::Administered {
            request,
            administration,
        })
        .await
    }

    /// Hands the partition's answer to the waiting caller, and counts it if there is none.
    pub fn answer(&self, request: RequestId, answer: Answer) {
        // If the receiver is dropped between the removal and the sending, the answer is unclaimed
        // too.
        let claimed = self
            .waiting
            .remove(request)
            .is_some_and(|asker| asker.send(answer).is_ok());
        if !claimed {
            self.waiting.metrics.observe_unclaimed_answer();
        }
    }

    fn register(&self, inputs: &mpsc::Sender<Input>) -> (Asker, oneshot::Receiver<Answer>) {
        let request = RequestId(self.waiting.next.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = oneshot::channel();
        self.waiting.insert(request, sender);
        let asker = Asker {
            request,
            sent: false,
            inputs: inputs.clone(),
            waiting: Arc::clone(&self.waiting),
        };
        (asker, receiver)
    }
}

#[derive(Debug)]
struct Waiting {
    next: AtomicU64,
    askers: Mutex<HashMap<RequestId, oneshot::Sender<Answer>>>,
    metrics: Metrics,
}

impl Waiting {
    fn insert(&self, request: RequestId, asker: oneshot::Sender<Answer>) {
        let mut askers = self.askers();
        askers.insert(request, asker);
        self.metrics.observe_requests_waiting(askers.len());
    }

    fn remove(&self, request: RequestId) -> Option<oneshot::Sender<Answer>> {
        let mut askers = self.askers();
        let asker = askers.remove(&request);
        self.metrics.observe_requests_waiting(askers.len());
        asker
    }

    fn askers(&self) -> MutexGuard<'_, HashMap<RequestId, oneshot::Sender<Answer>>> {
        // No code panics while it holds the lock, and a map is consistent after each method.
        self.askers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waiting caller. Dropping it ends the wait.
#[derive(Debug)]
struct Asker {
    request: RequestId,
    /// True once the partition has received the request.
    sent: bool,
    inputs: mpsc::Sender<Input>,
    waiting: Arc<Waiting>,
}

impl Drop for Asker {
    fn drop(&mut self) {
        let answered = self.waiting.remove(self.request).is_none();
        if answered || !self.sent {
            return;
        }
        let abandoned = Input::RequestAbandoned(self.request);
        let Err(mpsc::error::TrySendError::Full(abandoned)) = self.inputs.try_send(abandoned)
        else {
            return;
        };
        // The queue is full, and drop cannot wait. Outside a runtime there is no loop to notify.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let inputs = self.inputs.clone();
            runtime.spawn(async move {
                // A loop that has ended has forgotten the request.
                let _ = inputs.send(abandoned).await;
            });
        }
    }
}

#[cfg(test)]
mod tests;
