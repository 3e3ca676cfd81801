//! `satchel new`: a project outside this repository that builds, tests and runs.

use std::path::{Path, PathBuf};
use std::process::Command;

use satchel_testkit::{Dev, Setup, satchel};
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

/// Makes a project in another language, runs its tests, and then the project.
async fn a_project_runs(language: &str, test: (&str, &[&str])) {
    let outside = tempfile::tempdir().unwrap();
    let satchel = satchel();
    let arguments = ["new", "my-app", "--language", language];
    let printed = succeeds(outside.path(), satchel, &arguments);
    assert!(printed.contains("Installing its packages: "), "{printed}");
    let project = outside.path().join("my-app");
    let validated = succeeds(&project, satchel, &["validate", "."]);
    assert!(validated.contains("my-app"), "{validated}");
    let (program, arguments) = test;
    let program = match program.contains('/') {
        true => project.join(program),
        false => PathBuf::from(program),
    };
    succeeds(&project, &program, arguments);

    let mut app = Setup::of(&project).start().await;
    let address = "my-app/greeter/alice";
    let greeting = async |app: &Dev, name| {
        let reply = app.client.call(address, &json!({"name": name})).await;
        (reply.status, reply.json())
    };
    let first = json!({"greeting": "Hello Alice, nice to meet you.", "seen": 1});
    assert_eq!(greeting(&app, "Alice").await, (200, first));
    app.restart().await;
    let second = json!({"greeting": "Hello again Alice.", "seen": 2});
    assert_eq!(greeting(&app, "Alice").await, (200, second));
    let rejected = app.client.call(address, &json!({"age": 7})).await;
    assert_eq!(rejected.status, 400);
    assert_eq!(rejected.error_code(), "rejected");
    assert_eq!(rejected.error_message(), "the message has no name");
    assert_eq!(app.client.dead_letters().await, [json!(null); 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_project_in_python_tests_and_runs() {
    a_project_runs("python", (".venv/bin/python", &["-m", "unittest"])).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node.js and npm; the step `languages` runs it"]
async fn a_new_project_in_javascript_tests_and_runs() {
    a_project_runs("javascript", ("npm", &["test"])).await;
}

#[test]
fn packages_that_cannot_be_installed_leave_the_files_and_say_what_to_repeat() {
    let outside = tempfile::tempdir().unwrap();
    let output = Command::new(satchel())
        .current_dir(outside.path())
        .args(["new", "my-app", "--language", "python"])
        .env("PATH", "/no/such/place")
        .output()
        .unwrap();
    assert_ne!(output.status.code(), Some(0));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("`python3 -m venv .venv` cannot be run"),
        "{error}"
    );
    assert!(
        error.contains("run `python3 -m venv .venv` there"),
        "{error}"
    );
    assert!(outside.path().join("my-app/app.py").is_file());
}

#[test]
fn a_project_without_its_packages_names_the_commands_that_install_them() {
    let outside = tempfile::tempdir().unwrap();
    let arguments = ["new", "my-app", "--language", "python", "--no-install"];
    let printed = succeeds(outside.path(), satchel(), &arguments);
    assert_eq!(
        printed,
        "Created my-app.\n\
         Next:\n  \
         cd my-app\n  \
         python3 -m venv .venv\n  \
         .venv/bin/python -m pip install --quiet --disable-pip-version-check \
         -r requirements.txt\n  \
         .venv/bin/python -m unittest    # the functions, without any server\n  \
         satchel dev                     # the application on this machine\n"
    );
    assert!(!outside.path().join("my-app/.venv").exists());
}

#[test]
fn npm_cannot_install_from_a_git_url() {
    let outside = tempfile::tempdir().unwrap();
    let output = Command::new(satchel())
        .current_dir(outside.path())
        .args(["new", "my-app", "--language", "javascript"])
        .args(["--satchel", "https://example.com/satchel.git"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("--language javascript needs a checkout"),
        "{error}"
    );
    assert!(!outside.path().join("my-app").exists());
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
