//! The two ports of a process. They are open from the beginning, so that whoever asks early hears that the application is starting.

use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cli::{Exit, Failure};
use crate::config::PortArgs;
use crate::http::{
    AdminAccess, Guard, Listening, Port, ServeLimits, Tls, Token, behind, bind, serve, surface,
};
use crate::metrics::Metrics;

/// The servers of both ports.
pub(crate) struct Servers {
    /// Where traffic is served.
    pub(crate) traffic: SocketAddr,
    /// Where administration is served.
    pub(crate) admin: SocketAddr,
    /// Where the Kinesis API is served, if it is: in `dev`.
    pub(crate) kinesis: Option<SocketAddr>,
    /// Whether traffic and administration are encrypted.
    tls: (bool, bool),
    listeners: Vec<(Port, SocketAddr, Listening)>,
    stopping: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Servers {
    /// Opens both ports; whoever connects waits until [`Servers::serve`].
    pub(crate) async fn open(
        traffic: SocketAddr,
        admin: SocketAddr,
        args: &PortArgs,
    ) -> Result<Self, Failure> {
        let tls = match (&args.tls_cert, &args.tls_key) {
            (Some(certificates), Some(key)) => {
                let loaded = Tls::load(certificates, key);
                Some(loaded.map_err(|why| Failure::new(Exit::Environment, why.to_string()))?)
            }
            _ => None,
        };
        let admin_tls = tls.clone().filter(|_| args.admin_tls);
        let encrypted = (tls.is_some(), admin_tls.is_some());
        let mut listeners = Vec::new();
        for (port, address, tls) in [
            (Port::Traffic, traffic, tls),
            (Port::Admin, admin, admin_tls),
        ] {
            let environment =
                |error: &dyn std::fmt::Display| Failure::new(Exit::Environment, error.to_string());
            let listener = bind(address, port)
                .await
                .map_err(|error| environment(&error))?;
            let bound = listener.local_addr().map_err(|error| environment(&error))?;
            listeners.push((port, bound, Listening { tcp: listener, tls }));
        }
        Ok(Self {
            traffic: listeners[0].1,
            admin: listeners[1].1,
            kinesis: None,
            tls: encrypted,
            listeners,
            stopping: watch::Sender::new(false),
            tasks: JoinSet::new(),
        })
    }

    /// Where traffic is served, as a client asks for it.
    pub(crate) fn traffic_url(&self) -> String {
        url(self.traffic, self.tls.0)
    }

    /// Where administration is served, as a client asks for it.
    pub(crate) fn admin_url(&self) -> String {
        url(self.admin, self.tls.1)
    }

    /// Becomes true when the ports are to close.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Serves both ports from now on, traffic only to those who show the token if there is one.
    pub(crate) fn serve(
        &mut self,
        (traffic, token): (Router, Option<Token>),
        admin: Router,
        metrics: &Metrics,
    ) {
        let routers = [behind(token, traffic), admin];
        for ((port, bound, listening), routes) in self.listeners.drain(..).zip(routers) {
            let router = surface(port, routes, Guard::of(bound, []), metrics.clone());
            let metrics = metrics.clone();
            let mut stopping = self.stopping.subscribe();
            self.tasks.spawn(async move {
                let stopped = async move {
                    // A sender that is gone means the same.
                    let _ = stopping.wait_for(|stopping| *stopping).await;
                };
                let limits = ServeLimits::default();
                serve(listening, router, port, limits, metrics, stopped).await;
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

fn url(address: SocketAddr, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    format!("{scheme}://{address}")
}

/// The secret in `file`, without the line end that editors leave.
///
/// # Errors
/// When the file cannot be read or holds nothing; with the flag's name and its own, never with its content.
pub(crate) fn token_of(flag: &str, file: &Path) -> Result<Token, Failure> {
    let named = |what: String| {
        let file = file.display();
        Failure::new(Exit::Environment, format!("{flag} {file}: {what}"))
    };
    let text = std::fs::read_to_string(file).map_err(|error| named(error.to_string()))?;
    Token::new(text.trim()).ok_or_else(|| named("the file is empty".to_owned()))
}

/// Who may read over an administration port that listens on `bound`: everybody on this machine, and beyond it those who show the token.
pub(crate) fn admin_reads(bound: SocketAddr, token: Option<&Token>) -> AdminAccess {
    match token {
        _ if bound.ip().is_loopback() => AdminAccess::Allowed,
        Some(token) => AdminAccess::Token(token.clone()),
        None => AdminAccess::Denied,
    }
}
