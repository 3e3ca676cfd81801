//! Functions and endpoints that fail in every way, beside ones that do not: the real binary, real
//! handler processes, real connections.
//!
//! The handlers in `tests/dev/handlers` are Python programs that need only the standard library and
//! behave as their messages say.

mod addresses;
mod dead_letters;
mod endpoint;
mod http;
mod lambda;
mod module_files;
mod outages;
mod rejections;
mod suspension;
mod traces;

use std::path::{Path, PathBuf};

use satchel_testkit::{Client, Dev, Reply, Setup};
use serde_json::{Value, json};
use tempfile::TempDir;

use endpoint::Endpoint;

/// An application for one test, and the directory of its module file.
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

    /// Creates a file that makes messages fail while it exists.
    fn obstacle(&self) -> Obstacle {
        let path = self.dir.path().join("obstacle");
        std::fs::write(&path, "").unwrap();
        Obstacle(path)
    }
}

/// A file that makes a message fail.
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

/// A module document for an endpoint whose handlers are processes that use the Runtime API.
/// `fields` are additional lines of its spec.
fn lambda_endpoint(functions: &str, name: &str, fields: &[&str]) -> String {
    let script = json!(handlers().join("runtime_api.py"));
    let mut spec = format!(
        "kind: satchel.endpoints.v1/lambda
spec:
  functions: {functions}
  functionName: {name}
  dev: {{command: [python3, -B, {script}]}}
"
    );
    for field in fields {
        spec.push_str(&format!("  {field}\n"));
    }
    spec + "---\n"
}

/// Three attempts, in quick succession.
const THREE_ATTEMPTS: &str = "retries: {maxAttempts: 3, backoff: {initial: 10ms, max: 50ms}}";

/// A module document for an endpoint that is reached over HTTP.
fn http_endpoint(functions: &str, endpoint: &Endpoint) -> String {
    let url = endpoint.url();
    format!(
        "kind: io.statefun.endpoints.v2/http
spec:
  functions: {functions}
  urlPathTemplate: {url}/{{function.name}}
  transport: {{type: io.statefun.transports.v1/async, call: 1s, payload_max_bytes: 100000}}
---
"
    )
}

fn handlers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dev/handlers")
}

fn say(what: impl Into<Value>) -> Value {
    json!({"say": what.into()})
}

/// Calls a function that may fail often before it answers.
async fn call_patiently(client: &Client, address: &str, message: &Value) -> Reply {
    let request = client.to_call(address).json(message).timeout("100s");
    request.send().await.unwrap()
}

/// Log in the answer of a function of `faulty.py`.
#[track_caller]
fn log_of(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

/// Log in the state of an address of `faulty.py`.
async fn kept_log(client: &Client, address: &str) -> Value {
    let shown = client.address(address).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    let state = &shown.json()["state"];
    let log = state.as_array().unwrap().iter();
    let mut log = log.filter(|state| state["name"] == "log");
    log.next().map_or(Value::Null, |log| log["value"].clone())
}

/// The content of a dead letter that is equal in every run: address, message, attempts, reason.
fn summary(letter: &Value) -> (String, Value, u64, String) {
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
