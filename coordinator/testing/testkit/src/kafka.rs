//! Apache Kafka for tests: a broker and its controller in one JVM on free loopback ports.

use std::fs::{self, File};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use tempfile::TempDir;

use crate::LONG;
use crate::binary::target_dir;

const POM: &str = include_str!("kafka/pom.xml");
const BROKER: &str = include_str!("kafka/Broker.java");

/// User of the listener with TLS and SCRAM, and the password.
pub const KAFKA_USER: (&str, &str) = ("alice", "the-password-of-the-test");

/// Settings of a listener with TLS, SCRAM and access control.
#[derive(Debug, Clone)]
pub struct SecureListener {
    /// Certificate of the broker, for `127.0.0.1`, in PEM.
    pub certificate: String,
    /// Its private key, PKCS #8 in PEM.
    pub key: String,
    /// Certificate authority that signs the certificates of clients, in PEM.
    pub client_authority: String,
}

/// A Kafka broker. It starts empty, and ends when it is dropped, or with the process of the test.
#[derive(Debug)]
pub struct Kafka {
    home: PathBuf,
    dir: TempDir,
    port: u16,
    secure_port: u16,
    process: Mutex<Option<Process>>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    commands: ChildStdin,
    answers: Receiver<String>,
}

impl Kafka {
    /// Starts a broker.
    ///
    /// # Panics
    ///
    /// When Java or Maven is missing, or the broker does not start; with its output.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// Starts a broker that also has a listener with TLS, SCRAM and access control.
    ///
    /// # Panics
    ///
    /// As [`Kafka::start`].
    pub fn start_secure(secure: &SecureListener) -> Self {
        Self::start_with(Some(secure))
    }

    fn start_with(secure: Option<&SecureListener>) -> Self {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let [port, controller, secure_port] = free_ports();
        let logs = dir.path().join("logs");
        let mut config = config(&logs, port, controller);
        if let Some(secure) = secure {
            config.push_str(&secure_config(secure, port, controller, secure_port));
        }
        fs::write(dir.path().join("server.properties"), config).expect("a file can be written");
        let kafka = Self {
            home: home(),
            dir,
            port,
            secure_port,
            process: Mutex::default(),
        };
        kafka.begin();
        kafka
    }

    /// Address of the listener without TLS: `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Address of the listener with TLS and SCRAM.
    pub fn secure_address(&self) -> String {
        format!("127.0.0.1:{}", self.secure_port)
    }

    /// Kills the broker with SIGKILL. Its data stay.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn kill9(&self) {
        let process = self.lock().take().expect("the broker runs");
        process.end();
    }

    /// Starts a killed broker again, on the same ports and data.
    ///
    /// # Panics
    ///
    /// As [`Kafka::start`].
    pub fn restart(&self) {
        self.begin();
    }

    /// Creates a topic, with settings such as `retention.ms=1000`.
    pub fn create(&self, topic: &str, partitions: u32, settings: &[&str]) {
        self.perform(&format!(
            "create {topic} {partitions} {}",
            settings.join(" ")
        ));
    }

    /// Deletes a topic.
    pub fn delete(&self, topic: &str) {
        self.perform(&format!("delete {topic}"));
    }

    /// Adds partitions to a topic, up to this number in total.
    pub fn add_partitions(&self, topic: &str, total: u32) {
        self.perform(&format!("partitions {topic} {total}"));
    }

    /// Deletes the records of a partition before an offset, as the retention does.
    pub fn delete_records(&self, topic: &str, partition: u32, before: u64) {
        self.perform(&format!("delete-records {topic} {partition} {before}"));
    }

    /// Offset that a consumer group has committed, if it has.
    pub fn committed(&self, group: &str, topic: &str, partition: u32) -> Option<u64> {
        let committed = self.perform(&format!("committed {group} {topic} {partition}"));
        committed.parse().ok()
    }

    /// Names of all producers that have used transactions.
    pub fn transactional_ids(&self) -> Vec<String> {
        let ids = self.perform("transactional-ids");
        ids.split_whitespace().map(str::to_owned).collect()
    }

    /// Permits a user everything with a topic, with all groups and with all transactional ids.
    pub fn allow(&self, user: &str, topic: &str) {
        self.perform(&format!("allow {user} {topic}"));
    }

    fn perform(&self, command: &str) -> String {
        let mut process = self.lock();
        let process = process.as_mut().expect("the broker runs");
        writeln!(process.commands, "{}", command.trim()).expect("the broker takes commands");
        let answer = process.answers.recv_timeout(LONG);
        let answer = answer.unwrap_or_else(|error| panic!("{command}: {error}"));
        match answer.strip_prefix("done ") {
            Some(result) => result.trim().to_owned(),
            None => panic!("{command}: {answer}"),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) {
        let output = File::create(self.dir.path().join("output"));
        let output = output.expect("a file can be made");
        let mut command = Command::new("java");
        command
            .args(["-Xmx384m", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(format!("{}/*", self.home.join("jars").display()))
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error")
            .arg(self.home.join("Broker.java"))
            .arg(self.dir.path().join("server.properties"))
            .arg(self.address());
        let (user, password) = KAFKA_USER;
        command.arg(format!(
            "SCRAM-SHA-512=[name={user},password={password},iterations=4096]"
        ));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("`java`, which this test needs, cannot be run: {error}")
            });
        let stdout = child.stdout.take().expect("it is piped");
        let commands = child.stdin.take().expect("it is piped");
        let (sender, answers) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            for line in lines {
                let is_answer = ["serving", "done", "failed"]
                    .iter()
                    .any(|word| line.starts_with(word));
                if is_answer && sender.send(line).is_err() {
                    return;
                }
            }
        });
        let process = Process {
            child,
            commands,
            answers,
        };
        match process.answers.recv_timeout(LONG) {
            Ok(line) if line == "serving" => *self.lock() = Some(process),
            other => {
                let timed_out = other == Err(RecvTimeoutError::Timeout);
                process.end();
                let output = fs::read_to_string(self.dir.path().join("output"));
                panic!(
                    "the broker did not start (timed out: {timed_out}):\n{}",
                    output.unwrap_or_default()
                );
            }
        }
    }
}

impl Process {
    fn end(mut self) {
        // A process that has already ended needs no signal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if let Some(process) = self.lock().take() {
            process.end();
        }
    }
}

/// Free ports below those that the system gives to clients. A client that connects to a port of its
/// own range while no server listens there may be connected to itself, and then holds the port.
fn free_ports<const N: usize>() -> [u16; N] {
    const FIRST: u16 = 10_000;
    const COUNT: u64 = 20_000;
    // All are held until the last one is found, so that no two are the same.
    let listeners = [(); N].map(|()| {
        let free = (0..1_000).find_map(|_| {
            let random = RandomState::new().build_hasher().finish();
            let port = FIRST + u16::try_from(random % COUNT).unwrap_or_default();
            TcpListener::bind(("127.0.0.1", port)).ok()
        });
        free.expect("a port is free")
    });
    listeners.map(|listener| listener.local_addr().expect("it is bound").port())
}

fn config(logs: &Path, port: u16, controller: u16) -> String {
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL
log.dirs={}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
",
        logs.display()
    )
}

fn secure_config(secure: &SecureListener, port: u16, controller: u16, secure_port: u16) -> String {
    let line = |text: &str| text.trim().replace('\n', "\\n");
    format!(
        "listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},\
         SECURE://127.0.0.1:{secure_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SECURE://127.0.0.1:{secure_port}
listener.name.secure.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secure.scram-sha-512.sasl.jaas.config=\
         org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secure.ssl.keystore.type=PEM
listener.name.secure.ssl.keystore.certificate.chain={}
listener.name.secure.ssl.keystore.key={}
listener.name.secure.ssl.truststore.type=PEM
listener.name.secure.ssl.truststore.certificates={}
listener.name.secure.ssl.client.auth=required
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
",
        line(&secure.certificate),
        line(&secure.key),
        line(&secure.client_authority),
    )
}

/// A directory below the target directory with Kafka's libraries. One test process fetches them
/// with Maven while others wait; later runs reuse them.
fn home() -> PathBuf {
    let home = target_dir().join("kafka");
    let made = fs::create_dir_all(&home);
    made.unwrap_or_else(|error| panic!("{}: {error}", home.display()));
    let lock_path = home.join("lock");
    let lock = File::create(&lock_path).and_then(|lock| lock.lock().map(|()| lock));
    let _lock = lock.unwrap_or_else(|error| panic!("{}: {error}", lock_path.display()));
    fs::write(home.join("Broker.java"), BROKER).expect("a file can be written");
    let finished = home.join("finished");
    if fs::read_to_string(&finished).is_ok_and(|fetched| fetched == POM) {
        return home;
    }
    fs::write(home.join("pom.xml"), POM).expect("a file can be written");
    let output = Command::new("mvn")
        .args(["--quiet", "--batch-mode", "dependency:copy-dependencies"])
        .arg("-DoutputDirectory=jars")
        .current_dir(&home)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "`mvn`, which this test needs, cannot be run: {error} \
                 (Debian and Ubuntu: apt-get install maven)"
            )
        });
    assert!(
        output.status.success(),
        "mvn, which fetches Kafka for this test, failed: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
    );
    fs::write(&finished, POM).expect("a file can be written");
    home
}
