//! A `satchel` process under test.

use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::client::{Addresses, Client};
use crate::processes::{MARK, marked, signal, survivors};
use crate::{LONG, satchel};

/// Maximum time for a start. On a fresh machine it includes building the handler with its
/// dependencies.
const STARTING_MAX: Duration = Duration::from_secs(15 * 60);

/// Configuration of a process: application, environment, arguments and data directory. Cheap to
/// clone; clones share the data directory.
#[derive(Debug, Clone)]
pub struct Setup {
    command: &'static str,
    modules: Vec<PathBuf>,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    data: Data,
}

#[derive(Debug, Clone)]
enum Data {
    /// Removed with the last setup that refers to it.
    Temporary(Arc<TempDir>),
    At(PathBuf),
}

impl Setup {
    /// The application of one module file, or of a directory with a `module.yaml`, with an empty
    /// data directory of its own.
    pub fn of(module: impl Into<PathBuf>) -> Self {
        let data = tempfile::tempdir().expect("a directory for the data can be made");
        Self {
            command: "dev",
            modules: vec![module.into()],
            environment: Vec::new(),
            arguments: Vec::new(),
            data: Data::Temporary(Arc::new(data)),
        }
    }

    /// Runs `satchel run` instead of `satchel`, with its state at `state`, such as
    /// `s3://bucket/prefix`.
    pub fn in_production(mut self, state: impl Into<String>) -> Self {
        self.command = "run";
        self.env("SATCHEL_STATE", state)
            .env("SATCHEL_LOG_FORMAT", "json")
    }

    /// Adds a module file or directory.
    pub fn module(mut self, module: impl Into<PathBuf>) -> Self {
        self.modules.push(module.into());
        self
    }

    /// Sets an environment variable for satchel and its handlers.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Adds an argument, such as `--ephemeral`, or `--http=127.0.0.1:8080` where a free port does
    /// not suffice.
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Keeps the data in this directory, which is not removed.
    pub fn data_at(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data = Data::At(dir.into());
        self
    }

    /// Location of the state of an application in production.
    pub fn state(&self) -> Option<&str> {
        let mut variables = self.environment.iter();
        let state = variables.find(|(name, _)| name == "SATCHEL_STATE");
        state.map(|(_, value)| value.as_str())
    }

    /// Data directory.
    pub fn data_dir(&self) -> &Path {
        match &self.data {
            Data::Temporary(dir) => dir.path(),
            Data::At(dir) => dir,
        }
    }

    /// Starts the process and waits until it serves.
    ///
    /// # Panics
    ///
    /// When it ends instead, or does not serve in time; with its output.
    pub async fn start(&self) -> Dev {
        let process = Process::spawn(self);
        let mut dev = Dev {
            client: Client::new(Addresses::default()),
            setup: self.clone(),
            process: Some(process),
        };
        dev.serves().await;
        dev
    }

    /// Starts the process and waits until its ports are open, for a standby.
    ///
    /// # Panics
    ///
    /// As [`Setup::start`].
    pub async fn start_standby(&self) -> Dev {
        let process = Process::spawn(self);
        let mut dev = Dev {
            client: Client::new(Addresses::default()),
            setup: self.clone(),
            process: Some(process),
        };
        dev.is_open().await;
        dev
    }

    /// Starts the process without waiting until it serves, so that a test can kill it during
    /// startup.
    pub fn begin(&self) -> Dev {
        Dev {
            client: Client::new(Addresses::default()),
            setup: self.clone(),
            process: Some(Process::spawn(self)),
        }
    }

    /// Returns the process without starting it; see [`Dev::begin_restart`].
    pub fn idle(&self) -> Dev {
        Dev {
            client: Client::new(Addresses::default()),
            setup: self.clone(),
            process: None,
        }
    }

    /// Starts the process and waits until it ends by itself, for an invocation that is rejected.
    ///
    /// # Panics
    ///
    /// When it does not end in time; with its output.
    pub async fn run_to_end(&self) -> Ended {
        Process::spawn(self).ended().await
    }

    fn command(&self, mark: &str) -> Command {
        let mut command = Command::new(satchel());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SATCHEL_") {
                command.env_remove(name);
            }
        }
        command.arg(self.command);
        for module in &self.modules {
            if self.command == "run" {
                command.arg("--module");
            }
            command.arg(module);
        }
        command
            .args(&self.arguments)
            .env("SATCHEL_HTTP", "127.0.0.1:0")
            .env("SATCHEL_ADMIN", "127.0.0.1:0")
            .env("SATCHEL_DATA_DIR", self.data_dir())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env(MARK, mark)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// A running `satchel` process.
///
/// Dropping it kills the process. A descendant that survives causes a panic. If the test is already
/// panicking, the output of the process is shown instead.
#[derive(Debug)]
pub struct Dev {
    /// Client of the process, also after restarts.
    pub client: Client,
    setup: Setup,
    /// `None` before its start, and between its end and a restart.
    process: Option<Process>,
}

impl Dev {
    /// The setup, for starting a second process beside this one.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Process id.
    ///
    /// # Panics
    ///
    /// When the process has ended.
    pub fn pid(&self) -> u32 {
        self.process().child.id()
    }

    /// Process ids of its running descendants: handlers, their children, and the guard process.
    pub fn started(&self) -> Vec<u32> {
        self.started_as("")
    }

    /// The subset of [`Dev::started`] whose command line contains `command`, such as the path of a
    /// handler's executable.
    pub fn started_as(&self, command: &str) -> Vec<u32> {
        let process = self.process();
        let started = marked(&process.mark).into_iter();
        let named = started.filter(|(pid, is)| *pid != process.child.id() && is.contains(command));
        named.map(|(pid, _)| pid).collect()
    }

    /// Output since its last start, stdout and stderr combined.
    pub fn printed(&self) -> String {
        self.process().printed.text()
    }

    /// Kills the process with SIGKILL, and waits until its descendants have ended too.
    ///
    /// # Panics
    ///
    /// When a descendant does not end.
    pub async fn kill9(&mut self) {
        let process = self.take();
        signal(process.child.id(), Signal::KILL);
        process.ended().await;
    }

    /// Sends SIGTERM and waits until the process has ended.
    ///
    /// # Panics
    ///
    /// When the process, or a descendant, does not end.
    pub async fn terminate(&mut self) -> Ended {
        signal(self.pid(), Signal::TERM);
        self.ended().await
    }

    /// Waits until the process ends by itself.
    ///
    /// # Panics
    ///
    /// When the process, or a descendant, does not end.
    pub async fn ended(&mut self) -> Ended {
        self.take().ended().await
    }

    /// The result if the process has ended; it can be restarted then.
    ///
    /// # Panics
    ///
    /// When a descendant does not end.
    pub async fn has_ended(&mut self) -> Option<Ended> {
        self.process_mut().exit()?;
        Some(self.ended().await)
    }

    /// True once the process has printed its ports; [`Dev::client`] uses them from then on.
    ///
    /// # Panics
    ///
    /// When the end of the process was observed before.
    pub fn has_opened(&mut self) -> bool {
        let printed = self.process().printed.text();
        match addresses(&printed) {
            Some(addresses) => {
                self.client.follow(addresses);
                true
            }
            None => false,
        }
    }

    /// Restarts the process on the same data, after killing it if it still runs.
    ///
    /// # Panics
    ///
    /// When it does not serve in time.
    pub async fn restart(&mut self) {
        if self.process.is_some() {
            self.kill9().await;
        }
        self.begin_restart();
        self.serves().await;
    }

    /// Restarts the process on the same data without waiting until it serves, so that a test can
    /// kill it during startup.
    ///
    /// # Panics
    ///
    /// When the process still runs.
    pub fn begin_restart(&mut self) {
        assert!(self.process.is_none(), "satchel still runs");
        self.process = Some(Process::spawn(&self.setup));
    }

    /// Starts a second process on the same data, which takes over. [`Dev::client`] and its clones
    /// use the new process from then on. Returns the former process with a client of its own.
    ///
    /// # Panics
    ///
    /// When the new process does not serve.
    pub async fn overtake(&mut self) -> Dev {
        let before = Dev {
            client: self.client.fork(),
            setup: self.setup.clone(),
            process: Some(self.take()),
        };
        self.process = Some(Process::spawn(&self.setup));
        self.serves().await;
        before
    }

    /// Waits until a standby serves.
    ///
    /// # Panics
    ///
    /// When it does not become ready.
    pub async fn is_ready(&mut self) {
        crate::until_true("the process is ready", async || {
            let ended = self.process_mut().exit();
            assert!(
                ended.is_none(),
                "satchel ended before it was ready: {ended:?}"
            );
            self.client.is_ready().await
        })
        .await;
    }

    async fn serves(&mut self) {
        self.is_open().await;
        self.is_ready().await;
    }

    async fn is_open(&mut self) {
        let begun = Instant::now();
        let serving = loop {
            let process = self.process_mut();
            // Checked before the output is read, so that no output is missed.
            let ended = process.exit();
            let printed = process.printed.text();
            if let Some(addresses) = addresses(&printed) {
                break addresses;
            }
            if let Some(status) = ended {
                panic!("satchel ended before it served: {status}");
            }
            assert!(
                begun.elapsed() < STARTING_MAX,
                "satchel does not serve; its output follows"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        self.client.follow(serving);
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("satchel runs")
    }

    fn process_mut(&mut self) -> &mut Process {
        self.process.as_mut().expect("satchel runs")
    }

    fn take(&mut self) -> Process {
        self.process.take().expect("satchel runs")
    }
}

/// Addresses of the ports, once they were printed.
fn addresses(printed: &str) -> Option<Addresses> {
    Addresses::in_banner(printed).or_else(|| Addresses::in_log(printed))
}

/// Result of a process.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Exit code; `None` if a signal ended the process.
    pub code: Option<i32>,
    /// Output since its start, stdout and stderr combined.
    pub printed: String,
}

#[derive(Debug)]
struct Process {
    child: Child,
    mark: String,
    printed: Printed,
    readers: Vec<JoinHandle<()>>,
    over: bool,
}

impl Process {
    fn spawn(setup: &Setup) -> Self {
        static STARTED: AtomicU64 = AtomicU64::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{number}", std::process::id());
        let mut child = setup
            .command(&mark)
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be run: {error}", satchel().display()));
        let printed = Printed::default();
        let stdout = child.stdout.take().map(|pipe| printed.read(pipe));
        let stderr = child.stderr.take().map(|pipe| printed.read(pipe));
        Self {
            child,
            mark,
            printed,
            readers: stdout.into_iter().chain(stderr).collect(),
            over: false,
        }
    }

    fn exit(&mut self) -> Option<ExitStatus> {
        let exit = self.child.try_wait();
        exit.expect("a child can be waited for")
    }

    async fn ended(mut self) -> Ended {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.exit() {
                break status;
            }
            assert!(begun.elapsed() < LONG, "satchel does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let survivors = self.finish();
        assert!(
            survivors.is_empty(),
            "descendants outlived satchel: {survivors:?}"
        );
        Ended {
            code: status.code(),
            printed: self.printed.text(),
        }
    }

    /// Kills the process if it runs. Kills and returns the descendants that outlived it.
    fn finish(&mut self) -> Vec<(u32, String)> {
        self.over = true;
        // An error means that it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let survivors = survivors(&self.mark);
        for reader in self.readers.drain(..) {
            // The reader ends with the last process that holds the pipe, and none is left.
            let _ = reader.join();
        }
        survivors
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let survivors = if self.over { Vec::new() } else { self.finish() };
        if std::thread::panicking() {
            eprintln!("--- satchel printed:\n{}---", self.printed.text());
        } else {
            assert!(
                survivors.is_empty(),
                "descendants outlived satchel: {survivors:?}"
            );
        }
    }
}

/// Output of a process, collected line by line.
#[derive(Debug, Clone, Default)]
struct Printed(Arc<Mutex<String>>);

impl Printed {
    fn read(&self, pipe: impl Read + Send + 'static) -> JoinHandle<()> {
        let printed = self.clone();
        std::thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe
                .read_until(b'\n', &mut line)
                .is_ok_and(|length| length > 0)
            {
                printed.lock().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        })
    }

    fn text(&self) -> String {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
