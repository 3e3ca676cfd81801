//! A proxy in front of an emulator that injects faults: one fault for each matching rule, or one
//! decision for each request.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::http::request::Parts;
use hyper::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// Fault that one request meets.
#[derive(Debug)]
pub enum Fault {
    /// The proxy answers with this status and body; the request does not reach the server.
    Answer(u16, String),
    /// The request is lost before it reaches the server.
    LoseRequest,
    /// The request takes effect; its answer is lost.
    LoseAnswer,
    /// The request takes effect; its answer is held back until the sender fires.
    HoldAnswer(oneshot::Receiver<()>),
    /// The first channel reports the arrival of the request. The request is held back until the
    /// second channel fires.
    HoldRequest(oneshot::Sender<()>, oneshot::Receiver<()>),
    /// The request takes effect; its answer is delayed by this time.
    DelayAnswer(Duration),
    /// The answer's body is truncated in the middle.
    CutAnswer,
    /// One byte of the answer's body is changed.
    DamageAnswer,
    /// The request takes effect; its answer has this `Date`.
    DateAnswer(String),
    /// The request reaches the server without its `If-None-Match` condition.
    DropConditions,
}

impl Fault {
    /// An error response in the format of S3.
    pub fn error(status: u16, code: &str) -> Self {
        Self::Answer(
            status,
            format!("<Error><Code>{code}</Code><Message>injected by the test</Message></Error>"),
        )
    }
}

/// A fault for the next request with this method whose path and query contain `part`.
struct Rule {
    method: Method,
    part: String,
    fault: Fault,
}

/// A request that reaches the proxy.
#[derive(Debug, Clone, Copy)]
pub struct ProxiedRequest<'a> {
    /// HTTP method.
    pub method: &'a Method,
    /// Path and query.
    pub path: &'a str,
    /// Value of `x-amz-target`, such as `Kinesis_20131202.PutRecords`; empty when the header is
    /// absent.
    pub target: &'a str,
}

/// Decides the fate of a request.
type Decision = Box<dyn FnMut(ProxiedRequest<'_>) -> Option<Fault> + Send>;

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    decide: Option<Decision>,
    seen: Vec<String>,
}

/// State that all connections share.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<State>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A proxy that serves until it is dropped. Dropping it panics if a requested fault was never
/// applied.
pub struct Proxy {
    address: SocketAddr,
    state: Shared,
    serving: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy in front of the server at `upstream`.
    ///
    /// # Panics
    ///
    /// When no port is free.
    pub async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = Shared::default();
        let client = reqwest::Client::builder().no_proxy().build();
        let client = client.expect("a client without TLS files can be made");
        let server = Server {
            upstream: upstream.to_owned(),
            client,
            state: state.clone(),
        };
        Self {
            address,
            state,
            serving: tokio::spawn(accept(listener, server)),
        }
    }

    /// Base URL: `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Applies `fault` to the next request with this method whose path and query contain `part`.
    /// Earlier rules take precedence.
    pub fn fail_next(&self, method: Method, part: &str, fault: Fault) {
        let part = part.to_owned();
        let rule = Rule {
            method,
            part,
            fault,
        };
        self.state.lock().rules.push(rule);
    }

    /// Consults `decide` for every request that matches no rule, from now on.
    pub fn decide_with(
        &self,
        decide: impl FnMut(ProxiedRequest<'_>) -> Option<Fault> + Send + 'static,
    ) {
        self.state.lock().decide = Some(Box::new(decide));
    }

    /// Requests since the last call, in order of arrival, as method, path and query.
    pub fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().seen)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
        if !std::thread::panicking() {
            let state = self.state.lock();
            let left: Vec<&str> = state.rules.iter().map(|rule| &*rule.part).collect();
            assert!(left.is_empty(), "faults that were never applied: {left:?}");
        }
    }
}

#[derive(Clone)]
struct Server {
    upstream: String,
    client: reqwest::Client,
    state: Shared,
}

async fn accept(listener: TcpListener, server: Server) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, server.clone()));
    }
}

async fn serve(stream: TcpStream, server: Server) {
    // Some faults end the connection without an answer.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| server.clone().answer(request));
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Error that ends the connection.
#[derive(Debug)]
struct Lost;

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("connection dropped by the test")
    }
}

impl std::error::Error for Lost {}

type Body = BoxBody<Bytes, Lost>;

impl Server {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, Lost> {
        let (mut head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Lost)?.to_bytes();
        match self.fault(&head) {
            None => self.pass(&head, body).await.map(whole),
            Some(Fault::Answer(status, text)) => Ok(whole((status, Vec::new(), text.into()))),
            Some(Fault::LoseRequest) => Err(Lost),
            Some(Fault::LoseAnswer) => {
                self.pass(&head, body).await?;
                Err(Lost)
            }
            Some(Fault::HoldAnswer(resume)) => {
                let answer = self.pass(&head, body).await?;
                resume.await.map_err(|_| Lost)?;
                Ok(whole(answer))
            }
            Some(Fault::HoldRequest(arrived, resume)) => {
                arrived.send(()).map_err(|()| Lost)?;
                resume.await.map_err(|_| Lost)?;
                self.pass(&head, body).await.map(whole)
            }
            Some(Fault::DelayAnswer(by)) => {
                let answer = self.pass(&head, body).await?;
                tokio::time::sleep(by).await;
                Ok(whole(answer))
            }
            Some(Fault::CutAnswer) => {
                let (status, mut headers, body) = self.pass(&head, body).await?;
                headers.push((header::CONTENT_LENGTH, body.len().into()));
                let half = body.slice(..body.len() / 2);
                let frames = [Ok(Frame::data(half)), Err(Lost)];
                Ok(respond(
                    status,
                    headers,
                    StreamBody::new(stream::iter(frames)).boxed(),
                ))
            }
            Some(Fault::DamageAnswer) => {
                let (status, headers, body) = self.pass(&head, body).await?;
                let mut damaged = body.to_vec();
                let middle = damaged.len() / 2;
                damaged[middle] ^= 1;
                Ok(whole((status, headers, damaged.into())))
            }
            Some(Fault::DateAnswer(date)) => {
                let (status, mut headers, body) = self.pass(&head, body).await?;
                headers.retain(|(name, _)| name != header::DATE);
                let date = HeaderValue::from_str(&date).map_err(|_| Lost)?;
                headers.push((header::DATE, date));
                Ok(whole((status, headers, body)))
            }
            Some(Fault::DropConditions) => {
                head.headers.remove(header::IF_NONE_MATCH);
                self.pass(&head, body).await.map(whole)
            }
        }
    }

    /// Records the request and returns its fault.
    fn fault(&self, head: &Parts) -> Option<Fault> {
        let path = head.uri.to_string();
        let mut state = self.state.lock();
        state.seen.push(format!("{} {path}", head.method));
        let applies = |rule: &Rule| rule.method == head.method && path.contains(&rule.part);
        match state.rules.iter().position(applies) {
            Some(at) => Some(state.rules.remove(at).fault),
            None => {
                let target = head.headers.get("x-amz-target");
                let target = target.and_then(|target| target.to_str().ok());
                state.decide.as_mut()?(ProxiedRequest {
                    method: &head.method,
                    path: &path,
                    target: target.unwrap_or_default(),
                })
            }
        }
    }

    async fn pass(&self, head: &Parts, body: Bytes) -> Result<Answer, Lost> {
        let url = format!("{}{}", self.upstream, head.uri);
        let mut headers = head.headers.clone();
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::EXPECT);
        let request = self.client.request(head.method.clone(), url);
        let request = request.headers(headers).body(body);
        let answer = request.send().await.map_err(|_| Lost)?;
        let headers = answer
            .headers()
            .iter()
            .filter(|(name, _)| {
                ![
                    header::CONTENT_LENGTH,
                    header::CONNECTION,
                    header::TRANSFER_ENCODING,
                ]
                .contains(name)
            })
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let status = answer.status().as_u16();
        let body = answer.bytes().await.map_err(|_| Lost)?;
        Ok((status, headers, body))
    }
}

type Answer = (u16, Vec<(HeaderName, HeaderValue)>, Bytes);

fn whole((status, headers, body): Answer) -> Response<Body> {
    let body = Full::new(body).map_err(|never: Infallible| match never {});
    respond(status, headers, body.boxed())
}

fn respond(status: u16, headers: Vec<(HeaderName, HeaderValue)>, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    for (name, value) in headers {
        response.headers_mut().append(name, value);
    }
    response
}
