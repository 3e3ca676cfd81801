//! The bridge between those who ask from outside (HTTP, later others) and the loop that owns a partition.
//!
//! ```text
//!  ask ──Input(request 7)──► bounded queue ──► the loop ──► partition
//!   │                                                          │
//!   └── waits under request 7 ◄── answer(7, …) ◄── the loop ◄──┘ Output::Reply
//! ```
//!
//! The partition knows a request by a number only. Who waits for that number stands here; if he stops waiting (his connection broke, his
//! time was up), the partition is told, so that it forgets him too.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use satchel_engine::address::Address;
use satchel_engine::input::{Administration, Call, CallId, Input, RequestId, Verb};
use satchel_engine::output::Answer;
use satchel_protocol::reqreply::TypedValue;
use tokio::sync::{mpsc, oneshot};

use crate::metrics::Metrics;

/// How far a process is in becoming able to answer. Those who serve requests watch it over a [`tokio::sync::watch`] channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Readiness {
    /// Durable state is being read.
    Starting {
        /// How much of it has been, from 0 to 1.
        recovered: f64,
    },
    /// Every partition that this process should own answers, and buckets are still being loaded: what needs one waits for that one.
    Loading {
        /// How much of what was not in memory at the takeover is, from 0 to 1.
        recovered: f64,
    },
    /// Every partition that this process should own answers.
    Serving,
    /// The same, and it is a fork whose ingresses, timers and outbox are held.
    Held,
    /// Another process owns the partitions; this one waits to take over.
    Standby,
    /// The process ends; nothing new is taken.
    Stopping,
}

/// Asks one partition and waits for its answers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Requests {
    inputs: mpsc::Sender<Input>,
    waiting: Arc<Waiting>,
}

impl Requests {
    /// Requests that go to the loop that receives from `inputs`.
    ///
    /// The loop hands every `Output::Reply` to [`Requests::answer`]. It drops (or closes) its receiver only when it will answer nothing
    /// more: whoever waits then is told [`Answer::Stopping`].
    pub fn new(inputs: mpsc::Sender<Input>, metrics: Metrics) -> Self {
        Self {
            inputs,
            waiting: Arc::new(Waiting {
                next: AtomicU64::new(1),
                askers: Mutex::default(),
                metrics,
            }),
        }
    }

    /// Sends the input that `input` makes of a fresh request number, and waits for the answer to that number.
    ///
    /// `input` is called when the partition's queue has room: whatever else it holds is let go of then, however long the answer takes.
    ///
    /// The caller bounds the waiting: when this future is dropped, the partition is told that the request is abandoned. Whatever the
    /// input asked for may happen all the same.
    pub async fn ask(&self, input: impl FnOnce(RequestId) -> Input) -> Answer {
        let (mut asker, mut answer) = self.register();
        let Ok(room) = self.inputs.reserve().await else {
            return Answer::Stopping;
        };
        room.send(input(asker.request));
        asker.told = true;
        tokio::select! {
            // An answer that came before the loop ended is an answer.
            biased;
            answer = &mut answer => answer.unwrap_or(Answer::Stopping),
            () = self.inputs.closed() => answer.try_recv().unwrap_or(Answer::Stopping),
        }
    }

    /// Calls `target` or sends to it, under a fresh random id. The argument is converted when the partition's queue has room.
    pub async fn call(
        &self,
        verb: Verb,
        target: Address,
        argument: impl Into<TypedValue>,
        idempotency_key: Option<Arc<str>>,
    ) -> Answer {
        let mut id = [0; 16];
        getrandom::fill(&mut id).expect("an operating system without random bytes runs no TLS either; going on with a guessable id would be worse");
        self.ask(|request| {
            Input::CallReceived(Call {
                request,
                id: CallId(id),
                verb,
                target,
                argument: argument.into(),
                idempotency_key,
            })
        })
        .await
    }

    /// Asks for, or corrects, what an administrator may.
    pub async fn administer(&self, administration: Administration) -> Answer {
        self.ask(|request| Input::Administered {
            request,
            administration,
        })
        .await
    }

    /// Hands the partition's answer to whoever waits for it; counted if nobody does.
    pub fn answer(&self, request: RequestId, answer: Answer) {
        // The receiver may have been dropped between this removal and the sending: then the answer is unclaimed as well.
        let claimed = self
            .waiting
            .remove(request)
            .is_some_and(|asker| asker.send(answer).is_ok());
        if !claimed {
            self.waiting.metrics.observe_unclaimed_answer();
        }
    }

    fn register(&self) -> (Asker, oneshot::Receiver<Answer>) {
        let request = RequestId(self.waiting.next.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = oneshot::channel();
        self.waiting.insert(request, sender);
        let asker = Asker {
            request,
            told: false,
            inputs: self.inputs.clone(),
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
        // No code panics while it holds the lock, and a map is whole after any of its methods.
        self.askers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stands for one who waits; dropping it ends the waiting.
#[derive(Debug)]
struct Asker {
    request: RequestId,
    /// Whether the partition has heard of the request.
    told: bool,
    inputs: mpsc::Sender<Input>,
    waiting: Arc<Waiting>,
}

impl Drop for Asker {
    fn drop(&mut self) {
        let answered = self.waiting.remove(self.request).is_none();
        if answered || !self.told {
            return;
        }
        let abandoned = Input::RequestAbandoned(self.request);
        let Err(mpsc::error::TrySendError::Full(abandoned)) = self.inputs.try_send(abandoned)
        else {
            return;
        };
        // The queue is full for now, and dropping can not wait. Outside a runtime there is no loop either that could be told.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let inputs = self.inputs.clone();
            runtime.spawn(async move {
                // A loop that is gone has forgotten the request.
                let _ = inputs.send(abandoned).await;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use satchel_engine::address::FunctionType;
    use satchel_protocol::types::typed_value;

    use super::*;

    fn requests(capacity: usize) -> (Requests, mpsc::Receiver<Input>, Metrics) {
        let (inputs, loop_side) = mpsc::channel(capacity);
        let metrics = Metrics::new();
        (Requests::new(inputs, metrics.clone()), loop_side, metrics)
    }

    fn alice() -> Address {
        Address::new(FunctionType::new("example", "greeter"), "alice")
    }

    fn inspect(request: RequestId) -> Input {
        Input::Administered {
            request,
            administration: Administration::Inspect(alice()),
        }
    }

    fn shows(metrics: &Metrics, sample: &str) -> bool {
        metrics.encode().lines().any(|line| line == sample)
    }

    #[tokio::test]
    async fn each_asker_gets_the_answer_to_his_own_request_in_whatever_order_they_come() {
        let (requests, mut loop_side, metrics) = requests(8);
        let answering = {
            let requests = requests.clone();
            tokio::spawn(async move {
                let mut asked = Vec::new();
                while asked.len() < 2 {
                    let Some(Input::CallReceived(call)) = loop_side.recv().await else {
                        panic!("only calls were made");
                    };
                    asked.push(call);
                }
                assert_ne!(asked[0].request, asked[1].request);
                assert_ne!(asked[0].id, asked[1].id);
                for call in asked.into_iter().rev() {
                    requests.answer(call.request, Answer::Replied(call.argument));
                }
                loop_side
            })
        };
        let call = |text: &'static [u8]| {
            requests.call(
                Verb::Call,
                alice(),
                typed_value("t", text),
                Some("k".into()),
            )
        };
        let (one, two) = tokio::join!(call(b"one"), call(b"two"));
        assert_eq!(one, Answer::Replied(typed_value("t", &b"one"[..])));
        assert_eq!(two, Answer::Replied(typed_value("t", &b"two"[..])));
        let mut loop_side = answering.await.unwrap();
        assert!(loop_side.try_recv().is_err(), "nothing was abandoned");
        assert!(shows(&metrics, "satchel_requests_waiting 0"));
    }

    #[tokio::test]
    async fn a_call_carries_everything_that_was_given() {
        let (requests, mut loop_side, _) = requests(1);
        let target = alice();
        let mut asking = Box::pin(requests.call(
            Verb::Send,
            target.clone(),
            typed_value("t", &b"1"[..]),
            Some("key".into()),
        ));
        assert!(futures::poll!(&mut asking).is_pending());
        let Some(Input::CallReceived(call)) = loop_side.recv().await else {
            panic!("a call was made");
        };
        assert_eq!(
            call,
            Call {
                request: call.request,
                id: call.id,
                verb: Verb::Send,
                target,
                argument: typed_value("t", &b"1"[..]),
                idempotency_key: Some("key".into()),
            }
        );
    }

    #[tokio::test]
    async fn an_asker_who_goes_away_is_reported_once_and_his_answer_counted_as_unclaimed() {
        let (requests, mut loop_side, metrics) = requests(8);
        let mut asking = Box::pin(requests.ask(inspect));
        assert!(futures::poll!(&mut asking).is_pending());
        assert!(shows(&metrics, "satchel_requests_waiting 1"));
        drop(asking);
        let Some(Input::Administered { request, .. }) = loop_side.recv().await else {
            panic!("the question came first");
        };
        assert_eq!(
            loop_side.recv().await,
            Some(Input::RequestAbandoned(request))
        );
        requests.answer(request, Answer::Done);
        assert!(loop_side.try_recv().is_err());
        assert!(shows(&metrics, "satchel_unclaimed_answers_total 1"));
        assert!(shows(&metrics, "satchel_requests_waiting 0"));
    }

    #[tokio::test]
    async fn an_asker_who_goes_away_while_the_queue_is_full_is_reported_when_there_is_room() {
        let (requests, mut loop_side, _) = requests(1);
        let mut asking = Box::pin(requests.ask(inspect));
        assert!(futures::poll!(&mut asking).is_pending());
        drop(asking);
        let Some(Input::Administered { request, .. }) = loop_side.recv().await else {
            panic!("the question came first");
        };
        assert_eq!(
            loop_side.recv().await,
            Some(Input::RequestAbandoned(request))
        );
    }

    #[tokio::test]
    async fn an_asker_who_goes_away_before_the_queue_took_his_question_leaves_no_trace() {
        let (requests, mut loop_side, metrics) = requests(1);
        let mut first = Box::pin(requests.ask(inspect));
        assert!(futures::poll!(&mut first).is_pending());
        let mut second = Box::pin(requests.ask(inspect));
        assert!(futures::poll!(&mut second).is_pending());
        drop(second);
        assert!(matches!(
            loop_side.recv().await,
            Some(Input::Administered {
                request: RequestId(1),
                ..
            })
        ));
        tokio::task::yield_now().await;
        assert!(loop_side.try_recv().is_err());
        assert!(shows(&metrics, "satchel_requests_waiting 1"));
    }

    #[tokio::test]
    async fn when_the_loop_is_gone_everybody_is_told_that_the_process_stops() {
        let (requests, loop_side, _) = requests(8);
        let mut waiting = Box::pin(requests.ask(inspect));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(loop_side);
        let told = tokio::time::timeout(Duration::from_secs(60), waiting);
        assert_eq!(told.await, Ok(Answer::Stopping));
        assert_eq!(requests.ask(inspect).await, Answer::Stopping);
    }

    #[tokio::test]
    async fn an_answer_given_just_before_the_loop_ends_is_delivered() {
        let (requests, mut loop_side, _) = requests(8);
        let mut waiting = Box::pin(requests.ask(inspect));
        assert!(futures::poll!(&mut waiting).is_pending());
        let Some(Input::Administered { request, .. }) = loop_side.recv().await else {
            panic!("the question came first");
        };
        requests.answer(request, Answer::Done);
        drop(loop_side);
        assert_eq!(waiting.await, Answer::Done);
    }
}
