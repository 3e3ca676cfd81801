//! Other systems, each measured by a shell command.
//!
//! The command gets its work in the environment: `WORK` (its name), `KEYS` and `RECORDS` of a work
//! on streams, `CLIENTS`, `ONE_KEY` (`true` or `false`) and `SECONDS` of one with calls. It prints
//! one line: messages per second, and microseconds of CPU time a message of the system and of its
//! functions, followed by the median and the 99th percentile of the latency in milliseconds if it
//! has them.
//!
//! `LOAD` is the path of this program, so that a command can make the same calls:
//!
//! ```text
//! "$LOAD" load http://ADDRESS/PATH-WITH-{} CLIENTS ONE_KEY SECONDS PID FUNCTION_PID [HEADER…]
//! ```
//!
//! prints such a line.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::calls::Load;
use crate::cpu::CpuTime;
use crate::{Measured, Options, Work};

/// Another system.
#[derive(Debug)]
pub(crate) struct Other {
    /// Name in the output.
    pub(crate) name: String,
    /// Shell command.
    pub(crate) command: String,
}

impl Other {
    /// Runs the command for one work.
    pub(crate) fn measure(&self, work: Work, options: &Options) -> Measured {
        let load = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new("sh");
        command
            .args(["-c", &self.command])
            .env("LOAD", load)
            .env("WORK", work.name());
        match work {
            Work::Stream { keys, over } => {
                let records = options.records.unwrap_or(Work::records(keys, over));
                command.env("KEYS", keys.to_string());
                command.env("RECORDS", records.to_string());
            }
            Work::Calls { clients, one_key } => {
                command.env("CLIENTS", clients.to_string());
                command.env("ONE_KEY", one_key.to_string());
                command.env("SECONDS", options.call_time.as_secs().to_string());
            }
        }
        let output = command.stderr(Stdio::inherit()).output();
        let output = output.expect("a shell runs").stdout;
        let text = String::from_utf8_lossy(&output);
        let last = text.lines().last().unwrap_or_default();
        let figures: Vec<f64> = last
            .split_ascii_whitespace()
            .filter_map(|figure| figure.parse().ok())
            .collect();
        match *figures.as_slice() {
            [per_second, coordinator_us, functions_us, ref latency @ ..] => Measured {
                per_second,
                coordinator_us,
                functions_us,
                latency_ms: match *latency {
                    [p50, p99] => Some((p50, p99)),
                    _ => None,
                },
            },
            _ => panic!("{}: `{last}` does not have three figures", self.name),
        }
    }
}

/// Makes calls as the arguments of this program say, and prints the line of a command.
pub(crate) fn load() {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let [
        url,
        clients,
        one_key,
        seconds,
        system,
        functions,
        headers @ ..,
    ] = arguments.as_slice()
    else {
        panic!("load URL CLIENTS ONE_KEY SECONDS PID FUNCTION_PID [HEADER…]");
    };
    let url = url.strip_prefix("http://").expect("a URL of http");
    let (address, path) = url.split_once('/').expect("a URL with a path");
    let number = |text: &String| -> u32 { text.parse().expect("a number") };
    let load = Load {
        address: address.to_owned(),
        path: format!("/{path}"),
        headers: headers
            .iter()
            .map(|header| format!("{header}\r\n"))
            .collect(),
        clients: number(clients) as usize,
        one_key: one_key == "true",
        time: Duration::from_secs(number(seconds).into()),
    };
    let (system, functions) = (number(system), number(functions));
    let measured = load.measure(|| CpuTime::of(system, Some(functions)));
    let (p50, p99) = measured.latency_ms.unwrap_or_default();
    println!(
        "{:.0} {:.2} {:.2} {p50:.3} {p99:.3}",
        measured.per_second, measured.coordinator_us, measured.functions_us
    );
}
