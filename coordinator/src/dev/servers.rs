//! Ports of `satchel dev`: traffic, administration, and the Kinesis API if it is enabled.

use std::net::SocketAddr;
use std::path::Path;

use tokio::net::TcpListener;

use super::console_token::ConsoleToken;
use crate::assemble::{FurtherRoutes, Process, Tokens, WritesWithoutToken};
use crate::config::DevConfig;
use crate::error::{Exit, Failure};
use crate::http::{Port, ServeLimits, serve};
use crate::metrics::Metrics;
use crate::servers::{Servers, token_of};
use crate::streams::http::router as stream_routes;
use crate::streams::{Streams, kinesis};

/// Opens all ports and serves them.
pub(super) async fn start(
    config: &DevConfig,
    process: &Process,
    streams: &Streams,
    console_token: &ConsoleToken,
) -> Result<Servers, Failure> {
    let ports = &config.process.ports;
    let read = |flag, file: Option<&Path>| file.map(|file| token_of(flag, file)).transpose();
    let tokens = Tokens {
        admin: read("--admin-token-file", ports.admin_token_file.as_deref())?,
        traffic: read("--http-token-file", ports.http_token_file.as_deref())?,
    };
    let mut servers = process.open_ports().await?;
    let further = FurtherRoutes {
        traffic: stream_routes(streams.clone(), servers.stopping()),
        ..FurtherRoutes::default()
    };
    let writes = WritesWithoutToken::ByPrograms(console_token.token());
    process.serve_ports(&mut servers, tokens, &writes, further);
    if let Some(address) = config.kinesis_api {
        let metrics = process.metrics.clone();
        serve_kinesis(&mut servers, address, config, (streams, metrics)).await?;
    }
    Ok(servers)
}

async fn serve_kinesis(
    servers: &mut Servers,
    address: SocketAddr,
    config: &DevConfig,
    (streams, metrics): (&Streams, Metrics),
) -> Result<(), Failure> {
    let wrong = |error: std::io::Error| {
        let context = format!("cannot serve the Kinesis API (--kinesis-api) at {address}");
        Failure::caused(Exit::Environment, context, error)
    };
    let listener = TcpListener::bind(address).await.map_err(wrong)?;
    servers.kinesis = Some(listener.local_addr().map_err(wrong)?);
    let options = kinesis::Options {
        limit_throughput: !config.kinesis_unlimited,
        ..kinesis::Options::default()
    };
    let router = kinesis::router(streams.clone(), options, servers.stopping());
    let mut stopping = servers.stopping();
    servers.also(async move {
        let stopped = async move {
            // A dropped sender means the same.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        };
        let limits = ServeLimits::default();
        serve(listener, router, Port::Kinesis, limits, metrics, stopped).await;
    });
    Ok(())
}
