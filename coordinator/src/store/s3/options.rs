//! Options of a bucket.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::request::OnS3Request;

/// Options of a bucket.
#[derive(Clone)]
pub struct S3Options {
    /// Endpoint of S3. `None` for that of the AWS configuration (`AWS_ENDPOINT_URL_S3`,
    /// `AWS_ENDPOINT_URL`, the profile), or S3's own address in the region.
    pub endpoint_url: Option<String>,
    /// Position of the bucket's name in requests.
    pub addressing: Addressing,
    /// Server-side encryption of objects.
    pub encryption: Encryption,
    /// Time limit of a request, to which the transfer of an object adds a second for each MiB.
    /// After it, the outcome is unknown.
    pub timeout: Duration,
    /// Time limit of connecting.
    pub connect_timeout: Duration,
    /// Size of the parts of a large object in bytes, at least S3's minimum of 5 MiB. An object
    /// larger than two parts is stored in parts.
    pub part_bytes: u64,
    /// Number of parts of one object that are stored concurrently.
    pub parallel_parts: usize,
    /// Hook called after every request.
    pub on_request: OnS3Request,
}

/// Position of the bucket's name in requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    /// In the path if an endpoint is set, as most other stores require, else in the host name.
    #[default]
    Automatic,
    /// In the path: `https://host/bucket/key`.
    Path,
    /// In the host name: `https://bucket.host/key`.
    VirtualHost,
}

/// Server-side encryption of objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// Default of the bucket, which is SSE-S3 unless it was changed.
    #[default]
    BucketDefault,
    /// Keys that S3 manages (SSE-S3, AES-256).
    S3,
    /// A key of AWS Key Management Service (SSE-KMS), through a bucket key, so that not every
    /// commit needs a request to that service.
    Kms {
        /// Id, alias or ARN of the key; `None` for the account's key for S3.
        key_id: Option<String>,
    },
}

/// Minimum size of a part other than the last one, in bytes.
#[cfg(feature = "aws")]
const PART_BYTES_MIN: u64 = 5 << 20;

#[cfg(feature = "aws")]
impl S3Options {
    /// Returns the time limit of a request that carries `object_bytes` bytes of an object.
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
