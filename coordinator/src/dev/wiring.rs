//! From what a module file says to what runs: handlers, invokers, routes.

use std::net::SocketAddr;
use std::sync::Arc;

use satchel_engine::endpoint::{Endpoint, Endpoints};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::cli::{Exit, Failure};
use crate::config::DevConfig;
use crate::destinations::{self, AwsConfigs};
use crate::dev::lambda::invoke_api::{InvokeApi, Served};
use crate::dev::lambda::{FunctionSpec, Launcher, LocalLambda, LogLines, Program, processes_max};
use crate::ingress::routing::Routing;
use crate::invoker::Invoker;
use crate::invoker::local_lambda::LocalLambdaInvoker;
use crate::module::{
    Application, EndpointAdapter, EndpointSpec, IngressAdapter, IngressSpec, IngressStream,
    KinesisIngress, LambdaEndpoint,
};
use crate::runtime::dispatch::Destination;

/// What a handler is told as its memory size, in megabytes. Nothing enforces it here.
const HANDLER_MEMORY_MB: u32 = 512;

/// The endpoints of an application, with the processes of those that run here.
pub(super) struct Handlers {
    destinations: Vec<Destination>,
    lambdas: Vec<Arc<LocalLambda>>,
    served: Vec<Served>,
    /// Serves them under AWS's Invoke API, if that was asked for; ends when it is dropped.
    invoke_api: Option<(SocketAddr, JoinSet<()>)>,
}

impl Handlers {
    /// Builds and starts what runs here, one after the other: cargo would let builds of one workspace wait for each other anyway.
    pub(super) async fn start(
        config: &DevConfig,
        application: &Application,
    ) -> Result<Self, Failure> {
        let launcher = Launcher::this_binary().map_err(|error| {
            Failure::new(
                Exit::Environment,
                format!("this binary can not be found again: {error}"),
            )
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
                        Failure::new(Exit::Environment, format!("{}: {error}", endpoint.source))
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
                        invoker: Arc::new(Invoker::LocalLambda(LocalLambdaInvoker::new(
                            started,
                            lambda.timeout,
                        ))),
                    }
                }
                EndpointAdapter::Http(http) => {
                    destinations::http(endpoint, http, &mut configs).await?
                }
            };
            handlers.destinations.push(destination);
        }
        if let Some(address) = config.lambda_api {
            handlers.serve_invoke_api(address).await?;
        }
        Ok(handlers)
    }

    /// Where AWS's Invoke API is served, if it is.
    pub(super) fn invoke_api(&self) -> Option<SocketAddr> {
        self.invoke_api.as_ref().map(|(address, _)| *address)
    }

    async fn serve_invoke_api(&mut self, address: SocketAddr) -> Result<(), Failure> {
        let wrong = |error: std::io::Error| {
            Failure::new(
                Exit::Environment,
                format!("--lambda-api {address}: {error}"),
            )
        };
        let listener = TcpListener::bind(address).await.map_err(wrong)?;
        let bound = listener.local_addr().map_err(wrong)?;
        let api = InvokeApi::of(std::mem::take(&mut self.served));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            if let Err(error) = api.serve(listener, std::future::pending()).await {
                tracing::error!(%error, "the Invoke API ended");
            }
        });
        self.invoke_api = Some((bound, tasks));
        Ok(())
    }

    /// The endpoints in the order of the module files.
    pub(super) fn destinations(&self) -> Vec<Destination> {
        self.destinations.clone()
    }

    /// Ends the processes.
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

/// The endpoints as the engine is to know them: no more requests at once than there are processes for them, so that batches gather in
/// the dispatcher, into bundles, and not one by one in front of the processes.
pub(super) fn engine_endpoints(application: &Application) -> Endpoints {
    let endpoints = application.endpoints.iter().map(|endpoint| Endpoint {
        concurrency_max: match &endpoint.adapter {
            EndpointAdapter::Lambda(_) => processes_max(endpoint.engine.concurrency_max),
            EndpointAdapter::Http(_) => endpoint.engine.concurrency_max,
        },
        ..endpoint.engine.clone()
    });
    Endpoints::new(endpoints.collect())
}

/// Every stream that is read, with its ingress.
pub(super) fn ingress_streams(
    application: &Application,
) -> impl Iterator<Item = (&IngressSpec, &KinesisIngress, &IngressStream)> {
    application.ingresses.iter().flat_map(|ingress| {
        let kinesis = match &ingress.adapter {
            IngressAdapter::Kinesis(kinesis) => Some(kinesis),
            IngressAdapter::Sqs(_) => None,
        };
        kinesis.into_iter().flat_map(move |kinesis| {
            let streams = kinesis.streams.iter();
            streams.map(move |stream| (ingress, kinesis, stream))
        })
    })
}

/// Where the records of a stream go.
pub(super) fn routing(stream: &IngressStream) -> Routing {
    Routing {
        value_type: stream.value_type.clone(),
        targets: stream.targets.clone(),
        id: stream.id.clone(),
    }
}
