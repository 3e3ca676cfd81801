//! Connections to the peer ports of other processes.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use satchel_aws::lease::PeerPort;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::identity::{Identity, NAME};
use super::server::{HEAD_BYTES_MAX, HELLO};
use crate::error::chain;

/// Maximum time for a connection and its handshake.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);

/// Pause after a failed connection. Requests fail at once meanwhile.
const PAUSE: Duration = Duration::from_millis(200);

/// Interval of pings, and maximum time for their answers: a process whose machine or network is
/// gone is noticed by them.
const PING: Duration = Duration::from_millis(1_500);

/// Window of one answer and of all answers of a connection, in bytes.
const WINDOWS: (u32, u32) = (1 << 20, 8 << 20);

/// Maximum number of processes with a connection.
const LINKS_MAX: usize = 64;

/// Failure of a request to another process.
#[derive(Debug)]
pub(super) enum LinkError {
    /// The request was certainly not sent.
    Unreached(String),
    /// The request may have been sent, and its answer is lost.
    Lost(String),
}

/// Connections to other processes, one for each. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Links {
    identity: Arc<Identity>,
    links: Arc<Mutex<BTreeMap<PeerPort, Arc<Link>>>>,
}

/// Connection to one process, made anew when it is lost.
#[derive(Debug, Default)]
struct Link {
    state: tokio::sync::Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sender: Option<SendRequest<Body>>,
    /// Time and reason of the last failure.
    failed: Option<(Instant, String)>,
}

impl Links {
    /// Creates the links of the process with this key.
    pub(crate) fn new(identity: Arc<Identity>) -> Self {
        Self {
            identity,
            links: Arc::default(),
        }
    }

    /// Returns links of the same process with connections of their own.
    pub(crate) fn separate(&self) -> Self {
        Self::new(Arc::clone(&self.identity))
    }

    /// Connects to a process, so that the first request need not wait for the handshake.
    pub(crate) async fn connect(&self, peer: &PeerPort) {
        // The request that needs the connection reports a failure.
        let _ = self.sender(peer).await;
    }

    /// Sends a request to a process and returns its answer. Dropping the future cancels the
    /// request there.
    pub(super) async fn send(
        &self,
        peer: &PeerPort,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, LinkError> {
        let mut sender = self.sender(peer).await.map_err(LinkError::Unreached)?;
        let sent = sender.try_send_request(request).await;
        sent.map_err(|mut error| {
            let unsent = error.take_message().is_some();
            let error = error.into_error();
            match unsent || is_untaken(&error) {
                true => LinkError::Unreached(chain(&error)),
                false => LinkError::Lost(chain(&error)),
            }
        })
    }

    async fn sender(&self, peer: &PeerPort) -> Result<SendRequest<Body>, String> {
        let link = self.link(peer);
        let mut state = link.state.lock().await;
        if let Some(sender) = state.sender.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        state.sender = None;
        if let Some((at, reason)) = &state.failed
            && at.elapsed() < PAUSE
        {
            return Err(reason.clone());
        }
        match self.open(peer).await {
            Ok(sender) => {
                state.failed = None;
                state.sender = Some(sender.clone());
                tracing::info!(peer = peer.address, "connected to another process");
                Ok(sender)
            }
            Err(error) => {
                let reason = chain(&error);
                state.failed = Some((Instant::now(), reason.clone()));
                Err(reason)
            }
        }
    }

    fn link(&self, peer: &PeerPort) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if links.len() >= LINKS_MAX && !links.contains_key(peer) {
            // Processes that are gone. A request in flight keeps its connection.
            links.clear();
        }
        Arc::clone(links.entry(peer.clone()).or_default())
    }

    async fn open(&self, peer: &PeerPort) -> io::Result<SendRequest<Body>> {
        let config = self.identity.connects_to(&peer.key);
        let connector = TlsConnector::from(Arc::new(config.map_err(io::Error::other)?));
        let opening = async {
            let tcp = TcpStream::connect(&peer.address).await?;
            tcp.set_nodelay(true)?;
            let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
            let tls = connector.connect(name, tcp).await?;
            let handshake = Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .initial_stream_window_size(WINDOWS.0)
                .initial_connection_window_size(WINDOWS.1)
                .max_header_list_size(HEAD_BYTES_MAX)
                .keep_alive_interval(PING)
                .keep_alive_timeout(PING)
                .keep_alive_while_idle(true)
                .handshake(TokioIo::new(tls));
            let (mut sender, connection) = handshake.await.map_err(io::Error::other)?;
            let address = peer.address.clone();
            // It ends with the last sender, or when the connection is lost.
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(peer = address, %error, "connection to another process ended");
                }
            });
            // Until the other process has admitted the key, nothing that counts may be sent.
            let admitted = sender.send_request(hello()?).await;
            admitted.map_err(io::Error::other)?;
            Ok(sender)
        };
        let opened = tokio::time::timeout(CONNECT_TIME_MAX, opening).await;
        opened.map_err(|_| io::ErrorKind::TimedOut)?
    }
}

fn hello() -> io::Result<Request<Body>> {
    let request = Request::builder().uri(format!("https://{NAME}{HELLO}"));
    let request = request.body(Body::empty());
    request.map_err(io::Error::other)
}

/// Returns true if the other process certainly did not take the request: it refused the stream, or
/// its GOAWAY names an earlier one as the last (RFC 9113, 6.8 and 8.7). A request that it took is
/// finished before it closes the connection; if it is not, the error is one of the connection.
fn is_untaken(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<h2::Error>() {
            let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            let closing = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
            return error.is_remote() && (refused || closing);
        }
        source = cause.source();
    }
    false
}
