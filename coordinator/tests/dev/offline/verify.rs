//! `satchel verify`.

use std::fs;
use std::path::{Path, PathBuf};

use satchel_log::DEPTH_MAX;
use satchel_testkit::{Setup, example};

use super::roots::{files, greet, greeted, greeted_at_length, key_of, state_of};
use super::tool::tool;

#[tokio::test]
async fn every_kind_of_object_is_named_when_it_is_damaged_or_missing() {
    let setup = greeted_at_length().await;
    let state = state_of(&setup);
    assert_whole(&state);

    let partition = state.join("partitions/0");
    let in_effect = |kind: &str| -> PathBuf {
        let found = files(&partition.join(kind));
        found
            .last()
            .unwrap_or_else(|| panic!("there is one of {kind}"))
            .clone()
    };
    // A hole in the last window can be left by a dying owner; one before it cannot.
    let log = files(&partition.join("log"));
    let settled = log.len() - usize::try_from(DEPTH_MAX).unwrap() - 3;
    for object in [
        state.join("application"),
        log[settled].clone(),
        in_effect("epochs"),
        in_effect("manifests"),
        in_effect("snapshots"),
    ] {
        let key = key_of(&state, &object);
        let sound = fs::read(&object).unwrap();

        let mut damaged = sound.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0x10;
        fs::write(&object, damaged).unwrap();
        assert_names(&state, &key, "cannot be read");

        fs::write(&object, &sound[..sound.len() / 2]).unwrap();
        assert_names(&state, &key, "cannot be read");

        fs::remove_file(&object).unwrap();
        assert_names(&state, &key, "missing");

        fs::write(&object, sound).unwrap();
        assert_whole(&state);
    }
}

#[tokio::test]
async fn foreign_objects_and_roots_of_other_applications_are_named() {
    let setup = greeted(&["alice"], 2).await;
    let state = state_of(&setup);
    let strays = [
        "notes.txt",
        "partitions/0/log/17",
        "partitions/1/log/00000000000000000001",
        "partitions/zero/log/00000000000000000001",
        "savings/account",
    ];
    for stray in strays {
        let path = state.join(stray);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "x").unwrap();
        assert_names(&state, stray, "should not exist");
        fs::remove_file(path).unwrap();
    }
    assert_whole(&state);

    assert_eq!(
        tool(&state, &["verify", "--application", "satchel"]).code,
        0
    );
    let result = tool(&state, &["verify", "--application", "shop"]);
    assert_eq!(result.code, 4, "{result:?}");
    assert_eq!(
        result.out,
        "application: this root has application \"satchel\", not \"shop\"\n"
    );
}

#[tokio::test]
async fn it_works_beside_an_owner_and_changes_nothing() {
    let setup = Setup::of(example("greeter"));
    let mut app = setup.start().await;
    let state = state_of(&setup);
    for seen in 1..=20 {
        greet(&app, "alice", seen).await;
        let result = tool(&state, &["verify"]);
        assert_eq!(result.code, 0, "{result:?}");
    }
    assert_eq!(app.terminate().await.code, Some(0));
    let before = files(&state);
    assert_whole(&state);
    assert_eq!(files(&state), before);
}

#[test]
fn a_location_without_a_root_is_an_environment_error_and_nothing_is_created() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent");
    let result = tool(&absent, &["verify"]);
    assert_eq!(result.code, 5, "{result:?}");
    assert!(result.err.contains(absent.to_str().unwrap()), "{result:?}");
    assert!(!absent.exists());

    let result = tool(dir.path(), &["verify"]);
    assert_eq!(result.code, 5, "{result:?}");
    assert!(result.err.contains("holds no durable state"), "{result:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

    // The value of `--data-dir` is one directory too high.
    fs::create_dir(dir.path().join("state")).unwrap();
    fs::write(dir.path().join("state/application"), "x").unwrap();
    let result = tool(dir.path(), &["verify"]);
    assert_eq!(result.code, 5, "{result:?}");
    let state = dir.path().join("state");
    assert!(
        result.err.contains(&format!("{} does", state.display())),
        "{result:?}"
    );
}

fn assert_whole(state: &Path) {
    let result = tool(state, &["verify"]);
    assert_eq!(result.code, 0, "{result:?}");
    let objects = files(state)
        .iter()
        .filter(|path| !path.to_str().unwrap().contains("/.temporary/"))
        .count();
    assert!(
        result.out.starts_with(&format!("{objects} objects, ")),
        "{result:?}"
    );
    let placement = "\nplacement: id-md5 over 1024 key groups\n";
    assert!(result.out.ends_with(placement), "{result:?}");
    assert_eq!(result.out.lines().count(), 2, "{result:?}");
}

fn assert_names(state: &Path, key: &str, problem: &str) {
    let result = tool(state, &["verify"]);
    assert_eq!(result.code, 4, "{key}: {result:?}");
    let named = result
        .out
        .lines()
        .any(|line| line.starts_with(&format!("{key} ")) && line.contains(problem));
    assert!(named, "{key} {problem}: {result:?}");
}
