//! What is asked of S3, and what it costs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// An operation of the S3 API.
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
    /// All of them.
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

    /// The name that the S3 API gives it.
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

    /// What one request costs in 10⁻⁹ US dollars: the list price of S3 Standard in us-east-1 ($0.005 per 1,000 PUT, POST and LIST
    /// requests, $0.0004 per 1,000 GET requests, nothing for deleting and for cancelling). Other regions and storage classes differ.
    #[must_use]
    pub fn price_nanodollars(self) -> u64 {
        match self {
            Self::PutObject
            | Self::ListObjectsV2
            | Self::CreateMultipartUpload
            | Self::UploadPart
            | Self::CompleteMultipartUpload => 5_000,
            Self::GetObject => 400,
            Self::DeleteObject | Self::DeleteObjects | Self::AbortMultipartUpload => 0,
        }
    }
}

impl fmt::Display for S3Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum S3Outcome {
    /// It did what it was asked.
    Done,
    /// The answer is no, as it may be: the object exists already, or there is none.
    Refused,
    /// No answer, or one that asks for another try (`409`, `503`, …).
    Unavailable,
    /// Refused for good.
    Fatal,
}

/// One HTTP request to S3, after its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct S3Request {
    /// What was asked.
    pub operation: S3Operation,
    /// How it ended.
    pub outcome: S3Outcome,
    /// Bytes of objects that it carried, in either direction; 0 if it failed.
    pub object_bytes: u64,
    /// From the first byte sent to the last byte received.
    pub elapsed: Duration,
}

/// Is told about every request: the hook for metrics. A request whose future is dropped before its end is not told.
pub type OnS3Request = Arc<dyn Fn(S3Request) + Send + Sync>;
