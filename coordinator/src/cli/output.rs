//! Standard output.

use std::io::{ErrorKind, Write};

use crate::error::{Exit, Failure};

/// Writes a line. Returns false if standard output is closed, as by `| head`.
pub(crate) fn line(bytes: &[u8]) -> Result<bool, Failure> {
    let mut out = std::io::stdout().lock();
    let newline: &[u8] = if bytes.ends_with(b"\n") { b"" } else { b"\n" };
    let written = out
        .write_all(bytes)
        .and_then(|()| out.write_all(newline))
        .and_then(|()| out.flush());
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::caused(Exit::Environment, "standard output", error)),
    }
}
