//! Behaviour of one partition: inputs, and the complete outputs that follow.

mod answering;
mod arriving;
mod bulk;
mod counting;
mod declaring;
mod dropping;
mod evicting;
mod failing;
mod fixture;
mod holding;
mod library;
mod limiting;
mod loading;
mod observing;
mod outlasting;
mod pacing;
mod pausing;
mod peering;
mod placing;
mod queueing;
mod recovering;
mod rejecting;
mod remembering;
mod spilling;
mod suspending;
mod telling;
