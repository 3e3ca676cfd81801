//! Planned handover without the delay of polling: a standby asks the holder of the lease, over the
//! administration port, to answer when it releases the lease.
//!
//! The answer is only a hint: the standby then reads the table, which alone is authoritative.
//! Therefore the request needs no token, and a wrong answer costs one read.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use satchel_aws::lease::LeaseStatus;
use tokio::sync::watch;

/// Maximum time until an answer. The standby then asks again, so that intermediaries do not take
/// the connection for a dead one.
const WAIT: Duration = Duration::from_secs(20);

/// Delay of a standby before the next request after a failed one.
const AGAIN: Duration = Duration::from_secs(2);

/// Path of the state of a process's lease.
const PATH: &str = "/lease";

/// State of this process's lease. Cheap to clone.
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
    /// Records that the process holds the lease.
    pub(super) fn held(&self) {
        self.0.send_replace(Stage::Held);
    }

    /// Records that the process released the lease.
    pub(super) fn released(&self) {
        self.0.send_replace(Stage::Released);
    }
}

/// Routes `GET /lease`: `{"state":"standby"|"held"|"released"}`. While the lease is held, the
/// answer waits for the release, up to [`WAIT`].
pub(super) fn routes(handover: Handover) -> Router {
    Router::new().route(PATH, get(state)).with_state(handover)
}

async fn state(State(handover): State<Handover>) -> impl IntoResponse {
    let mut stage = handover.0.subscribe();
    let done = stage.wait_for(|stage| *stage != Stage::Held);
    let stage = match tokio::time::timeout(WAIT, done).await {
        Ok(Ok(stage)) => *stage,
        // The process is ending and no longer holds the lease.
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

/// Asks the holder of the lease repeatedly, and calls `hint` when it reports the release. Never
/// ends.
pub(super) async fn ask_the_holder(
    mut status: watch::Receiver<LeaseStatus>,
    hint: impl Fn() + Send + Sync,
) {
    let client = reqwest::Client::builder()
        .no_proxy()
        // A process has no name that a certificate could be for, and its answer is only a hint.
        .danger_accept_invalid_certs(true)
        .redirect(reqwest::redirect::Policy::none())
        .tcp_nodelay(true)
        .connect_timeout(AGAIN)
        .timeout(WAIT + AGAIN)
        .build();
    let Ok(client) = client else {
        // Polling the table is sufficient.
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
                tracing::debug!(holder, %error, "holder of the lease did not answer");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Returns the beginning of the holder's answer, which is longer than any answer of a holder.
async fn ask(client: &reqwest::Client, holder: &str) -> reqwest::Result<String> {
    const ANSWER_BYTES_MAX: usize = 1024;
    let answer = client.get(format!("{holder}{PATH}")).send().await?;
    let mut answer = answer.error_for_status()?;
    let mut text = Vec::new();
    while text.len() < ANSWER_BYTES_MAX
        && let Some(chunk) = answer.chunk().await?
    {
        let bytes = chunk.len().min(ANSWER_BYTES_MAX - text.len());
        text.extend_from_slice(&chunk[..bytes]);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Returns the URL of the administration port at `address`.
pub(super) fn url(address: &str, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    format!("{scheme}://{address}")
}

/// Returns the address at which other machines reach a listener on `bound`, as far as it is known.
pub(super) fn own_address(bound: SocketAddr) -> Option<String> {
    if !bound.ip().is_unspecified() {
        return Some(bound.to_string());
    }
    // Connecting a UDP socket sends nothing. It determines the address that this machine would
    // send from.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((IpAddr::from([203, 0, 113, 1]), 9)).ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_unspecified()).then(|| SocketAddr::new(own, bound.port()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_one_interface_is_used_as_it_is_and_a_wildcard_becomes_the_machines_own() {
        let one: SocketAddr = "127.0.0.1:8081".parse().unwrap();
        assert_eq!(own_address(one), Some("127.0.0.1:8081".to_owned()));
        let all: SocketAddr = "0.0.0.0:8081".parse().unwrap();
        if let Some(own) = own_address(all) {
            assert!(own.ends_with(":8081") && !own.starts_with("0."), "{own}");
        }
    }
}
