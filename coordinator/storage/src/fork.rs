//! New roots made from existing content: a fork of another root, or an import of states.
//!
//! ```text
//! writer: create unfinished/<nonce> ─► take over ─► write content under a hold that says
//!         "filling" ─► last delta durable ─► delete the marks
//! owner:  any mark? ─► take over ─► any mark? ─► does the hold say "filling"? ─► serve
//! ```
//!
//! An owner never takes a partial root for a whole one, wherever a writer dies. The next writer
//! resumes an unfinished root ([`RootWriter::begin`]). An owner checks for unfinished roots when it
//! takes over ([`take_over`], [`refuse_filling`]).

mod content;
mod root_writer;
#[cfg(test)]
mod tests;
mod unfinished;

pub use content::{Content, ReadError};
pub use root_writer::{CreateError, NewRoot, RootWriter};
pub use unfinished::{
    Refusal, read_ahead, refuse_filling, refuse_unfinished, take_over, take_over_from,
    take_over_with, unfinished_marks,
};
