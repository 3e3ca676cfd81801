//! A proxy in front of the server that misbehaves when told to: once for each fault that was asked for.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::http::request::Parts;
use hyper::http::{HeaderName, Method, StatusCode, header};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// What happens to one request.
pub(crate) enum Fault {
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
    /// The answer's body ends in its middle.
    CutAnswer,
    /// One byte of the answer's body is changed.
    DamageAnswer,
    /// It reaches the server without its conditions.
    DropConditions,
}

impl Fault {
    /// An error as S3 writes it.
    pub(crate) fn error(status: u16, code: &str) -> Self {
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

/// Says what happens to a request of this method, path and query.
type Whim = Box<dyn FnMut(&Method, &str) -> Option<Fault> + Send>;

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    whim: Option<Whim>,
    seen: Vec<String>,
}

/// A proxy that serves until it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// In front of the server at `upstream`.
    pub(crate) async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
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

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next request with this method whose path and query hold `part` meets `fault`. The first that applies is taken.
    pub(crate) fn strike(&self, method: Method, part: &str, fault: Fault) {
        let part = part.to_owned();
        let rule = Rule {
            method,
            part,
            fault,
        };
        self.state.lock().unwrap().rules.push(rule);
    }

    /// From now on, this says what happens to each request.
    pub(crate) fn obey(&self, whim: impl FnMut(&Method, &str) -> Option<Fault> + Send + 'static) {
        self.state.lock().unwrap().whim = Some(Box::new(whim));
    }

    /// The requests since the last look, in the order in which they came: method, path and query.
    pub(crate) fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().seen)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
        if !std::thread::panicking() {
            let state = self.state.lock().unwrap();
            let left: Vec<&str> = state.rules.iter().map(|rule| &*rule.part).collect();
            assert!(left.is_empty(), "faults that never struck: {left:?}");
        }
    }
}

#[derive(Clone)]
struct Server {
    upstream: String,
    client: reqwest::Client,
    state: Arc<Mutex<State>>,
}

async fn accept(listener: TcpListener, server: Server) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, server.clone()));
    }
}

async fn serve(stream: TcpStream, server: Server) {
    stream.set_nodelay(true).unwrap();
    let service = service_fn(|request| server.clone().answer(request));
    // An end of the connection without an answer is what some faults are.
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
            Some(Fault::CutAnswer) => {
                let (status, mut headers, body) = self.pass(&head, body).await?;
                headers.push((header::CONTENT_LENGTH, body.len().to_string()));
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
        let mut state = self.state.lock().unwrap();
        state.seen.push(format!("{} {place}", head.method));
        let applies = |rule: &Rule| rule.method == head.method && place.contains(&rule.part);
        match state.rules.iter().position(applies) {
            Some(at) => Some(state.rules.remove(at).fault),
            None => state.whim.as_mut()?(&head.method, &place),
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
            .map(|(name, value)| (name.clone(), value.to_str().unwrap().to_owned()))
            .collect();
        let status = answer.status().as_u16();
        let body = answer.bytes().await.map_err(|_| Lost)?;
        Ok((status, headers, body))
    }
}

type Answer = (u16, Vec<(HeaderName, String)>, Bytes);

fn whole((status, headers, body): Answer) -> Response<Body> {
    let body = Full::new(body).map_err(|never: Infallible| match never {});
    respond(status, headers, body.boxed())
}

fn respond(status: u16, headers: Vec<(HeaderName, String)>, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        response.headers_mut().append(name, value.parse().unwrap());
    }
    response
}
