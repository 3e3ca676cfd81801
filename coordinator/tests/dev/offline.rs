//! The commands that work on a root without a running application: the real binary, on roots that
//! the real `satchel dev` wrote.

mod export;
pub(crate) mod roots;
mod s3;
mod state;
pub(crate) mod tool;
mod verify;
