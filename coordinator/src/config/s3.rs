//! Flags about state in a bucket.

use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

use crate::module::parse_duration;
use crate::store::s3::{Addressing, Encryption, S3Options};

/// Access to state in a bucket. Region, credentials and endpoint are those that the AWS SDKs find:
/// `AWS_REGION`, `AWS_PROFILE`, the role of the container or machine, `AWS_ENDPOINT_URL` and so on.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "State in S3")]
pub struct S3Args {
    /// Server-side encryption of objects
    #[arg(
        long,
        env = "SATCHEL_S3_SSE",
        value_name = "ENCRYPTION",
        default_value = "bucket"
    )]
    pub s3_sse: S3Sse,

    /// KMS key for `--s3-sse kms`: id, alias or ARN [default: the account's key for S3]
    #[arg(long, env = "SATCHEL_S3_KMS_KEY", value_name = "KEY")]
    pub s3_kms_key: Option<String>,

    /// Retry a request to S3 after this time plus one second for each MiB
    #[arg(
        long,
        env = "SATCHEL_S3_TIMEOUT",
        value_name = "DURATION",
        default_value = "10s",
        value_parser = s3_timeout
    )]
    pub s3_timeout: Duration,

    /// Put the bucket's name in the path of a request, not in the host name; always so where an
    /// endpoint is set
    #[arg(
        long,
        env = "SATCHEL_S3_PATH_STYLE",
        value_parser = BoolishValueParser::new()
    )]
    pub s3_path_style: bool,
}

/// Server-side encryption of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum S3Sse {
    /// Default of the bucket
    Bucket,
    /// Keys that S3 manages (SSE-S3)
    S3,
    /// A key of AWS Key Management Service (SSE-KMS)
    Kms,
}

impl S3Args {
    /// Returns the options of the store.
    ///
    /// # Errors
    ///
    /// The combination of flags that is wrong.
    pub fn options(&self) -> Result<S3Options, String> {
        if self.s3_kms_key.is_some() && self.s3_sse != S3Sse::Kms {
            return Err("--s3-kms-key needs --s3-sse kms".to_owned());
        }
        Ok(S3Options {
            addressing: if self.s3_path_style {
                Addressing::Path
            } else {
                Addressing::Automatic
            },
            encryption: match self.s3_sse {
                S3Sse::Bucket => Encryption::BucketDefault,
                S3Sse::S3 => Encryption::S3,
                S3Sse::Kms => Encryption::Kms {
                    key_id: self.s3_kms_key.clone(),
                },
            },
            timeout: self.s3_timeout,
            ..S3Options::default()
        })
    }
}

impl Default for S3Args {
    fn default() -> Self {
        Self {
            s3_sse: S3Sse::Bucket,
            s3_kms_key: None,
            s3_timeout: Duration::from_secs(10),
            s3_path_style: false,
        }
    }
}

fn s3_timeout(text: &str) -> Result<Duration, String> {
    let timeout = parse_duration(text).map_err(|error| error.to_string())?;
    if timeout < Duration::from_secs(1) {
        return Err("must be at least 1s".to_owned());
    }
    Ok(timeout)
}
