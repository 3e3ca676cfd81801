//! `satchel state`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use satchel_engine::address::{Address, FunctionType};
use satchel_log::At;

use crate::cli::output;
use crate::cli::state_drop::DropArgs;
use crate::clock::now_ms;
use crate::config::{CommitLogArgs, PlacementArgs, RootArgs, S3Args, application_name};
use crate::error::{Exit, Failure};
use crate::offline::{
    self, Export, Format, FoundStates, Table, Wanted, note_of_moment, parse_address, parse_at,
};
use crate::store::{StateLocation, StoreOptions};

/// Commands on durable state; all but `drop` work without a running application.
///
/// States are printed as NDJSON: `address`, `state`, `typename`, `expires_at_ms`, and `value` if
/// JSON is lossless, else `base64`.
#[derive(Debug, Subcommand)]
pub enum StateCommand {
    /// Print the states of one address
    Get(GetArgs),
    /// Print the first states, in the order of their addresses
    List(ListArgs),
    /// Write all states, or all waiting messages, timers or dead letters, for SQL engines or
    /// `import`; in the order of addresses within each key group
    Export(ExportArgs),
    /// Create a new root from the states in a file that `export` printed
    Import(ImportArgs),
    /// Remove a state that a function no longer declares from all its addresses; the application
    /// must be running
    Drop(DropArgs),
}

/// Arguments of commands that read states.
#[derive(Debug, Args)]
struct ReadArgs {
    #[command(flatten)]
    root: RootArgs,

    /// Read the state at this time, such as 2026-02-01T04:15:00Z (RFC 3339), or at this savepoint
    /// [default: now]
    #[arg(long, value_name = "TIME|SAVEPOINT", value_parser = parse_at)]
    at: Option<At>,
}

/// Arguments of `state get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// Address namespace/name/id
    #[arg(value_name = "ADDRESS", value_parser = parse_address)]
    address: Address,

    /// Only this state
    #[arg(long, value_name = "STATE")]
    name: Option<String>,

    #[command(flatten)]
    read: ReadArgs,
}

/// Arguments of `state list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only states of this function, namespace/name
    #[arg(long, value_name = "FUNCTION")]
    function: Option<FunctionType>,

    /// Maximum number of states
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,

    #[command(flatten)]
    read: ReadArgs,
}

/// Arguments of `state export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Format of the output; `import` reads NDJSON of states
    #[arg(long, value_name = "FORMAT", default_value = "ndjson")]
    format: ExportFormat,

    /// Rows to export
    #[arg(long, value_name = "TABLE", default_value = "states")]
    table: ExportTable,

    /// Only rows of this function, namespace/name
    #[arg(long, value_name = "FUNCTION")]
    function: Option<FunctionType>,

    /// File to write, which appears once it is complete; `-` for standard output
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    output: PathBuf,

    #[command(flatten)]
    read: ReadArgs,
}

/// Format of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// One JSON object per line
    Ndjson,
    /// A Parquet file
    Parquet,
}

/// Rows of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExportTable {
    /// Values of states
    States,
    /// Messages that wait in mailboxes
    Messages,
    /// Pending delayed messages
    Timers,
    /// Messages and egress records that were given up
    DeadLetters,
}

/// Arguments of `state import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// File with the states, one JSON object per line
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Location of the new root: a directory (`satchel dev` uses DATA-DIR/state) or
    /// s3://bucket/prefix
    #[arg(long, env = "SATCHEL_STATE", value_name = "LOCATION")]
    state: StateLocation,

    /// Name of the application that will run on it
    #[arg(
        long,
        env = "SATCHEL_APPLICATION",
        value_name = "NAME",
        default_value = "satchel",
        value_parser = application_name
    )]
    application: String,

    #[command(flatten)]
    commit_log: CommitLogArgs,

    #[command(flatten)]
    placement: PlacementArgs,

    #[command(flatten)]
    s3: S3Args,
}

/// Runs a command on durable state.
pub(crate) async fn run(command: StateCommand) -> Result<(), Failure> {
    match command {
        StateCommand::Get(args) => get(args).await,
        StateCommand::List(args) => {
            print(&args.read, of(args.function), args.limit).await?;
            Ok(())
        }
        StateCommand::Export(args) => export(args).await,
        StateCommand::Import(args) => import(&args).await,
        StateCommand::Drop(args) => super::state_drop::run(&args).await,
    }
}

async fn get(args: GetArgs) -> Result<(), Failure> {
    let GetArgs {
        address,
        name,
        read,
    } = args;
    let name: Option<Arc<str>> = name.map(Into::into);
    let wanted = Wanted::Address(address.clone(), name.clone());
    if print(&read, wanted, usize::MAX).await? > 0 {
        return Ok(());
    }
    let what = match name {
        Some(name) => format!("{address} has no state {name:?}"),
        None => format!("{address} has no state"),
    };
    Err(Failure::new(Exit::Refused, what))
}

fn of(function: Option<FunctionType>) -> Wanted {
    function.map_or(Wanted::All, Wanted::Function)
}

/// Prints the wanted states up to `limit`, and returns their total number.
async fn print(args: &ReadArgs, wanted: Wanted, limit: usize) -> Result<usize, Failure> {
    let at = args.at.unwrap_or(At::Latest);
    let root = args.root.open().await?;
    let application = args.root.application.as_deref();
    let FoundStates { lines, newest_ms } = offline::states(&root, application, at, wanted).await?;
    let now_ms = now_ms();
    if let At::Moment(moment_ms) = at
        && moment_ms > newest_ms.unwrap_or_default().max(now_ms)
    {
        return Err(Failure::usage("--at is in the future"));
    }
    if let Some(note) = note_of_moment(at, newest_ms, now_ms) {
        eprintln!("satchel: {note}");
    }
    for line in lines.iter().take(limit) {
        if !output::line(line.to_json().as_bytes())? {
            break;
        }
    }
    Ok(lines.len())
}

async fn export(args: ExportArgs) -> Result<(), Failure> {
    let ExportArgs {
        format,
        table,
        function,
        output,
        read,
    } = args;
    let at = read.at.unwrap_or(At::Latest);
    let export = Export {
        table: match table {
            ExportTable::States => Table::States,
            ExportTable::Messages => Table::Messages,
            ExportTable::Timers => Table::Timers,
            ExportTable::DeadLetters => Table::DeadLetters,
        },
        format: match format {
            ExportFormat::Ndjson => Format::Ndjson,
            ExportFormat::Parquet => Format::Parquet,
        },
        at,
        function,
        file: Some(output).filter(|output| output.as_os_str() != "-"),
    };
    let root = read.root.open().await?;
    let application = read.root.application.as_deref();
    let exported = Box::pin(offline::export(&root, application, &export)).await?;
    if let Some(note) = note_of_moment(at, exported.newest_ms, now_ms()) {
        eprintln!("satchel: {note}");
    }
    if let Some(file) = &export.file {
        eprintln!("satchel: {} rows in {}", exported.rows, file.display());
    }
    Ok(())
}

async fn import(args: &ImportArgs) -> Result<(), Failure> {
    let commit_log = &args.commit_log;
    let fits = commit_log.validate(Some(&args.state));
    fits.map_err(Failure::usage)?;
    let options = StoreOptions {
        s3: args.s3.options().map_err(Failure::usage)?,
        log: commit_log.commit_log.clone(),
        create_log_table: commit_log.create_commit_log_table,
        ..StoreOptions::default()
    };
    let imported = offline::import(
        &args.file,
        &args.state,
        options,
        &args.application,
        args.placement.asked(),
    )
    .await?;
    let summary = format!(
        "imported {} states of {} addresses into {}, for the application {}",
        imported.states, imported.addresses, args.state, args.application
    );
    output::line(summary.as_bytes())?;
    Ok(())
}
