//! Builds a handler with cargo and finds the executable, which is then started directly, as often
//! as needed.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::Command;

use super::LogLines;

/// One build of one binary target, in the profile of this binary: a release build of satchel builds
/// release handlers.
#[derive(Debug, Clone)]
pub struct CargoBuild {
    cargo: OsString,
    name: String,
    dir: PathBuf,
    bin: String,
    release: bool,
}

/// Why there is no executable.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is no cargo.
    #[error(
        "cargo was not found, which builds the handler in {}: install Rust, or say how to run the handler with `dev: {{command: […]}}`",
        dir.display()
    )]
    CargoMissing {
        /// Where it was to be built.
        dir: PathBuf,
    },
    /// Cargo could not be run.
    #[error("cargo cannot be run in {}: {source}", dir.display())]
    Run {
        /// Where it was to be run.
        dir: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No package there has a binary target of this name.
    #[error(
        "there is no binary `{bin}` to build in {}: name the function as its binary, or say how to run the handler with `dev: {{command: […]}}`",
        dir.display()
    )]
    NoSuchBin {
        /// The name.
        bin: String,
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// Cargo has shown why it failed.
    #[error("building `{bin}` in {} failed ({status}): {last_error}", dir.display())]
    Failed {
        /// The binary.
        bin: String,
        /// Where it was built.
        dir: PathBuf,
        /// How cargo ended.
        status: ExitStatus,
        /// The last error that it showed.
        last_error: String,
    },
}

impl CargoBuild {
    /// The build of the binary `bin` of the package in `dir`, whose output is shown under `name`.
    pub fn new(name: &str, dir: &Path, bin: &str) -> Self {
        Self {
            cargo: std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()),
            name: name.to_owned(),
            dir: dir.to_owned(),
            bin: bin.to_owned(),
            release: !cfg!(debug_assertions),
        }
    }

    /// Builds it and returns the executable. Dropping the future ends the build.
    ///
    /// # Errors
    ///
    /// Everything that [`BuildError`] names; what the compiler has to say goes to `log_lines`.
    pub async fn run(&self, log_lines: &LogLines) -> Result<PathBuf, BuildError> {
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
        let name = format!("{} build", self.name);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let show = async {
            if let Some(stderr) = stderr {
                log_lines.copy(&name, stderr, seen).await;
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
                    .unwrap_or_else(|| "cargo said nothing".to_owned()),
            }),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.cargo);
        command
            .args(["build", "--bin", &self.bin])
            .arg("--message-format=json-render-diagnostics");
        if self.release {
            command.arg("--release");
        }
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

/// Whether `cargo run` and `cargo test` set this variable for the program that they run: it
/// describes that program, and is wrong for everything that the program starts in turn.
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

/// The executable that cargo's messages name for the binary target `bin`; reads them to their end.
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
        // What build scripts print is no message.
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
    async fn a_machine_without_cargo_is_told_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let build = CargoBuild {
            cargo: "no-such-cargo".into(),
            ..CargoBuild::new("greeter", dir.path(), "greeter")
        };
        let error = build.run(&LogLines::stderr()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "cargo was not found, which builds the handler in {}: install Rust, or say how to run the handler with `dev: {{command: […]}}`",
                dir.path().display()
            )
        );
    }

    #[tokio::test]
    async fn a_directory_that_does_not_exist_is_named() {
        let error = CargoBuild::new("greeter", Path::new("/no/such/place"), "greeter")
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
