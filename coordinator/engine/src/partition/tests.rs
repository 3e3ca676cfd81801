//! Stories about one partition: what it is told, and everything that it then wants done.

mod answering;
mod arriving;
mod counting;
mod dropping;
mod failing;
mod holding;
mod library;
mod loading;
mod outlasting;
mod queueing;
mod recovering;
mod remembering;
mod scene;
