//! Thread that starts all handler processes.
//!
//! The kernel kills a handler when the *thread* that started it ends, not the process, and a worker
//! of tokio may end before the process. Therefore one thread that never ends starts all handlers.
//! It also holds the pipe of the reaper (see [`super::exec_handler`]).

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdin, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::exec_handler::Launcher;

/// Starts `command` as the leader of its own process group, which the reaper of `launcher` kills if
/// this process ends before [`forget`] is called. With `own_group` false, it stays in the group of
/// this process and is left to its launcher.
///
/// # Errors
///
/// The process cannot be started.
pub(super) async fn spawn(
    launcher: Launcher,
    mut command: Command,
    own_group: bool,
) -> io::Result<Child> {
    command.kill_on_drop(true);
    if own_group {
        command.process_group(0);
    }
    let (reply, child) = oneshot::channel();
    let order = Order::Spawn {
        launcher,
        command: Box::new(command),
        own_group,
        runtime: Handle::current(),
        reply,
    };
    let gone = || io::Error::other("the thread that starts processes has ended");
    spawner().send(order).map_err(|_| gone())?;
    child.await.map_err(|_| gone())?
}

/// Removes the group of `pid` from the reaper. Its number may be reused.
pub(super) fn forget(pid: u32) {
    // Without the thread there is no reaper.
    let _ = spawner().send(Order::Forget { pid });
}

enum Order {
    Spawn {
        launcher: Launcher,
        command: Box<Command>,
        own_group: bool,
        runtime: Handle,
        reply: oneshot::Sender<io::Result<Child>>,
    },
    Forget {
        pid: u32,
    },
}

fn spawner() -> &'static mpsc::Sender<Order> {
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel();
        let thread = std::thread::Builder::new().name("handler-spawner".to_owned());
        if let Err(error) = thread.spawn(move || run(&inbox)) {
            tracing::error!(%error, "cannot start the thread that starts handlers");
        }
        orders
    })
}

fn run(inbox: &mpsc::Receiver<Order>) {
    let mut reaper = None;
    // Never ends: the sender is static.
    for order in inbox {
        match order {
            Order::Spawn {
                launcher,
                mut command,
                own_group,
                runtime,
                reply,
            } => {
                let reaper = reaper.get_or_insert_with(|| Reaper::start(&launcher));
                let _in_runtime = runtime.enter();
                let child = command.spawn();
                let pid = child
                    .as_ref()
                    .ok()
                    .and_then(Child::id)
                    .filter(|_| own_group);
                if let Some(pid) = pid {
                    reaper.send('+', pid);
                }
                // If the caller has gone, dropping the child kills it.
                if let (Err(_), Some(pid)) = (reply.send(child), pid) {
                    reaper.send('-', pid);
                }
            }
            Order::Forget { pid } => {
                if let Some(reaper) = &mut reaper {
                    reaper.send('-', pid);
                }
            }
        }
    }
}

struct Reaper(Option<ChildStdin>);

impl Reaper {
    fn start(launcher: &Launcher) -> Self {
        // Its own group, so that Ctrl-C in the terminal does not end it too early.
        let child = launcher
            .reaper()
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        match child {
            Ok(mut child) => Self(child.stdin.take()),
            Err(error) => {
                tracing::warn!(%error, "no reaper; processes of handlers may outlive this process");
                Self(None)
            }
        }
    }

    fn send(&mut self, sign: char, pid: u32) {
        if let Some(pipe) = &mut self.0
            && let Err(error) = writeln!(pipe, "{sign}{pid}")
        {
            tracing::warn!(%error, "reaper ended; processes of handlers may outlive this process");
            self.0 = None;
        }
    }
}
