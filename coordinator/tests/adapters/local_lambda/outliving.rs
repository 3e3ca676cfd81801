//! Handlers do not outlive the process that started them, however it ends.

use std::process::{Child, Command, Stdio};

use super::*;

const PART: &str = "local_lambda::outliving::hosts_a_handler_until_it_is_killed";
const DIR: &str = "HOSTED_IN";

#[tokio::test]
async fn handlers_and_their_children_end_when_their_host_is_killed() {
    let mut hosted = Hosted::start().await;
    hosted.kill_host();
    for pid in [hosted.handler, hosted.child] {
        eventually(&format!("the end of {pid}"), || !is_alive(pid)).await;
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_handler_ends_with_its_host_even_if_the_reaper_was_killed_before() {
    let mut hosted = Hosted::start().await;
    let reaper = reaper_of(hosted.host.id());
    kill(reaper);
    eventually("the end of the reaper", || !is_alive(reaper)).await;
    hosted.kill_host();
    let handler = hosted.handler;
    eventually("the end of the handler", || !is_alive(handler)).await;
}

/// A process that hosts a handler with a child process.
struct Hosted {
    host: Child,
    handler: u64,
    child: u64,
    _fixture: Fixture,
}

impl Hosted {
    async fn start() -> Self {
        let fixture = Fixture::new();
        let host = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", PART])
            .env(DIR, fixture.dir.path())
            .env("SATCHEL_ADMIN_TOKEN", "secret")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = fixture.path("started");
        eventually("the handler", || started.exists()).await;
        let started: Value = serde_json::from_slice(&std::fs::read(started).unwrap()).unwrap();
        let (handler, child) = (started["pid"].as_u64(), started["child"].as_u64());
        let (handler, child) = (handler.unwrap(), child.unwrap());
        assert!(is_alive(handler) && is_alive(child));
        assert_eq!(started["env"]["SATCHEL_ADMIN_TOKEN"], Value::Null);
        Self {
            host,
            handler,
            child,
            _fixture: fixture,
        }
    }

    /// Kills the host with SIGKILL.
    fn kill_host(&mut self) {
        self.host.kill().unwrap();
        self.host.wait().unwrap();
    }
}

/// Ends everything, also after a failed test and after the reaper was killed.
impl Drop for Hosted {
    fn drop(&mut self) {
        let _ = self.host.kill();
        let _ = self.host.wait();
        for pid in [self.handler, self.child] {
            if is_alive(pid) {
                kill(pid);
            }
        }
    }
}

fn kill(pid: u64) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

#[cfg(target_os = "linux")]
fn reaper_of(host: u32) -> u64 {
    let is_reaper = |pid: u64| {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}"));
        let parent = format!("PPid:\t{host}\n");
        read("status").is_ok_and(|status| status.contains(&parent))
            && read("cmdline").is_ok_and(|command| command.ends_with("\0reap\0"))
    };
    let names = std::fs::read_dir("/proc").unwrap().flatten();
    names
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(|pid| is_reaper(*pid))
        .expect("a reaper")
}

#[tokio::test]
#[ignore = "run by other tests in a process of its own"]
async fn hosts_a_handler_until_it_is_killed() {
    let dir = std::env::var_os(DIR).expect("started by another test");
    let lambda = LocalLambda::start(FunctionSpec {
        name: "greeter".into(),
        dir: dir.clone().into(),
        program: command(["python3", "handler.py"]),
        environment: vec![],
        processes_max: 1,
        memory_mb: 128,
        watch: false,
        launcher: launcher(),
        log_lines: LogLines::stderr(),
    })
    .await
    .unwrap();
    let started = invoke(&lambda, json!({"do": "start a child"}))
        .await
        .unwrap();
    let dir = std::path::Path::new(&dir);
    std::fs::write(dir.join("started.new"), started.to_string()).unwrap();
    std::fs::rename(dir.join("started.new"), dir.join("started")).unwrap();
    std::future::pending::<()>().await;
}
