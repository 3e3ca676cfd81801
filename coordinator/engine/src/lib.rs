//! The pure core of Satchel.

pub mod address;
pub mod endpoint;
pub mod invocation;
