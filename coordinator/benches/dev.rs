//! Throughput and latency of `satchel dev` from outside: calls with 1 and 64 clients, and records
//! from stream to stream, in memory and durable.
//!
//! ```text
//! cargo bench -p satchel --bench dev [-- SECONDS]
//! ```
//!
//! Runs the real binary with the greeter's real handler processes on free loopback ports. Each
//! client is a thread with one connection and one call in flight. Client and server share the
//! machine's cores. Each call reads and writes a state, and its reply waits for its commit.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const RECORDS: usize = 20_000;
const RECORD_CLIENTS: usize = 64;

fn main() {
    let seconds = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .next();
    let time = Duration::from_secs(seconds.unwrap_or(5));
    println!(
        "{:<12} {:>8} {:>12} {:>10} {:>10} {:>10}",
        "state", "clients", "calls/s", "p50 ms", "p99 ms", "max ms"
    );
    for durable in [false, true] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let dev = Dev::start(durable.then(|| directory.path()));
        for clients in [1, 64] {
            // The first calls start processes and connections; they are not measured.
            calls(&dev.address, clients, time / 5);
            let mut latencies = calls(&dev.address, clients, time);
            latencies.sort_unstable();
            let at = |share: f64| {
                latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3
            };
            println!(
                "{:<12} {clients:>8} {:>12.0} {:>10.2} {:>10.2} {:>10.2}",
                name(durable),
                latencies.len() as f64 / time.as_secs_f64(),
                at(0.5),
                at(0.99),
                at(1.0),
            );
        }
        let took = records(&dev.address);
        println!(
            "{:<12} {RECORDS} records from stream to stream in {:.2} s: {:.0} per second",
            name(durable),
            took.as_secs_f64(),
            RECORDS as f64 / took.as_secs_f64()
        );
    }
}

fn name(durable: bool) -> &'static str {
    if durable { "directory" } else { "ephemeral" }
}

struct Dev {
    process: Child,
    address: String,
}

impl Dev {
    fn start(data_dir: Option<&Path>) -> Self {
        let greeter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/greeter");
        let mut command = Command::new(env!("CARGO_BIN_EXE_satchel"));
        command.arg("dev").arg(greeter).args([
            "--release",
            "--http",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--log",
            "warn",
        ]);
        match data_dir {
            Some(directory) => command.arg("--data-dir").arg(directory),
            None => command.arg("--ephemeral"),
        };
        let mut process = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("the satchel binary starts");
        let output = BufReader::new(process.stdout.take().expect("its output is a pipe"));
        let mut lines = output.lines().map_while(Result::ok);
        let address = lines
            .find_map(|line| {
                Some(
                    line.trim()
                        .strip_prefix("traffic")?
                        .trim()
                        .strip_prefix("http://")?
                        .to_owned(),
                )
            })
            .expect("the banner names the address");
        thread::spawn(move || lines.for_each(drop));
        Self { process, address }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Calls for `time` with this many concurrent clients, each with its own addresses. Returns the
/// latency of each call.
fn calls(address: &str, clients: usize, time: Duration) -> Vec<Duration> {
    let end = Instant::now() + time;
    let client = |client: usize| {
        let mut connection = Connection::open(address);
        let mut latencies = Vec::new();
        for call in 0.. {
            let begun = Instant::now();
            if begun >= end {
                break;
            }
            let path = format!("/call/example/greeter/client-{client}-{}", call % 100);
            let status = connection.post(&path, "", br#"{"name":"Alice"}"#);
            assert_eq!(status, 200, "{path}");
            latencies.push(begun.elapsed());
        }
        latencies
    };
    thread::scope(|scope| {
        let client = &client;
        let threads: Vec<_> = (0..clients)
            .map(|number| scope.spawn(move || client(number)))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("a client ends well"))
            .collect()
    })
}

/// Puts records on `names` and waits until a greeting of each is on `greetings`.
fn records(address: &str) -> Duration {
    let failed = AtomicBool::new(false);
    let begun = Instant::now();
    thread::scope(|scope| {
        for client in 0..RECORD_CLIENTS {
            let failed = &failed;
            scope.spawn(move || {
                let mut connection = Connection::open(address);
                for record in (client..RECORDS).step_by(RECORD_CLIENTS) {
                    let key = format!("satchel-key: person-{}\r\n", record % 1000);
                    let status = connection.post("/streams/names", &key, br#"{"name":"Bob"}"#);
                    if !(200..300).contains(&status) {
                        failed.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert!(!failed.load(Ordering::Relaxed), "every record is accepted");
    let mut stream = TcpStream::connect(address).expect("it listens");
    let request =
        "GET /streams/greetings?from=earliest&follow=true HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("it reads");
    let seen = BufReader::new(stream)
        .lines()
        .map_while(Result::ok)
        .filter(|line| line.contains("sequence_number"))
        .take(RECORDS)
        .count();
    assert_eq!(seen, RECORDS);
    begun.elapsed()
}

/// One connection with one request in flight: a minimal HTTP client, so that it uses little of the
/// measured cores.
struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_nodelay(true).expect("a socket option");
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Returns the status; the body is read and dropped.
    fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> u16 {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        );
        let request = [head.as_bytes(), body].concat();
        self.stream.get_mut().write_all(&request).expect("it reads");
        let mut status = 0;
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("it answers");
            let line = line.trim_end().to_ascii_lowercase();
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
        status
    }
}
