//! New versions of functions that do not fit, and pauses by a person: the real binary with real
//! handlers.

use std::path::{Path, PathBuf};

use reqwest::Method;
use satchel_testkit::{Client, Dev, Setup, until, until_true};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

/// An application with two endpoints, `example/*` and `other/*`, whose deployed versions are files,
/// and an ingress for `example/counter`.
struct App {
    dev: Dev,
    dir: TempDir,
}

const FITTING: &str = r#"{"satchel": 1, "states": {"sum": "example/sum"}}"#;

/// An endpoint with room for the failures of a version that does not fit: the function itself fails
/// with an error, which counts as an attempt, until the next request finds out about its states.
fn endpoint(namespace: &str, version: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dev/handlers/versions.py");
    let command = json!(["python3", "-B", script, version]);
    format!(
        "kind: satchel.endpoints.v1/lambda
spec:
  functions: {namespace}/*
  functionName: {namespace}
  retries: {{maxAttempts: 6, backoff: {{initial: 500ms, max: 1s}}}}
  dev: {{command: {command}}}
---
"
    )
}

const INGRESS: &str = "kind: io.statefun.kinesis.v1/ingress
spec:
  id: example/in
  awsRegion: {type: default}
  startupPosition: {type: earliest}
  streams:
    - {stream: numbers, valueType: satchel/json, targets: [example/counter]}
";

impl App {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let version = |namespace: &str| dir.path().join(format!("{namespace}.json"));
        let mut module = String::new();
        for namespace in ["example", "other"] {
            std::fs::write(version(namespace), FITTING).unwrap();
            module.push_str(&endpoint(namespace, &version(namespace)));
        }
        let file = dir.path().join("module.yaml");
        std::fs::write(&file, module + INGRESS).unwrap();
        Self {
            dev: Setup::of(file).start().await,
            dir,
        }
    }

    fn client(&self) -> &Client {
        &self.dev.client
    }

    /// Deploys a version of the functions of `example/*`.
    fn deploy(&self, version: &str) {
        // Renamed into place, so that no handler reads half of it.
        let new: PathBuf = self.dir.path().join("new.json");
        std::fs::write(&new, version).unwrap();
        std::fs::rename(new, self.dir.path().join("example.json")).unwrap();
    }

    async fn add(&self, address: &str, number: u64) -> Value {
        let reply = self.client().call(address, &json!({"add": number})).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    }

    async fn readyz(&self) -> Value {
        let reply = self.client().admin(Method::GET, "/readyz").await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    }

    /// Waits until `example/counter` is suspended, and returns the reason.
    async fn suspended(&self) -> String {
        until("example/counter is suspended", async || {
            let shown = self.readyz().await;
            let suspended = shown["suspended_functions"].as_array()?.first()?.clone();
            assert_eq!(suspended["function"], "example/counter");
            Some(suspended["reason"].as_str()?.to_owned())
        })
        .await
    }

    /// Runs the command line against the application. Returns the exit code and standard error.
    async fn satchel(&self, arguments: &[&str]) -> (i32, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_satchel"))
            .args(arguments)
            .args(["--admin-url", &self.client().admin_url()])
            .output()
            .await
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), error)
    }
}

/// Sends a call that waits as long as it must.
fn patient_call(
    client: &Client,
    address: &str,
    number: u64,
) -> impl Future<Output = Value> + use<> {
    let request = client.to_call(address).json(&json!({"add": number}));
    let request = request.timeout("100s");
    async move {
        let reply = request.send().await.unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    }
}

#[tokio::test]
async fn a_version_with_another_type_is_suspended_and_nothing_is_lost_when_it_is_rolled_back() {
    let mut app = App::start().await;
    assert_eq!(app.add("example/counter/a", 1).await, json!(1));
    assert_eq!(app.add("other/counter/a", 1).await, json!(1));
    app.deploy(r#"{"satchel": 1, "states": {"sum": "example/other"}}"#);
    let waiting = tokio::spawn(patient_call(app.client(), "example/counter/a", 1));
    let reason = app.suspended().await;
    let expected = "the state \"sum\" is a example/sum, it cannot be declared as example/other";
    assert_eq!(reason, expected);
    let behind = app
        .client()
        .send("example/counter/b", &json!({"add": 5}))
        .await;
    assert_eq!(behind.status, 202);
    assert_eq!(app.add("other/counter/a", 1).await, json!(2));
    let shown = app.client().address("example/counter/a").await.json();
    let stopped = shown["function_stopped"].as_str().unwrap_or_default();
    assert!(stopped.contains(expected), "{shown}");
    let log = app.dev.printed();
    assert!(
        log.contains("function suspended; its messages wait"),
        "{log}"
    );

    // The next owner learns the same.
    waiting.abort();
    app.dev.restart().await;
    let reason = app.suspended().await;
    assert!(
        reason.contains("the state \"sum\" is a example/sum"),
        "{reason}"
    );
    let waiting = tokio::spawn(patient_call(app.client(), "example/counter/a", 1));
    app.deploy(FITTING);
    assert_eq!(waiting.await.unwrap(), json!(3));
    assert_eq!(app.add("example/counter/b", 0).await, json!(5));
    assert_eq!(app.readyz().await, json!({"state": "serving"}));
    assert_eq!(app.client().dead_letters().await, [Value::Null; 0]);
}

#[tokio::test]
async fn an_endpoint_that_answers_in_an_unknown_version_is_suspended_until_it_does_not() {
    let app = App::start().await;
    app.deploy(r#"{"satchel": 2, "states": {"sum": "example/sum"}}"#);
    let waiting = tokio::spawn(patient_call(app.client(), "example/counter/a", 1));
    let reason = app.suspended().await;
    assert!(reason.contains("the bundle has version 2"), "{reason}");
    assert_eq!(app.add("other/counter/a", 1).await, json!(1));
    app.deploy(FITTING);
    assert_eq!(waiting.await.unwrap(), json!(1));
    assert_eq!(app.readyz().await, json!({"state": "serving"}));
    assert_eq!(app.client().dead_letters().await, [Value::Null; 0]);
}

#[tokio::test]
async fn a_paused_ingress_applies_nothing_over_a_crash_and_continues_exactly() {
    let mut app = App::start().await;
    let put = async |app: &App, number: u64| {
        let data = json!({"add": number}).to_string();
        app.client().put("numbers", "a", data).await;
    };
    put(&app, 1).await;
    let sum = async |app: &App| app.add("example/counter/a", 0).await;
    until_true("the first record is applied", async || {
        sum(&app).await == json!(1)
    })
    .await;
    let pause = ["ingress", "pause", "example/in", "--reason", "a flood"];
    assert_eq!(app.satchel(&pause).await, (0, String::new()));
    let shown = app.readyz().await;
    let paused = &shown["paused_ingresses"][0];
    assert_eq!(
        (&paused["ingress"], &paused["reason"]),
        (&json!("example/in"), &json!("a flood"))
    );
    for number in [10, 100] {
        put(&app, number).await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(sum(&app).await, json!(1));
    app.dev.restart().await;
    put(&app, 1_000).await;
    assert_eq!(
        app.readyz().await["paused_ingresses"],
        shown["paused_ingresses"]
    );
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(sum(&app).await, json!(1));

    let resume = ["ingress", "resume", "example/in"];
    assert_eq!(app.satchel(&resume).await, (0, String::new()));
    until_true("every record is applied", async || {
        sum(&app).await == json!(1_111)
    })
    .await;
    // It is not paused any more, and none of its sources is stopped.
    assert_eq!(app.satchel(&resume).await, (0, String::new()));
    let (code, error) = app.satchel(&["ingress", "pause", "example/out"]).await;
    assert_eq!(code, 1);
    assert!(error.contains("no ingress is named example/out"), "{error}");
    let log = app.dev.printed();
    assert!(log.contains("paused ingress resumed"), "{log}");
}

#[tokio::test]
async fn a_paused_function_keeps_its_messages_and_rejects_calls_with_the_reason() {
    let mut app = App::start().await;
    assert_eq!(app.add("example/counter/a", 1).await, json!(1));
    let reason = ["--reason", "an incident"];
    let pause = [&["function", "pause", "example/counter"], &reason[..]].concat();
    assert_eq!(app.satchel(&pause).await, (0, String::new()));
    let sent = app
        .client()
        .send("example/counter/a", &json!({"add": 10}))
        .await;
    assert_eq!(sent.status, 202);
    app.dev.restart().await;
    let called = app
        .client()
        .call("example/counter/a", &json!({"add": 100}))
        .await;
    assert_eq!(
        (called.status, called.error_code()),
        (503, "function_paused".to_owned())
    );
    let message = called.error_message();
    assert!(
        message.contains("example/counter is paused: an incident"),
        "{message}"
    );
    assert_eq!(app.add("other/counter/a", 1).await, json!(1));
    let shown = app.readyz().await;
    assert_eq!(shown["paused_functions"][0]["function"], "example/counter");
    let paused = app.client().metric("satchel_functions_paused").await;
    assert_eq!(paused, Some(1.0));

    let resume = ["function", "resume", "example/counter"];
    assert_eq!(app.satchel(&resume).await, (0, String::new()));
    assert_eq!(app.add("example/counter/a", 0).await, json!(11));
    assert_eq!(app.readyz().await, json!({"state": "serving"}));
}

#[tokio::test]
async fn a_state_that_no_version_declares_is_dropped_and_may_return_with_another_type() {
    let mut app = App::start().await;
    let with_old = |typename: &str| {
        let states = json!({"sum": "example/sum", "old": typename});
        json!({"satchel": 1, "states": states}).to_string()
    };
    app.deploy(&with_old("example/old"));
    for id in ["a", "b", "c"] {
        let address = format!("example/counter/{id}");
        assert_eq!(app.add(&address, 1).await, json!(1));
        let state = format!(
            "{}/api/addresses/{address}/state/old",
            app.client().admin_url()
        );
        let set = reqwest::Client::new().put(state).body("7").send().await;
        assert_eq!(set.unwrap().status(), 200);
    }
    let drop = ["state", "drop", "example/counter", "old"];
    let (code, error) = app.satchel(&drop).await;
    assert_eq!(code, 1);
    assert!(error.contains("declares the state \"old\""), "{error}");

    // The next owner asks for the declarations, and `old` is not among them.
    app.deploy(FITTING);
    app.dev.restart().await;
    assert_eq!(app.add("example/counter/a", 1).await, json!(2));
    let has_old = async |app: &App, id: &str| {
        let shown = app.client().address(&format!("example/counter/{id}")).await;
        let states = shown.json()["state"].clone();
        let mut states = states.as_array().unwrap().iter();
        states.any(|state| state["name"] == "old")
    };
    assert!(has_old(&app, "b").await);
    until_true("the state is retired and dropped", async || {
        app.satchel(&drop).await == (0, String::new())
    })
    .await;
    for id in ["a", "b", "c"] {
        assert!(!has_old(&app, id).await, "{id}");
    }
    app.deploy(&with_old("example/newer"));
    assert_eq!(app.add("example/counter/b", 1).await, json!(2));
    assert_eq!(app.readyz().await, json!({"state": "serving"}));
}
