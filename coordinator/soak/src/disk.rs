//! A small disk of its own, which can be filled and freed.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use tempfile::TempDir;

/// Mounts a file system in memory and holds it until its standard input ends, which it does when this process is gone, however that ended.
const HOLD: &str =
    r#"mount -t tmpfs -o "size=$2,mode=0777" soak "$1" && echo mounted && exec cat >/dev/null"#;

/// What is said where the machine does not let one.
const NEEDED: &str = "a disk that can be filled needs `unshare` and `mount` of util-linux and a kernel that lets everybody have a mount namespace of one's own \
    (in a container: CAP_SYS_ADMIN, or a seccomp profile that allows unshare)";

/// A file system in memory, in a mount namespace of its own. It ends when it is dropped.
#[derive(Debug)]
pub struct Disk {
    holder: Child,
    _hold: ChildStdin,
    /// Where it is mounted, in its own namespace.
    _at: TempDir,
    root: PathBuf,
}

impl Disk {
    /// One of so many MiB.
    ///
    /// # Errors
    ///
    /// What the machine lacks, for a person.
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
                HOLD,
                "sh",
            ])
            .arg(at.path())
            .arg(format!("{mebibytes}m"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed("`unshare` cannot be run", error.to_string()))?;
        let (Some(hold), Some(stdout)) = (holder.stdin.take(), holder.stdout.take()) else {
            return Err("the pipes that were asked for are not there".to_owned());
        };
        let mut line = String::new();
        let said = BufReader::new(stdout).read_line(&mut line);
        if said.is_err() || line.trim() != "mounted" {
            drop(hold);
            let output = holder.wait_with_output();
            let said = output.map_or_else(
                |error| error.to_string(),
                |output| String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            );
            return Err(failed("a small disk cannot be mounted", said));
        }
        let inside = at.path().strip_prefix("/").unwrap_or(at.path());
        let root = Path::new("/proc").join(holder.id().to_string());
        let root = root.join("root").join(inside);
        Ok(Self {
            holder,
            _hold: hold,
            _at: at,
            root,
        })
    }

    /// Where it is reached.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Fills it to the last byte.
    ///
    /// # Errors
    ///
    /// The system's, other than that it is full.
    pub fn fill(&self) -> io::Result<()> {
        let mut ballast = File::create(self.ballast())?;
        let mut piece = vec![0; 1 << 20];
        while !piece.is_empty() {
            match ballast.write_all(&piece) {
                Ok(()) => {}
                // The next smaller piece may still fit.
                Err(error) if error.kind() == ErrorKind::StorageFull => {
                    piece.truncate(piece.len() / 2);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Frees what [`Disk::fill`] took.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn free(&self) -> io::Result<()> {
        match std::fs::remove_file(self.ballast()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.root.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // If it is gone already there is nothing to end.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
