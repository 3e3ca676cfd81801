//! The peer port: requests that other processes of the application forward.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::routing::get;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::forward::{CLIENT_HEADER, Forwarder, Hop, Surface, layer};
use super::identity::{Identity, fingerprint};
use super::members::{Membership, SharedMembership};
use super::partitions::PartitionPort;
use crate::error::{Exit, Failure};
use crate::http::{
    AdminRights, Budget, Client, Guard, Guest, Port, Progressing, ServeLimits, surface,
};
use crate::log_limit::Seldom;
use crate::metrics::Metrics;

/// Maximum time for a handshake and the check of the key.
const ADMISSION_TIME_MAX: Duration = Duration::from_secs(5);

/// Maximum number of connections whose key is not checked yet.
const STRANGERS_MAX: usize = 64;

/// Maximum number of connections.
const CONNECTIONS_MAX: usize = 256;

/// Maximum number of requests in progress on one connection. The budget of the port limits all but
/// the streams of frames, of which two processes with half of 256 partitions each have 16,384.
const STREAMS_MAX: u32 = 20_000;

/// Window of one body and of all bodies of a connection, in bytes.
const WINDOWS: (u32, u32) = (1 << 20, 8 << 20);

/// Maximum size of the head of a request or of an answer, in bytes.
pub(super) const HEAD_BYTES_MAX: u32 = 72 << 10;

/// Interval of pings, and maximum time for their answers.
const PING: Duration = Duration::from_secs(5);

/// Pause between two warnings about refused connections.
const WARNING_PAUSE: Duration = Duration::from_secs(10);

/// Path of a request that tells a new connection that its key was admitted. In TLS 1.3, the
/// handshake alone does not: the side that connects completes it first.
pub(super) const HELLO: &str = "/hello";

/// Path before those of the traffic port.
pub(super) const TRAFFIC: &str = "/traffic";

/// Path before those of the administration port.
pub(super) const ADMIN: &str = "/admin";

/// Path before those of requests from one process to another.
pub(super) const PARTITIONS: &str = "/partitions";

/// Parts of the peer port.
pub(crate) struct PeerPortParts {
    /// Listener.
    pub(crate) listener: TcpListener,
    /// Key of this process.
    pub(crate) identity: Arc<Identity>,
    /// Check of the keys of other processes.
    pub(crate) membership: Membership,
    /// Routes, as [`routes`] makes them.
    pub(crate) routes: Router,
    /// Answers to other processes about the partitions of this one, if there are several.
    pub(crate) partitions: Option<PartitionPort>,
    /// Limits.
    pub(crate) limits: ServeLimits,
    /// Metrics of the process.
    pub(crate) metrics: Metrics,
}

/// Returns the routes of the peer port: those of the traffic port and of the administration port,
/// behind the check that this process is the owner.
pub(crate) fn routes(
    (traffic, admin): (Router, Router),
    forwarder: Forwarder,
    metrics: Metrics,
) -> Router {
    let traffic = layer(traffic, forwarder.clone(), Hop::Peer, Surface::Traffic);
    let admin = layer(
        admin,
        forwarder,
        Hop::Peer,
        Surface::Admin(AdminRights::ALL),
    );
    // Only processes with an admitted key come here, and no browser has one.
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let routes = Router::new()
        .nest(TRAFFIC, traffic)
        .nest(ADMIN, admin)
        .route(HELLO, get(|| async {}));
    surface(Port::Peer, routes, Guard::of(everywhere, []), metrics)
}

/// Serves the peer port until `shutdown`, then finishes the requests in flight.
///
/// # Errors
///
/// The cryptographic library rejects the own key (exit code 5).
pub(crate) fn serve(
    parts: PeerPortParts,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
    let config = parts.identity.accepts();
    let config = config
        .map_err(|error| Failure::caused(Exit::Environment, "making the peer port", error))?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Ok(run(parts, acceptor, shutdown))
}

async fn run(parts: PeerPortParts, acceptor: TlsAcceptor, shutdown: impl Future<Output = ()>) {
    let PeerPortParts {
        listener,
        identity: _,
        membership,
        routes,
        partitions,
        limits,
        metrics,
    } = parts;
    let connection = Connections {
        acceptor,
        membership: Arc::new(membership),
        strangers: Arc::new(Semaphore::new(STRANGERS_MAX)),
        routes,
        partitions,
        budget: Budget::new(limits),
        limits,
        metrics,
        refusals: Arc::new(Mutex::new(Seldom::new(WARNING_PAUSE))),
    };
    let graceful = GracefulShutdown::new();
    let mut tasks = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let (stream, address) = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = tasks.join_next() => continue,
            accepted = listener.accept(), if tasks.len() < CONNECTIONS_MAX => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "accepting a connection of a process failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        tasks.spawn(
            connection
                .clone()
                .serve(stream, address, graceful.watcher()),
        );
    }
    drop(listener);
    let _ = tokio::time::timeout(limits.shutdown_time_max, graceful.shutdown()).await;
    tasks.shutdown().await;
}

/// State that all connections share.
#[derive(Clone)]
struct Connections {
    acceptor: TlsAcceptor,
    membership: SharedMembership,
    strangers: Arc<Semaphore>,
    routes: Router,
    partitions: Option<PartitionPort>,
    budget: Budget,
    limits: ServeLimits,
    metrics: Metrics,
    refusals: Arc<Mutex<Seldom>>,
}

impl Connections {
    async fn serve(self, stream: TcpStream, address: SocketAddr, watcher: Watcher) {
        let Ok(stranger) = Arc::clone(&self.strangers).try_acquire_owned() else {
            return self.refuse(address, "too_many_strangers");
        };
        let admission = tokio::time::timeout(ADMISSION_TIME_MAX, self.admit(stream));
        let stream = match admission.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(reason)) => return self.refuse(address, reason),
            Err(_) => return self.refuse(address, "too_slow"),
        };
        drop(stranger);
        self.metrics.observe_connection_opened(Port::Peer.as_str());
        self.serve_admitted(stream, address, watcher).await;
        self.metrics.observe_connection_closed(Port::Peer.as_str());
    }

    /// Performs the handshake and checks the key.
    async fn admit(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, &'static str> {
        let _ = stream.set_nodelay(true);
        let stream = self.acceptor.accept(stream).await;
        let stream = stream.map_err(|error: io::Error| {
            tracing::debug!(%error, "TLS handshake of a process failed");
            "handshake"
        })?;
        let (_, session) = stream.get_ref();
        let shown = session.peer_certificates().and_then(<[_]>::first);
        let key = fingerprint(shown.ok_or("handshake")?);
        self.membership.admit(&key).await?;
        Ok(stream)
    }

    fn refuse(&self, address: SocketAddr, reason: &'static str) {
        self.metrics.observe_peer_refused(reason);
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(suppressed) = refusals.admit(Instant::now()) {
            tracing::warn!(
                client = %address.ip(),
                reason,
                suppressed,
                "connection to the peer port refused"
            );
        }
    }

    async fn serve_admitted(
        &self,
        stream: TlsStream<TcpStream>,
        address: SocketAddr,
        watcher: Watcher,
    ) {
        let limits = self.limits;
        let stream = Progressing::new(stream, limits.progress_time_max, Arc::default(), |_| Ok(()));
        let (routes, budget) = (self.routes.clone(), self.budget.clone());
        let partitions = self.partitions.clone();
        let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let (routes, budget) = (routes.clone(), budget.clone());
            let partitions = partitions.clone();
            async move {
                let is_of_partitions = request.uri().path().starts_with(PARTITIONS);
                if let Some(partitions) = partitions.filter(|_| is_of_partitions) {
                    // It comes from the other process itself.
                    return Ok(partitions.serve(request.map(Body::new)).await);
                }
                // The budget is that of the client which reached the other process.
                let client = client(request.headers()).unwrap_or(address.ip());
                let guest = Guest::new(Client::from(client), &budget);
                guest.serve(routes, request).await
            }
        });
        let connection = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .initial_stream_window_size(WINDOWS.0)
            .initial_connection_window_size(WINDOWS.1)
            .max_header_list_size(HEAD_BYTES_MAX)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%error, "connection of a process ended early");
        }
    }
}

/// Returns the address of the client that the other process names.
fn client(headers: &HeaderMap) -> Option<IpAddr> {
    headers.get(CLIENT_HEADER)?.to_str().ok()?.parse().ok()
}
