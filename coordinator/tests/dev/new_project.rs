//! `satchel new`: a project outside this repository that builds, tests and runs.

use std::path::{Path, PathBuf};
use std::process::Command;

use satchel_testkit::{Setup, satchel};
use serde_json::json;

/// Keeps what the project's builds make, so that a second run builds nothing again.
fn target_dir() -> PathBuf {
    let binary = satchel();
    let profile = binary.parent().unwrap();
    profile.parent().unwrap().join("new-project")
}

/// Runs a command in a directory and returns what it printed.
fn succeeds(dir: &Path, program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .current_dir(dir)
        .env("CARGO_TARGET_DIR", target_dir())
        .args(arguments)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{arguments:?}: {printed}");
    printed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_project_builds_tests_and_runs() {
    let outside = tempfile::tempdir().unwrap();
    let satchel = satchel();
    let printed = succeeds(outside.path(), satchel, &["new", "my-app"]);
    assert!(printed.contains("satchel dev"), "{printed}");
    let project = outside.path().join("my-app");
    let validated = succeeds(&project, satchel, &["validate", "."]);
    assert!(validated.contains("my-app"), "{validated}");
    // The versions that this repository builds with are on the machine already.
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    std::fs::copy(lock, project.join("Cargo.lock")).unwrap();

    let tested = succeeds(&project, Path::new("cargo"), &["test"]);
    assert!(tested.contains("1 passed"), "{tested}");
    let target = target_dir().display().to_string();
    let setup = Setup::of(&project).env("CARGO_TARGET_DIR", target);
    let app = setup.start().await;
    let address = "my-app/greeter/alice";
    let reply = app.client.call(address, &json!({"name": "Alice"})).await;
    assert_eq!(
        reply.json(),
        json!({"greeting": "Hello Alice, nice to meet you.", "seen": 1})
    );
}

#[test]
fn an_existing_directory_is_left_alone() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::create_dir(outside.path().join("my-app")).unwrap();
    let output = Command::new(satchel())
        .current_dir(outside.path())
        .args(["new", "my-app"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("my-app exists already"), "{error}");
    assert_eq!(
        std::fs::read_dir(outside.path().join("my-app"))
            .unwrap()
            .count(),
        0
    );
}
