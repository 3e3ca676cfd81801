//! Runs an offline command.

use std::path::Path;
use std::process::{Command, Stdio};

use satchel_testkit::satchel;

/// Result of a command: exit code and output.
#[derive(Debug)]
pub(crate) struct ToolResult {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs `satchel` with `arguments` and `--state <state>`.
pub(crate) fn tool(state: &Path, arguments: &[&str]) -> ToolResult {
    tool_in(state.to_str().expect("test paths are text"), arguments, &[])
}

/// Like [`tool`], with environment variables, at a location that need not be a directory.
pub(crate) fn tool_in(state: &str, arguments: &[&str], environment: &[(&str, &str)]) -> ToolResult {
    run_in(&[arguments, &["--state", state]].concat(), environment)
}

/// Runs `satchel` with exactly these arguments.
pub(crate) fn run(arguments: &[&str]) -> ToolResult {
    run_in(arguments, &[])
}

fn run_in(arguments: &[&str], environment: &[(&str, &str)]) -> ToolResult {
    let mut command = Command::new(satchel());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SATCHEL_") {
            command.env_remove(name);
        }
    }
    let output = command
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("satchel can be run");
    let text = |bytes| String::from_utf8(bytes).expect("it prints text");
    ToolResult {
        code: output.status.code().expect("no signal ended it"),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// The lines of a text, sorted: an export is in the order of key groups.
pub(crate) fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}
