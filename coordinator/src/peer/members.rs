//! The item of this process in the lease table, and the check of other processes against theirs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use satchel_aws::lease::{LeaseTable, MemberItem};
use satchel_engine::lease::members::{Admission, Verdict};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::boot_ms;
use crate::metrics::Metrics;

/// Reads the item of the process with a key.
type Read = dyn Fn(String) -> BoxFuture<'static, Result<Option<MemberItem>, String>> + Send + Sync;

/// Decides whether the holder of a key is a live process of the application.
pub(crate) struct Membership {
    read: Box<Read>,
    admission: Mutex<Admission>,
}

impl Membership {
    /// Membership by the items in `table` whose keys begin with `prefix`.
    pub(crate) fn of(table: LeaseTable, prefix: String) -> Self {
        Self::new(move |key| {
            let (table, prefix) = (table.clone(), prefix.clone());
            Box::pin(async move {
                let read = table.read_member(&prefix, &key).await;
                read.map_err(|error| error.to_string())
            })
        })
    }

    /// Membership by the items that `read` returns.
    pub(super) fn new(
        read: impl Fn(String) -> BoxFuture<'static, Result<Option<MemberItem>, String>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self {
            read: Box::new(read),
            admission: Mutex::default(),
        }
    }

    /// Checks the holder of `key`.
    ///
    /// # Errors
    ///
    /// The reason of a refusal, as a label of metrics.
    pub(super) async fn admit(&self, key: &str) -> Result<(), &'static str> {
        match self.admission().decide(boot_ms(), key) {
            Verdict::Admitted => return Ok(()),
            Verdict::Refused => return Err("unknown_key"),
            Verdict::Busy => return Err("too_many_checks"),
            Verdict::Look => {}
        }
        match (self.read)(key.to_owned()).await {
            Ok(item) => match self.admission().looked(boot_ms(), key, item.as_ref()) {
                true => Ok(()),
                false => Err("unknown_key"),
            },
            Err(error) => {
                tracing::warn!(error, "lease table unreachable; process not admitted");
                Err("table_unreachable")
            }
        }
    }

    fn admission(&self) -> MutexGuard<'_, Admission> {
        // No code panics while it holds the lock.
        self.admission
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Registration of this process, renewed until [`Registration::leave`]. Dropping it leaves the
/// item behind, as a crash would.
pub(crate) struct Registration {
    table: LeaseTable,
    prefix: String,
    item: MemberItem,
    renewing: JoinHandle<()>,
}

impl Registration {
    /// Writes the item of this process, and renews it from now on. `congested` is whether a
    /// partition of the process is congested, if there are several.
    pub(crate) async fn begin(
        (table, prefix): (LeaseTable, String),
        item: MemberItem,
        congested: Option<watch::Receiver<bool>>,
        metrics: Metrics,
    ) -> Self {
        let wrote = table.write_member(&prefix, &item).await;
        if let Err(error) = &wrote {
            tracing::warn!(%error, "process not registered; retrying");
        }
        metrics.observe_peer_registered(wrote.is_ok());
        let renewing = renew(
            (table.clone(), prefix.clone()),
            item.clone(),
            congested,
            metrics,
            wrote.is_ok(),
        );
        Self {
            renewing: tokio::spawn(renewing),
            table,
            prefix,
            item,
        }
    }

    /// Tells the other processes that this one ends. Tries once.
    pub(crate) async fn leave(self) {
        self.renewing.abort();
        let item = MemberItem {
            // Above every counter of a renewal that may still be on its way.
            counter: u64::MAX,
            left: true,
            ..self.item.clone()
        };
        match self.table.end_member(&self.prefix, &item).await {
            Ok(true) => {}
            Ok(false) => tracing::debug!("the item of the process was gone before its end"),
            Err(error) => tracing::debug!(%error, "end of the process not registered"),
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

async fn renew(
    (table, prefix): (LeaseTable, String),
    mut item: MemberItem,
    mut congested: Option<watch::Receiver<bool>>,
    metrics: Metrics,
    mut registered: bool,
) {
    let interval = Duration::from_millis(item.renewal_ms);
    loop {
        let pause = match registered {
            true => interval,
            false => interval.min(Duration::from_secs(1)),
        };
        // The other processes should know it at once.
        let _ = tokio::time::timeout(pause, changed(congested.as_mut())).await;
        if let Some(congested) = &congested {
            item.congested = *congested.borrow();
        }
        item.counter += 1;
        let wrote = table.write_member(&prefix, &item).await;
        match &wrote {
            Ok(_) if !registered => tracing::info!("process registered"),
            Err(error) if registered => {
                tracing::warn!(%error, "registration of the process not renewed; retrying");
            }
            _ => {}
        }
        registered = wrote.is_ok();
        metrics.observe_peer_registered(registered);
    }
}

/// Waits for a change.
async fn changed(flag: Option<&mut watch::Receiver<bool>>) {
    if let Some(flag) = flag
        && flag.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// Shared membership.
pub(super) type SharedMembership = Arc<Membership>;
