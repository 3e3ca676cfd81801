//! The story of docs/replay.md, with the page's files and commands, and its debugger.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;

use satchel_testkit::{python_with, workspace};

use crate::offline::roots::files;
use crate::pages::{Block, Reader, blocks};

/// Packages of the page's functions, as the smoke scheme has them.
pub(crate) const PACKAGES: [&str; 4] = [
    "apache-flink-statefun==3.3.0",
    "protobuf<4",
    "awslambdaric==4.2.2",
    "zstandard==0.25.0",
];

/// A reader of the page with its Python environment.
pub(crate) fn reader() -> Reader {
    let python = python_with(&PACKAGES);
    let sources = workspace().join("function-handler/python/src");
    let reader = Reader::new(&[
        ("PYTHONPATH", sources.to_str().unwrap()),
        ("PYTHONDONTWRITEBYTECODE", "1"),
    ]);
    let home = python.parent().unwrap().parent().unwrap();
    symlink(home, reader.dir.path().join(".venv")).unwrap();
    reader
}

#[tokio::test]
async fn a_bug_is_found_by_replay_and_its_fix_is_tried_before_it_is_deployed() {
    let mut reader = reader();
    let mut replays = 0;
    for block in blocks("replay.md") {
        match block.info.as_str() {
            "console" => {
                let replay = block.text.starts_with("$ satchel invoke");
                let before = replay.then(|| files(&reader.state()));
                reader.run(&block).await;
                if let Some(before) = before {
                    assert_eq!(files(&reader.state()), before, "line {}", block.line);
                    replays += 1;
                }
            }
            "console pdb" => debug(&reader, &block),
            "python replaces" => replace(&reader, &block),
            "python" | "yaml" => assert!(reader.write(&block), "line {}", block.line),
            _ => {}
        }
    }
    assert_eq!(replays, 2, "before and after the fix");
    reader.stop().await;
}

/// Replaces the line of `wallet.py` that begins as the last line of the block. A breakpoint that is
/// there goes.
fn replace(reader: &Reader, block: &Block) {
    let path = reader.dir.path().join("wallet.py");
    let program = std::fs::read_to_string(&path).unwrap();
    let new = block.text.trim_end();
    let last = new.lines().last().unwrap();
    let (beginning, _) = last.split_once('=').unwrap();
    let mut replaced = 0;
    let lines = program.lines().filter(|line| line.trim() != "breakpoint()");
    let lines = lines.map(|line| {
        if line.starts_with(beginning) {
            replaced += 1;
            return new;
        }
        line
    });
    let program: Vec<&str> = lines.collect();
    assert_eq!(replaced, 1, "line {}", block.line);
    std::fs::write(path, program.join("\n") + "\n").unwrap();
}

/// Runs a command in a terminal, and types what the page types.
fn debug(reader: &Reader, block: &Block) {
    let mut lines = block.text.lines();
    let command = lines
        .next()
        .and_then(|line| line.strip_prefix("$ "))
        .unwrap();
    let mut session = vec![command.to_owned()];
    session.extend(lines.map(str::to_owned));
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dev/replay/terminal.py");
    let script = format!("python3 -B {}", driver.display());
    let mut shell = reader.shell(&script);
    let mut child = shell
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = child.stdin.take().unwrap();
    serde_json::to_writer(stdin, &session).unwrap();
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "line {}: {printed}", block.line);
}
