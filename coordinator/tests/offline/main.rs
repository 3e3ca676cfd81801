//! The tools that work on a root without a running application, as the real binary, on roots that the real `satchel dev` wrote.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod roots;
mod s3;
mod state;
mod tool;
mod verify;
