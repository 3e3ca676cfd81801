//! Every target survives its seeds, the corpus and mutations of them, and the fuzzer detects
//! planted defects.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use satchel_fuzz::supervisor::{Done, Finding, SILENCE_MAX, supervise};
use satchel_fuzz::targets::TARGETS;
use satchel_fuzz::worker::{Work, corpus};

/// Inputs per target: enough to detect a decoder that lost a check. The command `fuzz` runs any
/// number.
const EXECUTIONS: u64 = 3_000;

fn fuzz(target: &str, seed: u64, silence_max: Duration) -> Result<Done, Finding> {
    let directory = tempfile::tempdir().unwrap();
    let work = Work {
        seed,
        executions: EXECUTIONS,
        time: Duration::from_secs(600),
        trace: directory.path().join("trace"),
    };
    let program = Path::new(env!("CARGO_BIN_EXE_fuzz"));
    supervise(program, target, &work, silence_max)
}

#[test]
fn every_decoder_survives_mutated_inputs() {
    for target in TARGETS {
        let done = fuzz(target.name, 1, SILENCE_MAX);
        let done = done.unwrap_or_else(|finding| panic!("{}: {finding}", target.name));
        let seeds = (target.seeds)().len() + corpus(target.name).unwrap().len();
        assert_eq!(
            done.executions,
            EXECUTIONS + seeds as u64,
            "{}",
            target.name
        );
        assert!(seeds > 0, "{} has no seeds", target.name);
        // A decoder with one outcome for all inputs is not reached.
        assert!(done.outcomes >= 4, "{}: {done:?}", target.name);
    }
}

#[test]
fn a_panic_is_found_with_its_input() {
    let finding = fuzz("broken-panic", 1, SILENCE_MAX).unwrap_err();
    assert_eq!(finding.input.first(), Some(&b'S'));
    assert!(finding.what.contains("planted"), "{finding}");
}

#[test]
fn an_allocation_out_of_proportion_to_its_input_is_found() {
    let finding = fuzz("broken-memory", 1, SILENCE_MAX).unwrap_err();
    let requested = u64::from_le_bytes(*finding.input.first_chunk().unwrap());
    assert!(requested > 1 << 30, "{finding}");
    assert!(finding.what.contains("memory allocation"), "{finding}");
}

#[test]
fn a_hang_is_found_with_its_input() {
    let finding = fuzz("broken-hang", 1, Duration::from_secs(5)).unwrap_err();
    assert!(finding.input.starts_with(b"hang"), "{finding}");
    assert!(finding.what.contains("no heartbeat"), "{finding}");
}

#[test]
fn the_command_lists_its_targets_and_exits_with_0_when_all_survive() {
    let run = |arguments: &[&str]| {
        let ended = Command::new(env!("CARGO_BIN_EXE_fuzz"))
            .args(arguments)
            .output()
            .unwrap();
        (
            ended.status.code(),
            String::from_utf8(ended.stdout).unwrap(),
        )
    };
    let names: String = TARGETS
        .iter()
        .map(|target| format!("{}\n", target.name))
        .collect();
    assert_eq!(run(&["--list"]), (Some(0), names));

    let (code, output) = run(&["--target", "words", "--executions", "100", "--seed", "3"]);
    assert_eq!(code, Some(0), "{output}");
    assert!(
        output.starts_with("words ") && output.contains("executions"),
        "{output}"
    );

    assert_eq!(run(&["--target", "nothing"]).0, Some(2));
    let (code, output) = run(&["--target", "broken-panic", "--seed", "1"]);
    assert_eq!(code, Some(1), "{output}");
    let saved = Path::new(output.trim().rsplit_once("saved to ").unwrap().1);
    assert_eq!(std::fs::read(saved).unwrap().first(), Some(&b'S'));
    std::fs::remove_file(saved).unwrap();
}
