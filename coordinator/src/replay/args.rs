//! Arguments of `satchel invoke`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};
use satchel_engine::address::Address;
use satchel_engine::message::{IdSource, Message, MessageId};
use satchel_log::At;
use satchel_protocol::types::{JSON_TYPENAME, typed_value};

use crate::config::RootArgs;
use crate::error::Failure;
use crate::module::parse_duration;
use crate::offline::{parse_address, parse_at};
use crate::typed_json;

/// Arguments of `invoke`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("subject").args(["from", "dead_letter"]).required(true)))]
#[command(group(
    ArgGroup::new("destination")
        .args(["to", "handler", "url", "write", "answer"])
        .required(true)
))]
pub struct InvokeArgs {
    /// Address namespace/name/id, whose waiting messages are sent
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub(super) from: Option<Address>,

    /// Id of a dead letter, whose message is sent
    #[arg(long, value_name = "ID", value_parser = parse_id)]
    pub(super) dead_letter: Option<MessageId>,

    /// Take the state, and the waiting messages, of this time, such as 2026-02-01T04:15:00Z
    /// (RFC 3339), or of this savepoint [default: now; for a dead letter, when it failed]
    #[arg(long, value_name = "TIME|SAVEPOINT", value_parser = parse_at)]
    pub(super) at: Option<At>,

    /// Send a dead letter with the present state, as a retry would
    #[arg(long, requires = "dead_letter", conflicts_with = "at")]
    pub(super) latest: bool,

    /// Send this message, as JSON, instead of those that wait
    #[arg(long, value_name = "JSON", requires = "from")]
    message: Option<String>,

    /// Typename of the message [default: JSON, for any function that accepts JSON]
    ///
    /// Values of StateFun's built-in types (io.statefun.types/int, …) are written as JSON too.
    #[arg(long = "type", value_name = "TYPENAME", requires = "message")]
    typename: Option<String>,

    /// Address of the function that sends the message [default: none, as for `satchel send`]
    #[arg(
        long,
        value_name = "ADDRESS",
        requires = "message",
        value_parser = parse_address
    )]
    caller: Option<Address>,

    /// Module file or directory of the application: form and limits of the endpoint, egresses
    #[arg(long, value_name = "PATH")]
    pub(super) module: Vec<PathBuf>,

    /// Start this command as a handler, as `satchel dev` does, in the current directory, and send
    /// it the request; takes the rest of the command line
    ///
    /// In a terminal the command has it to itself, so that it may be a debugger.
    #[arg(long, value_name = "COMMAND", num_args = 1.., allow_hyphen_values = true)]
    to: Vec<String>,

    /// Start the handler of the endpoint in the module file, as `satchel dev` does
    #[arg(long, requires = "module")]
    handler: bool,

    /// Send the request to a function server that speaks StateFun's protocol over HTTP
    #[arg(long, value_name = "URL")]
    url: Option<String>,

    /// Write the request to a file, for `cargo lambda invoke --data-file` and others; `-` for
    /// standard output
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,

    /// Read the answer to a request that was written, instead of sending it
    #[arg(long, value_name = "FILE")]
    answer: Option<PathBuf>,

    /// Maximum time to wait for the answer
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "1h",
        value_parser = parse_duration
    )]
    pub(super) timeout: Duration,

    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,

    #[command(flatten)]
    pub(super) root: RootArgs,
}

/// Receiver of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Destination {
    /// A handler that this command starts.
    Command(Vec<String>),
    /// The handler of the endpoint, as `satchel dev` starts it.
    Handler,
    /// A function server.
    Url(String),
    /// A file, or standard output.
    Write(Option<PathBuf>),
    /// None: the answer is in this file.
    Answer(PathBuf),
}

impl InvokeArgs {
    /// Returns the receiver of the request.
    pub(super) fn destination(&self) -> Result<Destination, Failure> {
        if self.handler {
            return Ok(Destination::Handler);
        }
        if let Some(url) = &self.url {
            return Ok(Destination::Url(url.clone()));
        }
        if let Some(file) = &self.write {
            let file = Some(file.clone()).filter(|file| file.as_os_str() != "-");
            return Ok(Destination::Write(file));
        }
        if let Some(file) = &self.answer {
            return Ok(Destination::Answer(file.clone()));
        }
        Ok(Destination::Command(self.to.clone()))
    }

    /// Returns the message of the command line. Its id is the same each time.
    pub(super) fn message(&self) -> Result<Option<Message>, Failure> {
        let Some(json) = &self.message else {
            return Ok(None);
        };
        let typename = self.typename.as_deref();
        let bytes = typed_json::encode(typename, json)
            .map_err(|error| Failure::usage(format!("the message is {error}")))?;
        let argument = typed_value(typename.unwrap_or(JSON_TYPENAME), bytes);
        Ok(Some(Message {
            id: MessageId::derive(IdSource::Request(&[0; 16]), &argument),
            caller: self.caller.clone(),
            argument,
            correction: None,
            trace: None,
            headers: None,
        }))
    }
}

fn parse_id(text: &str) -> Result<MessageId, String> {
    MessageId::parse(text).ok_or_else(|| {
        format!(
            "`{text}` is not the id of a dead letter: 32 hexadecimal digits, \
             as `satchel dead-letters list` prints them"
        )
    })
}
