//! Functions and endpoints that fail in every way, beside ones that do not: the real binary, real handler processes, real connections.
//!
//! The handlers are in `tests/handlers`: Python that needs nothing but its standard library, and that does what a message tells it to.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod addresses;
mod dead_letters;
mod endpoint;
mod http;
mod lambda;
mod suspension;

use std::path::{Path, PathBuf};

use satchel_testkit::{Client, Dev, Reply, Setup};
use serde_json::{Value, json};
use tempfile::TempDir;

use endpoint::Endpoint;

/// An application made for one test, and the directory where its module file lies.
struct App {
    dev: Dev,
    dir: TempDir,
}

impl App {
    /// Starts the application of this module file.
    async fn start(module: &str) -> Self {
        Self::start_with(module, |setup| setup).await
    }

    async fn start_with(module: &str, complete: impl FnOnce(Setup) -> Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("module.yaml");
        std::fs::write(&file, module).unwrap();
        Self {
            dev: complete(Setup::of(file)).start().await,
            dir,
        }
    }

    fn client(&self) -> &Client {
        &self.dev.client
    }

    /// What goes wrong while this file exists.
    fn obstacle(&self) -> Obstacle {
        let path = self.dir.path().join("obstacle");
        std::fs::write(&path, "").unwrap();
        Obstacle(path)
    }
}

/// A file that is in the way of a message.
struct Obstacle(PathBuf);

impl Obstacle {
    /// A message that does `what` until the obstacle is removed.
    fn message(&self, what: &str) -> Value {
        json!({"do": what, "while": self.0})
    }

    fn remove(self) {
        std::fs::remove_file(self.0).unwrap();
    }
}

/// An endpoint of the module file whose handlers are processes that ask the Runtime API. `fields` are further lines of its spec.
fn lambda_endpoint(functions: &str, name: &str, fields: &[&str]) -> String {
    let script = json!(handlers().join("runtime_api.py"));
    let mut spec = format!(
        "kind: satchel.endpoints.v1/lambda\nspec:\n  functions: {functions}\n  functionName: {name}\n  \
         dev: {{command: [python3, -B, {script}]}}\n"
    );
    for field in fields {
        spec.push_str(&format!("  {field}\n"));
    }
    spec + "---\n"
}

/// Three attempts, in quick succession.
const THREE_ATTEMPTS: &str = "retries: {maxAttempts: 3, backoff: {initial: 10ms, max: 50ms}}";

/// An endpoint of the module file that is reached over HTTP.
fn http_endpoint(functions: &str, endpoint: &Endpoint) -> String {
    let url = endpoint.url();
    format!(
        "kind: io.statefun.endpoints.v2/http\nspec:\n  functions: {functions}\n  urlPathTemplate: {url}/{{function.name}}\n  \
         transport: {{type: io.statefun.transports.v1/async, call: 1s, payload_max_bytes: 100000}}\n---\n"
    )
}

fn handlers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/handlers")
}

fn say(what: impl Into<Value>) -> Value {
    json!({"say": what.into()})
}

/// Calls a function that may have to fail often before it answers.
async fn call_patiently(client: &Client, address: &str, message: &Value) -> Reply {
    let request = client.to_call(address).json(message).timeout("100s");
    request.send().await.unwrap()
}

/// The log that a function of `trouble.py` answered with.
#[track_caller]
fn log_of(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

/// The log that an address of `trouble.py` holds.
async fn kept_log(client: &Client, address: &str) -> Value {
    let shown = client.address(address).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    let state = &shown.json()["state"];
    let log = state.as_array().unwrap().iter();
    let mut log = log.filter(|state| state["name"] == "log");
    log.next().map_or(Value::Null, |log| log["value"].clone())
}

/// What a dead letter tells, without what differs from run to run.
fn told(letter: &Value) -> (String, Value, u64, String) {
    (
        letter["address"].as_str().unwrap().to_owned(),
        letter["message"].clone(),
        letter["attempts"].as_u64().unwrap(),
        letter["reason"].as_str().unwrap().to_owned(),
    )
}

fn id_of(letter: &Value) -> String {
    letter["id"].as_str().unwrap().to_owned()
}
