//! Launch of handler processes, such that they never outlive this process, not even after `kill
//! -9`.
//!
//! Two guards complement each other:
//!
//! - A handler is started as `satchel exec-handler PARENT [OPEN-FILES] -- COMMAND…`. On Linux, this
//!   process asks the kernel to kill it when its parent ends. It restores the limit of open files
//!   that satchel raised for itself, and then becomes the command. This guard covers the handler
//!   itself, at once, without the help of another process.
//! - One `satchel exec-handler reap` per process receives the process group of every handler
//!   through a pipe. When the pipe closes, because its holder ended in any way, it kills the
//!   remaining groups: processes that handlers started, and handlers on other systems than Linux.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::BufRead;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal};

use crate::open_files;

/// Hidden subcommand of the binary that launches handlers.
pub const SUBCOMMAND: &str = "exec-handler";

/// Exit code of a handler process whose command could not be run, as in a shell.
const EXIT_NOT_RUN: i32 = 127;

/// Argument that makes the process the reaper.
const REAP: &str = "reap";

/// Binary that launches handlers, with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Launcher {
    /// Returns the launcher in this binary, whose `main` must call [`run_if_asked`] first.
    ///
    /// # Errors
    ///
    /// The operating system does not name the running binary.
    pub fn this_binary() -> std::io::Result<Self> {
        // On Linux, this name stays valid when a build replaces the file.
        let proc_name = Path::new("/proc/self/exe");
        let program = if proc_name.exists() {
            proc_name.to_owned()
        } else {
            std::env::current_exe()?
        };
        Ok(Self::new(program, [SUBCOMMAND.into()]))
    }

    /// Returns a launcher in `program`, which calls [`run`] with the arguments that follow
    /// `arguments`.
    pub fn new(program: impl Into<PathBuf>, arguments: impl IntoIterator<Item = OsString>) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.into_iter().collect(),
        }
    }

    /// Builds the command that becomes `command` in a child of this process.
    pub(super) fn handler(&self, command: &[String]) -> Command {
        let mut launch = Command::new(&self.program);
        launch
            .args(&self.arguments)
            .arg(std::process::id().to_string())
            .args(open_files::before_it_was_raised().map(|limit| limit.to_string()))
            .arg("--")
            .args(command);
        launch
    }

    /// Builds the command that becomes the reaper.
    pub(super) fn reaper(&self) -> Command {
        let mut launch = Command::new(&self.program);
        launch.args(&self.arguments).arg(REAP);
        launch
    }
}

/// Calls [`run`] if this process was started as `satchel exec-handler …`. `main` must call this
/// first, before it starts threads or a runtime.
pub fn run_if_asked() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == SUBCOMMAND) {
        run(arguments);
    }
}

/// Runs as a launcher or as the reaper, by the arguments after `exec-handler`:
/// `PARENT [OPEN-FILES] -- COMMAND…` or `reap`. Never returns.
///
/// The exit code is 127 if the command cannot be run, and 2 for other arguments.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ! {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    match arguments.as_slice() {
        [reap] if reap == REAP => {
            kill_groups(groups_at_end(std::io::stdin().lock()));
            std::process::exit(0)
        }
        [parent, dashes, program, rest @ ..] if dashes == "--" => exec(parent, program, rest),
        [parent, limit, dashes, program, rest @ ..] if dashes == "--" => {
            limit_open_files(limit);
            exec(parent, program, rest)
        }
        _ => {
            eprintln!("satchel {SUBCOMMAND} is for satchel itself only");
            std::process::exit(2)
        }
    }
}

fn exec(parent: &OsStr, program: &OsStr, arguments: &[OsString]) -> ! {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        eprintln!("satchel: this handler may outlive satchel: {error}");
    }
    // The parent may have ended before the call above. Then nothing would kill this process.
    let parent_now = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if parent.to_str().and_then(|pid| pid.parse().ok()) != Some(parent_now) {
        eprintln!("satchel: the process that started this handler has ended");
        std::process::exit(EXIT_NOT_RUN);
    }
    let error = Command::new(program).args(arguments).exec();
    eprintln!(
        "satchel: cannot run `{}`: {error}",
        program.to_string_lossy()
    );
    std::process::exit(EXIT_NOT_RUN)
}

fn limit_open_files(limit: &OsStr) {
    let limit = limit.to_str().and_then(|limit| limit.parse().ok());
    if let Some(limit) = limit
        && let Err(error) = open_files::set_current(Some(limit))
    {
        eprintln!("satchel: this handler may open more files than usual: {error}");
    }
}

/// Returns the groups that were added (`+GROUP`) and not removed (`-GROUP`) when `orders` ends.
fn groups_at_end(orders: impl BufRead) -> BTreeSet<i32> {
    let mut groups = BTreeSet::new();
    for order in orders.lines().map_while(Result::ok) {
        match order.split_at_checked(1) {
            Some(("+", group)) => groups.extend(group.parse::<i32>()),
            Some(("-", group)) => {
                group.parse().map(|group: i32| groups.remove(&group)).ok();
            }
            _ => {}
        }
    }
    groups
}

fn kill_groups(groups: BTreeSet<i32>) {
    // 0 and 1 would be the reaper's own group and the system's first process.
    for group in groups.into_iter().filter(|group| *group > 1) {
        if let Some(group) = Pid::from_raw(group) {
            // An error means that the group has ended already.
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
    }
}

/// Returns true if `program` is an executable file for a process in the directory `dir`.
pub(super) fn is_runnable(program: &str, dir: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    let is_executable = |path: &Path| {
        path.metadata()
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    if program.is_empty() {
        false
    } else if program.contains('/') {
        is_executable(&dir.join(program))
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|entry| is_executable(&dir.join(entry).join(program)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reaper_kills_what_was_added_and_not_taken_off() {
        let orders = "+101\n+102\nnonsense\n-101\n\n+x\n+103".as_bytes();
        assert_eq!(groups_at_end(orders), BTreeSet::from([102, 103]));
    }

    #[test]
    fn a_program_is_looked_for_as_a_process_in_that_directory_would() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("run.sh");
        std::fs::write(&script, "#!/bin/sh\n").unwrap();
        assert!(!is_runnable("./run.sh", dir.path()), "it is not executable");
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(is_runnable("./run.sh", dir.path()));
        assert!(!is_runnable("run.sh", dir.path()), "it is not on PATH");
        assert!(is_runnable("sh", dir.path()));
        assert!(!is_runnable("", dir.path()));
    }
}
