//! What can be set.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::types::ServerSideEncryption;

use super::request::OnS3Request;

/// How a bucket is used.
#[derive(Clone)]
pub struct S3Options {
    /// Where S3 is reached. `None` for what the AWS configuration says (`AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, the profile), and without that
    /// for S3's own address in the region.
    pub endpoint_url: Option<String>,
    /// How the bucket is named in a request.
    pub addressing: Addressing,
    /// How objects are encrypted where they lie.
    pub encryption: Encryption,
    /// How long an answer may take: each request, and each object's transfer, which gets a second more for each MiB. After it the outcome
    /// is unknown.
    pub timeout: Duration,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// The size of the parts of a large object in bytes, at least S3's 5 MiB. An object of more than two of them is stored in parts.
    pub part_bytes: u64,
    /// How many parts of one object are stored at once.
    pub parallel_parts: usize,
    /// Is told about every request.
    pub on_request: OnS3Request,
}

/// How the bucket is named in a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    /// In the path if an endpoint was set, as stand-ins and most other stores want it, else in the host name.
    #[default]
    Automatic,
    /// In the path: `https://host/bucket/key`.
    Path,
    /// In the host name: `https://bucket.host/key`.
    VirtualHost,
}

/// How objects are encrypted where they lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// As the bucket says, which is SSE-S3 unless it was changed.
    #[default]
    BucketDefault,
    /// With keys that S3 keeps (SSE-S3, AES-256).
    S3,
    /// With a key of AWS Key Management Service (SSE-KMS), through a bucket key, so that not every commit is a request to that service.
    Kms {
        /// The key's id, alias or ARN; `None` for the account's own key for S3.
        key_id: Option<String>,
    },
}

/// S3 takes no smaller part, except as the last one.
const PART_BYTES_MIN: u64 = 5 << 20;

impl S3Options {
    /// How long an answer may take that carries so many bytes of an object.
    pub(super) fn limit(&self, object_bytes: u64) -> Duration {
        self.timeout + Duration::from_secs(object_bytes >> 20)
    }

    pub(super) fn part_bytes(&self) -> u64 {
        self.part_bytes.max(PART_BYTES_MIN)
    }
}

impl Default for S3Options {
    fn default() -> Self {
        Self {
            endpoint_url: None,
            addressing: Addressing::default(),
            encryption: Encryption::default(),
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(3),
            part_bytes: 8 << 20,
            parallel_parts: 4,
            on_request: Arc::new(|_| {}),
        }
    }
}

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Options")
            .field("endpoint_url", &self.endpoint_url)
            .field("addressing", &self.addressing)
            .field("encryption", &self.encryption)
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("part_bytes", &self.part_bytes)
            .field("parallel_parts", &self.parallel_parts)
            .finish_non_exhaustive()
    }
}

impl Encryption {
    pub(super) fn algorithm(&self) -> Option<ServerSideEncryption> {
        match self {
            Self::BucketDefault => None,
            Self::S3 => Some(ServerSideEncryption::Aes256),
            Self::Kms { .. } => Some(ServerSideEncryption::AwsKms),
        }
    }

    pub(super) fn key_id(&self) -> Option<String> {
        match self {
            Self::Kms { key_id } => key_id.clone(),
            Self::BucketDefault | Self::S3 => None,
        }
    }

    pub(super) fn bucket_key(&self) -> Option<bool> {
        matches!(self, Self::Kms { .. }).then_some(true)
    }
}
