//! Ingresses: what reads streams for a partition.

pub mod local_stream;
pub mod routing;
