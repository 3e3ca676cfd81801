//! State in Amazon S3, or in a store that speaks its protocol.

#[cfg(feature = "aws")]
pub use self::store::S3Store;

pub use self::options::{Addressing, Encryption, S3Options};
pub use self::request::{OnS3Request, S3Operation, S3Outcome, S3Request};
pub use self::url::{S3Url, S3UrlError};

mod options;
mod request;
#[cfg(feature = "aws")]
mod store;
mod url;
