//! Tests with arbitrary bytes: a connection ends with or without an answer, and the server
//! continues.

use proptest::prelude::*;
use satchel_engine::input::Verb;

use super::*;

/// Echoes calls and answers every request.
fn echo(input: &Input) -> Option<Answer> {
    match input {
        Input::CallReceived(call) if call.verb == Verb::Call => {
            Some(Answer::Replied(call.argument.clone()))
        }
        Input::CallReceived(_) => Some(Answer::Accepted),
        _ => Some(Answer::Done),
    }
}

/// A path that looks like one of ours, with parts of any text, percent-encoded or not.
fn path() -> impl Strategy<Value = String> {
    let root = prop::sample::select(vec![
        "/call",
        "/call",
        "/send",
        "/send",
        "/api/addresses",
        "/api/dead-letters",
        "/api/timers",
        "/readyz",
        "",
    ]);
    let part = prop_oneof![
        "[a-z]{0,3}",
        "(%[0-9a-fA-F]{0,2}|[!-~]){0,4}",
        Just("%2F".to_owned()),
        Just("state".to_owned()),
        Just("..".to_owned()),
    ];
    let query = prop_oneof![
        6 => Just(String::new()),
        1 => "\\?timeout=[0-9a-z%]{0,4}",
        1 => "\\?[!-~]{0,8}",
    ];
    let any_parts = prop::collection::vec(part, 0..6).prop_map(|parts| {
        let parts = parts.iter().map(|part| format!("/{part}"));
        parts.collect::<String>()
    });
    let address = "/[a-z]{1,2}/[a-z]{1,2}/[a-z%/]{1,3}(||||/resume|/state/[a-z%]{1,3})";
    let parts = prop_oneof![1 => any_parts, 2 => address];
    (root, parts, query).prop_map(|(root, parts, query)| format!("{root}{parts}{query}"))
}

/// Headers that matter, with any bytes that a header may hold and some that it may not.
fn headers() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let name = prop::sample::select(vec![
        "host",
        "origin",
        "content-type",
        "satchel-type",
        "idempotency-key",
        "authorization",
        "sec-fetch-site",
        "expect",
        "transfer-encoding",
    ]);
    let value = prop_oneof![
        "[ -~]{0,12}".prop_map(String::into_bytes),
        "application/vnd\\.[ -~]{0,6}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..6),
    ];
    let header = (name, value).prop_map(|(name, value)| (name.to_owned(), value));
    prop_oneof![Just(Vec::new()), prop::collection::vec(header, 1..4)]
}

/// A request that may be well-formed.
fn plausible() -> impl Strategy<Value = Vec<u8>> {
    let method = prop::sample::select(vec!["GET", "POST", "POST", "POST", "PUT", "DELETE", "X"]);
    let body = prop_oneof![
        "[0-9]".prop_map(String::into_bytes),
        "[\\[\\]{}\",:0-9a-z]{0,12}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..20),
    ];
    (method, path(), headers(), body).prop_map(|(method, path, headers, body)| {
        let mut text = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n").into_bytes();
        if !headers.iter().any(|(name, _)| name == "host") {
            text.extend_from_slice(b"host: localhost\r\n");
        }
        for (name, value) in headers {
            text.extend_from_slice(name.as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(&value);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        text.extend_from_slice(&body);
        text
    })
}

/// Sends `request` and looks at what comes back. `last` says that nothing more will come.
async fn provoke(address: SocketAddr, request: &[u8], last: bool) {
    let talking = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream.write_all(request).await;
        if last {
            let _ = stream.shutdown().await;
        }
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    let answer = tokio::time::timeout(PATIENCE, talking)
        .await
        .expect("the connection ends");
    let Some(reply) = parse_reply(&answer) else {
        return;
    };
    let refused_by_library = reply.body.is_empty() && matches!(reply.status, 400 | 414 | 431);
    if reply.status >= 400 && !refused_by_library {
        assert!(!reply.code().1.is_empty());
    }
}

#[test]
fn garbage_gets_an_error_and_never_a_panic() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let soon = Duration::from_millis(50);
    let mut setup = Setup::default();
    setup.serve.head_time_max = soon;
    setup.limits.body.time_max = soon;
    let process = runtime.block_on(Process::start(setup, echo));
    let ports = [process.traffic, process.admin];
    let request = prop_oneof![
        4 => (plausible(), Just(false)),
        1 => (prop::collection::vec(any::<u8>(), 0..200), Just(true)),
    ];
    proptest!(ProptestConfig::with_cases(800), |((request, last) in request)| {
        for port in ports {
            runtime.block_on(provoke(port, &request, last));
        }
    });
    assert!(process.shows("satchel_http_panics_total 0"));
    let call = ask(process.traffic, "POST", "/call/a/b/c", &[], b"1");
    assert_eq!(runtime.block_on(call).body, b"1");
    runtime.block_on(process.stop());
}
