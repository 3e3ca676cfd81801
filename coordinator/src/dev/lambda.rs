//! dev's Lambda: the handlers of one function as processes of this machine, behind an embedded Lambda Runtime API.
//!
//! ```text
//!  invoke ──► pool ──free process──► runtime_api (one listener a process) ◄──next, response, error── handler process
//!              │ ▲                                                                                       ▲
//!        grow, │ │ asked, answered, exited                                                               │ spawn, SIGTERM, SIGKILL
//!        reap  ▼ │                                                                                       │
//!            handlers ──────────────────────────────► process ──► spawner ──► exec_handler ──────────────┘
//!               ▲ replace
//!             watch ──► cargo_build
//! ```
//!
//! What a handler sees is what AWS Lambda shows it: one request at a time, a deadline, the limits of a synchronous request, the extension
//! calls. What a caller sees is a payload, or the function error that AWS would tell. Two things differ, for the sake of the person at the
//! machine: a request waits for a free process instead of being refused, and a handler that does not start is
//! [`InvokeError::Unreachable`], so that fixing it loses nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

use self::cargo_build::{BuildError, CargoBuild};
use self::function::Function;
use self::pool::Invocation;

pub mod cargo_build;
pub mod exec_handler;
mod function;
mod handlers;
pub mod invoke_api;
mod log_lines;
mod pool;
mod process;
mod runtime_api;
mod spawner;
mod watch;

pub use self::exec_handler::Launcher;
pub use self::log_lines::LogLines;

/// The largest payload of a synchronous request, in bytes (AWS Lambda's limit).
pub const REQUEST_BYTES_MAX: usize = 6_291_456;

/// The largest payload of an answer, in bytes (AWS Lambda's limit).
pub const RESPONSE_BYTES_MAX: usize = 6_291_556;

/// One function and how its handler processes are run.
#[derive(Debug, Clone)]
pub struct FunctionSpec {
    /// The function's name: the prefix of its log lines and its `AWS_LAMBDA_FUNCTION_NAME`.
    pub name: String,
    /// Where it is built and runs: the directory of its module file.
    pub dir: PathBuf,
    /// What is run.
    pub program: Program,
    /// Variables for the handler, besides those of this process and Lambda's own.
    pub environment: Vec<(String, String)>,
    /// The largest number of processes, at least 1: [`processes_max`] says what fits this machine.
    pub processes_max: usize,
    /// What the handler is told as its memory size, in megabytes. Nothing enforces it here.
    pub memory_mb: u32,
    /// Whether a change of a source builds and replaces the handlers.
    pub watch: bool,
    /// How a process of this binary becomes a handler.
    pub launcher: Launcher,
    /// Where the lines go that the handlers and the build print.
    pub log_lines: LogLines,
}

/// What a handler process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// The binary of this name, built by cargo in the function's directory.
    Cargo {
        /// The name of the binary target.
        bin: String,
    },
    /// A command with its arguments, run in the function's directory as it is. At least one.
    Command(Vec<String>),
}

/// Why a function could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The build failed.
    #[error("function `{name}`: {source}")]
    Build {
        /// The function.
        name: String,
        /// What happened.
        source: BuildError,
    },
    /// The command is empty or names no program.
    #[error("function `{name}`: the command `{program}` was not found from {}", dir.display())]
    Command {
        /// The function.
        name: String,
        /// The first word of its command.
        program: String,
        /// The directory it runs in.
        dir: PathBuf,
    },
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvokeError {
    /// The handler took the request and failed: it answered with an error, took too long, or ended.
    #[error("{0}")]
    Function(FunctionError),
    /// No handler took the request, or the handlers were stopped meanwhile: the reason.
    #[error("{0}")]
    Unreachable(String),
    /// The payload is larger than [`REQUEST_BYTES_MAX`].
    #[error("the request has {bytes} bytes, Lambda takes {REQUEST_BYTES_MAX}")]
    RequestTooLarge {
        /// How large it is.
        bytes: usize,
    },
}

/// A function error as AWS Lambda tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionError {
    /// JSON: `{"errorType":…,"errorMessage":…}` and what else the handler said.
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

/// How a function is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionView {
    /// Its name.
    pub name: String,
    /// What its processes run.
    pub command: Vec<String>,
    /// Its processes, oldest first.
    pub processes: Vec<ProcessView>,
    /// How many requests wait for a process.
    pub queued: usize,
    /// How many processes were started so far.
    pub started: u64,
    /// How many answers came for a request that was not, or no longer, held by who answered: dropped.
    pub foreign_answers: u64,
}

/// How one handler process is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessView {
    /// Its process id, once it has one.
    pub pid: Option<u32>,
    /// What it does.
    pub state: ProcessState,
}

/// What a handler process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessState {
    /// It has not asked for a request yet.
    Starting,
    /// It waits for a request.
    Idle,
    /// It holds a request.
    Busy,
    /// It is to end, or has just answered and not asked again.
    Other,
}

/// How many processes serve `concurrency` requests at once on this machine.
///
/// A request carries many batches, which the handler works on side by side, so a few processes a core keep every core busy, also when
/// handlers wait for something.
pub fn processes_max(concurrency: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    concurrency.clamp(1, (4 * cores).max(8))
}

/// A request to a function, with what an AWS SDK may send beside the payload.
#[derive(Debug, Clone)]
pub struct Call {
    /// Names it, for the handler's logs.
    pub request: Uuid,
    /// What the handler gets.
    pub payload: Bytes,
    /// How long the handler has, from when a process took the request.
    pub timeout: Duration,
    /// `X-Amzn-Trace-Id`, passed on to the handler.
    pub trace: Option<String>,
    /// `X-Amz-Client-Context`, passed on to the handler.
    pub client_context: Option<String>,
}

/// A function whose handlers run on this machine. Dropping it stops them without waiting for it.
#[derive(Debug)]
pub struct LocalLambda {
    function: Arc<Function>,
    supervisor: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    watcher: Option<JoinHandle<()>>,
}

impl LocalLambda {
    /// Builds the handler if it is to be built, and starts the first process.
    ///
    /// That the process then asks for requests is not waited for: requests are. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// A failed build or a command that does not exist. A handler that starts and fails is seen in its log lines, in
    /// [`Self::describe`] and as [`InvokeError::Unreachable`].
    pub async fn start(spec: FunctionSpec) -> Result<Self, StartError> {
        let sources = watch::Sources::of(&spec);
        let before = if spec.watch {
            Some(sources.clone().fingerprint().await)
        } else {
            None
        };
        let command = command_of(&spec).await?;
        let function = Arc::new(Function::new(spec, command));
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

    /// Sends `payload` to a free process, waiting for one if need be, and waits for its answer.
    ///
    /// The handler has `timeout` from when a process took the request; then it is killed and replaced, as Lambda does.
    ///
    /// # Errors
    ///
    /// Everything that [`InvokeError`] names.
    pub async fn invoke(&self, payload: Bytes, timeout: Duration) -> Result<Bytes, InvokeError> {
        self.call(Call {
            request: Uuid::new_v4(),
            payload,
            timeout,
            trace: None,
            client_context: None,
        })
        .await
    }

    /// The same as [`LocalLambda::invoke`], with everything that a request can have.
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

    /// Ends every process, with SIGTERM and two seconds later with SIGKILL, and waits until they are gone. Requests that are waiting or
    /// held fail as [`InvokeError::Unreachable`], as do later ones.
    pub async fn shutdown(&self) {
        self.stop();
        if let Some(supervisor) = self.supervisor.lock().await.take()
            && let Err(error) = supervisor.await
        {
            tracing::error!(function = %self.function.name(), %error, "supervising the handlers ended badly");
        }
    }

    /// How the function is doing now.
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

/// The command that a process of the function runs; builds it if it is to be built.
async fn command_of(spec: &FunctionSpec) -> Result<Vec<String>, StartError> {
    match &spec.program {
        Program::Cargo { bin } => {
            let build = CargoBuild::new(&spec.name, &spec.dir, bin);
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
