//! The limit of open files: satchel raises its own limit, and starts handlers with the original
//! one.

use std::process::{Child, Command, Stdio};

use super::*;

const MODULE: &str = "kind: io.statefun.endpoints.v2/http
spec: {functions: a/*, urlPathTemplate: http://127.0.0.1:9/}
";

/// A process that is killed when it is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn satchel_may_open_as_many_files_as_the_system_allows() {
    let dir = tempfile::tempdir().unwrap();
    let module = dir.path().join("module.yaml");
    std::fs::write(&module, MODULE).unwrap();
    let child = Command::new("sh")
        .args(["-c", "ulimit -Sn 300; ulimit -Hn 400; exec \"$0\" \"$@\""])
        .args([env!("CARGO_BIN_EXE_satchel"), "dev"])
        .arg(&module)
        .env("SATCHEL_HTTP", "127.0.0.1:0")
        .env("SATCHEL_ADMIN", "127.0.0.1:0")
        .env("SATCHEL_DATA_DIR", dir.path().join("data"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let limits = format!("/proc/{}/limits", child.id());
    let _child = Killed(child);
    eventually("the higher limit", || {
        let limits = std::fs::read_to_string(&limits).unwrap_or_default();
        let open_files = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"));
        let words = open_files.unwrap_or_default().split_whitespace();
        words.take(2).eq(["400", "400"])
    })
    .await;
}

#[test]
fn a_handler_has_the_original_limit_of_open_files() {
    let handler = Command::new(env!("CARGO_BIN_EXE_satchel"))
        .args([exec_handler::SUBCOMMAND, &std::process::id().to_string()])
        .args(["300", "--", "sh", "-c", "ulimit -Sn; ulimit -Hn"])
        .output()
        .unwrap();
    let text = String::from_utf8(handler.stdout).unwrap();
    let (soft, hard) = text.trim().split_once('\n').unwrap();
    assert_eq!(soft, "300");
    assert_ne!(hard, "300", "the handler may raise the limit itself");
}
