//! Planned end of a member: it gives its partitions away, and stops what no other process took.

use std::sync::Arc;
use std::time::Duration;

use satchel_aws::lease::Roster;
use tokio::time::Instant;

use super::life::{Report, Stop};
use super::{Membership, Stopping};
use crate::error::{Exit, Failure};
use crate::metrics::Role;
use crate::readiness::Readiness;
use crate::run::SHORTENING_SHARE;

/// Maximum time for a change of the roster at the end of the process. Without the change, the
/// others wait for the lease time.
const LEAVE_MAX: Duration = Duration::from_secs(2);

/// Part of the stop time in which the partitions are given away one after another. In the rest,
/// what is left is stopped at once.
const GIVING_AWAY_SHARE: (u32, u32) = (3, 5);

impl Membership<'_> {
    /// Stops giving and taking, and gives all partitions away.
    pub(super) async fn give_away(mut self, stopping: &Stopping) -> Result<(), Failure> {
        let total = self.config.stop_timeout;
        let (share, of) = GIVING_AWAY_SHARE;
        tracing::info!(
            partitions = self.lives.len(),
            limit_s = (total * share / of).as_secs(),
            "stopping; partitions are given to other processes"
        );
        self.spread.drain();
        self.is_leaving = true;
        self.me.draining = true;
        let reserve = total - total * share / of;
        while stopping.left(total) > reserve && !self.lives.is_empty() {
            // It says that this process leaves, too.
            self.look().await?;
            if self.is_alone() || self.is_table_silent {
                break;
            }
            let event = self.next_event().await;
            self.handle(event).await?;
        }
        let outcome = self.stop_all(stopping.left(total) * 3 / 4).await;
        self.process.metrics.observe_role(Role::Released);
        let left = stopping.left(total);
        if !self.is_alone() && !self.is_table_silent {
            let peers = self.peers;
            let deserted = tokio::time::timeout(left, peers.deserted(left));
            let mut deserted = std::pin::pin!(deserted);
            loop {
                let event = tokio::select! {
                    _ = &mut deserted => break,
                    event = self.next_event() => event,
                };
                // What fails now was made durable, or its failure is reported.
                let _ = self.handle(event).await;
                let _ = self.look().await;
            }
        }
        self.process.readiness.send_replace(Readiness::Stopping);
        let me = Arc::clone(&self.me.id);
        self.change(LEAVE_MAX, |roster| roster.remove(&me)).await;
        outcome
    }

    /// Stops the partitions that no other process took in time, and releases them.
    async fn stop_all(&mut self, limit: Duration) -> Result<(), Failure> {
        let until = Instant::now() + limit;
        let shorten = limit / SHORTENING_SHARE;
        let drain = limit.min(self.config.drain_limit()) / 2;
        let stop = Stop {
            shorten: Some(shorten),
            drain,
            until: Instant::now() + shorten + drain,
        };
        for life in self.lives.values_mut() {
            life.stop(stop);
        }
        let mut outcome = Ok(());
        while !self.lives.is_empty() {
            let report = tokio::time::timeout_at(until, self.reports.1.recv()).await;
            let Ok(Some((partition, number, report))) = report else {
                let left: Vec<u32> = self.lives.keys().copied().collect();
                let text = format!(
                    "partitions {left:?} did not stop within {limit:?}: \
                     the next owners repeat what is not durable yet"
                );
                for partition in left {
                    self.forget(partition);
                    self.released.insert(partition);
                }
                outcome = Err(Failure::new(Exit::Environment, text));
                break;
            };
            let is_present = self.lives.get(&partition).map(|life| life.number) == Some(number);
            match report {
                Report::Ended(ended) if is_present => {
                    self.forget(partition);
                    self.released.insert(partition);
                    match ended {
                        Err(failure) if failure.exit != Exit::Fenced => outcome = Err(failure),
                        _ => {}
                    }
                }
                report => self.reported(partition, number, report)?,
            }
        }
        let me = Arc::clone(&self.me.id);
        let released = self.released.clone();
        let release = |roster: &mut Roster| {
            let mut changed = false;
            for partition in &released {
                changed |= roster.release(*partition, &me);
            }
            changed
        };
        self.change(LEAVE_MAX, release).await;
        outcome
    }
}
