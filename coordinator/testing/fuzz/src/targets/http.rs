//! Requests to the traffic port: path, query, headers and body, as the HTTP parser yields them.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use satchel::http::{Guard, Port, Traffic, TrafficLimits, surface, traffic_routes};
use satchel::metrics::Metrics;
use satchel::readiness::Readiness;
use satchel::requests::Requests;
use tokio::sync::watch;
use tower::ServiceExt;

use crate::Target;

/// Method, path, headers, an empty line, body.
pub(super) const REQUEST: Target = Target {
    name: "http-request",
    dictionary: &[
        "POST /call/",
        "GET ",
        "/send/",
        "?timeout=",
        "&",
        "%2F",
        "%00",
        "%",
        "satchel-type: ",
        "content-type: application/vnd.",
        "content-type: application/json",
        "idempotency-key: ",
        "host: ",
        "origin: http://",
        "sec-fetch-site: cross-site",
        "\n",
        "\n\n",
        "{}",
        "\"\\ud800\"",
        "/streams/",
        "example/greeter/alice",
    ],
    seeds: Vec::new,
    decode: |input| {
        let Some(request) = request(input) else {
            return "not a request".to_owned();
        };
        let status = answer(request);
        // No client input may cause a server error. No application answers here, so a valid request
        // gets 503.
        assert!(
            status.is_client_error() || status == StatusCode::SERVICE_UNAVAILABLE,
            "answered with {status}"
        );
        // As a word, because digits are ignored.
        format!("{:?}", status.canonical_reason())
    },
};

fn request(input: &[u8]) -> Option<Request<Body>> {
    let end = input.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = input.split_at(end.unwrap_or(input.len()));
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut words = lines.next()?.splitn(2, |byte| *byte == b' ');
    let mut request = Request::builder().method(words.next()?).uri(words.next()?);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        request = request.header(&line[..colon], line[colon + 1..].trim_ascii());
    }
    request
        .body(Body::from(body.get(2..).unwrap_or_default().to_vec()))
        .ok()
}

fn answer(request: Request<Body>) -> StatusCode {
    // No partition runs here, so every request to the application is answered with "stopping".
    let (_, readiness) = watch::channel(Readiness::Serving);
    let metrics = Metrics::new();
    let traffic = Traffic {
        requests: Requests::new(metrics.clone()),
        readiness,
        limits: TrafficLimits::default(),
    };
    let guard = Guard::of(([127, 0, 0, 1], 8080).into(), []);
    let router = surface(Port::Traffic, traffic_routes(traffic), guard, metrics);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without sockets and threads is only memory");
    match runtime.block_on(router.oneshot(request)) {
        Ok(response) => response.status(),
        Err(never) => match never {},
    }
}
