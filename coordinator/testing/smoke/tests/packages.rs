//! The tests of the handlers in other languages, each with the tools of its language.

use std::path::Path;
use std::process::{Command, Stdio};

use satchel_smoke::language::{NODE_PACKAGES, PYTHON_PACKAGES, package, python_path};
use satchel_testkit::{node_with, python_with, target_dir};

/// Runs a command and returns what it printed.
fn succeeds(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    assert!(output.status.success(), "{command:?}: {printed}");
    printed
}

/// Runs the tests of the Python package with these other packages.
fn python_tests(packages: &[&str]) -> String {
    let package = package("python");
    let tests = package.join("tests");
    let mut command = Command::new(python_with(packages));
    command
        .args(["-m", "unittest", "discover", "-v", "-s"])
        .arg(&tests)
        .env("PYTHONPATH", python_path(&tests))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    succeeds(&mut command)
}

fn node_tests(node: &Path) -> String {
    let modules = node_with(&NODE_PACKAGES).join("node_modules");
    let mut command = Command::new(node);
    command
        .args([
            "--test",
            "--test-reporter=spec",
            "test/handler.test.js",
            "test/vectors.test.js",
        ])
        .current_dir(package("js"))
        .env("NODE_PATH", modules);
    succeeds(&mut command)
}

#[test]
fn python_answers_the_vectors_with_zstd_and_without() {
    let all = python_tests(&PYTHON_PACKAGES);
    assert!(all.contains("test_each_case"), "{all}");
    assert!(!all.contains("skipped"), "{all}");
    let without_zstd = python_tests(&PYTHON_PACKAGES[..2]);
    assert!(
        without_zstd.contains("skipped 'no zstd is installed'"),
        "{without_zstd}"
    );
}

#[test]
#[ignore = "needs Node.js and npm"]
fn javascript_answers_the_vectors() {
    let printed = node_tests(Path::new("node"));
    assert!(printed.contains("a bundle without batches"), "{printed}");
}

#[test]
#[ignore = "needs npm"]
fn javascript_answers_the_compressed_vectors_on_a_node_that_has_zstd() {
    let node = node_with(&["node@24.21.0"]);
    let printed = node_tests(&node.join("node_modules/node/bin/node"));
    assert!(printed.contains("a compressed response"), "{printed}");
    assert!(!printed.contains("SKIP"), "{printed}");
}

#[test]
#[ignore = "needs Go"]
fn go_answers_the_vectors() {
    let mut command = Command::new("go");
    command
        .args(["test", "-v", "-count=1", "./..."])
        .current_dir(package("go"));
    let printed = succeeds(&mut command);
    assert!(printed.contains("a_bundle_without_batches"), "{printed}");
}

#[test]
#[ignore = "needs Java and Maven"]
fn java_answers_the_vectors() {
    let target = target_dir().join("handler-java");
    let mut command = Command::new("mvn");
    command
        .args(["-B", "test"])
        .arg(format!("-Dsatchel.target={}", target.display()))
        .current_dir(package("java"));
    let printed = succeeds(&mut command);
    assert!(printed.contains("a bundle without batches"), "{printed}");
}
