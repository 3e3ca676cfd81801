//! `satchel ingress` and `satchel function`: pauses by a person, and positions of shards.

use clap::{Args, Subcommand};
use reqwest::Method;

use crate::cli::address::encoded;
use crate::cli::output;
use crate::cli::target::AdminArgs;
use crate::error::Failure;

/// Commands on one ingress.
#[derive(Debug, Subcommand)]
pub enum IngressCommand {
    /// Stop reading, durably, until the ingress is resumed; its positions stay
    Pause(PauseArgs),
    /// Continue reading exactly where the pause began
    Resume(ResumeArgs),
    /// Print the applied position of each shard, one JSON object per line
    Positions(PositionsArgs),
}

/// Commands on one function type.
#[derive(Debug, Subcommand)]
pub enum FunctionCommand {
    /// Stop invoking a function, durably, until it is resumed; its messages wait
    Pause(PauseArgs),
    /// Continue a paused function with the messages that wait
    Resume(ResumeArgs),
}

/// Arguments of `pause`.
#[derive(Debug, Args)]
pub struct PauseArgs {
    /// Id of the ingress or type of the function, namespace/name
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: Name,

    /// Reason, which is shown wherever the pause is shown
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `resume`.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// Id of the ingress or type of the function, namespace/name
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: Name,

    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `ingress positions`.
#[derive(Debug, Args)]
pub struct PositionsArgs {
    /// Only shards of this ingress, namespace/name
    #[arg(value_name = "INGRESS")]
    ingress: Option<String>,

    #[command(flatten)]
    admin: AdminArgs,
}

/// Name `namespace/name`, as percent-encoded parts of a URL's path. The namespace may contain a
/// `/`.
#[derive(Debug, Clone)]
struct Name(String);

fn parse_name(text: &str) -> Result<Name, String> {
    match text.rsplit_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            if [namespace, name]
                .iter()
                .any(|part| matches!(*part, "." | ".."))
            {
                return Err(format!(
                    "`{text}` cannot be part of a URL: a part is `.` or `..`"
                ));
            }
            Ok(Name(format!("{}/{}", encoded(namespace), encoded(name))))
        }
        _ => Err(format!("`{text}` is not a name: write namespace/name")),
    }
}

/// Runs a command on one ingress.
pub(crate) async fn run_ingress(command: IngressCommand) -> Result<(), Failure> {
    match command {
        IngressCommand::Pause(args) => pause("ingresses", &args).await,
        IngressCommand::Resume(args) => resume("ingresses", &args).await,
        IngressCommand::Positions(args) => positions(&args).await,
    }
}

/// Runs a command on one function type.
pub(crate) async fn run_function(command: FunctionCommand) -> Result<(), Failure> {
    match command {
        FunctionCommand::Pause(args) => pause("functions", &args).await,
        FunctionCommand::Resume(args) => resume("functions", &args).await,
    }
}

async fn positions(args: &PositionsArgs) -> Result<(), Failure> {
    let client = args.admin.client()?;
    let ingress = args.ingress.as_ref();
    let ingress = ingress.map_or(String::new(), |it| format!("&ingress={}", encoded(it)));
    let mut after = String::new();
    loop {
        let path = format!("/api/shards?limit=1000{ingress}{after}");
        let page = client.json(client.request(Method::GET, &path)).await?;
        for shard in page["shards"].as_array().into_iter().flatten() {
            if !output::line(shard.to_string().as_bytes())? {
                return Ok(());
            }
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={}", encoded(next)),
            None => return Ok(()),
        }
    }
}

async fn pause(kind: &str, args: &PauseArgs) -> Result<(), Failure> {
    let mut path = format!("/api/{kind}/{}/pause", args.name.0);
    if let Some(reason) = &args.reason {
        path.push_str(&format!("?reason={}", encoded(reason)));
    }
    let client = args.admin.client()?;
    client.send(client.request(Method::POST, &path)).await?;
    Ok(())
}

async fn resume(kind: &str, args: &ResumeArgs) -> Result<(), Failure> {
    let path = format!("/api/{kind}/{}/resume", args.name.0);
    let client = args.admin.client()?;
    client.send(client.request(Method::POST, &path)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_encoded_part_by_part_and_anything_else_is_refused_by_name() {
        assert_eq!(parse_name("a b/c/in").unwrap().0, "a%20b%2Fc/in");
        for text in ["", "in", "/in", "a/", "a/..", "./in"] {
            let refused = parse_name(text).unwrap_err();
            assert!(refused.contains(&format!("`{text}`")), "{refused}");
        }
    }
}
