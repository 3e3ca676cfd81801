//! The ports of a process. They open first, so that an early client learns that the
//! application is starting.

use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::bounded::{self, TOKEN_BYTES_MAX};
use crate::config::PortArgs;
use crate::error::{Exit, Failure};
use crate::http::{
    AdminAccess, Guard, Listening, Port, ServeLimits, Tls, Token, behind, bind, serve, surface,
};
use crate::metrics::Metrics;

/// Servers of both ports.
pub(crate) struct Servers {
    /// Address of the traffic port.
    pub(crate) traffic: SocketAddr,
    /// Address of the administration port.
    pub(crate) admin: SocketAddr,
    /// Address of the Kinesis API, if `dev` serves it.
    pub(crate) kinesis: Option<SocketAddr>,
    /// True where traffic and administration are encrypted.
    tls: (bool, bool),
    listeners: Vec<(Port, SocketAddr, Listening)>,
    /// Ports of StateFun's playground that are not served yet.
    playground: Vec<(SocketAddr, TcpListener)>,
    stopping: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Servers {
    /// Opens both ports. Clients that connect wait until [`Servers::serve`].
    pub(crate) async fn open(args: &PortArgs) -> Result<Self, Failure> {
        let tls = match (&args.tls_cert, &args.tls_key) {
            (Some(certificates), Some(key)) => {
                let loaded = Tls::load(certificates, key);
                Some(loaded.map_err(|why| Failure::from_source(Exit::Environment, why))?)
            }
            _ => None,
        };
        let admin_tls = tls.clone().filter(|_| args.admin_tls);
        let encrypted = (tls.is_some(), admin_tls.is_some());
        let mut listeners = Vec::new();
        for (port, address, tls) in [
            (Port::Traffic, args.http, tls),
            (Port::Admin, args.admin, admin_tls),
        ] {
            let listener = bind(address, port)
                .await
                .map_err(|error| Failure::from_source(Exit::Environment, error))?;
            let bound = listener
                .local_addr()
                .map_err(|error| Failure::from_source(Exit::Environment, error))?;
            listeners.push((port, bound, Listening { tcp: listener, tls }));
        }
        Ok(Self {
            traffic: listeners[0].1,
            admin: listeners[1].1,
            kinesis: None,
            tls: encrypted,
            listeners,
            playground: Vec::new(),
            stopping: watch::Sender::new(false),
            tasks: JoinSet::new(),
        })
    }

    /// Opens a port of StateFun's playground, unless it is open. Clients that connect wait until
    /// [`Servers::serve_playground`].
    pub(crate) async fn open_playground(&mut self, address: SocketAddr) -> Result<(), Failure> {
        if !self.playground.iter().any(|(open, _)| *open == address) {
            let listener = bind(address, Port::Playground)
                .await
                .map_err(|error| Failure::from_source(Exit::Environment, error))?;
            self.playground.push((address, listener));
        }
        Ok(())
    }

    /// Serves the open ports of StateFun's playground with the routes that `routes` gives for the
    /// address of each. If there is a token, they need it.
    pub(crate) fn serve_playground(
        &mut self,
        routes: impl Fn(SocketAddr) -> Router,
        token: Option<&Token>,
        metrics: &Metrics,
    ) {
        for (address, tcp) in std::mem::take(&mut self.playground) {
            let routes = behind(token.cloned(), routes(address));
            let listening = Listening { tcp, tls: None };
            self.spawn(Port::Playground, address, listening, routes, metrics);
        }
    }

    /// URL of the traffic port.
    pub(crate) fn traffic_url(&self) -> String {
        url(self.traffic, self.tls.0)
    }

    /// URL of the administration port.
    pub(crate) fn admin_url(&self) -> String {
        url(self.admin, self.tls.1)
    }

    /// Warns if other machines may use the traffic port, which needs no token.
    pub(crate) fn warn_of_open_traffic(&self) {
        if !self.traffic.ip().is_loopback() {
            tracing::warn!(
                address = %self.traffic,
                "traffic port is open: every machine that reaches it may call every function; \
                 require a token with --http-token-file FILE (or, with `satchel run`, \
                 --http-token-secret NAME), or listen on this machine only (--http 127.0.0.1:PORT)"
            );
        }
    }

    /// Becomes true when the ports close.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Serves both ports. If there is a token, traffic needs it.
    pub(crate) fn serve(
        &mut self,
        (traffic, token): (Router, Option<Token>),
        admin: Router,
        metrics: &Metrics,
    ) {
        let routers = [behind(token, traffic), admin];
        let listeners = std::mem::take(&mut self.listeners);
        for ((port, bound, listening), routes) in listeners.into_iter().zip(routers) {
            self.spawn(port, bound, listening, routes, metrics);
        }
    }

    fn spawn(
        &mut self,
        port: Port,
        bound: SocketAddr,
        listening: Listening,
        routes: Router,
        metrics: &Metrics,
    ) {
        let router = surface(port, routes, Guard::of(bound, []), metrics.clone());
        let metrics = metrics.clone();
        let mut stopping = self.stopping.subscribe();
        self.tasks.spawn(async move {
            let stopped = async move {
                // A dropped sender means the same.
                let _ = stopping.wait_for(|stopping| *stopping).await;
            };
            let limits = ServeLimits::default();
            serve(listening, router, port, limits, metrics, stopped).await;
        });
    }

    /// Runs another server, which must end by itself once [`Servers::stopping`] is true.
    pub(crate) fn also(&mut self, server: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(server);
    }

    /// Closes both ports. Requests in flight may finish within their limit.
    pub(crate) async fn stop(mut self) {
        self.stopping.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

fn url(address: SocketAddr, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    format!("{scheme}://{address}")
}

/// Reads the token in `file`, without the line end that editors leave.
///
/// # Errors
///
/// The file cannot be read or is empty. The message names the flag and the file, never the content.
pub(crate) fn token_of(flag: &str, file: &Path) -> Result<Token, Failure> {
    let named = |what: String| {
        let file = file.display();
        Failure::new(Exit::Environment, format!("{flag} {file}: {what}"))
    };
    let text =
        bounded::read_text(file, TOKEN_BYTES_MAX).map_err(|error| named(error.to_string()))?;
    Token::new(text.trim()).ok_or_else(|| named("the file is empty".to_owned()))
}

/// Returns the right to read over an administration port that listens on `bound`: every client of
/// this machine may read, and others need the token.
pub(crate) fn admin_reads(bound: SocketAddr, token: Option<&Token>) -> AdminAccess {
    match token {
        _ if bound.ip().is_loopback() => AdminAccess::Allowed,
        Some(token) => AdminAccess::Token(token.clone()),
        None => AdminAccess::Denied,
    }
}
