//! `endpoint.py` as a process of a test.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};

use super::handlers;

/// An HTTP endpoint that misbehaves on request. It ends when this value is dropped, and at the
/// latest with the process of the test.
pub(super) struct Endpoint {
    process: Child,
    /// Its standard input: it listens after the first line, and ends when the input ends.
    stdin: ChildStdin,
    port: u16,
}

impl Endpoint {
    /// Starts an endpoint that answers.
    pub(super) fn start() -> Self {
        let mut endpoint = Self::start_closed();
        endpoint.listen();
        endpoint
    }

    /// Starts an endpoint that has reserved its port and refuses connections.
    pub(super) fn start_closed() -> Self {
        let mut process = Command::new("python3")
            .args(["-B", "-u"])
            .arg(handlers().join("endpoint.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut port = String::new();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        stdout.read_line(&mut port).unwrap();
        Self {
            stdin: process.stdin.take().unwrap(),
            process,
            port: port.trim().parse().expect("the endpoint prints its port"),
        }
    }

    pub(super) fn listen(&mut self) {
        self.stdin.write_all(b"listen\n").unwrap();
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // An error means that it has already ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
