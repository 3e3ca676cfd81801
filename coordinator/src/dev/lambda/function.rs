//! One function with its pool, shared by callers, answers and the supervisor of processes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::pool::{Invocation, Next, Pool, ProcessId};
use super::{FunctionSpec, FunctionView, LogLines};

/// Input and output of the processes of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stdio {
    /// Input is empty, and output becomes log lines.
    Captured,
    /// Both are those of this process, in whose process group the processes are.
    Terminal,
}

#[derive(Debug)]
pub(super) struct Function {
    pub(super) spec: FunctionSpec,
    pub(super) stdio: Stdio,
    /// Notified when the supervisor should ask the pool again.
    pub(super) changed: Notify,
    command: Mutex<Command>,
    pool: Mutex<Pool>,
}

/// Command of processes, with the modification time of its executable.
#[derive(Debug)]
struct Command {
    words: Vec<String>,
    modified: Option<SystemTime>,
}

impl Command {
    fn new(words: Vec<String>) -> Self {
        Self {
            modified: modified(&words),
            words,
        }
    }
}

fn modified(words: &[String]) -> Option<SystemTime> {
    std::fs::metadata(words.first()?).ok()?.modified().ok()
}

impl Function {
    pub(super) fn new(spec: FunctionSpec, command: Vec<String>, stdio: Stdio) -> Self {
        let pool = match stdio {
            Stdio::Captured => Pool::new(spec.processes_max),
            Stdio::Terminal => Pool::patient(),
        };
        Self {
            pool: Mutex::new(pool),
            spec,
            stdio,
            changed: Notify::new(),
            command: Mutex::new(Command::new(command)),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.spec.name
    }

    pub(super) fn log_lines(&self) -> &LogLines {
        &self.spec.log_lines
    }

    /// Region that handlers see: that of this process, or a default.
    pub(super) fn region() -> String {
        ["AWS_REGION", "AWS_DEFAULT_REGION"]
            .into_iter()
            .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
            .unwrap_or_else(|| "us-east-1".to_owned())
    }

    pub(super) fn pool(&self) -> MutexGuard<'_, Pool> {
        // No code that holds the lock can leave the pool inconsistent.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn submit(&self, invocation: Invocation) {
        self.pool().submit(invocation, Instant::now());
        self.changed.notify_one();
    }

    /// Handles a process's call for a request.
    pub(super) fn next(&self, process: ProcessId) -> Next {
        let mut pool = self.pool();
        let next = pool.next(process, Instant::now());
        if pool.queued() > 0 {
            // While this process started, no other was started for the queue.
            self.changed.notify_one();
        }
        next
    }

    /// Command of new processes.
    pub(super) fn command(&self) -> Vec<String> {
        self.lock_command().words.clone()
    }

    /// Returns true if the running handlers were started from exactly this executable. A build
    /// without changes does not write the file.
    pub(super) fn is_made_from(&self, words: &[String]) -> bool {
        let command = self.lock_command();
        command.words == words && command.modified == modified(words)
    }

    /// Sets the command of new processes. Current processes finish their requests and end.
    pub(super) fn replace(&self, words: Vec<String>) {
        *self.lock_command() = Command::new(words);
        self.pool().retire_all();
        self.changed.notify_one();
    }

    fn lock_command(&self) -> MutexGuard<'_, Command> {
        self.command.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stop(&self) {
        self.pool().stop();
        self.changed.notify_one();
    }

    pub(super) fn describe(&self) -> FunctionView {
        let command = self.command();
        let pool = self.pool();
        FunctionView {
            name: self.spec.name.clone(),
            command,
            processes: pool.processes(),
            queued: pool.queued(),
            started: pool.started(),
            foreign_answers: pool.foreign_answers(),
        }
    }
}
