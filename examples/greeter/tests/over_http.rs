//! The greeter's process as a StateFun endpoint over HTTP, without the Runtime API.

mod mistakes;

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use mistakes::mistakes_are_answered_as_mistakes;
use satchel_testkit::Setup;
use serde_json::json;

/// The greeter's own binary, serving HTTP.
struct Process(Child);

impl Process {
    /// Starts it. Returns it with its address.
    fn start() -> (Self, String) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_greeter"))
            .args(["--http", "127.0.0.1:0"])
            .env_remove("AWS_LAMBDA_RUNTIME_API")
            .env_remove("RUST_LOG")
            .env_remove("AWS_LAMBDA_LOG_LEVEL")
            .env_remove("AWS_LAMBDA_LOG_FORMAT")
            .stderr(Stdio::piped())
            .spawn()
            .expect("the greeter can be started");
        let stderr = child.stderr.take().expect("stderr is piped");
        let process = Self(child);
        let mut lines = BufReader::new(stderr).lines();
        let address = lines.find_map(|line| {
            let line = line.expect("its log is text");
            let (_, rest) = line.split_once("address=")?;
            rest.split_whitespace().next().map(str::to_owned)
        });
        // The rest is read too, so that a full pipe does not block the process.
        std::thread::spawn(move || lines.for_each(drop));
        (process, address.expect("the greeter logs its address"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The greeter's module file with its endpoint at this address, in a directory of its own.
fn module_at(address: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory for the module file can be made");
    let module = dir.path().join("module.yaml");
    let on_lambda = include_str!("../module.yaml");
    let (_, ingress_and_egress) = on_lambda
        .split_once("---")
        .expect("the endpoint comes first");
    let over_http = format!(
        "kind: io.statefun.endpoints.v2/http\nspec:\n  functions: example/*\n  \
         urlPathTemplate: http://{address}/{{function.name}}\n---{ingress_and_egress}"
    );
    std::fs::write(&module, over_http).expect("the module file can be written");
    (dir, module)
}

#[tokio::test]
async fn mistakes_are_answered_over_http_as_on_lambda() {
    let (_process, address) = Process::start();
    let (_dir, module) = module_at(&address);
    let app = Setup::of(module).start().await;
    mistakes_are_answered_as_mistakes(&app.client).await;
}

#[tokio::test]
async fn the_greeter_serves_the_same_over_http_as_on_lambda() {
    let (process, address) = Process::start();
    let (_dir, module) = module_at(&address);
    let mut app = Setup::of(module).start().await;
    for seen in 1..=3 {
        if seen == 2 {
            app.restart().await;
        }
        let reply = app
            .client
            .call("example/greeter/alice", &json!({"name": "Alice"}))
            .await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.typename.as_deref(), Some("example/greeting"));
        assert_eq!(reply.json()["seen"], seen);
    }
    for seen in 1..=2 {
        app.client.put("names", "bob", r#"{"name":"Bob"}"#).await;
        let greetings = app.client.records_when("greetings", seen).await;
        let last = greetings.last().expect("there is one");
        assert_eq!(
            (last.key.as_str(), &last.json()["seen"]),
            ("bob", &json!(seen))
        );
    }
    assert_eq!(app.terminate().await.code, Some(0));
    drop(process);
}
