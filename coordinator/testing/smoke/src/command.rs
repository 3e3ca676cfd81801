//! Commands, in the form in which functions of every language read them.

use serde::Serialize;

/// A step of a function. A message is a list of them, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Command {
    /// Adds a number to the total of the instance.
    Add {
        /// The number.
        add: i32,
    },
    /// Sends commands to an instance, at once or later.
    Send {
        /// Id of the instance.
        send: String,
        /// The commands.
        then: Vec<Command>,
        /// Delay in milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<u64>,
        /// Cancellation token of a delayed message.
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<String>,
    },
    /// Cancels the delayed message with this token.
    Cancel {
        /// The token.
        cancel: String,
    },
    /// Emits a record with this id.
    Emit {
        /// The id, which no other record has.
        emit: String,
    },
    /// Waits for nothing, where the language has functions that wait.
    Noop {
        /// Always true.
        noop: bool,
    },
}
