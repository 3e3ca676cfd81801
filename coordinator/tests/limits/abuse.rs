//! Memory that a client or a function can make a real `satchel dev` hold.
//!
//! Each test prints the growth of the process's peak memory. To compare with another version of
//! the binary, name it in `SATCHEL_BIN`; the assertions then fail where that version has no bound:
//!
//! ```text
//! SATCHEL_BIN=path/to/satchel cargo test --workspace --test limits -- abuse --nocapture
//! ```

use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use prost::Message as _;
use satchel_protocol::reqreply::from_function::{self, InvocationResponse};
use satchel_protocol::reqreply::{FromFunction, ToFunction, to_function};
use satchel_protocol::types::typed_value;
use satchel_testkit::{Dev, Setup, until_true};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const MEBIBYTE: usize = 1024 * 1024;

/// Size of the reply of the function `replying`, in bytes: more than the buffers of two sockets.
const REPLY_BYTES: usize = 8 * MEBIBYTE;

/// Number of empty effects in the answer of the function `bursting`: two bytes each on the wire.
const EMPTY_EFFECTS: usize = 4_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abuse_ids_of_waiting_messages_are_bounded_and_count() {
    let app = App::start(&["--pending-limit=8MiB"]).await;
    let sends = async |id_bytes: usize| {
        let mut statuses = Vec::new();
        for hundred in 0..60 {
            let sends = (0..100).map(|number| {
                let id = format!("{hundred}-{number}-{}", "a".repeat(id_bytes - 8));
                let send = app.dev.client.to_send(&format!("test/away/{id}"));
                async move { send.json(&json!(1)).send().await.unwrap().status }
            });
            statuses.extend(futures::future::join_all(sends).await);
        }
        statuses
    };
    let before = app.peak_bytes();
    let statuses = sends(60_000).await;
    app.report("6,000 sends with ids of 60 kB", before);
    assert!(statuses.iter().all(|status| *status == 413), "{statuses:?}");
    let statuses = sends(8_000).await;
    app.report("6,000 more with ids of 8 kB", before);
    let accepted = statuses.iter().filter(|status| **status == 202).count();
    assert!(statuses.contains(&503), "ids count as pending");
    assert!((500..1_500).contains(&accepted), "{accepted}");
    assert!(app.growth(before) < 150 * MEBIBYTE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abuse_an_answer_is_rejected_before_its_effects_are_built() {
    let app = App::start(&[]).await;
    let before = app.peak_bytes();
    let accepted = app.dev.client.send("test/bursting/a", &json!(1)).await;
    assert_eq!(accepted.status, 202);
    tokio::time::sleep(Duration::from_secs(3)).await;
    app.report("an answer of 8 MB with 4,000,000 empty effects", before);
    assert!(app.growth(before) < 100 * MEBIBYTE);
    until_true("the address shows the reason", async || {
        let shown = app.dev.client.address("test/bursting/a").await.json();
        let letters = json!(app.dev.client.dead_letters().await);
        format!("{shown}{letters}").contains("more than 100000 effects")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abuse_silent_clients_keep_none_out_and_readers_that_never_read_are_given_up() {
    let app = App::start(&[]).await;
    // Each announces as much as a body may have, and sends nothing.
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(app.sends("POST", "test/replying/a", 6 * MEBIBYTE).await);
    }
    // Each waits for the head of a request.
    for _ in 0..1_000 {
        silent.push(TcpStream::connect(app.traffic).await.unwrap());
    }
    let reply = app.dev.client.send("test/away/a", &json!(1)).await;
    assert_eq!(reply.status, 202, "{:?}", reply.json());

    let before = app.peak_bytes();
    let mut unread = Vec::new();
    for number in 0..60 {
        let mut stream = app
            .sends("POST", &format!("test/replying/{number}"), 1)
            .await;
        stream.write_all(b"1").await.unwrap();
        let mut first = [0; 16];
        stream.read_exact(&mut first).await.unwrap();
        unread.push((stream, first));
    }
    app.report("60 readers that never read their 8 MiB", before);
    let refused = unread
        .iter()
        .filter(|(_, first)| first.ends_with(b" 503 Ser"));
    assert!(refused.count() > 20, "192 MiB of answers wait at most");
    // Their connections are closed, and what they did not read leaves memory.
    until_true("another reader gets its answer", async || {
        let request = app.dev.client.to_call("test/replying/last").json(&json!(1));
        request.send().await.is_ok_and(|reply| reply.status == 200)
    })
    .await;
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abuse_dead_letters_leave_memory_and_are_bounded() {
    let app = App::start(&["--memory-limit=16MiB"]).await;
    let before = app.peak_bytes();
    let large = "x".repeat(2 * MEBIBYTE);
    let mut made = 0;
    let refused = loop {
        if made == 100 {
            break None;
        }
        let send = app.dev.client.to_send(&format!("test/refusing/{made}"));
        let reply = send.json(&json!(large)).send().await.unwrap();
        if reply.status != 202 {
            break Some(reply);
        }
        made += 1;
        until_true("it is a dead letter", async || {
            app.metric("satchel_dead_letters_present").await >= made
        })
        .await;
    };
    app.report(&format!("{made} dead letters of 2 MiB"), before);
    let refused = refused.expect("they have a limit");
    assert_eq!(refused.error_code(), "too_many_dead_letters");
    assert!((49..=51).contains(&made), "{made}");
    until_true("they leave memory", async || {
        app.metric("satchel_state_memory_bytes").await <= 16 * MEBIBYTE
    })
    .await;
    // They are all there, page by page, and one that is dropped makes room.
    let page = app.dev.client.dead_letters().await;
    assert!((2..10).contains(&page.len()), "{} letters", page.len());
    let id = page[0]["id"].as_str().unwrap();
    assert_eq!(app.dev.client.drop_dead_letter(id).await.status, 200);
    let reply = app.dev.client.send("test/away/a", &json!(1)).await;
    assert_eq!(reply.status, 202);
    assert_eq!(app.metric("satchel_dead_letters_present").await, made - 1);
}

/// An application whose functions do what they are named after.
struct App {
    dev: Dev,
    traffic: SocketAddr,
    _module: TempDir,
}

impl App {
    async fn start(arguments: &[&str]) -> Self {
        let url = serve_functions().await;
        let module = tempfile::tempdir().unwrap();
        std::fs::write(module.path().join("module.yaml"), spec(&url)).unwrap();
        // A version without the limit ignores the variable.
        let setup = Setup::of(module.path()).env("SATCHEL_DEAD_LETTER_LIMIT", "100MiB");
        let setup = arguments.iter().fold(setup, |setup, one| setup.arg(*one));
        let dev = setup.start().await;
        let traffic = dev.client.url();
        let traffic = traffic.trim_start_matches("http://").trim_end_matches('/');
        Self {
            traffic: traffic.parse().unwrap(),
            dev,
            _module: module,
        }
    }

    /// Opens a connection, and sends the head of a call with a body of `bytes`.
    async fn sends(&self, method: &str, address: &str, bytes: usize) -> TcpStream {
        let mut stream = TcpStream::connect(self.traffic).await.unwrap();
        let head = format!(
            "{method} /call/{address} HTTP/1.1\r\nhost: localhost\r\n\
             content-length: {bytes}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    async fn metric(&self, name: &str) -> usize {
        self.dev.client.metric(name).await.unwrap() as usize
    }

    /// Peak of the resident memory of the process so far.
    fn peak_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.dev.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
        kilobytes.parse::<usize>().unwrap() * 1024
    }

    fn growth(&self, before: usize) -> usize {
        self.peak_bytes() - before
    }

    fn report(&self, what: &str, before: usize) {
        let growth = self.growth(before) / MEBIBYTE;
        println!("{what}: the peak of memory grew by {growth} MiB");
    }
}

fn spec(url: &str) -> String {
    format!(
        "kind: io.statefun.endpoints.v2/http
spec:
  functions: test/away
  urlPathTemplate: http://127.0.0.1:1/
---
kind: io.statefun.endpoints.v2/http
spec:
  functions: test/*
  urlPathTemplate: {url}/{{function.name}}
"
    )
}

/// Serves the functions; returns `http://127.0.0.1:PORT`.
async fn serve_functions() -> String {
    async fn replying(body: Bytes) -> Response {
        let request = ToFunction::decode(body).unwrap();
        let Some(to_function::Request::Invocation(batch)) = request.request else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        let replies = batch.invocations.into_iter().map(|invocation| {
            let value = vec![b'x'; REPLY_BYTES];
            from_function::Invocation {
                target: invocation.caller,
                argument: Some(typed_value("test/large", value)),
                cause: 0,
            }
        });
        let result = InvocationResponse {
            outgoing_messages: replies.collect(),
            ..InvocationResponse::default()
        };
        let response = from_function::Response::InvocationResult(result);
        let answer = FromFunction {
            response: Some(response),
        };
        answered(answer.encode_to_vec())
    }
    async fn bursting() -> Response {
        let mut answer = Vec::new();
        prost::encoding::encode_varint(100 << 3 | 2, &mut answer);
        prost::encoding::encode_varint(2 * EMPTY_EFFECTS as u64, &mut answer);
        answer.extend([0x12, 0x00].repeat(EMPTY_EFFECTS));
        answered(answer)
    }
    fn answered(answer: Vec<u8>) -> Response {
        ([("content-type", "application/octet-stream")], answer).into_response()
    }
    let router = Router::new()
        .route("/replying", axum::routing::post(replying))
        .route("/bursting", axum::routing::post(bursting))
        // A message that is too large for its endpoint is given up at once.
        .fallback(async || StatusCode::PAYLOAD_TOO_LARGE);
    let router = router.layer(axum::extract::DefaultBodyLimit::disable());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, router).into_future());
    url
}
