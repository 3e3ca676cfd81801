//! Roots that former versions wrote are read, served, verified and restored by this one.
//!
//! `coordinator/tests/formats/README.md` says what each archive contains.

use std::path::{Path, PathBuf};
use std::process::Command;

use satchel_testkit::Setup;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::offline::tool::{sorted, tool};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/formats")
        .join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(fixture(name)).unwrap()
}

/// The lines of a fixture as JSON.
fn lines(name: &str) -> Vec<Value> {
    text(name)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Unpacks an archive into a new directory.
fn unpacked(archive: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new("python3")
        .args(["-m", "tarfile", "-e"])
        .args([&fixture(archive), dir.path()])
        .status()
        .unwrap();
    assert!(status.success());
    dir
}

/// The application that wrote the roots: one endpoint suspends a poisoned address, one keeps the
/// poisonous message as dead letter.
fn application(dir: &Path) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dev/handlers/counter.py");
    let endpoint = |functions: &str, name: &str, poison: &str| {
        format!(
            "kind: satchel.endpoints.v1/lambda\nspec:\n  functions: {functions}\n  \
             functionName: {name}\n  retries: {{maxAttempts: 1}}\n  onPoison: {poison}\n  \
             dev: {{command: [python3, -B, '{}']}}\n---\n",
            script.display()
        )
    };
    let streams = "\
kind: io.statefun.kinesis.v1/ingress
spec:
  id: example/in
  awsRegion: {type: default}
  startupPosition: {type: earliest}
  streams:
    - {stream: names, valueType: satchel/json, targets: [example/counter]}
---
kind: io.statefun.kinesis.v1/egress
spec:
  id: example/out
  awsRegion: {type: default}
";
    let module = dir.join("module.yaml");
    let yaml = endpoint("example/*", "counter", "suspend")
        + &endpoint("loose/*", "loose", "dead-letter")
        + streams;
    std::fs::write(&module, yaml).unwrap();
    module
}

#[test]
fn a_root_of_format_1_is_verified_and_its_past_is_read() {
    let dir = unpacked("root-1.tar.gz");
    let state = dir.path().join("state");
    let verified = tool(&state, &["verify"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    assert!(verified.out.contains("173 objects"), "{verified:?}");
    let placement = "placement: xxh3 over 256 key groups\n";
    assert!(verified.out.ends_with(placement), "{verified:?}");

    let now = tool(&state, &["state", "export"]);
    assert_eq!(now.code, 0, "{now:?}");
    assert_eq!(sorted(&now.out), sorted(&text("root-1.states.ndjson")));
    let first = text("root-1.first.ndjson");
    let savepoint = tool(&state, &["state", "export", "--at", "first"]);
    assert_eq!(
        (savepoint.code, sorted(&savepoint.out)),
        (0, sorted(&first))
    );
    // A moment between the last effect before the savepoint and the first one after it.
    let moment = ["state", "export", "--at", "2026-11-29T01:13:20Z"];
    let moment = tool(&state, &moment);
    assert_eq!((moment.code, sorted(&moment.out)), (0, sorted(&first)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_of_format_1_is_served_where_its_last_owner_stopped() {
    let dir = unpacked("root-1.tar.gz");
    let setup = Setup::of(application(dir.path())).data_at(dir.path());
    let mut app = setup.start().await;
    let client = &app.client;

    let repeated = client.to_call("example/counter/alice").key("key-alice");
    let body = r#"{"add":5,"emit":"alice"}"#;
    let repeated = repeated.value("satchel/json", body).send().await.unwrap();
    // The answer of the first owner, 5, was kept for a day. It ended on 2026-11-30.
    assert_eq!(repeated.json(), 11, "a key that has expired is a new one");
    for (id, add, sum) in [("alice", 0, 11), ("bob", 1, 16)] {
        let address = format!("example/counter/{id}");
        let reply = client.call(&address, &json!({"add": add})).await;
        assert_eq!(reply.json(), sum);
    }
    client
        .put("names", "carol", r#"{"add": 1, "emit": "carol"}"#)
        .await;
    // Six records of the former owners, two new ones, and the four older ones of carol not again.
    let emitted = client.records_when("out", 8).await;
    assert_eq!(emitted.last().unwrap().key, "carol");
    assert_eq!(emitted.last().unwrap().json(), 9);

    let letters = client.dead_letters().await;
    assert_eq!(letters, lines("root-1.dead-letters.ndjson"));
    let mallory = client.address("example/counter/mallory").await.json();
    assert_eq!(mallory["backlog"]["messages"], 2, "{mallory}");
    assert!(mallory["suspended"].is_string(), "{mallory}");
    let timers = lines("root-1.timers.ndjson").len();
    let pending = client.metric("satchel_timers_pending").await;
    assert_eq!(pending, Some(timers as f64));
    assert_eq!(app.terminate().await.code, Some(0));

    let verified = tool(&dir.path().join("state"), &["verify"]);
    assert_eq!(verified.code, 0, "{verified:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_of_format_1_keeps_its_placement_and_another_one_is_refused() {
    let dir = unpacked("root-1.tar.gz");
    for (flag, says) in [
        (
            "--key-groups=1024",
            "the number of key groups 256, not 1024 (--key-groups)",
        ),
        (
            "--hash-tags",
            "the placement xxh3, without hash tags, not one with hash tags",
        ),
    ] {
        let setup = Setup::of(application(dir.path())).data_at(dir.path());
        let refused = setup.arg(flag).run_to_end().await;
        assert_eq!(refused.code, Some(4), "{}", refused.printed);
        assert!(refused.printed.contains(says), "{}", refused.printed);
    }
    let setup = Setup::of(application(dir.path())).data_at(dir.path());
    let mut app = setup.arg("--key-groups=256").start().await;
    let client = &app.client;
    let placement = client.admin(reqwest::Method::GET, "/api/placement").await;
    let expected = json!({
        "placement": "xxh3", "key_groups": 256, "hash_tags": false, "partitions": 1,
    });
    assert_eq!(placement.json(), expected);
    assert_eq!(app.terminate().await.code, Some(0));
    let record = std::fs::read_to_string(dir.path().join("state/application")).unwrap();
    assert!(record.starts_with("{\"format\":1,"), "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_root_is_of_format_3_and_its_fork_and_import_are_too() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::of(application(dir.path())).data_at(dir.path());
    let mut app = setup
        .arg("--key-groups=64")
        .arg("--hash-tags")
        .start()
        .await;
    for id in ["alice", "{bob}/1", "{bob}/2"] {
        let address = format!("example/counter/{id}");
        let reply = app.client.call(&address, &json!({"add": 1})).await;
        assert_eq!(reply.json(), 1);
    }
    assert_eq!(app.terminate().await.code, Some(0));
    let state = dir.path().join("state");
    let verified = tool(&state, &["verify"]);
    let placement = "placement: id-md5 with hash tags over 64 key groups\n";
    assert!(verified.out.ends_with(placement), "{verified:?}");
    let exported = tool(&state, &["state", "export"]);
    assert_eq!(exported.code, 0, "{exported:?}");

    let fork = tempfile::tempdir().unwrap();
    let restore = format!("--restore={}", state.display());
    let setup = Setup::of(application(fork.path())).data_at(fork.path());
    let mut forked = setup.arg(restore).start().await;
    let bob = json!({"add": 1});
    let bob = forked.client.call("example/counter/{bob}/1", &bob).await;
    assert_eq!(bob.json(), 2);
    assert_eq!(forked.terminate().await.code, Some(0));
    let verified = tool(&fork.path().join("state"), &["verify"]);
    assert!(verified.out.ends_with(placement), "{verified:?}");

    let lines = dir.path().join("states.ndjson");
    std::fs::write(&lines, &exported.out).unwrap();
    let imported = dir.path().join("imported");
    let import = [
        "state",
        "import",
        "--key-groups=16",
        lines.to_str().unwrap(),
    ];
    let result = tool(&imported, &import);
    assert_eq!(result.code, 0, "{result:?}");
    let again = tool(&imported, &["state", "export"]).out;
    assert_eq!(sorted(&again), sorted(&exported.out));
    let verified = tool(&imported, &["verify"]);
    let placement = "placement: id-md5 over 16 key groups\n";
    assert!(verified.out.ends_with(placement), "{verified:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_of_format_1_is_restored_into_a_fork() {
    let dir = unpacked("root-1.tar.gz");
    let origin = dir.path().join("state");
    let restore = format!("--restore={}@first", origin.display());
    let setup = Setup::of(application(dir.path())).arg(restore);
    let mut fork = setup.start().await;
    let bob = fork
        .client
        .call("example/counter/bob", &json!({"add": 1}))
        .await;
    assert_eq!(bob.json(), 6, "five at the savepoint, not fifteen");
    let placement = fork.client.admin(reqwest::Method::GET, "/api/placement");
    let placement = placement.await.json();
    let expected = json!({
        "placement": "xxh3", "key_groups": 256, "hash_tags": false, "partitions": 1,
    });
    assert_eq!(placement, expected, "that of its origin");
    assert_eq!(fork.terminate().await.code, Some(0));
}
