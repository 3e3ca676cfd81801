//! Feeds every decoder that reads what others wrote with inputs that are almost right, on stable Rust.
//!
//! ```text
//! seeds (corpus files, and what the real writers write) ─► mutate ─► decode ─► outcome
//!                      ▲                                                          │ one that was not seen before
//!                      └──────────────────────────────────────────────────────────┘
//! ```
//!
//! Without the compiler's coverage, what a decoder says is taken for the path that it took: an input with an outcome that no other had joins the
//! seeds. A decoder may refuse what it likes; it may not panic, hang, or ask for memory that its input does not account for. A worker
//! process of its own runs each target, under a limit of its address space, and writes down every input before it is tried; so whatever happens to
//! the worker, the supervisor has the input.

pub mod mutate;
pub mod supervisor;
pub mod targets;
pub mod worker;

/// A decoder under test.
pub struct Target {
    /// Its name on the command line, and of its folder in the corpus.
    pub name: &'static str,
    /// Words of its language, for mutations.
    pub words: &'static [&'static str],
    /// Inputs that the real writers make, besides the files of the corpus.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Decodes, and says what came out; panics if what came out cannot be.
    pub decode: fn(&[u8]) -> String,
}
