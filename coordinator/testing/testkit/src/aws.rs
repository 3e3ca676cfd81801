//! Stand-ins for AWS, run for the time of a test.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::python::python_with;

/// The packages of [`Moto`].
const MOTO: [&str; 1] = ["moto[server,s3crc32c]==5.2.5"];

/// Serves until its standard input ends, which it does when the test's process is gone, however that ended.
const SERVE: &str = "
import os, sys, threading

def follow():
    sys.stdin.buffer.read()
    os._exit(0)

threading.Thread(target=follow, daemon=True).start()

from moto.server import main
main(sys.argv[1:])
";

/// A moto server: S3, DynamoDB and more of AWS in one process, empty at its start, on a free port of this machine. Ends when it is dropped, and at the
/// latest with the process of the test.
#[derive(Debug)]
pub struct Moto {
    process: Child,
    endpoint: String,
}

impl Moto {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// When it cannot be installed (see [`python_with`]) or does not come up; with what it said.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with environment variables of its own (`INITIAL_NO_AUTH_ACTION_COUNT`: `0` lets it check credentials).
    ///
    /// # Panics
    ///
    /// As [`Moto::start`].
    pub fn start_with(environment: &[(&str, &str)]) -> Self {
        let mut process = Command::new(python_with(&MOTO))
            .args(["-c", SERVE, "-H", "127.0.0.1", "-p", "0"])
            .envs(environment.iter().copied())
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the interpreter that was just made can be run");
        let stderr = process.stderr.take().expect("it is piped");
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        let mut said = Vec::new();
        let endpoint = lines.by_ref().find_map(|line| {
            let endpoint = line
                .split_once("Running on ")
                .map(|(_, url)| url.to_owned());
            said.push(line);
            endpoint
        });
        let Some(endpoint) = endpoint else {
            let _ = process.kill();
            let status = process.wait();
            panic!("moto did not come up: {status:?}\n{}", said.join("\n"));
        };
        // What it says about each request must go somewhere, or it stops when the pipe is full.
        thread::spawn(move || lines.for_each(drop));
        Self {
            process,
            endpoint: endpoint.trim().to_owned(),
        }
    }

    /// Where it serves: `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // If it is gone already there is nothing to stop.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
