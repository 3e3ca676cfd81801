//! satchel
pub mod invoker;
pub mod lambda;
pub mod module;
pub mod streams;
