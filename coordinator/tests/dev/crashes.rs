//! The real `satchel dev` with the greeter's real handler while it is killed, stopped, taken over
//! and rejected. Its clients repeat a request under its `Idempotency-Key` until it is answered, as
//! clients should.

mod kills;
pub(crate) mod load;
mod refusals;
mod stops;
mod takeovers;
mod watching;
