//! Wiring of `satchel dev`: from module files to handlers and invokers.

use std::net::SocketAddr;
use std::sync::Arc;

use satchel_engine::endpoint::{Endpoint, Endpoints};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::connectors;
use crate::assemble::{Adapters, Process};
use crate::config::DevConfig;
use crate::destinations::{self, AwsConfigs};
use crate::dev::lambda::invoke_api::{InvokeApi, Served};
use crate::dev::lambda::{
    FunctionSpec, Launcher, LocalLambda, LocalLambdaInvoker, LogLines, Program, processes_max,
};
use crate::error::{Exit, Failure};
use crate::invoker::Invoker;
use crate::metrics::Metrics;
use crate::module::{Application, EndpointAdapter, EndpointSpec, LambdaEndpoint};
use crate::runtime::dispatch::Destination;
use crate::streams::Streams;

/// Memory size, in megabytes, that handlers see in their environment. Nothing enforces it here.
const HANDLER_MEMORY_MB: u32 = 512;

/// Makes the adapters of the application.
pub(super) async fn adapters(
    config: &DevConfig,
    process: &Process,
    streams: &Streams,
    handlers: &Handlers,
) -> Result<Adapters, Failure> {
    Ok(Adapters {
        endpoints: engine_endpoints(&process.application),
        destinations: handlers.destinations(),
        ingresses: connectors::ingresses(config, process, streams).await?,
        egresses: connectors::egresses(config, process, streams)?,
    })
}

/// Endpoints of an application, with the processes of those that run here.
pub(super) struct Handlers {
    destinations: Vec<Destination>,
    lambdas: Vec<Arc<LocalLambda>>,
    served: Vec<Served>,
    /// Server of AWS's Invoke API, if it is enabled. Ends when it is dropped.
    invoke_api: Option<(SocketAddr, JoinSet<()>)>,
}

impl Handlers {
    /// Builds and starts the handlers, one after the other: cargo would let builds of one
    /// workspace wait for each other anyway.
    pub(super) async fn start(
        config: &DevConfig,
        application: &Application,
        metrics: &Metrics,
    ) -> Result<Self, Failure> {
        let launcher = Launcher::this_binary().map_err(|error| {
            Failure::caused(Exit::Environment, "cannot find this binary again", error)
        })?;
        let mut handlers = Self {
            destinations: Vec::new(),
            lambdas: Vec::new(),
            served: Vec::new(),
            invoke_api: None,
        };
        let mut configs = AwsConfigs::default();
        for endpoint in &application.endpoints {
            let destination = match &endpoint.adapter {
                EndpointAdapter::Lambda(lambda) => {
                    let spec = function_spec(config, endpoint, lambda, launcher.clone());
                    let started = LocalLambda::start(spec).await;
                    let started = Arc::new(started.map_err(|error| {
                        Failure::caused(Exit::Environment, &endpoint.source, error)
                    })?);
                    handlers.lambdas.push(Arc::clone(&started));
                    handlers.served.push(Served {
                        name: lambda.function_name.clone(),
                        lambda: Arc::clone(&started),
                        timeout: lambda.timeout,
                        qualifiers: lambda.qualifier.iter().cloned().collect(),
                        concurrency_max: config.lambda_concurrency,
                    });
                    Destination {
                        name: lambda.function_name.as_str().into(),
                        invoker: Arc::new(Invoker::Local(Box::new(LocalLambdaInvoker::new(
                            started,
                            lambda.timeout,
                        )))),
                    }
                }
                EndpointAdapter::Http(http) => {
                    destinations::http(endpoint, http, &mut configs).await?
                }
            };
            handlers.destinations.push(destination);
        }
        if let Some(address) = config.lambda_api {
            handlers.serve_invoke_api(address, metrics.clone()).await?;
        }
        Ok(handlers)
    }

    /// Address of AWS's Invoke API, if it is served.
    pub(super) fn invoke_api(&self) -> Option<SocketAddr> {
        self.invoke_api.as_ref().map(|(address, _)| *address)
    }

    async fn serve_invoke_api(
        &mut self,
        address: SocketAddr,
        metrics: Metrics,
    ) -> Result<(), Failure> {
        let wrong = |error: std::io::Error| {
            Failure::caused(Exit::Environment, format!("--lambda-api {address}"), error)
        };
        let listener = TcpListener::bind(address).await.map_err(wrong)?;
        let bound = listener.local_addr().map_err(wrong)?;
        let api = InvokeApi::of(std::mem::take(&mut self.served));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let served = api.serve(listener, metrics, std::future::pending());
            if let Err(error) = served.await {
                tracing::error!(%error, "Invoke API failed; it is no longer served");
            }
        });
        self.invoke_api = Some((bound, tasks));
        Ok(())
    }

    /// Endpoints in the order of the module files.
    fn destinations(&self) -> Vec<Destination> {
        self.destinations.clone()
    }

    /// Stops the handler processes.
    pub(super) async fn stop(&self) {
        futures::future::join_all(self.lambdas.iter().map(|lambda| lambda.shutdown())).await;
    }
}

fn function_spec(
    config: &DevConfig,
    endpoint: &EndpointSpec,
    lambda: &LambdaEndpoint,
    launcher: Launcher,
) -> FunctionSpec {
    FunctionSpec {
        name: lambda.function_name.clone(),
        dir: endpoint.source.directory(),
        program: match &lambda.dev_command {
            Some(command) => Program::Command(command.clone()),
            None => Program::Cargo {
                bin: lambda.function_name.clone(),
                release: config.release,
            },
        },
        environment: Vec::new(),
        processes_max: processes_max(endpoint.engine.concurrency_max),
        memory_mb: HANDLER_MEMORY_MB,
        watch: config.watch,
        launcher,
        log_lines: LogLines::stderr(),
    }
}

/// Returns the endpoints as the engine sees them: with no more concurrent requests than there are
/// processes, so that batches gather in the dispatcher, into bundles, and not one by one in front
/// of the processes.
fn engine_endpoints(application: &Application) -> Endpoints {
    let endpoints = application.endpoints.iter().map(|endpoint| Endpoint {
        concurrency_max: match &endpoint.adapter {
            EndpointAdapter::Lambda(_) => processes_max(endpoint.engine.concurrency_max),
            EndpointAdapter::Http(_) => endpoint.engine.concurrency_max,
        },
        ..endpoint.engine.clone()
    });
    Endpoints::new(endpoints.collect())
}
