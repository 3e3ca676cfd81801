//! Serves a router over HTTP/1.1 and HTTP/2 without TLS, with limits that axum's server lacks.

mod progress;

use std::future::Future;
use std::io::{self, Cursor};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::progress::Progressing;
use super::BODY_BYTES_MAX;

/// First bytes of a connection over HTTP/2.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Limits of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Maximum number of connections served at once. More wait in the listener's queue.
    pub(super) connections_max: usize,
    /// Maximum number of concurrent requests on one connection over HTTP/2.
    pub(super) streams_max: u32,
    /// Maximum time for the head of a request. Also the idle timeout of a connection over HTTP/1.1,
    /// and the ping interval of a silent connection over HTTP/2.
    pub(super) head_time_max: Duration,
    /// Maximum time for the body of a request.
    pub(super) body_time_max: Duration,
    /// Maximum size of the bodies of all requests in progress, in bytes. A request beyond it is
    /// answered with 503.
    pub(super) body_bytes_max: usize,
    /// Maximum time in which a client that sends a body or reads a response makes no progress.
    pub(super) progress_time_max: Duration,
    /// Maximum time that a stop waits for requests in flight.
    pub(super) stop_time_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            streams_max: 64,
            // Longer than the 60 s for which load balancers keep idle connections. A server that
            // closes first may close a connection on which a request is on its way.
            head_time_max: Duration::from_secs(75),
            body_time_max: Duration::from_secs(60),
            body_bytes_max: 4 * BODY_BYTES_MAX,
            progress_time_max: Duration::from_secs(10),
            stop_time_max: Duration::from_secs(20),
        }
    }
}

/// Serves `router` on `listener` until `stop` completes, then drains the requests in flight.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: impl Future<Output = ()>,
) {
    let permits = Arc::new(Semaphore::new(limits.connections_max));
    let graceful = GracefulShutdown::new();
    let (stopping, _) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let (stream, permit) = tokio::select! {
            () = &mut stop => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "connection task panicked");
                }
                continue;
            }
            accepted = accept(&listener, &permits) => accepted,
        };
        let (router, watcher) = (router.clone(), graceful.watcher());
        let mut stopped = stopping.subscribe();
        connections.spawn(async move {
            let _permit = permit;
            let begun = tokio::select! {
                begun = begin(stream, limits.head_time_max) => begun,
                // A connection that has not begun has no request in flight.
                _ = stopped.wait_for(|stopping| *stopping) => return,
            };
            match begun {
                Ok(begun) => serve_connection(begun, router, limits, watcher).await,
                Err(error) => tracing::debug!(%error, "connection closed before its first request"),
            }
        });
    }
    drop(listener);
    stopping.send_replace(true);
    let finished = timeout(limits.stop_time_max, graceful.shutdown()).await;
    if finished.is_err() {
        tracing::warn!("stop timeout reached; requests in flight are aborted");
    }
    connections.shutdown().await;
}

/// A connection, and the bytes already read from it.
struct Begun {
    first: Vec<u8>,
    stream: TcpStream,
}

/// Reads as much as distinguishes HTTP/2 from HTTP/1.1.
///
/// The library does the same, but without a timeout.
async fn begin(mut stream: TcpStream, time_max: Duration) -> io::Result<Begun> {
    let mut first = Vec::with_capacity(PREFACE.len());
    let reading = async {
        while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
            let left = PREFACE.len() - first.len();
            if (&mut stream).take(left as u64).read_buf(&mut first).await? == 0 {
                break;
            }
        }
        io::Result::Ok(())
    };
    timeout(time_max, reading).await??;
    Ok(Begun { first, stream })
}

async fn serve_connection(begun: Begun, router: Router, limits: Limits, watcher: Watcher) {
    let (reader, writer) = begun.stream.into_split();
    let stream = tokio::io::join(Cursor::new(begun.first).chain(reader), writer);
    let stream = Progressing::new(stream, limits.progress_time_max);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time_max);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .keep_alive_interval(limits.head_time_max);
    let connection =
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "connection closed early");
    }
}

/// Accepts the next connection as soon as a permit is free.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    let permit = Arc::clone(permits)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::warn!(%error, "cannot set TCP_NODELAY; serving without it");
                }
                return (stream, permit);
            }
            Err(error) => {
                // The client has closed it already, or all file descriptors are in use.
                tracing::debug!(%error, "cannot accept a connection; retrying");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// Wraps a stream for tests.
#[cfg(test)]
pub(super) fn progressing<S>(stream: S, time_max: Duration) -> Progressing<S> {
    Progressing::new(stream, time_max)
}
