//! StateFun's request-reply messages, package `io.statefun.sdk.reqreply`.

#![allow(
    missing_docs,
    reason = "generated; the .proto text documents the messages"
)]
#![allow(clippy::all, reason = "generated")]

include!(concat!(env!("OUT_DIR"), "/io.statefun.sdk.reqreply.rs"));

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.r#type, self.id)
    }
}
