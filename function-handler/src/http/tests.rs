//! The limits over real sockets: slow and silent clients do not lock out others.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

/// Long enough for any machine. Only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

const SHORT: Duration = Duration::from_millis(20);

/// A request with an empty body, whose response has status 400.
const REQUEST: &str =
    "POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// A server without functions.
struct Server {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(serve_within(
            listener,
            Functions::new(),
            limits,
            async move {
                let _ = stopped.await;
            },
        ));
        Self {
            address,
            stop,
            serving,
        }
    }

    /// Opens a connection and sends `text`.
    async fn sent(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    async fn stop(self) {
        drop(self.stop);
        let ended = tokio::time::timeout(PATIENCE, self.serving).await;
        ended.expect("it stops").unwrap().unwrap();
    }
}

/// Reads until the server closes the connection.
async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    let _ = tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("the server closes the connection");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn a_missing_head_ends_the_connection() {
    let server = Server::start(Limits {
        head_time_max: SHORT,
        ..Limits::default()
    })
    .await;
    // Nothing; a prefix of both versions of HTTP; half a head of each; silence after a response.
    for begun in [
        "",
        "P",
        "PRI * HTTP/2.0\r\n",
        "POST / HTTP/1.1\r\nhost: h",
        "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n",
    ] {
        let answer = rest(server.sent(begun).await).await;
        assert!(!answer.starts_with("HTTP/1.1 2"), "{begun}: {answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_missing_body_ends_the_request() {
    let server = Server::start(Limits {
        body_time_max: SHORT,
        ..Limits::default()
    })
    .await;
    let slow = REQUEST.replace("content-length: 0", "content-length: 9");
    let answer = rest(server.sent(&slow).await).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(
        answer.ends_with("the body did not arrive within 20ms"),
        "{answer}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_stops_coming_ends_the_request() {
    let server = Server::start(Limits {
        progress_time_max: SHORT,
        ..Limits::default()
    })
    .await;
    let slow = REQUEST.replace("content-length: 0", "content-length: 9");
    let answer = rest(server.sent(&format!("{slow}1234")).await).await;
    assert!(
        answer.ends_with("a part of the body did not arrive within 20ms"),
        "{answer}"
    );
    server.stop().await;
}

#[tokio::test]
async fn bodies_that_are_too_much_together_are_refused_until_there_is_room() {
    let server = Server::start(Limits {
        body_bytes_max: 1000,
        ..Limits::default()
    })
    .await;
    let with_body = |announced: usize, sent: usize| {
        let head = REQUEST.replace("length: 0", &format!("length: {announced}"));
        format!("{head}{}", "a".repeat(sent))
    };
    let mut slow = server.sent(&with_body(900, 899)).await;
    let status = async |bytes| {
        let answer = rest(server.sent(&with_body(bytes, bytes)).await).await;
        answer["HTTP/1.1 ".len()..][..3].to_owned() + &answer[answer.len() - 60..]
    };
    let refused = async {
        loop {
            let answer = status(200).await;
            if answer.starts_with("503") {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let answer = tokio::time::timeout(PATIENCE, refused).await.unwrap();
    assert!(
        answer.ends_with("may have 1000 bytes together; retry later"),
        "{answer}"
    );
    // Neither is a request of a batch.
    assert!(status(100).await.starts_with("400"));
    slow.write_all(b"a").await.unwrap();
    assert!(rest(slow).await.starts_with("HTTP/1.1 400"));
    assert!(status(1000).await.starts_with("400"));
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_given_up() {
    let (ours, _theirs) = tokio::io::duplex(16);
    let mut stream = connections::progressing(ours, SHORT);
    let error = stream.write_all(&[7; 64]).await.unwrap_err();
    assert_eq!(error.to_string(), "the client read nothing for 20ms");
}

#[tokio::test]
async fn a_connection_over_the_limit_waits_for_its_turn() {
    let server = Server::start(Limits {
        connections_max: 1,
        ..Limits::default()
    })
    .await;
    let first = server.sent("").await;
    let mut second = Box::pin(rest(server.sent(REQUEST).await));
    let waited = tokio::time::timeout(Duration::from_millis(50), &mut second).await;
    assert!(waited.is_err(), "the first connection holds the permit");
    drop(first);
    let answer = second.await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_connections_without_requests() {
    let server = Server::start(Limits::default()).await;
    let kept = REQUEST.replace("connection: close\r\n", "");
    let mut idle = server.sent(&kept).await;
    let answered = idle.read_u8();
    tokio::time::timeout(PATIENCE, answered)
        .await
        .unwrap()
        .unwrap();
    let silent = server.sent("P").await;
    server.stop().await;
    assert_eq!(rest(silent).await, "");
}
