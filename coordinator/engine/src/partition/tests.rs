//! Behaviour of one partition: inputs, and the complete outputs that follow.

mod answering;
mod arriving;
mod counting;
mod evicting;
mod failing;
mod fixture;
mod holding;
mod library;
mod loading;
mod observing;
mod outlasting;
mod queueing;
mod recovering;
mod remembering;
