//! Ids of the messages that were taken from queues.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::durable::ReceivedId;
use crate::queue::QueuedId;

/// Ids of the messages that were taken from queues, with their expiry.
#[derive(Debug, Default)]
pub(crate) struct ReceivedIds {
    by_ingress: BTreeMap<Arc<str>, Ids>,
}

#[derive(Debug, Default)]
struct Ids {
    ids: BTreeMap<QueuedId, ReceivedId>,
    by_expiry: BTreeSet<(u64, QueuedId)>,
}

impl ReceivedIds {
    pub(crate) fn contains(&self, ingress: &str, id: QueuedId) -> bool {
        self.get(ingress, id).is_some()
    }

    pub(crate) fn get(&self, ingress: &str, id: QueuedId) -> Option<ReceivedId> {
        self.by_ingress.get(ingress)?.ids.get(&id).copied()
    }

    /// Keeps an id until its expiry, in place of any earlier one.
    pub(crate) fn keep(&mut self, ingress: &Arc<str>, id: QueuedId, received: ReceivedId) {
        let ids = self.by_ingress.entry(Arc::clone(ingress)).or_default();
        if let Some(before) = ids.ids.insert(id, received) {
            ids.by_expiry.remove(&(before.expires_at_ms, id));
        }
        ids.by_expiry.insert((received.expires_at_ms, id));
    }

    pub(crate) fn forget(&mut self, ingress: &str, id: QueuedId) {
        let Some(ids) = self.by_ingress.get_mut(ingress) else {
            return;
        };
        if let Some(received) = ids.ids.remove(&id) {
            ids.by_expiry.remove(&(received.expires_at_ms, id));
        }
        if ids.ids.is_empty() {
            self.by_ingress.remove(ingress);
        }
    }

    /// Returns an id that is no longer needed.
    pub(crate) fn expired(&self, ingress: &str, now_ms: u64) -> Option<QueuedId> {
        let (expires_at_ms, id) = self.by_ingress.get(ingress)?.by_expiry.first()?;
        (*expires_at_ms <= now_ms).then_some(*id)
    }

    /// Number of ids.
    pub(crate) fn len(&self) -> usize {
        self.by_ingress.values().map(|ids| ids.ids.len()).sum()
    }

    /// Iterates over all ids, with their ingress.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, QueuedId)> {
        let ingresses = self.by_ingress.iter();
        ingresses.flat_map(|(ingress, ids)| ids.ids.keys().map(move |id| (ingress, *id)))
    }

    /// Lists the distinct pairs of ingress and expiry.
    pub(crate) fn expiries(&self) -> Vec<(Arc<str>, u64)> {
        let mut expiries = Vec::new();
        for (ingress, ids) in &self.by_ingress {
            let mut last_ms = None;
            for (expires_at_ms, _) in &ids.by_expiry {
                if last_ms.replace(*expires_at_ms) != Some(*expires_at_ms) {
                    expiries.push((Arc::clone(ingress), *expires_at_ms));
                }
            }
        }
        expiries
    }
}
