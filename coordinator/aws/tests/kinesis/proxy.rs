//! A proxy in front of a stand-in that injects a fault into about a third of the requests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Treatment of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Rejected as throttled.
    Throttled,
    /// Rejected with an internal error.
    Broken,
    /// Rejected with an expired iterator.
    Expired,
    /// Takes effect, and the connection ends without a response.
    Unanswered,
    /// Takes effect, and the response is cut off.
    Truncated,
    /// Takes effect, and the response is valid but empty.
    Empty,
}

const FAULTS: [Fault; 6] = [
    Fault::Throttled,
    Fault::Broken,
    Fault::Expired,
    Fault::Unanswered,
    Fault::Truncated,
    Fault::Empty,
];

/// Number of times that each fault struck, by operation.
type Struck = Arc<Mutex<BTreeMap<(String, Fault), u32>>>;

/// Counts of requests, by operation.
type Requests = Arc<Mutex<BTreeMap<String, Asked>>>;

/// Number of requests, and of injected faults.
#[derive(Default)]
struct Asked {
    requests: u64,
    faults: usize,
}

impl Asked {
    /// True if the next request meets a fault. The choice has no simple period: with one, a shard
    /// that takes turns with another might never get a response.
    fn strikes(&mut self) -> bool {
        self.requests += 1;
        let mixed = self.requests.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 40).is_multiple_of(3)
    }

    fn next_fault(&mut self) -> Fault {
        self.faults += 1;
        FAULTS[self.faults % FAULTS.len()]
    }
}

/// A proxy that serves until it is dropped.
pub(crate) struct Proxy {
    pub(crate) endpoint: String,
    struck: Struck,
    serving: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy in front of `upstream`, `http://127.0.0.1:port`.
    pub(crate) async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let upstream: Arc<str> = upstream.strip_prefix("http://").unwrap().into();
        let struck = Struck::default();
        let requests = Requests::default();
        let serving = tokio::spawn({
            let struck = struck.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (upstream, struck) = (upstream.clone(), struck.clone());
                    tokio::spawn(serve(stream, upstream, struck, requests.clone()));
                }
            }
        });
        Self {
            endpoint,
            struck,
            serving,
        }
    }

    /// True if every fault has struck `operation`.
    pub(crate) fn has_struck_all(&self, operation: &str) -> bool {
        let struck = self.struck.lock().unwrap();
        FAULTS
            .iter()
            .all(|fault| struck.contains_key(&(operation.to_owned(), *fault)))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Serves one request and closes the connection.
async fn serve(mut stream: TcpStream, upstream: Arc<str>, struck: Struck, requests: Requests) {
    stream.set_nodelay(true).unwrap();
    let Some((head, body)) = message(&mut stream).await else {
        return;
    };
    let operation = header(&head, "x-amz-target").unwrap();
    let operation = operation.rsplit('.').next().unwrap().to_owned();
    let fault = {
        let mut requests = requests.lock().unwrap();
        let asked = requests.entry(operation.clone()).or_default();
        asked.strikes().then(|| asked.next_fault())
    };
    if let Some(fault) = fault {
        let mut struck = struck.lock().unwrap();
        *struck.entry((operation, fault)).or_default() += 1;
    }
    let answer = match fault {
        Some(Fault::Throttled) => error(400, "ProvisionedThroughputExceededException"),
        Some(Fault::Broken) => error(500, "InternalFailure"),
        Some(Fault::Expired) => error(400, "ExpiredIteratorException"),
        fault => {
            let Some((status, body)) = forward(&upstream, &head, &body).await else {
                return;
            };
            match fault {
                Some(Fault::Unanswered) => return,
                Some(Fault::Truncated) => {
                    let mut cut = response(&status, &body);
                    cut.truncate(cut.len() - body.len().div_ceil(2));
                    cut
                }
                Some(Fault::Empty) => response("200 OK", b"{}"),
                _ => response(&status, &body),
            }
        }
    };
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
}

async fn forward(upstream: &str, head: &str, body: &[u8]) -> Option<(String, Vec<u8>)> {
    let mut server = TcpStream::connect(upstream).await.ok()?;
    server.set_nodelay(true).unwrap();
    server.write_all(head.as_bytes()).await.ok()?;
    server.write_all(body).await.ok()?;
    let (head, body) = message(&mut server).await?;
    let status = head.lines().next()?.split_once(' ')?.1.to_owned();
    Some((status, body))
}

/// Reads a message's head, and its body as long as the head says.
async fn message(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let length: usize = header(&head, "content-length")?.parse().ok()?;
    let mut body = bytes.split_off(end);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some((head, body))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut found = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
    found.next().map(|(_, value)| value.trim())
}

fn error(status: u16, code: &str) -> Vec<u8> {
    let body = format!(r#"{{"__type":"{code}","message":"fault of the test"}}"#);
    response(&format!("{status} Error"), body.as_bytes())
}

fn response(status: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/x-amz-json-1.1\r\n\
        content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}
