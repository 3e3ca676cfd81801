//! `satchel trace`.

mod tree;

use clap::Args;
use reqwest::Method;
use serde_json::Value;

use crate::cli::address::encoded;
use crate::cli::output;
use crate::cli::target::AdminArgs;
use crate::error::{Exit, Failure};

/// Arguments of `trace`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// Id of a trace, a message, a dead letter, or a request (header `satchel-request-id` of its
    /// answer); without it, recent traces are listed
    #[arg(value_name = "ID", value_parser = parse_id)]
    id: Option<String>,

    /// List only traces with a message to this function, namespace/name
    #[arg(long, value_name = "FUNCTION", conflicts_with = "id")]
    function: Option<String>,

    /// List only traces with a message to this address, namespace/name/id
    #[arg(long, value_name = "ADDRESS", conflicts_with = "id")]
    address: Option<String>,

    /// List only traces in which a message was given up, rejected, or waits after a failure
    #[arg(long, conflicts_with = "id")]
    failed: bool,

    /// Maximum number of listed traces
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 20,
        conflicts_with = "id"
    )]
    limit: usize,

    /// Print JSON: the trace, or one object per line of the list
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    admin: AdminArgs,
}

/// Prints the tree of a trace, or the recent traces.
pub(crate) async fn run(args: TraceArgs) -> Result<(), Failure> {
    match &args.id {
        Some(id) => show(&args, id).await,
        None => list(&args).await,
    }
}

async fn show(args: &TraceArgs, id: &str) -> Result<(), Failure> {
    let client = args.admin.client()?;
    let path = format!("/api/traces/{}", encoded(id));
    let trace = client.json(client.request(Method::GET, &path)).await?;
    if args.json {
        output::line(format!("{trace:#}").as_bytes())?;
        return Ok(());
    }
    for line in tree::lines(&trace) {
        if !output::line(line.as_bytes())? {
            break;
        }
    }
    warn_of_missing(&trace);
    Ok(())
}

async fn list(args: &TraceArgs) -> Result<(), Failure> {
    let client = args.admin.client()?;
    let mut path = format!("/api/traces?limit={}", args.limit);
    for (name, value) in [("function", &args.function), ("address", &args.address)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", encoded(value)));
        }
    }
    if args.failed {
        path.push_str("&failed=true");
    }
    let body = client.json(client.request(Method::GET, &path)).await?;
    if body["tracing"] == false {
        let message = "no stories of messages are kept: start the application with \
                       --trace-messages SHARE";
        return Err(Failure::new(Exit::Refused, message));
    }
    for trace in body["traces"].as_array().into_iter().flatten() {
        let line = match args.json {
            true => trace.to_string(),
            false => tree::summary(trace),
        };
        if !output::line(line.as_bytes())? {
            break;
        }
    }
    warn_of_missing(&body);
    Ok(())
}

/// Says which partitions did not answer, whose hops may be missing.
fn warn_of_missing(body: &Value) {
    if let Some(missing) = body["missing_partitions"].as_array() {
        let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
        let missing = missing.join(", ");
        eprintln!(
            "satchel: hops may be missing: the owners of partitions {missing} did not answer"
        );
    }
}

/// Checks the form of an id. The text of a call's address, `satchel/call/ID`, is taken too.
fn parse_id(text: &str) -> Result<String, String> {
    let id = text.strip_prefix("satchel/call/").unwrap_or(text);
    let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| id.to_ascii_lowercase()).ok_or_else(|| {
        format!(
            "`{text}` is not an id: traces, messages, dead letters and requests have 32 \
             hexadecimal digits"
        )
    })
}
