//! The error of the coordinator: how a process ends, and why.
//!
//! A [`Failure`] is made where the reason is known, and travels to `main`, which prints it and
//! exits. Errors that callers handle themselves have types of their own.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use satchel_log::{ErrorKind, LogError, StoreError};

use crate::streams::StreamError;

/// Returns an error with its causes.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Exit code of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The command succeeded, or the server stopped cleanly.
    Clean = 0,
    /// The application answered with an error.
    Refused = 1,
    /// The command line or a module file is wrong.
    Usage = 2,
    /// Another process has taken over.
    Fenced = 3,
    /// Durable data is damaged or rejected.
    Damaged = 4,
    /// A port, credentials or a service is unavailable.
    Environment = 5,
}

impl Exit {
    /// Code that the shell sees.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clean => "clean stop",
            Self::Refused => "the application answered with an error",
            Self::Usage => "usage or module file",
            Self::Fenced => "fenced by another owner",
            Self::Damaged => "damaged or rejected durable data",
            Self::Environment => "environment",
        })
    }
}

/// Reason why a command or a server ended, with the exit code for it.
///
/// The message is complete: it includes the text of the source, which is kept for callers that
/// need to examine it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Exit code of the process.
    pub exit: Exit,
    /// Text for standard error.
    pub message: String,
    /// Underlying error, if there is one.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// Creates a failure without a source.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            source: None,
        }
    }

    /// Creates a failure with the message `context: error`.
    pub fn caused(
        exit: Exit,
        context: impl fmt::Display,
        error: impl Error + Send + Sync + 'static,
    ) -> Self {
        Self {
            message: format!("{context}: {error}"),
            ..Self::from_source(exit, error)
        }
    }

    /// Creates a failure whose message is that of `error`.
    pub fn from_source(exit: Exit, error: impl Error + Send + Sync + 'static) -> Self {
        Self {
            exit,
            message: error.to_string(),
            source: Some(Box::new(error)),
        }
    }

    /// Creates the failure of `what`, which needs AWS, in a binary without support for it.
    #[cfg(not(feature = "aws"))]
    pub fn needs_aws(what: impl fmt::Display) -> Self {
        Self::usage(format!(
            "{what} needs AWS, for which this satchel was built without support; build it with \
             the cargo feature `aws`, which is on by default: cargo build --release --bin satchel"
        ))
    }

    /// Creates the failure of `what`, which needs Kafka, in a binary without support for it.
    #[cfg(not(feature = "kafka"))]
    pub(crate) fn needs_kafka(what: impl fmt::Display) -> Self {
        Self::usage(format!(
            "{what} needs Kafka, for which this satchel was built without support; build it with \
             the cargo feature `kafka`, which the image has: cargo build --release --bin satchel \
             --features kafka"
        ))
    }

    /// Creates the failure of `what`, which needs TLS, in a binary without support for it.
    #[cfg(not(feature = "tls"))]
    pub(crate) fn needs_tls(what: impl fmt::Display) -> Self {
        Self::usage(format!(
            "{what} needs TLS, for which this satchel was built without support; build it with \
             the cargo feature `tls`, which is on by default: cargo build --release --bin satchel"
        ))
    }

    /// Creates the failure of `satchel top` in a binary without it.
    #[cfg(not(feature = "top"))]
    pub(crate) fn needs_top() -> Self {
        Self::usage(
            "this satchel was built without `satchel top`; build it with the cargo feature `top`, \
             which is on by default: cargo build --release --bin satchel",
        )
    }

    /// Creates a failure of the command line or a module file.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        let (exit, context) = match error.kind() {
            ErrorKind::Fenced => (
                Exit::Fenced,
                "another process took this application over, so this one stops",
            ),
            ErrorKind::Refused => (Exit::Damaged, "the durable state"),
            ErrorKind::Environment | ErrorKind::Bug => (Exit::Environment, "the durable state"),
        };
        Self::caused(exit, context, error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        LogError::from(error).into()
    }
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Self {
        let exit = if error.is_damage() || error.is_refusal() {
            Exit::Damaged
        } else {
            Exit::Environment
        };
        Self::from_source(exit, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_complete_and_the_source_is_kept() {
        let error = std::io::Error::other("disk full");
        let failure = Failure::caused(Exit::Environment, "standard output", error);
        assert_eq!(failure.to_string(), "standard output: disk full");
        let source = failure.source().unwrap();
        assert!(source.is::<std::io::Error>());
    }
}
