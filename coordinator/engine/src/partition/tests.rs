//! Stories about one partition: what it is told, and everything that it then wants done.

mod answering;
mod arriving;
mod failing;
mod holding;
mod recovering;
mod remembering;
mod scene;
