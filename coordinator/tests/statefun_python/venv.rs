//! A Python with the packages of `tests/python/requirements.txt`, made once for each version of that file and of Python.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest as _, Sha256};

/// The interpreter. The environment lies in the target directory and stays for the next run.
///
/// # Panics
///
/// When it can not be made: a test that could not run has not passed.
pub(super) fn python() -> PathBuf {
    let requirements = super::scripts().join("requirements.txt");
    let version = output(Command::new("python3").arg("--version"));
    let mut hash = Sha256::new();
    hash.update(fs::read(&requirements).unwrap());
    hash.update(&version.stdout);
    let name: String = hash.finalize()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let dir = tmp.join(format!("python-{name}"));

    // Tests run beside each other, in processes of their own too: one makes it, the others wait.
    let lock = File::create(tmp.join(format!("python-{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let complete = dir.join("complete");
    if !complete.exists() {
        make(&dir, &requirements);
        fs::write(complete, "").unwrap();
    }
    dir.join("bin/python")
}

fn make(dir: &Path, requirements: &Path) {
    // What an interrupted run left is of no use.
    let _ = fs::remove_dir_all(dir);
    output(Command::new("python3").args(["-m", "venv"]).arg(dir));
    output(
        Command::new(dir.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--requirement"])
            .arg(requirements),
    );
}

fn output(command: &mut Command) -> Output {
    let output = command.output();
    let output =
        output.unwrap_or_else(|error| panic!("{command:?} can not be run: {error}; {HINT}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}: {stderr}; {HINT}",
        output.status
    );
    output
}

const HINT: &str = "these tests need Python 3 with its modules venv and pip (on Debian the package python3-venv), and pip needs a \
                    package index to get tests/python/requirements.txt from, the one that it is configured for";
