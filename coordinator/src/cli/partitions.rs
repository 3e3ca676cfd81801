//! `satchel partitions`.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value;

use crate::cli::address::encoded;
use crate::cli::output;
use crate::cli::target::AdminArgs;
use crate::error::Failure;

/// Arguments of `partitions`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct PartitionsArgs {
    #[command(subcommand)]
    command: Option<PartitionsCommand>,

    #[command(flatten)]
    admin: AdminArgs,
}

/// Commands about the places of partitions that are spread over several processes.
#[derive(Debug, Subcommand)]
enum PartitionsCommand {
    /// Print the processes of the application, one JSON object per line
    Members(MembersArgs),
    /// Let a process own a partition while that process lives
    Pin(PinArgs),
    /// Let any process own a partition
    Unpin(PartitionArgs),
    /// Keep a partition where it is while its owner lives
    Freeze(PartitionArgs),
    /// Let a partition move again
    Unfreeze(PartitionArgs),
    /// Let a process give its partitions away
    Drain(ProcessArgs),
    /// Let a process take partitions again
    Undrain(ProcessArgs),
}

/// Arguments of `members`.
#[derive(Debug, Args)]
struct MembersArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `pin`.
#[derive(Debug, Args)]
struct PinArgs {
    /// Number of the partition
    #[arg(value_name = "PARTITION")]
    partition: u32,

    /// Id of the process
    #[arg(value_name = "PROCESS")]
    process: String,

    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of commands about one partition.
#[derive(Debug, Args)]
struct PartitionArgs {
    /// Number of the partition
    #[arg(value_name = "PARTITION")]
    partition: u32,

    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of commands about one process.
#[derive(Debug, Args)]
struct ProcessArgs {
    /// Id of the process
    #[arg(value_name = "PROCESS")]
    process: String,

    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs the command.
pub(crate) async fn run(args: &PartitionsArgs) -> Result<(), Failure> {
    let of_partition =
        |wish: &str, args: &PartitionArgs| format!("/api/partitions/{}/{wish}", args.partition);
    let of_process =
        |wish: &str, args: &ProcessArgs| format!("/api/members/{}/{wish}", encoded(&args.process));
    let (admin, path) = match &args.command {
        None => return list(&args.admin, "/api/partitions", "partitions").await,
        Some(PartitionsCommand::Members(args)) => {
            return list(&args.admin, "/api/members", "members").await;
        }
        Some(PartitionsCommand::Pin(args)) => {
            let process = encoded(&args.process);
            let path = format!("/api/partitions/{}/pin?process={process}", args.partition);
            (&args.admin, path)
        }
        Some(PartitionsCommand::Unpin(args)) => (&args.admin, of_partition("unpin", args)),
        Some(PartitionsCommand::Freeze(args)) => (&args.admin, of_partition("freeze", args)),
        Some(PartitionsCommand::Unfreeze(args)) => (&args.admin, of_partition("unfreeze", args)),
        Some(PartitionsCommand::Drain(args)) => (&args.admin, of_process("drain", args)),
        Some(PartitionsCommand::Undrain(args)) => (&args.admin, of_process("undrain", args)),
    };
    let client = admin.client()?;
    client.json(client.request(Method::POST, &path)).await?;
    Ok(())
}

/// Prints a list, one JSON object per line. The place of a partition is added to its line, if the
/// partitions are spread over several processes.
async fn list(admin: &AdminArgs, path: &str, entries: &str) -> Result<(), Failure> {
    let client = admin.client()?;
    let mut body = client.json(client.request(Method::GET, path)).await?;
    let places = match entries {
        // An application in one process has no such list.
        "partitions" => client
            .json(client.request(Method::GET, "/api/members"))
            .await
            .ok(),
        _ => None,
    };
    let places = places
        .as_ref()
        .and_then(|places| places["partitions"].as_array());
    let place_of = |partition: &Value| {
        let mut places = places?.iter();
        places
            .find(|place| place["partition"] == *partition)?
            .as_object()
    };
    for entry in body[entries].as_array_mut().into_iter().flatten() {
        let place = place_of(&entry["partition"]);
        for (name, value) in place.into_iter().flatten() {
            // The stage is that in the process which answered, which may be another one.
            if name != "stage" && entry.get(name).is_none() {
                entry[name] = value.clone();
            }
        }
        if !output::line(entry.to_string().as_bytes())? {
            break;
        }
    }
    Ok(())
}
