//! HTTP server with limits.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::Port;
use super::tls::Tls;
use crate::metrics::Metrics;

/// Error of a port that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process uses the port.
    #[error(
        "cannot listen on {address} for {purpose}: another process uses this port; \
         stop it or choose another port with {option}"
    )]
    InUse {
        /// Address of the port.
        address: SocketAddr,
        /// Purpose of the port.
        purpose: &'static str,
        /// Flag that sets it.
        option: &'static str,
    },
    /// The operating system refuses the port for another reason.
    #[error("cannot listen on {address} for {purpose} (set by {option}): {source}")]
    Refused {
        /// Address of the port.
        address: SocketAddr,
        /// Purpose of the port.
        purpose: &'static str,
        /// Flag that sets it.
        option: &'static str,
        /// Error of the operating system.
        source: io::Error,
    },
}

/// Listens on `address`. Port 0 picks a free port.
///
/// # Errors
///
/// The address is in use, not one of this machine, or not allowed. All are errors of the
/// environment (exit code 5).
pub async fn bind(address: SocketAddr, port: Port) -> Result<TcpListener, BindError> {
    let (purpose, option) = port.purpose();
    TcpListener::bind(address).await.map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            BindError::InUse {
                address,
                purpose,
                option,
            }
        } else {
            BindError::Refused {
                address,
                purpose,
                option,
                source,
            }
        }
    })
}

/// Limits of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServeLimits {
    /// Maximum number of connections served at once. Further ones wait in the listener's queue.
    pub connections_max: usize,
    /// Maximum time for the head of a request, and maximum idle time of a connection.
    pub head_time_max: Duration,
    /// Maximum size of a head in bytes.
    pub head_bytes_max: usize,
    /// Maximum time for requests in flight after the shutdown began.
    pub shutdown_time_max: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            // Longer than the 60 s for which load balancers keep idle connections. If the server
            // closed first, a request might be in flight already.
            head_time_max: Duration::from_secs(75),
            head_bytes_max: 64 * 1024,
            shutdown_time_max: Duration::from_secs(10),
        }
    }
}

/// Listener of a port.
#[derive(Debug)]
pub struct Listening {
    /// Source of connections.
    pub tcp: TcpListener,
    /// Encryption; none for plain HTTP.
    pub tls: Option<Tls>,
}

impl From<TcpListener> for Listening {
    fn from(tcp: TcpListener) -> Self {
        Self { tcp, tls: None }
    }
}

/// Minimum buffer size of the library, in bytes.
const BUFFER_BYTES_MIN: usize = 8192;

/// Serves `router` on `listening` until `shutdown`, then finishes the requests in flight.
///
/// When a connection ends, the future of its request is dropped. After
/// [`ServeLimits::shutdown_time_max`], the futures of all unfinished requests are dropped.
pub async fn serve(
    listening: impl Into<Listening>,
    router: Router,
    port: Port,
    limits: ServeLimits,
    metrics: Metrics,
    shutdown: impl Future<Output = ()>,
) {
    let Listening { tcp, tls } = listening.into();
    let permits = Arc::new(Semaphore::new(limits.connections_max));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let (stream, permit) = tokio::select! {
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
            accepted = accept(&tcp, &permits) => accepted,
        };
        let open = OpenConnection::new(port, metrics.clone(), permit);
        let (router, tls, watcher) = (router.clone(), tls.clone(), graceful.watcher());
        connections.spawn(async move {
            let _open = open;
            match tls {
                None => serve_connection(stream, router, limits, watcher).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => serve_connection(stream, router, limits, watcher).await,
                    Err(error) => tracing::debug!(%error, "TLS handshake failed"),
                },
            }
        });
    }
    drop(tcp);
    let finished = tokio::time::timeout(limits.shutdown_time_max, graceful.shutdown()).await;
    if finished.is_err() {
        tracing::warn!(
            port = port.as_str(),
            connections = connections.len(),
            limit_s = limits.shutdown_time_max.as_secs(),
            "unfinished requests dropped after the time limit of the shutdown"
        );
    }
    connections.shutdown().await;
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    limits: ServeLimits,
    watcher: Watcher,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time_max)
        .max_header_size(limits.head_bytes_max)
        .max_buf_size(limits.head_bytes_max.max(BUFFER_BYTES_MIN))
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "connection ended early");
    }
}

/// Accepts the next connection once the limit allows one more.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    let permit = Arc::clone(permits)
        .acquire_owned()
        .await
        .expect("this semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are small and complete: waiting to fill a packet would only delay them.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY not set");
                }
                return (stream, permit);
            }
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                // Probably all file descriptors are in use. Some will become free.
                tracing::warn!(%error, "accepting a connection failed; retrying");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "panic in a connection: this is a bug of Satchel");
    }
}

/// Counts a connection while it is open.
struct OpenConnection {
    port: Port,
    metrics: Metrics,
    _permit: OwnedSemaphorePermit,
}

impl OpenConnection {
    fn new(port: Port, metrics: Metrics, permit: OwnedSemaphorePermit) -> Self {
        metrics.observe_connection_opened(port.as_str());
        Self {
            port,
            metrics,
            _permit: permit,
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.metrics.observe_connection_closed(self.port.as_str());
    }
}
