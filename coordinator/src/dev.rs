//! `satchel dev`: an application on this machine, with everything embedded.
//!
//! ```text
//!  module files ─► ports ─► state ─► handlers (built with cargo) ─► takeover ─► serving ─► stop
//! ```

mod banner;
mod connectors;
mod console_token;
pub mod lambda;
mod module_watch;
mod servers;
mod wiring;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use satchel_log::{MemoryStore, Options};

use crate::assemble::Process;
use crate::config::DevConfig;
use crate::error::Failure;
use crate::readiness::Readiness;
use crate::runtime::partitions::{ApplicationParts, Partitions};
use crate::servers::Servers;
use crate::store::{StateLocation, StateStore};
use crate::streams::Streams;

use console_token::ConsoleToken;
use module_watch::Modules;
use wiring::Handlers;

/// Time that work in flight has after a signal.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Maximum age of the observation that the next epoch is unclaimed, for state in a directory.
const WINDOW_MS: u64 = 10_000;

/// Time that condemned objects are kept, for state in a directory. A process of the same machine
/// that was stopped and continues has the same clocks, so minutes are enough where a root that is
/// shared by machines needs an hour.
const GRACE_MS: u64 = 120_000;

/// Runs the application until `shutdown`, then stops it cleanly. With `--watch`, starts it again
/// when its module files change.
///
/// # Errors
///
/// A problem with the module files, the environment or the durable data, with its exit code.
pub async fn run(mut config: DevConfig, shutdown: impl Future<Output = ()>) -> Result<(), Failure> {
    let kept = Kept {
        streams: if config.ephemeral {
            Streams::ephemeral()
        } else {
            Streams::durable(config.streams_dir())
        },
        memory: Arc::new(MemoryStore::new()),
        console_token: ConsoleToken::random(),
    };
    let mut shutdown = std::pin::pin!(shutdown);
    while Box::pin(run_once(&mut config, &kept, shutdown.as_mut())).await? == Ended::ModulesChanged
    {
        eprintln!("satchel: the module files have changed; starting again");
        // The state exists now.
        config.process.fork.restore = None;
    }
    Ok(())
}

/// Parts that survive a start after a change of the module files.
struct Kept {
    streams: Streams,
    /// State of an application that keeps none.
    memory: Arc<MemoryStore>,
    /// Token of the console, so that an open page keeps its rights.
    console_token: ConsoleToken,
}

/// End of a run without a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The process stops.
    Stopped,
    /// The application starts again.
    ModulesChanged,
}

/// Runs the application until `shutdown`, a change of the module files, or a failure. Ports that
/// the system chose are written to `config`, so that they stay the same.
async fn run_once(
    config: &mut DevConfig,
    kept: &Kept,
    mut shutdown: Pin<&mut impl Future<Output = ()>>,
) -> Result<Ended, Failure> {
    let modules = Modules::of(&config.paths);
    let starting = Readiness::Starting { recovered: 0.0 };
    let process = Process::new(config.process.clone(), &config.paths, starting, 1.0)?;
    connectors::check(config, &process.application)?;
    let streams = &kept.streams;
    let servers = servers::start(config, &process, streams, &kept.console_token).await?;
    config.process.ports.http = servers.traffic;
    config.process.ports.admin = servers.admin;
    config.kinesis_api = servers.kinesis.or(config.kinesis_api);
    let config = &*config;
    // Before the build, so that a damaged root is reported at once.
    let state = tokio::select! {
        state = open_state(config, &process, &kept.memory) => state?,
        () = &mut shutdown => return Ok(Ended::Stopped),
    };
    let handlers = tokio::select! {
        handlers = Handlers::start(config, &process.application, &process.metrics) => handlers?,
        () = &mut shutdown => return Ok(Ended::Stopped),
    };
    let outcome = async {
        let adapters = wiring::adapters(config, &process, streams, &handlers).await?;
        let parts = process.application_parts(state, adapters, log_options(config))?;
        let serving = (&servers, &handlers, &kept.console_token);
        serve(config, &process, parts, serving, (modules, shutdown)).await
    };
    let outcome = outcome.await;
    process.readiness.send_replace(Readiness::Stopping);
    if outcome.is_ok() {
        servers.stop().await;
    }
    handlers.stop().await;
    process.flush_telemetry().await;
    outcome
}

/// Takes the state over and serves until `shutdown`, a change of the module files, or a failure.
async fn serve(
    config: &DevConfig,
    process: &Process,
    parts: ApplicationParts,
    serving: (&Servers, &Handlers, &ConsoleToken),
    (modules, mut shutdown): (Modules, Pin<&mut impl Future<Output = ()>>),
) -> Result<Ended, Failure> {
    let mut partitions = tokio::select! {
        partitions = Partitions::start(parts) => partitions?,
        () = &mut shutdown => return Ok(Ended::Stopped),
    };
    banner::print(config, process, serving, &partitions).await;
    let changed = async {
        if config.watch {
            modules.changed().await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    let ended = tokio::select! {
        failure = partitions.failed() => return Err(failure),
        () = shutdown => Ended::Stopped,
        () = changed => Ended::ModulesChanged,
    };
    let limit = STOP_LIMIT.as_secs();
    eprintln!("satchel: stopping; work in flight has {limit} s to finish");
    process.readiness.send_replace(Readiness::Stopping);
    partitions.stop(STOP_LIMIT).await?;
    Ok(ended)
}

/// Opens the state, and restores it from another root if that is asked for. `memory` is the state
/// of an application that keeps none.
async fn open_state(
    config: &DevConfig,
    process: &Process,
    memory: &Arc<MemoryStore>,
) -> Result<StateStore, Failure> {
    let location = config.state();
    let location = (!config.ephemeral).then_some(&location);
    let (state, restored) = process.open_state(location, memory).await?;
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
