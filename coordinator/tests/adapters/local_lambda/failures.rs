//! Misbehaving handlers: the request fails with a reason, and the next one is served.

use super::*;

/// Invokes with `event`, and checks that the function still serves afterwards.
async fn outcome_of(event: Value, timeout: Duration) -> (Fixture, Result<Value, InvokeError>, u64) {
    let fixture = Fixture::new();
    let lambda = LocalLambda::start(fixture.python()).await.unwrap();
    let outcome = invoke_within(&lambda, event, timeout).await;
    let after = invoke(&lambda, json!({"do": "echo", "say": 7})).await;
    assert_eq!(after.unwrap()["said"], 7);
    let foreign_answers = lambda.describe().foreign_answers;
    lambda.shutdown().await;
    (fixture, outcome, foreign_answers)
}

#[tokio::test]
async fn an_error_of_the_handler_is_passed_on() {
    let (_, outcome, _) = outcome_of(json!({"do": "raise"}), LONG).await;
    assert_eq!(
        function_error(outcome.unwrap_err()),
        json!({
            "errorType": "ValueError",
            "errorMessage": "no such thing",
            "stackTrace": ["line 1"],
        })
    );
    let (_, outcome, _) = outcome_of(json!({"do": "raise without json"}), LONG).await;
    assert_eq!(
        function_error(outcome.unwrap_err()),
        json!({"errorType": "Custom.Kind", "errorMessage": "oops"})
    );
}

#[tokio::test]
async fn a_handler_that_exits_fails_its_request_with_its_status_and_last_line() {
    let (_, outcome, _) = outcome_of(json!({"do": "exit"}), LONG).await;
    assert_eq!(
        function_error(outcome.unwrap_err()),
        json!({
            "errorType": "Runtime.ExitError",
            "errorMessage": concat!(
                "the handler process ended while it held the request: exit status: 3; ",
                "its last line: about to give up"
            ),
        })
    );
}

#[tokio::test]
async fn an_answer_sent_before_the_handler_exits_counts() {
    let (_, outcome, _) = outcome_of(json!({"do": "answer and exit"}), LONG).await;
    assert_eq!(outcome, Ok(json!("last")));
}

#[tokio::test]
async fn a_handler_that_hangs_is_killed_and_replaced() {
    let (_, outcome, _) = outcome_of(json!({"do": "hang"}), Duration::from_millis(200)).await;
    assert_eq!(
        function_error(outcome.unwrap_err()),
        json!({"errorType": "Sandbox.Timedout", "errorMessage": "timed out after 200ms"})
    );
}

#[tokio::test]
async fn the_answer_of_a_handler_is_passed_on_unchanged() {
    let fixture = Fixture::new();
    let lambda = LocalLambda::start(fixture.python()).await.unwrap();
    let event = Bytes::from(json!({"do": "garbage"}).to_string());
    let answer = lambda.invoke(event, LONG).await.unwrap();
    assert_eq!(answer, b"\xff\x00 not json".as_slice());
    lambda.shutdown().await;
}

#[tokio::test]
async fn answers_to_requests_of_others_are_rejected_and_counted() {
    let (_, outcome, foreign_answers) =
        outcome_of(json!({"do": "answer wrongly first"}), LONG).await;
    assert_eq!(outcome, Ok(json!([400, "InvalidRequestID", 400])));
    assert_eq!(foreign_answers, 2);
    let (_, outcome, foreign_answers) = outcome_of(json!({"do": "answer twice"}), LONG).await;
    assert_eq!(outcome, Ok(json!("first")));
    assert_eq!(foreign_answers, 1);
}

#[tokio::test]
async fn a_handler_has_one_request_at_a_time() {
    let (_, outcome, _) = outcome_of(json!({"do": "ask twice"}), LONG).await;
    assert_eq!(outcome, Ok(json!([403, "InvalidStateTransition"])));
}

#[tokio::test]
async fn an_unknown_call_of_the_runtime_api_gets_404() {
    let (_, outcome, _) = outcome_of(json!({"do": "no such call"}), LONG).await;
    assert_eq!(outcome, Ok(json!(404)));
}

#[tokio::test]
async fn an_answer_that_is_too_large_fails_the_request_and_the_handler_gets_413() {
    let (fixture, outcome, _) = outcome_of(json!({"do": "too large"}), LONG).await;
    assert_eq!(
        function_error(outcome.unwrap_err()),
        json!({
            "errorType": "Function.ResponseSizeTooLarge",
            "errorMessage": concat!(
                "Response payload size (7000002 bytes) exceeded maximum allowed ",
                "payload size (6291556 bytes)."
            ),
        })
    );
    fixture.shows("too large: 413 RequestEntityTooLarge").await;
}

#[tokio::test]
async fn a_request_that_is_too_large_is_not_sent() {
    let fixture = Fixture::new();
    let lambda = LocalLambda::start(fixture.python()).await.unwrap();
    let outcome = lambda.invoke(vec![b' '; 6_291_457].into(), LONG).await;
    assert_eq!(
        outcome,
        Err(InvokeError::RequestTooLarge { bytes: 6_291_457 })
    );
    lambda.shutdown().await;
}

#[tokio::test]
async fn a_handler_that_does_not_start_makes_the_function_unreachable_with_the_reason() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path("handler.py"), "import no_such_module").unwrap();
    let lambda = LocalLambda::start(fixture.python()).await.unwrap();
    let outcome = invoke(&lambda, json!({"do": "echo"})).await;
    let why = unreachable(outcome.unwrap_err());
    assert!(
        why.starts_with("the handler ended before it asked for a request: exit status: 1")
            && why.contains("No module named 'no_such_module'"),
        "{why}"
    );
    // After the fix it serves, without a restart.
    std::fs::write(fixture.path("handler.py"), include_str!("handler.py")).unwrap();
    let begun = std::time::Instant::now();
    while let Err(error) = invoke(&lambda, json!({"do": "echo"})).await {
        unreachable(error);
        assert!(begun.elapsed() < LONG, "it does not serve");
    }
    lambda.shutdown().await;
}

#[tokio::test]
async fn an_init_error_is_the_reason() {
    let fixture = Fixture::new();
    let script = r#"
import http.client, os
connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
error = '{"errorType":"Runtime.Config","errorMessage":"no table"}'
connection.request("POST", "/2018-06-01/runtime/init/error", error)
print(connection.getresponse().status)
"#;
    std::fs::write(fixture.path("handler.py"), script).unwrap();
    let lambda = LocalLambda::start(fixture.python()).await.unwrap();
    let outcome = invoke(&lambda, json!({"do": "echo"})).await;
    assert_eq!(
        unreachable(outcome.unwrap_err()),
        r#"the handler does not start: {"errorType":"Runtime.Config","errorMessage":"no table"}"#
    );
    fixture.shows("| 202").await;
    lambda.shutdown().await;
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_named() {
    let fixture = Fixture::new();
    let error = LocalLambda::start(fixture.spec(command(["no-such-program", "x"])))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "function `greeter`: command `no-such-program` not found from {}",
            fixture.dir.path().display()
        )
    );
}
