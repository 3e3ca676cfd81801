//! Egress to another Lambda function, asynchronously (`InvocationType: Event`). Takes any typed
//! value, delivers at least once, without an order.
//!
//! The payload is the value as JSON, as described in [`super::content`]. With the envelope it is
//! `{"satchel":1,"id":…,"typename":…,"data":<the value>}`, or has `"base64"` instead of `"data"` if
//! the value is not JSON.

mod payload;
#[cfg(feature = "sdk")]
mod service;

pub use payload::payload;
#[cfg(feature = "sdk")]
pub use service::LambdaService;

/// Maximum payload of an asynchronous invocation in bytes.
pub(super) const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Settings of an egress to Lambda, from its module file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LambdaSettings {
    /// Name or ARN of the function.
    pub function_name: String,
    /// A version or alias.
    pub qualifier: Option<String>,
    /// Adds id and typename to the payload.
    pub envelope: bool,
}
