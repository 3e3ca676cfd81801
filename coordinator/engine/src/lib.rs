//! The pure core of Satchel.

pub mod address;
pub mod dispatcher;
pub mod durable;
pub mod endpoint;
pub mod input;
pub mod invocation;
pub mod message;
pub mod output;
pub mod partition;
pub mod position;
mod tables;
