//! `satchel savepoint`.

use clap::{Args, Subcommand};
use satchel_log::{Savepoint, SavepointName};
use serde::Serialize;

use crate::cli::output;
use crate::config::RootArgs;
use crate::error::Failure;
use crate::module::format_rfc3339;
use crate::offline;

/// Commands on savepoints: named states of an application. The application may be running.
#[derive(Debug, Subcommand)]
pub enum SavepointCommand {
    /// Keep the current durable state under a name
    Create(CreateArgs),
    /// Print all savepoints, one JSON object per line
    List(RootArgs),
    /// Delete a savepoint; the running application later deletes the objects that only it needed
    Delete(DeleteArgs),
}

/// Arguments of `savepoint create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Name of the savepoint: letters, digits, `.`, `_` and `-`
    #[arg(value_name = "NAME")]
    name: SavepointName,

    /// Comment to keep with the savepoint
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,

    #[command(flatten)]
    root: RootArgs,
}

/// Arguments of `savepoint delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Name of the savepoint
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
    let root = root.savepoints();
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

/// Printed form of a savepoint.
#[derive(Serialize)]
struct Line<'a> {
    savepoint: &'a str,
    partition: u32,
    /// Time of the last commit.
    committed_at: String,
    created_at: String,
    /// Number of the last log object.
    through: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    comment: &'a str,
}

impl<'a> Line<'a> {
    fn of(savepoint: &'a Savepoint) -> Self {
        Self {
            savepoint: savepoint.name.as_str(),
            partition: savepoint.partition,
            committed_at: format_rfc3339(savepoint.committed_at_ms),
            created_at: format_rfc3339(savepoint.created_at_ms),
            through: savepoint.through,
            comment: &savepoint.comment,
        }
    }
}
