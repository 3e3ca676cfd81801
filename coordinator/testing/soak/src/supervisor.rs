//! Supervisor of one process: starts it again whenever it ends.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use satchel_testkit::{Client, Dev, Ended, LONG, Setup};

/// Delay before a restart, as a service manager would need to notice the end.
const RESTART_DELAY: Duration = Duration::from_millis(300);

/// Timeout of a readiness check.
const READY_MAX: Duration = Duration::from_millis(500);

/// A process that is restarted whenever it ends.
pub(crate) struct Supervisor {
    /// Name in logs.
    pub(crate) name: String,
    dev: Dev,
    phase: Phase,
    /// Actions applied to the current process.
    history: History,
    /// The process has printed its ports.
    open: bool,
    starts: u32,
    logs: PathBuf,
    /// The process is to stay away after its end.
    leaves: bool,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Not started, or stopped and not to be restarted.
    Absent,
    Running,
    /// Paused until this time.
    Paused(Instant),
    /// Ended at this time.
    Ended(Instant),
}

/// Actions applied to a process.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct History {
    pub(crate) killed: bool,
    /// Time at which it was asked to stop.
    pub(crate) stop_requested: Option<Instant>,
    /// The process was ready at least once.
    pub(crate) was_ready: bool,
}

/// End of a process.
pub(crate) struct End {
    pub(crate) ended: Ended,
    pub(crate) history: History,
    /// File that keeps its output.
    pub(crate) log: PathBuf,
}

impl Supervisor {
    /// Starts the first process; the output of each process is kept in `logs`.
    pub(crate) fn begin(name: &str, setup: &Setup, logs: PathBuf) -> Self {
        let mut supervisor = Self::absent(name, setup, logs);
        supervisor.join();
        supervisor
    }

    /// Supervises a process that is not started yet.
    pub(crate) fn absent(name: &str, setup: &Setup, logs: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            dev: setup.idle(),
            phase: Phase::Absent,
            history: History::default(),
            open: false,
            starts: 0,
            logs,
            leaves: false,
        }
    }

    /// Starts the process if it is absent.
    pub(crate) fn join(&mut self) {
        if self.is_absent() {
            self.start();
        }
    }

    /// Stops the process gracefully, and does not restart it.
    pub(crate) fn leave(&mut self) {
        self.leaves = true;
        self.stop();
    }

    fn start(&mut self) {
        self.dev.begin_restart();
        self.phase = Phase::Running;
        self.history = History::default();
        self.open = false;
        self.leaves = false;
        self.starts += 1;
    }

    /// Client that follows the process over restarts.
    pub(crate) fn client(&self) -> Client {
        self.dev.client.clone()
    }

    /// Resumes or restarts the process when due. Returns the result of the process if it ended
    /// since the last call.
    pub(crate) async fn poll(&mut self) -> Option<End> {
        match self.phase {
            Phase::Ended(_) if self.leaves => {
                self.phase = Phase::Absent;
                return None;
            }
            Phase::Ended(since) if since.elapsed() >= RESTART_DELAY => {
                self.start();
                return None;
            }
            Phase::Ended(_) | Phase::Absent => return None,
            Phase::Paused(until) if until <= Instant::now() => self.resume(),
            Phase::Paused(_) | Phase::Running => {}
        }
        let Some(ended) = self.dev.has_ended().await else {
            self.open = self.open || self.dev.has_opened();
            return None;
        };
        self.phase = Phase::Ended(Instant::now());
        let log = self.logs.join(format!("{}-{}.log", self.name, self.starts));
        if let Err(error) = std::fs::write(&log, &ended.printed) {
            eprintln!("soak: writing {} failed: {error}", log.display());
        }
        let history = self.history;
        Some(End {
            ended,
            history,
            log,
        })
    }

    /// True if the process serves.
    pub(crate) async fn is_ready(&mut self) -> bool {
        if !self.is_up() {
            return false;
        }
        let answer = tokio::time::timeout(READY_MAX, self.dev.client.is_ready());
        let ready = answer.await.unwrap_or(false);
        self.history.was_ready |= ready;
        ready
    }

    /// True if the process runs, is not paused, and serves or stands by.
    pub(crate) fn is_up(&self) -> bool {
        let ends = self.history.killed || self.history.stop_requested.is_some();
        self.open && matches!(self.phase, Phase::Running) && !ends
    }

    /// True if the process has ended and is not restarted yet, or is absent.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_) | Phase::Absent)
    }

    /// True if the process is not to run.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self.phase, Phase::Absent)
    }

    /// True if the process was asked to stop and to stay away.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaves && !self.is_absent()
    }

    /// Process id, if it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        (!self.has_ended()).then(|| self.dev.pid())
    }

    /// True if the process is paused.
    pub(crate) fn is_paused(&self) -> bool {
        matches!(self.phase, Phase::Paused(_))
    }

    /// Kills the process, paused or not.
    pub(crate) fn kill(&mut self) {
        self.history.killed = true;
        self.signal(Signal::KILL);
    }

    /// Sends SIGTERM.
    pub(crate) fn stop(&mut self) {
        self.history.stop_requested.get_or_insert_with(Instant::now);
        self.signal(Signal::TERM);
    }

    /// Pauses the process for this time.
    pub(crate) fn pause(&mut self, time: Duration) {
        if matches!(self.phase, Phase::Running) {
            self.signal(Signal::STOP);
            self.phase = Phase::Paused(Instant::now() + time);
        }
    }

    /// Resumes the process if it is paused.
    pub(crate) fn resume(&mut self) {
        if matches!(self.phase, Phase::Paused(_)) {
            self.signal(Signal::CONT);
            self.phase = Phase::Running;
        }
    }

    /// True if the process does not stop although it was asked to.
    pub(crate) fn hangs(&self) -> bool {
        let requested = self.history.stop_requested;
        !self.has_ended() && requested.is_some_and(|at| at.elapsed() > LONG)
    }

    fn signal(&self, signal: Signal) {
        let pid = self.pid().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // A process that has ended meanwhile needs no signal.
            let _ = kill_process(pid, signal);
        }
    }
}
