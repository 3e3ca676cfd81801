//! Build of a handler with cargo. The executable is then started directly, as often as needed.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::Command;

use super::LogLines;
use super::build_output::show_build;

/// Cargo profile of this binary. It is also that of its handlers, so that crates of the same
/// workspace are compiled once. But a released binary is rarely of the workspace of its handlers,
/// and a release build takes twice as long and shares nothing with the tests of the handlers.
const PROFILE: &str = env!("SATCHEL_PROFILE");

/// Build of one binary target.
#[derive(Debug, Clone)]
pub struct CargoBuild {
    cargo: OsString,
    name: String,
    dir: PathBuf,
    bin: String,
    profile: String,
}

/// Reason why there is no executable.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Cargo is not installed.
    #[error(
        "cargo, which builds the handler in {}, was not found: install Rust, \
         or name the command of the handler with `dev: {{command: […]}}`",
        dir.display()
    )]
    CargoMissing {
        /// Directory of the build.
        dir: PathBuf,
    },
    /// Cargo could not be run.
    #[error("cargo cannot be run in {}: {source}", dir.display())]
    Run {
        /// Directory of the build.
        dir: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// No package has a binary target with this name.
    #[error(
        "there is no binary `{bin}` to build in {}: give the function the name of its binary, \
         or name the command of the handler with `dev: {{command: […]}}`",
        dir.display()
    )]
    NoSuchBin {
        /// Name of the binary.
        bin: String,
        /// Directory of the build.
        dir: PathBuf,
    },
    /// Cargo failed, and has shown the reason.
    #[error("building `{bin}` in {} failed ({status}): {last_error}", dir.display())]
    Failed {
        /// Name of the binary.
        bin: String,
        /// Directory of the build.
        dir: PathBuf,
        /// Exit status of cargo.
        status: ExitStatus,
        /// Last error that cargo printed.
        last_error: String,
    },
}

impl CargoBuild {
    /// Creates the build of the binary `bin` of the package in `dir`. Its output is shown under
    /// `name`.
    pub fn new(name: &str, dir: &Path, bin: &str, release: bool) -> Self {
        Self {
            cargo: std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()),
            name: name.to_owned(),
            dir: dir.to_owned(),
            bin: bin.to_owned(),
            profile: handler_profile(PROFILE, release).to_owned(),
        }
    }

    /// Builds the binary and returns the path of the executable. Dropping the future ends the
    /// build.
    ///
    /// # Errors
    ///
    /// Everything that [`BuildError`] names. Output of the compiler goes to `log_lines`.
    pub async fn run(&self, log_lines: &LogLines) -> Result<PathBuf, BuildError> {
        let name = format!("{} build", self.name);
        let about = format!("cargo builds the handler, in profile {}", self.profile);
        log_lines.write(&name, &about);
        let mut child = self.command().spawn().map_err(|source| {
            let dir = self.dir.clone();
            if source.kind() == io::ErrorKind::NotFound && dir.is_dir() {
                BuildError::CargoMissing { dir }
            } else {
                BuildError::Run { dir, source }
            }
        })?;
        let errors = Arc::new(Mutex::new(Vec::new()));
        let seen = |line: &str| {
            if line.starts_with("error") {
                let mut errors = errors.lock().unwrap_or_else(PoisonError::into_inner);
                errors.push(line.to_owned());
            }
        };
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let show = async {
            if let Some(stderr) = stderr {
                show_build(log_lines, &name, stderr, seen).await;
            }
        };
        let find = async {
            match stdout {
                Some(stdout) => executable(stdout, &self.bin).await,
                None => None,
            }
        };
        let (status, (), executable) = tokio::join!(child.wait(), show, find);
        let status = status.map_err(|source| BuildError::Run {
            dir: self.dir.clone(),
            source,
        })?;
        let errors = std::mem::take(&mut *errors.lock().unwrap_or_else(PoisonError::into_inner));
        self.judge(status, executable, &errors)
    }

    fn judge(
        &self,
        status: ExitStatus,
        executable: Option<PathBuf>,
        errors: &[String],
    ) -> Result<PathBuf, BuildError> {
        let no_such_bin = errors.iter().any(|line| line.contains("no bin target"));
        match executable {
            Some(executable) if status.success() => Ok(executable),
            _ if status.success() || no_such_bin => Err(BuildError::NoSuchBin {
                bin: self.bin.clone(),
                dir: self.dir.clone(),
            }),
            _ => Err(BuildError::Failed {
                bin: self.bin.clone(),
                dir: self.dir.clone(),
                status,
                last_error: errors
                    .last()
                    .cloned()
                    .unwrap_or_else(|| "cargo printed no error".to_owned()),
            }),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.cargo);
        command
            .args(["build", "--bin", &self.bin])
            .arg("--message-format=json-render-diagnostics")
            .args(profile_arguments(&self.profile))
            // Cargo shows its progress only if it is asked to, because its output is no terminal.
            .env("CARGO_TERM_PROGRESS_WHEN", "always")
            .env("CARGO_TERM_PROGRESS_WIDTH", "80");
        for (name, _) in std::env::vars_os() {
            if is_set_by_cargo_run(&name.to_string_lossy()) {
                command.env_remove(name);
            }
        }
        command
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

/// Returns the profile of the handlers of a binary with profile `own`.
fn handler_profile(own: &str, release: bool) -> &str {
    match own {
        _ if release => "release",
        "release" => "dev",
        own => own,
    }
}

/// Returns the arguments that select a profile. A profile that is not built into cargo may be
/// missing in the handler's workspace, so its basis and debug information are defined here as in
/// this workspace.
fn profile_arguments(profile: &str) -> Vec<String> {
    match profile {
        "dev" => Vec::new(),
        "release" => vec!["--release".to_owned()],
        profile => {
            let config = |setting: &str| format!("profile.{profile}.{setting}");
            vec![
                "--profile".to_owned(),
                profile.to_owned(),
                "--config".to_owned(),
                config("inherits=\"dev\""),
                "--config".to_owned(),
                config("debug=false"),
            ]
        }
    }
}

/// Returns true if `cargo run` and `cargo test` set this variable for the program that they run. It
/// describes that program, and is wrong for the processes that the program starts.
pub(super) fn is_set_by_cargo_run(name: &str) -> bool {
    const PREFIXES: [&str; 4] = [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_BIN_",
        "CARGO_CRATE_",
    ];
    const NAMES: [&str; 3] = ["CARGO_PRIMARY_PACKAGE", "CARGO_TARGET_TMPDIR", "OUT_DIR"];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Reads cargo's messages to their end. Returns the executable of the binary target `bin`.
async fn executable(messages: impl AsyncRead + Unpin, bin: &str) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        reason: String,
        target: Option<Target>,
        executable: Option<PathBuf>,
    }
    #[derive(Deserialize)]
    struct Target {
        kind: Vec<String>,
        name: String,
    }
    let mut found = None;
    let mut lines = BufReader::new(messages).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // Output of build scripts is not a message.
        if let Ok(message) = serde_json::from_str::<Message>(&line)
            && message.reason == "compiler-artifact"
            && let Some(target) = message.target
            && target.name == bin
            && target.kind.iter().any(|kind| kind == "bin")
        {
            found = message.executable.or(found);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_machine_without_cargo_is_reported_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let build = CargoBuild {
            cargo: "no-such-cargo".into(),
            ..CargoBuild::new("greeter", dir.path(), "greeter", false)
        };
        let error = build.run(&LogLines::stderr()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "cargo, which builds the handler in {}, was not found: install Rust, \
                 or name the command of the handler with `dev: {{command: […]}}`",
                dir.path().display()
            )
        );
    }

    #[test]
    fn a_handler_is_built_for_development_unless_a_release_is_asked_for() {
        for own in ["dev", "try"] {
            assert_eq!(handler_profile(own, false), own);
        }
        assert_eq!(handler_profile("release", false), "dev");
        for own in ["dev", "try", "release"] {
            assert_eq!(handler_profile(own, true), "release");
        }
    }

    #[test]
    fn a_profile_is_selected_by_arguments_of_cargo() {
        assert_eq!(profile_arguments("dev"), [""; 0]);
        assert_eq!(profile_arguments("release"), ["--release"]);
        let arguments = profile_arguments("try");
        assert_eq!(arguments[..2], ["--profile", "try"]);
        assert_eq!(arguments[3], "profile.try.inherits=\"dev\"");
    }

    #[tokio::test]
    async fn a_directory_that_does_not_exist_is_named() {
        let error = CargoBuild::new("greeter", Path::new("/no/such/place"), "greeter", false)
            .run(&LogLines::stderr())
            .await
            .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cargo cannot be run in /no/such/place: "),
            "{error}"
        );
    }

    #[tokio::test]
    async fn the_executable_is_the_one_of_the_binary_among_other_messages() {
        let messages = r#"printed by a build script
{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"greeter"},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"other"},"executable":"/t/other"}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"greeter"},"executable":"/t/greeter"}
{"reason":"build-finished","success":true}
"#;
        assert_eq!(
            executable(messages.as_bytes(), "greeter").await,
            Some(PathBuf::from("/t/greeter"))
        );
        assert_eq!(executable(messages.as_bytes(), "greter").await, None);
    }
}
