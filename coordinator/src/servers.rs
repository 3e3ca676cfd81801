//! The two ports of a process. They are open from the beginning, so that whoever asks early hears that the application is starting.

use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cli::{Exit, Failure};
use crate::http::{AdminAccess, AdminToken, Guard, Port, ServeLimits, bind, serve, surface};
use crate::metrics::Metrics;

/// The servers of both ports.
pub(crate) struct Servers {
    /// Where traffic is served.
    pub(crate) traffic: SocketAddr,
    /// Where administration is served.
    pub(crate) admin: SocketAddr,
    /// Where the Kinesis API is served, if it is: in `dev`.
    pub(crate) kinesis: Option<SocketAddr>,
    listeners: Vec<(Port, SocketAddr, TcpListener)>,
    stopping: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Servers {
    /// Opens both ports; whoever connects waits until [`Servers::serve`].
    pub(crate) async fn open(traffic: SocketAddr, admin: SocketAddr) -> Result<Self, Failure> {
        let mut listeners = Vec::new();
        for (port, address) in [(Port::Traffic, traffic), (Port::Admin, admin)] {
            let environment =
                |error: &dyn std::fmt::Display| Failure::new(Exit::Environment, error.to_string());
            let listener = bind(address, port)
                .await
                .map_err(|error| environment(&error))?;
            let bound = listener.local_addr().map_err(|error| environment(&error))?;
            listeners.push((port, bound, listener));
        }
        Ok(Self {
            traffic: listeners[0].1,
            admin: listeners[1].1,
            kinesis: None,
            listeners,
            stopping: watch::Sender::new(false),
            tasks: JoinSet::new(),
        })
    }

    /// Becomes true when the ports are to close.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Serves both ports from now on.
    pub(crate) fn serve(&mut self, traffic: Router, admin: Router, metrics: &Metrics) {
        for ((port, bound, listener), routes) in self.listeners.drain(..).zip([traffic, admin]) {
            let router = surface(port, routes, Guard::of(bound, []), metrics.clone());
            let metrics = metrics.clone();
            let mut stopping = self.stopping.subscribe();
            self.tasks.spawn(async move {
                let stopped = async move {
                    // A sender that is gone means the same.
                    let _ = stopping.wait_for(|stopping| *stopping).await;
                };
                let limits = ServeLimits::default();
                serve(listener, router, port, limits, metrics, stopped).await;
            });
        }
    }

    /// Runs another server until both ports are closed, and waits for it then.
    pub(crate) fn also(&mut self, server: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(server);
    }

    /// Closes both ports; requests that are under way may finish within their limit.
    pub(crate) async fn stop(mut self) {
        self.stopping.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// The secret in `file`, without the line end that editors leave.
///
/// # Errors
/// When the file cannot be read or holds nothing; with its name, never with its content.
pub(crate) fn token_of(file: &Path) -> Result<AdminToken, Failure> {
    let named = |what: String| {
        let file = file.display();
        Failure::new(
            Exit::Environment,
            format!("--admin-token-file {file}: {what}"),
        )
    };
    let text = std::fs::read_to_string(file).map_err(|error| named(error.to_string()))?;
    AdminToken::new(text.trim()).ok_or_else(|| named("the file is empty".to_owned()))
}

/// Who may read over an administration port that listens on `bound`: everybody on this machine, and beyond it those who show the token.
pub(crate) fn admin_reads(bound: SocketAddr, token: Option<&AdminToken>) -> AdminAccess {
    match token {
        _ if bound.ip().is_loopback() => AdminAccess::Allowed,
        Some(token) => AdminAccess::Token(token.clone()),
        None => AdminAccess::Denied,
    }
}
