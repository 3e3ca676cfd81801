//! The one thread that starts handler processes.
//!
//! The kernel kills a handler when the *thread* that started it ends, not the process: a worker of tokio may end while the process goes
//! on. So one thread that never ends starts them all. It also holds the pipe of the reaper (see [`super::exec_handler`]).

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdin, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::exec_handler::Launcher;

/// Starts `command` as the leader of a process group of its own, which the reaper of `launcher` kills if this process ends before
/// [`forget`] is called.
///
/// # Errors
///
/// Those of starting a process.
pub(super) async fn spawn(launcher: Launcher, mut command: Command) -> io::Result<Child> {
    command.process_group(0).kill_on_drop(true);
    let (reply, child) = oneshot::channel();
    let order = Order::Spawn {
        launcher,
        command: Box::new(command),
        runtime: Handle::current(),
        reply,
    };
    let gone = || io::Error::other("the thread that starts processes has ended");
    spawner().send(order).map_err(|_| gone())?;
    child.await.map_err(|_| gone())?
}

/// Tells the reaper that the group of `pid` is gone: its number may be given to others.
pub(super) fn forget(pid: u32) {
    // Without the thread there is no reaper to tell.
    let _ = spawner().send(Order::Forget { pid });
}

enum Order {
    Spawn {
        launcher: Launcher,
        command: Box<Command>,
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
    // Ends never: the sender is static.
    for order in inbox {
        match order {
            Order::Spawn {
                launcher,
                mut command,
                runtime,
                reply,
            } => {
                let reaper = reaper.get_or_insert_with(|| Reaper::start(&launcher));
                let _in_runtime = runtime.enter();
                let child = command.spawn();
                let pid = child.as_ref().ok().and_then(Child::id);
                if let Some(pid) = pid {
                    reaper.tell('+', pid);
                }
                // If nobody waits any more, dropping the child kills it.
                if let (Err(_), Some(pid)) = (reply.send(child), pid) {
                    reaper.tell('-', pid);
                }
            }
            Order::Forget { pid } => {
                if let Some(reaper) = &mut reaper {
                    reaper.tell('-', pid);
                }
            }
        }
    }
}

struct Reaper(Option<ChildStdin>);

impl Reaper {
    fn start(launcher: &Launcher) -> Self {
        // A group of its own: Ctrl-C in the terminal must not end it before its time.
        let child = launcher
            .reaper()
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        match child {
            Ok(mut child) => Self(child.stdin.take()),
            Err(error) => {
                tracing::warn!(%error, "what handlers start may outlive this process");
                Self(None)
            }
        }
    }

    fn tell(&mut self, sign: char, pid: u32) {
        if let Some(pipe) = &mut self.0
            && let Err(error) = writeln!(pipe, "{sign}{pid}")
        {
            tracing::warn!(%error, "what handlers start may outlive this process: the reaper has ended");
            self.0 = None;
        }
    }
}
