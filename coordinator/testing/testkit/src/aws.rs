//! Emulators of AWS that run for the duration of a test.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::python::python_with;

/// Python packages that [`Moto`] needs.
const MOTO: [&str; 1] = ["moto[server,s3crc32c]==5.2.5"];

/// Serves until its standard input ends. That happens when the test's process ends, in any way.
const SERVE: &str = "
import os, sys, threading

def follow():
    sys.stdin.buffer.read()
    os._exit(0)

threading.Thread(target=follow, daemon=True).start()

from moto.server import main
main(sys.argv[1:])
";

/// A moto server: S3, DynamoDB and other AWS services in one process.
///
/// It starts empty on a free loopback port. It ends when it is dropped, and at the latest with the
/// process of the test.
#[derive(Debug)]
pub struct Moto {
    process: Child,
    endpoint: String,
}

impl Moto {
    /// Starts a server.
    ///
    /// # Panics
    ///
    /// When moto cannot be installed (see [`python_with`]) or does not start; with its output.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with additional environment variables. `INITIAL_NO_AUTH_ACTION_COUNT=0`
    /// makes it check credentials.
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
        let mut output = Vec::new();
        let endpoint = lines.by_ref().find_map(|line| {
            let endpoint = line
                .split_once("Running on ")
                .map(|(_, url)| url.to_owned());
            output.push(line);
            endpoint
        });
        let Some(endpoint) = endpoint else {
            let _ = process.kill();
            let status = process.wait();
            panic!("moto did not start: {status:?}\n{}", output.join("\n"));
        };
        // The log must be read, or the server blocks when the pipe is full.
        thread::spawn(move || lines.for_each(drop));
        Self {
            process,
            endpoint: endpoint.trim().to_owned(),
        }
    }

    /// Base URL: `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // A process that has already ended needs no signal.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
