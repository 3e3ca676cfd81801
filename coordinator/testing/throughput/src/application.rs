//! The greeter's application under `satchel dev`, with its own module file and free ports.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Protocol;
use crate::calls::Connection;
use crate::cpu::CpuTime;

/// Binaries of one build.
#[derive(Debug)]
pub(crate) struct Build {
    /// Name in the output.
    pub(crate) name: String,
    /// The coordinator.
    pub(crate) satchel: PathBuf,
    /// The handler.
    pub(crate) greeter: PathBuf,
    /// Number of partitions; `None` for the default of the build.
    pub(crate) partitions: Option<u16>,
}

impl Build {
    /// The same binaries with this number of partitions.
    pub(crate) fn of(&self, partitions: Option<u16>) -> Self {
        let name = match partitions {
            Some(number) => format!("{}/{number}", self.name),
            None => self.name.clone(),
        };
        Self {
            name,
            satchel: self.satchel.clone(),
            greeter: self.greeter.clone(),
            partitions,
        }
    }
}

/// Running coordinator with its functions. Both end when it is dropped.
pub(crate) struct Running {
    coordinator: Child,
    function_server: Option<Child>,
    /// `host:port` of the traffic port.
    pub(crate) traffic: String,
    /// `host:port` of the administration port.
    pub(crate) admin: String,
    _module: TempDir,
}

impl Running {
    /// Starts the application on `data`, or in memory.
    pub(crate) fn start(build: &Build, over: Protocol, data: Option<&Path>) -> Self {
        let module = tempfile::tempdir().expect("a temporary directory");
        let (function_server, endpoint) = match over {
            Protocol::Lambda => (None, lambda(&build.greeter)),
            Protocol::Http => {
                let (server, address) = serve_over_http(&build.greeter);
                (Some(server), http(&address))
            }
        };
        let file = module.path().join("module.yaml");
        fs::write(&file, endpoint + STREAMS).expect("a writable directory");
        let mut command = Command::new(&build.satchel);
        command.arg("dev").arg(&file).args([
            "--http",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--log",
            "warn",
        ]);
        if let Some(partitions) = build.partitions {
            command.args(["--partitions", &partitions.to_string()]);
        }
        match data {
            Some(directory) => command.arg("--data-dir").arg(directory),
            None => command.arg("--ephemeral"),
        };
        let mut coordinator = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("the satchel binary starts");
        let output = BufReader::new(coordinator.stdout.take().expect("its output is a pipe"));
        let mut lines = output.lines().map_while(Result::ok);
        let mut address = |name: &str| {
            let found = lines.find_map(|line| {
                let url = line.trim().strip_prefix(name)?.trim();
                Some(url.strip_prefix("http://")?.to_owned())
            });
            found.unwrap_or_else(|| panic!("the banner has no address named {name}"))
        };
        let (traffic, admin) = (address("traffic"), address("admin"));
        thread::spawn(move || lines.for_each(drop));
        Self {
            coordinator,
            function_server,
            traffic,
            admin,
            _module: module,
        }
    }

    /// CPU time that coordinator and functions have used until now.
    pub(crate) fn cpu(&self) -> CpuTime {
        let server = self.function_server.as_ref().map(Child::id);
        CpuTime::of(self.coordinator.id(), server)
    }

    /// Number of records that the egress has delivered.
    pub(crate) fn delivered(&self) -> usize {
        let mut connection = Connection::open(&self.admin);
        let metrics = connection.get("/metrics");
        let line = metrics
            .lines()
            .find(|line| line.starts_with("satchel_egress_acked_records_total{"));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        value.unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for process in [Some(&mut self.coordinator), self.function_server.as_mut()] {
            let Some(process) = process else { continue };
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn lambda(greeter: &Path) -> String {
    format!(
        "kind: satchel.endpoints.v1/lambda\n\
         spec:\n  \
           functions: example/*\n  \
           functionName: greeter\n  \
           dev:\n    \
             command: [{}]\n",
        greeter.display()
    )
}

fn http(address: &str) -> String {
    format!(
        "kind: io.statefun.endpoints.v2/http\n\
         spec:\n  \
           functions: example/*\n  \
           urlPathTemplate: http://{address}/\n"
    )
}

const STREAMS: &str = "---
kind: io.statefun.kinesis.v1/ingress
spec:
  id: example/names
  awsRegion: {type: default}
  startupPosition: {type: earliest}
  streams:
    - {stream: names, valueType: example/name, targets: [example/greeter]}
---
kind: io.statefun.kinesis.v1/egress
spec:
  id: example/greetings
  awsRegion: {type: default}
";

/// Starts the greeter as a function server on a free port.
fn serve_over_http(greeter: &Path) -> (Child, String) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("a bound address").to_string();
    drop(free);
    let server = Command::new(greeter)
        .args(["--http", &address])
        .env("RUST_LOG", "warn")
        .spawn()
        .expect("the greeter starts");
    let begun = Instant::now();
    while TcpStream::connect(&address)
        .and_then(|mut it| it.flush())
        .is_err()
    {
        assert!(begun.elapsed() < Duration::from_secs(10), "it listens");
        thread::sleep(Duration::from_millis(10));
    }
    (server, address)
}
