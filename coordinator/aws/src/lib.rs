//! AWS adapters of the coordinator. Each service is connected through the inputs and outputs of the
//! engine.
//!
//! Without the feature `sdk`, the crate has only what a module file needs: settings, selectors, and
//! the interfaces to the partition. Then it depends on no SDK of AWS.

#[cfg(feature = "sdk")]
pub mod check;
pub mod config;
pub mod egress;
#[cfg(feature = "sdk")]
pub mod error_text;
pub mod kinesis;
#[cfg(feature = "sdk")]
pub mod lambda;
#[cfg(feature = "sdk")]
pub mod lease;
#[cfg(feature = "sdk")]
pub mod log_table;
#[cfg(feature = "sdk")]
pub mod msk;
pub mod secret;
#[cfg(feature = "sdk")]
pub mod secrets;
#[cfg(feature = "sdk")]
pub mod server_date;
#[cfg(feature = "sdk")]
pub mod sigv4;
pub mod sqs;
