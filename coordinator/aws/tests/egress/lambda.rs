//! Asynchronous invocations, as the server receives them.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use satchel_aws::egress::destination::Destination;
use satchel_aws::egress::lambda::LambdaSettings;
use satchel_protocol::types::typed_value;
use tokio::net::TcpListener;

use crate::outbox::{Outbox, emission};

#[tokio::test]
async fn a_throttled_invocation_is_retried_and_an_invalid_one_is_refused() {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let requests = Arc::clone(&seen);
    let app = Router::new().fallback(move |request: Request| answer(requests.clone(), request));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let mut outbox = Outbox::default();
    let to = Destination::Lambda(LambdaSettings {
        function_name: "notify".to_owned(),
        qualifier: Some("live".to_owned()),
        envelope: false,
    });
    let mut running = outbox.start(&endpoint, to);
    for (number, value) in [(1, "{\"n\":1}"), (2, "\"broken\""), (3, "{\"n\":3}")] {
        let value = typed_value("example/n", value.as_bytes());
        outbox.emit(&running, emission(number, value));
    }
    outbox.until(&mut running, 0).await;
    running.kill().await;
    serving.abort();
    let mut seen = seen.lock().unwrap().clone();
    seen.sort();
    let path = "/2015-03-31/functions/notify/invocations?Qualifier=live Event";
    let expected = [
        format!("{path} \"broken\""),
        format!("{path} {{\"n\":1}}"),
        format!("{path} {{\"n\":1}}"),
        format!("{path} {{\"n\":3}}"),
    ];
    assert_eq!(seen, expected);
    let refused = &outbox.refused()[&2];
    assert_eq!(
        refused,
        "Lambda Invoke: InvalidRequestContentException: not for me"
    );
}

/// Throttles the first request for 1, and rejects the broken one.
async fn answer(seen: Arc<Mutex<Vec<String>>>, request: Request) -> Response {
    let kind = request.headers()["x-amz-invocation-type"].to_str().unwrap();
    let head = format!("{} {kind}", request.uri());
    let body = axum::body::to_bytes(request.into_body(), usize::MAX)
        .await
        .unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let line = format!("{head} {body}");
    let mut seen = seen.lock().unwrap();
    let is_first = !seen.contains(&line);
    seen.push(line);
    let refuse = |status, code: &str| {
        let body = "{\"Message\":\"not for me\",\"message\":\"not for me\"}".to_owned();
        (status, [("x-amzn-errortype", code.to_owned())], body).into_response()
    };
    match &*body {
        "{\"n\":1}" if is_first => {
            refuse(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException")
        }
        "\"broken\"" => refuse(StatusCode::BAD_REQUEST, "InvalidRequestContentException"),
        _ => StatusCode::ACCEPTED.into_response(),
    }
}
