//! A small disk that can be filled and freed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tempfile::TempDir;

/// Mounts a file system in memory. On command it shrinks the file system to its content or restores
/// its size. It ends when its standard input ends, which happens when this process ends in any way.
const HOLD_SCRIPT: &str = r#"
mount -t tmpfs -o "size=$2,mode=0777" soak "$1" || exit
echo mounted
while read -r command; do
    tries=0
    while
        case $command in
            fill) size=$(($(stat -f -c '(%b - %f) * %S' "$1"))) ;;
            *) size=$2 ;;
        esac
        ! error=$(mount -o "remount,size=$size" soak "$1" 2>&1)
    do
        # A process may have written in between.
        tries=$((tries + 1))
        if [ $tries -gt 100 ]; then
            break
        fi
    done
    if [ $tries -gt 100 ]; then echo "$error"; else echo "$command"; fi
done
"#;

/// Requirement, for machines that lack the capability.
const NEEDED: &str = "a disk that can be filled needs `unshare` and `mount` of util-linux and \
    a kernel that permits unprivileged mount namespaces (in a container: CAP_SYS_ADMIN, \
    or a seccomp profile that allows unshare)";

/// A file system in memory, in a separate mount namespace. It is unmounted when it is dropped.
#[derive(Debug)]
pub struct Disk {
    holder: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Mount point inside the namespace.
    _at: TempDir,
    root: PathBuf,
}

impl Disk {
    /// Creates a disk of this size in MiB.
    ///
    /// # Errors
    ///
    /// When the machine lacks a capability; the text names it.
    pub fn make(mebibytes: u64) -> Result<Self, String> {
        let failed = |what: &str, why: String| format!("{what}: {why}; {NEEDED}");
        let at = tempfile::tempdir().map_err(|error| failed("no directory", error.to_string()))?;
        let mut holder = Command::new("unshare")
            .args([
                "--user",
                "--map-root-user",
                "--mount",
                "sh",
                "-c",
                HOLD_SCRIPT,
                "sh",
            ])
            .arg(at.path())
            .arg(format!("{mebibytes}m"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed("`unshare` cannot be run", error.to_string()))?;
        let (Some(commands), Some(stdout)) = (holder.stdin.take(), holder.stdout.take()) else {
            return Err("the requested pipes are missing".to_owned());
        };
        let mut answers = BufReader::new(stdout);
        let mut line = String::new();
        let read = answers.read_line(&mut line);
        if read.is_err() || line.trim() != "mounted" {
            drop(commands);
            let output = holder.wait_with_output();
            let error = output.map_or_else(
                |error| error.to_string(),
                |output| String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            );
            return Err(failed("a small disk cannot be mounted", error));
        }
        let inside = at.path().strip_prefix("/").unwrap_or(at.path());
        let root = Path::new("/proc").join(holder.id().to_string());
        let root = root.join("root").join(inside);
        Ok(Self {
            holder,
            commands,
            answers,
            _at: at,
            root,
        })
    }

    /// Path by which other processes reach the disk.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Shrinks the disk to its content: it is full to the last byte.
    ///
    /// # Errors
    ///
    /// When the disk cannot be resized; the text says why.
    pub fn fill(&mut self) -> Result<(), String> {
        self.command("fill")
    }

    /// Restores the original size.
    ///
    /// # Errors
    ///
    /// When the disk cannot be resized; the text says why.
    pub fn free(&mut self) -> Result<(), String> {
        self.command("free")
    }

    fn command(&mut self, command: &str) -> Result<(), String> {
        let mut answer = String::new();
        writeln!(self.commands, "{command}")
            .and_then(|()| self.commands.flush())
            .and_then(|()| self.answers.read_line(&mut answer))
            .map_err(|error| error.to_string())?;
        match answer.trim() {
            answer if answer == command => Ok(()),
            answer => Err(format!("the disk does not {command}: {answer}")),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A process that has already ended needs no signal.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
