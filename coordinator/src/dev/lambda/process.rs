//! One handler process from start to end, with its own Runtime API.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::OptionFuture;
use rustix::process::{Pid, Signal};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::cargo_build::is_set_by_cargo_run;
use super::function::{Function, Stdio};
use super::pool::{Control, End, ProcessId};
use super::runtime_api::RuntimeApi;
use super::spawner;

/// Time between SIGTERM and SIGKILL.
const TERM_TO_KILL: Duration = Duration::from_secs(2);

/// Maximum time to read output after the end of a process. A process of another group may keep the
/// pipes open.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

/// Runs one process. Returns a description of its end, or the reason why it did not start.
pub(super) async fn run(
    function: Arc<Function>,
    process: ProcessId,
    wanted: watch::Receiver<Control>,
) -> String {
    let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await {
        Ok(listener) => listener,
        Err(error) => return format!("no port for its Runtime API: {error}"),
    };
    let address = match listener.local_addr() {
        Ok(address) => address,
        Err(error) => return format!("no address for its Runtime API: {error}"),
    };
    let command = command(&function, &address.to_string());
    let own_group = function.stdio == Stdio::Captured;
    let spawned = spawner::spawn(function.spec.launcher.clone(), command, own_group).await;
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return format!("it cannot be started: {error}"),
    };
    // The id is known until the process has been waited for.
    let pid = child.id().unwrap_or_default();
    let processes = Processes { pid, own_group };
    function.pool().set_pid(process, Some(pid));
    tracing::debug!(function = function.name(), pid, "handler started");

    let api = RuntimeApi::serve((listener, address), Arc::clone(&function), process);
    let output = Output::of(&mut child, &function);
    // Kept open and never written: a handler can detect the end of its parent by reading it.
    let _stdin = child.stdin.take();
    let status = until_it_ends(&mut child, &processes, &function, process, wanted, &api).await;
    drop(processes);
    // An answer sent just before the end counts.
    api.finish(LAST_WORDS_MAX).await;
    let last_line = output.finish().await;
    let how = match status {
        Ok(status) => status.to_string(),
        Err(error) => format!("it cannot be waited for: {error}"),
    };
    if last_line.is_empty() {
        how
    } else {
        format!("{how}; its last line: {last_line}")
    }
}

async fn until_it_ends(
    child: &mut Child,
    processes: &Processes,
    function: &Function,
    process: ProcessId,
    mut wanted: watch::Receiver<Control>,
    api: &RuntimeApi,
) -> std::io::Result<std::process::ExitStatus> {
    let mut kill_at = None;
    loop {
        let control = *wanted.borrow_and_update();
        match control.end {
            Some(End::AtOnce) => processes.signal(Signal::KILL),
            Some(End::Gracefully) if kill_at.is_none() => {
                kill_at = Some(Instant::now() + TERM_TO_KILL);
                api.announce_shutdown(TERM_TO_KILL);
                processes.signal(Signal::TERM);
            }
            Some(End::Gracefully) | None => {}
        }
        let alarm = kill_at.or(control.deadline);
        tokio::select! {
            status = child.wait() => {
                report_end(function, processes.pid, &status, control.end.is_some());
                return status;
            }
            changed = wanted.changed() => if changed.is_err() {
                // The pool has forgotten the process, which it does only after the end. Kill it.
                processes.signal(Signal::KILL);
                return child.wait().await;
            },
            Some(()) = OptionFuture::from(alarm.map(sleep_until)) => match kill_at {
                Some(_) => {
                    processes.signal(Signal::KILL);
                    return child.wait().await;
                }
                None => function.pool().expire(process, Instant::now()),
            },
        }
    }
}

fn report_end(
    function: &Function,
    pid: u32,
    status: &std::io::Result<std::process::ExitStatus>,
    wanted: bool,
) {
    let function = function.name();
    match status {
        _ if wanted => tracing::debug!(function, pid, "handler ended as requested"),
        Ok(status) => tracing::warn!(function, pid, %status, "handler ended unexpectedly"),
        Err(error) => tracing::warn!(function, pid, %error, "waiting for a handler failed"),
    }
}

/// Handler with the processes that it started, which are its process group. One that has the
/// terminal is alone. Dropping this kills and forgets them, also if the task is aborted.
struct Processes {
    pid: u32,
    own_group: bool,
}

impl Processes {
    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(pid) = pid.filter(|pid| !pid.is_init()) else {
            return;
        };
        // An error means that they have ended already.
        let _ = match self.own_group {
            true => rustix::process::kill_process_group(pid, signal),
            false => rustix::process::kill_process(pid, signal),
        };
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        if self.own_group {
            self.signal(Signal::KILL);
            spawner::forget(self.pid);
        }
        // A process that is alone was waited for, or its handle kills it. Its number may be reused.
    }
}

fn command(function: &Function, runtime_api: &str) -> Command {
    let spec = &function.spec;
    let mut command = Command::from(spec.launcher.handler(&function.command()));
    command.current_dir(&spec.dir);
    match function.stdio {
        Stdio::Captured => command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped()),
        Stdio::Terminal => command
            .stdin(std::process::Stdio::inherit())
            .stdout(std::io::stderr())
            .stderr(std::process::Stdio::inherit()),
    };
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        // Handlers must not see the settings of satchel, which include tokens, nor those of a
        // Lambda that satchel itself may run in.
        if text.starts_with("SATCHEL_")
            || text.starts_with("AWS_LAMBDA_")
            || is_set_by_cargo_run(&text)
        {
            command.env_remove(name);
        }
    }
    let region = Function::region();
    if !std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        command.env("NO_COLOR", "1");
    }
    command
        .env("AWS_REGION", &region)
        .env("AWS_DEFAULT_REGION", &region)
        .env("LAMBDA_TASK_ROOT", &spec.dir)
        .envs(spec.environment.iter().map(|(name, value)| (name, value)))
        .env("AWS_LAMBDA_RUNTIME_API", runtime_api)
        .env("AWS_LAMBDA_FUNCTION_NAME", &spec.name)
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env(
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
            spec.memory_mb.to_string(),
        )
        .env("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
        .env(
            "AWS_LAMBDA_LOG_GROUP_NAME",
            format!("/aws/lambda/{}", spec.name),
        )
        .env("AWS_LAMBDA_LOG_STREAM_NAME", "local")
        .env("_HANDLER", &spec.name);
    command
}

/// Output of a process, copied to the log lines.
struct Output {
    copies: Vec<JoinHandle<()>>,
    last_line: Arc<Mutex<String>>,
}

impl Output {
    fn of(child: &mut Child, function: &Arc<Function>) -> Self {
        let last_line = Arc::new(Mutex::new(String::new()));
        let name = function.name().to_owned();
        let mut copies = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let (function, name) = (Arc::clone(function), name.clone());
            copies.push(tokio::spawn(async move {
                function.log_lines().copy(&name, stdout, |_| {}).await;
            }));
        }
        if let Some(stderr) = child.stderr.take() {
            let (function, last_line) = (Arc::clone(function), Arc::clone(&last_line));
            copies.push(tokio::spawn(async move {
                let remember = |line: &str| {
                    if !line.trim().is_empty() {
                        let mut last = last_line.lock().unwrap_or_else(PoisonError::into_inner);
                        *last = line.chars().take(500).collect();
                    }
                };
                function.log_lines().copy(&name, stderr, remember).await;
            }));
        }
        Self { copies, last_line }
    }

    /// Waits for the end of the output. Returns the last line of standard error.
    async fn finish(self) -> String {
        for mut copy in self.copies {
            if timeout(LAST_WORDS_MAX, &mut copy).await.is_err() {
                copy.abort();
            }
        }
        let last = self
            .last_line
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        last.clone()
    }
}
