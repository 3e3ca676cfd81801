//! A planned handover without waiting for a poll: a standby asks the holder of the lease, over the administration port, to be told when it is done.
//!
//! What the holder says is a hint and nothing more: the standby then reads the table, which alone counts. So the question needs no token,
//! and an answer that is wrong costs one read.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use satchel_aws::lease::LeaseStatus;
use tokio::sync::watch;

/// How long a question waits for its answer; then it is asked again, so that what lies between does not take the connection for a dead one.
const WAIT: Duration = Duration::from_secs(20);

/// How long a standby that got no answer waits before it asks again.
const AGAIN: Duration = Duration::from_secs(2);

/// Where a process keeps what it says about its lease.
const PATH: &str = "/lease";

/// What this process says about its lease. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Handover(watch::Sender<Stage>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Standby,
    Held,
    Released,
}

impl Default for Handover {
    fn default() -> Self {
        Self(watch::Sender::new(Stage::Standby))
    }
}

impl Handover {
    /// The lease is held.
    pub(super) fn held(&self) {
        self.0.send_replace(Stage::Held);
    }

    /// The lease was given back.
    pub(super) fn released(&self) {
        self.0.send_replace(Stage::Released);
    }
}

/// `GET /lease`: `{"state":"standby"|"held"|"released"}`; while it is held, the answer waits for the release, up to [`WAIT`].
pub(super) fn routes(handover: Handover) -> Router {
    Router::new().route(PATH, get(tell)).with_state(handover)
}

async fn tell(State(handover): State<Handover>) -> impl IntoResponse {
    let mut stage = handover.0.subscribe();
    let done = stage.wait_for(|stage| *stage != Stage::Held);
    let stage = match tokio::time::timeout(WAIT, done).await {
        Ok(Ok(stage)) => *stage,
        // The process ends: what it held, it holds no longer.
        Ok(Err(_)) => Stage::Released,
        Err(_) => Stage::Held,
    };
    let body = match stage {
        Stage::Standby => r#"{"state":"standby"}"#,
        Stage::Held => r#"{"state":"held"}"#,
        Stage::Released => r#"{"state":"released"}"#,
    };
    ([(CONTENT_TYPE, "application/json")], body)
}

/// Asks whoever holds the lease, again and again, and calls `hint` when it says that it is done. Never ends.
pub(super) async fn ask_the_holder(
    mut status: watch::Receiver<LeaseStatus>,
    hint: impl Fn() + Send + Sync,
) {
    let client = reqwest::Client::builder()
        .no_proxy()
        // A process has no name that a certificate could be for, and what it says is only a hint.
        .danger_accept_invalid_certs(true)
        .redirect(reqwest::redirect::Policy::none())
        .tcp_nodelay(true)
        .connect_timeout(AGAIN)
        .timeout(WAIT + AGAIN)
        .build();
    let Ok(client) = client else {
        // Without it the poll of the table is all there is, which is enough.
        return std::future::pending().await;
    };
    loop {
        let holder = match &*status.borrow_and_update() {
            LeaseStatus::Watching {
                holder: Some(holder),
            } if !holder.released => holder.address.clone(),
            _ => None,
        };
        let Some(holder) = holder else {
            if status.changed().await.is_err() {
                return std::future::pending().await;
            }
            continue;
        };
        match ask(&client, &holder).await {
            Ok(text) if text.contains("released") => {
                hint();
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Ok(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            Err(error) => {
                tracing::debug!(holder, %error, "the holder of the lease does not tell when it is done");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn ask(client: &reqwest::Client, holder: &str) -> reqwest::Result<String> {
    let answer = client.get(format!("{holder}{PATH}")).send().await?;
    answer.error_for_status()?.text().await
}

/// The administration port at `address` as others ask it.
pub(super) fn url(address: &str, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    format!("{scheme}://{address}")
}

/// Where other machines reach what listens on `bound`, as far as this machine can tell.
pub(super) fn own_address(bound: SocketAddr) -> Option<String> {
    if !bound.ip().is_unspecified() {
        return Some(bound.to_string());
    }
    // Connecting a UDP socket sends nothing; it says which address this machine would send from.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((IpAddr::from([203, 0, 113, 1]), 9)).ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_unspecified()).then(|| SocketAddr::new(own, bound.port()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_one_interface_is_told_as_it_is_and_all_of_them_as_the_machines_own() {
        let one: SocketAddr = "127.0.0.1:8081".parse().unwrap();
        assert_eq!(own_address(one), Some("127.0.0.1:8081".to_owned()));
        let all: SocketAddr = "0.0.0.0:8081".parse().unwrap();
        if let Some(own) = own_address(all) {
            assert!(own.ends_with(":8081") && !own.starts_with("0."), "{own}");
        }
    }
}
