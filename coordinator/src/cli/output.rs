//! Writing to standard output.

use std::io::{ErrorKind, Write};

use crate::cli::exit::{Exit, Failure};

/// Writes a line; false if nobody reads any more, as behind `| head`.
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
        Err(error) => Err(Failure::new(
            Exit::Environment,
            format!("standard output: {error}"),
        )),
    }
}
