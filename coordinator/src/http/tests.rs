//! The surface over real sockets. Only the partition's loop is played, so that each of its answers
//! can be had at will.

mod admin;
mod bodies;
mod bulk;
mod components;
mod console;
mod dead_letters;
mod description;
mod garbage;
mod ingresses;
mod observed;
mod pauses;
mod server;
mod state_drops;
mod tracing;
mod traffic;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use satchel_engine::address::{Address, FunctionType};
use satchel_engine::input::{Input, RequestId};
use satchel_engine::output::{Answer, Stoppages};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::*;
use crate::offline::Past;
use crate::readiness::Readiness;
use crate::requests::Requests;
use crate::sources::Sources;
use crate::stories::Stories;

/// Long enough for any machine; nothing waits for it unless the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Both ports of a process whose partition answers as the test says.
struct Process {
    traffic: SocketAddr,
    admin: SocketAddr,
    readiness: watch::Sender<Readiness>,
    sources: Sources,
    stoppages: watch::Sender<Stoppages>,
    metrics: Metrics,
    /// Inputs of the partition, in order.
    told: Arc<Mutex<Vec<Input>>>,
    shutdowns: Vec<oneshot::Sender<()>>,
    servers: Vec<JoinHandle<()>>,
    partition: JoinHandle<()>,
}

/// Settings of a [`Process`].
struct Setup {
    limits: TrafficLimits,
    serve: ServeLimits,
    reads: AdminAccess,
    writes: AdminAccess,
    stories: Option<Stories>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            limits: TrafficLimits::default(),
            serve: ServeLimits::default(),
            reads: AdminAccess::Allowed,
            writes: AdminAccess::Allowed,
            stories: None,
        }
    }
}

/// An answer of the partition; none keeps the one who asked waiting.
type Script = fn(&Input) -> Option<Answer>;

impl Process {
    async fn answering(script: Script) -> Self {
        Self::start(Setup::default(), script).await
    }

    async fn start(setup: Setup, script: Script) -> Self {
        let metrics = Metrics::new();
        let (inputs, loop_side) = mpsc::channel(64);
        let requests = Requests::new(metrics.clone());
        requests.attach(0, inputs);
        let sources = Sources::new(metrics.clone());
        let told = Arc::default();
        let partition = play_partition(loop_side, requests.clone(), script, Arc::clone(&told));
        let (readiness, watching) = watch::channel(Readiness::Serving);
        let traffic = traffic_routes(Traffic {
            requests: requests.clone(),
            readiness: watching.clone(),
            limits: setup.limits,
        });
        let stoppages = watch::Sender::default();
        let console = console_routes(Console {
            application: "example".to_owned(),
            declared: Declared::default(),
            readiness: watching.clone(),
            requests: requests.clone(),
            past: Past::default(),
            metrics: metrics.clone(),
            reads: setup.reads.clone(),
            writes: setup.writes.clone(),
        });
        let admin = admin_routes(Admin {
            process: "0a0a".into(),
            requests,
            readiness: watching,
            sources: sources.clone(),
            stoppages: stoppages.subscribe(),
            metrics: metrics.clone(),
            savepoints: Savepoints::new(Past::default()),
            stories: setup.stories,
            reads: setup.reads,
            writes: setup.writes,
            limits: setup.limits.body,
        });
        let admin = admin.merge(console);
        let mut process = Self {
            traffic: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            readiness,
            sources,
            stoppages,
            metrics,
            told,
            shutdowns: Vec::new(),
            servers: Vec::new(),
            partition,
        };
        process.traffic = process.serve(Port::Traffic, traffic, setup.serve).await;
        process.admin = process.serve(Port::Admin, admin, setup.serve).await;
        process
    }

    async fn serve(&mut self, port: Port, routes: Router, limits: ServeLimits) -> SocketAddr {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0)), port)
            .await
            .unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = self.metrics.clone();
        let router = surface(port, routes, Guard::of(address, []), metrics.clone());
        let (shutdown, shut_down) = oneshot::channel();
        self.shutdowns.push(shutdown);
        self.servers.push(tokio::spawn(serve(
            listener,
            router,
            port,
            limits,
            metrics,
            async move {
                let _ = shut_down.await;
            },
        )));
        address
    }

    /// Returns the inputs of the partition so far.
    fn told(&self) -> Vec<Input> {
        self.told.lock().unwrap().clone()
    }

    /// Waits until the partition was told something that `is` what the test waits for.
    async fn hears(&self, is: impl Fn(&Input) -> bool) -> Input {
        let waiting = async {
            loop {
                if let Some(input) = self.told().into_iter().find(&is) {
                    return input;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .expect("the partition was told")
    }

    /// Returns true if `/metrics` shows this sample.
    fn shows(&self, sample: &str) -> bool {
        self.metrics.encode().lines().any(|line| line == sample)
    }

    /// Shuts both ports down and waits for their ends.
    async fn stop(mut self) {
        self.shutdowns.clear();
        for server in self.servers.drain(..) {
            tokio::time::timeout(PATIENCE, server)
                .await
                .expect("the server ends")
                .expect("the server does not panic");
        }
        self.partition.abort();
    }
}

fn play_partition(
    mut inputs: mpsc::Receiver<Input>,
    requests: Requests,
    script: Script,
    told: Arc<Mutex<Vec<Input>>>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(input) = inputs.recv().await {
            let answer = request_of(&input).zip(script(&input));
            told.lock().unwrap().push(input);
            if let Some((request, answer)) = answer {
                requests.answer(request, answer);
            }
        }
    })
}

fn request_of(input: &Input) -> Option<RequestId> {
    match input {
        Input::CallReceived(call) => Some(call.request),
        Input::Administered { request, .. } => Some(*request),
        _ => None,
    }
}

fn alice() -> Address {
    Address::new(FunctionType::new("example", "greeter"), "alice")
}

/// An answer over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find_map(|(key, value)| (key == name).then_some(value.as_str()))
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// Status, code and message of an error, after a look at its form.
    fn error(&self) -> (u16, String, String) {
        assert_eq!(
            self.header("content-type"),
            Some("application/json"),
            "{self:?}"
        );
        let body = self.json();
        let error = &body["error"];
        let text = |name: &str| error[name].as_str().expect("a text").to_owned();
        let (code, message) = (text("code"), text("message"));
        assert_eq!(
            body,
            serde_json::json!({"error": {"code": code, "message": message}})
        );
        (self.status, code, message)
    }

    /// Status and code of an error.
    fn code(&self) -> (u16, String) {
        let (status, code, _) = self.error();
        (status, code)
    }
}

/// Sends a request as it stands, and reads the answer to the end of the connection.
async fn exchange(address: SocketAddr, request: &[u8]) -> Option<Reply> {
    let talking = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        // The server may refuse a request before it has read all of it.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        parse_reply(&answer)
    };
    tokio::time::timeout(PATIENCE, talking)
        .await
        .expect("the server answers")
}

fn parse_reply(answer: &[u8]) -> Option<Reply> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines
        .filter_map(|line| line.split_once(": ").or(line.split_once(':')))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Some(Reply {
        status,
        headers,
        body: answer[end + 4..].to_vec(),
    })
}

/// The text of a request with a body, after which the connection is to be closed.
fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        text.push_str("host: localhost\r\n");
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    [text.as_bytes(), body].concat()
}

/// Sends a request and reads its answer.
async fn ask(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    exchange(address, &request(method, target, headers, body))
        .await
        .expect("an answer with a status")
}
