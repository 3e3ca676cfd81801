//! Messages of queues: each is applied once, however often the queue hands it out, and given back to be deleted when that is durable.

use std::sync::Arc;

use super::Partition;
use super::agenda::Due;
use super::arrivals::Origin;
use super::commits::Release;
use crate::durable::Key;
use crate::queue::{QueuedId, QueuedMessage};

/// Ids are forgotten by the minute, so that what is due is few things however many ids there are.
const EXPIRY_GRAIN_MS: u64 = 60_000;

impl Partition {
    /// Receiving begins at once, or when a hold is lifted: there is no position to wait for.
    pub(super) fn queue_found(&mut self, ingress: Arc<str>) {
        self.read_when_durable(Release::Receive(ingress));
    }

    /// Applies what is new, and lets all of it be deleted when what it became is durable: that of what is not new may not be so yet.
    pub(super) fn messages_received(
        &mut self,
        ingress: Arc<str>,
        messages: Vec<QueuedMessage>,
        keep_ms: u64,
    ) {
        if self.is_held() {
            // Nobody was told to receive. The queue keeps what is not deleted.
            return;
        }
        let mut ids = Vec::with_capacity(messages.len());
        for message in messages {
            ids.push(message.id);
            if self.tables.received.contains(&ingress, message.id) {
                self.counts.repeated_records += 1;
                continue;
            }
            self.keep_id(&ingress, message.id, keep_ms);
            let sequence = message.id.to_string();
            let origin = Origin {
                source: &ingress,
                sequence: &sequence,
                sub_sequence: 0,
                described: &|| format!("{ingress} {}", message.name),
            };
            self.arrived(&origin, message.routed);
        }
        if !ids.is_empty() {
            self.release_when_durable(Release::Deletable { ingress, ids });
        }
    }

    /// The queue can hardly hand these out any more: after `keep_ms` they need not be known.
    pub(super) fn messages_deleted(
        &mut self,
        ingress: &Arc<str>,
        ids: Vec<QueuedId>,
        keep_ms: u64,
    ) {
        for id in ids {
            // One that has been forgotten meanwhile stays forgotten.
            if self.tables.received.contains(ingress, id) {
                self.keep_id(ingress, id, keep_ms);
            }
        }
    }

    /// Forgets the ids of which the queue has no message any more.
    pub(super) fn forget_ids(&mut self, ingress: &Arc<str>) {
        while let Some(id) = self.tables.received.expired(ingress, self.now_ms) {
            self.tables.received.forget(ingress, id);
            self.mark(Key::Received {
                ingress: Arc::clone(ingress),
                id,
            });
        }
    }

    fn keep_id(&mut self, ingress: &Arc<str>, id: QueuedId, keep_ms: u64) {
        let until_ms = self.now_ms.saturating_add(keep_ms);
        let expires_at_ms = until_ms
            .div_ceil(EXPIRY_GRAIN_MS)
            .saturating_mul(EXPIRY_GRAIN_MS);
        self.tables.received.keep(ingress, id, expires_at_ms);
        self.mark(Key::Received {
            ingress: Arc::clone(ingress),
            id,
        });
        self.schedule_forgetting(Arc::clone(ingress), expires_at_ms);
    }

    pub(super) fn schedule_forgetting(&mut self, ingress: Arc<str>, at_ms: u64) {
        self.agenda.add(at_ms, Due::Received { ingress, at_ms });
    }
}
