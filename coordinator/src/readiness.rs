//! Readiness of a process, as its ports and its metrics show it.

/// Progress of a process towards serving requests, carried by a [`tokio::sync::watch`] channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Readiness {
    /// The process is reading the durable state.
    Starting {
        /// Share of the state that has been read, from 0 to 1.
        recovered: f64,
    },
    /// Every partition of this process answers while buckets are still loading. A request that
    /// needs an absent bucket waits for that bucket.
    Loading {
        /// Share of the buckets absent at the takeover that are now in memory, from 0 to 1.
        recovered: f64,
    },
    /// Every partition of this process answers.
    Serving,
    /// As [`Self::Serving`], for a fork whose ingresses, timers and outbox are held.
    Held,
    /// Another process owns the partitions. This one waits to take over.
    Standby,
    /// The process is stopping and accepts nothing new.
    Stopping,
}

impl Readiness {
    /// Name of the state, as `/readyz` shows it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Starting { .. } => "starting",
            Self::Loading { .. } | Self::Serving | Self::Held => "serving",
            Self::Standby => "standby",
            Self::Stopping => "stopping",
        }
    }
}
