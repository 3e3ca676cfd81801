//! Links between the processes of an application: any of them answers a request, by asking the
//! owner.
//!
//! ```text
//!  client ─► traffic port ─► forward ─┬─ the owner is here ─► routes ─► Requests
//!                               │     └─ no owner ─► waits
//!                               │ the owner is there
//!                               ▼
//!                             link ══ TLS 1.3, HTTP/2 ══► its peer port ─► admission ─┐
//!                                                   routes ◄─ forward, one hop ◄──────┘
//! ```
//!
//! - [`Identity`] is the key of this process, made at its start and held in memory only. The lease
//!   table names the keys of all processes, so access to that table is what makes a process a
//!   member of the application.
//! - [`Gate`] holds what this process knows of the owner, and counts the requests that it serves
//!   itself, so that a planned stop can wait for them.
//! - [`Forwarder`] is the layer before the routes. Its decisions are those of
//!   [`satchel_engine::forwarding`].
//! - [`Links`] are the connections to other processes, [`serve`] is the port for theirs. Requests
//!   of the traffic port lie under `/traffic` there and those of the administration port under
//!   `/admin`. An application of several partitions uses further paths ([`PartitionPort`]): for
//!   frames between partitions ([`Streams`]), for administration of one partition, and for news of
//!   the roster.

mod administration;
mod forward;
mod gate;
mod identity;
mod link;
mod members;
mod merged;
mod partitions;
mod server;
mod streams;
#[cfg(test)]
mod tests;

pub(crate) use self::forward::{Forwarder, Hop, Surface, layer};
pub(crate) use self::gate::{Gate, PeerOwner};
pub(crate) use self::identity::Identity;
pub(crate) use self::link::Links;
pub(crate) use self::members::{Membership, Registration};
pub(crate) use self::partitions::{PartitionPort, poke, remote};
pub(crate) use self::server::{PeerPortParts, routes, serve};
pub(crate) use self::streams::{Routes, Streams};
