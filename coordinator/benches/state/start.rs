//! Starts of the real binary on roots with much state: time to the first answer, time until all
//! state is in memory, and the memory that it takes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use prost::Message;
use satchel::store::DirectoryStore;
use satchel_log::{Options, SnapshotPolicy};
use satchel_protocol::reqreply::from_function::{Invocation, InvocationResponse, Response};
use satchel_protocol::reqreply::{FromFunction, ToFunction, TypedValue, to_function};
use satchel_testkit::resident_bytes;

use crate::counting::Counting;
use crate::owner::{ADDRESS_BYTES, Owner, VALUE_BYTES, address, registration};

const KEYS_PER_COMMIT: u64 = 10_000;

/// Prints a line for each number of keys.
pub(crate) async fn measure(counts: &[u64]) {
    println!(
        "\nstarts of `satchel dev` on a directory, keys of {ADDRESS_BYTES} B + {VALUE_BYTES} B, \
         the tail of the log at its bound"
    );
    println!(
        "{:>10} {:>9} {:>9} {:>16} {:>12} {:>12} {:>12}",
        "keys", "state MB", "tail MB", "first answer ms", "loaded s", "keys/s", "bytes/key"
    );
    let function = serve_function().await;
    let nothing = tempfile::tempdir().expect("a temporary directory");
    let empty = Started::on(nothing.path(), &function, 0);
    for keys in counts {
        let data = tempfile::tempdir().expect("a temporary directory");
        let tail = fill(&data.path().join("state"), *keys).await;
        // The page cache holds the files already, for this start as for all others here.
        let started = Started::on(data.path(), &function, *keys);
        println!(
            "{keys:>10} {:>9.0} {:>9.0} {:>16.0} {:>12.2} {:>12.0} {:>12.0}",
            (*keys as usize * (ADDRESS_BYTES + VALUE_BYTES)) as f64 / 1e6,
            tail as f64 / 1e6,
            started.first_answer.as_secs_f64() * 1e3,
            started.loaded.as_secs_f64(),
            *keys as f64 / started.loaded.as_secs_f64(),
            started.memory.saturating_sub(empty.memory) as f64 / *keys as f64,
        );
    }
    println!(
        "{:>10} {:>9} {:>9} {:>16.0} (an empty root)",
        0,
        0,
        0,
        empty.first_answer.as_secs_f64() * 1e3
    );
}

/// Writes every key, then some of them again without a snapshot, until the tail of the log has its
/// maximum length. Returns the bytes of the tail.
async fn fill(state: &Path, keys: u64) -> u64 {
    let store = Arc::new(DirectoryStore::open(state).expect("a writable directory"));
    let mut owner = Owner::of(store.clone(), Options::default()).await;
    for first in (0..keys).step_by(KEYS_PER_COMMIT as usize) {
        owner.write(first..keys.min(first + KEYS_PER_COMMIT)).await;
    }
    owner.stop().await;

    let (store, written) = Counting::over(store);
    let never = SnapshotPolicy {
        floor_bytes: u64::MAX,
        tail_bytes_max: u64::MAX,
        ..SnapshotPolicy::default()
    };
    let options = Options {
        snapshots: never,
        ..Options::default()
    };
    let bound = SnapshotPolicy::default().tail_bytes_max;
    let mut owner = Owner::of(Arc::new(store), options).await;
    let found = owner.replayed_bytes;
    let mut next = 0;
    while found + written.log() < bound && next < keys {
        // Spread the keys over all buckets, as those of an application are.
        owner
            .write((next..keys.min(next + KEYS_PER_COMMIT)).map(|key| key * 7919 % keys))
            .await;
        next += KEYS_PER_COMMIT;
    }
    owner.stop().await;
    found + written.log()
}

/// Serves a function that answers its caller with the length of its state. Returns a module file
/// that names the function.
async fn serve_function() -> tempfile::NamedTempFile {
    let answer = |body: Bytes| async move {
        let to = ToFunction::decode(body).expect("a request of the protocol");
        let Some(to_function::Request::Invocation(batch)) = to.request else {
            panic!("a request without a batch");
        };
        let known = batch
            .state
            .iter()
            .find_map(|state| state.state_value.as_ref());
        let response = if batch.state.is_empty() {
            Response::IncompleteInvocationContext(registration())
        } else {
            let reply = known.map_or(0, |value| value.value.len()).to_string();
            Response::InvocationResult(InvocationResponse {
                outgoing_messages: vec![Invocation {
                    target: batch.invocations[0].caller.clone(),
                    argument: Some(TypedValue {
                        typename: "satchel/json".to_owned(),
                        has_value: true,
                        value: reply.into_bytes().into(),
                    }),
                    ..Invocation::default()
                }],
                ..InvocationResponse::default()
            })
        };
        let from = FromFunction {
            response: Some(response),
        };
        (
            [("content-type", "application/octet-stream")],
            from.encode_to_vec(),
        )
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let routes = Router::new().route("/", post(answer));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let mut module = tempfile::Builder::new()
        .suffix(".yaml")
        .tempfile()
        .expect("a temporary file");
    write!(
        module,
        "kind: io.statefun.endpoints.v2/http\nspec:\n  functions: bench/*\n  \
         urlPathTemplate: http://127.0.0.1:{port}/\n"
    )
    .expect("a file can be written");
    module
}

/// Measurements of one start.
struct Started {
    /// Time until a call of an address with state was answered.
    first_answer: Duration,
    /// Time until every bucket was in memory.
    loaded: Duration,
    /// Resident memory of the process then, in bytes.
    memory: u64,
}

impl Started {
    /// Starts the binary on `data`, which holds this number of keys.
    fn on(data: &Path, module: &tempfile::NamedTempFile, keys: u64) -> Self {
        let begun = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_satchel"));
        command
            .arg("dev")
            .arg(module.path())
            .args([
                "--http",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
                "--log",
                "warn",
            ])
            .arg("--data-dir")
            .arg(data);
        let process = command.stdout(Stdio::piped()).spawn();
        let mut process = Process(process.expect("the satchel binary starts"));
        let (traffic, admin) = process.addresses();
        let path = format!("/call/{}", address(keys / 2));
        let known = request(&traffic, &format!("POST {path}"), "1");
        let first_answer = begun.elapsed();
        let expected = if keys == 0 {
            "0".to_owned()
        } else {
            VALUE_BYTES.to_string()
        };
        assert_eq!(known, (200, expected), "{path}");
        while request(&admin, "GET /readyz", "").1.contains("recovered") {
            thread::sleep(Duration::from_millis(5));
        }
        Self {
            first_answer,
            loaded: begun.elapsed(),
            memory: resident_bytes(process.0.id()),
        }
    }
}

/// A process that ends when this is dropped.
struct Process(Child);

impl Process {
    /// Reads the addresses for traffic and administration from the output of the process.
    fn addresses(&mut self) -> (String, String) {
        let output = BufReader::new(self.0.stdout.take().expect("its output is a pipe"));
        let mut lines = output.lines().map_while(Result::ok);
        let mut find = |name: &str| {
            lines
                .find_map(|line| {
                    let rest = line.trim().strip_prefix(name)?.trim();
                    Some(rest.strip_prefix("http://")?.to_owned())
                })
                .unwrap_or_else(|| panic!("the process prints its address for {name}"))
        };
        let addresses = (find("traffic"), find("admin"));
        thread::spawn(move || lines.for_each(drop));
        addresses
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends one request on a connection of its own. Returns the status and the body.
fn request(address: &str, line: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_nodelay(true).expect("a socket option");
    let request = format!(
        "{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("it answers in text");
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    (status.expect("a status"), body.to_owned())
}
