//! Python environments for tests, one for each set of packages.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::binary::target_dir;

/// A Python interpreter with these packages (`name==version`, as pip takes them), in an environment
/// below the target directory. One test process creates it with pip while others wait; later runs
/// reuse it.
///
/// # Panics
///
/// When Python 3 or its modules `venv` and `pip` are missing, or pip cannot install a package.
pub fn python_with(requirements: &[&str]) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    requirements.hash(&mut hasher);
    let environments = target_dir().join("python");
    fs::create_dir_all(&environments)
        .unwrap_or_else(|error| panic!("{}: {error}", environments.display()));
    let home = environments.join(format!("{:016x}", hasher.finish()));
    let python = home.join("bin/python3");
    let finished = home.join("finished");

    let lock_path = home.with_extension("lock");
    let lock = File::create(&lock_path).and_then(|lock| lock.lock().map(|()| lock));
    let _lock = lock.unwrap_or_else(|error| panic!("{}: {error}", lock_path.display()));
    // The interpreter that the environment was created from may have been removed since.
    if finished.exists() && python.exists() {
        return python;
    }
    if home.exists() {
        fs::remove_dir_all(&home).unwrap_or_else(|error| panic!("{}: {error}", home.display()));
    }
    let mut make = Command::new("python3");
    make.args(["-m", "venv"]).arg(&home);
    run(
        &mut make,
        "install Python 3 with its modules venv and pip \
         (Debian and Ubuntu: apt-get install python3-venv)",
    );
    let mut install = Command::new(&python);
    install
        .args(["-m", "pip", "install", "--quiet", "--no-input"])
        .arg("--disable-pip-version-check")
        .args(requirements);
    let list = requirements.join(" ");
    run(
        &mut install,
        &format!("pip must be able to install {list}, from PyPI or from its configured index"),
    );
    File::create(&finished).unwrap_or_else(|error| panic!("{}: {error}", finished.display()));
    python
}

fn run(command: &mut Command, needed: &str) {
    let program = Path::new(command.get_program()).display().to_string();
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| {
        panic!("`{program}` cannot be run, which this test needs: {error}; {needed}")
    });
    assert!(
        output.status.success(),
        "{command:?} failed, which this test needs: {}; {needed}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}
