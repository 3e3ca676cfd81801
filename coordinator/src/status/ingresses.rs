//! Status of ingresses: how far they are, and their last error.

use std::collections::BTreeMap;

use super::{LastError, Status};

/// Status of an ingress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IngressView {
    /// Id, `namespace/name`.
    pub(crate) id: String,
    /// `stream`, `topic`, `queue` or `port`.
    pub(crate) kind: &'static str,
    /// Names of its streams or topics, the URL of its queue, or the address of its port.
    pub(crate) sources: Vec<String>,
    /// Records or messages received by this process.
    pub(crate) received: u64,
    /// Messages that wait in a queue, as the service reports it.
    pub(crate) backlog: Option<u64>,
    /// Messages of a queue that were received and not deleted, as the service reports it.
    pub(crate) backlog_in_flight: Option<u64>,
    /// Last error.
    pub(crate) last_error: Option<LastError>,
    /// Lag of each source in ms: each shard by its name, or the queue.
    lags_ms: BTreeMap<String, u64>,
}

impl IngressView {
    pub(super) fn new(id: String, kind: &'static str, sources: Vec<String>) -> Self {
        Self {
            id,
            kind,
            sources,
            received: 0,
            backlog: None,
            backlog_in_flight: None,
            last_error: None,
            lags_ms: BTreeMap::new(),
        }
    }

    /// Returns the largest lag of a source, in ms, if any is known.
    pub(crate) fn lag_ms(&self) -> Option<u64> {
        self.lags_ms.values().copied().max()
    }
}

impl Status {
    /// Sets the lag of one source of an ingress.
    pub(crate) fn ingress_lag(&self, ingress: &str, source: &str, behind_ms: u64) {
        self.ingress(ingress, |view| {
            // Looked up first, because that does not allocate.
            match view.lags_ms.get_mut(source) {
                Some(lag_ms) => *lag_ms = behind_ms,
                None => {
                    view.lags_ms.insert(source.to_owned(), behind_ms);
                }
            }
        });
    }

    /// Returns the lag of one source of an ingress, in ms, if it is known.
    pub(crate) fn shard_lag_ms(&self, ingress: &str, source: &str) -> Option<u64> {
        let components = self.components();
        let view = components.ingresses.iter().find(|it| it.id == ingress)?;
        view.lags_ms.get(source).copied()
    }

    /// Removes a source that is no longer read.
    pub(crate) fn ingress_source_ended(&self, ingress: &str, source: &str) {
        self.ingress(ingress, |view| {
            view.lags_ms.remove(source);
        });
    }

    /// Records that an ingress received records or messages.
    pub(crate) fn ingress_received(&self, ingress: &str, records: u64) {
        self.ingress(ingress, |view| view.received += records);
    }

    /// Sets the number of messages that wait in a queue, and of those in flight.
    pub(crate) fn ingress_backlog(&self, ingress: &str, messages: u64, in_flight: u64) {
        self.ingress(ingress, |view| {
            view.backlog = Some(messages);
            view.backlog_in_flight = Some(in_flight);
        });
    }

    /// Records an error of an ingress.
    pub(crate) fn ingress_failed(&self, ingress: &str, error: &str) {
        self.ingress(ingress, |view| {
            view.last_error = Some(LastError::now(error));
        });
    }

    fn ingress(&self, id: &str, change: impl FnOnce(&mut IngressView)) {
        let mut components = self.components();
        if let Some(view) = components.ingresses.iter_mut().find(|it| it.id == id) {
            change(view);
        }
    }
}
