//! Egress to another Lambda function, asynchronously (`InvocationType: Event`). Takes any typed
//! value, delivers at least once, without an order.
//!
//! The payload is the value as JSON, as described in [`super::content`]. With the envelope it is
//! `{"satchel":1,"id":…,"typename":…,"data":<the value>}`, or has `"base64"` instead of `"data"` if
//! the value is not JSON.

#[cfg(feature = "sdk")]
mod service;

#[cfg(feature = "sdk")]
pub use service::LambdaService;

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
