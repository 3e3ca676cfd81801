//! Lease of this process: competing for it, losing it and releasing it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use satchel_aws::config::AwsAccess;
use satchel_aws::lease::{
    Claimant, Lease, LeaseHandle, LeaseStatus, LeaseTable, PeerPort, Timing, keep,
};
use tokio::sync::watch;

use super::handover::{self, Handover};
use crate::clock::boot_ms;
use crate::config::RunConfig;
use crate::destinations::AwsConfigs;
use crate::error::{Exit, Failure};
use crate::random;
use crate::runtime::time::check_calendar;

/// Maximum duration of the release.
const RELEASE_MAX: Duration = Duration::from_secs(3);

/// Service whose calendar is compared, in messages.
const LEASE_TABLE: &str = "the lease table";

/// Items of this application in the lease table.
pub(super) struct LeaseItems {
    /// Table, with the lease of partition 0.
    pub(super) table: LeaseTable,
    /// Beginning of the keys of all items of this application and root.
    pub(super) prefix: String,
    /// Id of this process in the table.
    pub(super) id: String,
}

/// Opens the lease table, if the configuration names one, and creates it if that is asked for.
pub(super) async fn open(
    config: &RunConfig,
    configs: &mut AwsConfigs,
) -> Result<Option<LeaseItems>, Failure> {
    let Some(name) = &config.lease_table else {
        return Ok(None);
    };
    let sdk = configs.get(&AwsAccess::default(), &"--lease-table").await?;
    // Named by location: before the first takeover, the root contains no id.
    let prefix = format!("{}#{}", config.process.application, config.state);
    let table = LeaseTable::new(&sdk, name, format!("{prefix}#0"));
    if config.create_lease_table {
        let created = Box::pin(table.create()).await;
        created
            .map_err(|error| Failure::caused(Exit::Environment, "--create-lease-table", error))?;
        if let Err(error) = Box::pin(table.expire_members()).await {
            tracing::warn!(
                %error,
                "time to live of the lease table not set; items of ended processes stay"
            );
        }
    }
    // Only the `Date` of the answer counts. Who reads the lease again reports refusals.
    let _ = table.read().await;
    check_calendar(LEASE_TABLE, table.calendar_ahead_ms())?;
    Ok(Some(LeaseItems {
        table,
        prefix,
        id: format!("{:032x}", u128::from_le_bytes(random::bytes())),
    }))
}

/// Participation of this process in the lease.
pub(super) struct LeaseHolder {
    lease: LeaseHandle,
    table: LeaseTable,
    handover: Handover,
    /// Id of this process in the table.
    id: String,
}

impl LeaseItems {
    /// Checks that no processes share the partitions of the application.
    ///
    /// # Errors
    ///
    /// Some do, and this process has no peer port.
    pub(super) async fn are_not_shared(&self) -> Result<(), Failure> {
        // The lease that is read next reports a table that does not answer.
        match self.table.read_roster(&self.prefix).await {
            Ok(Some((roster, _))) if !roster.members.is_empty() => Err(Failure::usage(format!(
                "processes with a peer port share the partitions of this application ({} are \
                 listed in the lease table): start this one with --peer too",
                roster.members.len()
            ))),
            _ => Ok(()),
        }
    }

    /// Begins to compete for the lease. Other processes reach this one at its administration port
    /// and its peer port, if it has one.
    pub(super) fn compete(
        &self,
        config: &RunConfig,
        (admin, peer): (SocketAddr, Option<PeerPort>),
        handover: Handover,
    ) -> LeaseHolder {
        let me = Claimant {
            id: self.id.clone(),
            address: config
                .advertise
                .clone()
                .or_else(|| handover::own_address(admin))
                .map(|address| handover::url(&address, config.process.ports.admin_tls)),
            peer,
        };
        tracing::info!(
            lease = self.table.key(),
            process = me.id,
            address = me.address,
            "on standby until this process holds the lease"
        );
        let lease_ms = u64::try_from(config.lease_time.as_millis()).unwrap_or(u64::MAX);
        let lease = keep(
            self.table.clone(),
            Lease::new(me, Timing::of(lease_ms)),
            Arc::new(boot_ms),
        );
        LeaseHolder {
            lease,
            table: self.table.clone(),
            handover,
            id: self.id.clone(),
        }
    }
}

impl LeaseHolder {
    /// Waits until this process holds the lease.
    pub(super) async fn acquired(&self) -> Result<(), Failure> {
        let hints = handover::ask_the_holder(self.lease.status(), self.lease.hinter());
        tokio::select! {
            held = held(&self.lease) => held?,
            () = hints => {}
        }
        // The clock may have changed on standby.
        check_calendar(LEASE_TABLE, self.table.calendar_ahead_ms())?;
        self.handover.held();
        Ok(())
    }

    /// Table of the lease.
    pub(super) fn table(&self) -> LeaseTable {
        self.table.clone()
    }

    /// Id of this process in the table.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Status of the lease, now and later.
    pub(super) fn status(&self) -> watch::Receiver<LeaseStatus> {
        self.lease.status()
    }

    /// Releases the lease, so that a standby takes over at once.
    pub(super) async fn release(self) {
        if self.lease.release(RELEASE_MAX).await {
            self.handover.released();
        } else {
            tracing::warn!("lease not released; a standby takes over after the lease time");
        }
    }
}

async fn held(lease: &LeaseHandle) -> Result<(), Failure> {
    let mut status = lease.status();
    let changed = status.wait_for(|status| !matches!(status, LeaseStatus::Watching { .. }));
    match changed.await.as_deref() {
        Ok(LeaseStatus::Held { .. }) => Ok(()),
        Ok(LeaseStatus::Refused(why)) => Err(Failure::new(
            Exit::Environment,
            format!("--lease-table: {why}"),
        )),
        _ => Err(keeper_ended()),
    }
}

/// Waits until another process holds the lease. Without a lease, waits forever.
pub(super) async fn lost(lease: Option<&LeaseHolder>) -> Failure {
    let Some(lease) = lease else {
        return std::future::pending().await;
    };
    let mut status = lease.lease.status();
    let changed = status.wait_for(|status| !matches!(status, LeaseStatus::Held { .. }));
    match changed.await.as_deref() {
        Ok(LeaseStatus::Lost { to }) => Failure::new(
            Exit::Fenced,
            format!("another process ({to}) took the lease over, so this one stops"),
        ),
        _ => keeper_ended(),
    }
}

fn keeper_ended() -> Failure {
    Failure::new(Exit::Environment, "the keeper of the lease ended")
}
