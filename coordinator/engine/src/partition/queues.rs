//! Messages of queues: each is applied once, however often the queue delivers it, and may be
//! deleted once its effects are durable.

use std::sync::Arc;

use super::Partition;
use super::arrivals::Origin;
use super::commits::Release;
use super::schedule::Scheduled;
use crate::durable::{Key, ReceivedId};
use crate::placement::KeyGroup;
use crate::queue::{QueuedId, QueuedMessage};

/// Granularity of expiries. It bounds the number of schedule entries, however many ids there are.
const EXPIRY_GRAIN_MS: u64 = 60_000;

impl Partition {
    /// Starts receiving, or waits until the hold is lifted. There is no position to wait for.
    pub(super) fn queue_found(&mut self, ingress: Arc<str>) {
        self.read_when_durable(Release::Receive(ingress));
    }

    /// Applies the new messages. All received messages may be deleted once the present state is
    /// durable, because the effects of a repeated message may not be durable yet either.
    pub(super) fn messages_received(
        &mut self,
        ingress: Arc<str>,
        messages: Vec<QueuedMessage>,
        keep_ms: u64,
    ) {
        if self.is_held() {
            // Receiving has not been requested. The queue keeps undeleted messages.
            return;
        }
        let mut ids = Vec::with_capacity(messages.len());
        for message in messages {
            ids.push(message.id);
            if self.tables.received.contains(&ingress, message.id) {
                self.counts.repeated_records += 1;
                continue;
            }
            let key_group = self.key_group_of_message(&ingress, &message);
            self.keep_id(&ingress, message.id, key_group, keep_ms);
            let sequence = message.id.to_string();
            let origin = Origin {
                ingress: &ingress,
                source: &ingress,
                sequence: &sequence,
                sub_sequence: 0,
                described: &|| format!("{ingress} {}", message.name),
                trace: message.trace,
                headers: None,
            };
            self.ingest(&origin, message.routed);
        }
        if !ids.is_empty() {
            self.release_when_durable(Release::Deletable { ingress, ids });
        }
    }

    /// Shortens or extends the expiry of ids whose messages were deleted. After `keep_ms` the queue
    /// can no longer deliver them.
    pub(super) fn messages_deleted(
        &mut self,
        ingress: &Arc<str>,
        ids: Vec<QueuedId>,
        keep_ms: u64,
    ) {
        for id in ids {
            // An id that was removed in the meantime stays removed.
            if let Some(received) = self.tables.received.get(ingress, id) {
                self.keep_id(ingress, id, received.key_group, keep_ms);
            }
        }
    }

    /// Removes expired ids: the queue can no longer deliver their messages.
    pub(super) fn forget_ids(&mut self, ingress: &Arc<str>) {
        while let Some(id) = self.tables.received.expired(ingress, self.now_ms) {
            self.tables.received.forget(ingress, id);
            self.mark_changed(Key::Received {
                ingress: Arc::clone(ingress),
                id,
            });
        }
    }

    /// Returns the key group to which the id of a message belongs: that of the first address, or
    /// that of the ingress for a message that is for none.
    fn key_group_of_message(&self, ingress: &str, message: &QueuedMessage) -> Option<KeyGroup> {
        let routed = message.routed.as_ref().ok();
        match routed.and_then(|routed| routed.first()) {
            Some((address, _)) => self.tables.named_key_group(address),
            None => {
                let placement = self.tables.placement();
                let named = placement.has_key_groups_of_ids();
                named.then(|| placement.key_group_of_id(ingress))
            }
        }
    }

    fn keep_id(
        &mut self,
        ingress: &Arc<str>,
        id: QueuedId,
        key_group: Option<KeyGroup>,
        keep_ms: u64,
    ) {
        let until_ms = self.now_ms.saturating_add(keep_ms);
        let expires_at_ms = until_ms
            .div_ceil(EXPIRY_GRAIN_MS)
            .saturating_mul(EXPIRY_GRAIN_MS);
        let received = ReceivedId {
            expires_at_ms,
            key_group,
        };
        self.tables.received.keep(ingress, id, received);
        self.mark_changed(Key::Received {
            ingress: Arc::clone(ingress),
            id,
        });
        self.schedule_forgetting(Arc::clone(ingress), expires_at_ms);
    }

    pub(super) fn schedule_forgetting(&mut self, ingress: Arc<str>, at_ms: u64) {
        self.schedule
            .add(at_ms, Scheduled::Received { ingress, at_ms });
    }
}
