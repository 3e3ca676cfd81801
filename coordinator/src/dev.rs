//! `satchel dev`: an application on this machine, with everything embedded.
//!
//! ```text
//!  module files ─► ports ─► handlers (processes, built with cargo) ─► takeover of the state ─► serving, until a signal
//! ```

mod banner;
pub mod lambda;
mod servers;
mod state;
mod wiring;

use std::pin::Pin;
use std::time::Duration;

use satchel_engine::input::Input;
use satchel_engine::partition::Config;
use satchel_log::DEFAULT_BUCKETS;
use tokio::sync::{mpsc, watch};

use crate::cli::{Exit, Failure};
use crate::config::DevConfig;
use crate::egress::aws::aws_egresses;
use crate::ingress::Ingress;
use crate::ingress::kinesis::kinesis_ingresses;
use crate::ingress::local_stream::LocalStreamIngress;
use crate::ingress::sqs::sqs_ingresses;
use crate::metrics::Metrics;
use crate::module::Application;
use crate::requests::{Readiness, Requests};
use crate::runtime::INPUTS_WAITING_MAX;
use crate::runtime::node::{Node, NodeParts};
use crate::servers::Servers;
use crate::store::Opened;
use crate::streams::Streams;

use wiring::Handlers;

/// How long what is in flight may go on after a signal.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// What the parts of the process share.
struct Shared {
    application: Application,
    metrics: Metrics,
    streams: Streams,
    requests: Requests,
    readiness: watch::Sender<Readiness>,
}

/// Runs the application until `shutdown`, then stops it in an orderly way.
///
/// # Errors
///
/// What is wrong with the module files, the environment or the durable data, with the exit code for it.
pub async fn run(config: DevConfig, shutdown: impl Future<Output = ()>) -> Result<(), Failure> {
    let application = Application::load(&config.paths, &|name| std::env::var(name).ok())
        .map_err(|problems| Failure::new(Exit::Usage, problems.to_string()))?;
    let metrics = Metrics::new();
    let (inputs_sender, inputs) = mpsc::channel(INPUTS_WAITING_MAX);
    let (readiness, _) = watch::channel(Readiness::Starting { recovered: 0.0 });
    let shared = Shared {
        application,
        requests: Requests::new(inputs_sender, metrics.clone()),
        metrics,
        streams: open_streams(&config),
        readiness,
    };
    let mut shutdown = std::pin::pin!(shutdown);
    let servers = servers::start(&config, &shared).await?;
    // Before anything is built: what is refused is refused at once.
    let state = tokio::select! {
        state = state::open(&config, &shared) => state?,
        () = &mut shutdown => return Ok(()),
    };
    let handlers = tokio::select! {
        handlers = Handlers::start(&config, &shared.application) => handlers?,
        () = &mut shutdown => return Ok(()),
    };
    let outcome = serve(
        (&config, state),
        &shared,
        &servers,
        &handlers,
        inputs,
        shutdown,
    )
    .await;
    shared.readiness.send_replace(Readiness::Stopping);
    if outcome.is_ok() {
        servers.stop().await;
    }
    handlers.stop().await;
    outcome
}

/// Takes the state over and serves until `shutdown` or until something is wrong.
async fn serve(
    (config, state): (&DevConfig, Opened),
    shared: &Shared,
    servers: &Servers,
    handlers: &Handlers,
    inputs: mpsc::Receiver<Input>,
    mut shutdown: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), Failure> {
    let parts = NodeParts {
        application: config.application.clone(),
        config: engine_config(config, &shared.application),
        state,
        on_hold: config.fork.on_hold().map_err(Failure::usage)?,
        log: state::log_options(config),
        destinations: handlers.destinations(),
        ingresses: ingresses(config, shared).await?,
        streams: shared.streams.clone(),
        aws_egresses: aws_egresses(&shared.application, true),
        metrics: shared.metrics.clone(),
        requests: shared.requests.clone(),
        inputs,
        readiness: shared.readiness.clone(),
    };
    let mut node = tokio::select! {
        node = Node::start(parts) => node?,
        () = &mut shutdown => return Ok(()),
    };
    banner::print(config, shared, (servers, handlers), &node);
    tokio::select! {
        failure = node.failed() => Err(failure),
        () = shutdown => {
            eprintln!("satchel: stopping; what is in flight has {} s to finish", STOP_LIMIT.as_secs());
            shared.readiness.send_replace(Readiness::Stopping);
            node.stop(STOP_LIMIT).await
        }
    }
}

fn engine_config(config: &DevConfig, application: &Application) -> Config {
    Config {
        partition: 0,
        buckets: DEFAULT_BUCKETS,
        endpoints: wiring::engine_endpoints(application),
        egresses: application
            .egresses
            .iter()
            .map(|egress| egress.id.to_string().into())
            .collect(),
        commit_depth: config.commit_depth,
        commit_interval_ms: config.commit_interval.as_millis() as u64,
        pending_bytes_max: usize::try_from(config.pending_limit).unwrap_or(usize::MAX),
        memory_limit_bytes: config
            .memory_limit
            .map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        idempotency_ttl_ms: config.idempotency_ttl.as_millis() as u64,
        ..Config::default()
    }
}

fn open_streams(config: &DevConfig) -> Streams {
    if config.ephemeral {
        Streams::ephemeral()
    } else {
        Streams::durable(config.streams_dir())
    }
}

/// What is read: streams on this machine, or, if that is wanted, those on AWS; and queues, which are always where their module says.
async fn ingresses(config: &DevConfig, shared: &Shared) -> Result<Vec<Ingress>, Failure> {
    let mut ingresses = sqs_ingresses(&shared.application, &shared.metrics).await?;
    if config.kinesis_ingress {
        let (application, name) = (&shared.application, &config.application);
        ingresses.extend(kinesis_ingresses(application, name, &shared.metrics).await?);
        return Ok(ingresses);
    }
    for (ingress, adapter, stream) in wiring::ingress_streams(&shared.application) {
        let opened = shared.streams.stream(&stream.stream).await;
        ingresses.push(Ingress::LocalStream(LocalStreamIngress {
            ingress: ingress.id.to_string(),
            stream: opened.map_err(crate::runtime::node::stream_failure)?,
            startup: adapter.startup,
            routing: wiring::routing(stream),
        }));
    }
    Ok(ingresses)
}
