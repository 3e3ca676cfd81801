//! A minimal Lambda Runtime API for handler processes.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, mpsc};

use super::PATIENCE;

/// A running Runtime API. Dropping it closes all connections, as the death of its process would.
pub struct RuntimeApi {
    address: String,
    requests: mpsc::Sender<NextRequest>,
    responses: mpsc::Receiver<(String, String, Bytes)>,
    /// A runtime of its own, so that dropping it closes every socket.
    runtime: Option<Runtime>,
    invocations: u32,
}

struct NextRequest {
    id: String,
    timeout: Duration,
    payload: Vec<u8>,
}

struct Shared {
    requests: Mutex<mpsc::Receiver<NextRequest>>,
    responses: mpsc::Sender<(String, String, Bytes)>,
}

impl RuntimeApi {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (requests, receiver) = mpsc::channel(1);
        let (sender, responses) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            requests: Mutex::new(receiver),
            responses: sender,
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = axum::Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route(
                "/2018-06-01/runtime/invocation/{id}/{outcome}",
                post(respond),
            )
            .layer(DefaultBodyLimit::disable())
            .with_state(shared);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        Self {
            address,
            requests,
            responses,
            runtime: Some(runtime),
            invocations: 0,
        }
    }

    /// `host:port` without a scheme, as on AWS.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Invokes the handler. Returns `response` or `error`, and the body that the handler posted.
    pub async fn invoke(&mut self, payload: Vec<u8>, timeout: Duration) -> (String, Bytes) {
        self.invocations += 1;
        let id = format!("request-{}", self.invocations);
        let request = NextRequest {
            id: id.clone(),
            timeout,
            payload,
        };
        self.requests.send(request).await.unwrap();
        let (answered, outcome, body) = tokio::time::timeout(PATIENCE, self.responses.recv())
            .await
            .expect("the handler answers")
            .unwrap();
        assert_eq!(answered, id);
        (outcome, body)
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn next(State(shared): State<Arc<Shared>>) -> Response {
    let Some(request) = shared.requests.lock().await.recv().await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    // The deadline counts from here, because the handler may have been starting until now.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let deadline = now + request.timeout;
    (
        [
            ("lambda-runtime-aws-request-id", request.id),
            (
                "lambda-runtime-deadline-ms",
                deadline.as_millis().to_string(),
            ),
            (
                "lambda-runtime-invoked-function-arn",
                "arn:aws:lambda:us-east-1:1:function:test".to_owned(),
            ),
        ],
        request.payload,
    )
        .into_response()
}

async fn respond(
    State(shared): State<Arc<Shared>>,
    Path((id, outcome)): Path<(String, String)>,
    body: Bytes,
) -> StatusCode {
    // An error means that the test is over already.
    let _ = shared.responses.send((id, outcome, body)).await;
    StatusCode::ACCEPTED
}
