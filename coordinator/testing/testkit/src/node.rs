//! Node.js programs for tests, installed below the target directory and run for the duration of a
//! test.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::binary::target_dir;

/// Ends the process when its standard input ends. That happens when the test's process ends, in any
/// way.
const FOLLOW: &str = "process.stdin.on('end', () => process.exit()).resume();";

const KINESALITE: &str = "
const options = { createStreamMs: 0, deleteStreamMs: 0, updateStreamMs: 0, shardLimit: 1000 };
const server = require('kinesalite')(options);
server.listen(0, '127.0.0.1', () => console.log('serving on ' + server.address().port));
";

/// Kinesis-local binds all interfaces, on two ports that cannot be 0. The script redirects both to
/// free loopback ports; port 2 stands for the one without TLS.
const KINESIS_LOCAL: &str = "
const net = require('net');
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (port, ...rest) {
  const callback = rest.find((value) => typeof value === 'function');
  this.once('listening', () => {
    if (Number(port) === 2) console.log('serving on ' + this.address().port);
  });
  return listen.call(this, { port: 0, host: '127.0.0.1' }, callback);
};
const path = require('path');
const main = require.resolve('kinesis-local');
process.chdir(path.dirname(main));
require(main);
";

/// A directory below the target directory in which these packages (`name@version`) are installed.
/// One test process installs them with npm while others wait; later runs reuse it.
///
/// # Panics
///
/// When npm is missing, or cannot install a package.
pub fn node_with(packages: &[&str]) -> PathBuf {
    let name: String = packages.join("+").replace(['/', '@'], "-");
    let directories = target_dir().join("node");
    let home = directories.join(name);
    let finished = home.join("finished");
    let made = fs::create_dir_all(&home);
    made.unwrap_or_else(|error| panic!("{}: {error}", home.display()));
    let lock_path = directories.join("lock");
    let lock = File::create(&lock_path).and_then(|lock| lock.lock().map(|()| lock));
    let _lock = lock.unwrap_or_else(|error| panic!("{}: {error}", lock_path.display()));
    if finished.exists() {
        return home;
    }
    let needed = format!(
        "npm must be able to install {}, from its registry or from its configured one \
         (Debian and Ubuntu: apt-get install npm)",
        packages.join(" ")
    );
    let output = Command::new("npm")
        .args([
            "install",
            "--no-audit",
            "--no-fund",
            "--no-save",
            "--prefix",
        ])
        .arg(&home)
        .args(packages)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!("`npm`, which this test needs, cannot be run: {error}; {needed}")
        });
    assert!(
        output.status.success(),
        "npm, which this test needs, failed: {}; {needed}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
    );
    File::create(&finished).unwrap_or_else(|error| panic!("{}: {error}", finished.display()));
    home
}

/// A kinesalite server: Kinesis without enhanced fan-out.
///
/// It starts empty on a free loopback port. It ends when it is dropped, and at the latest with the
/// process of the test.
#[derive(Debug)]
pub struct Kinesalite(Program);

impl Kinesalite {
    /// Starts a server.
    ///
    /// # Panics
    ///
    /// When it cannot be installed (see [`node_with`]) or does not start; with its output.
    pub fn start() -> Self {
        let home = node_with(&["kinesalite@3.3.3"]);
        Self(Program::start(&home, KINESALITE, &[]))
    }

    /// Base URL: `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> &str {
        &self.0.endpoint
    }
}

/// A kinesis-local (kinesis-mock) server: Kinesis with enhanced fan-out, without TLS. It is slow.
///
/// It starts empty on a free loopback port. It ends when it is dropped, and at the latest with the
/// process of the test.
#[derive(Debug)]
pub struct KinesisLocal(Program);

impl KinesisLocal {
    /// Starts a server.
    ///
    /// # Panics
    ///
    /// When it cannot be installed (see [`node_with`]) or does not start; with its output.
    pub fn start() -> Self {
        let home = node_with(&["kinesis-local@0.6.2"]);
        let operations = [
            "CREATE_STREAM",
            "DELETE_STREAM",
            "REGISTER_STREAM_CONSUMER",
            "DEREGISTER_STREAM_CONSUMER",
            "MERGE_SHARDS",
            "SPLIT_SHARD",
            "UPDATE_SHARD_COUNT",
            "UPDATE_STREAM_MODE",
        ];
        let immediate = operations.map(|operation| (format!("{operation}_DURATION"), "0ms"));
        let settings = [
            ("KINESIS_MOCK_TLS_PORT".to_owned(), "1"),
            ("KINESIS_MOCK_PLAIN_PORT".to_owned(), "2"),
            ("SHARD_LIMIT".to_owned(), "1000"),
            ("LOG_LEVEL".to_owned(), "ERROR"),
        ];
        let environment: Vec<_> = immediate.into_iter().chain(settings).collect();
        Self(Program::start(&home, KINESIS_LOCAL, &environment))
    }

    /// Base URL: `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> &str {
        &self.0.endpoint
    }
}

/// A running Node.js server.
#[derive(Debug)]
struct Program {
    process: Child,
    endpoint: String,
}

impl Program {
    /// Runs a script that prints `serving on <port>` when it serves.
    fn start(home: &Path, script: &str, environment: &[(String, &str)]) -> Self {
        let mut process = Command::new("node")
            .args(["-e", &format!("{FOLLOW}{script}")])
            .current_dir(home)
            .env("NODE_PATH", home.join("node_modules"))
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("`node`, which this test needs, cannot be run: {error}")
            });
        let stdout = process.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let mut output = Vec::new();
        let port = lines.by_ref().find_map(|line| {
            let port = line.strip_prefix("serving on ").map(str::to_owned);
            output.push(line);
            port
        });
        let Some(port) = port else {
            let _ = process.kill();
            let status = process.wait();
            panic!(
                "the server did not start: {status:?}\n{}",
                output.join("\n")
            );
        };
        // Later output must be read, or the server blocks when the pipe is full.
        thread::spawn(move || lines.for_each(drop));
        Self {
            process,
            endpoint: format!("http://127.0.0.1:{port}"),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A process that has already ended needs no signal.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
