//! Rejected starts and their exit codes.

use std::path::{Path, PathBuf};
use std::process::Command;

use satchel_testkit::{Dev, Setup, example};
use serde_json::json;

const ALICE: &str = "example/greeter/alice";

#[tokio::test]
async fn a_damaged_commit_is_named_and_prevents_the_start() {
    let setup = Setup::of(example("greeter"));
    let log = with_calls(&setup, 3).await;
    let damaged = &log[log.len() / 2];
    let sound = std::fs::read(damaged).unwrap();
    let mut bytes = sound.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(damaged, &bytes).unwrap();

    let ended = setup.run_to_end().await;
    assert_eq!(ended.code, Some(4), "{}", ended.printed);
    assert_names(&ended.printed, damaged);

    std::fs::write(damaged, sound).unwrap();
    next_call_is_counted(&setup.start().await, 4).await;
}

#[tokio::test]
async fn a_commit_that_is_missing_is_named() {
    let setup = Setup::of(example("greeter"));
    // The last few may be missing behind a hole: those in flight together when a process died.
    let log = with_calls(&setup, 40).await;
    let missing = &log[10];
    let aside = setup.data_dir().join("aside");
    std::fs::rename(missing, &aside).unwrap();

    let ended = setup.run_to_end().await;
    assert_eq!(ended.code, Some(4), "{}", ended.printed);
    assert_names(&ended.printed, missing);
    assert!(!missing.exists(), "nothing is written in its place");

    std::fs::rename(aside, missing).unwrap();
    next_call_is_counted(&setup.start().await, 41).await;
}

#[tokio::test]
async fn the_state_of_another_application_is_rejected() {
    let setup = Setup::of(example("greeter"));
    with_calls(&setup, 3).await;
    let ended = setup.clone().arg("--application=other").run_to_end().await;
    assert_eq!(ended.code, Some(4), "{}", ended.printed);
    assert!(
        ended.printed.contains("satchel") && ended.printed.contains("other"),
        "{}",
        ended.printed
    );
    next_call_is_counted(&setup.start().await, 4).await;
}

#[tokio::test]
async fn a_root_that_lost_its_record_is_adopted_by_none() {
    let setup = Setup::of(example("greeter"));
    with_calls(&setup, 3).await;
    let record = setup.data_dir().join("state/application");
    let aside = setup.data_dir().join("aside");
    std::fs::rename(&record, &aside).unwrap();
    for application in ["satchel", "other"] {
        let flag = format!("--application={application}");
        let ended = setup.clone().arg(flag).run_to_end().await;
        assert_eq!(ended.code, Some(4), "{}", ended.printed);
        assert!(
            ended.printed.contains("application is missing"),
            "{}",
            ended.printed
        );
        assert!(!record.exists(), "nothing is written in its place");
    }
    std::fs::rename(aside, record).unwrap();
    next_call_is_counted(&setup.start().await, 4).await;
}

#[tokio::test]
async fn what_is_not_a_file_in_the_place_of_an_object_is_named_without_a_hang() {
    let setup = Setup::of(example("greeter"));
    with_calls(&setup, 3).await;
    let record = setup.data_dir().join("state/application");
    let aside = setup.data_dir().join("aside");
    std::fs::rename(&record, &aside).unwrap();
    for (command, what) in [
        (&["mkfifo"][..], "a FIFO"),
        (&["mkdir"], "a directory"),
        (&["ln", "-s", "/dev/zero"], "a device"),
    ] {
        let mut make = Command::new(command[0]);
        let made = make.args(&command[1..]).arg(&record).status().unwrap();
        assert!(made.success());
        let ended = setup.run_to_end().await;
        assert_eq!(ended.code, Some(5), "{what}: {}", ended.printed);
        assert!(
            ended.printed.contains(&format!("is {what}, not the file")),
            "{what}: {}",
            ended.printed
        );
        let removed = Command::new("rm").arg("-r").arg(&record).status().unwrap();
        assert!(removed.success());
    }
    std::fs::rename(aside, record).unwrap();
    next_call_is_counted(&setup.start().await, 4).await;
}

#[tokio::test]
async fn an_occupied_port_is_an_environment_error() {
    for flag in ["--http", "--admin"] {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let setup = Setup::of(example("greeter")).arg(format!("{flag}={address}"));
        let ended = setup.run_to_end().await;
        assert_eq!(ended.code, Some(5), "{}", ended.printed);
        assert!(
            ended.printed.contains(&address.to_string()),
            "{}",
            ended.printed
        );
    }
}

#[tokio::test]
async fn an_unusable_data_directory_is_an_environment_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let setup = Setup::of(example("greeter")).data_at(file.path());
    let ended = setup.run_to_end().await;
    assert_eq!(ended.code, Some(5), "{}", ended.printed);
    assert!(ended.printed.contains("--data-dir"), "{}", ended.printed);
}

#[tokio::test]
async fn a_mistake_in_a_module_file_is_named_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let module = dir.path().join("module.yaml");
    std::fs::write(
        &module,
        "kind: satchel.endpoints.v1/lambda\nspec:\n  functions: example/*\n  \
         functionNme: greeter\n",
    )
    .unwrap();
    let ended = Setup::of(dir.path()).run_to_end().await;
    assert_eq!(ended.code, Some(2), "{}", ended.printed);
    assert!(
        ended.printed.contains(&format!("{}:4", module.display()))
            && ended.printed.contains("functionNme"),
        "{}",
        ended.printed
    );
}

#[tokio::test]
async fn a_missing_handler_is_named_with_the_module_that_refers_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let module = dir.path().join("module.yaml");
    std::fs::write(
        &module,
        "kind: satchel.endpoints.v1/lambda\nspec:\n  functions: example/*\n  \
         functionName: absent\n  dev:\n    command: [./no-such-handler]\n",
    )
    .unwrap();
    let ended = Setup::of(dir.path()).run_to_end().await;
    assert_eq!(ended.code, Some(5), "{}", ended.printed);
    assert!(
        ended.printed.contains(&module.display().to_string())
            && ended.printed.contains("no-such-handler"),
        "{}",
        ended.printed
    );
}

/// Runs the greeter, calls it this often, and stops it. Returns its commits in order.
async fn with_calls(setup: &Setup, calls: usize) -> Vec<PathBuf> {
    let mut app = setup.start().await;
    for seen in 1..=calls {
        next_call_is_counted(&app, seen).await;
    }
    assert_eq!(app.terminate().await.code, Some(0));
    let dir = setup.data_dir().join("state/partitions/0/log");
    let entries = std::fs::read_dir(dir).unwrap();
    let mut log: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    log.sort();
    assert!(log.len() > calls, "each call has its commit: {log:?}");
    log
}

async fn next_call_is_counted(app: &Dev, seen: usize) {
    let reply = app.client.call(ALICE, &json!({"name": "Alice"})).await;
    assert_eq!(reply.json()["seen"], seen);
}

fn assert_names(printed: &str, object: &Path) {
    let number = object.file_name().unwrap().to_str().unwrap();
    let key = format!("log/{number}");
    assert!(printed.contains(&key), "{key}\n{printed}");
}
