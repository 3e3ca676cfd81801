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

mod handover;
mod lease;
mod token;
mod wiring;

use std::pin::Pin;

use crate::assemble::{FurtherRoutes, Process, Tokens, WritesWithoutToken};
use crate::config::RunConfig;
use crate::destinations::AwsConfigs;
use crate::error::{Exit, Failure};
use crate::metrics::Role;
use crate::readiness::Readiness;
use crate::runtime::node::{Node, NodeParts};
use crate::servers::Servers;

use handover::Handover;
use lease::LeaseHolder;

/// Part of the stop time in which a snapshot may be taken before anything stops.
const SHORTENING_SHARE: u32 = 10;

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
    let (process, inputs) = Process::new(config.process.clone(), &config.modules, first)?;
    let handover = Handover::default();
    let mut shutdown = std::pin::pin!(shutdown);
    let mut configs = AwsConfigs::default();
    let tokens = token::tokens(&config, &mut configs).await?;
    let parts = wiring::parts(&config, &process, &mut configs, inputs).await?;
    let servers = serve_ports(&config, &process, &handover, tokens).await?;
    let lease = lease::begin(&config, servers.admin, handover, &mut configs).await?;
    let outcome = own(&config, &process, parts, lease.as_ref(), shutdown.as_mut()).await;
    process.readiness.send_replace(Readiness::Stopping);
    if let Some(lease) = lease {
        lease.release().await;
        process.metrics.observe_role(Role::Released);
    }
    if outcome.is_ok() {
        servers.stop().await;
    }
    outcome
}

async fn serve_ports(
    config: &RunConfig,
    process: &Process,
    handover: &Handover,
    tokens: Tokens,
) -> Result<Servers, Failure> {
    let mut servers = process.open_ports().await?;
    let further = FurtherRoutes {
        admin: handover::routes(handover.clone()),
        ..FurtherRoutes::default()
    };
    process.serve_ports(&mut servers, tokens, WritesWithoutToken::Denied, further);
    tracing::info!(
        application = config.process.application,
        state = %config.state,
        traffic = %servers.traffic,
        admin = %servers.admin,
        "ports open"
    );
    Ok(servers)
}

/// Waits for the lease, takes over and serves until `shutdown` or a failure.
async fn own(
    config: &RunConfig,
    process: &Process,
    parts: NodeParts,
    lease: Option<&LeaseHolder>,
    mut shutdown: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), Failure> {
    if let Some(lease) = lease {
        tokio::select! {
            held = lease.acquired() => held?,
            () = &mut shutdown => return Ok(()),
        }
        process.metrics.observe_role(Role::Owner);
    }
    process
        .readiness
        .send_replace(Readiness::Starting { recovered: 0.0 });
    let mut node = tokio::select! {
        node = Box::pin(Node::start(parts)) => node?,
        lost = lease::lost(lease) => return Err(lost),
        () = &mut shutdown => return Ok(()),
    };
    let recovered = node.recovered;
    tracing::info!(
        epoch = recovered.epoch,
        bytes = recovered.bytes,
        replayed = recovered.replayed,
        held = node.held.is_some(),
        "serving"
    );
    tokio::select! {
        failure = node.failed() => Err(failure),
        lost = lease::lost(lease) => Err(lost),
        () = shutdown => {
            let prepared = tokio::select! {
                () = node.shorten_replay(config.stop_timeout / SHORTENING_SHARE) => Ok(()),
                lost = lease::lost(lease) => Err(lost),
            };
            prepared?;
            stop(config, process, node).await
        }
    }
}

/// Lets work in flight finish, and makes everything durable.
async fn stop(config: &RunConfig, process: &Process, node: Node) -> Result<(), Failure> {
    let limit = config.drain_limit();
    tracing::info!(
        limit_s = limit.as_secs(),
        "stopping; work in flight may finish"
    );
    process.readiness.send_replace(Readiness::Stopping);
    let within = config.stop_timeout - config.stop_timeout / SHORTENING_SHARE;
    let stopped = tokio::time::timeout(within, node.stop(limit)).await;
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
