//! `satchel state`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use satchel_engine::address::{Address, FunctionType};
use satchel_log::{At, Clock};

use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::cli::verify::RootArgs;
use crate::config::{S3Args, application_name};
use crate::offline::{self, Wanted, parse_address, parse_at};
use crate::store::{Place, SystemClock};

/// Commands on durable state, without a running application. States are printed as NDJSON: `address`, `state`, `typename`, `expires_at_ms`, and
/// `value` where JSON loses nothing, else `base64`.
#[derive(Debug, Subcommand)]
pub enum StateCommand {
    /// Print the states of one address.
    Get(GetArgs),
    /// Print the first states, in the order of their addresses.
    List(ListArgs),
    /// Print all states.
    Export(ExportArgs),
    /// Make a new root of the states in a file that `export` printed.
    Import(ImportArgs),
}

/// What is read.
#[derive(Debug, Args)]
struct ReadArgs {
    #[command(flatten)]
    root: RootArgs,

    /// As it was at this time, such as 2026-02-01T04:15:00Z (RFC 3339), or at this savepoint, instead of now.
    #[arg(long, value_name = "TIME|SAVEPOINT", value_parser = parse_at)]
    at: Option<At>,
}

/// Arguments of `state get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// Whose: namespace/name/id.
    #[arg(value_name = "ADDRESS", value_parser = parse_address)]
    address: Address,

    /// Only this state.
    #[arg(long, value_name = "STATE")]
    name: Option<String>,

    #[command(flatten)]
    read: ReadArgs,
}

/// Arguments of `state list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those of this function: namespace/name.
    #[arg(long, value_name = "FUNCTION")]
    function: Option<FunctionType>,

    /// At most so many.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,

    #[command(flatten)]
    read: ReadArgs,
}

/// Arguments of `state export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Only those of this function: namespace/name.
    #[arg(long, value_name = "FUNCTION")]
    function: Option<FunctionType>,

    #[command(flatten)]
    read: ReadArgs,
}

/// Arguments of `state import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The states, one JSON object a line.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Where the new state is to lie: a directory (that of `satchel dev` is <data-dir>/state), or s3://bucket/prefix.
    #[arg(long, env = "SATCHEL_STATE", value_name = "PLACE")]
    state: Place,

    /// The name of the application that will run on it.
    #[arg(long, env = "SATCHEL_APPLICATION", value_name = "NAME", default_value = "satchel", value_parser = application_name)]
    application: String,

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
        StateCommand::Export(args) => {
            print(&args.read, of(args.function), usize::MAX).await?;
            Ok(())
        }
        StateCommand::Import(args) => import(&args).await,
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

/// Prints the states that are wanted, and says how many there are.
async fn print(args: &ReadArgs, wanted: Wanted, limit: usize) -> Result<usize, Failure> {
    let at = match args.at {
        None => At::Latest,
        Some(At::Moment(moment_ms)) if moment_ms > SystemClock.now().wall_ms => {
            return Err(Failure::usage("--at lies in the future"));
        }
        Some(at) => at,
    };
    let root = args.root.open().await?;
    let lines = offline::states(&root, args.root.application.as_deref(), at, wanted).await?;
    for line in lines.iter().take(limit) {
        if !output::line(line.to_json().as_bytes())? {
            break;
        }
    }
    Ok(lines.len())
}

async fn import(args: &ImportArgs) -> Result<(), Failure> {
    let s3 = args.s3.options().map_err(Failure::usage)?;
    let imported = offline::import(&args.file, &args.state, s3, &args.application).await?;
    let summary = format!(
        "{} states of {} addresses are in {}, for the application {}",
        imported.states, imported.addresses, args.state, args.application
    );
    output::line(summary.as_bytes())?;
    Ok(())
}
