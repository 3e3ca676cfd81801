//! `satchel invoke`: the story of docs/replay.md as it stands there, and what the page promises.

pub(crate) mod story;

use std::path::{Path, PathBuf};

use reqwest::Method;
use satchel_testkit::{Dev, Setup, until_true};
use serde_json::{Value, json};

use crate::offline::roots::{files, state_of};
use crate::offline::tool::{ToolResult, tool};

/// Two attempts, in quick succession.
const MODULE: &str = "kind: satchel.endpoints.v1/lambda
spec:
  functions: faulty/*
  functionName: faulty
  retries: {maxAttempts: 2, backoff: {initial: 10ms, max: 50ms}}
  dev: {command: [python3, -B, SCRIPT]}
";

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dev/handlers/runtime_api.py")
}

/// An application of faulty functions, with its module file.
struct App {
    dev: Dev,
    module: tempfile::TempDir,
}

impl App {
    async fn start(arguments: &[&str]) -> Self {
        let module = tempfile::tempdir().unwrap();
        let file = module.path().join("module.yaml");
        let text = MODULE.replace("SCRIPT", script().to_str().unwrap());
        std::fs::write(&file, text).unwrap();
        let mut setup = Setup::of(file);
        for argument in arguments {
            setup = setup.arg(*argument);
        }
        Self {
            dev: setup.start().await,
            module,
        }
    }

    fn state(&self) -> PathBuf {
        state_of(self.dev.setup())
    }

    fn module(&self) -> String {
        self.module.path().display().to_string()
    }

    async fn says(&self, id: &str, what: &str) {
        let address = format!("faulty/one/{id}");
        let reply = self.dev.client.call(&address, &json!({"say": what})).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }

    /// Sends a message, and returns the id of the dead letter that it becomes.
    async fn fails(&self, id: &str, message: &Value) -> String {
        let before = self.letters().await;
        let request = self.dev.client.to_send(&format!("faulty/one/{id}"));
        assert_eq!(request.json(message).send().await.unwrap().status, 202);
        let mut new = None;
        until_true("there is a dead letter", async || {
            let mut letters = self.letters().await.into_iter();
            new = letters.find(|letter| !before.contains(letter));
            new.is_some()
        })
        .await;
        new.unwrap()["id"].as_str().unwrap().to_owned()
    }

    async fn letters(&self) -> Vec<Value> {
        let listed = self
            .dev
            .client
            .admin(Method::GET, "/api/dead-letters")
            .await;
        listed.json()["dead_letters"].as_array().unwrap().clone()
    }

    fn invoke(&self, arguments: &[&str]) -> ToolResult {
        let mut all = vec!["invoke", "--json"];
        all.extend(arguments);
        tool_before(&self.state(), &all)
    }

    /// Replays with the handler of the module file, and returns the report.
    fn report(&self, arguments: &[&str]) -> (i32, Value) {
        let module = self.module();
        let mut all = vec!["--module", &module, "--handler"];
        all.extend(arguments);
        let result = self.invoke(&all);
        let report = serde_json::from_str(&result.out);
        (result.code, report.unwrap_or_else(|_| panic!("{result:?}")))
    }
}

/// Runs `satchel` with `--state` before the other arguments, of which `--to` takes the rest.
fn tool_before(state: &Path, arguments: &[&str]) -> ToolResult {
    let (verb, rest) = arguments.split_first().unwrap();
    match rest.iter().position(|argument| *argument == "--to") {
        None => tool(state, arguments),
        Some(_) => {
            let state = format!("--state={}", state.display());
            let mut all = vec![*verb, &state];
            all.extend(rest);
            crate::offline::tool::run(&all)
        }
    }
}

fn logged(entries: &Value) -> Value {
    json!({"typename": "faulty/log", "value": entries})
}

#[tokio::test]
async fn a_dead_letter_is_replayed_with_the_state_of_its_failure_and_nothing_happens() {
    let mut app = App::start(&["--retention=1h"]).await;
    app.says("ada", "first").await;
    let reject = json!({"do": "reject", "code": 422, "why": "too late"});
    let rejected = app.fails("ada", &reject).await;
    let raising = json!({"do": "raise", "while": app.module.path().join("obstacle")});
    std::fs::write(app.module.path().join("obstacle"), "").unwrap();
    let raised = app.fails("ada", &raising).await;
    app.says("ada", "later").await;
    let before = files(&app.state());
    let letters = app.letters().await;

    let (code, report) = app.report(&["--dead-letter", &rejected]);
    assert_eq!(code, 1);
    assert_eq!(report["outcome"], "failed");
    assert_eq!(
        report["failure"]["rejection"],
        json!({"index": 0, "code": 422, "message": "rejected: too late"})
    );
    let request = &report["request"];
    assert_eq!(request["address"], "faulty/one/ada");
    assert_eq!(request["attempt"], "0-18446744073709551615-1");
    let state = json!([{"state": "log", "value": logged(&json!(["first"]))}]);
    assert_eq!(request["states"], state);

    let (code, report) = app.report(&["--dead-letter", &raised]);
    assert_eq!((code, &report["outcome"]), (1, &json!("failed")));
    assert_eq!(report["failure"]["message"], "FunctionError: no such thing");
    let message = &report["request"]["messages"][0];
    assert_eq!(message["id"], raised.as_str());
    assert_eq!(
        message["failed_attempts"], 1,
        "it is as at its second attempt"
    );

    // What made it fail is gone, as with a fix.
    std::fs::remove_file(app.module.path().join("obstacle")).unwrap();
    let (code, report) = app.report(&["--dead-letter", &raised]);
    assert_eq!((code, &report["outcome"]), (0, &json!("applied")));
    let changed = json!([{
        "state": "log",
        "before": logged(&json!(["first"])),
        "after": logged(&json!(["first", "raise"])),
        "expires_at_ms": null,
    }]);
    assert_eq!(report["changed"], changed);

    let (code, report) = app.report(&["--dead-letter", &raised, "--latest"]);
    assert_eq!(code, 0);
    assert_eq!(
        report["changed"][0]["before"],
        logged(&json!(["first", "later"]))
    );
    let message = &report["request"]["messages"][0];
    assert_ne!(message["id"], raised.as_str(), "a retry is a new message");
    assert_eq!(message["failed_attempts"], 0);

    assert_eq!(files(&app.state()), before, "nothing was written");
    assert_eq!(app.letters().await, letters);
    assert_eq!(app.dev.terminate().await.code, Some(0));
}

#[tokio::test]
async fn a_given_message_finds_the_state_of_a_moment_and_says_what_it_would_send() {
    let app = App::start(&["--retention=1h"]).await;
    app.says("bob", "one").await;
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let moment = jiff::Timestamp::now().to_string();
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    app.says("bob", "two").await;

    let message = r#"{"say": "three", "forward": "eve"}"#;
    let from = ["--from", "faulty/one/bob", "--message", message];
    let caller = ["--caller", "shop/till/7"];
    let (code, report) = app.report(&[&from[..], &caller].concat());
    assert_eq!(code, 0);
    assert_eq!(
        report["changed"][0]["after"],
        logged(&json!(["one", "two", "three"]))
    );
    let sent = json!([
        {"kind": "message", "to": "faulty/one/eve", "message":
            {"typename": "satchel/json", "value": {"say": "three", "quiet": true}}},
        {"kind": "message", "to": "shop/till/7", "message":
            {"typename": "satchel/json", "value": ["one", "two", "three"]}},
    ]);
    assert_eq!(report["sent"], sent);

    let (code, report) = app.report(&[&from[..], &["--at", &moment]].concat());
    assert_eq!(code, 0);
    assert_eq!(
        report["changed"][0]["after"],
        logged(&json!(["one", "three"]))
    );

    // An address that never was, of a function whose states are known.
    let (code, report) = app.report(&["--from", "faulty/one/new", "--message", message]);
    assert_eq!(code, 0);
    assert_eq!(report["changed"][0]["before"], Value::Null);

    // A function that the root does not know declares its states, and is asked again.
    let (code, report) = app.report(&["--from", "faulty/two/new", "--message", message]);
    assert_eq!((code, &report["declared"]), (0, &json!(["log"])));
    assert_eq!(report["changed"][0]["after"], logged(&json!(["three"])));
}

#[tokio::test]
async fn answers_that_an_owner_would_reject_are_named() {
    let app = App::start(&[]).await;
    app.says("ada", "first").await;
    for (wrong, reason) in [
        (
            "write an undeclared state",
            "the state \"undeclared\" was never declared",
        ),
        (
            "write another type",
            "the state \"log\" is a faulty/log, its new value is a faulty/other",
        ),
        (
            "write to an unknown egress",
            "no egress is named faulty/nowhere",
        ),
        (
            "miss what it was given",
            "it asks for states that the request held",
        ),
    ] {
        let message = json!({"do": wrong}).to_string();
        let (code, report) = app.report(&["--from", "faulty/one/ada", "--message", &message]);
        assert_eq!(
            (code, &report["outcome"]),
            (1, &json!("rejected")),
            "{wrong}"
        );
        let rejected = report["rejected"].as_str().unwrap();
        assert!(rejected.contains(reason), "{wrong}: {rejected}");
    }
    // Without module files, any egress may exist.
    let message = json!({"do": "write to an unknown egress"}).to_string();
    let script = script().display().to_string();
    let result = app.invoke(&[
        "--from",
        "faulty/one/ada",
        "--message",
        &message,
        "--to",
        "python3",
        "-B",
        &script,
    ]);
    assert_eq!(result.code, 0, "{result:?}");
    let report: Value = serde_json::from_str(&result.out).unwrap();
    assert_eq!(report["sent"][0]["kind"], "egress");
    assert_eq!(report["sent"][0]["to"], "faulty/nowhere");

    for (what, reason) in [
        ("exit", "exit"),
        ("no json", "cannot be read"),
        ("panic", "Panic"),
    ] {
        let message = json!({"do": what}).to_string();
        let (code, report) = app.report(&["--from", "faulty/one/ada", "--message", &message]);
        assert_eq!((code, &report["outcome"]), (1, &json!("failed")), "{what}");
        let failure = report["failure"]["message"].as_str().unwrap();
        assert!(failure.contains(reason), "{what}: {failure}");
    }
}

#[tokio::test]
async fn messages_that_wait_are_replayed_as_one_batch_with_a_note_about_the_pause() {
    let app = App::start(&[]).await;
    app.says("ada", "first").await;
    let client = &app.dev.client;
    let pause = client.admin(Method::POST, "/api/functions/faulty/one/pause");
    assert!(pause.await.status < 300);
    for what in ["second", "third"] {
        let request = client.to_send("faulty/one/ada").json(&json!({"say": what}));
        assert_eq!(request.send().await.unwrap().status, 202);
    }
    let (code, report) = app.report(&["--from", "faulty/one/ada"]);
    assert_eq!(code, 0);
    assert_eq!(
        report["changed"][0]["after"],
        logged(&json!(["first", "second", "third"]))
    );
    let messages = report["request"]["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 2, "one batch");
    let note = report["request"]["notes"][0].as_str().unwrap();
    assert!(note.starts_with("the function was paused"), "{note}");
}

#[tokio::test]
async fn a_request_is_written_for_other_tools_and_their_answer_is_read() {
    let app = App::start(&["--lambda-api=127.0.0.1:0"]).await;
    app.says("ada", "first").await;
    let dir = tempfile::tempdir().unwrap();
    let (request, answer) = (
        dir.path().join("request.json"),
        dir.path().join("answer.json"),
    );
    let from = [
        "--from",
        "faulty/one/ada",
        "--message",
        r#"{"say": "second"}"#,
    ];
    let written = app.invoke(&[&from[..], &["--write", request.to_str().unwrap()]].concat());
    assert_eq!((written.code, written.out.as_str()), (0, ""), "{written:?}");
    let to_stdout = app.invoke(&[&from[..], &["--write", "-"]].concat());
    let bytes = std::fs::read(&request).unwrap();
    assert_eq!(to_stdout.out.as_bytes(), bytes, "it is the same each time");

    // The same route as that of `cargo lambda invoke`.
    let printed = app.dev.printed();
    let api = regex_lite::Regex::new(r"http://127\.0\.0\.1:\d+").unwrap();
    let line = printed.lines().find(|line| line.contains("(Invoke API)"));
    let line = line.unwrap_or_else(|| panic!("{printed}"));
    let url = api.find(line).unwrap_or_else(|| panic!("{line}")).as_str();
    let url = format!("{url}/2015-03-31/functions/faulty/invocations");
    let response = reqwest::Client::new()
        .post(url)
        .body(bytes)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status().as_u16(), 200);
    std::fs::write(&answer, response.bytes().await.unwrap()).unwrap();
    let read = app.invoke(&[&from[..], &["--answer", answer.to_str().unwrap()]].concat());
    assert_eq!(read.code, 0, "{read:?}");
    let report: Value = serde_json::from_str(&read.out).unwrap();
    assert_eq!(
        report["changed"][0]["after"],
        logged(&json!(["first", "second"]))
    );

    // The answer to another request is not taken for one to this one.
    std::fs::write(&answer, r#"{"satchel":1,"bundle":"b7","results":[]}"#).unwrap();
    let read = app.invoke(&[&from[..], &["--answer", answer.to_str().unwrap()]].concat());
    assert_eq!(read.code, 1, "{read:?}");
    assert!(read.err.contains("answered for another bundle"), "{read:?}");
}

#[tokio::test]
async fn what_cannot_be_replayed_is_named_with_what_is_kept() {
    let mut app = App::start(&[]).await;
    app.says("ada", "first").await;
    let letter = app.fails("ada", &json!({"do": "raise"})).await;
    let module = app.module();
    let script = script().display().to_string();
    let to = ["--to", "python3", "-B", &script];
    let unknown = "0".repeat(32);
    let nothing = format!("its dead letters are {letter}");
    let kept = format!("there is no dead letter {unknown}; 1 are kept: {letter}");
    for (arguments, code, problem) in [
        (vec!["--from", "faulty/one/ada"], 1, nothing.as_str()),
        (vec!["--dead-letter", &unknown], 1, &kept),
        (vec!["--dead-letter", "seven"], 2, "32 hexadecimal digits"),
        (vec!["--from", "ada"], 2, "is not an address"),
        (
            vec!["--from", "faulty/one/ada", "--at", "nowhere"],
            2,
            "no savepoint nowhere",
        ),
        (
            vec!["--from", "faulty/one/ada", "--at", "2999-01-01T00:00:00Z"],
            2,
            "in the future",
        ),
        (
            vec![
                "--from",
                "other/one/ada",
                "--message",
                "1",
                "--module",
                &module,
            ],
            2,
            "serves the function other/one",
        ),
        (
            vec!["--from", "faulty/one/ada", "--message", "{"],
            2,
            "the message is not JSON",
        ),
    ] {
        let result = app.invoke(&[&arguments[..], &to].concat());
        assert_eq!(result.code, code, "{arguments:?}: {result:?}");
        assert!(result.err.contains(problem), "{arguments:?}: {result:?}");
    }
    let missing = app.invoke(&["--dead-letter", &letter, "--to", "./no-such-handler"]);
    assert_eq!(missing.code, 5, "{missing:?}");
    assert!(missing.err.contains("no-such-handler"), "{missing:?}");
    let ends = app.invoke(&["--dead-letter", &letter, "--to", "false"]);
    assert_eq!(ends.code, 5, "{ends:?}");
    assert!(ends.err.contains("no handler took the request"), "{ends:?}");
    let refused = app.invoke(&["--dead-letter", &letter, "--url", "http://127.0.0.1:1/"]);
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(refused.err.contains("cannot connect"), "{refused:?}");
    assert_eq!(app.dev.terminate().await.code, Some(0));
}

#[tokio::test]
async fn of_several_partitions_the_owner_of_the_address_is_read() {
    let app = App::start(&["--partitions=4"]).await;
    let mut partitions = std::collections::BTreeSet::new();
    for id in ["ada", "bob", "eve", "dan", "kim", "lee"] {
        app.says(id, id).await;
        let letter = app.fails(id, &json!({"do": "raise"})).await;
        let (code, report) = app.report(&["--dead-letter", &letter, "--latest"]);
        assert_eq!((code, &report["outcome"]), (1, &json!("failed")));
        assert_eq!(
            report["request"]["states"][0]["value"],
            logged(&json!([id]))
        );
        let message = format!(r#"{{"say": "x", "forward": "{id}-2"}}"#);
        let from = format!("faulty/one/{id}");
        let (code, report) = app.report(&["--from", &from, "--message", &message]);
        assert_eq!(code, 0);
        assert_eq!(report["sent"][0]["to"], format!("faulty/one/{id}-2"));
        partitions.insert(report["request"]["partition"].as_u64().unwrap());
    }
    assert!(partitions.len() > 1, "{partitions:?}");
}
