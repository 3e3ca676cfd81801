//! The invoker of `satchel run`: its outcome for every way in which Lambda answers or does not
//! answer.

use satchel::invoker::Invoker;
use satchel::invoker::aws_lambda::AwsLambdaInvoker;
use satchel_aws::lambda::LambdaFunction;
use satchel_engine::address::{Address, FunctionType};
use satchel_engine::invocation::{
    AttemptId, Batch, BatchMessage, Bundle, BundleId, BundleOutcome, EndpointIndex, Failure,
    FailureKind,
};
use satchel_protocol::reqreply::TypedValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

const HANDLER: &str = include_str!("../local_lambda/bundle_handler.py");

fn bundle(message: String) -> Bundle {
    let attempt = AttemptId {
        partition: 0,
        epoch: 1,
        number: 1,
    };
    Bundle {
        id: BundleId(7),
        endpoint: EndpointIndex(0),
        new_connection: false,
        batches: vec![Arc::new(Batch {
            attempt,
            target: Address::new(FunctionType::new("example", "greeter"), "alice"),
            declarations: [].into(),
            state: Vec::new(),
            bytes: message.len(),
            messages: vec![BatchMessage {
                caller: None,
                argument: TypedValue {
                    typename: "satchel/json".into(),
                    has_value: true,
                    value: message.into(),
                },
                id: "m1".into(),
                failed_attempts: 0,
                headers: None,
                trace: None,
            }],
        })],
    }
}

fn invoker(sdk: &SdkConfig, name: &str, timeout: Duration) -> Invoker {
    let function = LambdaFunction::new(sdk, name, None, timeout);
    Invoker::AwsLambda(AwsLambdaInvoker::new(function))
}

async fn whole_failure(sdk: &SdkConfig, name: &str, message: &str) -> Failure {
    let invoker = invoker(sdk, name, Duration::from_secs(30));
    match invoker.invoke(bundle(message.to_owned())).await {
        BundleOutcome::Failed(failure) => failure,
        BundleOutcome::Answered(results) => panic!("{results:?}"),
    }
}

async fn failure(sdk: &SdkConfig, name: &str, message: &str) -> (FailureKind, String) {
    let failure = whole_failure(sdk, name, message).await;
    (failure.kind, failure.message)
}

/// Answers every request with these bytes.
async fn server(answer: String) -> (SdkConfig, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut request = vec![0; 1 << 16];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (sdk(&format!("http://{address}")), serving)
}

fn rejection(status: u16, code: &str) -> String {
    let body = json!({"Type": "User", "message": "so it is"}).to_string();
    let length = body.len();
    format!(
        "HTTP/1.1 {status} X\r\nx-amzn-errortype: {code}\r\nx-amzn-requestid: r-1\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_is_answered_by_a_real_handler() {
    let fixture = Fixture::of(HANDLER, 1, None).await;
    let invoker = invoker(&fixture.sdk, "greeter", Duration::from_secs(30));
    let outcome = invoker.invoke(bundle("echo".to_owned())).await;
    let BundleOutcome::Answered(results) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(results.len(), 1);
    assert_eq!(results[0].0.to_string(), "0-1-1");
    fixture.stop().await;
}

#[tokio::test]
async fn rejections_by_the_service_are_throttled_or_unavailable() {
    use FailureKind::{RequestTooLarge, Throttled, Unavailable};
    for (status, code, kind) in [
        (429, "TooManyRequestsException", Throttled),
        (502, "EC2ThrottledException", Throttled),
        (502, "ENILimitReachedException", Throttled),
        (502, "SubnetIPAddressLimitReachedException", Throttled),
        (409, "ResourceConflictException", Throttled),
        (503, "ServiceUnavailable", Throttled),
        (500, "ServiceException", Unavailable),
        (403, "AccessDeniedException", Unavailable),
        (404, "ResourceNotFoundException", Unavailable),
        (502, "KMSAccessDeniedException", Unavailable),
        (413, "RequestTooLargeException", RequestTooLarge),
        (
            413,
            "SerializedRequestEntityTooLargeException",
            RequestTooLarge,
        ),
    ] {
        let (sdk, _serving) = server(rejection(status, code)).await;
        let (found, message) = failure(&sdk, "greeter", "echo").await;
        assert_eq!(found, kind, "{code}");
        assert!(
            message.contains(code) && message.contains("r-1"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_throttled_request_has_the_time_that_lambda_asks_to_wait() {
    for (status, code, asked_ms) in [
        (429, "TooManyRequestsException", Some(7_000)),
        (500, "ServiceException", None),
    ] {
        let answer = rejection(status, code);
        let answer = answer.replacen("\r\n", "\r\nretry-after: 7\r\n", 1);
        let (sdk, _serving) = server(answer).await;
        let failure = whole_failure(&sdk, "greeter", "echo").await;
        assert_eq!(failure.retry_after_ms, asked_ms, "{failure:?}");
    }
}

#[tokio::test]
async fn a_refused_connection_is_unavailable_and_a_truncated_answer_is_ambiguous() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let closed = sdk(&format!("http://{address}"));
    let (kind, message) = failure(&closed, "greeter", "echo").await;
    assert_eq!(kind, FailureKind::Unavailable, "{message}");

    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"satchel\":1".to_owned();
    let (sdk, _serving) = server(cut).await;
    let (kind, message) = failure(&sdk, "greeter", "echo").await;
    assert_eq!(kind, FailureKind::Ambiguous, "{message}");
}

#[tokio::test]
async fn a_request_that_is_too_large_is_rejected_before_it_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = sdk(&format!("http://{}", listener.local_addr().unwrap()));
    let (kind, message) = failure(&closed, "greeter", &"a".repeat(6 << 20)).await;
    assert_eq!(kind, FailureKind::RequestTooLarge);
    assert!(
        message.contains("Lambda accepts at most 6291456"),
        "{message}"
    );
}
