//! Roots of durable data that are made of something else: a fork of another root, or an import of states.
//!
//! ```text
//! maker: create unfinished/<nonce> ─► take over ─► fill, under a hold that says so ─► last delta durable ─► delete the marks
//! owner: any mark? ─► take over ─► any mark? ─► does the hold say that it is being filled? ─► serve
//! ```
//!
//! No part is ever taken for the whole, wherever a maker dies, and whoever makes it again goes on ([`Filling`]). An owner looks for that when it
//! takes over ([`take_over`], [`refuse_filling`]).
//!
//! Nothing here spawns, sleeps or reads a clock by itself, as in `satchel-log`: the same code runs in production and in a simulation.

#![warn(missing_docs)]

pub use content::{Content, ReadError};
pub use filling::{Filling, MakeError, NewRoot};
pub use unfinished::{Refusal, refuse_filling, refuse_unfinished, take_over, unfinished};

mod content;
mod filling;
#[cfg(test)]
mod tests;
mod unfinished;
