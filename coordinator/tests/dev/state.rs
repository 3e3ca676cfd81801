//! Locations of an application's state: buckets, savepoints, forks, unfinished roots.

mod bucket;
mod forks;
mod idle;
mod starting;
mod unfinished;

use std::path::Path;

use satchel_testkit::{Client, Setup};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The application of `tests/dev/handlers/counter.py`, with an input and an output stream.
fn counter() -> (TempDir, Setup) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dev/handlers/counter.py");
    let script = json!(script);
    let module = format!(
        "kind: satchel.endpoints.v1/lambda
spec:
  functions: example/*
  functionName: counter
  dev: {{command: [python3, -B, {script}]}}
---
kind: io.statefun.kinesis.v1/ingress
spec:
  id: example/in
  awsRegion: {{type: default}}
  startupPosition: {{type: earliest}}
  streams:
    - stream: in
      valueType: example/add
      targets: [example/counter]
---
kind: io.statefun.kinesis.v1/egress
spec:
  id: example/out
  awsRegion: {{type: default}}
"
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("module.yaml");
    std::fs::write(&file, module).unwrap();
    (dir, Setup::of(file))
}

/// Calls a counter and returns the sum that it answers.
async fn call(client: &Client, id: &str, message: &Value) -> i64 {
    let reply = client.call(&format!("example/counter/{id}"), message).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json().as_i64().unwrap()
}

/// Sum in the state of a counter.
async fn sum(client: &Client, id: &str) -> Option<i64> {
    let shown = client.address(&format!("example/counter/{id}")).await;
    if shown.status == 404 {
        return None;
    }
    assert_eq!(shown.status, 200, "{shown:?}");
    let shown = shown.json();
    let state = &shown["state"][0];
    let text = state["value"].clone();
    text.as_i64()
}

async fn readiness(client: &Client) -> Value {
    client.admin(reqwest::Method::GET, "/readyz").await.json()
}
