//! The configuration of `satchel run`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{BoolishValueParser, NonEmptyStringValueParser};

use super::{LogFormat, PortArgs, RestoreArgs, S3Args, application_name};
use crate::module::{format_duration, parse_bytes, parse_duration};
use crate::store::Place;

/// Configuration of `satchel run`. Made by clap, then checked with [`RunConfig::validated`]. Holds no secrets, only where they are.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RunConfig {
    /// Module files, or directories that hold a module.yaml; several in SATCHEL_MODULE are separated by commas.
    #[arg(
        long = "module",
        env = "SATCHEL_MODULE",
        value_name = "FILE",
        required = true,
        num_args = 1..,
        value_delimiter = ','
    )]
    pub modules: Vec<PathBuf>,

    /// Where state is kept: s3://bucket/prefix, or a directory that no other machine uses.
    #[arg(long, env = "SATCHEL_STATE", value_name = "PLACE")]
    pub state: Place,

    /// The DynamoDB table that says who owns the application (partition key `pk`, a string). Needed for state in a bucket.
    #[arg(long, env = "SATCHEL_LEASE_TABLE", value_name = "TABLE", value_parser = NonEmptyStringValueParser::new())]
    pub lease_table: Option<String>,

    /// Make the lease table if there is none.
    #[arg(long, env = "SATCHEL_CREATE_LEASE_TABLE", value_parser = BoolishValueParser::new())]
    pub create_lease_table: bool,

    /// How long an owner must be silent before a standby takes over.
    #[arg(long, env = "SATCHEL_LEASE_TIME", value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub lease_time: Duration,

    /// Where other processes of the application reach the administration port of this one; without it, the address that --admin has, or the
    /// machine's own if that is all of its addresses.
    #[arg(long, env = "SATCHEL_ADVERTISE", value_name = "HOST:PORT")]
    pub advertise: Option<String>,

    /// The application's name, which its state is kept under.
    #[arg(long, env = "SATCHEL_APPLICATION", value_name = "NAME", default_value = "satchel", value_parser = application_name)]
    pub application: String,

    /// Where calls and sends are served; port 0 takes a free one.
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

    /// A file that holds the token for administration. Without one nothing can be changed over the administration port, and beyond this
    /// machine nothing but health and metrics is served there.
    #[arg(
        long,
        env = "SATCHEL_ADMIN_TOKEN_FILE",
        value_name = "FILE",
        conflicts_with = "admin_token_secret"
    )]
    pub admin_token_file: Option<PathBuf>,

    /// The secret of AWS Secrets Manager (name or ARN) that holds the token for administration.
    #[arg(long, env = "SATCHEL_ADMIN_TOKEN_SECRET", value_name = "SECRET")]
    pub admin_token_secret: Option<String>,

    /// The secret of AWS Secrets Manager (name or ARN) that holds the token for traffic.
    #[arg(
        long,
        env = "SATCHEL_HTTP_TOKEN_SECRET",
        value_name = "SECRET",
        conflicts_with = "http_token_file"
    )]
    pub http_token_secret: Option<String>,

    /// Who may use the ports.
    #[command(flatten)]
    pub ports: PortArgs,

    /// How long stopping may take, from the signal to the end: most of it for what is in flight, the rest for giving the lease back. Must be less
    /// than what the environment waits before it kills (ECS: stopTimeout, 30 s unless set).
    #[arg(long, env = "SATCHEL_STOP_TIMEOUT", value_name = "DURATION", default_value = "25s", value_parser = parse_duration)]
    pub stop_timeout: Duration,

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

    /// How long any moment of the past can be read or restored: so long is kept what snapshots no longer need. Without it, only the present.
    #[arg(long, env = "SATCHEL_RETENTION", value_name = "DURATION", value_parser = parse_duration)]
    pub retention: Option<Duration>,

    /// How log lines are written.
    #[arg(
        long,
        env = "SATCHEL_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "json"
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

    /// What the application begins with.
    #[command(flatten)]
    pub fork: RestoreArgs,

    /// How state in a bucket is read and written.
    #[command(flatten)]
    pub s3: S3Args,
}

impl RunConfig {
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
        self.fork.on_hold()?;
        if matches!(self.state, Place::S3(_)) && self.lease_table.is_none() {
            return Err("--state in a bucket is shared by machines: name a --lease-table, by which they agree who owns it".to_owned());
        }
        if self.create_lease_table && self.lease_table.is_none() {
            return Err("--create-lease-table needs a --lease-table to make".to_owned());
        }
        self.s3.options()?;
        let second = Duration::from_secs(1);
        let durations = [
            ("--lease-time", self.lease_time, second, second * 600),
            ("--stop-timeout", self.stop_timeout, second, second * 3600),
            (
                "--idempotency-ttl",
                self.idempotency_ttl,
                second,
                Duration::MAX,
            ),
            (
                "--commit-interval",
                self.commit_interval,
                Duration::from_millis(1),
                second * 60,
            ),
        ];
        for (flag, duration, least, most) in durations {
            if duration < least {
                let least = format_duration(least);
                return Err(format!("{flag} must be at least {least}"));
            }
            if duration > most {
                let most = format_duration(most);
                return Err(format!("{flag} must be at most {most}"));
            }
        }
        if self.pending_limit < 1 << 20 {
            return Err("--pending-limit must be at least 1MiB".to_owned());
        }
        if let Some(address) = &self.advertise {
            check_host_and_port(address).map_err(|why| format!("--advertise {address}: {why}"))?;
        }
        Ok(self)
    }

    /// How long what is in flight may go on after a signal; what is left of the stop time is for the commit and the lease.
    pub fn drain_limit(&self) -> Duration {
        self.stop_timeout * 4 / 5
    }
}

fn check_host_and_port(text: &str) -> Result<(), String> {
    let wrong = || "write host:port".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    if host.is_empty() || port == 0 || !host.chars().all(allowed) {
        return Err(wrong());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: RunConfig,
    }

    fn parse(arguments: &[&str]) -> Result<RunConfig, String> {
        let line = ["satchel", "--module", "module.yaml"];
        let line = line.into_iter().chain(arguments.iter().copied());
        let line = Line::try_parse_from(line).map_err(|error| error.to_string())?;
        line.run.validated()
    }

    const BUCKET: [&str; 4] = ["--state", "s3://bucket/shop", "--lease-table", "leases"];

    fn refusal(further: &[&str]) -> String {
        parse(&[&BUCKET, further].concat()).expect_err("it should be refused")
    }

    #[test]
    fn the_readme_names_every_flag() {
        let readme = include_str!("../../../README.md");
        let (_, deploy) = readme.split_once("\n## Deploy\n").unwrap();
        let (deploy, _) = deploy.split_once("\n## ").unwrap();
        let line = Line::command();
        let flags: Vec<&str> = line
            .get_arguments()
            .filter_map(|arg| arg.get_long())
            .collect();
        assert!(flags.len() > 20, "{flags:?}");
        for flag in flags {
            let named =
                deploy.contains(&format!("`--{flag}`")) || deploy.contains(&format!("`--{flag} "));
            assert!(named, "--{flag}");
        }
    }

    #[test]
    fn what_fits_together_is_taken() {
        let config = parse(&BUCKET).unwrap();
        assert_eq!(config.lease_time, Duration::from_secs(10));
        assert_eq!(config.stop_timeout, Duration::from_secs(25));
        assert_eq!(config.drain_limit(), Duration::from_secs(20));
        assert_eq!(config.log_format, LogFormat::Json);
        let config = parse(&["other.yaml", "--state", "state"]).unwrap();
        assert_eq!(config.modules.len(), 2);
    }

    #[test]
    fn what_does_not_is_refused_by_its_flags() {
        let refused = parse(&["--state", "s3://bucket/shop"]).unwrap_err();
        assert!(refused.contains("--lease-table"), "{refused}");
        for (further, named) in [
            (&["--lease-time", "10ms"][..], "--lease-time"),
            (&["--stop-timeout", "0ms"], "--stop-timeout"),
            (&["--advertise", "10.0.0.1"], "--advertise"),
            (&["--advertise", "http://a:1"], "--advertise"),
            (&["--pending-limit", "1KiB"], "--pending-limit"),
            (&["--s3-kms-key", "k"], "--s3-kms-key"),
            (
                &["--admin-token-file", "a", "--admin-token-secret", "b"],
                "--admin-token",
            ),
        ] {
            let refused = refusal(further);
            assert!(refused.contains(named), "{refused}");
        }
    }
}
