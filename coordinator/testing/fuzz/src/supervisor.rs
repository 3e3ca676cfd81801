//! Supervising process: starts workers and reports the input when one dies or hangs.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::worker::Work;

/// A worker without a heartbeat for this long is considered hung. Generous, because the machine may
/// be busy.
pub const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Result of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Number of inputs.
    pub executions: u64,
    /// Number of different outcomes.
    pub outcomes: u64,
    /// Elapsed time.
    pub time: Duration,
}

/// An input that a decoder did not survive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The input.
    pub input: Vec<u8>,
    /// Description, with the output of the worker.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = String::from_utf8_lossy(&self.input[..self.input.len().min(300)]);
        write!(
            f,
            "{}; input, {} bytes: {shown:?}",
            self.what,
            self.input.len()
        )
    }
}

/// Runs `program` as a worker for `target` and waits for its end. `silence_max` is the maximum time
/// between heartbeats.
///
/// # Errors
/// The [`Finding`].
///
/// # Panics
/// If the worker cannot be started or observed.
pub fn supervise(
    program: &Path,
    target: &str,
    work: &Work,
    silence_max: Duration,
) -> Result<Done, Finding> {
    let begun = Instant::now();
    let mut worker = Command::new(program)
        .args(["--worker", target])
        .args(["--seed", &work.seed.to_string()])
        .args(["--executions", &work.executions.to_string()])
        .args(["--seconds", &work.time.as_secs().to_string()])
        .arg("--trace")
        .arg(&work.trace)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{} cannot be run: {error}", program.display()));
    let stdout = worker.stdout.take().expect("it is piped");
    let mut stderr = worker.stderr.take().expect("it is piped");
    let (lines, heartbeats) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // The receiver is gone once the worker was given up.
            let _ = lines.send(line);
        }
    });
    let errors = thread::spawn(move || {
        let mut output = Vec::new();
        // Unreadable output is ignored.
        let _ = stderr.read_to_end(&mut output);
        output
    });

    let mut last = String::new();
    let hangs = loop {
        match heartbeats.recv_timeout(silence_max) {
            Ok(line) => last = line,
            Err(RecvTimeoutError::Timeout) => break true,
            Err(RecvTimeoutError::Disconnected) => break false,
        }
    };
    if hangs {
        // A process that has already ended needs no signal.
        let _ = worker.kill();
    }
    let status = worker.wait().expect("a child can be waited for");
    let output = errors.join().expect("reading does not panic");
    let output = String::from_utf8_lossy(&output);
    if hangs || !status.success() {
        let what = match hangs {
            true => format!("no heartbeat for {} s", silence_max.as_secs()),
            false => format!("the worker ended with {status}: {}", output.trim()),
        };
        return Err(Finding {
            input: traced(&work.trace),
            what,
        });
    }
    let mut numbers = last.split(' ').map(|number| number.parse().unwrap_or(0));
    Ok(Done {
        executions: numbers.next().unwrap_or(0),
        outcomes: numbers.next().unwrap_or(0),
        time: begun.elapsed(),
    })
}

/// Last input written to the trace.
fn traced(trace: &PathBuf) -> Vec<u8> {
    let bytes = fs::read(trace).unwrap_or_default();
    let Some((length, input)) = bytes.split_first_chunk::<8>() else {
        return Vec::new();
    };
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    input[..length.min(input.len())].to_vec()
}
