//! The commands that work on a root without a running application: the real binary, on roots that
//! the real `satchel dev` wrote.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod roots;
mod s3;
mod state;
mod tool;
mod verify;
