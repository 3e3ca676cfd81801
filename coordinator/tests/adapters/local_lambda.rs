//! dev's Lambda with real handler processes: Python handlers that implement the Runtime API, and
//! Rust handlers that cargo builds.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use satchel::dev::lambda::{
    FunctionSpec, InvokeError, Launcher, LocalLambda, LogLines, ProcessState, Program, exec_handler,
};
use serde_json::{Value, json};

mod building;
mod bundles;
mod failures;
#[cfg(target_os = "linux")]
mod open_files;
mod outliving;
mod processes;

/// Longer than any step here takes, and shorter than a person waits.
const LONG: Duration = Duration::from_secs(60);

/// A function with the handler `handler.py` in a directory of its own.
struct Fixture {
    dir: tempfile::TempDir,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self {
            dir: tempfile::tempdir().unwrap(),
            lines: Arc::default(),
        };
        std::fs::write(
            fixture.path("handler.py"),
            include_str!("local_lambda/handler.py"),
        )
        .unwrap();
        fixture
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn spec(&self, program: Program) -> FunctionSpec {
        let lines = Arc::clone(&self.lines);
        FunctionSpec {
            name: "greeter".into(),
            dir: self.dir.path().to_owned(),
            program,
            environment: vec![("GREETING".into(), "Hello".into())],
            processes_max: 1,
            memory_mb: 256,
            watch: false,
            launcher: launcher(),
            log_lines: LogLines::to(move |line| lines.lock().unwrap().push(line.to_owned())),
        }
    }

    fn python(&self) -> FunctionSpec {
        self.spec(command(["python3", "handler.py"]))
    }

    /// Waits for a line of the handlers that contains `text`; lines arrive asynchronously.
    async fn shows(&self, text: &str) {
        eventually(&format!("a line with `{text}`"), || {
            self.lines
                .lock()
                .unwrap()
                .iter()
                .any(|line| line.contains(text))
        })
        .await;
    }
}

fn command<const N: usize>(words: [&str; N]) -> Program {
    Program::Command(words.map(str::to_owned).to_vec())
}

async fn invoke(lambda: &LocalLambda, event: Value) -> Result<Value, InvokeError> {
    invoke_within(lambda, event, LONG).await
}

async fn invoke_within(
    lambda: &LocalLambda,
    event: Value,
    timeout: Duration,
) -> Result<Value, InvokeError> {
    let payload = Bytes::from(event.to_string());
    let answer = tokio::time::timeout(LONG, lambda.invoke(payload, timeout));
    let answer = answer.await.expect("an answer in time")?;
    Ok(serde_json::from_slice(&answer).expect("the answer is JSON"))
}

fn function_error(error: InvokeError) -> Value {
    match error {
        InvokeError::Function(error) => serde_json::from_slice(&error.payload).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn unreachable(error: InvokeError) -> String {
    match error {
        InvokeError::Unreachable(why) => why,
        other => panic!("{other:?}"),
    }
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LONG, "timed out waiting for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// True while the process runs; false for a zombie.
fn is_alive(pid: u64) -> bool {
    let state = if cfg!(target_os = "linux") {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name before the state is in parentheses and may contain any character.
        stat.rsplit_once(')')
            .map_or(String::new(), |(_, rest)| rest.trim().to_owned())
    } else {
        let ps = std::process::Command::new("ps")
            .args(["-o", "stat=", "-p", &pid.to_string()])
            .output()
            .expect("ps runs");
        String::from_utf8_lossy(&ps.stdout).trim().to_owned()
    };
    !state.is_empty() && !state.starts_with('Z')
}

/// The real binary, because a test binary has a different `main`.
fn launcher() -> Launcher {
    let subcommand = exec_handler::SUBCOMMAND.into();
    Launcher::new(env!("CARGO_BIN_EXE_satchel"), [subcommand])
}
