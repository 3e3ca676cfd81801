//! The loop around a lease: sends its requests, keeps time, and publishes its status.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, OptionFuture};
use satchel_engine::lease::{Lease, LeaseInput, LeaseItem, LeaseOutput, WriteOutcome};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::table::{LeaseTable, TableError};

/// A monotonic clock that also counts while the machine sleeps, in milliseconds.
pub type BootClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Status of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseStatus {
    /// Another process holds it, as far as is known.
    Watching {
        /// Last known item.
        holder: Option<LeaseItem>,
    },
    /// This process holds it.
    Held {
        /// Number of this holding.
        epoch: u64,
        /// Time at which it was certainly held last, by the boot clock. A write that the table
        /// accepted was started then or later.
        confirmed_ms: u64,
    },
    /// Another process took it over. Final.
    Lost {
        /// Id of the new holder.
        to: String,
    },
    /// It was released, or was never held. Final.
    Released,
    /// The table refuses for a reason that waiting does not cure, and the lease was never read.
    /// Final.
    Refused(String),
}

/// Handle of a lease's keeper. Dropping it stops the keeper without releasing the lease, as a crash
/// would.
#[derive(Debug)]
pub struct LeaseHandle {
    status: watch::Receiver<LeaseStatus>,
    requests: mpsc::UnboundedSender<LeaseInput>,
    keeper: JoinHandle<()>,
}

impl LeaseHandle {
    /// Status of the lease, now and later.
    pub fn status(&self) -> watch::Receiver<LeaseStatus> {
        self.status.clone()
    }

    /// Tells a watcher to read the table now.
    pub fn hint(&self) {
        let _ = self.requests.send(LeaseInput::Hinted);
    }

    /// A function that hints from elsewhere.
    pub fn hinter(&self) -> impl Fn() + Send + Sync + 'static {
        let requests = self.requests.clone();
        move || {
            let _ = requests.send(LeaseInput::Hinted);
        }
    }

    /// Releases the lease, and tries for at most `limit`. Returns true if the lease is known to be
    /// released or not held.
    pub async fn release(mut self, limit: Duration) -> bool {
        let _ = self.requests.send(LeaseInput::ReleaseRequested);
        let over = self.status.wait_for(|status| {
            !matches!(
                status,
                LeaseStatus::Watching { .. } | LeaseStatus::Held { .. }
            )
        });
        tokio::time::timeout(limit, over).await.is_ok()
    }
}

impl Drop for LeaseHandle {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Runs `lease` on `table` from now on. Must be called within a tokio runtime.
pub fn keep(table: LeaseTable, lease: Lease, clock: BootClock) -> LeaseHandle {
    let (requests, requested) = mpsc::unbounded_channel();
    let (status, observed) = watch::channel(LeaseStatus::Watching { holder: None });
    let keeper = Keeper {
        table,
        lease,
        clock,
        status,
        request: None.into(),
        wake_at_ms: None,
        read_once: false,
        failing: false,
    };
    LeaseHandle {
        status: observed,
        requests,
        keeper: tokio::spawn(keeper.run(requested)),
    }
}

struct Keeper {
    table: LeaseTable,
    lease: Lease,
    clock: BootClock,
    status: watch::Sender<LeaseStatus>,
    request: OptionFuture<BoxFuture<'static, Answer>>,
    wake_at_ms: Option<u64>,
    /// True once a request to the table has succeeded.
    read_once: bool,
    /// True while requests fail, so that a failure is logged once.
    failing: bool,
}

/// Input that results from a request, and the error if it failed.
type Answer = (LeaseInput, Option<TableError>);

impl Keeper {
    async fn run(mut self, mut requested: mpsc::UnboundedReceiver<LeaseInput>) {
        let mut input = LeaseInput::TimeReached;
        loop {
            self.lease.handle_input((self.clock)(), input);
            if self.perform() {
                return;
            }
            let wait = wait_until(&self.clock, self.wake_at_ms);
            input = tokio::select! {
                    Some((fact, error)) = &mut self.request => {
                        self.request = None.into();
                        if self.record(error) {
                            return;
                        }
                        fact
                    }
                    request = requested.recv() => match request {
                        Some(request) => request,
                        // The handle was dropped.
                        None => return,
                },
                () = wait => {
                    self.wake_at_ms = None;
                    LeaseInput::TimeReached
                }
            };
        }
    }

    /// Performs all outputs. Returns true if the lease has ended.
    fn perform(&mut self) -> bool {
        while let Some(output) = self.lease.poll_output() {
            match output {
                LeaseOutput::Read => {
                    let table = self.table.clone();
                    self.start(async move {
                        match table.read().await {
                            Ok(item) => (LeaseInput::ItemRead(item), None),
                            Err(error) => (LeaseInput::ReadFailed, Some(error)),
                        }
                    });
                }
                LeaseOutput::Write(write) => {
                    let table = self.table.clone();
                    self.start(async move {
                        let (outcome, error) = match table.write(&write).await {
                            Ok(true) => (WriteOutcome::Done, None),
                            Ok(false) => (WriteOutcome::Refused, None),
                            Err(error) => (WriteOutcome::Unknown, Some(error)),
                        };
                        (LeaseInput::Written(outcome), error)
                    });
                }
                LeaseOutput::WakeAt(at_ms) => self.wake_at_ms = Some(at_ms),
                LeaseOutput::Acquired { epoch } => {
                    tracing::info!(lease = self.table.key(), epoch, "lease acquired");
                    self.publish_held(epoch);
                }
                LeaseOutput::Lost { to } => {
                    self.status.send_replace(LeaseStatus::Lost { to });
                    return true;
                }
                LeaseOutput::Released => {
                    self.status.send_replace(LeaseStatus::Released);
                    return true;
                }
            }
        }
        self.refresh();
        false
    }

    fn start(&mut self, request: impl Future<Output = Answer> + Send + 'static) {
        let request: BoxFuture<'static, Answer> = Box::pin(request);
        self.request = Some(request).into();
    }

    /// Records whether a request succeeded. Returns true if the lease cannot be used at all.
    fn record(&mut self, error: Option<TableError>) -> bool {
        match error {
            None => {
                if self.failing {
                    tracing::info!(lease = self.table.key(), "lease table reachable again");
                }
                self.failing = false;
                self.read_once = true;
                false
            }
            Some(error @ TableError::Refused { .. }) if !self.read_once => {
                self.status
                    .send_replace(LeaseStatus::Refused(error.to_string()));
                true
            }
            Some(error) => {
                if !self.failing {
                    tracing::warn!(
                        lease = self.table.key(),
                        %error,
                            "lease table unreachable; owner continues, standbys keep waiting"
                    );
                }
                self.failing = true;
                false
            }
        }
    }

    fn refresh(&mut self) {
        let epoch = match &*self.status.borrow() {
            LeaseStatus::Held { epoch, .. } => Some(*epoch),
            _ => None,
        };
        match epoch {
            Some(epoch) => self.publish_held(epoch),
            None => {
                let holder = self.lease.holder().cloned();
                self.status.send_if_modified(|status| {
                    let now = LeaseStatus::Watching { holder };
                    let changed = *status != now;
                    *status = now;
                    changed
                });
            }
        }
    }

    fn publish_held(&mut self, epoch: u64) {
        let confirmed_ms = self.lease.confirmed_ms().unwrap_or_default();
        self.status.send_if_modified(|status| {
            let now = LeaseStatus::Held {
                epoch,
                confirmed_ms,
            };
            let changed = *status != now;
            *status = now;
            changed
        });
    }
}

async fn wait_until(clock: &BootClock, wake_at_ms: Option<u64>) {
    match wake_at_ms {
        None => std::future::pending().await,
        Some(at_ms) => {
            let wait_ms = at_ms.saturating_sub(clock());
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
    }
}
