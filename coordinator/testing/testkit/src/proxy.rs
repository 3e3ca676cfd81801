//! A proxy in front of a stand-in that misbehaves when told to: once for each fault that was asked for, or as it is told request by request.

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

/// What happens to one request.
#[derive(Debug)]
pub enum Fault {
    /// It is answered so, and never reaches the server.
    Answer(u16, String),
    /// It is lost on its way.
    LoseRequest,
    /// It has its effect, and the answer is lost.
    LoseAnswer,
    /// It has its effect, and the answer waits until the other end says so.
    HoldAnswer(oneshot::Receiver<()>),
    /// The first end is told that it came; it goes on when the other end says so.
    HoldRequest(oneshot::Sender<()>, oneshot::Receiver<()>),
    /// It has its effect, and the answer comes so much later.
    DelayAnswer(Duration),
    /// The answer's body ends in its middle.
    CutAnswer,
    /// One byte of the answer's body is changed.
    DamageAnswer,
    /// It reaches the server without its conditions.
    DropConditions,
}

impl Fault {
    /// An error as S3 writes it.
    pub fn error(status: u16, code: &str) -> Self {
        Self::Answer(
            status,
            format!("<Error><Code>{code}</Code><Message>as the test wants it</Message></Error>"),
        )
    }
}

/// Applies to requests with this method whose path and query hold this text.
struct Rule {
    method: Method,
    part: String,
    fault: Fault,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its path and query.
    pub place: &'a str,
    /// What `x-amz-target` says, such as `Kinesis_20131202.PutRecords`; empty where the place says it all.
    pub target: &'a str,
}

/// Says what happens to a request.
type Whim = Box<dyn FnMut(Asked<'_>) -> Option<Fault> + Send>;

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    whim: Option<Whim>,
    seen: Vec<String>,
}

/// The state, which every request looks at.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<State>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A proxy that serves until it is dropped. Then it is a panic if a fault never struck that was asked for.
pub struct Proxy {
    address: SocketAddr,
    state: Shared,
    serving: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// In front of the server at `upstream`.
    ///
    /// # Panics
    ///
    /// When there is no free port.
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

    /// Where it serves: `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next request with this method whose path and query hold `part` meets `fault`. The first that applies is taken.
    pub fn strike(&self, method: Method, part: &str, fault: Fault) {
        let part = part.to_owned();
        let rule = Rule {
            method,
            part,
            fault,
        };
        self.state.lock().rules.push(rule);
    }

    /// From now on, this says what happens to each request.
    pub fn obey(&self, whim: impl FnMut(Asked<'_>) -> Option<Fault> + Send + 'static) {
        self.state.lock().whim = Some(Box::new(whim));
    }

    /// The requests since the last look, in the order in which they came: method, path and query.
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
            assert!(left.is_empty(), "faults that never struck: {left:?}");
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
    // An end of the connection without an answer is what some faults are.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| server.clone().answer(request));
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Ends the connection.
#[derive(Debug)]
struct Lost;

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("lost, as the test wants it")
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
            Some(Fault::HoldAnswer(go_on)) => {
                let answer = self.pass(&head, body).await?;
                go_on.await.map_err(|_| Lost)?;
                Ok(whole(answer))
            }
            Some(Fault::HoldRequest(came, go_on)) => {
                came.send(()).map_err(|()| Lost)?;
                go_on.await.map_err(|_| Lost)?;
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
            Some(Fault::DropConditions) => {
                head.headers.remove(header::IF_NONE_MATCH);
                self.pass(&head, body).await.map(whole)
            }
        }
    }

    /// Notes the request, and what is to happen to it.
    fn fault(&self, head: &Parts) -> Option<Fault> {
        let place = head.uri.to_string();
        let mut state = self.state.lock();
        state.seen.push(format!("{} {place}", head.method));
        let applies = |rule: &Rule| rule.method == head.method && place.contains(&rule.part);
        match state.rules.iter().position(applies) {
            Some(at) => Some(state.rules.remove(at).fault),
            None => {
                let target = head.headers.get("x-amz-target");
                let target = target.and_then(|target| target.to_str().ok());
                state.whim.as_mut()?(Asked {
                    method: &head.method,
                    place: &place,
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
