//! Configuration of `satchel dev`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;

use super::{LogFormat, ProcessArgs};
use crate::store::StateLocation;

/// Configuration of `satchel dev`, parsed by clap and then checked with [`DevConfig::validated`].
#[derive(Debug, Clone, PartialEq, Args)]
pub struct DevConfig {
    /// Module files, or directories that contain a module.yaml
    #[arg(value_name = "PATH", default_value = ".")]
    pub paths: Vec<PathBuf>,

    /// Rebuild and restart handlers when their sources change, and start the application again when
    /// a module file changes
    #[arg(
        long,
        env = "SATCHEL_WATCH",
        value_parser = BoolishValueParser::new()
    )]
    pub watch: bool,

    /// Build handlers in cargo's release profile
    ///
    /// Without it they are built in the profile for development, in half the time, and share what
    /// `cargo test` has built.
    #[arg(
        long,
        env = "SATCHEL_RELEASE",
        value_parser = BoolishValueParser::new()
    )]
    pub release: bool,

    /// Directory of the local streams, and of the state unless --state is set
    #[arg(
        long,
        env = "SATCHEL_DATA_DIR",
        value_name = "DIRECTORY",
        default_value = ".satchel"
    )]
    pub data_dir: PathBuf,

    /// Location of the state: s3://bucket/prefix or a directory [default: `state` in the data
    /// directory]
    #[arg(long, env = "SATCHEL_STATE", value_name = "LOCATION")]
    pub state: Option<StateLocation>,

    /// Keep state and streams in memory only; they are lost when the process ends
    #[arg(
        long,
        env = "SATCHEL_EPHEMERAL",
        value_parser = BoolishValueParser::new()
    )]
    pub ephemeral: bool,

    /// Format of log lines
    #[arg(
        long,
        env = "SATCHEL_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub log_format: LogFormat,

    /// Read Kinesis ingresses from AWS (or the endpoint in the module file) instead of local
    /// streams
    #[arg(
        long,
        env = "SATCHEL_KINESIS_INGRESS",
        value_parser = BoolishValueParser::new()
    )]
    pub kinesis_ingress: bool,

    /// Use the services of AWS that SQS ingresses and SQS, SNS, EventBridge, DynamoDB and Lambda
    /// egresses name, instead of local streams
    ///
    /// Without it, only a module file with `awsRegion: {type: custom-endpoint}` uses its service.
    #[arg(
        long,
        env = "SATCHEL_AWS",
        value_parser = BoolishValueParser::new()
    )]
    pub aws: bool,

    /// Read and write the topics of Kafka ingresses and egresses at their brokers instead of local
    /// streams
    ///
    /// Needs a build with the cargo feature `kafka`.
    #[arg(
        long,
        env = "SATCHEL_KAFKA",
        value_parser = BoolishValueParser::new()
    )]
    pub kafka: bool,

    /// Also serve the local streams through the Kinesis API at this address; port 0 picks a free
    /// port
    ///
    /// There is no TLS, and signatures are not checked.
    #[arg(long, env = "SATCHEL_KINESIS_API", value_name = "ADDRESS:PORT")]
    pub kinesis_api: Option<SocketAddr>,

    /// Lift the Kinesis API's limits of 1 MiB and 1,000 records per second and shard
    #[arg(
        long,
        env = "SATCHEL_KINESIS_UNLIMITED",
        value_parser = BoolishValueParser::new()
    )]
    pub kinesis_unlimited: bool,

    /// Also serve the Lambda functions through AWS's Invoke API at this address; port 0 picks a
    /// free port
    #[arg(long, env = "SATCHEL_LAMBDA_API", value_name = "ADDRESS:PORT")]
    pub lambda_api: Option<SocketAddr>,

    /// Maximum number of concurrent --lambda-api requests per function; further ones are answered
    /// with 429
    #[arg(
        long,
        env = "SATCHEL_LAMBDA_CONCURRENCY",
        value_name = "COUNT",
        requires = "lambda_api"
    )]
    pub lambda_concurrency: Option<usize>,

    /// Settings shared with `satchel run`.
    #[command(flatten)]
    pub process: ProcessArgs,
}

impl DevConfig {
    /// Checks the values that clap cannot check one by one.
    ///
    /// # Errors
    ///
    /// The first value, or combination of values, that is wrong, with the names of its flags.
    pub fn validated(self) -> Result<Self, String> {
        self.process.validate()?;
        if self.ephemeral && self.state.is_some() {
            return Err(
                "--ephemeral keeps no state: omit either --state or --ephemeral".to_owned(),
            );
        }
        let state = self.state();
        let state = (!self.ephemeral).then_some(&state);
        self.process.commit_log.validate(state)?;
        Ok(self)
    }

    /// Location of the state.
    pub fn state(&self) -> StateLocation {
        let in_data_dir = || StateLocation::Directory(self.data_dir.join("state"));
        self.state.clone().unwrap_or_else(in_data_dir)
    }

    /// Directory of the local streams.
    pub fn streams_dir(&self) -> PathBuf {
        self.data_dir.join("streams")
    }
}
