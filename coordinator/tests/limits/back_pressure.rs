//! A real `satchel dev` with a producer that is ten times faster than its function. Records that do
//! not fit stay in the stream, and memory use stays constant.
//!
//! The test takes some seconds. `SATCHEL_TEST_PRESSURE_SECONDS=600` extends it to ten minutes, for
//! which the stream needs 2 GB of disk.

use std::collections::BTreeMap;
use std::future::IntoFuture as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message as _;
use satchel_protocol::reqreply::from_function::persisted_value_mutation::MutationType;
use satchel_protocol::reqreply::from_function::{
    self, IncompleteInvocationContext, InvocationResponse, PersistedValueMutation,
    PersistedValueSpec,
};
use satchel_protocol::reqreply::{FromFunction, ToFunction, to_function};
use satchel_protocol::types::typed_value;
use satchel_testkit::{Client, Dev, Setup, until_true};
use tokio::net::TcpListener;

const HANDLED_PER_SECOND: u32 = 40;
/// Number of addresses with state: several times more than fit into memory.
const ADDRESSES: u64 = 1_000;
const PUT_PER_SECOND: u32 = 10 * HANDLED_PER_SECOND;
const RECORD_BYTES: usize = 8 * 1024;
const PENDING_LIMIT_BYTES: usize = MEBIBYTE;
const MEMORY_LIMIT_BYTES: usize = 2 * MEBIBYTE;
/// Maximum read before a pause takes effect: sixteen reads in the queue, and one in progress on
/// each side of it.
const READ_BYTES: usize = 18 * MEBIBYTE;
/// Maximum growth after the first half, in which the process has settled: caches, and memory kept
/// by its allocator.
const SLACK_BYTES: usize = 32 * MEBIBYTE;
/// Memory that a byte of a message takes on its way: the read, its buffers, the state.
const BYTES_OF_A_PENDING_BYTE: usize = 6;
const MEBIBYTE: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_constant_with_a_producer_ten_times_too_fast() {
    let slow = Slow::default();
    let module = tempfile::tempdir().unwrap();
    std::fs::write(
        module.path().join("module.yaml"),
        spec(&serve(slow.clone()).await),
    )
    .unwrap();
    let mut app = Setup::of(module.path())
        .arg(format!("--pending-limit={PENDING_LIMIT_BYTES}"))
        .arg(format!("--memory-limit={MEMORY_LIMIT_BYTES}"))
        .start()
        .await;
    let time = Duration::from_secs(seconds());
    let producing = tokio::spawn(produce(app.client.clone(), time));
    let samples = watch(&app, time).await;
    let put = producing.await.unwrap();

    // The producer was too fast, and the excess waits in the stream.
    let handled: u64 = slow.handled().values().sum();
    let waiting_bytes = (put - handled) as usize * RECORD_BYTES;
    assert!(
        waiting_bytes > PENDING_LIMIT_BYTES + READ_BYTES,
        "{waiting_bytes} bytes wait: {put} records were put, {handled} handled"
    );
    assert!(samples.iter().any(|sample| sample.paused), "{samples:?}");
    let max = |of: fn(&Sample) -> usize| samples.iter().map(of).max().unwrap();
    let pending_bytes = max(|sample| sample.pending_bytes);
    assert!(
        pending_bytes <= PENDING_LIMIT_BYTES + READ_BYTES,
        "{samples:?}"
    );
    // The state of an address with waiting messages must be in memory.
    let state_bytes = max(|sample| sample.state_bytes);
    let all_bytes = ADDRESSES as usize * RECORD_BYTES * 3 / 2;
    assert!(state_bytes <= all_bytes + 2 * pending_bytes, "{samples:?}");
    let (settling, settled) = samples.split_at(samples.len() / 2);
    let resident = |half: &[Sample]| half.iter().map(|sample| sample.resident_bytes).max();
    let (before, after) = (resident(settling).unwrap(), resident(settled).unwrap());
    // How much is read at once depends on the moment: up to sixteen reads before a pause.
    let pending = |half: &[Sample]| half.iter().map(|sample| sample.pending_bytes).max();
    let (less, more) = (pending(settling).unwrap(), pending(settled).unwrap());
    let read_more = more.saturating_sub(less) * BYTES_OF_A_PENDING_BYTE;
    assert!(after <= before + SLACK_BYTES + read_more, "{samples:?}");

    // Each handled message takes effect once, even if its state was evicted since.
    for (id, handled) in slow.handled().into_iter().step_by(ADDRESSES as usize / 20) {
        let address = format!("test/slow/{id}");
        until_true("the handled messages are in the state", async || {
            let shown = app.client.address(&address).await.json().to_string();
            (handled..=slow.handled()[&id])
                .any(|count| shown.contains(&STANDARD.encode(kept(count))))
        })
        .await;
    }
    app.kill9().await;
}

fn seconds() -> u64 {
    let set = std::env::var("SATCHEL_TEST_PRESSURE_SECONDS").ok();
    set.map_or(12, |set| {
        set.parse()
            .expect("SATCHEL_TEST_PRESSURE_SECONDS is a number of seconds")
    })
}

fn spec(url: &str) -> String {
    format!(
        "kind: io.statefun.endpoints.v2/http
spec:
  functions: test/*
  urlPathTemplate: {url}/
  transport: {{type: io.statefun.transports.v1/async, call: 5min}}
---
kind: io.statefun.kinesis.v1/ingress
spec:
  id: test/in
  awsRegion: {{type: default}}
  startupPosition: {{type: earliest}}
  streams:
    - stream: flood
      valueType: test/record
      targets: [test/slow]
"
    )
}

/// Puts ten times as many records as are handled. Returns their number.
async fn produce(client: Client, time: Duration) -> u64 {
    const EVERY: Duration = Duration::from_millis(50);
    let begun = Instant::now();
    let mut put = 0;
    while begun.elapsed() < time {
        let due = u64::from(PUT_PER_SECOND) * begun.elapsed().as_millis() as u64 / 1000;
        let puts = (put..due).map(|number| {
            let client = client.clone();
            async move {
                client
                    .put(
                        "flood",
                        &format!("k{}", number % ADDRESSES),
                        vec![b'x'; RECORD_BYTES],
                    )
                    .await
            }
        });
        futures::future::join_all(puts).await;
        put = due.max(put);
        tokio::time::sleep(EVERY).await;
    }
    put
}

/// Resource use of the process at one point in time.
#[derive(Debug)]
struct Sample {
    #[allow(dead_code, reason = "printed when the test fails")]
    after_s: u64,
    resident_bytes: usize,
    pending_bytes: usize,
    state_bytes: usize,
    paused: bool,
}

async fn watch(app: &Dev, time: Duration) -> Vec<Sample> {
    let begun = Instant::now();
    let mut samples = Vec::new();
    while begun.elapsed() < time {
        let metric = async |name: &str| app.client.metric(name).await.unwrap() as usize;
        samples.push(Sample {
            after_s: begun.elapsed().as_secs(),
            resident_bytes: resident_bytes(app.pid()),
            pending_bytes: metric("satchel_pending_bytes").await,
            state_bytes: metric("satchel_state_memory_bytes").await,
            paused: metric("satchel_ingress_paused").await == 1,
        });
        tokio::time::sleep(time / 40).await;
    }
    println!("{samples:?}");
    samples
}

fn resident_bytes(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
    kilobytes.parse::<usize>().unwrap() * 1024
}

/// A function that handles one message at a time, each with a fixed delay. Its state is a large
/// value and a count per address.
#[derive(Clone, Default)]
struct Slow {
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Number of messages by address.
    handled: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Slow {
    fn handled(&self) -> BTreeMap<String, u64> {
        self.handled.lock().unwrap().clone()
    }

    async fn answer(&self, request: ToFunction) -> FromFunction {
        let Some(to_function::Request::Invocation(batch)) = request.request else {
            panic!("not an invocation: {request:?}");
        };
        if batch.state.is_empty() {
            let kept = PersistedValueSpec {
                state_name: "kept".into(),
                type_typename: "test/kept".into(),
                ..Default::default()
            };
            return response(from_function::Response::IncompleteInvocationContext(
                IncompleteInvocationContext {
                    missing_values: vec![kept],
                    ..Default::default()
                },
            ));
        }
        let messages = batch.invocations.len() as u64;
        let turn = self.turn.lock().await;
        tokio::time::sleep(Duration::from_secs(messages) / HANDLED_PER_SECOND).await;
        drop(turn);
        let before = batch.state[0].state_value.as_ref();
        let count = before.map_or(0, |kept| count_of(&kept.value)) + messages;
        let id = batch.target.unwrap().id;
        *self.handled.lock().unwrap().entry(id).or_default() += messages;
        response(from_function::Response::InvocationResult(
            InvocationResponse {
                state_mutations: vec![PersistedValueMutation {
                    mutation_type: MutationType::Modify.into(),
                    state_name: "kept".into(),
                    state_value: Some(typed_value("test/kept", kept(count).into_bytes())),
                }],
                ..Default::default()
            },
        ))
    }
}

fn response(response: from_function::Response) -> FromFunction {
    FromFunction {
        response: Some(response),
    }
}

/// State of an address that has handled this number of messages.
fn kept(count: u64) -> String {
    format!("{count}:{}", "k".repeat(RECORD_BYTES))
}

fn count_of(kept: &[u8]) -> u64 {
    let (count, _) = std::str::from_utf8(kept).unwrap().split_once(':').unwrap();
    count.parse().unwrap()
}

/// Serves the function; returns `http://127.0.0.1:PORT`.
async fn serve(slow: Slow) -> String {
    async fn answer(State(slow): State<Slow>, body: Bytes) -> Response {
        let Ok(request) = ToFunction::decode(body) else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        let answer = slow.answer(request).await.encode_to_vec();
        ([("content-type", "application/octet-stream")], answer).into_response()
    }
    let router = Router::new().fallback(answer).with_state(slow);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, router).into_future());
    url
}
