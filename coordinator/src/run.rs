//! `satchel run`: an application in production.
//!
//! ```text
//!  module files ─► AWS clients ─► ports ─► standby ─lease─► takeover ─► serving ─signal─► drained
//!                                            ▲                            │           │
//!                      503, /readyz: standby ┘                            │           └► release
//!                                               lease lost, fenced: exit 3┘              of lease
//! ```
//!
//! All processes of an application run the same command. The lease determines which one of them
//! owns the partition. It provides liveness, not safety: the log fences an owner without a lease,
//! and an owner that cannot reach the table continues.
//!
//! With a peer port, every process answers calls and sends, by forwarding them to the owner
//! (`peer`). A planned stop then loses no request:
//!
//! ```text
//!  signal ─► connections close ─► snapshot, ─► gate closed: ──► in flight ─► lease ──► standby
//!            after an answer      serving      requests wait    answered     released  serves ─┐
//!                                                 └───────────── forwarded to it ◄─────────────┘
//! ```

mod handover;
mod lease;
mod peers;
mod spread;
mod token;
mod wiring;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use crate::assemble::{FurtherRoutes, Process, Tokens, WritesWithoutToken};
use crate::config::RunConfig;
use crate::destinations::AwsConfigs;
use crate::error::{Exit, Failure};
use crate::http::Members;
use crate::metrics::Role;
use crate::peer::PartitionPort;
use crate::readiness::Readiness;
use crate::runtime::partitions::{ApplicationParts, Host, Partitions};
use crate::servers::Servers;

use handover::Handover;
use lease::{LeaseHolder, LeaseItems};
use peers::Peers;

/// Part of the stop time in which a snapshot may be taken before anything stops.
const SHORTENING_SHARE: u32 = 10;

/// Capacity of the queue of people's wishes about the places of partitions.
const WISHES_WAITING_MAX: usize = 16;

/// Time beyond the lease time for what is in flight at a planned handover.
const DRAIN_BEYOND: Duration = Duration::from_secs(2);

/// Minimum time for what is in flight at a planned handover, once requests were awaited.
const DRAIN_MIN: Duration = Duration::from_secs(1);

/// Time beyond the lease time for which a request waits for an owner: as long as a planned handover
/// may let the former one finish, and 3 s for the takeover.
const PATIENCE_BEYOND: Duration = Duration::from_secs(6);

/// Runs the application until `shutdown`: on standby until the process holds the lease, then as
/// the owner.
///
/// # Errors
///
/// A problem with the module files, the environment or the durable data, or the takeover by
/// another process, with its exit code.
pub async fn run(config: RunConfig, shutdown: impl Future<Output = ()>) -> Result<(), Failure> {
    let first = match &config.lease_table {
        Some(_) => Readiness::Standby,
        None => Readiness::Starting { recovered: 0.0 },
    };
    let process = Process::new(config.process.clone(), &config.modules, first, 0.0)?;
    let handover = Handover::default();
    let mut shutdown = std::pin::pin!(shutdown);
    let mut configs = AwsConfigs::default();
    let tokens = token::tokens(&config, &mut configs).await?;
    let parts = wiring::parts(&config, &process, &mut configs).await?;
    let items = lease::open(&config, &mut configs).await?;
    if let (Some(items), Some(_)) = (&items, config.peer)
        && parts.state.division(parts.placement).await?.partitions > 1
    {
        let running = run_some((&config, &process), items, parts, tokens, shutdown);
        return Box::pin(running).await;
    }
    if let (Some(items), None) = (&items, config.peer) {
        items.are_not_shared().await?;
    }
    let mut peers = Peers::open(&config, &process, 1).await?;
    let mut servers = serve_ports(
        (&config, &process),
        &handover,
        tokens,
        (peers.as_ref(), None),
    )
    .await?;
    let port = peers.as_ref().map(Peers::port);
    let lease = items
        .as_ref()
        .map(|items| items.compete(&config, (servers.admin, port), handover));
    if let (Some(peers), Some(items), Some(lease)) = (&mut peers, &items, &lease) {
        peers.begin(&process, items, (&mut servers, None)).await?;
        peers.follow(lease, &process);
    }
    let outcome = {
        let stopping = Stopping::default();
        let application = Running {
            config: &config,
            process: &process,
            lease: lease.as_ref(),
            peers: peers.as_ref(),
            stopping: &stopping,
        };
        let outcome = own(application, parts, shutdown.as_mut()).await;
        process.readiness.send_replace(Readiness::Stopping);
        if let Some(lease) = lease {
            let table = lease.table();
            let id = lease.id().to_owned();
            lease.release().await;
            process.metrics.observe_role(Role::Released);
            if let (Some(peers), Ok(())) = (&peers, &outcome) {
                let left = stopping.left(config.stop_timeout);
                peers.forward_to_next_owner(table, &id, left).await;
            }
        }
        outcome
    };
    if outcome.is_ok() {
        // At once, because both take part of the time that the platform leaves after the stop.
        let leaving = async {
            if let Some(peers) = &mut peers {
                peers.leave().await;
            }
        };
        tokio::join!(servers.stop(), leaving, process.flush_telemetry());
    }
    outcome
}

/// Runs some of the application's partitions, beside other processes, until `shutdown`.
async fn run_some(
    (config, process): (&RunConfig, &Process),
    items: &LeaseItems,
    parts: ApplicationParts,
    tokens: Tokens,
    shutdown: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), Failure> {
    let host = Host::open(parts, true).await?;
    let mut peers = Peers::open(config, process, host.partitions()).await?;
    let (Some(peers), Some(switch)) = (&mut peers, host.switch().cloned()) else {
        unreachable!("several partitions have a switch, and the configuration a peer port");
    };
    let (view, shown) = watch::channel(None);
    let (wishes, asked) = mpsc::channel(WISHES_WAITING_MAX);
    let members = Members {
        view: shown,
        wishes,
    };
    let handover = Handover::default();
    let served = serve_ports(
        (config, process),
        &handover,
        tokens,
        (Some(peers), Some(members)),
    );
    let mut servers = served.await?;
    let port = PartitionPort {
        switch,
        requests: process.requests.clone(),
        sources: process.sources.clone(),
        gate: peers.gate().clone(),
        news: Arc::default(),
    };
    peers
        .begin(process, items, (&mut servers, Some(port.clone())))
        .await?;
    let stopping = Stopping::default();
    let outcome = {
        let people = (view, asked);
        let member = spread::open((config, process), (peers, items), (host, &port), people);
        Box::pin(member.run(&stopping, shutdown)).await
    };
    process.readiness.send_replace(Readiness::Stopping);
    if outcome.is_ok() {
        tokio::join!(servers.stop(), peers.leave(), process.flush_telemetry());
    }
    outcome
}

/// Parts of a running process.
#[derive(Clone, Copy)]
struct Running<'a> {
    config: &'a RunConfig,
    process: &'a Process,
    lease: Option<&'a LeaseHolder>,
    peers: Option<&'a Peers>,
    stopping: &'a Stopping,
}

/// Time of the signal to stop.
#[derive(Default)]
struct Stopping(std::cell::OnceCell<Instant>);

impl Stopping {
    fn begin(&self, peers: Option<&Peers>) {
        let _ = self.0.set(Instant::now());
        if let Some(peers) = peers {
            peers.stop();
        }
    }

    /// Time left until the process must have stopped.
    fn left(&self, stop_timeout: Duration) -> Duration {
        let since = self.0.get().map_or(Duration::ZERO, Instant::elapsed);
        stop_timeout.saturating_sub(since)
    }
}

async fn serve_ports(
    (config, process): (&RunConfig, &Process),
    handover: &Handover,
    tokens: Tokens,
    (peers, members): (Option<&Peers>, Option<Members>),
) -> Result<Servers, Failure> {
    let mut servers = process.open_ports().await?;
    let further = FurtherRoutes {
        admin: handover::routes(handover.clone()).merge(peers::probe(process, peers)),
        members,
        forwarding: peers.map(Peers::layers),
        ..FurtherRoutes::default()
    };
    process.serve_ports(&mut servers, tokens, &WritesWithoutToken::Denied, further);
    tracing::info!(
        application = config.process.application,
        state = %config.state,
        traffic = %servers.traffic,
        admin = %servers.admin,
        peer = peers.map(|peers| peers.port().address),
        "ports open"
    );
    Ok(servers)
}

/// Waits for the lease, takes over and serves until `shutdown` or a failure.
async fn own(
    running: Running<'_>,
    parts: ApplicationParts,
    mut shutdown: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), Failure> {
    let Running {
        config,
        process,
        lease,
        peers,
        stopping,
    } = running;
    if let Some(lease) = lease {
        tokio::select! {
            held = lease.acquired() => held?,
            () = &mut shutdown => {
                stopping.begin(peers);
                return Ok(());
            }
        }
        process.metrics.observe_role(Role::Owner);
    }
    process
        .readiness
        .send_replace(Readiness::Starting { recovered: 0.0 });
    let mut partitions = tokio::select! {
        partitions = Box::pin(Partitions::start(parts)) => partitions?,
        lost = lease::lost(lease) => return Err(lost),
        () = &mut shutdown => {
            stopping.begin(peers);
            return Ok(());
        }
    };
    let recovered = partitions.recovered;
    tracing::info!(
        epoch = recovered.epoch,
        bytes = recovered.bytes,
        replayed = recovered.replayed,
        held = partitions.held.is_some(),
        "serving"
    );
    tokio::select! {
        failure = partitions.failed() => Err(failure),
        lost = lease::lost(lease) => Err(lost),
        () = shutdown => {
            stopping.begin(peers);
            let prepared = tokio::select! {
                () = partitions.shorten_replay(config.stop_timeout / SHORTENING_SHARE) => Ok(()),
                lost = lease::lost(lease) => Err(lost),
            };
            prepared?;
            let mut limit = config.drain_limit();
            if let Some(peers) = peers {
                // Requests wait for the next owner meanwhile, and it needs time to take over.
                limit = limit.min(config.lease_time + DRAIN_BEYOND);
                limit = limit.saturating_sub(peers.close(limit).await).max(DRAIN_MIN);
            }
            stop(config, process, partitions, limit).await
        }
    }
}

/// Lets work in flight finish, and makes everything durable.
async fn stop(
    config: &RunConfig,
    process: &Process,
    partitions: Partitions,
    limit: Duration,
) -> Result<(), Failure> {
    tracing::info!(
        limit_s = limit.as_secs(),
        "stopping; work in flight may finish"
    );
    process.readiness.send_replace(Readiness::Stopping);
    let within = config.stop_timeout - config.stop_timeout / SHORTENING_SHARE;
    let stopped = tokio::time::timeout(within, partitions.stop(limit)).await;
    stopped.unwrap_or_else(|_| {
        Err(Failure::new(
            Exit::Environment,
            format!(
                "the stop took longer than {within:?}: \
                 the next owner repeats what is not durable yet"
            ),
        ))
    })
}
