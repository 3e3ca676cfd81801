//! The HTTP invoker against real servers: its requests, and its interpretation of every kind of
//! answer.

mod limits;

use std::future::IntoFuture as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use prost::Message as _;
use satchel::invoker::http::{HttpEndpoint, HttpInvoker};
use satchel_engine::address::{Address, FunctionType};
use satchel_engine::invocation::{
    AttemptId, Batch, BatchMessage, Bundle, BundleId, BundleOutcome, EndpointIndex, Failure,
    FailureKind, Rejection,
};
use satchel_protocol::reqreply::{FromFunction, ToFunction, TypedValue, from_function};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

fn attempt(number: u64) -> AttemptId {
    AttemptId {
        partition: 0,
        epoch: 1,
        number,
    }
}

pub(super) fn batch(number: u64) -> Arc<Batch> {
    Arc::new(Batch {
        attempt: attempt(number),
        target: Address::new(FunctionType::new("example", "greeter"), "alice"),
        declarations: [].into(),
        state: vec![],
        bytes: 100,
        messages: vec![BatchMessage {
            caller: None,
            argument: TypedValue {
                typename: "satchel/json".into(),
                has_value: true,
                value: Bytes::from_static(br#"{"name":"Alice"}"#),
            },
            id: "m1".into(),
            failed_attempts: 0,
            headers: None,
            trace: None,
        }],
    })
}

pub(super) fn bundle(batches: Vec<Arc<Batch>>) -> Bundle {
    Bundle {
        id: BundleId(1),
        endpoint: EndpointIndex(0),
        batches,
        new_connection: false,
    }
}

fn greeting() -> FromFunction {
    FromFunction {
        response: Some(from_function::Response::InvocationResult(
            from_function::InvocationResponse {
                outgoing_egresses: vec![from_function::EgressMessage {
                    egress_namespace: "example".into(),
                    egress_type: "greetings".into(),
                    ..Default::default()
                }],
                ..Default::default()
            },
        )),
    }
}

fn octets(body: impl Into<Body>) -> Response {
    ([("content-type", "application/octet-stream")], body.into()).into_response()
}

/// Serves `answer` to every request; returns `http://127.0.0.1:PORT`.
async fn serve(answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> String {
    let router = Router::new().fallback(async move || answer());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, router).into_future());
    url
}

fn quick(url: String) -> HttpEndpoint {
    HttpEndpoint {
        call: Duration::from_secs(30),
        payload_max_bytes: 1000,
        ..HttpEndpoint::new(url)
    }
}

async fn invoke(endpoint: HttpEndpoint) -> BundleOutcome {
    let invoker = HttpInvoker::new(&endpoint).unwrap();
    invoker.invoke(bundle(vec![batch(1)])).await
}

async fn failure(endpoint: HttpEndpoint) -> Failure {
    match invoke(endpoint).await {
        BundleOutcome::Failed(failure) => failure,
        answered => panic!("{answered:?}"),
    }
}

#[tokio::test]
async fn a_batch_is_posted_in_statefun_format_and_its_answer_is_read() {
    type Seen = (String, String, HeaderMap, ToFunction);
    let seen: Arc<Mutex<Option<Seen>>> = Arc::default();
    let record = Arc::clone(&seen);
    let router = Router::new().fallback(async move |request: Request| {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let to = ToFunction::decode(body).unwrap();
        let uri = parts.uri.to_string();
        *record.lock().unwrap() = Some((parts.method.to_string(), uri, parts.headers, to));
        octets(greeting().encode_to_vec())
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, router).into_future());

    let url = format!("http://{address}/functions/{{function.name}}/call");
    assert_eq!(
        invoke(quick(url)).await,
        BundleOutcome::Answered(vec![(attempt(1), Ok(greeting()))])
    );
    let (method, uri, headers, to) = seen.lock().unwrap().take().unwrap();
    assert_eq!(
        (method.as_str(), uri.as_str()),
        ("POST", "/functions/greeter/call")
    );
    assert_eq!(headers["content-type"], "application/octet-stream");
    assert_eq!(headers["accept"], "application/octet-stream");
    assert_eq!(to, batch(1).to_wire());
}

#[tokio::test]
async fn each_batch_is_one_request_with_its_own_outcome() {
    let url = serve(|| octets(greeting().encode_to_vec())).await;
    let invoker = HttpInvoker::new(&quick(url)).unwrap();
    assert_eq!(
        invoker.invoke(bundle(vec![batch(1), batch(2)])).await,
        BundleOutcome::Answered(vec![
            (attempt(1), Ok(greeting())),
            (attempt(2), Ok(greeting())),
        ])
    );
}

#[tokio::test]
async fn an_endpoint_can_be_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("functions.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let router = Router::new().route(
        "/at/greeter",
        axum::routing::post(async || octets(greeting().encode_to_vec())),
    );
    tokio::spawn(axum::serve(listener, router).into_future());
    let url = format!("http+unix://{}/at/{{function.name}}", socket.display());
    assert_eq!(
        invoke(quick(url)).await,
        BundleOutcome::Answered(vec![(attempt(1), Ok(greeting()))])
    );
}

#[tokio::test]
async fn statuses_429_and_503_mean_throttled() {
    for status in [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::SERVICE_UNAVAILABLE,
    ] {
        let url = serve(move || (status, "later").into_response()).await;
        let failure = failure(quick(url)).await;
        assert_eq!(
            failure,
            Failure::new(
                FailureKind::Throttled,
                format!("the endpoint answered {status}: later")
            )
        );
    }
}

#[tokio::test]
async fn a_throttled_request_has_the_time_that_the_answer_asks_to_wait() {
    for (retry_after, date, asked_ms) in [
        ("7", None, Some(7_000)),
        (
            "Sun, 06 Nov 1994 08:50:07 GMT",
            Some("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(30_000),
        ),
        ("soon", None, None),
    ] {
        let url = serve(move || {
            let mut answer = StatusCode::SERVICE_UNAVAILABLE.into_response();
            let headers = answer.headers_mut();
            headers.insert("retry-after", retry_after.parse().unwrap());
            if let Some(date) = date {
                headers.insert("date", date.parse().unwrap());
            }
            answer
        });
        let failure = failure(quick(url.await)).await;
        assert_eq!(failure.kind, FailureKind::Throttled);
        assert_eq!(failure.retry_after_ms, asked_ms, "{retry_after}");
    }
    // Nothing else waits: the dispatcher probes what is away.
    let url = serve(|| (StatusCode::BAD_GATEWAY, [("retry-after", "7")]).into_response()).await;
    let failure = failure(quick(url)).await;
    assert_eq!(failure.kind, FailureKind::Unavailable);
    assert_eq!(failure.retry_after_ms, None);
}

#[tokio::test]
async fn an_error_answer_is_reported_with_the_beginning_of_its_body() {
    let text = format!("\u{1b}[31mno such table\n{}", "ü".repeat(2_000));
    let url =
        serve(move || (StatusCode::INTERNAL_SERVER_ERROR, text.clone()).into_response()).await;
    let shown = format!("[31mno such table\n{}", "ü".repeat(500 - 18));
    assert_eq!(
        failure(quick(url)).await,
        Failure::new(
            FailureKind::Ambiguous,
            format!("the endpoint answered 500 Internal Server Error: {shown}")
        )
    );
    let url = serve(|| (StatusCode::BAD_GATEWAY, [0xff_u8, 0xfe].to_vec()).into_response()).await;
    let failure = failure(quick(url)).await;
    assert_eq!(failure.message, "the endpoint answered 502 Bad Gateway");
}

#[tokio::test]
async fn statuses_of_gateways_are_the_endpoints_trouble_and_400_and_500_may_be_either() {
    for (status, kind) in [
        (302, FailureKind::Unavailable),
        (307, FailureKind::Unavailable),
        (400, FailureKind::Ambiguous),
        (401, FailureKind::Unavailable),
        (403, FailureKind::Unavailable),
        (404, FailureKind::Unavailable),
        (408, FailureKind::Unavailable),
        (499, FailureKind::Unavailable),
        (500, FailureKind::Ambiguous),
        (501, FailureKind::Unavailable),
        (502, FailureKind::Unavailable),
        (504, FailureKind::Unavailable),
        (599, FailureKind::Unavailable),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let url = serve(move || (status, "no").into_response()).await;
        assert_eq!(failure(quick(url)).await.kind, kind, "{status}");
        // In StateFun's content type, the answer is the function's own.
        let own = move || {
            let mut answer = octets("no");
            *answer.status_mut() = status;
            answer
        };
        let url = serve(own).await;
        let failure = failure(quick(url)).await;
        assert_eq!(failure.kind, FailureKind::Function, "{status}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let url = serve(|| (StatusCode::FOUND, [("location", "/elsewhere")]).into_response()).await;
    assert_eq!(
        failure(quick(url)).await,
        Failure::new(FailureKind::Unavailable, "the endpoint answered 302 Found")
    );
}

#[tokio::test]
async fn a_rejection_for_good_is_an_answer_of_the_function_whatever_its_status() {
    for (status, code, index, expected) in [
        (500, "404", Some("2"), Rejection::new(Some(2), 404, "no")),
        (404, "404", None, Rejection::new(None, 404, "no")),
        (503, "true", Some("x"), Rejection::new(None, 500, "no")),
    ] {
        let url = serve(move || {
            let status = StatusCode::from_u16(status).unwrap();
            let mut response = (status, "no").into_response();
            let headers = response.headers_mut();
            headers.insert("satchel-terminal-error", code.parse().unwrap());
            if let Some(index) = index {
                headers.insert("satchel-terminal-index", index.parse().unwrap());
            }
            response
        })
        .await;
        assert_eq!(
            invoke(quick(url)).await,
            BundleOutcome::Answered(vec![(attempt(1), Err(Failure::terminal("no", expected)))])
        );
    }
    let url = serve(|| {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        let headers = response.headers_mut();
        headers.insert("satchel-terminal-error", "400".parse().unwrap());
        response
    })
    .await;
    let text = "the function rejected the message without a reason";
    let failure = Failure::terminal(text, Rejection::new(None, 400, text));
    assert_eq!(
        invoke(quick(url)).await,
        BundleOutcome::Answered(vec![(attempt(1), Err(failure))])
    );
}

#[tokio::test]
async fn status_413_means_request_too_large() {
    let url = serve(|| StatusCode::PAYLOAD_TOO_LARGE.into_response()).await;
    assert_eq!(failure(quick(url)).await.kind, FailureKind::RequestTooLarge);
}

#[tokio::test]
async fn invalid_answers_fail_with_a_reason() {
    for (answer, reason) in [
        (
            Response::new(Body::empty()),
            "the answer, with status 200 OK, has neither a body nor a content type",
        ),
        (octets("\u{7f}\u{7f}"), "the answer is not a FromFunction: "),
        (
            ([("content-type", "text/html")], "<p>Log in</p>").into_response(),
            "the answer has content type \"text/html\" instead of application/octet-stream",
        ),
        (
            octets(vec![0; 1001]),
            "the answer is larger than 1000 bytes (payload_max_bytes)",
        ),
        (
            octets(Body::from_stream(futures::stream::iter((0..50).map(
                |_| Ok::<_, std::io::Error>(Bytes::from_static(&[0; 100])),
            )))),
            "the answer is larger than 1000 bytes (payload_max_bytes)",
        ),
    ] {
        let once = Mutex::new(Some(answer));
        let once = Arc::new(once);
        let url = serve(move || once.lock().unwrap().take().expect("one request")).await;
        let failure = failure(quick(url)).await;
        // A gateway in the place of the function answers like that too, but not with too much.
        let kind = if reason.contains("payload_max_bytes") {
            FailureKind::Function
        } else {
            FailureKind::Ambiguous
        };
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(failure.message.starts_with(reason), "{failure}");
    }
}

#[tokio::test]
async fn an_empty_answer_with_a_content_type_has_no_effects() {
    let url = serve(|| octets(Body::empty())).await;
    assert_eq!(
        invoke(quick(url)).await,
        BundleOutcome::Answered(vec![(attempt(1), Ok(FromFunction::default()))])
    );
}

#[tokio::test]
async fn an_answer_may_omit_its_content_type() {
    let url = serve(|| Response::new(Body::from(greeting().encode_to_vec()))).await;
    assert_eq!(
        invoke(quick(url)).await,
        BundleOutcome::Answered(vec![(attempt(1), Ok(greeting()))])
    );
}

#[tokio::test]
async fn an_endpoint_that_refuses_connections_is_unavailable() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    for url in [
        format!("http://{address}/f?code=hunter2"),
        "http://functions.invalid/f?code=hunter2".to_owned(),
    ] {
        let failure = failure(quick(url)).await;
        assert_eq!(failure.kind, FailureKind::Unavailable, "{failure}");
        assert!(failure.message.starts_with("cannot connect: "), "{failure}");
        // Callers and dead letters receive this text; a query may contain a secret.
        assert!(!failure.message.contains("hunter2"), "{failure}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_answer_is_lost_and_during_it_is_ambiguous() {
    for (head, kind) in [
        ("", FailureKind::ConnectionLost),
        (
            "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n\
             content-length: 100\r\n\r\nbeginning",
            FailureKind::Ambiguous,
        ),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/f?code=hunter2", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = [0; 16];
            connection.read_exact(&mut request).await.unwrap();
            connection.write_all(head.as_bytes()).await.unwrap();
        });
        let failure = failure(quick(url)).await;
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(failure.message.starts_with("no answer: "), "{failure}");
        assert!(!failure.message.contains("hunter2"), "{failure}");
    }
}

#[tokio::test]
async fn a_request_that_needs_a_new_connection_does_not_take_an_idle_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/f", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let router = Router::new().fallback(async || octets(greeting().encode_to_vec()));
    let listener = axum::serve::ListenerExt::tap_io(listener, move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    tokio::spawn(axum::serve(listener, router).into_future());
    let invoker = HttpInvoker::new(&quick(url)).unwrap();
    for (new_connection, so_far) in [(false, 1), (false, 1), (true, 2), (true, 3), (false, 3)] {
        let bundle = Bundle {
            new_connection,
            ..bundle(vec![batch(1)])
        };
        let outcome = invoker.invoke(bundle).await;
        assert!(matches!(outcome, BundleOutcome::Answered(_)), "{outcome:?}");
        assert_eq!(connections.load(Ordering::Relaxed), so_far);
    }
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_in_time_is_timed_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let endpoint = HttpEndpoint {
        call: Duration::from_millis(100),
        ..HttpEndpoint::new(url)
    };
    let silent = async {
        let _connection = listener.accept().await.unwrap();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        failure = failure(endpoint) => assert_eq!(
            failure,
            Failure::new(FailureKind::TimedOut, "timed out after 100ms (call)")
        ),
        () = silent => unreachable!("the listener never answers"),
    }
}

#[test]
fn invalid_settings_are_named() {
    let error = HttpInvoker::new(&HttpEndpoint::new("ftp://functions")).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("not the URL of an endpoint: it must begin with http://"),
        "{error}"
    );

    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("authorities.pem");
    let endpoint = |trust_cacerts| HttpEndpoint {
        trust_cacerts: Some(trust_cacerts),
        ..HttpEndpoint::new("https://functions")
    };
    let error = HttpInvoker::new(&endpoint(missing.clone())).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&missing.display().to_string()),
        "{error}"
    );

    let garbage = dir.path().join("garbage.pem");
    std::fs::write(
        &garbage,
        "-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let error = HttpInvoker::new(&endpoint(garbage.clone())).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("{} is not a PEM file", garbage.display())),
        "{error}"
    );
}

/// Compresses with gzip.
fn gzip(data: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// An answer with a content encoding.
fn encoded(status: StatusCode, encoding: &'static str, body: Vec<u8>) -> Response {
    let headers = [
        ("content-type", "application/octet-stream"),
        ("content-encoding", encoding),
    ];
    (status, headers, body).into_response()
}

#[tokio::test]
async fn an_answer_that_is_compressed_with_gzip_is_unpacked_if_the_client_offered_it() {
    let offered: Arc<Mutex<Option<String>>> = Arc::default();
    let record = Arc::clone(&offered);
    let router = Router::new().fallback(async move |headers: HeaderMap| {
        let accepted = headers.get("accept-encoding").cloned();
        *record.lock().unwrap() = accepted.map(|it| it.to_str().unwrap().to_owned());
        encoded(StatusCode::OK, "gzip", gzip(&greeting().encode_to_vec()))
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, router).into_future());
    match invoke(quick(url)).await {
        BundleOutcome::Answered(answers) => {
            assert_eq!(answers, [(attempt(1), Ok(greeting()))]);
        }
        failed => panic!("{failed:?}"),
    }
    assert_eq!(offered.lock().unwrap().as_deref(), Some("gzip"));
}

#[tokio::test]
async fn a_compressed_answer_is_bounded_by_its_unpacked_size() {
    // A thousand times as large as its packed form.
    let packed = gzip(&vec![0; 64 << 20]);
    assert!(packed.len() < 80_000, "{}", packed.len());
    let url = serve(move || encoded(StatusCode::OK, "gzip", packed.clone())).await;
    let failure = failure(HttpEndpoint {
        payload_max_bytes: 1 << 20,
        ..quick(url)
    });
    let message = failure.await.message;
    assert!(
        message.contains("larger than 1048576 bytes (payload_max_bytes)"),
        "{message}"
    );
}

#[tokio::test]
async fn the_text_of_a_compressed_error_is_readable_and_other_encodings_are_refused_by_name() {
    let refused = serve(|| {
        let text = gzip(b"the shop is closed");
        encoded(StatusCode::INTERNAL_SERVER_ERROR, "gzip", text)
    })
    .await;
    let message = failure(quick(refused)).await.message;
    assert!(
        message.ends_with("500 Internal Server Error: the shop is closed"),
        "{message}"
    );

    let foreign = serve(|| encoded(StatusCode::OK, "br", vec![0x0b])).await;
    let message = failure(quick(foreign)).await.message;
    assert!(message.contains("content encoding \"br\""), "{message}");

    let broken = serve(|| encoded(StatusCode::OK, "gzip", b"no gzip".to_vec())).await;
    let failed = failure(quick(broken)).await;
    assert!(
        !failed.message.is_empty() && failed.message.len() < 300,
        "{failed:?}"
    );
}
