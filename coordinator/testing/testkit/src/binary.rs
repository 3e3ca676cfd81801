//! Finds the `satchel` binary, built like the test that asks for it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The binary under test: `SATCHEL_BIN` if it is set, what cargo built for this package's own tests if it did, else what
/// `cargo build -p satchel` makes in the profile and the target directory of this test. Looked for once in each process.
///
/// # Panics
///
/// When cargo is missing or the build fails.
pub fn satchel() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let given = ["SATCHEL_BIN", "CARGO_BIN_EXE_satchel"]
            .into_iter()
            .find_map(|name| std::env::var_os(name).filter(|path| !path.is_empty()));
        match given {
            Some(path) => {
                let path = PathBuf::from(path);
                assert!(path.is_file(), "{} is no binary", path.display());
                path
            }
            None => build("satchel", "satchel"),
        }
    })
}

/// A binary of a package of this workspace, as cargo builds it in the profile and the target directory of the program that asks.
///
/// # Panics
///
/// When cargo is missing or the build fails.
pub fn binary(package: &str, name: &str) -> PathBuf {
    build(package, name)
}

/// The handler of an example, whose package and binary have the example's name: what the variable `<NAME>_BIN` names, such as `GREETER_BIN`, else what cargo
/// builds in the profile and the target directory of this test.
///
/// # Panics
///
/// When cargo is missing or the build fails.
pub fn handler(example: &str) -> PathBuf {
    let variable = format!("{}_BIN", example.to_uppercase().replace('-', "_"));
    match std::env::var_os(&variable).filter(|path| !path.is_empty()) {
        Some(path) => {
            let path = PathBuf::from(path);
            assert!(path.is_file(), "{variable}: {} is no file", path.display());
            path
        }
        None => build(example, example),
    }
}

/// Where the workspace lies.
pub fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.."))
}

/// The directory of an example.
pub fn example(name: &str) -> PathBuf {
    workspace().join("examples").join(name)
}

/// The target directory that this test was built into.
pub(crate) fn target_dir() -> PathBuf {
    Place::of_this_test().target_dir
}

/// Builds a binary of a package.
fn build(package: &str, name: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let place = Place::of_this_test();
    let mut command = Command::new(&cargo);
    command
        .args(["build", "-p", package, "--bin", name, "--profile"])
        .arg(&place.profile)
        .arg("--target-dir")
        .arg(&place.target_dir)
        .arg("--message-format=json-render-diagnostics");
    if let Some(triple) = &place.triple {
        command.arg("--target").arg(triple);
    }
    let output = command
        .current_dir(workspace())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    let output = output.unwrap_or_else(|error| {
        panic!(
            "`{}` cannot be run, which builds {name} for this test: {error}; install Rust, or name a binary in SATCHEL_BIN",
            cargo.to_string_lossy()
        )
    });
    assert!(
        output.status.success(),
        "building {name} for this test failed: {}",
        output.status
    );
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the executable that it built")
}

/// Where cargo put this test, `target[/triple]/profile/deps/test-hash`, or this program, `target[/triple]/profile/program`.
struct Place {
    target_dir: PathBuf,
    triple: Option<String>,
    profile: String,
}

impl Place {
    fn of_this_test() -> Self {
        let test = std::env::current_exe().expect("the system tells which program runs");
        let dir = test.parent().expect("a program lies in a directory");
        let profile_dir = match file_name(dir).as_deref() {
            Some("deps") => dir.parent().unwrap_or(dir),
            _ => dir,
        };
        let above = profile_dir.parent().unwrap_or(profile_dir);
        // Only the target directory itself is marked as one.
        let (target_dir, triple) = match above.parent() {
            Some(parent) if !is_marked(above) && is_marked(parent) => (parent, file_name(above)),
            _ => (above, None),
        };
        let profile = match file_name(profile_dir) {
            Some(name) if name == "debug" => "dev".to_owned(),
            Some(name) => name,
            None => "dev".to_owned(),
        };
        Self {
            target_dir: target_dir.to_owned(),
            triple,
            profile,
        }
    }
}

fn is_marked(dir: &Path) -> bool {
    dir.join("CACHEDIR.TAG").is_file()
}

fn file_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}
