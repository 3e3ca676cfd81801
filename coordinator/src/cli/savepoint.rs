//! `satchel savepoint`.

use clap::{Args, Subcommand};
use satchel_log::{Savepoint, SavepointName};
use serde::Serialize;

use crate::cli::exit::Failure;
use crate::cli::output;
use crate::cli::verify::RootArgs;
use crate::http::rfc3339;
use crate::offline;

/// Commands on savepoints: states of an application that are kept under a name. The application may be running.
#[derive(Debug, Subcommand)]
pub enum SavepointCommand {
    /// Keep what is durable now under a name.
    Create(CreateArgs),
    /// Print all savepoints, one JSON object a line.
    List(RootArgs),
    /// Delete a savepoint; what it alone needs is deleted by the running application, in its time.
    Delete(DeleteArgs),
}

/// Arguments of `savepoint create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Its name: letters, digits, `.`, `_` and `-`.
    #[arg(value_name = "NAME")]
    name: SavepointName,

    /// What it is for.
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,

    #[command(flatten)]
    root: RootArgs,
}

/// Arguments of `savepoint delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Its name.
    #[arg(value_name = "NAME")]
    name: SavepointName,

    #[command(flatten)]
    root: RootArgs,
}

/// Runs a command on savepoints.
pub(crate) async fn run(command: SavepointCommand) -> Result<(), Failure> {
    let args = match &command {
        SavepointCommand::Create(args) => &args.root,
        SavepointCommand::List(args) => args,
        SavepointCommand::Delete(args) => &args.root,
    };
    let root = args.open().await?;
    let application = root.application(args.application.as_deref()).await?;
    let shown = match &command {
        SavepointCommand::Create(args) => {
            offline::savepoint::create(&root, &application, args.name, &args.comment).await?
        }
        SavepointCommand::List(_) => offline::savepoint::list(&root, &application).await?,
        SavepointCommand::Delete(args) => {
            offline::savepoint::delete(&root, &application, args.name).await?;
            Vec::new()
        }
    };
    for savepoint in &shown {
        let line = serde_json::to_vec(&Line::of(savepoint)).expect("texts and numbers are JSON");
        if !output::line(&line)? {
            break;
        }
    }
    Ok(())
}

/// A savepoint as it is printed.
#[derive(Serialize)]
struct Line<'a> {
    savepoint: &'a str,
    partition: u32,
    /// The time of its last commit.
    committed_at: String,
    created_at: String,
    /// The number of its last log object.
    through: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    comment: &'a str,
}

impl<'a> Line<'a> {
    fn of(savepoint: &'a Savepoint) -> Self {
        Self {
            savepoint: savepoint.name.as_str(),
            partition: savepoint.partition,
            committed_at: rfc3339(savepoint.committed_at_ms),
            created_at: rfc3339(savepoint.created_at_ms),
            through: savepoint.through,
            comment: &savepoint.comment,
        }
    }
}
