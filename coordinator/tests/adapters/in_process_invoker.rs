//! The in-process invoker: batches run concurrently, each with its own outcome.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use satchel::invoker::Invoker;
use satchel::invoker::in_process::{InProcess, InProcessInvoker};
use satchel_engine::address::{Address, FunctionType};
use satchel_engine::invocation::{
    AttemptId, Batch, BatchOutcome, Bundle, BundleId, BundleOutcome, EndpointIndex, Failure,
    FailureKind,
};
use satchel_protocol::bundle::BatchError;
use satchel_protocol::reqreply::{FromFunction, ToFunction, to_function};
use tokio::sync::Barrier;

/// Behaves as the id of the address says.
struct Obedient {
    both_here: Barrier,
}

impl InProcess for Obedient {
    fn handle(&self, request: ToFunction) -> BoxFuture<'_, Result<FromFunction, BatchError>> {
        let Some(to_function::Request::Invocation(batch)) = request.request else {
            unreachable!("a batch is always an invocation");
        };
        let id = batch.target.unwrap().id;
        if id == "panics at once" {
            panic!("at once");
        }
        async move {
            match id.as_str() {
                "meets" => {
                    self.both_here.wait().await;
                    Ok(FromFunction::default())
                }
                "panics" => panic!("in the middle of {}", 7),
                "hangs" => std::future::pending().await,
                other => Err(BatchError {
                    kind: "function".into(),
                    message: format!("what is {other}?"),
                }),
            }
        }
        .boxed()
    }
}

fn attempt(number: u64) -> AttemptId {
    AttemptId {
        partition: 0,
        epoch: 1,
        number,
    }
}

async fn invoke<const N: usize>(
    ids: [&str; N],
    timeout: Duration,
) -> Vec<(AttemptId, BatchOutcome)> {
    let batches = (1..).zip(ids).map(|(number, id)| {
        Arc::new(Batch {
            attempt: attempt(number),
            target: Address::new(FunctionType::new("example", "obedient"), id),
            state: vec![],
            messages: vec![],
            bytes: 0,
        })
    });
    let bundle = Bundle {
        id: BundleId(1),
        endpoint: EndpointIndex(0),
        batches: batches.collect(),
    };
    let functions = Obedient {
        both_here: Barrier::new(2),
    };
    let invoker = Invoker::InProcess(InProcessInvoker::new(Arc::new(functions), timeout));
    match invoker.invoke(bundle).await {
        BundleOutcome::Answered(results) => results,
        failed @ BundleOutcome::Failed(_) => panic!("{failed:?}"),
    }
}

fn failure(message: &str) -> BatchOutcome {
    Err(Failure::new(FailureKind::Function, message))
}

#[tokio::test]
async fn batches_run_concurrently_and_fail_independently() {
    let ids = ["meets", "panics", "panics at once", "refuses", "meets"];
    assert_eq!(
        invoke(ids, Duration::from_secs(60)).await,
        [
            (attempt(1), Ok(FromFunction::default())),
            (attempt(2), failure("panic: in the middle of 7")),
            (attempt(3), failure("panic: at once")),
            (attempt(4), failure("function: what is refuses?")),
            (attempt(5), Ok(FromFunction::default())),
        ]
    );
}

#[tokio::test]
async fn a_batch_that_hangs_times_out() {
    assert_eq!(
        invoke(["hangs"], Duration::from_millis(50)).await,
        [(attempt(1), failure("timed out after 50ms"))]
    );
}
