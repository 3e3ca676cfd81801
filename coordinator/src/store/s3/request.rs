//! Requests to S3 and their prices, for metrics.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::cost::Prices;

/// Operation of the S3 API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum S3Operation {
    /// Stores an object of one part.
    PutObject,
    /// Reads an object, or a part of one.
    GetObject,
    /// Lists up to 1000 objects.
    ListObjectsV2,
    /// Removes one object, if it is the one that was read.
    DeleteObject,
    /// Removes up to 1000 objects.
    DeleteObjects,
    /// Begins an object of several parts.
    CreateMultipartUpload,
    /// Stores one of the parts.
    UploadPart,
    /// Makes the parts an object.
    CompleteMultipartUpload,
    /// Drops the parts.
    AbortMultipartUpload,
}

impl S3Operation {
    /// All operations.
    pub const ALL: [Self; 9] = [
        Self::PutObject,
        Self::GetObject,
        Self::ListObjectsV2,
        Self::DeleteObject,
        Self::DeleteObjects,
        Self::CreateMultipartUpload,
        Self::UploadPart,
        Self::CompleteMultipartUpload,
        Self::AbortMultipartUpload,
    ];

    /// Name in the S3 API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PutObject => "PutObject",
            Self::GetObject => "GetObject",
            Self::ListObjectsV2 => "ListObjectsV2",
            Self::DeleteObject => "DeleteObject",
            Self::DeleteObjects => "DeleteObjects",
            Self::CreateMultipartUpload => "CreateMultipartUpload",
            Self::UploadPart => "UploadPart",
            Self::CompleteMultipartUpload => "CompleteMultipartUpload",
            Self::AbortMultipartUpload => "AbortMultipartUpload",
        }
    }

    /// Price of a request in 10⁻⁹ US dollars, by [`Prices::LIST`]. Deletions and aborts cost
    /// nothing. Other regions and storage classes differ.
    #[must_use]
    pub fn price_nanodollars(self) -> u64 {
        match self {
            Self::PutObject
            | Self::ListObjectsV2
            | Self::CreateMultipartUpload
            | Self::UploadPart
            | Self::CompleteMultipartUpload => nanodollars(Prices::LIST.s3_put_million),
            Self::GetObject => nanodollars(Prices::LIST.s3_get_million),
            Self::DeleteObject | Self::DeleteObjects | Self::AbortMultipartUpload => 0,
        }
    }
}

impl fmt::Display for S3Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Price of one request in 10⁻⁹ dollars, from that of a million in dollars.
fn nanodollars(million: f64) -> u64 {
    (million * 1e3).round() as u64
}

/// Outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum S3Outcome {
    /// The request succeeded.
    Done,
    /// An expected negative answer: the object exists already, or does not exist.
    Refused,
    /// No answer, or one that asks for a retry (`409`, `503`, …).
    Unavailable,
    /// A final error.
    Fatal,
}

/// Completed HTTP request to S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct S3Request {
    /// Operation of the request.
    pub operation: S3Operation,
    /// Outcome of the request.
    pub outcome: S3Outcome,
    /// Object bytes that it carried, in either direction; 0 after a failure.
    pub object_bytes: u64,
    /// Duration from the first byte sent to the last byte received.
    pub elapsed: Duration,
}

/// Hook called after every request, for metrics. A request whose future is dropped is not reported.
pub type OnS3Request = Arc<dyn Fn(S3Request) + Send + Sync>;
