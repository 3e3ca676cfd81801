//! Output of an export: standard output, or a file that gets its name when it is complete.

#[cfg(feature = "parquet")]
use std::io::IsTerminal as _;
use std::io::{self, BufWriter, ErrorKind, Seek as _, Stdout, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::WriteError;
use crate::error::{Exit, Failure};

/// Output of an export.
pub(super) enum Output {
    /// Standard output.
    Stdout(BufWriter<Stdout>),
    /// A file beside the one that it will become.
    File {
        /// The file.
        file: BufWriter<NamedTempFile>,
        /// Name that it will get.
        path: PathBuf,
    },
}

impl Output {
    /// Opens the output. A file is created beside `file`.
    pub(super) fn create(file: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = file else {
            return Ok(Self::Stdout(BufWriter::new(io::stdout())));
        };
        let wrong = |error: io::Error| {
            Failure::caused(Exit::Environment, path.display().to_string(), error)
        };
        if let Ok(found) = path.metadata()
            && !found.is_file()
        {
            let message = format!("{} exists and is no regular file", path.display());
            return Err(Failure::new(Exit::Environment, message));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        let temporary = tempfile::Builder::new()
            .prefix(&format!(".{name}."))
            .suffix(".part")
            .permissions(readable())
            .tempfile_in(parent.unwrap_or(Path::new(".")))
            .map_err(wrong)?;
        Ok(Self::File {
            file: BufWriter::new(temporary),
            path: path.to_owned(),
        })
    }

    /// Returns whether a person would see the bytes.
    #[cfg(feature = "parquet")]
    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Stdout(out) if out.get_ref().is_terminal())
    }

    /// Forgets everything that was written.
    pub(super) fn restart(&mut self) -> Result<(), Failure> {
        match self {
            Self::Stdout(_) => Err(moved_on()),
            Self::File { file, path } => {
                let restarted = file
                    .flush()
                    .and_then(|()| file.get_ref().as_file().set_len(0))
                    .and_then(|()| file.get_mut().rewind());
                restarted.map_err(|error| {
                    Failure::caused(Exit::Environment, path.display().to_string(), error)
                })
            }
        }
    }

    /// Completes the output. A file is durable and has its name afterwards.
    pub(super) fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Stdout(mut out) => match out.flush() {
                Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                    Err(Failure::caused(Exit::Environment, "standard output", error))
                }
                _ => Ok(()),
            },
            Self::File { file, path } => {
                let wrong = |error: io::Error| {
                    Failure::caused(Exit::Environment, path.display().to_string(), error)
                };
                let file = file
                    .into_inner()
                    .map_err(|error| wrong(error.into_error()))?;
                file.as_file().sync_all().map_err(wrong)?;
                file.persist(&path).map_err(|error| wrong(error.error))?;
                Ok(())
            }
        }
    }

    /// Converts an error of a write.
    pub(super) fn failed(&self, error: io::Error) -> WriteError {
        match self {
            Self::Stdout(_) if error.kind() == ErrorKind::BrokenPipe => WriteError::Closed,
            Self::Stdout(_) => {
                WriteError::Failed(Failure::caused(Exit::Environment, "standard output", error))
            }
            Self::File { path, .. } => WriteError::Failed(Failure::caused(
                Exit::Environment,
                path.display().to_string(),
                error,
            )),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::File { file, .. } => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File { file, .. } => file.flush(),
        }
    }
}

/// Error of an export whose beginning is out of date.
pub(super) fn moved_on() -> Failure {
    Failure::new(
        Exit::Damaged,
        "the owner replaced the snapshot that was being read, and deleted it; create a savepoint \
         (`satchel savepoint create`) and export that with --at",
    )
}

/// Permissions of a file that others may read, as far as the umask allows it.
fn readable() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::Permissions::from_mode(0o666)
}
