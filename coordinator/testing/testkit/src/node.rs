//! Programs for Node.js, for tests: installed below the target directory, run for the time of a test.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::binary::target_dir;

/// Ends the process when its standard input does, which it does when the test's process is gone, however that ended.
const FOLLOW: &str = "process.stdin.on('end', () => process.exit()).resume();";

const KINESALITE: &str = "
const options = { createStreamMs: 0, deleteStreamMs: 0, updateStreamMs: 0, shardLimit: 1000 };
const server = require('kinesalite')(options);
server.listen(0, '127.0.0.1', () => console.log('serving on ' + server.address().port));
";

/// It binds all interfaces, on two ports that cannot be 0: the one without TLS is asked for as 2.
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

/// A directory in which these packages (`name@version`) are installed, below the target directory. Made once with npm, by one test process
/// while others wait for it, and found again later.
///
/// # Panics
///
/// When there is no npm, or it does not get a package.
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
        "npm must be able to install {}, from its registry or from one that it is configured for (Debian and Ubuntu: apt-get install npm)",
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
            panic!("`npm` cannot be run, which this test needs: {error}; {needed}")
        });
    assert!(
        output.status.success(),
        "npm failed, which this test needs: {}; {needed}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
    );
    File::create(&finished).unwrap_or_else(|error| panic!("{}: {error}", finished.display()));
    home
}

/// A kinesalite: Kinesis without enhanced fan-out, empty at its start, on a free port of this machine. Ends when it is dropped, and at the
/// latest with the process of the test.
#[derive(Debug)]
pub struct Kinesalite(Program);

impl Kinesalite {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// When it cannot be installed (see [`node_with`]) or does not come up; with what it said.
    pub fn start() -> Self {
        let home = node_with(&["kinesalite@3.3.3"]);
        Self(Program::start(&home, KINESALITE, &[]))
    }

    /// Where it serves: `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> &str {
        &self.0.endpoint
    }
}

/// A kinesis-local (kinesis-mock): Kinesis with enhanced fan-out, slow, empty at its start, on a free port of this machine, without TLS.
/// Ends when it is dropped, and at the latest with the process of the test.
#[derive(Debug)]
pub struct KinesisLocal(Program);

impl KinesisLocal {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// When it cannot be installed (see [`node_with`]) or does not come up; with what it said.
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
        let at_once = operations.map(|operation| (format!("{operation}_DURATION"), "0ms"));
        let settings = [
            ("KINESIS_MOCK_TLS_PORT".to_owned(), "1"),
            ("KINESIS_MOCK_PLAIN_PORT".to_owned(), "2"),
            ("SHARD_LIMIT".to_owned(), "1000"),
            ("LOG_LEVEL".to_owned(), "ERROR"),
        ];
        let environment: Vec<_> = at_once.into_iter().chain(settings).collect();
        Self(Program::start(&home, KINESIS_LOCAL, &environment))
    }

    /// Where it serves: `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> &str {
        &self.0.endpoint
    }
}

/// A running server.
#[derive(Debug)]
struct Program {
    process: Child,
    endpoint: String,
}

impl Program {
    /// Runs a script that says `serving on <port>` when it serves.
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
            .unwrap_or_else(|error| panic!("`node` cannot be run, which this test needs: {error}"));
        let stdout = process.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let mut said = Vec::new();
        let port = lines.by_ref().find_map(|line| {
            let port = line.strip_prefix("serving on ").map(str::to_owned);
            said.push(line);
            port
        });
        let Some(port) = port else {
            let _ = process.kill();
            let status = process.wait();
            panic!("it did not come up: {status:?}\n{}", said.join("\n"));
        };
        // What it says later must go somewhere, or it stops when the pipe is full.
        thread::spawn(move || lines.for_each(drop));
        Self {
            process,
            endpoint: format!("http://127.0.0.1:{port}"),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // If it is gone already there is nothing to stop.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
