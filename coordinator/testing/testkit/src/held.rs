//! A service whose answers a test holds back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// HTTP service that gives each request the same answer, once a test releases them. Dropping it
/// ends it.
#[derive(Debug)]
pub struct HeldService {
    url: String,
    asked: Arc<AtomicUsize>,
    release: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl HeldService {
    /// Starts it on a free port. Each request gets this JSON.
    ///
    /// # Panics
    ///
    /// When no port can be opened.
    pub async fn answering(json: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a free port can be opened");
        let address = listener.local_addr().expect("a listener has an address");
        let asked = Arc::new(AtomicUsize::new(0));
        let release = watch::Sender::new(false);
        let (counted, released) = (Arc::clone(&asked), release.subscribe());
        let answer = move || {
            let (counted, mut released) = (Arc::clone(&counted), released.clone());
            async move {
                counted.fetch_add(1, Ordering::Relaxed);
                // The test is over if the sender is gone.
                let _ = released.wait_for(|released| *released).await;
                let headers = [(CONTENT_TYPE, "application/json")];
                (StatusCode::OK, headers, json).into_response()
            }
        };
        let routes = Router::new().fallback(answer);
        let serving = tokio::spawn(async move {
            axum::serve(listener, routes)
                .await
                .expect("the service runs until it is dropped");
        });
        Self {
            url: format!("http://{address}"),
            asked,
            release,
            serving,
        }
    }

    /// URL of the service.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Number of requests so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Answers all requests, also later ones.
    pub fn release(&self) {
        self.release.send_replace(true);
    }
}

impl Drop for HeldService {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
