//! What the ports of `satchel dev` serve: traffic and administration, and a third for the Kinesis API if it is wanted.

use std::net::SocketAddr;
use std::path::Path;

use tokio::net::TcpListener;

use super::Shared;
use crate::cli::{Exit, Failure};
use crate::config::DevConfig;
use crate::http::{
    Admin, AdminAccess, BodyLimits, Traffic, TrafficLimits, admin_routes, traffic_routes,
};
use crate::servers::{Servers, admin_reads, token_of};
use crate::streams::http::router as stream_routes;
use crate::streams::kinesis;

/// Opens all ports and serves them.
pub(super) async fn start(config: &DevConfig, shared: &Shared) -> Result<Servers, Failure> {
    let read = |flag, file: Option<&Path>| file.map(|file| token_of(flag, file)).transpose();
    let token = read("--admin-token-file", config.admin_token_file.as_deref())?;
    let traffic_token = read("--http-token-file", config.ports.http_token_file.as_deref())?;
    let mut servers = Servers::open(config.http, config.admin, &config.ports).await?;
    let traffic = traffic_routes(Traffic {
        requests: shared.requests.clone(),
        readiness: shared.readiness.subscribe(),
        limits: TrafficLimits::default(),
    })
    .merge(stream_routes(shared.streams.clone(), servers.stopping()));
    let reads = admin_reads(servers.admin, token.as_ref());
    let admin = admin_routes(Admin {
        requests: shared.requests.clone(),
        readiness: shared.readiness.subscribe(),
        metrics: shared.metrics.clone(),
        // On this machine a developer may change what he may read, unless he asked for a token.
        writes: match &token {
            Some(token) => AdminAccess::Token(token.clone()),
            None => reads.clone(),
        },
        reads,
        limits: BodyLimits::default(),
    });
    servers.serve((traffic, traffic_token), admin, &shared.metrics);
    if let Some(at) = config.kinesis_api {
        serve_kinesis(&mut servers, at, config, shared).await?;
    }
    Ok(servers)
}

async fn serve_kinesis(
    servers: &mut Servers,
    at: SocketAddr,
    config: &DevConfig,
    shared: &Shared,
) -> Result<(), Failure> {
    let wrong = |error: std::io::Error| {
        let message = format!("the Kinesis API (--kinesis-api) can not be served at {at}: {error}");
        Failure::new(Exit::Environment, message)
    };
    let listener = TcpListener::bind(at).await.map_err(wrong)?;
    servers.kinesis = Some(listener.local_addr().map_err(wrong)?);
    let options = kinesis::Options {
        limit_throughput: !config.kinesis_unlimited,
        ..kinesis::Options::default()
    };
    let streams = shared.streams.clone();
    let serving = kinesis::serve(listener, streams, options, servers.stopping());
    servers.also(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "the Kinesis API is not served any more");
        }
    });
    Ok(())
}
