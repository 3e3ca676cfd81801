//! One connection of a client: its share of the port's budget, and the deadlines of its requests.
//!
//! ```text
//!  head ──► place for a request ──► body (bytes as they come) ──► handler ──► answer (its bytes)
//!  idle     busy                                                                        idle
//! ```
//!
//! A connection between two requests is idle. When the port is full, idle connections are closed
//! to make room, those of the client with most connections first.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep};

use super::error::ApiError;
use super::head::Head;
use super::ledger::{Client, Exceeded, Ledger, Share};
use super::server::ServeLimits;

/// Pause between two looks at an answer that is not sent as a whole.
const UNSENT_PAUSE: Duration = Duration::from_millis(20);

/// Budget of one port.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    pub(crate) connections: Arc<Ledger>,
    requests: Arc<Ledger>,
    bodies: Arc<Ledger>,
    progress_time_max: Duration,
}

impl Budget {
    /// Creates the budget, of which nothing is used.
    pub(crate) fn new(limits: ServeLimits) -> Self {
        Self {
            connections: Ledger::new(limits.connections),
            requests: Ledger::new(limits.requests),
            bodies: Ledger::new(limits.body_bytes),
            progress_time_max: limits.progress_time_max,
        }
    }
}

/// One connection of a client.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) client: Client,
    budget: Budget,
    /// Requests in progress. HTTP/1.1 has one, or none while the connection is idle.
    busy: AtomicUsize,
    /// True while written bytes wait for the client.
    pub(crate) unsent: Arc<AtomicBool>,
    idle_since: Mutex<Instant>,
    /// Head that is being received, and its bytes.
    head: Mutex<(Head, Share)>,
    /// True if the connection is to be closed as soon as it is idle.
    leaving: AtomicBool,
    left: Notify,
}

impl Guest {
    pub(crate) fn new(client: Client, budget: &Budget) -> Arc<Self> {
        Arc::new(Self {
            client,
            budget: budget.clone(),
            busy: AtomicUsize::new(0),
            unsent: Arc::default(),
            idle_since: Mutex::new(Instant::now()),
            head: Mutex::new((Head::default(), budget.bodies.take_none(client))),
            leaving: AtomicBool::new(false),
            left: Notify::new(),
        })
    }

    /// Returns since when the connection is idle, unless it is not or is already asked to leave.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let stays = self.is_idle() && !self.leaving.load(Ordering::Relaxed);
        stays.then(|| {
            *self
                .idle_since
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        })
    }

    /// Asks the connection to close as soon as it is idle.
    pub(crate) fn ask_to_leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        self.left.notify_one();
    }

    /// Completes when the connection was asked to leave and is idle.
    ///
    /// It is polled by the task of the connection, so no request can begin at the same time.
    pub(crate) async fn leaves(&self) {
        loop {
            self.left.notified().await;
            while self.leaving.load(Ordering::Relaxed) && self.busy.load(Ordering::Relaxed) == 0 {
                if self.is_idle() {
                    return;
                }
                // The last bytes of an answer are on their way, which has a deadline.
                sleep(UNSENT_PAUSE).await;
            }
        }
    }

    /// Counts bytes that the connection has read. Between two requests they are of a head.
    pub(crate) fn has_read(&self, bytes: &[u8]) -> io::Result<()> {
        if self.busy.load(Ordering::Relaxed) > 0 {
            return Ok(());
        }
        let mut held = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        let (head, share) = &mut *held;
        let counted = head.receive(bytes);
        if counted == 0 {
            return Ok(());
        }
        share.grow(counted).map_err(|exceeded| {
            let (Exceeded::All(limit) | Exceeded::Client(limit)) = exceeded;
            io::Error::other(format!(
                "heads, bodies and unread answers may have {limit} bytes together"
            ))
        })
    }

    /// Takes the bytes of a head that is complete.
    fn take_head(&self) -> Share {
        let none = self.budget.bodies.take_none(self.client);
        let mut held = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, share) = std::mem::replace(&mut *held, (Head::default(), none));
        share
    }

    fn is_idle(&self) -> bool {
        self.busy.load(Ordering::Relaxed) == 0 && !self.unsent.load(Ordering::Relaxed)
    }

    /// Serves one request within the budget.
    pub(crate) async fn serve(
        self: Arc<Self>,
        router: Router,
        request: hyper::Request<Incoming>,
    ) -> Result<Response, Infallible> {
        let place = match self.budget.requests.take(self.client, 1) {
            Ok(place) => place,
            Err(exceeded) => return Ok(too_many_requests(exceeded).into_response()),
        };
        let stay = Stay::begin(Arc::clone(&self));
        let received = Arc::new(Received {
            client: self.client,
            share: Mutex::new(self.budget.bodies.take_none(self.client)),
        });
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(Arc::clone(&received));
        let body = Body::new(IncomingBody {
            body,
            received,
            time_max: self.budget.progress_time_max,
            deadline: None,
        });
        let router = TowerToHyperService::new(router);
        let response = router.call(Request::from_parts(parts, body)).await?;
        Ok(self.account(response, place, stay))
    }

    /// Accounts for the bytes of an answer until the client has read most of them.
    fn account(&self, response: Response, place: Share, stay: Stay) -> Response {
        let bytes = response.body().size_hint().exact().unwrap_or(0);
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let mut share = self.budget.bodies.take_none(self.client);
        let mut response = response;
        if bytes > PIECE_BYTES
            && let Err(exceeded) = share.grow(bytes)
        {
            response = unread_answers(exceeded).into_response();
        }
        response.map(|body| {
            Body::new(OutgoingBody {
                body,
                left: Bytes::new(),
                _held: (place, share, stay),
            })
        })
    }
}

/// Time during which a connection has a request in progress.
#[derive(Debug)]
struct Stay {
    guest: Arc<Guest>,
    _head: Share,
}

impl Stay {
    fn begin(guest: Arc<Guest>) -> Self {
        guest.busy.fetch_add(1, Ordering::Relaxed);
        let head = guest.take_head();
        Self { guest, _head: head }
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let guest = &self.guest;
        let since = guest.idle_since.lock();
        *since.unwrap_or_else(PoisonError::into_inner) = Instant::now();
        guest.busy.fetch_sub(1, Ordering::Relaxed);
        if guest.leaving.load(Ordering::Relaxed) {
            guest.left.notify_one();
        }
    }
}

/// Bytes of the body of a request that were received, an extension of the request.
///
/// They count until the end of the request, or until the handler hands the body over.
#[derive(Debug)]
pub(crate) struct Received {
    client: Client,
    share: Mutex<Share>,
}

impl Received {
    fn grow(&self, bytes: usize) -> Result<(), Exceeded> {
        let mut share = self.share.lock().unwrap_or_else(PoisonError::into_inner);
        share.grow(bytes)
    }

    /// Client that sent the request.
    pub(crate) fn client(&self) -> Client {
        self.client
    }

    /// Stops counting the bytes: they are counted elsewhere from now on.
    pub(crate) fn hand_over(&self) {
        let mut share = self.share.lock().unwrap_or_else(PoisonError::into_inner);
        share.clear();
    }
}

/// Reason why a body is not read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyProblem {
    /// The body would exceed a limit of the budget.
    #[error("no room for the body")]
    NoRoom(Exceeded),
    /// The client sent nothing for too long.
    #[error("nothing of the body arrived for {0:?}")]
    Stalled(Duration),
    /// The connection failed.
    #[error(transparent)]
    Connection(#[from] hyper::Error),
}

/// Body of a request, counted as it comes.
struct IncomingBody {
    body: Incoming,
    received: Arc<Received>,
    time_max: Duration,
    /// Time by which the next byte must arrive, while one is waited for.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for IncomingBody {
    type Data = Bytes;
    type Error = BodyProblem;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyProblem>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            let time_max = self.time_max;
            let deadline = self
                .deadline
                .get_or_insert_with(|| Box::pin(sleep(time_max)));
            ready!(deadline.as_mut().poll(context));
            return Poll::Ready(Some(Err(BodyProblem::Stalled(time_max))));
        };
        self.deadline = None;
        Poll::Ready(frame.map(|frame| {
            let frame = frame?;
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            self.received.grow(bytes).map_err(BodyProblem::NoRoom)?;
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Size of the pieces in which an answer is passed to the connection, in bytes.
const PIECE_BYTES: usize = 64 << 10;

/// Body of an answer, which keeps the request's share until the last piece is passed on.
///
/// Pieces are copies: otherwise the last one would keep the whole answer in memory.
struct OutgoingBody {
    body: Body,
    left: Bytes,
    _held: (Share, Share, Stay),
}

impl HttpBody for OutgoingBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.left.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            match frame.into_data() {
                Ok(data) if data.len() > PIECE_BYTES => self.left = data,
                Ok(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let bytes = self.left.len().min(PIECE_BYTES);
        let piece = Bytes::copy_from_slice(&self.left.split_to(bytes));
        if self.left.is_empty() {
            self.left = Bytes::new();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.body.size_hint().exact() {
            Some(bytes) => SizeHint::with_exact(bytes + self.left.len() as u64),
            None => SizeHint::default(),
        }
    }
}

/// 503: the body of a request would exceed the budget.
pub(crate) fn no_room(exceeded: Exceeded) -> ApiError {
    let (what, code) = match exceeded {
        Exceeded::All(bytes) => (
            format!("the bodies of all requests in progress may have {bytes} bytes together"),
            "too_many_bodies",
        ),
        Exceeded::Client(bytes) => (
            format!(
                "the bodies of the requests in progress of one client address may have \
                 {bytes} bytes together"
            ),
            "too_many_bodies_of_client",
        ),
    };
    refused(code, &what)
}

fn unread_answers(exceeded: Exceeded) -> ApiError {
    let (whose, bytes) = match exceeded {
        Exceeded::All(bytes) => ("", bytes),
        Exceeded::Client(bytes) => (" of one client address", bytes),
    };
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "too_many_unread_answers",
        format!(
            "there is an answer, but the bodies and unread answers{whose} may have {bytes} bytes \
             together; read faster, and repeat the request with the same Idempotency-Key to get \
             its answer"
        ),
    )
}

fn too_many_requests(exceeded: Exceeded) -> ApiError {
    match exceeded {
        Exceeded::All(requests) => refused(
            "too_many_requests_in_progress",
            &format!("at most {requests} requests may be in progress on this port"),
        ),
        Exceeded::Client(requests) => refused(
            "too_many_requests_of_client",
            &format!("at most {requests} requests of one client address may be in progress"),
        ),
    }
}

fn refused(code: &'static str, limit: &str) -> ApiError {
    ApiError::unavailable(
        code,
        1,
        format!("{limit}; the request had no effect, retry it"),
    )
}
