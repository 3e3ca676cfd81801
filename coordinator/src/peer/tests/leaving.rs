//! Requests to a partition that leaves its process while they are on their way.

use satchel_engine::output::Answer;

use super::*;

/// Routes that count requests and close the gate, then answer what the partition does.
fn leaving(gate: &Arc<Mutex<Option<Gate>>>, answer: Answer, asked: &Arc<AtomicUsize>) -> Router {
    let (gate, asked) = (Arc::clone(gate), Arc::clone(asked));
    let handler = move || async move {
        asked.fetch_add(1, Ordering::SeqCst);
        if let Some(gate) = &*gate.lock().unwrap() {
            gate.set(0, Owner::Unknown);
        }
        ApiError::of_answer(answer)
    };
    Router::new().route("/call/{namespace}/{name}/{id}", post(handler))
}

/// Routes of the next owner.
fn next(served: &Arc<AtomicUsize>) -> Router {
    let served = Arc::clone(served);
    let handler = move |body: String| async move {
        served.fetch_add(1, Ordering::SeqCst);
        format!("next: {body}")
    };
    Router::new().route("/call/{namespace}/{name}/{id}", post(handler))
}

fn call(process: &Process) -> reqwest::RequestBuilder {
    let url = format!("{}/call/example/greeter/alice", process.url);
    client().post(url).body("hello")
}

/// Two processes; the partition leaves the first one with this answer to its last request.
struct Move {
    former: Process,
    next: Process,
    asked: Arc<AtomicUsize>,
    served: Arc<AtomicUsize>,
}

impl Move {
    async fn begin(answer: Answer) -> Self {
        let members = Members::default();
        let (asked, served) = (Arc::default(), Arc::default());
        let gate = Arc::default();
        let former = Process::of_two(&members, leaving(&gate, answer, &asked)).await;
        *gate.lock().unwrap() = Some(former.gate.clone());
        let next = Process::of_two(&members, next(&served)).await;
        former.owns();
        next.knows(&former);
        Self {
            former,
            next,
            asked,
            served,
        }
    }

    fn end(&self) {
        self.former.knows(&self.next);
        self.next.owns();
    }

    fn counts(&self) -> (usize, usize) {
        let count = |of: &AtomicUsize| of.load(Ordering::SeqCst);
        (count(&self.asked), count(&self.served))
    }
}

#[tokio::test]
async fn rule_32_a_request_that_was_not_taken_is_forwarded_once_to_the_next_owner() {
    for answer in [Answer::NotTaken, Answer::Elsewhere { partition: 0 }] {
        let moved = Move::begin(answer).await;
        let request = tokio::spawn(answered(call(&moved.former)));
        moved.former.counts("satchel_forwarding_waiting", 1).await;
        moved.end();
        assert_eq!(request.await.unwrap(), (200, "next: hello".to_owned()));
        assert_eq!(moved.counts(), (1, 1));
    }
}

#[tokio::test]
async fn rule_32_a_request_whose_outcome_is_unknown_is_forwarded_only_with_a_key() {
    let moved = Move::begin(Answer::Stopping).await;
    let (status, code) = error(call(&moved.former)).await;
    assert_eq!((status, code.as_str()), (503, "unknown"));
    moved.former.owns();
    let keyed = call(&moved.former).header("idempotency-key", "k");
    let request = tokio::spawn(answered(keyed));
    moved.former.counts("satchel_forwarding_waiting", 1).await;
    moved.end();
    assert_eq!(request.await.unwrap(), (200, "next: hello".to_owned()));
    assert_eq!(moved.counts(), (2, 1));
}

#[tokio::test]
async fn rule_32_a_keyed_request_that_finds_no_next_owner_has_an_unknown_outcome() {
    let moved = Move::begin(Answer::Stopping).await;
    let keyed = call(&moved.former).header("idempotency-key", "k");
    let (status, code) = error(keyed).await;
    assert_eq!((status, code.as_str()), (503, "unknown"));
    let moved = Move::begin(Answer::NotTaken).await;
    let (status, code) = error(call(&moved.former)).await;
    assert_eq!((status, code.as_str()), (503, "no_owner"));
}

#[tokio::test]
async fn a_forwarded_request_that_was_not_taken_goes_back_to_the_process_that_forwarded_it() {
    let moved = Move::begin(Answer::NotTaken).await;
    // The client reached the process that owns next.
    let request = tokio::spawn(answered(call(&moved.next)));
    moved.next.counts("satchel_forwarding_waiting", 1).await;
    assert_eq!(moved.next.events("not_mine"), 1);
    moved.end();
    assert_eq!(request.await.unwrap(), (200, "next: hello".to_owned()));
    assert_eq!(moved.counts(), (1, 1));
}

#[tokio::test]
async fn any_other_answer_of_the_partition_is_the_clients() {
    let moved = Move::begin(Answer::Overloaded).await;
    let keyed = call(&moved.former).header("idempotency-key", "k");
    let (status, code) = error(keyed).await;
    assert_eq!((status, code.as_str()), (503, "overloaded"));
    assert_eq!(moved.counts(), (1, 0));
}
