//! Stories of requests from outside.

use std::sync::LazyLock;
use std::time::Duration;

use satchel_engine::address::FunctionType;
use satchel_engine::message::{IdSource, MessageId};
use satchel_engine::output::TimerView;
use satchel_engine::partition::Generation;
use satchel_engine::placement::{DEFAULT_KEY_GROUPS, PartitionMap};
use satchel_protocol::types::typed_value;

use super::*;

fn requests(capacity: usize) -> (Requests, mpsc::Receiver<Input>, Metrics) {
    let (inputs, loop_side) = mpsc::channel(capacity);
    let metrics = Metrics::new();
    let requests = Requests::new(metrics.clone());
    requests.attach(0, inputs);
    (requests, loop_side, metrics)
}

static ALICE: LazyLock<Address> = LazyLock::new(alice);

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
            (Requests::new_id(), Verb::Call),
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
        (Requests::new_id(), Verb::Send),
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
    let mut asking = Box::pin(requests.ask(&ALICE, inspect));
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
    let mut asking = Box::pin(requests.ask(&ALICE, inspect));
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
    let mut first = Box::pin(requests.ask(&ALICE, inspect));
    assert!(futures::poll!(&mut first).is_pending());
    let mut second = Box::pin(requests.ask(&ALICE, inspect));
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
    let mut waiting = Box::pin(requests.ask(&ALICE, inspect));
    assert!(futures::poll!(&mut waiting).is_pending());
    drop(loop_side);
    let told = tokio::time::timeout(Duration::from_secs(60), waiting);
    assert_eq!(told.await, Ok(Answer::Stopping));
    assert_eq!(requests.ask(&ALICE, inspect).await, Answer::NotTaken);
}

#[tokio::test]
async fn an_answer_given_just_before_the_loop_ends_is_delivered() {
    let (requests, mut loop_side, _) = requests(8);
    let mut waiting = Box::pin(requests.ask(&ALICE, inspect));
    assert!(futures::poll!(&mut waiting).is_pending());
    let Some(Input::Administered { request, .. }) = loop_side.recv().await else {
        panic!("the question came first");
    };
    requests.answer(request, Answer::Done);
    drop(loop_side);
    assert_eq!(waiting.await, Answer::Done);
}

/// Requests to two partitions, each of which answers questions as `answer` says.
fn divided(answer: fn(u32, &Administration) -> Answer) -> Requests {
    let (requests, first, _) = requests(8);
    let (other, second) = mpsc::channel(8);
    let config = Config {
        generation: Some(Generation {
            number: 1,
            partitions: PartitionMap::even(DEFAULT_KEY_GROUPS, 2),
        }),
        ..Config::default()
    };
    requests.divide(config);
    requests.attach(1, other);
    for (partition, mut inputs) in [(0, first), (1, second)] {
        let requests = requests.clone();
        tokio::spawn(async move {
            while let Some(input) = inputs.recv().await {
                if let Input::Administered {
                    request,
                    administration,
                } = input
                {
                    requests.answer(request, answer(partition, &administration));
                }
            }
        });
    }
    requests
}

fn timer(due_ms: u64) -> TimerView {
    TimerView {
        owner: alice(),
        due_ms,
        target: alice(),
        typename: "t".to_owned(),
        token: None,
    }
}

#[tokio::test]
async fn the_timers_of_all_partitions_are_listed_by_due_time() {
    let requests = divided(|partition, asked| match (partition, asked) {
        (0, Administration::ListTimers { limit: 3, .. }) => {
            Answer::Timers(vec![timer(1), timer(5)])
        }
        (1, Administration::ListTimers { limit: 3, .. }) => {
            Answer::Timers(vec![timer(3), timer(7)])
        }
        other => panic!("{other:?} was not asked"),
    });
    let asked = Administration::ListTimers {
        function: None,
        limit: 3,
    };
    let listed = vec![timer(1), timer(3), timer(5)];
    assert_eq!(requests.administer(asked).await, Answer::Timers(listed));
}

#[tokio::test]
async fn a_change_of_the_application_is_done_if_any_partition_did_it_and_failed_if_one_failed() {
    let nothing = || Answer::NotFound("nothing".to_owned());
    let ingress: Arc<str> = "example/in".into();
    let resume = Administration::ResumeIngress(ingress);
    let requests = divided(|partition, _| match partition {
        0 => Answer::NotFound("nothing".to_owned()),
        _ => Answer::Done,
    });
    assert_eq!(requests.administer(resume.clone()).await, Answer::Done);
    let requests = divided(|_, _| Answer::NotFound("nothing".to_owned()));
    assert_eq!(requests.administer(resume.clone()).await, nothing());
    let requests = divided(|partition, _| match partition {
        0 => Answer::Done,
        _ => Answer::Stopping,
    });
    assert_eq!(requests.administer(resume).await, Answer::Stopping);
}

#[tokio::test]
async fn a_partition_of_another_process_is_asked_there_and_takes_no_call_here() {
    let requests = divided(|_, _| Answer::Done);
    requests.detach(1);
    let asked: Arc<Mutex<Vec<u32>>> = Arc::default();
    let seen = Arc::clone(&asked);
    requests.ask_elsewhere(Box::new(move |partition, _| {
        seen.lock().unwrap().push(partition);
        Box::pin(async { Answer::Done })
    }));
    let ingress: Arc<str> = "example/in".into();
    let resume = Administration::ResumeIngress(ingress);
    assert_eq!(requests.administer(resume.clone()).await, Answer::Done);
    assert_eq!(*asked.lock().unwrap(), [1]);
    let here = requests.administer_here(1, resume).await;
    assert_eq!(here, Answer::Elsewhere { partition: 1 });
}

#[tokio::test]
async fn a_dead_letter_is_found_in_whichever_partition_has_it() {
    let id = MessageId::derive(IdSource::Request(&[7; 16]), &typed_value("t", &b"1"[..]));
    let requests = divided(|partition, _| match partition {
        0 => Answer::NotFound("nothing".to_owned()),
        _ => Answer::Done,
    });
    let retry = Administration::RetryDeadLetter(id);
    assert_eq!(requests.administer(retry).await, Answer::Done);
}
