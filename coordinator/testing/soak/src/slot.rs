//! One place for a process: it runs there, ends, and is started again.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use satchel_testkit::{Client, Dev, Ended, LONG, Setup};

/// How long a place stays empty: as long as whoever starts processes again takes to notice.
const EMPTY: Duration = Duration::from_millis(300);

/// How long a process may take to answer that it is ready.
const READY_MAX: Duration = Duration::from_millis(500);

/// A process that is started again whenever it ends.
pub(crate) struct Slot {
    /// Its name in logs.
    pub(crate) name: String,
    dev: Dev,
    phase: Phase,
    /// What was done to the process that runs now.
    done: Done,
    /// Whether it said where its ports are.
    open: bool,
    starts: u32,
    logs: PathBuf,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Running,
    /// It sleeps until then.
    Asleep(Instant),
    /// It ended then.
    Empty(Instant),
}

/// What was done to a process.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Done {
    pub(crate) killed: bool,
    /// When it was told to stop.
    pub(crate) told_to_stop: Option<Instant>,
    /// Whether it was ready once.
    pub(crate) was_ready: bool,
}

/// A process ended.
pub(crate) struct End {
    pub(crate) ended: Ended,
    pub(crate) done: Done,
    /// Where everything that it printed is kept.
    pub(crate) log: PathBuf,
}

impl Slot {
    /// Starts the first process, and keeps in `logs` what each prints.
    pub(crate) fn begin(name: &str, setup: &Setup, logs: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            dev: setup.begin(),
            phase: Phase::Running,
            done: Done::default(),
            open: false,
            starts: 1,
            logs,
        }
    }

    /// A client that follows the processes of this place.
    pub(crate) fn client(&self) -> Client {
        self.dev.client.clone()
    }

    /// Sees to the process: wakes it, starts the next one; how it ended, if it did since the last time.
    pub(crate) async fn look(&mut self) -> Option<End> {
        match self.phase {
            Phase::Empty(since) if since.elapsed() >= EMPTY => {
                self.dev.begin_restart();
                self.phase = Phase::Running;
                self.done = Done::default();
                self.open = false;
                self.starts += 1;
                return None;
            }
            Phase::Empty(_) => return None,
            Phase::Asleep(until) if until <= Instant::now() => self.wake(),
            Phase::Asleep(_) | Phase::Running => {}
        }
        let Some(ended) = self.dev.has_ended().await else {
            self.open = self.open || self.dev.has_opened();
            return None;
        };
        self.phase = Phase::Empty(Instant::now());
        let log = self.logs.join(format!("{}-{}.log", self.name, self.starts));
        if let Err(error) = std::fs::write(&log, &ended.printed) {
            eprintln!("soak: {} is not kept: {error}", log.display());
        }
        let done = self.done;
        Some(End { ended, done, log })
    }

    /// Whether it serves.
    pub(crate) async fn is_ready(&mut self) -> bool {
        if !self.is_up() {
            return false;
        }
        let asked = tokio::time::timeout(READY_MAX, self.dev.client.is_ready());
        let ready = asked.await.unwrap_or(false);
        self.done.was_ready |= ready;
        ready
    }

    /// Whether it runs, is awake and serves or stands by.
    pub(crate) fn is_up(&self) -> bool {
        self.open && matches!(self.phase, Phase::Running) && self.done.told_to_stop.is_none()
    }

    /// Whether the process has ended and the next one is not started yet.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.phase, Phase::Empty(_))
    }

    /// Whether it sleeps.
    pub(crate) fn is_asleep(&self) -> bool {
        matches!(self.phase, Phase::Asleep(_))
    }

    /// Kills it, asleep or awake.
    pub(crate) fn kill(&mut self) {
        self.done.killed = true;
        self.signal(Signal::KILL);
    }

    /// Asks it to stop.
    pub(crate) fn stop(&mut self) {
        self.done.told_to_stop.get_or_insert_with(Instant::now);
        self.signal(Signal::TERM);
    }

    /// Puts it to sleep for so long.
    pub(crate) fn put_to_sleep(&mut self, time: Duration) {
        if matches!(self.phase, Phase::Running) {
            self.signal(Signal::STOP);
            self.phase = Phase::Asleep(Instant::now() + time);
        }
    }

    /// Wakes it if it sleeps.
    pub(crate) fn wake(&mut self) {
        if matches!(self.phase, Phase::Asleep(_)) {
            self.signal(Signal::CONT);
            self.phase = Phase::Running;
        }
    }

    /// Whether it was told to stop and does not.
    pub(crate) fn hangs(&self) -> bool {
        let told = self.done.told_to_stop;
        !self.is_empty() && told.is_some_and(|told| told.elapsed() > LONG)
    }

    fn signal(&self, signal: Signal) {
        if self.is_empty() {
            return;
        }
        let pid = i32::try_from(self.dev.pid()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // One that has ended meanwhile needs no signal.
            let _ = kill_process(pid, signal);
        }
    }
}
