//! `satchel dev`: an application on this machine, with everything embedded.
//!
//! ```text
//!  module files ─► ports ─► state ─► handlers (built with cargo) ─► takeover ─► serving ─► stop
//! ```

mod banner;
pub mod lambda;
mod servers;
mod wiring;

use std::pin::Pin;
use std::time::Duration;

use satchel_log::Options;

use crate::assemble::Process;
use crate::config::DevConfig;
use crate::error::Failure;
use crate::readiness::Readiness;
use crate::runtime::node::{Node, NodeParts};
use crate::servers::Servers;
use crate::store::{StateLocation, StateStore};
use crate::streams::Streams;

use wiring::Handlers;

/// Time that work in flight has after a signal.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Maximum age of the observation that the next epoch is unclaimed, for state in a directory.
const WINDOW_MS: u64 = 10_000;

/// Time that condemned objects are kept, for state in a directory. A process of the same machine
/// that was stopped and continues has the same clocks, so minutes are enough where a root that is
/// shared by machines needs an hour.
const GRACE_MS: u64 = 120_000;

/// Runs the application until `shutdown`, then stops it cleanly.
///
/// # Errors
///
/// A problem with the module files, the environment or the durable data, with its exit code.
pub async fn run(config: DevConfig, shutdown: impl Future<Output = ()>) -> Result<(), Failure> {
    let starting = Readiness::Starting { recovered: 0.0 };
    let (process, inputs) = Process::new(config.process.clone(), &config.paths, starting)?;
    let streams = if config.ephemeral {
        Streams::ephemeral()
    } else {
        Streams::durable(config.streams_dir())
    };
    let mut shutdown = std::pin::pin!(shutdown);
    let servers = servers::start(&config, &process, &streams).await?;
    // Before the build, so that a damaged root is reported at once.
    let state = tokio::select! {
        state = open_state(&config, &process) => state?,
        () = &mut shutdown => return Ok(()),
    };
    let handlers = tokio::select! {
        handlers = Handlers::start(&config, &process.application) => handlers?,
        () = &mut shutdown => return Ok(()),
    };
    let outcome = async {
        let adapters = wiring::adapters(&config, &process, &streams, &handlers).await?;
        let parts = process.node_parts(inputs, state, adapters, log_options(&config))?;
        serve(&config, &process, parts, (&servers, &handlers), shutdown).await
    };
    let outcome = outcome.await;
    process.readiness.send_replace(Readiness::Stopping);
    if outcome.is_ok() {
        servers.stop().await;
    }
    handlers.stop().await;
    outcome
}

/// Takes the state over and serves until `shutdown` or a failure.
async fn serve(
    config: &DevConfig,
    process: &Process,
    parts: NodeParts,
    serving: (&Servers, &Handlers),
    mut shutdown: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), Failure> {
    let mut node = tokio::select! {
        node = Node::start(parts) => node?,
        () = &mut shutdown => return Ok(()),
    };
    banner::print(config, &process.application, serving, &node);
    tokio::select! {
        failure = node.failed() => Err(failure),
        () = shutdown => {
            let limit = STOP_LIMIT.as_secs();
            eprintln!("satchel: stopping; work in flight has {limit} s to finish");
            process.readiness.send_replace(Readiness::Stopping);
            node.stop(STOP_LIMIT).await
        }
    }
}

/// Opens the state, and restores it from another root if that is asked for.
async fn open_state(config: &DevConfig, process: &Process) -> Result<StateStore, Failure> {
    let location = config.state();
    let location = (!config.ephemeral).then_some(&location);
    let (state, restored) = process.open_state(location).await?;
    if let (Some(restored), Some(origin)) = (restored, &config.process.fork.restore) {
        let place = location.map_or("memory".to_owned(), ToString::to_string);
        let facts = restored.facts;
        eprintln!("satchel: restored {facts} facts of {origin} into {place}");
    }
    Ok(state)
}

fn log_options(config: &DevConfig) -> Options {
    match config.state() {
        StateLocation::Directory(_) => Options {
            window_ms: WINDOW_MS,
            grace_ms: GRACE_MS,
            ..Options::default()
        },
        // Another machine may share the bucket, and has clocks of its own.
        StateLocation::S3(_) => Options::default(),
    }
}
