//! Helpers for processes.
//!
//! `binary.rs` names this target when it builds a binary for another test. It must stay small.

use std::process::Command;

use satchel_testkit::{is_alive, kill};

#[test]
fn a_killed_process_is_not_alive_even_before_it_is_reaped() {
    let mut child = Command::new("sleep").arg("100").spawn().expect("sleep");
    let pid = child.id();
    assert!(is_alive(pid));
    kill(pid);
    while is_alive(pid) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let status = child.wait().expect("a child can be waited for");
    assert!(!status.success());
    assert!(!is_alive(pid));
}
