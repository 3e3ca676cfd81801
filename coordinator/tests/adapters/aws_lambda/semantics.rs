//! Answers of dev's server equal those of AWS.

use super::*;

const HANDLER: &str = include_str!("../local_lambda/handler.py");

fn blob(event: &Value) -> Blob {
    Blob::new(event.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_and_errors_of_the_handler_are_both_200_and_differ_by_a_header() {
    let fixture = Fixture::of(HANDLER, 1, None).await;
    let client = fixture.client();
    let invoke = |name: &str| client.invoke().function_name(name);
    let echo = json!({"do": "echo", "say": "hello"});
    for name in [
        "greeter",
        "greeter:live",
        "000000000000:function:greeter",
        "arn:aws:lambda:eu-central-1:000000000000:function:greeter:live",
    ] {
        let answer = invoke(name).payload(blob(&echo)).send().await.unwrap();
        assert_eq!((answer.status_code(), answer.function_error()), (200, None));
        let said: Value = serde_json::from_slice(answer.payload().unwrap().as_ref()).unwrap();
        assert_eq!(said["said"], "hello", "{name}");
    }
    let answer = invoke("greeter").qualifier("live").payload(blob(&echo));
    assert_eq!(
        answer.send().await.unwrap().executed_version(),
        Some("live")
    );

    for (event, kind) in [
        (json!({"do": "raise"}), "ValueError"),
        (json!({"do": "exit"}), "Runtime.ExitError"),
        (json!({"do": "hang"}), "Sandbox.Timedout"),
    ] {
        let answer = invoke("greeter")
            .payload(blob(&event))
            .send()
            .await
            .unwrap();
        assert_eq!(
            (answer.status_code(), answer.function_error()),
            (200, Some("Unhandled"))
        );
        let error: Value = serde_json::from_slice(answer.payload().unwrap().as_ref()).unwrap();
        assert_eq!(error["errorType"], kind);
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trace_header_and_client_context_reach_the_handler() {
    let fixture = Fixture::of(HANDLER, 1, None).await;
    let trace = "Root=1-63441c4a-abcdef012345678912345678";
    let request = fixture
        .client()
        .invoke()
        .function_name("greeter")
        .client_context("eyJhIjoxfQ==")
        .payload(blob(&json!({"do": "describe"})))
        .customize()
        .mutate_request(move |request| {
            request.headers_mut().insert("x-amzn-trace-id", trace);
        });
    let answer = request.send().await.unwrap();
    let seen: Value = serde_json::from_slice(answer.payload().unwrap().as_ref()).unwrap();
    let header = |name: &str| {
        let headers = seen["headers"].as_object().unwrap();
        let found = headers
            .iter()
            .find(|(header, _)| header.eq_ignore_ascii_case(name));
        found
            .and_then(|(_, value)| value.as_str())
            .map(str::to_owned)
    };
    assert_eq!(header("lambda-runtime-trace-id").as_deref(), Some(trace));
    assert_eq!(
        header("lambda-runtime-client-context").as_deref(),
        Some("eyJhIjoxfQ==")
    );
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejections_have_the_status_and_the_code_of_aws() {
    let fixture = Fixture::of(HANDLER, 1, None).await;
    let client = fixture.client();
    let echo = || blob(&json!({"do": "echo"}));
    let six_mb = 6_291_456;
    let of = |size: usize| Blob::new(format!("\"{}\"", "a".repeat(size - 2)));
    let invoke = || client.invoke().function_name("greeter");
    let event = || invoke().invocation_type(InvocationType::Event);
    for (request, status, code) in [
        (
            client.invoke().function_name("absent").payload(echo()),
            404,
            "ResourceNotFoundException",
        ),
        (
            invoke().qualifier("7").payload(echo()),
            404,
            "ResourceNotFoundException",
        ),
        (
            invoke().payload(of(six_mb + 1)),
            413,
            "RequestTooLargeException",
        ),
        (
            event().payload(of((1 << 20) + 1)),
            413,
            "RequestTooLargeException",
        ),
        (
            invoke().payload(Blob::new("{\"do\":")),
            400,
            "InvalidRequestContentException",
        ),
    ] {
        let refused = request.send().await.unwrap_err();
        let found = refused.raw_response().map(|raw| raw.status().as_u16());
        assert_eq!((found, refused.code()), (Some(status), Some(code)));
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_accepted_immediately_and_a_dry_run_invokes_nothing() {
    let fixture = Fixture::of(HANDLER, 1, None).await;
    let client = fixture.client();
    let invoke = |kind| {
        client
            .invoke()
            .function_name("greeter")
            .invocation_type(kind)
    };
    let checked = invoke(InvocationType::DryRun).send().await.unwrap();
    assert_eq!(checked.status_code(), 204);
    let begun = std::time::Instant::now();
    let slow = blob(&json!({"do": "hang"}));
    let taken = invoke(InvocationType::Event).payload(slow).send().await;
    assert_eq!(taken.unwrap().status_code(), 202);
    // The handler hangs for two seconds: the request did not wait for it.
    assert!(begun.elapsed() < Duration::from_secs(2));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_over_the_concurrency_limit_get_429() {
    let fixture = Fixture::of(HANDLER, 2, Some(1)).await;
    let client = fixture.client();
    let hanging = client
        .invoke()
        .function_name("greeter")
        .payload(blob(&json!({"do": "hang"})));
    let hanging = tokio::spawn(async move { hanging.send().await });
    while fixture.api.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The first request occupies its slot when it is counted, or a moment later.
    let mut throttled = None;
    while throttled.is_none() && !hanging.is_finished() {
        let second = client
            .invoke()
            .function_name("greeter")
            .payload(blob(&json!({"do": "echo"})));
        throttled = second.send().await.err();
    }
    let throttled = throttled.expect("the second is rejected while the first hangs");
    assert_eq!(throttled.code(), Some("TooManyRequestsException"));
    let status = throttled.raw_response().map(|raw| raw.status().as_u16());
    assert_eq!(status, Some(429));
    assert!(hanging.await.unwrap().is_ok());
    fixture.stop().await;
}
