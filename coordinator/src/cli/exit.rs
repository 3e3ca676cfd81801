//! How a process ends.

use std::fmt;
use std::process::ExitCode;

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or a clean stop.
    Clean = 0,
    /// The application answered with an error.
    Refused = 1,
    /// The command line or a module file is wrong.
    Usage = 2,
    /// Another process took over.
    Fenced = 3,
    /// Durable data is damaged or refused.
    Damaged = 4,
    /// A port, credentials or a service is not there.
    Environment = 5,
}

impl Exit {
    /// The code that the shell sees.
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
            Self::Damaged => "damaged or refused durable data",
            Self::Environment => "environment",
        })
    }
}

/// Why a command did not do what it should, for standard error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// What happened, for a person.
    pub message: String,
}

impl Failure {
    /// A failure that ends the process with `exit`.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }

    /// Something wrong on the command line.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }
}
