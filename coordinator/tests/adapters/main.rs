//! The adapters around the engine, linked as a library: invokers, dev's Lambda, and the stores.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod aws_lambda;
mod check_aws;
mod http_invoker;
mod https_invoker;
mod keepalive;
mod local_lambda;
mod log_over_directory;
mod priced;
mod s3;
