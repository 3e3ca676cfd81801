//! Running processes and their origin, by a mark that every descendant of a process under test
//! inherits in its environment.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// Environment variable that marks the descendants of one [`crate::Dev`].
pub(crate) const MARK: &str = "TESTKIT_STARTED_BY";

/// Maximum time for a descendant to notice that its parent has ended.
const NOTICING_MAX: Duration = Duration::from_secs(60);

/// True while the process runs; false for a zombie.
pub fn is_alive(pid: u32) -> bool {
    let state = if Path::new("/proc/self/stat").exists() {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name before the state is in parentheses and may contain any character.
        stat.rsplit_once(')')
            .map_or(String::new(), |(_, rest)| rest.trim().to_owned())
    } else {
        ps(&["-o", "stat=", "-p", &pid.to_string()])
            .trim()
            .to_owned()
    };
    !state.is_empty() && !state.starts_with('Z')
}

/// Resident memory of a process in bytes.
///
/// # Panics
///
/// When the system is not Linux, or the process has ended.
pub fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.expect("the process runs, on Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.expect("a number of kB") * 1024
}

/// Processes that carry `mark`, with their command lines.
pub(crate) fn marked(mark: &str) -> Vec<(u32, String)> {
    let mark = format!("{MARK}={mark}");
    if Path::new("/proc/self/environ").exists() {
        let names = std::fs::read_dir("/proc").expect("/proc can be read");
        names
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(|pid: u32| {
                let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
                let carries = environment
                    .split(|byte| *byte == 0)
                    .any(|variable| variable == mark.as_bytes());
                (carries && is_alive(pid)).then(|| (pid, command_line(pid)))
            })
            .collect()
    } else {
        ps(&["eww", "-A", "-o", "pid=,command="])
            .lines()
            .filter(|line| line.contains(&mark))
            .filter_map(|line| {
                let (pid, command) = line.trim().split_once(' ')?;
                Some((pid.parse().ok()?, command.to_owned()))
            })
            .collect()
    }
}

/// Waits until no process carries `mark`. Processes that remain are killed and returned.
pub(crate) fn survivors(mark: &str) -> Vec<(u32, String)> {
    let begun = Instant::now();
    loop {
        let left = marked(mark);
        if left.is_empty() {
            return left;
        }
        if begun.elapsed() > NOTICING_MAX {
            for (pid, _) in &left {
                signal(*pid, Signal::KILL);
            }
            return left;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Kills a process with SIGKILL. A process that has already ended is ignored.
pub fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // The process may have ended meanwhile.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

fn command_line(pid: u32) -> String {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).replace('\0', " ")
}

fn ps(arguments: &[&str]) -> String {
    let output = Command::new("ps")
        .args(arguments)
        .output()
        .expect("`ps` runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
