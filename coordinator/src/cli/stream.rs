//! `satchel stream put` and `satchel stream tail`.

use std::io::BufRead;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Deserialize;

use crate::cli::address::encoded;
use crate::cli::call::header;
use crate::cli::client::Client;
use crate::cli::output;
use crate::cli::target::TrafficArgs;
use crate::error::{Exit, Failure};
use crate::streams::check_stream_name;
use crate::streams::http::KEY_HEADER;

/// Commands on local streams.
#[derive(Debug, Subcommand)]
pub enum StreamCommand {
    /// Append a record, or one per line of standard input, and print their sequence numbers
    Put(PutArgs),
    /// Print records, beginning with the oldest, and follow new ones
    Tail(TailArgs),
}

/// Arguments of `stream put`.
#[derive(Debug, Args)]
pub struct PutArgs {
    /// Name of the stream, which is created if it does not exist
    #[arg(value_parser = stream_name)]
    name: String,

    /// Key of every record
    ///
    /// Without it, each line of standard input is {"key":…,"data":…} or {"key":…,"base64":…}.
    #[arg(long)]
    key: Option<String>,

    /// Data of the single record
    #[arg(long, requires = "key", conflicts_with = "file")]
    data: Option<String>,

    /// File with the data of the single record
    #[arg(long, requires = "key")]
    file: Option<PathBuf>,

    #[command(flatten)]
    traffic: TrafficArgs,
}

/// Arguments of `stream tail`.
#[derive(Debug, Args)]
pub struct TailArgs {
    /// Name of the stream
    #[arg(value_parser = stream_name)]
    name: String,

    /// First record to print: earliest, latest, or a sequence number
    #[arg(long, default_value = "earliest")]
    from: String,

    /// Follow new records until interrupted (the default)
    #[arg(long, conflicts_with = "no_follow")]
    follow: bool,

    /// Stop after the last existing record
    #[arg(long)]
    no_follow: bool,

    /// Stop after COUNT records
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,

    /// Print whole records, one JSON object per line, instead of key, tab and data
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    traffic: TrafficArgs,
}

/// Record as a line of JSON.
#[derive(Debug, Deserialize)]
struct Line {
    key: String,
    data: Option<String>,
    base64: Option<String>,
}

/// Runs a command on local streams.
pub(crate) async fn run(command: StreamCommand) -> Result<(), Failure> {
    match command {
        StreamCommand::Put(args) => put(args).await,
        StreamCommand::Tail(args) => tail(args).await,
    }
}

async fn put(args: PutArgs) -> Result<(), Failure> {
    let client = args.traffic.client()?;
    let one = match (args.data, args.file) {
        (Some(data), _) => Some(Bytes::from(data)),
        (None, Some(file)) => {
            let read = std::fs::read(&file);
            let read =
                read.map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
            Some(Bytes::from(read))
        }
        (None, None) => None,
    };
    if let (Some(key), Some(data)) = (&args.key, one) {
        put_one(&client, &args.name, key, data).await?;
        return Ok(());
    }
    for (index, line) in std::io::stdin().lock().lines().enumerate() {
        let place = format!("standard input, line {}", index + 1);
        let line = line.map_err(|error| Failure::usage(format!("{place}: {error}")))?;
        let (key, data) = match &args.key {
            Some(key) => (key.clone(), Bytes::from(line)),
            None => parse_line(&line)
                .map_err(|message| Failure::usage(format!("{place}: {message}")))?,
        };
        if !put_one(&client, &args.name, &key, data).await? {
            break;
        }
    }
    Ok(())
}

/// Appends one record and prints its number. Returns false if standard output is closed.
async fn put_one(client: &Client, name: &str, key: &str, data: Bytes) -> Result<bool, Failure> {
    let request = client
        .request(Method::POST, &format!("/streams/{name}"))
        .header(KEY_HEADER, header("the key", key)?)
        .body(data);
    let put = client.json(request).await?;
    output::line(put.to_string().as_bytes())
}

fn parse_line(line: &str) -> Result<(String, Bytes), String> {
    let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let data = match (line.data, line.base64) {
        (Some(data), None) => Bytes::from(data),
        (None, Some(base64)) => STANDARD
            .decode(base64)
            .map_err(|error| format!("base64: {error}"))?
            .into(),
        _ => return Err("a record needs either `data` or `base64`".to_owned()),
    };
    Ok((line.key, data))
}

async fn tail(args: TailArgs) -> Result<(), Failure> {
    let client = args.traffic.client()?;
    let (name, from) = (&args.name, encoded(&args.from));
    let follow = !args.no_follow;
    let path = format!("/streams/{name}?from={from}&follow={follow}");
    let mut response = client.send(client.request(Method::GET, &path)).await?;
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut buffered = Vec::new();
    while left > 0 {
        let chunk = response
            .chunk()
            .await
            .map_err(|error| client.lost(&error))?;
        let Some(chunk) = chunk else { return Ok(()) };
        buffered.extend_from_slice(&chunk);
        let mut begin = 0;
        while let Some(length) = buffered[begin..].iter().position(|byte| *byte == b'\n') {
            if left == 0 || !print_record(&buffered[begin..begin + length], args.json)? {
                return Ok(());
            }
            left -= 1;
            begin += length + 1;
        }
        buffered.drain(..begin);
    }
    Ok(())
}

fn print_record(line: &[u8], json: bool) -> Result<bool, Failure> {
    if json {
        return output::line(line);
    }
    let record: Line = serde_json::from_slice(line).map_err(|error| {
        let context = "a record has an unknown form; are both sides of the same version?";
        Failure::caused(Exit::Environment, context, error)
    })?;
    let data = match (record.data, record.base64) {
        (Some(data), _) => data,
        (None, base64) => format!("base64:{}", base64.unwrap_or_default()),
    };
    output::line(format!("{}\t{data}", record.key).as_bytes())
}

fn stream_name(text: &str) -> Result<String, String> {
    check_stream_name(text).map(|()| text.to_owned())
}
