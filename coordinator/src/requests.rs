//! Bridge between requests from outside and the loop that owns a partition.
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

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use satchel_engine::address::Address;
use satchel_engine::input::{Administration, Call, CallId, Input, RequestId, Verb};
use satchel_engine::output::Answer;
use satchel_engine::trace::TraceParent;
use satchel_protocol::reqreply::TypedValue;
use tokio::sync::{mpsc, oneshot};

use crate::metrics::Metrics;
use crate::random;

/// Sends requests to one partition and waits for the answers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Requests {
    inputs: mpsc::Sender<Input>,
    waiting: Arc<Waiting>,
}

impl Requests {
    /// Creates requests to the loop that receives from `inputs`.
    ///
    /// The loop hands every `Output::Reply` to [`Requests::answer`]. It drops (or closes) its
    /// receiver only when it will answer nothing more. Pending requests then end with
    /// [`Answer::Stopping`].
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

    /// Sends the input that `input` makes of a new request number, and waits for the answer.
    ///
    /// `input` is called when the partition's queue has room, and dropped with everything that it
    /// holds before the wait for the answer.
    ///
    /// The caller bounds the wait. If this future is dropped, the partition learns that the request
    /// is abandoned. The effects of the input may happen all the same.
    pub async fn ask(&self, input: impl FnOnce(RequestId) -> Input) -> Answer {
        let (mut asker, mut answer) = self.register();
        let Ok(room) = self.inputs.reserve().await else {
            return Answer::Stopping;
        };
        room.send(input(asker.request));
        asker.sent = true;
        tokio::select! {
            // An answer that came before the loop ended counts.
            biased;
            answer = &mut answer => answer.unwrap_or(Answer::Stopping),
            () = self.inputs.closed() => answer.try_recv().unwrap_or(Answer::Stopping),
        }
    }

    /// Calls `target` or sends to it, under a new random id, with an idempotency key and a trace
    /// context if there are any. The argument is converted when the partition's queue has room.
    pub async fn call(
        &self,
        verb: Verb,
        target: Address,
        argument: impl Into<TypedValue>,
        (idempotency_key, trace): (Option<Arc<str>>, Option<TraceParent>),
    ) -> Answer {
        self.ask(|request| {
            Input::CallReceived(Call {
                request,
                id: CallId(random::bytes()),
                verb,
                target,
                argument: argument.into(),
                idempotency_key,
                trace,
            })
        })
        .await
    }

    /// Sends a request of the administration port.
    pub async fn administer(&self, administration: Administration) -> Answer {
        self.ask(|request| Input::Administered {
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

    fn register(&self) -> (Asker, oneshot::Receiver<Answer>) {
        let request = RequestId(self.waiting.next.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = oneshot::channel();
        self.waiting.insert(request, sender);
        let asker = Asker {
            request,
            sent: false,
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
    async fn each_caller_gets_the_answer_to_its_own_request_in_any_order() {
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
                (Some("k".into()), None),
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
        let trace = TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        assert!(trace.is_some());
        let mut asking = Box::pin(requests.call(
            Verb::Send,
            target.clone(),
            typed_value("t", &b"1"[..]),
            (Some("key".into()), trace),
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
                trace,
            }
        );
    }

    #[tokio::test]
    async fn an_abandoned_request_is_reported_once_and_its_answer_counted_as_unclaimed() {
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
    async fn a_request_abandoned_while_the_queue_is_full_is_reported_when_there_is_room() {
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
    async fn a_request_abandoned_before_it_is_queued_leaves_no_trace() {
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
    async fn when_the_loop_is_gone_every_caller_learns_that_the_process_stops() {
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
