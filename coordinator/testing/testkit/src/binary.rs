//! Locates the `satchel` binary, built in the same profile as the test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The binary under test. In this order: `SATCHEL_BIN`, the binary that cargo built for this
/// package's own tests, or the result of `cargo build` in the profile and target
/// directory of this test. It is located once in each process.
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
                assert!(path.is_file(), "{} is not a file", path.display());
                path
            }
            None => build("satchel"),
        }
    })
}

/// Builds a binary of a workspace package in the profile and target directory of the running
/// program, and returns its path.
///
/// # Panics
///
/// When cargo is missing or the build fails.
pub fn binary(name: &str) -> PathBuf {
    build(name)
}

/// The handler of an example whose package and binary carry the example's name. The variable
/// `<NAME>_BIN` (such as `GREETER_BIN`) names it; otherwise cargo builds it in the profile and
/// target directory of this test.
///
/// # Panics
///
/// When cargo is missing or the build fails.
pub fn handler(example: &str) -> PathBuf {
    let variable = format!("{}_BIN", example.to_uppercase().replace('-', "_"));
    match std::env::var_os(&variable).filter(|path| !path.is_empty()) {
        Some(path) => {
            let path = PathBuf::from(path);
            assert!(
                path.is_file(),
                "{variable}: {} is not a file",
                path.display()
            );
            path
        }
        None => build(example),
    }
}

/// Root directory of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.."))
}

/// Directory of an example.
pub fn example(name: &str) -> PathBuf {
    workspace().join("examples").join(name)
}

/// Target directory that this test was built into.
pub fn target_dir() -> PathBuf {
    BuildLocation::of_this_test().target_dir
}

/// Builds a binary of this workspace and returns its path.
///
/// Cargo resolves features for all packages that it is given, and for dev-dependencies only when a
/// test is among the targets. With the whole workspace and one small test it resolves the same
/// features as `cargo test --workspace`, so nothing is compiled a second time after that command.
fn build(name: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let location = BuildLocation::of_this_test();
    let mut command = Command::new(&cargo);
    command
        .args(["build", "--workspace", "--bin", name, "--test", "processes"])
        .arg("--profile")
        .arg(&location.profile)
        .arg("--target-dir")
        .arg(&location.target_dir)
        .arg("--message-format=json-render-diagnostics");
    if let Some(triple) = &location.triple {
        command.arg("--target").arg(triple);
    }
    let output = command
        .current_dir(workspace())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    let output = output.unwrap_or_else(|error| {
        panic!(
            "`{}`, which builds {name} for this test, cannot be run: {error}; \
             install Rust, or name a binary in SATCHEL_BIN",
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

/// Location of this test, `target[/triple]/profile/deps/test-hash`, or of this program,
/// `target[/triple]/profile/program`.
struct BuildLocation {
    target_dir: PathBuf,
    triple: Option<String>,
    profile: String,
}

impl BuildLocation {
    fn of_this_test() -> Self {
        let test = std::env::current_exe().expect("the system names the running program");
        let dir = test.parent().expect("a program lies in a directory");
        let profile_dir = match file_name(dir).as_deref() {
            Some("deps") => dir.parent().unwrap_or(dir),
            _ => dir,
        };
        let above = profile_dir.parent().unwrap_or(profile_dir);
        // Only the target directory itself carries the tag.
        let (target_dir, triple) = match above.parent() {
            Some(parent) if !has_cache_tag(above) && has_cache_tag(parent) => {
                (parent, file_name(above))
            }
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

fn has_cache_tag(dir: &Path) -> bool {
    dir.join("CACHEDIR.TAG").is_file()
}

fn file_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}
