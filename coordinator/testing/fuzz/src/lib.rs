//! Fuzzes every decoder of foreign bytes with mutations of valid inputs, on stable Rust.
//!
//! ```text
//! seeds (corpus files, output of the real writers) ─► mutate ─► decode ─► outcome
//!                      ▲                                                     │ if it is new
//!                      └─────────────────────────────────────────────────────┘
//! ```
//!
//! Stable Rust offers no coverage feedback, so the text of an outcome stands for the path through
//! the decoder: an input with a new outcome joins the seeds. A decoder may reject any input. It
//! must not panic, hang, or allocate memory out of proportion to its input. Each target runs in a
//! separate worker process with limited address space. The worker writes down every input before
//! decoding it, so the supervisor knows the input even if the worker dies.

pub mod mutate;
pub mod supervisor;
pub mod targets;
pub mod worker;

/// A decoder under test.
pub struct Target {
    /// Name on the command line and of its folder in the corpus.
    pub name: &'static str,
    /// Fragments of its language that mutations insert.
    pub dictionary: &'static [&'static str],
    /// Inputs from the real writers, in addition to the corpus files.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Decodes an input and describes the outcome; panics if the result is impossible.
    pub decode: fn(&[u8]) -> String,
}
