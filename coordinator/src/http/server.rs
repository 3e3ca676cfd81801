//! HTTP server with limits.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{self, JoinSet};

use super::Port;
use super::guest::{Budget, Guest};
use super::ledger::{Client, Exceeded, Limit, Share};
use super::progress::Progressing;
use super::tls::Tls;
use crate::log_limit::Seldom;
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
    /// Limit of connections. One beyond it takes the place of an idle one. If none is idle, a
    /// client over its own limit is turned away, and further ones wait in the listener's queue.
    pub connections: Limit,
    /// Limit of requests in progress, which includes calls that wait for their answer. Another one
    /// is answered with 503.
    pub requests: Limit,
    /// Limit of the bytes of heads beyond 4 KiB each, of bodies that were received and not yet
    /// taken by the partition, and of answers of more than 64 KiB that their clients have not
    /// read. A head beyond it ends its connection. Other bytes beyond it are answered with 503.
    pub body_bytes: Limit,
    /// Maximum time in which a client that sends a body or reads an answer makes no progress.
    pub progress_time_max: Duration,
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
            connections: Limit::of(4096),
            requests: Limit::of(3072),
            body_bytes: Limit::of(256 << 20),
            progress_time_max: Duration::from_secs(10),
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

/// Pause between two looks for idle connections while the port is full.
const IDLE_PAUSE: Duration = Duration::from_millis(50);

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
    let budget = Budget::new(limits);
    let mut guests = Guests::new(port, budget.clone());
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(ended) = connections.join_next_with_id() => {
                guests.ended(ended);
                continue;
            }
            accepted = accept(&tcp), if guests.has_room() => accepted,
            () = tokio::time::sleep(IDLE_PAUSE), if !guests.has_room() => {
                guests.look_for_idle();
                continue;
            }
        };
        let (stream, address) = accepted;
        let client = Client::from(address.ip());
        let Some(share) = guests.admit(client) else {
            continue;
        };
        let guest = Guest::new(client, &budget);
        let open = OpenConnection::new(port, metrics.clone(), share);
        let (router, tls, watcher) = (router.clone(), tls.clone(), graceful.watcher());
        let served = Arc::clone(&guest);
        let task = connections.spawn(async move {
            let _open = open;
            let guest = Arc::clone(&served);
            let serving = async move {
                match tls {
                    None => serve_connection(stream, guest, router, limits, watcher).await,
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => {
                            serve_connection(stream, guest, router, limits, watcher).await;
                        }
                        Err(error) => tracing::debug!(%error, "TLS handshake failed"),
                    },
                }
            };
            tokio::select! {
                () = serving => {}
                () = served.leaves() => {}
            }
        });
        guests.began(task.id(), guest);
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
    guest: Arc<Guest>,
    router: Router,
    limits: ServeLimits,
    watcher: Watcher,
) {
    let unsent = Arc::clone(&guest.unsent);
    let reader = Arc::clone(&guest);
    let count = move |bytes: &[u8]| reader.has_read(bytes);
    let stream = Progressing::new(stream, limits.progress_time_max, unsent, count);
    let service = service_fn(move |request| Arc::clone(&guest).serve(router.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time_max)
        .max_header_size(limits.head_bytes_max)
        .max_buf_size(limits.head_bytes_max.max(BUFFER_BYTES_MIN))
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "connection ended early");
    }
}

/// Accepts the next connection.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                // Answers are small and complete: waiting to fill a packet would only delay them.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY not set");
                }
                return (stream, address);
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

/// Pause between two warnings about connections that were closed or turned away.
const WARNING_PAUSE: Duration = Duration::from_secs(10);

/// Connections of a port, to make room for further ones.
struct Guests {
    port: Port,
    budget: Budget,
    present: HashMap<task::Id, Arc<Guest>>,
    /// True if the port is full, until a connection ends or is idle.
    full: bool,
    /// Warnings about connections that were closed or turned away.
    warnings: Seldom,
}

impl Guests {
    fn new(port: Port, budget: Budget) -> Self {
        Self {
            port,
            budget,
            present: HashMap::new(),
            full: false,
            warnings: Seldom::new(WARNING_PAUSE),
        }
    }

    /// Returns whether a further connection may be accepted.
    fn has_room(&self) -> bool {
        !self.full
    }

    /// Gives `client` a place for a connection, if necessary that of an idle one.
    fn admit(&mut self, client: Client) -> Option<Share> {
        let connections = Arc::clone(&self.budget.connections);
        let exceeded = match connections.take(client, 1) {
            Ok(share) => return Some(share),
            Err(exceeded) => exceeded,
        };
        let idle = self.present.values().filter_map(|guest| {
            let since = guest.idle_since()?;
            let wanted = matches!(exceeded, Exceeded::All(_)) || guest.client == client;
            wanted.then(|| (connections.held_by(guest.client), since, guest))
        });
        // The one that is idle for the longest time, of the client with most connections.
        let victim = idle.max_by_key(|(held, since, _)| (*held, std::cmp::Reverse(*since)));
        let victim = victim.map(|(_, _, guest)| Arc::clone(guest));
        self.warn(client, exceeded, victim.is_some());
        match (victim, exceeded) {
            (Some(victim), _) => {
                victim.ask_to_leave();
                Some(connections.take_beyond(client, 1))
            }
            (None, Exceeded::Client(_)) => None,
            (None, Exceeded::All(_)) => {
                // It was accepted already; the next one waits until another has ended.
                self.full = true;
                Some(connections.take_beyond(client, 1))
            }
        }
    }

    /// Accepts connections again if one has become idle, which then makes room.
    fn look_for_idle(&mut self) {
        let mut present = self.present.values();
        self.full = !present.any(|guest| guest.idle_since().is_some());
    }

    fn began(&mut self, task: task::Id, guest: Arc<Guest>) {
        self.present.insert(task, guest);
    }

    fn ended(&mut self, ended: Result<(task::Id, ()), task::JoinError>) {
        self.full = false;
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                tracing::error!(%error, "panic in a connection: this is a bug of Satchel");
                error.id()
            }
        };
        self.present.remove(&id);
    }

    fn warn(&mut self, client: Client, exceeded: Exceeded, replaces_idle: bool) {
        let Some(suppressed) = self.warnings.admit(Instant::now()) else {
            return;
        };
        let (limit, of) = match exceeded {
            Exceeded::All(limit) => (limit, "all clients"),
            Exceeded::Client(limit) => (limit, "one client address"),
        };
        tracing::warn!(
            port = self.port.as_str(),
            %client,
            limit,
            of,
            replaces_idle,
            suppressed,
            "connection limit reached"
        );
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

/// Counts a connection while it is open.
struct OpenConnection {
    port: Port,
    metrics: Metrics,
    _share: Share,
}

impl OpenConnection {
    fn new(port: Port, metrics: Metrics, share: Share) -> Self {
        metrics.observe_connection_opened(port.as_str());
        Self {
            port,
            metrics,
            _share: share,
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.metrics.observe_connection_closed(self.port.as_str());
    }
}
