//! Pages of the documentation whose commands and programs are run as they stand there.
//!
//! A page has fenced blocks with an info string. A block whose first line is a comment with a file
//! name is that file. A block `console` has commands after `$ `, each followed by what it prints;
//! a line `…` stands for any number of lines, and times are compared as one word.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use satchel_testkit::{Dev, LONG, Setup, satchel};

/// A fenced block.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    /// Text after the fence.
    pub(crate) info: String,
    pub(crate) text: String,
    /// Line of the page at which the fence is.
    pub(crate) line: usize,
}

/// Returns the blocks of a page in `docs`.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(page);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in (1..).zip(text.lines()) {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                open = Some(Block {
                    info: info.to_owned(),
                    text: String::new(),
                    line: number,
                });
            }
            (Some(_), Some("")) => blocks.extend(open.take()),
            (Some(block), _) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{page}: a block is not closed");
    blocks
}

/// A command of a page, with what it prints.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) command: String,
    pub(crate) expected: Vec<String>,
}

/// Returns the commands of a block `console`.
pub(crate) fn steps(block: &Block) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in block.text.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step {
                command: command.to_owned(),
                expected: Vec::new(),
            }),
            (None, Some(step)) if step.command.ends_with('\\') => {
                step.command.pop();
                step.command.push_str(line.trim_start());
            }
            (None, Some(step)) => step.expected.push(line.to_owned()),
            (None, None) => panic!("line {}: no command", block.line),
        }
    }
    steps
}

/// Directory of a page, with its files, and the application that it starts.
pub(crate) struct Reader {
    pub(crate) dir: tempfile::TempDir,
    environment: Vec<(String, String)>,
    app: Option<Dev>,
}

impl Reader {
    /// A reader whose commands have these environment variables.
    pub(crate) fn new(environment: &[(&str, &str)]) -> Self {
        let of = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            dir: tempfile::tempdir().unwrap(),
            environment: environment.iter().map(of).collect(),
            app: None,
        }
    }

    /// Root of the state of the application.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join(".satchel/state")
    }

    /// Writes a block to the file that its first line names, if it names one.
    pub(crate) fn write(&self, block: &Block) -> bool {
        let first = block.text.lines().next().unwrap_or_default();
        let Some(name) = first.strip_prefix("# ").filter(|name| {
            let of_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            name.contains('.') && name.chars().all(of_name)
        }) else {
            return false;
        };
        std::fs::write(self.dir.path().join(name), &block.text).unwrap();
        true
    }

    /// Runs the commands of a block, and compares what they print.
    pub(crate) async fn run(&mut self, block: &Block) {
        for step in steps(block) {
            if let Some(arguments) = step.command.strip_prefix("satchel dev") {
                self.start(arguments).await;
                continue;
            }
            let begun = Instant::now();
            loop {
                let (code, printed) = self.command(&step.command);
                let expected = normal(&step.expected.join("\n"));
                if is_as_expected(&expected, &normal(&printed)) {
                    break;
                }
                // What was sent a moment ago may still be on its way.
                assert!(
                    reads(&step.command) && begun.elapsed() < LONG,
                    "line {}: {} (exit code {code}) printed:\n{printed}",
                    block.line,
                    step.command
                );
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }

    /// Stops the application.
    pub(crate) async fn stop(&mut self) {
        if let Some(mut app) = self.app.take() {
            assert_eq!(app.terminate().await.code, Some(0));
        }
    }

    async fn start(&mut self, arguments: &str) {
        self.stop().await;
        let mut setup = Setup::of(self.dir.path()).data_at(self.dir.path().join(".satchel"));
        for (name, value) in &self.environment {
            setup = setup.env(name, value.clone());
        }
        for argument in arguments.split_whitespace() {
            setup = setup.arg(argument);
        }
        self.app = Some(setup.start().await);
    }

    /// Runs a command. Returns its exit code and what it printed.
    pub(crate) fn command(&self, command: &str) -> (i32, String) {
        let output = self
            .shell(&format!("{command} 2>&1"))
            .output()
            .expect("bash can be run");
        let code = output.status.code();
        let code = code.unwrap_or_else(|| panic!("signal {:?}", output.status.signal()));
        (code, String::from_utf8(output.stdout).unwrap())
    }

    /// A shell that runs a command in the directory of the page.
    pub(crate) fn shell(&self, command: &str) -> Command {
        let mut shell = Command::new("bash");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SATCHEL_") {
                shell.env_remove(name);
            }
        }
        let binaries = satchel().parent().unwrap().to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([binaries].into_iter().chain(std::env::split_paths(&path)));
        shell
            .args(["-c", command])
            .current_dir(self.dir.path())
            .env("PATH", path.unwrap())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        if let Some(app) = &self.app {
            shell.env("SATCHEL_URL", app.client.url());
            shell.env("SATCHEL_ADMIN_URL", app.client.admin_url());
        }
        shell
    }
}

/// Returns whether a command changes nothing, so that it can be repeated.
fn reads(command: &str) -> bool {
    [" list", " get", " invoke", " export"]
        .iter()
        .any(|verb| command.contains(verb))
}

/// Replaces what differs from run to run.
fn normal(text: &str) -> Vec<String> {
    let time = regex_lite::Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z").unwrap();
    let lines = text.lines().map(str::trim_end);
    lines
        .map(|line| time.replace_all(line, "TIME").into_owned())
        .collect()
}

/// Compares lines, where the expected line `…` stands for any number of lines.
fn is_as_expected(expected: &[String], printed: &[String]) -> bool {
    match expected.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first == "…" => {
            (0..=printed.len()).any(|skipped| is_as_expected(rest, &printed[skipped..]))
        }
        Some((first, rest)) => {
            printed.first() == Some(first) && is_as_expected(rest, &printed[1..])
        }
    }
}

#[test]
fn left_out_lines_and_times_are_not_compared() {
    let lines = |text: &str| normal(text);
    let expected = lines("a 2026-01-01T00:00:00Z\n…\nd");
    assert!(is_as_expected(
        &expected,
        &lines("a 1999-12-31T23:59:59.123Z\nb\nc\nd")
    ));
    assert!(is_as_expected(
        &expected,
        &lines("a 1999-12-31T23:59:59Z\nd")
    ));
    assert!(!is_as_expected(
        &expected,
        &lines("a 1999-12-31T23:59:59Z\nb")
    ));
    assert!(!is_as_expected(&expected, &lines("b\nd")));
    assert!(!is_as_expected(&[], &lines("a")));
}
