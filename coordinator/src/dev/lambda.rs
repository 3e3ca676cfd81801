//! Lambda functions of `satchel dev`: handlers as processes of this machine, behind an embedded
//! Lambda Runtime API.
//!
//! ```text
//!  invoke ─► pool ─free process─► runtime_api (one listener ◄─next, response, error─ handler
//!             │ ▲                 per process)                                        process
//!       grow, │ │ asked,                                                                 ▲
//!       reap  ▼ │ answered, exited                             spawn, SIGTERM, SIGKILL   │
//!            handlers ───────────────► process ─► spawner ─► exec_handler ───────────────┘
//!               ▲ replace
//!             watch ──► cargo_build
//! ```
//!
//! A handler sees the same as on AWS Lambda: one request at a time, a deadline, the limits of a
//! synchronous request, the extension calls. A caller sees a payload, or the function error of AWS.
//! Two things differ, for the convenience of development: a request waits for a free process
//! instead of being rejected, and a handler that does not start is [`InvokeError::Unreachable`], so
//! that no message is lost while it is being fixed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

use self::cargo_build::{BuildError, CargoBuild};
use self::function::{Function, Stdio};
use self::pool::Invocation;

mod build_output;
pub mod cargo_build;
pub mod exec_handler;
mod function;
mod handlers;
pub mod invoke_api;
mod invoker;
mod log_lines;
mod pool;
mod process;
mod runtime_api;
mod spawner;
mod watch;

pub use self::exec_handler::Launcher;
pub use self::invoker::LocalLambdaInvoker;
pub use self::log_lines::LogLines;

/// Maximum payload of a synchronous request, in bytes (AWS Lambda's limit).
pub const REQUEST_BYTES_MAX: usize = 6_291_456;

/// Maximum payload of an answer, in bytes (AWS Lambda's limit).
pub const RESPONSE_BYTES_MAX: usize = 6_291_556;

/// Function, with settings of its handler processes.
#[derive(Debug, Clone)]
pub struct FunctionSpec {
    /// Name of the function: the prefix of its log lines, and its `AWS_LAMBDA_FUNCTION_NAME`.
    pub name: String,
    /// Directory in which it is built and runs: that of its module file.
    pub dir: PathBuf,
    /// Program of the handler.
    pub program: Program,
    /// Environment variables of the handler, besides those of this process and of Lambda.
    pub environment: Vec<(String, String)>,
    /// Maximum number of processes, at least 1. [`processes_max`] computes one for this machine.
    pub processes_max: usize,
    /// Memory size, in megabytes, that the handler sees. Nothing enforces it here.
    pub memory_mb: u32,
    /// True if a change of a source rebuilds and replaces the handlers.
    pub watch: bool,
    /// Launcher of handler processes.
    pub launcher: Launcher,
    /// Destination of output of the handlers and the build.
    pub log_lines: LogLines,
}

/// Program of a handler process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// Binary that cargo builds in the function's directory.
    Cargo {
        /// Name of the binary target.
        bin: String,
        /// True for cargo's release profile, false for the one for development.
        release: bool,
    },
    /// Command with its arguments, run in the function's directory. Must not be empty.
    Command(Vec<String>),
}

/// Error of starting a function.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The build failed.
    #[error("function `{name}`: {source}")]
    Build {
        /// Name of the function.
        name: String,
        /// Error of the build.
        source: BuildError,
    },
    /// The command is empty or names no program.
    #[error("function `{name}`: command `{program}` not found from {}", dir.display())]
    Command {
        /// Name of the function.
        name: String,
        /// First word of the command.
        program: String,
        /// Directory that it runs in.
        dir: PathBuf,
    },
}

/// Error of a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvokeError {
    /// The handler took the request and failed: it answered with an error, timed out, or ended.
    #[error("{0}")]
    Function(FunctionError),
    /// No handler took the request, or the handlers were stopped meanwhile; with the reason.
    #[error("{0}")]
    Unreachable(String),
    /// The payload is larger than [`REQUEST_BYTES_MAX`].
    #[error("the request has {bytes} bytes; Lambda accepts at most {REQUEST_BYTES_MAX}")]
    RequestTooLarge {
        /// Size of the payload in bytes.
        bytes: usize,
    },
}

/// Function error in the form of AWS Lambda.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionError {
    /// JSON: `{"errorType":…,"errorMessage":…}` and further fields of the handler.
    pub payload: Bytes,
}

impl FunctionError {
    fn new(kind: &str, message: &str) -> Self {
        let payload = serde_json::json!({"errorType": kind, "errorMessage": message});
        Self {
            payload: payload.to_string().into(),
        }
    }
}

impl std::fmt::Display for FunctionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.payload))
    }
}

/// Status of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionView {
    /// Name of the function.
    pub name: String,
    /// Command of its processes.
    pub command: Vec<String>,
    /// Processes, oldest first.
    pub processes: Vec<ProcessView>,
    /// Number of requests that wait for a process.
    pub queued: usize,
    /// Number of processes started so far.
    pub started: u64,
    /// Number of dropped answers: their process did not hold the request, or no longer.
    pub foreign_answers: u64,
}

/// Status of a handler process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessView {
    /// Process id, once it is known.
    pub pid: Option<u32>,
    /// State of the process.
    pub state: ProcessState,
}

/// State of a handler process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessState {
    /// Has not asked for a request yet.
    Starting,
    /// Waits for a request.
    Idle,
    /// Holds a request.
    Busy,
    /// Is ending, or has answered and not asked again yet.
    Other,
}

/// Returns the number of processes for `concurrency` concurrent requests on this machine.
///
/// A request carries many batches, which the handler processes concurrently. A few processes per
/// core therefore keep every core busy, even if handlers wait for other services.
pub fn processes_max(concurrency: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    concurrency.clamp(1, (4 * cores).max(8))
}

/// Request to a function, with the metadata that an AWS SDK may send.
#[derive(Debug, Clone)]
pub struct Call {
    /// Id of the request, for the handler's logs.
    pub request: Uuid,
    /// Payload for the handler.
    pub payload: Bytes,
    /// Time that the handler has, from when a process took the request.
    pub timeout: Duration,
    /// `X-Amzn-Trace-Id`, passed on to the handler.
    pub trace: Option<String>,
    /// `X-Amz-Client-Context`, passed on to the handler.
    pub client_context: Option<String>,
}

impl Call {
    /// Creates a request without metadata.
    #[must_use]
    pub fn new(payload: Bytes, timeout: Duration) -> Self {
        Self {
            request: Uuid::new_v4(),
            payload,
            timeout,
            trace: None,
            client_context: None,
        }
    }
}

/// Function whose handlers run on this machine. Dropping it stops them without waiting.
#[derive(Debug)]
pub struct LocalLambda {
    function: Arc<Function>,
    supervisor: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    watcher: Option<JoinHandle<()>>,
}

impl LocalLambda {
    /// Builds the handler, if it is built by cargo, and starts the first process.
    ///
    /// Returns before the process asks for requests. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The build failed, or the command does not exist. A handler that starts and fails appears in
    /// its log lines, in [`Self::describe`] and as [`InvokeError::Unreachable`].
    pub async fn start(spec: FunctionSpec) -> Result<Self, StartError> {
        Self::start_with(spec, Stdio::Captured).await
    }

    /// Starts a function as [`Self::start`], with one process that has the terminal to itself: a
    /// debugger. It may take any time until it asks for a request. What it writes to standard
    /// output goes to standard error.
    ///
    /// # Errors
    ///
    /// As of [`Self::start`].
    pub async fn start_in_terminal(spec: FunctionSpec) -> Result<Self, StartError> {
        Self::start_with(spec, Stdio::Terminal).await
    }

    async fn start_with(spec: FunctionSpec, stdio: Stdio) -> Result<Self, StartError> {
        let sources = watch::Sources::of(&spec);
        let before = if spec.watch {
            Some(sources.clone().fingerprint().await)
        } else {
            None
        };
        let command = command_of(&spec).await?;
        let function = Arc::new(Function::new(spec, command, stdio));
        let supervisor = tokio::spawn(handlers::supervise(Arc::clone(&function)));
        let watcher = before.map(|before| {
            tokio::spawn(watch::rebuild_on_change(
                Arc::clone(&function),
                sources,
                before,
            ))
        });
        Ok(Self {
            function,
            supervisor: tokio::sync::Mutex::new(Some(supervisor)),
            watcher,
        })
    }

    /// Sends `payload` to a free process, waits for one if necessary, and waits for its answer.
    ///
    /// The handler has `timeout` from when a process took the request. After that, the process is
    /// killed and replaced, as on Lambda.
    ///
    /// # Errors
    ///
    /// Everything that [`InvokeError`] names.
    pub async fn invoke(&self, payload: Bytes, timeout: Duration) -> Result<Bytes, InvokeError> {
        self.call(Call::new(payload, timeout)).await
    }

    /// Sends a request as [`LocalLambda::invoke`], with metadata.
    ///
    /// # Errors
    ///
    /// Everything that [`InvokeError`] names.
    pub async fn call(&self, call: Call) -> Result<Bytes, InvokeError> {
        if call.payload.len() > REQUEST_BYTES_MAX {
            return Err(InvokeError::RequestTooLarge {
                bytes: call.payload.len(),
            });
        }
        let (reply, answer) = oneshot::channel();
        self.function.submit(Invocation { call, reply });
        answer.await.unwrap_or_else(|_| {
            Err(InvokeError::Unreachable(
                "the handlers were stopped".to_owned(),
            ))
        })
    }

    /// Ends every process, with SIGTERM and two seconds later with SIGKILL, and waits for their
    /// ends. Current and later requests fail as [`InvokeError::Unreachable`].
    pub async fn shutdown(&self) {
        self.stop();
        if let Some(supervisor) = self.supervisor.lock().await.take()
            && let Err(error) = supervisor.await
        {
            let function = self.function.name();
            tracing::error!(function, %error, "supervisor of the handlers failed");
        }
    }

    /// Returns the current status of the function.
    pub fn describe(&self) -> FunctionView {
        self.function.describe()
    }

    fn stop(&self) {
        if let Some(watcher) = &self.watcher {
            watcher.abort();
        }
        self.function.stop();
    }
}

impl Drop for LocalLambda {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Returns the command of the function's processes. Builds it first if it is built by cargo.
async fn command_of(spec: &FunctionSpec) -> Result<Vec<String>, StartError> {
    match &spec.program {
        Program::Cargo { bin, release } => {
            let build = CargoBuild::new(&spec.name, &spec.dir, bin, *release);
            let built = build.run(&spec.log_lines).await;
            let executable = built.map_err(|source| StartError::Build {
                name: spec.name.clone(),
                source,
            })?;
            Ok(vec![executable.to_string_lossy().into_owned()])
        }
        Program::Command(command) => {
            let program = command.first().cloned().unwrap_or_default();
            if exec_handler::is_runnable(&program, &spec.dir) {
                Ok(command.clone())
            } else {
                Err(StartError::Command {
                    name: spec.name.clone(),
                    program,
                    dir: spec.dir.clone(),
                })
            }
        }
    }
}
