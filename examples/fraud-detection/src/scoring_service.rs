//! The scoring service of a third party: its interface, its HTTP client, and a stand-in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt as _;
use satchel_sdk::Error;
use serde::{Deserialize, Serialize};

/// Response of the service: `{"trust":87.0}`.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    trust: f64,
}

/// Source of the trust in merchants.
pub trait MerchantScores: Send + Sync + 'static {
    /// Trust in one merchant, from 0 to 100. A repeated request has the same `idempotency_key`.
    fn trust(
        &self,
        merchant: &str,
        idempotency_key: Option<&str>,
    ) -> impl Future<Output = Result<f64, Error>> + Send;
}

/// The service over HTTP: `GET /merchants/{merchant}`.
pub struct HttpScores {
    url: String,
    client: reqwest::Client,
}

/// Scores derived from the name: always the same, and low for names that begin with `shady`.
pub struct LocalScores;

impl HttpScores {
    /// The service at `url`, such as `http://127.0.0.1:9000`.
    pub fn new(url: String) -> Self {
        Self {
            url,
            client: reqwest::Client::new(),
        }
    }
}

impl MerchantScores for HttpScores {
    async fn trust(&self, merchant: &str, idempotency_key: Option<&str>) -> Result<f64, Error> {
        let mut url = reqwest::Url::parse(&self.url)?;
        url.path_segments_mut()
            .map_err(|()| format!("SCORING_SERVICE_URL: {} cannot have a path", self.url))?
            .pop_if_empty()
            .extend(["merchants", merchant]);
        let mut request = self.client.get(url).timeout(Duration::from_secs(2));
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let body = request.send().await?.error_for_status()?.bytes().await?;
        Ok(serde_json::from_slice::<Answer>(&body)?.trust)
    }
}

impl MerchantScores for LocalScores {
    async fn trust(&self, merchant: &str, _: Option<&str>) -> Result<f64, Error> {
        Ok(made_up_trust(merchant))
    }
}

/// Serves the stand-in over HTTP.
///
/// Every `fail_every`-th response is 503. With 0, none is.
///
/// # Errors
///
/// When the listener fails.
pub async fn serve_stand_in(
    listener: tokio::net::TcpListener,
    fail_every: u64,
) -> std::io::Result<()> {
    let stand_in = Arc::new(StandIn {
        fail_every,
        requests: AtomicU64::new(0),
    });
    let router = axum::Router::new()
        .route("/merchants/{merchant}", get(answer))
        .with_state(stand_in);
    let listener = listener.tap_io(|stream| {
        // An error leaves the connection slower, but working.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router).await
}

struct StandIn {
    fail_every: u64,
    requests: AtomicU64,
}

async fn answer(State(stand_in): State<Arc<StandIn>>, Path(merchant): Path<String>) -> Response {
    let number = stand_in.requests.fetch_add(1, Ordering::Relaxed) + 1;
    if stand_in.fail_every != 0 && number.is_multiple_of(stand_in.fail_every) {
        return (StatusCode::SERVICE_UNAVAILABLE, "busy").into_response();
    }
    let answer = Answer {
        trust: made_up_trust(&merchant),
    };
    match serde_json::to_string(&answer) {
        Ok(json) => ([("content-type", "application/json")], json).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn made_up_trust(merchant: &str) -> f64 {
    if merchant.starts_with("shady") {
        return 5.0;
    }
    let sum: u32 = merchant.bytes().map(u32::from).sum();
    f64::from(70 + sum % 30)
}
