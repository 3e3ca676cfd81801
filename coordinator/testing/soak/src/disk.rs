//! A small disk of its own, which can be filled and freed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tempfile::TempDir;

/// Mounts a file system in memory, and makes it as small as what it holds or as large as it was when it is told to. Ends when its standard input does,
/// which it does when this process is gone, however that ended.
const HOLD: &str = r#"
mount -t tmpfs -o "size=$2,mode=0777" soak "$1" || exit
echo mounted
while read -r what; do
    tries=0
    while
        case $what in
            fill) size=$(($(stat -f -c '(%b - %f) * %S' "$1"))) ;;
            *) size=$2 ;;
        esac
        ! said=$(mount -o "remount,size=$size" soak "$1" 2>&1)
    do
        # Somebody may have written in between.
        tries=$((tries + 1))
        if [ $tries -gt 100 ]; then
            break
        fi
    done
    if [ $tries -gt 100 ]; then echo "$said"; else echo "$what"; fi
done
"#;

/// What is said where the machine does not let one.
const NEEDED: &str = "a disk that can be filled needs `unshare` and `mount` of util-linux and a kernel that lets everybody have a mount namespace of one's own \
    (in a container: CAP_SYS_ADMIN, or a seccomp profile that allows unshare)";

/// A file system in memory, in a mount namespace of its own. It ends when it is dropped.
#[derive(Debug)]
pub struct Disk {
    holder: Child,
    words: ChildStdin,
    answers: BufReader<ChildStdout>,
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
        let (Some(words), Some(stdout)) = (holder.stdin.take(), holder.stdout.take()) else {
            return Err("the pipes that were asked for are not there".to_owned());
        };
        let mut answers = BufReader::new(stdout);
        let mut line = String::new();
        let said = answers.read_line(&mut line);
        if said.is_err() || line.trim() != "mounted" {
            drop(words);
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
            words,
            answers,
            _at: at,
            root,
        })
    }

    /// Where it is reached.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Makes it as small as what it holds: it is full to the last byte.
    ///
    /// # Errors
    ///
    /// Why it could not, for a person.
    pub fn fill(&mut self) -> Result<(), String> {
        self.say("fill")
    }

    /// Makes it as large again as it was.
    ///
    /// # Errors
    ///
    /// Why it could not, for a person.
    pub fn free(&mut self) -> Result<(), String> {
        self.say("free")
    }

    fn say(&mut self, word: &str) -> Result<(), String> {
        let mut answer = String::new();
        writeln!(self.words, "{word}")
            .and_then(|()| self.words.flush())
            .and_then(|()| self.answers.read_line(&mut answer))
            .map_err(|error| error.to_string())?;
        match answer.trim() {
            answer if answer == word => Ok(()),
            answer => Err(format!("the disk does not {word}: {answer}")),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // If it is gone already there is nothing to end.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
