//! Function servers in each language, over HTTP or as handlers of Lambda bundles.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use satchel_testkit::{Setup, node_with, python_with, target_dir, workspace};
use serde_json::json;
use tempfile::TempDir;

/// Packages of the Python functions. The generated code of the SDK needs a protobuf before 4.
pub const PYTHON_PACKAGES: [&str; 4] = [
    "apache-flink-statefun==3.3.0",
    "protobuf<4",
    "awslambdaric==4.2.2",
    "zstandard==0.25.0",
];

/// Packages of the JavaScript functions.
pub const NODE_PACKAGES: [&str; 1] = ["apache-flink-statefun@3.3.0"];

/// Language of a function server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Python, with the packages of `function-handler/python`.
    Python,
    /// JavaScript on Node.js, with `function-handler/js`.
    JavaScript,
    /// Go, with `function-handler/go`.
    Go,
    /// Java, with `function-handler/java`.
    Java,
}

/// Form in which functions are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A server over HTTP, which outlives the coordinator.
    Http,
    /// Handlers of Lambda bundles, which the coordinator starts.
    Lambda,
}

/// Functions that can be served. Over HTTP, the server ends when this is dropped.
#[derive(Debug)]
pub struct Functions {
    /// Directory of the module file.
    dir: TempDir,
    environment: Vec<(String, String)>,
    _server: Option<Server>,
}

/// Commands that serve the functions of a language.
struct Prepared {
    http: Vec<String>,
    lambda: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Language {
    /// Builds the functions, and starts their server if the form is HTTP.
    ///
    /// # Panics
    ///
    /// When the tools of the language are missing, or a build fails; with its output.
    pub fn start(self, form: Form) -> Functions {
        let prepared = match self {
            Self::Python => python(),
            Self::JavaScript => javascript(),
            Self::Go => go(),
            Self::Java => java(),
        };
        let dir = tempfile::tempdir().expect("a directory for the module file can be made");
        let (endpoint, server) = match form {
            Form::Http => {
                let server = Server::start(&prepared);
                let url = format!("http://127.0.0.1:{}/", server.port);
                let spec = json!({"functions": "smoke/*", "urlPathTemplate": url});
                let kind = "io.statefun.endpoints.v2/http";
                (json!({"kind": kind, "spec": spec}), Some(server))
            }
            Form::Lambda => {
                let spec = json!({
                    "functions": "smoke/*",
                    "functionName": "smoke",
                    // Some runtimes take much memory and long to start.
                    "maxConcurrency": 4,
                    "dev": {"command": prepared.lambda},
                });
                let kind = "satchel.endpoints.v1/lambda";
                (json!({"kind": kind, "spec": spec}), None)
            }
        };
        let ingress = json!({
            "kind": "io.statefun.kinesis.v1/ingress",
            "spec": {
                "id": "smoke/commands",
                "startupPosition": {"type": "earliest"},
                "streams": [{
                    "stream": "commands",
                    "valueType": "smoke/commands",
                    "targets": ["smoke/command"],
                }],
            },
        });
        let egress = json!({
            "kind": "io.statefun.kinesis.v1/egress",
            "spec": {"id": "smoke/records"},
        });
        // JSON is YAML.
        let module = format!("{endpoint}\n---\n{ingress}\n---\n{egress}\n");
        fs::write(dir.path().join("module.yaml"), module).expect("the module file can be written");
        Functions {
            dir,
            environment: prepared.environment,
            _server: server,
        }
    }
}

impl Functions {
    /// The application.
    pub fn setup(&self) -> Setup {
        let setup = Setup::of(self.dir.path());
        let variables = self.environment.iter();
        variables.fold(setup, |setup, (name, value)| setup.env(name, value.clone()))
    }
}

/// Sources of the functions in this crate.
fn sources(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(language)
}

/// A package of the handlers in other languages.
pub fn package(language: &str) -> PathBuf {
    workspace().join("function-handler").join(language)
}

/// The search path for the modules of the Python functions.
pub fn python_path(dir: &Path) -> String {
    let paths = [dir.to_owned(), package("python").join("src")];
    let joined = std::env::join_paths(paths).expect("paths without colons");
    joined.to_string_lossy().into_owned()
}

fn python() -> Prepared {
    let python = python_with(&PYTHON_PACKAGES).display().to_string();
    let path = python_path(&sources("python"));
    Prepared {
        http: strings(&[&python, "-u", "-m", "serve"]),
        lambda: strings(&[&python, "-m", "awslambdaric", "app.handler"]),
        environment: vec![
            ("PYTHONPATH".to_owned(), path),
            ("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned()),
        ],
    }
}

fn javascript() -> Prepared {
    let modules = node_with(&NODE_PACKAGES).join("node_modules");
    let dir = sources("js");
    let serve = dir.join("serve.js").display().to_string();
    let run = package("js").join("run.js").display().to_string();
    let handler = dir.join("app.handler").display().to_string();
    Prepared {
        http: strings(&["node", &serve]),
        lambda: strings(&["node", &run, &handler]),
        environment: vec![("NODE_PATH".to_owned(), modules.display().to_string())],
    }
}

fn go() -> Prepared {
    let binary = target_dir().join("smoke-go").display().to_string();
    let mut build = Command::new("go");
    build
        .args(["build", "-o", &binary, "."])
        .current_dir(sources("go"));
    succeeds(&mut build);
    Prepared {
        http: strings(&[&binary]),
        lambda: strings(&[&binary]),
        environment: Vec::new(),
    }
}

fn java() -> Prepared {
    let target = target_dir().join("smoke-java");
    let mut build = Command::new("mvn");
    build
        .args(["-q", "-B", "compile", "dependency:copy-dependencies"])
        .arg(format!("-Dsatchel.target={}", target.display()))
        .current_dir(sources("java"));
    succeeds(&mut build);
    let classes = [
        target.join("classes").display().to_string(),
        target.join("dependency/*").display().to_string(),
    ]
    .join(":");
    let runtime = "com.amazonaws.services.lambda.runtime.api.client.AWSLambda";
    let handler = "smoke.App::handleRequest";
    Prepared {
        http: strings(&["java", "-cp", &classes, "smoke.App"]),
        lambda: strings(&["java", "-cp", &classes, runtime, handler]),
        environment: Vec::new(),
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn succeeds(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}

/// A process that serves functions over HTTP. It ends with its standard input, when it is dropped
/// and at the latest with the process of the test.
#[derive(Debug)]
struct Server {
    process: Child,
    _stdin: ChildStdin,
    port: u16,
}

impl Server {
    fn start(prepared: &Prepared) -> Self {
        let (program, arguments) = prepared.http.split_first().expect("a program");
        let mut process = Command::new(program)
            .args(arguments)
            .envs(
                prepared
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} cannot be run: {error}"));
        let mut port = String::new();
        let stdout = process.stdout.take().expect("it is piped");
        BufReader::new(stdout)
            .read_line(&mut port)
            .expect("the output can be read");
        Self {
            _stdin: process.stdin.take().expect("it is piped"),
            process,
            port: port.trim().parse().expect("the server prints its port"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error means that it has already ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
