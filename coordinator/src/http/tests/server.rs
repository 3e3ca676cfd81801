//! The server's limits and its end.

use satchel_engine::input::Verb;

use super::*;

/// Accepts what is sent, and leaves calls waiting.
fn sends_only(input: &Input) -> Option<Answer> {
    match input {
        Input::CallReceived(call) if call.verb == Verb::Send => Some(Answer::Accepted),
        _ => None,
    }
}

fn is_call(input: &Input) -> bool {
    matches!(input, Input::CallReceived(_))
}

/// Reads until the end of the connection.
async fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes))
        .await
        .expect("the server closes the connection");
    bytes
}

#[tokio::test]
async fn a_port_in_use_is_told_with_address_and_flag() {
    let taken = bind(SocketAddr::from(([127, 0, 0, 1], 0)), Port::Traffic)
        .await
        .unwrap();
    let address = taken.local_addr().unwrap();
    for (port, purpose, option) in [
        (Port::Traffic, "traffic", "--http"),
        (Port::Admin, "administration", "--admin"),
    ] {
        let error = bind(address, port).await.unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!(
                "cannot listen on {address} for {purpose}: another process uses this port; \
                 stop it or choose another port with {option}"
            )
        );
    }
    let foreign = SocketAddr::from(([192, 0, 2, 1], 0));
    let error = bind(foreign, Port::Traffic).await.unwrap_err();
    assert!(matches!(error, BindError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains("192.0.2.1:0"), "{error}");
}

#[tokio::test]
async fn a_panic_is_the_error_of_its_own_request() {
    async fn panics() -> &'static str {
        panic!("on purpose")
    }
    let mut process = Process::answering(sends_only).await;
    let routes = Router::new().route("/panics", axum::routing::get(panics));
    let address = process
        .serve(Port::Traffic, routes, ServeLimits::default())
        .await;
    for _ in 0..2 {
        let reply = ask(address, "GET", "/panics", &[], b"").await;
        assert_eq!(reply.code(), (500, "internal".to_owned()));
    }
    assert!(process.shows("satchel_http_panics_total 2"));
    process.stop().await;
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let process = Process::answering(sends_only).await;
    let request = request("POST", "/send/example/greeter/alice", &[], b"1");
    let text = String::from_utf8(request).unwrap();
    let kept = text.replace("connection: close\r\n", "");
    let both = [kept.as_bytes(), text.as_bytes()].concat();
    let mut stream = TcpStream::connect(process.traffic).await.unwrap();
    stream.write_all(&both).await.unwrap();
    let answers = String::from_utf8(rest(stream).await).unwrap();
    assert_eq!(
        answers.matches("HTTP/1.1 202 Accepted").count(),
        2,
        "{answers}"
    );
    process.stop().await;
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for_without_end() {
    let setup = Setup {
        serve: ServeLimits {
            head_time_max: Duration::from_millis(20),
            ..ServeLimits::default()
        },
        ..Setup::default()
    };
    let process = Process::start(setup, sends_only).await;
    for begun in [
        "",
        "POST /send/example/greeter/alice HTTP/1.1\r\nhost: local",
    ] {
        let mut stream = TcpStream::connect(process.traffic).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        let answer = rest(stream).await;
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{begun}");
    }
    process.stop().await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let process = Process::answering(sends_only).await;
    let padding = "a".repeat(70 * 1024);
    let headers = [("x-padding", padding.as_str())];
    let request = request("POST", "/send/example/greeter/alice", &headers, b"1");
    let reply = exchange(process.traffic, &request).await;
    // Closing with unread bytes may reset the connection before the client saw the answer.
    let refused = reply.as_ref().is_none_or(|reply| reply.status == 431);
    assert!(refused, "{reply:?}");
    assert_eq!(process.told(), []);
    process.stop().await;
}

#[tokio::test]
async fn a_connection_over_the_limit_waits_for_its_turn() {
    let setup = Setup {
        serve: ServeLimits {
            connections_max: 1,
            ..ServeLimits::default()
        },
        ..Setup::default()
    };
    let process = Process::start(setup, sends_only).await;
    let first = TcpStream::connect(process.traffic).await.unwrap();
    let opened = async {
        while !process.shows(r#"satchel_http_connections{port="traffic"} 1"#) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, opened).await.unwrap();
    let send = request("POST", "/send/example/greeter/alice", &[], b"1");
    let mut second = Box::pin(exchange(process.traffic, &send));
    let waited = tokio::time::timeout(Duration::from_millis(50), &mut second).await;
    assert!(
        waited.is_err(),
        "the first connection still holds the place"
    );
    drop(first);
    assert_eq!(second.await.unwrap().status, 202);
    process.stop().await;
}

#[tokio::test]
async fn a_shutdown_finishes_what_is_under_way_and_takes_nothing_new() {
    let mut process = Process::answering(|_| None).await;
    let target = "/call/example/greeter/alice?timeout=200ms";
    let call = request("POST", target, &[], b"1");
    let address = process.traffic;
    let asking = tokio::spawn(async move { exchange(address, &call).await });
    let idle = TcpStream::connect(address).await.unwrap();
    process.hears(is_call).await;
    process.shutdowns.clear();
    assert_eq!(rest(idle).await, b"");
    assert_eq!(
        asking.await.unwrap().unwrap().code(),
        (504, "timeout".to_owned())
    );
    process.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_shutdown_cuts_off_what_does_not_finish() {
    let setup = Setup {
        serve: ServeLimits {
            shutdown_time_max: Duration::from_millis(20),
            ..ServeLimits::default()
        },
        ..Setup::default()
    };
    let process = Process::start(setup, |_| None).await;
    let target = "/call/example/greeter/alice?timeout=1h";
    let call = request("POST", target, &[], b"1");
    let mut stream = TcpStream::connect(process.traffic).await.unwrap();
    stream.write_all(&call).await.unwrap();
    process.hears(is_call).await;
    process.stop().await;
    assert_eq!(rest(stream).await, b"");
}
