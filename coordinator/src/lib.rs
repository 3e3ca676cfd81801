//! satchel
pub mod cli;
pub mod config;
pub mod http;
pub mod invoker;
pub mod lambda;
pub mod metrics;
pub mod module;
pub mod requests;
pub mod store;
pub mod streams;
