//! `satchel run`: an application in production.
//!
//! ```text
//!  module files ─► AWS clients ─► ports ─► standby ──lease──► takeover ─► serving ──signal──► drained ─► lease given back
//!                                            │  ▲                            │
//!                                            └──┴─ 503, /readyz: standby     └─ lease lost, fenced ─► exit 3
//! ```
//!
//! Every process of the application runs the same; the lease says which one owns. It is liveness only: who owns without it is fenced by the
//! log, and an owner that cannot reach the table goes on.

mod handover;
mod token;
mod wiring;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use satchel_aws::config::AwsAccess;
use satchel_aws::lease::{Claimant, Lease, LeaseHandle, LeaseStatus, LeaseTable, Timing, keep};
use satchel_log::Clock as _;
use tokio::sync::{mpsc, watch};

use crate::cli::{Exit, Failure};
use crate::config::RunConfig;
use crate::destinations::AwsConfigs;
use crate::http::{
    Admin, AdminAccess, BodyLimits, Traffic, TrafficLimits, admin_routes, traffic_routes,
};
use crate::metrics::Metrics;
use crate::module::Application;
use crate::requests::{Readiness, Requests};
use crate::runtime::INPUTS_WAITING_MAX;
use crate::runtime::node::{Node, NodeParts, random};
use crate::servers::{Servers, admin_reads};
use crate::store::SystemClock;

use handover::Handover;
use token::Tokens;

/// How long giving the lease back may take.
const RELEASE_MAX: Duration = Duration::from_secs(3);

/// The share of the stop time in which a snapshot may be taken before anything stops.
const SHORTENING_SHARE: u32 = 10;

/// What the parts of the process share.
struct Shared {
    config: RunConfig,
    application: Application,
    metrics: Metrics,
    requests: Requests,
    readiness: watch::Sender<Readiness>,
    handover: Handover,
}

/// Runs the application until `shutdown`: on standby until it holds the lease, then as its owner.
///
/// # Errors
///
/// What is wrong with the module files, the environment or the durable data, or who took over, with the exit code for it.
pub async fn run(config: RunConfig, shutdown: impl Future<Output = ()>) -> Result<(), Failure> {
    let application = Application::load(&config.modules, &|name| std::env::var(name).ok())
        .map_err(|problems| Failure::new(Exit::Usage, problems.to_string()))?;
    let metrics = Metrics::new();
    let (inputs_sender, inputs) = mpsc::channel(INPUTS_WAITING_MAX);
    let first = match &config.lease_table {
        Some(_) => Readiness::Standby,
        None => Readiness::Starting { recovered: 0.0 },
    };
    let shared = Shared {
        requests: Requests::new(inputs_sender, metrics.clone()),
        readiness: watch::Sender::new(first),
        handover: Handover::default(),
        config,
        application,
        metrics,
    };
    let mut shutdown = std::pin::pin!(shutdown);
    let mut configs = AwsConfigs::default();
    let tokens = Tokens::of(&shared.config, &mut configs).await?;
    let parts = wiring::parts(&shared, &mut configs, inputs).await?;
    let servers = serve_ports(&shared, tokens).await?;
    let lease = begin_lease(&shared, &servers, &mut configs).await?;
    let outcome = own(&shared, parts, lease.as_ref(), shutdown.as_mut()).await;
    shared.readiness.send_replace(Readiness::Stopping);
    if let Some(lease) = lease {
        give_back(lease, &shared).await;
    }
    if outcome.is_ok() {
        servers.stop().await;
    }
    outcome
}

async fn serve_ports(shared: &Shared, tokens: Tokens) -> Result<Servers, Failure> {
    let config = &shared.config;
    let mut servers = Servers::open(config.http, config.admin, &config.ports).await?;
    let traffic = traffic_routes(Traffic {
        requests: shared.requests.clone(),
        readiness: shared.readiness.subscribe(),
        limits: TrafficLimits::default(),
    });
    let admin = admin_routes(Admin {
        requests: shared.requests.clone(),
        readiness: shared.readiness.subscribe(),
        metrics: shared.metrics.clone(),
        reads: admin_reads(servers.admin, tokens.admin.as_ref()),
        writes: tokens.admin.map_or(AdminAccess::Denied, AdminAccess::Token),
        limits: BodyLimits::default(),
    })
    .merge(handover::routes(shared.handover.clone()));
    servers.serve((traffic, tokens.traffic), admin, &shared.metrics);
    tracing::info!(
        application = config.application,
        state = %config.state,
        traffic = %servers.traffic,
        admin = %servers.admin,
        "the ports are open"
    );
    Ok(servers)
}

/// Begins to watch the lease, if there is a table for it.
async fn begin_lease(
    shared: &Shared,
    servers: &Servers,
    configs: &mut AwsConfigs,
) -> Result<Option<LeaseHandle>, Failure> {
    let config = &shared.config;
    let Some(name) = &config.lease_table else {
        return Ok(None);
    };
    let sdk = configs.get(&AwsAccess::default(), &"--lease-table").await?;
    // By the place and not by an id inside it: before the first takeover there is nothing inside.
    let key = format!("{}#{}#0", config.application, config.state);
    let table = LeaseTable::new(&sdk, name, key);
    if config.create_lease_table {
        let made = Box::pin(table.create()).await;
        made.map_err(|error| {
            Failure::new(Exit::Environment, format!("--create-lease-table: {error}"))
        })?;
    }
    let random: [u8; 16] = random();
    let me = Claimant {
        id: format!("{:032x}", u128::from_le_bytes(random)),
        address: config
            .advertise
            .clone()
            .or_else(|| handover::own_address(servers.admin))
            .map(|address| handover::url(&address, config.ports.admin_tls)),
    };
    tracing::info!(
        lease = table.key(),
        process = me.id,
        address = me.address,
        "on standby until this process holds the lease"
    );
    let lease_ms = u64::try_from(config.lease_time.as_millis()).unwrap_or(u64::MAX);
    let lease = Lease::new(me, Timing::of(lease_ms));
    let clock = Arc::new(|| SystemClock.now().boot_ms);
    Ok(Some(keep(table, lease, clock)))
}

/// Waits for the lease, takes over and serves until `shutdown` or until something is wrong.
async fn own(
    shared: &Shared,
    parts: NodeParts,
    lease: Option<&LeaseHandle>,
    mut shutdown: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), Failure> {
    if let Some(lease) = lease {
        let hints = handover::ask_the_holder(lease.status(), lease.hinter());
        tokio::select! {
            held = held(lease) => held?,
            () = &mut shutdown => return Ok(()),
            () = hints => {}
        }
        shared.handover.held();
    }
    shared
        .readiness
        .send_replace(Readiness::Starting { recovered: 0.0 });
    let mut node = tokio::select! {
        node = Box::pin(Node::start(parts)) => node?,
        lost = lost(lease) => return Err(lost),
        () = &mut shutdown => return Ok(()),
    };
    let recovered = node.recovered;
    tracing::info!(
        epoch = recovered.epoch,
        bytes = recovered.bytes,
        replayed = recovered.replayed,
        "serving"
    );
    tokio::select! {
        failure = node.failed() => Err(failure),
        lost = lost(lease) => Err(lost),
        () = shutdown => {
            let prepared = tokio::select! {
                () = node.shorten_replay(shared.config.stop_timeout / SHORTENING_SHARE) => Ok(()),
                lost = lost(lease) => Err(lost),
            };
            prepared?;
            stop(shared, node).await
        }
    }
}

/// Lets what is in flight finish, and makes everything durable.
async fn stop(shared: &Shared, node: Node) -> Result<(), Failure> {
    let config = &shared.config;
    let limit = config.drain_limit();
    tracing::info!(
        limit_s = limit.as_secs(),
        "stopping: what is in flight may finish"
    );
    shared.readiness.send_replace(Readiness::Stopping);
    let within = config.stop_timeout - config.stop_timeout / SHORTENING_SHARE;
    let stopped = tokio::time::timeout(within, node.stop(limit)).await;
    stopped.unwrap_or_else(|_| {
        Err(Failure::new(
            Exit::Environment,
            format!("not everything could be made durable within {within:?}: the next owner does it again"),
        ))
    })
}

/// Waits until the lease is held.
async fn held(lease: &LeaseHandle) -> Result<(), Failure> {
    let mut status = lease.status();
    let told = status.wait_for(|status| !matches!(status, LeaseStatus::Watching { .. }));
    match told.await.as_deref() {
        Ok(LeaseStatus::Held { .. }) => Ok(()),
        Ok(LeaseStatus::Refused(why)) => Err(Failure::new(
            Exit::Environment,
            format!("--lease-table: {why}"),
        )),
        _ => Err(Failure::new(
            Exit::Environment,
            "the keeper of the lease ended",
        )),
    }
}

/// Waits until another process holds the lease.
async fn lost(lease: Option<&LeaseHandle>) -> Failure {
    let Some(lease) = lease else {
        return std::future::pending().await;
    };
    let mut status = lease.status();
    let told = status.wait_for(|status| !matches!(status, LeaseStatus::Held { .. }));
    match told.await.as_deref() {
        Ok(LeaseStatus::Lost { to }) => Failure::new(
            Exit::Fenced,
            format!("another process ({to}) took the lease over, so this one stops"),
        ),
        _ => Failure::new(Exit::Environment, "the keeper of the lease ended"),
    }
}

async fn give_back(lease: LeaseHandle, shared: &Shared) {
    let given_back = lease.release(RELEASE_MAX).await;
    if given_back {
        shared.handover.released();
    } else {
        tracing::warn!(
            "the lease could not be given back: a standby takes over when its time is up"
        );
    }
}
