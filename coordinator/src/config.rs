//! The configuration of a process: the command line, then `SATCHEL_*` variables, then defaults.

mod ports;
mod restore;
mod run;
mod s3;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

use crate::module::{format_duration, parse_bytes, parse_duration};
use crate::store::Place;

pub use ports::PortArgs;
pub use restore::RestoreArgs;
pub use run::RunConfig;
pub use s3::{S3Args, S3Sse};

/// Configuration of `satchel dev`. Made by clap, then checked with [`DevConfig::validated`].
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DevConfig {
    /// Module files, or directories that hold a module.yaml.
    #[arg(value_name = "PATH", default_value = ".")]
    pub paths: Vec<PathBuf>,

    /// Where calls, sends and streams are served; port 0 takes a free one.
    #[arg(
        long,
        env = "SATCHEL_HTTP",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8080"
    )]
    pub http: SocketAddr,

    /// Where administration is served; port 0 takes a free one.
    #[arg(
        long,
        env = "SATCHEL_ADMIN",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8081"
    )]
    pub admin: SocketAddr,

    /// Also serve the local streams under the API of Kinesis here, without TLS and without checking signatures; port 0 takes a free one.
    #[arg(long, env = "SATCHEL_KINESIS_API", value_name = "ADDRESS:PORT")]
    pub kinesis_api: Option<SocketAddr>,

    /// Let the Kinesis API take and give as much as comes, instead of 1 MiB or 1,000 records a second in each shard.
    #[arg(long, env = "SATCHEL_KINESIS_UNLIMITED", value_parser = BoolishValueParser::new())]
    pub kinesis_unlimited: bool,

    /// Where local streams are kept, and state, unless --state says otherwise.
    #[arg(
        long,
        env = "SATCHEL_DATA_DIR",
        value_name = "DIRECTORY",
        default_value = ".satchel"
    )]
    pub data_dir: PathBuf,

    /// Where state is kept: s3://bucket/prefix, or a directory; without it, `state` in the data directory.
    #[arg(long, env = "SATCHEL_STATE", value_name = "PLACE")]
    pub state: Option<Place>,

    /// How far back every moment of the state can be read and restored, such as 7d; beyond it what is not needed is deleted.
    #[arg(long, env = "SATCHEL_RETENTION", value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    pub retention: Duration,

    /// Keep nothing: state and streams end with the process.
    #[arg(long, env = "SATCHEL_EPHEMERAL", value_parser = BoolishValueParser::new())]
    pub ephemeral: bool,

    /// Read Kinesis ingresses from the AWS region or endpoint that their module names, instead of from local streams.
    #[arg(long, env = "SATCHEL_KINESIS_INGRESS", value_parser = BoolishValueParser::new())]
    pub kinesis_ingress: bool,

    /// Build and restart handlers when their sources change.
    #[arg(long, env = "SATCHEL_WATCH", value_parser = BoolishValueParser::new())]
    pub watch: bool,

    /// Serve the Lambda functions under AWS's Invoke API too, at this address; port 0 takes a free one.
    #[arg(long, env = "SATCHEL_LAMBDA_API", value_name = "ADDRESS:PORT")]
    pub lambda_api: Option<SocketAddr>,

    /// How many requests at once each function takes over --lambda-api; more are answered 429, as with a reserved concurrency.
    #[arg(
        long,
        env = "SATCHEL_LAMBDA_CONCURRENCY",
        value_name = "COUNT",
        requires = "lambda_api"
    )]
    pub lambda_concurrency: Option<usize>,

    /// The application's name, which its state is kept under.
    #[arg(long, env = "SATCHEL_APPLICATION", value_name = "NAME", default_value = "satchel", value_parser = application_name)]
    pub application: String,

    /// How long the answer to an idempotency key is kept.
    #[arg(long, env = "SATCHEL_IDEMPOTENCY_TTL", value_name = "DURATION", default_value = "24h", value_parser = parse_duration)]
    pub idempotency_ttl: Duration,

    /// How long a change may wait for its commit when nothing waits to leave.
    #[arg(long, env = "SATCHEL_COMMIT_INTERVAL", value_name = "DURATION", default_value = "100ms", value_parser = parse_duration)]
    pub commit_interval: Duration,

    /// How many commits may be on their way at once.
    #[arg(long, env = "SATCHEL_COMMIT_DEPTH", value_name = "COUNT", default_value = "4", value_parser = clap::value_parser!(u64).range(1..=satchel_log::DEPTH_MAX))]
    pub commit_depth: u64,

    /// Over so many bytes of waiting messages, ingress pauses and requests are refused for now.
    #[arg(long, env = "SATCHEL_PENDING_LIMIT", value_name = "SIZE", default_value = "256MiB", value_parser = parse_bytes)]
    pub pending_limit: u64,

    /// Over so many bytes of state in memory, what was not used for longest is dropped, and loaded again when it is needed; without a limit
    /// all of it is kept in memory.
    #[arg(long, env = "SATCHEL_MEMORY_LIMIT", value_name = "SIZE", value_parser = parse_bytes)]
    pub memory_limit: Option<u64>,

    /// How log lines are written.
    #[arg(
        long,
        env = "SATCHEL_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub log_format: LogFormat,

    /// What is logged: a level, or tracing's directives such as `info,satchel=debug`.
    #[arg(
        long,
        env = "SATCHEL_LOG",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub log: String,

    /// A file that holds the token for administration. With it, changes need it, and without it nothing but health and metrics is served where
    /// --admin is not an address of this machine alone.
    #[arg(long, env = "SATCHEL_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,

    /// Who may use the ports.
    #[command(flatten)]
    pub ports: PortArgs,

    /// What the application begins with.
    #[command(flatten)]
    pub fork: RestoreArgs,

    /// How state in a bucket is read and written.
    #[command(flatten)]
    pub s3: S3Args,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl DevConfig {
    /// Checks what no single flag shows.
    ///
    /// # Errors
    /// What does not fit together, naming the flags.
    pub fn validated(self) -> Result<Self, String> {
        if self.http == self.admin && self.http.port() != 0 {
            return Err(format!(
                "--http and --admin are both {}: give them two ports",
                self.http
            ));
        }
        if self.ephemeral && self.state.is_some() {
            return Err("--ephemeral keeps no state: leave out --state, or --ephemeral".to_owned());
        }
        self.s3.options()?;
        self.fork.on_hold()?;
        let durations = [
            (
                "--idempotency-ttl",
                self.idempotency_ttl,
                Duration::from_secs(1),
            ),
            (
                "--commit-interval",
                self.commit_interval,
                Duration::from_millis(1),
            ),
        ];
        for (flag, duration, least) in durations {
            if duration < least {
                let least = format_duration(least);
                return Err(format!("{flag} must be at least {least}"));
            }
        }
        if self.pending_limit < 1 << 20 {
            return Err("--pending-limit must be at least 1MiB".to_owned());
        }
        Ok(self)
    }

    /// Where the state is kept.
    pub fn state(&self) -> Place {
        let in_data_dir = || Place::Directory(self.data_dir.join("state"));
        self.state.clone().unwrap_or_else(in_data_dir)
    }

    /// Where the local streams are kept.
    pub fn streams_dir(&self) -> PathBuf {
        self.data_dir.join("streams")
    }
}

/// Names are safe as parts of file names, bucket prefixes and metrics.
pub(crate) fn application_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !begins || text.len() > 64 || !text.chars().all(allowed) {
        return Err(format!(
            "`{text}` is not a name for an application: write 1 to 64 letters, digits, `_` or `-`, a letter or digit first"
        ));
    }
    Ok(text.to_owned())
}
