//! Delivery of the request of a replay: to a handler, a function server or a file.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use satchel_engine::invocation::{
    Batch, BatchOutcome, Bundle, BundleId, BundleOutcome, EndpointIndex, Failure as BatchFailure,
    FailureKind,
};
use satchel_protocol::effects::decode_answer;

use super::args::Destination;
use crate::dev::lambda::{
    FunctionSpec, Launcher, LocalLambda, LocalLambdaInvoker, LogLines, Program,
};
use crate::error::{Exit, Failure};
use crate::invoker::Invoker;
use crate::invoker::http::{HttpEndpoint, HttpInvoker};
use crate::invoker::lambda_envelope::Envelope;
use crate::module::{EndpointAdapter, EndpointSpec};

/// Id of the requests of a replay. A process numbers its own from the other end.
const REPLAY_BUNDLE: BundleId = BundleId(u64::MAX);

/// Memory size, in megabytes, that handlers see in their environment, as in `satchel dev`.
const HANDLER_MEMORY_MB: u32 = 512;

/// Form of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// Envelope of bundles, for handlers on Lambda.
    Bundle,
    /// StateFun's `ToFunction`, for function servers over HTTP.
    RequestReply,
}

impl Route {
    /// Form of the request for a destination. `is_http` says whether the module file has an HTTP
    /// endpoint.
    pub(super) fn of(destination: &Destination, is_http: bool) -> Self {
        match destination {
            Destination::Command(_) | Destination::Handler => Self::Bundle,
            Destination::Url(_) => Self::RequestReply,
            Destination::Write(_) | Destination::Answer(_) if is_http => Self::RequestReply,
            Destination::Write(_) | Destination::Answer(_) => Self::Bundle,
        }
    }
}

/// Result of a delivery.
pub(super) enum Sent {
    /// It was written, as this note says.
    Written(String),
    /// It was answered.
    Answered(BatchOutcome),
}

/// Delivers requests to one destination.
pub(super) enum Courier {
    /// Handler that was started here.
    Handler {
        lambda: Arc<LocalLambda>,
        invoker: LocalLambdaInvoker,
    },
    /// Function server.
    Server(Box<Invoker>),
    /// File, or standard output.
    File { file: Option<PathBuf>, route: Route },
    /// Answer in a file, until it was read.
    Answer { file: Option<PathBuf>, route: Route },
}

impl Courier {
    /// Prepares the destination. A handler is started.
    pub(super) async fn open(
        destination: Destination,
        route: Route,
        endpoint: Option<&EndpointSpec>,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        match destination {
            Destination::Command(command) => {
                let directory = std::env::current_dir().map_err(|error| {
                    Failure::caused(Exit::Environment, "the current directory", error)
                })?;
                let name = command.first().cloned().unwrap_or_default();
                let name = match endpoint.map(|it| &it.adapter) {
                    Some(EndpointAdapter::Lambda(lambda)) => lambda.function_name.clone(),
                    _ => base_name(&name),
                };
                Self::start(name, directory, Program::Command(command), timeout).await
            }
            Destination::Handler => {
                let Some((endpoint, EndpointAdapter::Lambda(lambda))) =
                    endpoint.map(|it| (it, &it.adapter))
                else {
                    return Err(Failure::usage(
                        "--handler starts the handler of a Lambda endpoint; this one is HTTP: \
                         give its --url",
                    ));
                };
                let name = lambda.function_name.clone();
                let program = match &lambda.dev_command {
                    Some(command) => Program::Command(command.clone()),
                    None => Program::Cargo {
                        bin: name.clone(),
                        release: false,
                    },
                };
                Self::start(name, endpoint.source.directory(), program, timeout).await
            }
            Destination::Url(url) => {
                let settings = HttpEndpoint {
                    call: timeout,
                    ..HttpEndpoint::new(&url)
                };
                let invoker = HttpInvoker::new(&settings);
                let invoker = invoker
                    .map_err(|error| Failure::caused(Exit::Usage, format!("--url {url}"), error))?;
                Ok(Self::Server(Box::new(Invoker::Http(invoker))))
            }
            Destination::Write(file) => Ok(Self::File { file, route }),
            Destination::Answer(file) => Ok(Self::Answer {
                file: Some(file),
                route,
            }),
        }
    }

    async fn start(
        name: String,
        dir: PathBuf,
        program: Program,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let launcher = Launcher::this_binary().map_err(|error| {
            Failure::caused(Exit::Environment, "cannot find this binary again", error)
        })?;
        let spec = FunctionSpec {
            name,
            dir,
            program,
            environment: Vec::new(),
            processes_max: 1,
            memory_mb: HANDLER_MEMORY_MB,
            watch: false,
            launcher,
            log_lines: LogLines::stderr(),
        };
        let lambda = match std::io::stdin().is_terminal() {
            true => {
                ignore_interrupts();
                LocalLambda::start_in_terminal(spec).await
            }
            false => LocalLambda::start(spec).await,
        };
        let lambda = lambda.map_err(|error| {
            Failure::caused(Exit::Environment, "the handler cannot be started", error)
        })?;
        let lambda = Arc::new(lambda);
        Ok(Self::Handler {
            invoker: LocalLambdaInvoker::new(Arc::clone(&lambda), timeout),
            lambda,
        })
    }

    /// Delivers a request once.
    ///
    /// # Errors
    /// [`Exit::Environment`] if no handler or server took it, or a file cannot be read or written.
    pub(super) async fn deliver(&mut self, batch: Arc<Batch>) -> Result<Sent, Failure> {
        let attempt = batch.attempt;
        let bundle = Bundle {
            id: REPLAY_BUNDLE,
            endpoint: EndpointIndex(0),
            batches: vec![Arc::clone(&batch)],
            new_connection: false,
        };
        let outcome = match self {
            Self::Handler { invoker, .. } => invoker.invoke(bundle).await,
            Self::Server(invoker) => invoker.invoke(bundle).await,
            Self::File { file, route } => {
                let bytes = encode(*route, &bundle, &batch)?;
                return write(file.as_ref(), &bytes).map(Sent::Written);
            }
            Self::Answer { file, route } => {
                let Some(file) = file.take() else {
                    return Err(Failure::new(
                        Exit::Refused,
                        "the function asks for states that the root does not know yet: let it \
                         answer to --to or --url, which ask it again",
                    ));
                };
                let bytes = std::fs::read(&file).map_err(|error| {
                    Failure::caused(Exit::Environment, file.display().to_string(), error)
                })?;
                decode(*route, &bundle, bytes)
            }
        };
        let outcome = match outcome {
            BundleOutcome::Failed(failure) => Err(failure),
            BundleOutcome::Answered(results) => {
                let mut results = results.into_iter();
                let found = results.find(|(of, _)| *of == attempt);
                found.map_or_else(|| Err(no_result()), |(_, outcome)| outcome)
            }
        };
        match outcome {
            Err(failure) if failure.kind == FailureKind::Unavailable => {
                let message = format!("no handler took the request: {failure}");
                Err(Failure::new(Exit::Environment, message))
            }
            outcome => Ok(Sent::Answered(outcome)),
        }
    }

    /// Ends a handler that was started here.
    pub(super) async fn close(&self) {
        if let Self::Handler { lambda, .. } = self {
            lambda.shutdown().await;
        }
    }
}

fn no_result() -> BatchFailure {
    let text = "the answer has no result for the request";
    BatchFailure::new(FailureKind::Function, text)
}

fn encode(route: Route, bundle: &Bundle, batch: &Batch) -> Result<Vec<u8>, Failure> {
    match route {
        Route::Bundle => Envelope::new()
            .encode(bundle)
            .map_err(|failure| Failure::new(Exit::Refused, failure.to_string())),
        Route::RequestReply => Ok(batch.to_wire().encode_to_vec()),
    }
}

fn decode(route: Route, bundle: &Bundle, bytes: Vec<u8>) -> BundleOutcome {
    match route {
        Route::Bundle if is_function_error(&bytes) => {
            BundleOutcome::Failed(Envelope::function_error(&bytes))
        }
        Route::Bundle => Envelope::new().decode(bundle, &bytes),
        Route::RequestReply => {
            let answer = decode_answer(bytes.into())
                .map_err(|error| BatchFailure::new(FailureKind::Ambiguous, error.to_string()));
            let attempts = bundle.batches.iter().map(|batch| batch.attempt);
            BundleOutcome::Answered(attempts.zip([answer]).collect())
        }
    }
}

/// Returns whether bytes are a function error of Lambda, which its API marks in a header.
fn is_function_error(bytes: &[u8]) -> bool {
    let error = serde_json::from_slice::<serde_json::Value>(bytes);
    error.is_ok_and(|error| error.get("errorType").is_some() && error.get("results").is_none())
}

fn write(file: Option<&PathBuf>, bytes: &[u8]) -> Result<String, Failure> {
    let Some(file) = file else {
        let mut out = std::io::stdout().lock();
        let written = out.write_all(bytes).and_then(|()| out.flush());
        written.map_err(|error| Failure::caused(Exit::Environment, "standard output", error))?;
        return Ok(format!("request of {} bytes written", bytes.len()));
    };
    let place = file.display().to_string();
    std::fs::write(file, bytes)
        .map_err(|error| Failure::caused(Exit::Environment, &place, error))?;
    Ok(format!("request of {} bytes in {place}", bytes.len()))
}

/// Leaves Ctrl-C to the command that has the terminal.
fn ignore_interrupts() {
    tokio::spawn(async { while tokio::signal::ctrl_c().await.is_ok() {} });
}

fn base_name(program: &str) -> String {
    let name = std::path::Path::new(program).file_name();
    name.map_or_else(
        || "handler".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}
