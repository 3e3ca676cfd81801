//! AWS adapters of the coordinator. Each service is connected through the inputs and outputs of the
//! engine.

pub mod check;
pub mod config;
pub mod egress;
pub mod kinesis;
pub mod lambda;
pub mod lease;
pub mod secret;
pub mod secrets;
pub mod sigv4;
pub mod sqs;
