//! Bundles through the invoker: its outcome for every way in which a handler answers or does not
//! answer.

use satchel::dev::lambda::LocalLambdaInvoker;
use satchel::invoker::Invoker;
use satchel_engine::address::{Address, FunctionType};
use satchel_engine::invocation::{
    AttemptId, Batch, BatchMessage, BatchState, Bundle, BundleId, BundleOutcome, EndpointIndex,
    Failure, FailureKind,
};
use satchel_protocol::reqreply::{FromFunction, TypedValue, from_function::Response};

use super::*;

fn attempt(number: u64) -> AttemptId {
    AttemptId {
        partition: 0,
        epoch: 1,
        number,
    }
}

fn batch(number: u64, message: &str, state: Vec<BatchState>) -> Arc<Batch> {
    Arc::new(Batch {
        declarations: [].into(),
        attempt: attempt(number),
        target: Address::new(FunctionType::new("example", "greeter"), "alice"),
        state,
        bytes: message.len(),
        messages: vec![BatchMessage {
            caller: Some(Address::new(FunctionType::new("satchel", "caller"), "1")),
            argument: TypedValue {
                typename: "satchel/json".into(),
                has_value: true,
                value: message.to_owned().into(),
            },
            id: "m1".into(),
            failed_attempts: 0,
            headers: None,
            trace: None,
        }],
    })
}

fn bundle(batches: Vec<Arc<Batch>>) -> Bundle {
    Bundle {
        id: BundleId(7),
        endpoint: EndpointIndex(0),
        batches,
        new_connection: false,
    }
}

/// Sends bundles to a Python handler that misbehaves as the message of the first batch says.
async fn outcomes_of(messages: &[&str], timeout: Duration) -> Vec<BundleOutcome> {
    let fixture = Fixture::new();
    std::fs::write(
        fixture.path("handler.py"),
        include_str!("bundle_handler.py"),
    )
    .unwrap();
    let lambda = Arc::new(LocalLambda::start(fixture.python()).await.unwrap());
    let invoker = Invoker::Local(Box::new(LocalLambdaInvoker::new(
        Arc::clone(&lambda),
        timeout,
    )));
    let mut outcomes = Vec::new();
    for message in messages {
        let bundle = bundle(vec![batch(1, message, vec![]), batch(2, "hello", vec![])]);
        outcomes.push(invoker.invoke(bundle).await);
    }
    lambda.shutdown().await;
    outcomes
}

fn failed(outcome: &BundleOutcome, kind: FailureKind, beginning: &str) {
    match outcome {
        BundleOutcome::Failed(failure) if failure.kind == kind => {
            assert!(failure.message.starts_with(beginning), "{failure}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_rejected_batch_fails_alone() {
    let answered = BundleOutcome::Answered(vec![
        (
            attempt(1),
            Err(Failure::new(FailureKind::Function, "function: I will not")),
        ),
        (attempt(2), Ok(FromFunction::default())),
    ]);
    assert_eq!(outcomes_of(&["refuse"], LONG).await, [answered]);
}

#[tokio::test]
async fn every_misbehaviour_has_its_reason_and_the_next_bundle_is_served() {
    let outcomes = outcomes_of(
        &["garbage", "other bundle", "too large", "exit", "hello"],
        LONG,
    )
    .await;
    let kind = FailureKind::Ambiguous;
    failed(
        &outcomes[0],
        kind,
        "the answer cannot be read: the payload is not a bundle: ",
    );
    failed(
        &outcomes[1],
        kind,
        "the handler answered for another bundle: `b0` instead of `b7`",
    );
    failed(
        &outcomes[2],
        kind,
        "Function.ResponseSizeTooLarge: Response payload size",
    );
    failed(
        &outcomes[3],
        kind,
        "Runtime.ExitError: the handler process ended while it held the request",
    );
    assert_eq!(
        outcomes[4],
        BundleOutcome::Answered(vec![
            (attempt(1), Ok(FromFunction::default())),
            (attempt(2), Ok(FromFunction::default())),
        ])
    );
}

#[tokio::test]
async fn a_handler_that_hangs_times_out() {
    let outcomes = outcomes_of(&["hang"], Duration::from_millis(300)).await;
    failed(
        &outcomes[0],
        FailureKind::Ambiguous,
        "Sandbox.Timedout: timed out after 300ms",
    );
}

#[tokio::test]
async fn requests_that_are_too_large_and_stopped_handlers_are_distinguished() {
    let fixture = Fixture::new();
    let lambda = Arc::new(LocalLambda::start(fixture.python()).await.unwrap());
    let invoker = LocalLambdaInvoker::new(Arc::clone(&lambda), LONG);
    let large = "x".repeat(5_000_000);
    let outcome = invoker.invoke(bundle(vec![batch(1, &large, vec![])])).await;
    failed(
        &outcome,
        FailureKind::RequestTooLarge,
        "the request of 1 batches has ",
    );
    lambda.shutdown().await;
    let outcome = invoker
        .invoke(bundle(vec![batch(1, "hello", vec![])]))
        .await;
    failed(
        &outcome,
        FailureKind::Unavailable,
        "the handlers were stopped",
    );
}

#[tokio::test]
async fn a_real_lambda_binary_is_built_and_answers() {
    let fixture = Fixture::new();
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/greeter");
    let spec = FunctionSpec {
        dir,
        ..fixture.spec(Program::Cargo {
            bin: "greeter".into(),
            release: false,
        })
    };
    let lambda = Arc::new(LocalLambda::start(spec).await.unwrap());
    let invoker = LocalLambdaInvoker::new(Arc::clone(&lambda), LONG);
    let message = r#"{"name":"Alice"}"#;

    // The function names the states that it needs, and runs once it has them.
    let outcome = invoker
        .invoke(bundle(vec![batch(1, message, vec![])]))
        .await;
    let BundleOutcome::Answered(results) = outcome else {
        panic!("{outcome:?}");
    };
    let [
        (
            _,
            Ok(FromFunction {
                response: Some(Response::IncompleteInvocationContext(incomplete)),
            }),
        ),
    ] = results.as_slice()
    else {
        panic!("{results:?}");
    };
    let names: Vec<_> = incomplete
        .missing_values
        .iter()
        .map(|spec| spec.state_name.as_str())
        .collect();
    assert_eq!(names, ["seen"]);

    let state = vec![BatchState {
        name: "seen".into(),
        value: None,
    }];
    let outcome = invoker.invoke(bundle(vec![batch(2, message, state)])).await;
    let BundleOutcome::Answered(results) = outcome else {
        panic!("{outcome:?}");
    };
    let [
        (
            answered,
            Ok(FromFunction {
                response: Some(Response::InvocationResult(result)),
            }),
        ),
    ] = results.as_slice()
    else {
        panic!("{results:?}");
    };
    assert_eq!(*answered, attempt(2));
    assert_eq!(result.state_mutations[0].state_name, "seen");
    let reply = result.outgoing_messages[0].argument.as_ref().unwrap();
    let reply: Value = serde_json::from_slice(&reply.value).unwrap();
    assert_eq!(reply["seen"], 1);
    lambda.shutdown().await;
    assert_eq!(lambda.describe().processes, []);
}
