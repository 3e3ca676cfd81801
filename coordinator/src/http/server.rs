//! Serves a router on a listener, within limits.

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

/// Why a port can not be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process has it.
    #[error(
        "can not listen on {address} for {purpose}: another process uses this port; stop it or choose another port with {option}"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
        /// What it is for.
        purpose: &'static str,
        /// The flag that chooses it.
        option: &'static str,
    },
    /// The operating system refuses it for another reason.
    #[error("can not listen on {address} for {purpose} (chosen by {option}): {source}")]
    Refused {
        /// The address.
        address: SocketAddr,
        /// What it is for.
        purpose: &'static str,
        /// The flag that chooses it.
        option: &'static str,
        /// What it says.
        source: io::Error,
    },
}

/// Listens on `address`; port 0 takes a free one.
///
/// # Errors
///
/// When the address is in use, not of this machine, or not allowed. All are faults of the environment (exit code 5).
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
    /// How many connections are served at once; more wait in the listener's queue.
    pub connections_max: usize,
    /// How long a client may take to send a request's head, and how long a connection may idle between requests.
    pub head_time_max: Duration,
    /// The largest head in bytes.
    pub head_bytes_max: usize,
    /// How long requests may go on after the shutdown began.
    pub shutdown_time_max: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            // Longer than the 60 s for which load balancers keep idle connections: whoever closes first must not be the server, or a
            // request may be on its way already.
            head_time_max: Duration::from_secs(75),
            head_bytes_max: 64 * 1024,
            shutdown_time_max: Duration::from_secs(10),
        }
    }
}

/// What a port listens on.
#[derive(Debug)]
pub struct Listening {
    /// Where connections come in.
    pub tcp: TcpListener,
    /// How they are encrypted; plain HTTP if there is none.
    pub tls: Option<Tls>,
}

impl From<TcpListener> for Listening {
    fn from(tcp: TcpListener) -> Self {
        Self { tcp, tls: None }
    }
}

/// The library takes no smaller buffer.
const BUFFER_BYTES_MIN: usize = 8192;

/// Serves `router` on `listening` until `shutdown`, then finishes the requests under way and returns.
///
/// A connection that dies takes the request it carries with it: the handler's future is dropped. After
/// [`ServeLimits::shutdown_time_max`] so are those that have not finished.
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
                    Err(error) => tracing::debug!(%error, "a TLS handshake failed"),
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
            "requests were cut off: they had not finished {:?} after the shutdown began",
            limits.shutdown_time_max
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
        tracing::debug!(%error, "a connection ended early");
    }
}

/// The next connection, as soon as there may be one more.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    let permit = Arc::clone(permits)
        .acquire_owned()
        .await
        .expect("nobody closes this semaphore");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are small and whole: waiting to fill a packet would only delay them.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY could not be set");
                }
                return (stream, permit);
            }
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                // Most likely all file descriptors are in use; some will be free again.
                tracing::warn!(%error, "no connection could be accepted");
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
        tracing::error!(%error, "serving a connection panicked: this is a defect of Satchel");
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
