//! Messages to and from the other partitions of the application.
//!
//! ```text
//!  deliver ─► out(r, n) ──seal──► delta ── CommitDurable ──► Sender ──► PeerFrame ─► partition r
//!                                                              ▲                        │
//!   mailbox ◄── PeerFrame ◄── partition s      acked(r, n) ◄── PeerAnswered ◄── durable there
//! ```
//!
//! A message to an address of another partition becomes an entry of the delta of its cause, with
//! the next number of the pair. It leaves once that delta is durable, and stays until the receiver
//! has acknowledged it. A message of another partition enters its mailbox in the same delta as its
//! number, and is acknowledged once that delta is durable. The rules are those of [`crate::link`].
//!
//! The time of a delta that takes a message or an acknowledgement is not earlier than that of the
//! other partition's delta. So the deltas of all partitions up to any moment are a consistent cut.
//! That time decides nothing else: timers and expiries follow the partition's own time.
//!
//! Credit depends on mailboxes only, never on messages to other partitions. Otherwise two
//! partitions that are full of messages for each other would wait for each other forever.

mod receiving;
mod sending;

use std::collections::{BTreeMap, VecDeque};

use super::calls::is_caller;
use super::{Config, Partition, Stopping};
use crate::address::{Address, RESERVED_NAMESPACE};
use crate::durable::Acknowledged;
use crate::link::{Receiver, Sender};
use crate::placement::{KeyGroup, PartitionMap};
use crate::tables::Tables;

/// Generation of an application: a division of its key groups into partitions that never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// Number of the generation.
    pub number: u64,
    /// Partitions of key groups.
    pub partitions: PartitionMap,
}

impl Config {
    /// Returns the partition that owns an address, if the application has several and one does.
    /// That of a caller is in the id of its call: the partition of the call's target. Other
    /// reserved addresses stay where they are.
    pub fn partition_of(&self, address: &Address) -> Option<u32> {
        let generation = self.generation.as_ref()?;
        Some(
            generation
                .partitions
                .partition_of(self.sender_key_group(address)?),
        )
    }

    /// Returns the key group of an address, unless it is reserved and belongs to no call.
    fn sender_key_group(&self, address: &Address) -> Option<KeyGroup> {
        if address.function.namespace() == RESERVED_NAMESPACE {
            let named = is_caller(address).then(|| self.placement.named_by(address));
            return named.flatten();
        }
        Some(self.placement.key_group(address))
    }
}

/// The links to the other partitions, at one owner.
pub(super) struct Peers {
    links: BTreeMap<u32, PeerLink>,
    /// Partition at the other end of each connection that this owner uses for sending.
    outgoing: BTreeMap<u64, u32>,
    /// Partition at the other end of each connection that brings frames.
    incoming: BTreeMap<u64, u32>,
    /// Deltas that are not durable, with their times: number, then ms since the epoch.
    sealed: VecDeque<(u64, u64)>,
    /// True while this partition says that its messages to others exceed half of the limit.
    is_congested: bool,
    /// True while any partition of the application says so.
    application_is_congested: bool,
}

/// The link to one other partition.
struct PeerLink {
    /// Its messages are in the tables.
    sender: Sender<()>,
    /// True if there may be a frame to send.
    may_send: bool,
    receiver: Receiver,
    /// Connections that bring frames; true if the last answer over one gave no credit.
    incoming: BTreeMap<u64, bool>,
    /// Size of the messages taken since the last answer, in bytes.
    unanswered_bytes: u64,
    /// True while frames are ignored until pending buckets are loaded.
    awaits_buckets: bool,
    /// True once one side is known to be damaged. Nothing is sent or taken any more.
    is_damaged: bool,
}

impl Peers {
    /// Begins an ownership period with the durable facts, whose last delta has this time.
    pub(super) fn start(
        generation: &Generation,
        own: u32,
        tables: &Tables,
        epoch: u64,
        committed_at_ms: u64,
    ) -> Self {
        let others = generation.partitions.partitions();
        let others = others.filter(|(partition, _)| *partition != own);
        let links = others
            .map(|(peer, _)| {
                let facts = tables.links.get(peer);
                let Acknowledged {
                    upto,
                    epoch: receiver_epoch,
                } = facts.map_or_else(Acknowledged::default, |facts| facts.acknowledged);
                let mut sender = Sender::start(upto, receiver_epoch);
                for (number, message) in facts.into_iter().flat_map(|facts| facts.out()) {
                    sender.release(number, (), message.bytes() as u64, committed_at_ms);
                }
                let taken = facts.map_or(0, |facts| facts.taken);
                let link = PeerLink {
                    sender,
                    may_send: false,
                    receiver: Receiver::start(epoch, taken, committed_at_ms),
                    incoming: BTreeMap::new(),
                    unanswered_bytes: 0,
                    awaits_buckets: false,
                    is_damaged: false,
                };
                (peer, link)
            })
            .collect();
        Self {
            links,
            outgoing: BTreeMap::new(),
            incoming: BTreeMap::new(),
            sealed: VecDeque::new(),
            is_congested: false,
            application_is_congested: false,
        }
    }

    /// Records the time of a sealed delta.
    pub(super) fn delta_sealed(&mut self, number: u64, time_ms: u64) {
        self.sealed.push_back((number, time_ms));
    }

    /// Forgets the times of deltas that are durable and whose releases were performed.
    pub(super) fn deltas_durable(&mut self, through: u64) {
        let durable = self
            .sealed
            .partition_point(|(number, _)| *number <= through);
        self.sealed.drain(..durable);
    }

    /// Time of a delta whose releases are performed.
    fn time_of(&self, delta: u64) -> Option<u64> {
        let at = self.sealed.partition_point(|(number, _)| *number < delta);
        let (number, time_ms) = self.sealed.get(at)?;
        (*number == delta).then_some(*time_ms)
    }

    /// True while any partition of the application has too many messages for others.
    pub(super) fn is_congested(&self) -> bool {
        self.is_congested || self.application_is_congested
    }
}

impl Partition {
    /// Returns the partition that owns an address, unless that is this one.
    pub(super) fn owner_elsewhere(&self, address: &Address) -> Option<u32> {
        let partition = self.config.partition_of(address)?;
        (partition != self.config.partition).then_some(partition)
    }

    /// Returns whether ingress and callers must wait because some partition of the application has
    /// too many messages for others.
    pub(super) fn is_congested(&self) -> bool {
        self.peers
            .as_ref()
            .is_some_and(|peers| peers.is_congested())
    }

    pub(super) fn peer_disconnected(&mut self, connection: u64) {
        let Some(peers) = &mut self.peers else { return };
        if let Some(peer) = peers.outgoing.remove(&connection)
            && let Some(link) = peers.links.get_mut(&peer)
        {
            link.sender.disconnected(connection);
        }
        if let Some(peer) = peers.incoming.remove(&connection)
            && let Some(link) = peers.links.get_mut(&peer)
        {
            link.incoming.remove(&connection);
        }
    }

    pub(super) fn application_congested(&mut self, congested: bool) {
        if let Some(peers) = &mut self.peers {
            peers.application_is_congested = congested;
        }
    }

    /// Sends what may be sent to other partitions: frames, and answers that give new credit.
    pub(super) fn poll_peers(&mut self) {
        if self.peers.is_none() || self.stopping == Stopping::Stopped {
            return;
        }
        self.renew_answers();
        self.send_frames();
        self.regulate_congestion();
    }
}
