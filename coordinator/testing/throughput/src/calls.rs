//! Calls by concurrent clients, each with one connection and one call in flight.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::application::{Build, Running};
use crate::cpu::CpuTime;
use crate::{Measured, Protocol};

/// Calls of one run.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// `host:port` of the server.
    pub(crate) address: String,
    /// Path of a call, with `{}` in the place of the key.
    pub(crate) path: String,
    /// Headers of a call, each ended by a line break.
    pub(crate) headers: String,
    pub(crate) clients: usize,
    pub(crate) one_key: bool,
    pub(crate) time: Duration,
}

/// Measures calls of the application for `time`, after a fifth of it that is not measured.
pub(crate) fn measure(
    build: &Build,
    (clients, one_key): (usize, bool),
    time: Duration,
    durable: bool,
) -> Measured {
    let data = tempfile::tempdir().expect("a temporary directory");
    let running = Running::start(build, Protocol::Lambda, durable.then(|| data.path()));
    let load = Load {
        address: running.traffic.clone(),
        path: "/call/example/greeter/{}".to_owned(),
        headers: String::new(),
        clients,
        one_key,
        time,
    };
    load.measure(|| running.cpu())
}

impl Load {
    /// Measures the calls, after a fifth of the time that is not measured. `cpu` reads the CPU
    /// time that the servers have used.
    pub(crate) fn measure(&self, cpu: impl Fn() -> CpuTime) -> Measured {
        self.calls(self.time / 5);
        let before = cpu();
        let begun = Instant::now();
        let mut latencies = self.calls(self.time);
        let took = begun.elapsed().as_secs_f64();
        let used = cpu() - before;
        latencies.sort_unstable();
        let count = latencies.len() as f64;
        let at = |share: f64| latencies[((count - 1.0) * share) as usize].as_secs_f64() * 1e3;
        Measured {
            per_second: count / took,
            coordinator_us: used.coordinator / count,
            functions_us: used.functions / count,
            latency_ms: Some((at(0.5), at(0.99))),
        }
    }

    /// Calls for `time`. Returns the latency of each call.
    fn calls(&self, time: Duration) -> Vec<Duration> {
        let end = Instant::now() + time;
        let client = |client: usize| {
            let mut connection = Connection::open(&self.address);
            let mut latencies = Vec::new();
            for call in 0.. {
                let begun = Instant::now();
                if begun >= end {
                    break;
                }
                let key = match self.one_key {
                    true => "everybody".to_owned(),
                    false => format!("client-{client}-{}", call % 100),
                };
                let path = self.path.replace("{}", &key);
                let status = connection.post(&path, &self.headers, br#"{"name":"Alice"}"#);
                assert_eq!(status, 200, "{path}");
                latencies.push(begun.elapsed());
            }
            latencies
        };
        thread::scope(|scope| {
            let client = &client;
            let threads: Vec<_> = (0..self.clients)
                .map(|number| scope.spawn(move || client(number)))
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().expect("a client ends well"))
                .collect()
        })
    }
}

/// One connection with one request in flight: a minimal HTTP client, so that it uses little of the
/// measured cores.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    line: String,
}

impl Connection {
    pub(crate) fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_nodelay(true).expect("a socket option");
        Self {
            stream: BufReader::new(stream),
            line: String::new(),
        }
    }

    /// Returns the body of a `GET`.
    pub(crate) fn get(&mut self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let (status, body) = self.request(request.as_bytes());
        assert_eq!(status, 200, "{path}");
        String::from_utf8(body).expect("text")
    }

    /// Returns the status of a `POST`. The body of the answer is read and dropped.
    pub(crate) fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> u16 {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        );
        self.request(&[head.as_bytes(), body].concat()).0
    }

    fn request(&mut self, request: &[u8]) -> (u16, Vec<u8>) {
        self.stream.get_mut().write_all(request).expect("it reads");
        let mut status = 0;
        let mut length = 0;
        loop {
            self.line.clear();
            self.stream.read_line(&mut self.line).expect("it answers");
            self.line.make_ascii_lowercase();
            let line = self.line.trim_end();
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().expect("a status");
            } else if let Some(rest) = line.strip_prefix("content-length:") {
                length = rest.trim().parse().expect("a length");
            } else if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("a whole answer");
        (status, body)
    }
}
