//! Module files in the forms of StateFun's documentation, each loaded and run with functions on the
//! official Python SDK.
//!
//! The first run installs the SDK with pip.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use pkcs8::pkcs5::pbes2::Parameters;
use pkcs8::{LineEnding, PrivateKeyInfoRef};
use rcgen::{BasicConstraints, CertificateParams, CertifiedKey, IsCa, KeyPair};
use reqwest::Method;
use satchel_testkit::{Dev, Record, Setup, python_with, satchel, until_true};
use serde_json::{Value, json};

/// The SDK as released; its generated code needs a protobuf version before 4.
const PACKAGES: [&str; 2] = ["apache-flink-statefun==3.3.0", "protobuf<4"];

const PASSWORD: &str = "correct horse battery staple";

fn modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/statefun_modules")
}

/// The functions as a process. It ends when this value is dropped, and at the latest with the
/// process of the test.
struct Functions {
    process: Child,
    _stdin: ChildStdin,
    ports: Value,
    /// Sockets and certificates.
    dir: tempfile::TempDir,
}

/// Certificate that the functions present.
#[derive(Clone, Copy)]
enum Presented {
    /// That of a server.
    Server,
    /// That of an authority, which is no server's.
    Authority,
}

impl Functions {
    fn start(presented: Presented) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_certificates(dir.path(), presented);
        let mut process = Command::new(python_with(&PACKAGES))
            .args(["-B", "-u"])
            .arg(modules().join("functions.py"))
            .args([dir.path(), dir.path()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ports = String::new();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        stdout.read_line(&mut ports).unwrap();
        Self {
            _stdin: process.stdin.take().unwrap(),
            process,
            ports: serde_json::from_str(&ports).expect("functions.py prints its ports"),
            dir,
        }
    }

    /// Values of the placeholders of the module files.
    fn environment(&self) -> [(&'static str, String); 7] {
        let dir = self.dir.path().display();
        [
            ("PORT", self.ports["plain"].to_string()),
            ("TLS_PORT", self.ports["tls"].to_string()),
            ("SOCKETS", dir.to_string()),
            ("CERTIFICATES", dir.to_string()),
            ("PASSWORD", "hunter2".to_owned()),
            ("INGRESS_PORT", free_port().to_string()),
            ("EGRESS_PORT", free_port().to_string()),
        ]
    }
}

impl Drop for Functions {
    fn drop(&mut self) {
        // An error means that it has already ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Writes the certificates of the server and of its client, whose key is encrypted.
fn write_certificates(dir: &Path, presented: Presented) {
    let made = |name: &str, is_ca| {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.is_ca = is_ca;
        let signing_key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&signing_key).unwrap();
        CertifiedKey { cert, signing_key }
    };
    let server = match presented {
        Presented::Server => made("localhost", IsCa::NoCa),
        Presented::Authority => made("localhost", IsCa::Ca(BasicConstraints::Unconstrained)),
    };
    let client = made("client", IsCa::NoCa);
    let parameters = Parameters::generate_pbkdf2_sha256_aes256cbc(1000, b"saltsalt", [7; 16]);
    let key = client.signing_key.serialize_der();
    let key = PrivateKeyInfoRef::try_from(key.as_slice()).unwrap();
    let encrypted = key
        .encrypt_with_params(parameters.unwrap(), PASSWORD)
        .unwrap();
    let encrypted = encrypted
        .to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF)
        .unwrap();
    for (name, content) in [
        ("server.pem", server.cert.pem()),
        ("server.key", server.signing_key.serialize_pem()),
        ("authorities.pem", server.cert.pem()),
        ("client.pem", client.cert.pem()),
        ("clients.pem", client.cert.pem()),
        ("client.key", encrypted.to_string()),
        ("password.txt", format!("{PASSWORD}\n")),
    ] {
        std::fs::write(dir.join(name), content).unwrap();
    }
}

/// An application of one of the module files, which runs.
struct Application {
    dev: Dev,
    /// Output of `satchel validate` on standard error.
    validated: String,
    environment: [(&'static str, String); 7],
    _functions: Functions,
}

impl Application {
    /// Validates the module file, and starts it.
    async fn start(name: &str) -> Self {
        Self::start_with(name, Presented::Server, |setup| setup).await
    }

    /// Validates the module file, and starts it with functions that present this certificate, and
    /// with a setup as `adapt` changes it.
    async fn start_with(
        name: &str,
        presented: Presented,
        adapt: impl FnOnce(Setup) -> Setup,
    ) -> Self {
        let functions = Functions::start(presented);
        let environment = functions.environment();
        let module = modules().join(format!("{name}.module.yaml"));
        let validated = Command::new(satchel())
            .arg("validate")
            .arg(&module)
            .envs(environment.clone())
            .output()
            .unwrap();
        let status = validated.status;
        let validated = String::from_utf8(validated.stderr).unwrap();
        assert!(status.success(), "{name}: {validated}");
        let mut setup = Setup::of(module);
        for (name, value) in &environment {
            setup = setup.env(name, value.clone());
        }
        Self {
            dev: adapt(setup).start().await,
            validated,
            environment,
            _functions: functions,
        }
    }

    fn port(&self, name: &str) -> &str {
        let mut environment = self.environment.iter();
        let found = environment.find(|(variable, _)| *variable == name);
        &found.unwrap().1
    }

    /// Puts three names into the local stream `names`, and expects their greetings in the local
    /// stream `greetings`.
    async fn greets_over_streams(&self) {
        let client = &self.dev.client;
        for name in ["Alice", "Bob", "Alice"] {
            let request = json!({"name": name}).to_string();
            client.put("names", &name.to_lowercase(), request).await;
        }
        let greetings = client.records_when("greetings", 3).await;
        let of = |key: &str| {
            let records = greetings.iter().filter(|record| record.key == key);
            records.map(text).collect::<Vec<String>>()
        };
        assert_eq!(
            of("alice"),
            [
                "Hello Alice, for the time number 1",
                "Hello Alice, for the time number 2"
            ]
        );
        assert_eq!(of("bob"), ["Hello Bob, for the time number 1"]);
        assert_eq!(client.dead_letters().await, [Value::Null; 0]);
    }
}

fn text(record: &Record) -> String {
    String::from_utf8(record.data.to_vec()).unwrap()
}

/// Sends what `curl -X PUT -H "Content-Type: application/vnd.example/GreetRequest" -d BODY URL` of
/// the playground's READMEs sends.
async fn put(url: &str, body: &str) {
    let request = reqwest::Client::new().put(format!("http://{url}"));
    let kind = "application/vnd.example/GreetRequest";
    let request = request.header("content-type", kind).body(body.to_owned());
    let answer = request.send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.text().await.unwrap()),
        (200, String::new())
    );
}

/// Sends what `curl -X GET URL` sends. Returns the status and the body.
async fn get(url: &str) -> (u16, String) {
    let answer = reqwest::get(format!("http://{url}")).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn greets_over_http(application: &Application, ingress: &str, egress: &str) {
    let address = format!("localhost:{ingress}/example/to-playground/bob");
    let topic = format!("localhost:{egress}/greetings");
    let bob = r#"{"name": "Bob"}"#;
    let greeted = |visits: u32| (200, format!("Hello Bob, for the time number {visits}"));
    // The answer waits for the first record.
    let (first, ()) = tokio::join!(get(&topic), put(&address, bob));
    assert_eq!(first, greeted(1));
    put(&address, bob).await;
    put(&address, bob).await;
    assert_eq!(get(&topic).await, greeted(2));
    assert_eq!(get(&topic).await, greeted(3));
    assert_eq!(
        application.dev.client.dead_letters().await,
        [Value::Null; 0]
    );
}

#[tokio::test]
async fn a_greeter_with_kafka_runs_with_local_streams() {
    let application = Application::start("greeter-kafka").await;
    application.greets_over_streams().await;
}

#[tokio::test]
async fn every_field_of_kafka_is_accepted_and_no_secret_is_shown() {
    let application = Application::start("kafka-secured").await;
    application.greets_over_streams().await;
    let client = &application.dev.client;
    client
        .put("other-names", "carol", r#"{"name": "Carol"}"#)
        .await;
    let greetings = client.records_when("greetings", 4).await;
    assert_eq!(text(&greetings[3]), "Hello Carol, for the time number 1");
    let printed = application.dev.printed();
    assert!(!printed.contains("hunter2"), "{printed}");
    let put = "satchel stream put other-names --key KEY --data MESSAGE (feeds example/names)";
    let tail = "satchel stream tail TOPIC (shows example/greets)";
    assert!(printed.contains(put) && printed.contains(tail), "{printed}");
}

#[tokio::test]
async fn a_record_of_a_topic_without_a_key_is_a_dead_letter_and_the_others_go_on() {
    let application = Application::start("greeter-kafka").await;
    let client = &application.dev.client;
    client.put("names", "", r#"{"name": "Mallory"}"#).await;
    client.put("names", "dora", r#"{"name": "Dora"}"#).await;
    let greetings = client.records_when("greetings", 1).await;
    assert_eq!(text(&greetings[0]), "Hello Dora, for the time number 1");
    let letters = client.dead_letters().await;
    let reasons: Vec<&Value> = letters.iter().map(|letter| &letter["reason"]).collect();
    assert_eq!(
        reasons,
        ["the record has no key, which is the id of its target address"]
    );
}

#[tokio::test]
async fn the_single_root_of_statefun_3_0_runs_with_kafka() {
    let application = Application::start("legacy-kafka").await;
    application.greets_over_streams().await;
}

#[tokio::test]
async fn the_single_root_of_statefun_3_0_runs_with_kinesis() {
    let application = Application::start("legacy-kinesis").await;
    application.greets_over_streams().await;
}

#[tokio::test]
async fn kinesis_runs_and_what_has_no_effect_is_told() {
    let application = Application::start("kinesis").await;
    application.greets_over_streams().await;
    let printed = application.dev.printed();
    for property in [
        "SocketTimeout",
        "MaxConnections",
        "ThreadingModel",
        "ThreadPoolSize",
    ] {
        let told = format!("the property `{property}` of 'clientConfigProperties' has no effect");
        assert!(printed.contains(&told), "{printed}");
        let warnings = application.validated.lines();
        let warnings = warnings.filter(|line| line.starts_with("warning: "));
        let told = warnings.filter(|line| line.contains(&told)).count();
        assert_eq!(told, 1, "{}", application.validated);
    }
}

#[tokio::test]
async fn kinesis_runs_in_the_form_of_the_fork_for_flink_2() {
    let application = Application::start("kinesis-flink2").await;
    application.greets_over_streams().await;
}

#[tokio::test]
async fn endpoints_of_both_versions_run_with_the_synchronous_client() {
    let application = Application::start("okhttp").await;
    application.greets_over_streams().await;
}

#[tokio::test]
async fn an_endpoint_with_tls_and_an_encrypted_client_key_runs() {
    let application = Application::start("tls").await;
    application.greets_over_streams().await;
}

#[tokio::test]
async fn an_authoritys_certificate_in_the_servers_place_is_told_once_with_what_to_do() {
    let application = Application::start_with("tls", Presented::Authority, |setup| setup).await;
    let client = &application.dev.client;
    client.put("names", "ann", r#"{"name": "Ann"}"#).await;
    // The attempts go on, and the log does not repeat itself.
    let failures = || {
        let printed = application.dev.printed();
        printed
            .matches("the certificate of an authority as its own")
            .count()
    };
    until_true("the log says what is wrong", async || failures() > 0).await;
    let retried = async || {
        let metrics = client.admin(Method::GET, "/metrics").await;
        let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
        let line = metrics.lines().find(|line| {
            line.starts_with("satchel_invocation_failures_total") && line.contains("unavailable")
        });
        let count = line.and_then(|line| line.rsplit_once(' '));
        count.is_some_and(|(_, count)| count.parse::<u64>().unwrap() >= 4)
    };
    until_true("there were several attempts", retried).await;
    let printed = application.dev.printed();
    let told = printed.lines().filter(|line| line.contains("certificate"));
    let told: Vec<&str> = told.collect();
    assert_eq!(told.len(), 1, "{printed}");
    assert!(told[0].contains("issue a server certificate"), "{printed}");
}

#[tokio::test]
async fn an_endpoint_on_a_unix_socket_runs() {
    let application = Application::start("unix-socket").await;
    application.greets_over_streams().await;
}

#[tokio::test]
async fn an_endpoint_on_a_unix_socket_with_tls_runs() {
    let application = Application::start("unix-socket-tls").await;
    application.greets_over_streams().await;
}

#[tokio::test]
async fn the_playground_runs_with_the_commands_of_its_readmes() {
    let application = Application::start("playground").await;
    let (ingress, egress) = (
        application.port("INGRESS_PORT"),
        application.port("EGRESS_PORT"),
    );
    greets_over_http(&application, ingress, egress).await;
}

#[tokio::test]
async fn ingress_and_egress_of_the_playground_may_share_a_port() {
    let application = Application::start("playground-one-port").await;
    let port = application.port("INGRESS_PORT");
    greets_over_http(&application, port, port).await;
}

#[tokio::test]
async fn the_playground_runs_in_production_too() {
    let state = tempfile::tempdir().unwrap();
    let place = state.path().display().to_string();
    let production = |setup: Setup| setup.in_production(place);
    let application = Application::start_with("playground", Presented::Server, production).await;
    let (ingress, egress) = (
        application.port("INGRESS_PORT"),
        application.port("EGRESS_PORT"),
    );
    greets_over_http(&application, ingress, egress).await;
}

#[tokio::test]
async fn a_record_of_the_playground_waits_for_its_reader_over_a_restart() {
    let mut application = Application::start("playground").await;
    let ingress = format!("localhost:{}", application.port("INGRESS_PORT"));
    let egress = format!("localhost:{}", application.port("EGRESS_PORT"));
    put(
        &format!("{ingress}/example/to-playground/eve"),
        r#"{"name": "Eve"}"#,
    )
    .await;
    application.dev.restart().await;
    let greeted = (200, "Hello Eve, for the time number 1".to_owned());
    assert_eq!(get(&format!("{egress}/greetings")).await, greeted);
    for (path, expected, code) in [
        ("greetings?timeout=10ms", 404, "no_record"),
        ("unknown", 404, "no_such_topic"),
        ("greetings?timeout=soon", 400, "invalid_timeout"),
    ] {
        let (status, body) = get(&format!("{egress}/{path}")).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (status, &body["error"]["code"]),
            (expected, &json!(code)),
            "{path}"
        );
    }
}

#[tokio::test]
async fn records_for_aws_land_in_local_streams_as_the_requests_that_would_be_sent() {
    let application = Application::start("aws").await;
    let client = &application.dev.client;
    // A message that an egress wrote, and a plain body with its group as key.
    let written = json!({"MessageBody": r#"{"name": "Ann"}"#, "MessageGroupId": "ann"});
    client.put("example.tasks", "", written.to_string()).await;
    let mut requests = Vec::new();
    for service in ["sqs", "sns", "eventbridge", "dynamodb", "lambda"] {
        let stream = format!("example.{service}");
        let record = client.records_when(&stream, 1).await.remove(0);
        let request: Value = serde_json::from_slice(&record.data).unwrap();
        requests.push((record.key, request));
    }
    let value = json!({"greeting": "Hello Ann, for the time number 1", "name": "Ann"});
    let id = requests[0].1["MessageDeduplicationId"].clone();
    assert!(id.as_str().is_some_and(|id| id.len() == 32), "{id}");
    // The text of the value is the SDK's own.
    let body = requests[0].1["MessageBody"].as_str().unwrap().to_owned();
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), value);
    // `dev` tells the stories of all messages, so each has a trace.
    let trace = requests[0].1["MessageAttributes"]["traceparent"].clone();
    assert!(
        trace.as_str().is_some_and(|it| it.starts_with("00-")),
        "{trace}"
    );
    let attributes = json!({
        "satchel-type": "example/Greeting", "satchel-id": id, "kind": "greeting",
        "traceparent": trace,
    });
    let sqs = json!({
        "QueueUrl": "https://sqs.eu-central-1.amazonaws.com/123456789012/greetings.fifo",
        "MessageBody": body,
        "MessageGroupId": "Ann",
        "MessageDeduplicationId": id,
        "MessageAttributes": attributes,
    });
    assert_eq!(requests[0], ("Ann".to_owned(), sqs));
    assert_eq!(requests[1].1["Subject"], value["greeting"]);
    let topic = "arn:aws:sns:eu-central-1:123456789012:greetings";
    assert_eq!(requests[1].1["TopicArn"], topic);
    assert_eq!(requests[2].1["Source"], "example/eventbridge");
    assert_eq!(requests[2].1["Detail"], value);
    assert_eq!(requests[3].1["TableName"], "greetings");
    assert_eq!(requests[3].1["Item"]["person"], json!({"S": "Ann"}));
    assert_eq!(requests[4].1["FunctionName"], "greeted");
    assert_eq!(requests[4].1["Payload"]["data"], value);
    assert_eq!(client.dead_letters().await, [Value::Null; 0]);

    client
        .put("example.tasks", "ben", r#"{"name": "Ben"}"#)
        .await;
    let sqs = client.records_when("example.sqs", 2).await.remove(1);
    assert_eq!(sqs.key, "Ben");
    let hint = "satchel stream tail example.dynamodb (shows example/dynamodb)";
    let printed = application.dev.printed();
    assert!(printed.contains(hint), "{printed}");
}
