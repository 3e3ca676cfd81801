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
async fn heads_that_are_being_received_count_in_the_budget_of_bytes() {
    let setup = Setup {
        serve: ServeLimits {
            body_bytes: Limit {
                all: 10_000,
                each_client: 10_000,
            },
            ..ServeLimits::default()
        },
        ..Setup::default()
    };
    let process = Process::start(setup, sends_only).await;
    let begun = format!(
        "POST /send/example/greeter/alice HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-length: 1\r\nx-padding: {}",
        "a".repeat(12_000)
    );
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(process.traffic).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        streams.push(stream);
    }
    let [one, two] = &mut streams[..] else {
        panic!("two streams");
    };
    // The budget has room for one of them, whichever is read first.
    let (mut closed, mut closed_too) = ([0; 64], [0; 64]);
    let stays = tokio::select! {
        _ = one.read(&mut closed) => 1,
        _ = two.read(&mut closed_too) => 0,
        () = tokio::time::sleep(PATIENCE) => panic!("both heads are waited for"),
    };
    let mut stays = streams.swap_remove(stays);
    stays.write_all(b"\r\n\r\n1").await.unwrap();
    let answer = String::from_utf8(rest(stays).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 Accepted"), "{answer}");
    process.stop().await;
}

/// A port with these limits of connections and requests.
fn limited(connections: usize, requests: usize) -> Setup {
    let limit = |all| Limit {
        all,
        each_client: all,
    };
    Setup {
        serve: ServeLimits {
            connections: limit(connections),
            requests: limit(requests),
            ..ServeLimits::default()
        },
        ..Setup::default()
    }
}

/// Waits until the traffic port has this number of connections.
async fn has_connections(process: &Process, connections: usize) {
    let sample = format!(r#"satchel_http_connections{{port="traffic"}} {connections}"#);
    let opened = async {
        while !process.shows(&sample) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, opened).await.unwrap();
}

#[tokio::test]
async fn idle_connections_make_room_for_further_ones_and_busy_ones_do_not() {
    let process = Process::start(limited(3, 3), sends_only).await;
    let call = request("POST", "/call/example/greeter/alice?timeout=1h", &[], b"1");
    let mut busy = TcpStream::connect(process.traffic).await.unwrap();
    busy.write_all(&call).await.unwrap();
    process.hears(is_call).await;
    let oldest = TcpStream::connect(process.traffic).await.unwrap();
    has_connections(&process, 2).await;
    // One of the head of a request is idle too.
    let mut begun = TcpStream::connect(process.traffic).await.unwrap();
    begun.write_all(b"POST /se").await.unwrap();
    has_connections(&process, 3).await;

    let send = request("POST", "/send/example/greeter/alice", &[], b"1");
    for _ in 0..3 {
        let reply = exchange(process.traffic, &send).await.unwrap();
        assert_eq!(reply.status, 202);
    }
    assert_eq!(rest(oldest).await, b"", "it was idle for the longest time");
    let mut byte = [0];
    let answered = tokio::time::timeout(Duration::from_millis(20), busy.read(&mut byte)).await;
    assert!(answered.is_err(), "the call still waits");
    process.stop().await;
}

#[tokio::test]
async fn a_connection_waits_while_all_are_busy() {
    // A client below its own limit waits; one over it would be turned away.
    let mut setup = limited(1, 1);
    setup.serve.connections.each_client = 10;
    let process = Process::start(setup, sends_only).await;
    let call = request("POST", "/call/example/greeter/alice?timeout=1h", &[], b"1");
    let busy = async || {
        let mut stream = TcpStream::connect(process.traffic).await.unwrap();
        stream.write_all(&call).await.unwrap();
        stream
    };
    let first = busy().await;
    process.hears(is_call).await;
    // One is accepted before the port is known to be full, and its request finds no place.
    let second = busy().await;
    let answer = String::from_utf8(rest(second).await).unwrap();
    assert!(answer.contains("too_many_requests_"), "{answer}");
    drop(first);
    let send = request("POST", "/send/example/greeter/alice", &[], b"1");
    let retried = async {
        while exchange(process.traffic, &send).await.unwrap().status != 202 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, retried).await.unwrap();
    process.stop().await;
}

#[tokio::test]
async fn a_connection_that_becomes_idle_makes_room_for_one_that_waits() {
    let mut setup = limited(1, 2);
    setup.serve.connections.each_client = 10;
    let process = Process::start(setup, sends_only).await;
    let kept = |target: &str| {
        let text = request("POST", target, &[], b"1");
        let text = String::from_utf8(text).unwrap();
        text.replace("connection: close\r\n", "")
    };
    let mut first = TcpStream::connect(process.traffic).await.unwrap();
    let call = kept("/call/example/greeter/alice?timeout=300ms");
    first.write_all(call.as_bytes()).await.unwrap();
    process.hears(is_call).await;
    // Accepted although the port is full, which is known from then on.
    let mut second = TcpStream::connect(process.traffic).await.unwrap();
    second.write_all(call.as_bytes()).await.unwrap();
    has_connections(&process, 2).await;
    // Both stay open after their answers, and are idle then.
    let send = request("POST", "/send/example/greeter/alice", &[], b"1");
    let reply = exchange(process.traffic, &send).await.unwrap();
    assert_eq!(reply.status, 202);
    process.stop().await;
}

#[tokio::test]
async fn a_client_whose_connections_are_all_busy_is_turned_away() {
    let mut setup = limited(10, 10);
    setup.serve.connections.each_client = 1;
    let process = Process::start(setup, sends_only).await;
    let call = request("POST", "/call/example/greeter/alice?timeout=1h", &[], b"1");
    let mut busy = TcpStream::connect(process.traffic).await.unwrap();
    busy.write_all(&call).await.unwrap();
    process.hears(is_call).await;
    let second = TcpStream::connect(process.traffic).await.unwrap();
    assert_eq!(rest(second).await, b"");
    has_connections(&process, 1).await;
    process.stop().await;
}

#[tokio::test]
async fn calls_that_wait_leave_room_for_others_and_the_limit_is_named() {
    let mut setup = limited(100, 100);
    setup.serve.requests.each_client = 2;
    let process = Process::start(setup, sends_only).await;
    let call = request("POST", "/call/example/greeter/alice?timeout=1h", &[], b"1");
    let mut waiting = Vec::new();
    for calls in 1..=2 {
        let mut stream = TcpStream::connect(process.traffic).await.unwrap();
        stream.write_all(&call).await.unwrap();
        waiting.push(stream);
        while process.told().iter().filter(|input| is_call(input)).count() < calls {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    let send = async || {
        ask(
            process.traffic,
            "POST",
            "/send/example/greeter/bob",
            &[],
            b"1",
        )
        .await
    };
    let reply = send().await;
    let (status, code, message) = reply.error();
    assert_eq!(
        (status, code.as_str()),
        (503, "too_many_requests_of_client")
    );
    assert_eq!(
        message,
        "at most 2 requests of one client address may be in progress; \
         the request had no effect, retry it"
    );
    assert_eq!(reply.header("retry-after"), Some("1"));
    waiting.pop();
    let accepted = async {
        while send().await.status != 202 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, accepted).await.unwrap();
    process.stop().await;
}

/// Answers every call with more than the buffers of two sockets hold.
fn with_much(input: &Input) -> Option<Answer> {
    let value = satchel_protocol::types::typed_value("example/raw", vec![7; MUCH]);
    is_call(input).then_some(Answer::Replied(value))
}

/// More bytes than the buffers of two sockets hold.
const MUCH: usize = 16 << 20;

#[tokio::test]
async fn answers_that_are_not_read_are_bounded_and_given_up() {
    let mut setup = limited(100, 100);
    setup.serve.body_bytes = Limit::of(2 * MUCH - 1);
    setup.serve.progress_time_max = Duration::from_millis(500);
    let process = Process::start(setup, with_much).await;
    let call = request("POST", "/call/example/greeter/alice", &[], b"1");
    let mut unread = TcpStream::connect(process.traffic).await.unwrap();
    unread.write_all(&call).await.unwrap();
    let mut first = [0; 1000];
    unread.read_exact(&mut first).await.unwrap();

    let reply = exchange(process.traffic, &call).await.unwrap();
    let (status, code, message) = reply.error();
    assert_eq!((status, code.as_str()), (503, "too_many_unread_answers"));
    assert!(message.contains("25165824 bytes"), "{message}");

    // The first reader never reads on: its connection is closed, and its answer leaves memory.
    let answered = async {
        loop {
            let reply = exchange(process.traffic, &call).await.unwrap();
            if reply.status == 200 {
                return reply;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let reply = tokio::time::timeout(PATIENCE, answered).await.unwrap();
    assert_eq!(reply.body.len(), MUCH, "who reads gets the whole answer");
    let answer = rest(unread).await;
    assert!(answer.len() < MUCH);
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
