//! The two ports, and a third for the Kinesis API if it is wanted. They are open from the beginning, so that whoever asks early hears that the application is starting.

use std::net::SocketAddr;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Shared;
use crate::cli::{Exit, Failure};
use crate::config::DevConfig;
use crate::http::{
    Admin, AdminWrites, BodyLimits, Guard, Port, ServeLimits, Traffic, TrafficLimits, admin_routes,
    bind, serve, surface, traffic_routes,
};
use crate::streams::http::router as stream_routes;
use crate::streams::kinesis;

/// The servers of all ports.
pub(super) struct Servers {
    /// Where traffic is served.
    pub(super) traffic: SocketAddr,
    /// Where administration is served.
    pub(super) admin: SocketAddr,
    /// Where the Kinesis API is served, if it is.
    pub(super) kinesis: Option<SocketAddr>,
    stopping: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Servers {
    /// Opens all ports.
    pub(super) async fn start(config: &DevConfig, shared: &Shared) -> Result<Self, Failure> {
        let traffic = listen(config.http, Port::Traffic).await?;
        let admin = listen(config.admin, Port::Admin).await?;
        let mut servers = Self {
            traffic: address(&traffic)?,
            admin: address(&admin)?,
            kinesis: None,
            stopping: watch::Sender::new(false),
            tasks: JoinSet::new(),
        };
        let traffic_router = traffic_routes(Traffic {
            requests: shared.requests.clone(),
            readiness: shared.readiness.subscribe(),
            limits: TrafficLimits::default(),
        })
        .merge(stream_routes(
            shared.streams.clone(),
            servers.stopping.subscribe(),
        ));
        let admin_router = admin_routes(Admin {
            requests: shared.requests.clone(),
            readiness: shared.readiness.subscribe(),
            metrics: shared.metrics.clone(),
            writes: AdminWrites::Allowed,
            limits: BodyLimits::default(),
        });
        servers.spawn(traffic, Port::Traffic, traffic_router, shared);
        servers.spawn(admin, Port::Admin, admin_router, shared);
        if let Some(kinesis) = config.kinesis_api {
            servers.spawn_kinesis(kinesis, config, shared).await?;
        }
        Ok(servers)
    }

    async fn spawn_kinesis(
        &mut self,
        at: SocketAddr,
        config: &DevConfig,
        shared: &Shared,
    ) -> Result<(), Failure> {
        let listener = TcpListener::bind(at).await.map_err(|error| {
            let message =
                format!("the Kinesis API (--kinesis-api) can not be served at {at}: {error}");
            Failure::new(Exit::Environment, message)
        })?;
        self.kinesis = Some(address(&listener)?);
        let options = kinesis::Options {
            limit_throughput: !config.kinesis_unlimited,
            ..kinesis::Options::default()
        };
        let serving = kinesis::serve(
            listener,
            shared.streams.clone(),
            options,
            self.stopping.subscribe(),
        );
        self.tasks.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the Kinesis API is not served any more");
            }
        });
        Ok(())
    }

    fn spawn(&mut self, listener: TcpListener, port: Port, routes: Router, shared: &Shared) {
        let bound = match port {
            Port::Traffic => self.traffic,
            Port::Admin => self.admin,
        };
        let metrics = shared.metrics.clone();
        let router = surface(port, routes, Guard::of(bound, []), metrics.clone());
        let mut stopping = self.stopping.subscribe();
        self.tasks.spawn(async move {
            let stopped = async move {
                // A sender that is gone means the same.
                let _ = stopping.wait_for(|stopping| *stopping).await;
            };
            serve(
                listener,
                router,
                port,
                ServeLimits::default(),
                metrics,
                stopped,
            )
            .await;
        });
    }

    /// Closes all ports; requests that are under way may finish within their limit.
    pub(super) async fn stop(mut self) {
        self.stopping.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn listen(address: SocketAddr, port: Port) -> Result<TcpListener, Failure> {
    bind(address, port)
        .await
        .map_err(|error| Failure::new(Exit::Environment, error.to_string()))
}

fn address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener
        .local_addr()
        .map_err(|error| Failure::new(Exit::Environment, error.to_string()))
}
