//! The loop around a lease: asks the table, keeps time, and tells everybody else what it means.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, OptionFuture};
use satchel_engine::lease::{Lease, LeaseInput, LeaseItem, LeaseOutput, WriteOutcome};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::table::{LeaseTable, TableError};

/// A clock that counts while the machine sleeps and that nobody sets, in milliseconds.
pub type BootClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// How the lease stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseStatus {
    /// Another process holds it, as far as is known.
    Watching {
        /// What was seen of it last.
        holder: Option<LeaseItem>,
    },
    /// This process holds it.
    Held {
        /// The number of this holding.
        epoch: u64,
        /// When it was surely held last, by the boot clock: a write that the table took was begun then, or later.
        confirmed_ms: u64,
    },
    /// Another process took it over. The end.
    Lost {
        /// Who.
        to: String,
    },
    /// It was given back, or was never held. The end.
    Released,
    /// The table refuses for a reason that waiting does not cure, told before the lease was ever seen. The end.
    Refused(String),
}

/// Speaks with the keeper of a lease. Dropping it ends the keeper without giving the lease back, as a crash would.
#[derive(Debug)]
pub struct LeaseHandle {
    status: watch::Receiver<LeaseStatus>,
    wishes: mpsc::UnboundedSender<LeaseInput>,
    keeper: JoinHandle<()>,
}

impl LeaseHandle {
    /// How the lease stands, now and later.
    pub fn status(&self) -> watch::Receiver<LeaseStatus> {
        self.status.clone()
    }

    /// Tells a watcher that it is worth looking now.
    pub fn hint(&self) {
        let _ = self.wishes.send(LeaseInput::Hinted);
    }

    /// A way to hint from elsewhere.
    pub fn hinter(&self) -> impl Fn() + Send + Sync + 'static {
        let wishes = self.wishes.clone();
        move || {
            let _ = wishes.send(LeaseInput::Hinted);
        }
    }

    /// Gives the lease back, trying for `limit` at the longest. Returns whether it is known to be given back, or not held.
    pub async fn release(mut self, limit: Duration) -> bool {
        let _ = self.wishes.send(LeaseInput::ReleaseRequested);
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
    let (wishes, wished) = mpsc::unbounded_channel();
    let (status, told) = watch::channel(LeaseStatus::Watching { holder: None });
    let keeper = Keeper {
        table,
        lease,
        clock,
        status,
        request: None.into(),
        wake_at_ms: None,
        seen: false,
        failing: false,
    };
    LeaseHandle {
        status: told,
        wishes,
        keeper: tokio::spawn(keeper.run(wished)),
    }
}

struct Keeper {
    table: LeaseTable,
    lease: Lease,
    clock: BootClock,
    status: watch::Sender<LeaseStatus>,
    request: OptionFuture<BoxFuture<'static, Answer>>,
    wake_at_ms: Option<u64>,
    /// Whether the table has ever answered well.
    seen: bool,
    /// Whether its last answer was none: told once, not every second.
    failing: bool,
}

/// The fact that a request led to, and what went wrong with it if something did.
type Answer = (LeaseInput, Option<TableError>);

impl Keeper {
    async fn run(mut self, mut wishes: mpsc::UnboundedReceiver<LeaseInput>) {
        let mut input = LeaseInput::TimeReached;
        loop {
            self.lease.handle_input((self.clock)(), input);
            if self.carry_out() {
                return;
            }
            let wait = wait_until(&self.clock, self.wake_at_ms);
            input = tokio::select! {
                Some((fact, trouble)) = &mut self.request => {
                    self.request = None.into();
                    if self.note(trouble) {
                        return;
                    }
                    fact
                }
                wish = wishes.recv() => match wish {
                    Some(wish) => wish,
                    // Nobody is left to keep it for.
                    None => return,
                },
                () = wait => {
                    self.wake_at_ms = None;
                    LeaseInput::TimeReached
                }
            };
        }
    }

    /// Does what is wanted. Returns whether that was the end.
    fn carry_out(&mut self) -> bool {
        while let Some(output) = self.lease.poll_output() {
            match output {
                LeaseOutput::Look => {
                    let table = self.table.clone();
                    self.begin(async move {
                        match table.look().await {
                            Ok(item) => (LeaseInput::Found(item), None),
                            Err(error) => (LeaseInput::NotFoundOut, Some(error)),
                        }
                    });
                }
                LeaseOutput::Write(write) => {
                    let table = self.table.clone();
                    self.begin(async move {
                        let (outcome, trouble) = match table.write(&write).await {
                            Ok(true) => (WriteOutcome::Done, None),
                            Ok(false) => (WriteOutcome::Refused, None),
                            Err(error) => (WriteOutcome::Unknown, Some(error)),
                        };
                        (LeaseInput::Written(outcome), trouble)
                    });
                }
                LeaseOutput::WakeAt(at_ms) => self.wake_at_ms = Some(at_ms),
                LeaseOutput::Acquired { epoch } => {
                    tracing::info!(
                        lease = self.table.key(),
                        epoch,
                        "this process holds the lease"
                    );
                    self.show(epoch);
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

    fn begin(&mut self, request: impl Future<Output = Answer> + Send + 'static) {
        let request: BoxFuture<'static, Answer> = Box::pin(request);
        self.request = Some(request).into();
    }

    /// Notes what the table said. Returns whether there is no use in going on.
    fn note(&mut self, trouble: Option<TableError>) -> bool {
        match trouble {
            None => {
                if self.failing {
                    tracing::info!(lease = self.table.key(), "the lease table answers again");
                }
                self.failing = false;
                self.seen = true;
                false
            }
            Some(error @ TableError::Refused { .. }) if !self.seen => {
                self.status
                    .send_replace(LeaseStatus::Refused(error.to_string()));
                true
            }
            Some(error) => {
                if !self.failing {
                    tracing::warn!(
                        lease = self.table.key(),
                        %error,
                        "the lease table does not answer: who owns goes on, who waits waits"
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
            Some(epoch) => self.show(epoch),
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

    fn show(&mut self, epoch: u64) {
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
