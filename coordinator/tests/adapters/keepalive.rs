//! TCP keepalive of the connections to functions, as the kernel shows it: a gateway would forget a
//! silent connection while a function runs.

#![cfg(target_os = "linux")]

use std::net::SocketAddr;
use std::time::Duration;

use satchel::invoker::http::{HttpEndpoint, HttpInvoker};
use satchel_aws::lambda::LambdaFunction;
use satchel_testkit::until_true;
use tokio::net::TcpListener;

use crate::aws_lambda::sdk;
use crate::http_invoker::{batch, bundle};

/// Value of the column `tr` of `/proc/net/tcp` while the keepalive timer of a socket runs.
const KEEPALIVE_TIMER: &str = "02";

/// Timer of the client's socket of a connection, as `/proc/net/tcp` shows it.
fn timer(client: SocketAddr, server: SocketAddr) -> Option<String> {
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let has_port = |address: &str, port: u16| address.ends_with(&format!(":{port:04X}"));
    let mut rows = sockets.lines().map(|row| row.split_whitespace());
    let row = rows.find_map(|row| {
        let columns: Vec<&str> = row.collect();
        let is_it = has_port(columns[1], client.port()) && has_port(columns[2], server.port());
        is_it.then_some(columns)
    })?;
    let (timer, _) = row[5].split_once(':').unwrap();
    Some(timer.to_owned())
}

/// Waits until the request that `send` makes has a connection with keepalive to a server that
/// does not answer.
async fn keeps_alive(send: impl AsyncFnOnce(String)) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let kept = async {
        let (_connection, client) = listener.accept().await.unwrap();
        until_true("the kernel probes the connection", async || {
            timer(client, server).as_deref() == Some(KEEPALIVE_TIMER)
        })
        .await;
    };
    tokio::select! {
        () = kept => {}
        () = send(format!("http://{server}")) => panic!("nothing answers"),
    }
}

#[tokio::test]
async fn a_connection_to_lambda_is_kept_alive() {
    keeps_alive(async |endpoint| {
        let function =
            LambdaFunction::new(&sdk(&endpoint), "greeter", None, Duration::from_secs(900));
        let _ = function.invoke(b"{}".to_vec(), None).await;
    })
    .await;
}

#[tokio::test]
async fn a_connection_to_an_http_function_is_kept_alive() {
    keeps_alive(async |endpoint| {
        let invoker = HttpInvoker::new(&HttpEndpoint::new(endpoint)).unwrap();
        invoker.invoke(bundle(vec![batch(1)])).await;
    })
    .await;
}
