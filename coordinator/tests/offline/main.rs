//! The tools that work on a root without a running application, as the real binary, on roots that the real `satchel dev` wrote.

mod roots;
mod state;
mod tool;
mod verify;
