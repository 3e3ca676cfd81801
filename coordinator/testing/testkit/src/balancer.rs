//! A load balancer in front of processes under test: round robin, keep-alive, optional health
//! checks.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::http::{HeaderMap, HeaderValue, header};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::LONG;

/// Header of an answer with the URL of the process that was asked.
pub const ASKED: &str = "balancer-asked";

/// Interval of health checks.
const CHECK: Duration = Duration::from_millis(100);

/// A load balancer that serves until it is dropped.
///
/// As those of AWS, it sends each request to the next process that is healthy, over a connection
/// that it keeps. It asks another process only if a connection cannot be opened. If a connection
/// breaks after the request was sent, it answers 502.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
    checking: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    targets: Mutex<Vec<Arc<Target>>>,
    turn: AtomicUsize,
    client: reqwest::Client,
}

#[derive(Debug)]
struct Target {
    url: String,
    check: Option<String>,
    healthy: AtomicBool,
}

impl Balancer {
    /// Starts a balancer without processes.
    ///
    /// # Panics
    ///
    /// When no port is free.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let client = reqwest::Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_secs(2))
            .timeout(LONG)
            .build();
        let shared = Arc::new(Shared {
            targets: Mutex::default(),
            turn: AtomicUsize::new(0),
            client: client.expect("a client without TLS files can be made"),
        });
        Self {
            address,
            serving: tokio::spawn(serve(listener, Arc::clone(&shared))),
            checking: tokio::spawn(check(Arc::clone(&shared))),
            shared,
        }
    }

    /// Base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sends requests to the process at `url` too. With `check`, a URL, only while that is
    /// answered with 200.
    pub fn add(&self, url: impl Into<String>, check: Option<String>) {
        self.shared.targets().push(Arc::new(Target {
            url: url.into(),
            check,
            healthy: AtomicBool::new(true),
        }));
    }

    /// Sends no further requests to the process at `url`.
    pub fn remove(&self, url: &str) {
        self.shared.targets().retain(|target| target.url != url);
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.serving.abort();
        self.checking.abort();
    }
}

impl Shared {
    fn targets(&self) -> MutexGuard<'_, Vec<Arc<Target>>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Processes in the order in which a request asks them.
    fn in_turn(&self) -> Vec<Arc<Target>> {
        let targets = self.targets();
        let healthy = targets
            .iter()
            .filter(|it| it.healthy.load(Ordering::Relaxed));
        let mut healthy: Vec<_> = healthy.cloned().collect();
        if !healthy.is_empty() {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % healthy.len();
            healthy.rotate_left(turn);
        }
        healthy
    }

    async fn forward(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let Ok(body) = body.collect().await else {
            return answer(400, HeaderMap::new(), Bytes::new(), "");
        };
        let body = body.to_bytes();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = parts.headers;
        for name in [header::HOST, header::CONNECTION, header::CONTENT_LENGTH] {
            headers.remove(name);
        }
        for target in self.in_turn() {
            let sent = self
                .client
                .request(parts.method.clone(), format!("{}{path}", target.url))
                .headers(headers.clone())
                .body(body.clone())
                .send();
            match sent.await {
                Err(error) if error.is_connect() => {}
                Err(_) => return answer(502, HeaderMap::new(), Bytes::new(), &target.url),
                Ok(response) => {
                    let (status, headers) = (response.status(), response.headers().clone());
                    return match response.bytes().await {
                        Ok(body) => answer(status.as_u16(), headers, body, &target.url),
                        Err(_) => answer(502, HeaderMap::new(), Bytes::new(), &target.url),
                    };
                }
            }
        }
        answer(503, HeaderMap::new(), Bytes::new(), "")
    }
}

fn answer(status: u16, mut headers: HeaderMap, body: Bytes, asked: &str) -> Response<Full<Bytes>> {
    for name in [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
    ] {
        headers.remove(name);
    }
    let asked = HeaderValue::try_from(asked).expect("a URL is a header value");
    headers.insert(ASKED, asked);
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status.try_into().expect("a status");
    *response.headers_mut() = headers;
    response
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(shared.forward(request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            // A client that leaves is no error.
            let _ = connection
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn check(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(CHECK).await;
        let targets = shared.targets().clone();
        for target in targets {
            let Some(url) = &target.check else {
                continue;
            };
            let asked = shared.client.get(url).timeout(Duration::from_secs(1));
            let answered = asked.send().await;
            let healthy = answered.is_ok_and(|answer| answer.status() == 200);
            target.healthy.store(healthy, Ordering::Relaxed);
        }
    }
}
