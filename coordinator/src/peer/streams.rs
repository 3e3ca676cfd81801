//! Streams of frames between partitions of different processes.
//!
//! ```text
//!  partition s ─► Switch ─► request body: frames ──► Switch ─► partition r
//!       ▲           │                                  │            │
//!       └───────────┴◄── response body: answers ◄──────┴◄───────────┘
//! ```
//!
//! Each ordered pair of partitions in different processes has one request, which the process of the
//! sender begins. Both bodies are pieces: a length (4 bytes, big endian), then the bytes, whose
//! form is that of [`satchel_engine::durable::frames`]. A stream delivers in order or breaks. The
//! partitions number their messages, so a stream that breaks loses nothing.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::{Buf, BufMut, BytesMut};
use futures::{StreamExt, stream};
use satchel_aws::lease::PeerPort;
use satchel_engine::durable::frames::{decode_answer, decode_frame};
use satchel_engine::link::MESSAGE_BYTES_MAX;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::identity::NAME;
use super::link::{LinkError, Links};
use super::server::PARTITIONS;
use crate::runtime::switch::{Pair, Switch};

/// Maximum size of a piece: a frame with one message of the maximum size, or with several smaller
/// ones, in bytes.
const PIECE_BYTES_MAX: usize = MESSAGE_BYTES_MAX + (16 << 20);

/// Bytes of a piece's length.
const LENGTH_BYTES: usize = 4;

/// Pause before a stream that ended is begun again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Duration of a stream after which the next pause is short again.
const LASTED: Duration = Duration::from_secs(5);

/// Process of each partition, by number; none for a partition of this process and for one whose
/// owner is unknown.
pub(crate) type Routes = Arc<[Option<PeerPort>]>;

/// Streams from the partitions of this process to those of others. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    switch: Switch,
    links: Links,
    routes: watch::Receiver<Routes>,
}

impl Streams {
    /// Creates the streams along `routes`. None is begun yet.
    pub(crate) fn new(switch: Switch, links: Links, routes: watch::Receiver<Routes>) -> Self {
        Self {
            switch,
            links,
            routes,
        }
    }

    /// Keeps a stream from a partition of this process to each partition of another process, until
    /// the result is dropped.
    pub(crate) fn begin(&self, from: u32) -> JoinSet<()> {
        let partitions = self.routes.borrow().len() as u32;
        let mut streams = JoinSet::new();
        for to in (0..partitions).filter(|to| *to != from) {
            streams.spawn(self.clone().keep(Pair { from, to }));
        }
        streams
    }

    async fn keep(mut self, pair: Pair) {
        let (first, last) = PAUSE;
        let mut pause = first;
        loop {
            let to = pair.to as usize;
            let Some(peer) = self.routes.borrow_and_update()[to].clone() else {
                if self.routes.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let mut routes = self.routes.clone();
            let moved = routes.wait_for(|routes| routes[to].as_ref() != Some(&peer));
            let begun = tokio::time::Instant::now();
            tokio::select! {
                reason = self.run(pair, &peer) => {
                    let Pair { from, to } = pair;
                    tracing::debug!(from, to, peer = peer.address, reason, "stream ended");
                }
                _ = moved => {
                    pause = first;
                    continue;
                }
            }
            pause = match begun.elapsed() >= LASTED {
                true => first,
                false => (pause * 2).min(last),
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Runs one stream until it ends. Returns the reason.
    async fn run(&self, pair: Pair, peer: &PeerPort) -> String {
        let Pair { from, to } = pair;
        let (frames, said) = mpsc::unbounded_channel();
        let request = Request::post(format!("https://{NAME}{PARTITIONS}/frames/{from}/{to}"));
        let request = match request.body(pieces(said)) {
            Ok(request) => request,
            Err(error) => return error.to_string(),
        };
        let answered = match self.links.send(peer, request).await {
            Ok(answered) => answered,
            Err(LinkError::Unreached(reason) | LinkError::Lost(reason)) => return reason,
        };
        if answered.status() != StatusCode::OK {
            return format!("the other process answered {}", answered.status());
        }
        let Some(connection) = self.switch.open_outgoing(pair, frames) else {
            return "the partition has left".to_owned();
        };
        let _open = Open(&self.switch, connection);
        let mut answers = Pieces::of(Body::new(answered.into_body()));
        loop {
            let piece = match answers.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => return "the other process ended it".to_owned(),
                Err(error) => return error.to_string(),
            };
            match decode_answer(&piece) {
                Ok(answer) => self.switch.answer_arrived(connection, answer),
                Err(error) => {
                    tracing::error!(from, to, peer = peer.address, %error, "answer not understood");
                    return error.to_string();
                }
            }
        }
    }
}

/// Open side of a stream, which is reported as ended when it is dropped.
struct Open<'a>(&'a Switch, u64);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.stream_ended(self.1);
    }
}

/// Receives the frames of a stream that another process began.
pub(super) fn receive(switch: &Switch, pair: Pair, body: Body) -> Response {
    let (answers, said) = mpsc::unbounded_channel();
    let Some(connection) = switch.open_incoming(pair, answers) else {
        return StatusCode::MISDIRECTED_REQUEST.into_response();
    };
    let switch = switch.clone();
    // It ends with the request, whose connection the port closes at its end.
    tokio::spawn(async move {
        let _open = Open(&switch, connection);
        let mut frames = Pieces::of(body);
        while let Ok(Some(piece)) = frames.next().await {
            match decode_frame(&piece) {
                Ok(frame) => switch.frame_arrived(connection, frame),
                Err(error) => {
                    let Pair { from, to } = pair;
                    tracing::error!(from, to, %error, "frame not understood");
                    return;
                }
            }
        }
    });
    pieces(said).into_response()
}

/// Returns a body of pieces. It ends when the sender is dropped.
fn pieces(said: mpsc::UnboundedReceiver<Bytes>) -> Body {
    let pieces = stream::unfold(said, async |mut said| {
        let piece = said.recv().await?;
        let mut bytes = BytesMut::with_capacity(LENGTH_BYTES + piece.len());
        bytes.put_u32(u32::try_from(piece.len()).unwrap_or(u32::MAX));
        bytes.put(piece);
        Some((Ok::<_, io::Error>(bytes.freeze()), said))
    });
    Body::from_stream(pieces)
}

/// Pieces of a body.
struct Pieces {
    body: BodyDataStream,
    received: BytesMut,
}

impl Pieces {
    fn of(body: Body) -> Self {
        Self {
            body: body.into_data_stream(),
            received: BytesMut::new(),
        }
    }

    /// Returns the next piece, or none at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(length) = self.received.first_chunk::<LENGTH_BYTES>() {
                let length = u32::from_be_bytes(*length) as usize;
                if length > PIECE_BYTES_MAX {
                    let text = format!("a piece of {length} bytes; the limit is {PIECE_BYTES_MAX}");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
                if self.received.len() >= LENGTH_BYTES + length {
                    self.received.advance(LENGTH_BYTES);
                    return Ok(Some(self.received.split_to(length).freeze()));
                }
            }
            match self.body.next().await {
                Some(Ok(bytes)) => self.received.extend_from_slice(&bytes),
                Some(Err(error)) => return Err(io::Error::other(error)),
                None if self.received.is_empty() => return Ok(None),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(chunks: Vec<&'static [u8]>) -> Body {
        let chunks = chunks.into_iter().map(Ok::<_, io::Error>);
        Body::from_stream(stream::iter(chunks))
    }

    #[tokio::test]
    async fn pieces_arrive_however_the_body_is_cut() {
        let (sender, said) = mpsc::unbounded_channel();
        for piece in [&b"one"[..], b"", b"three"] {
            sender.send(Bytes::from_static(piece)).unwrap();
        }
        drop(sender);
        let mut arrived = Pieces::of(pieces(said));
        assert_eq!(arrived.next().await.unwrap().unwrap(), "one");
        assert_eq!(arrived.next().await.unwrap().unwrap(), "");
        assert_eq!(arrived.next().await.unwrap().unwrap(), "three");
        assert_eq!(arrived.next().await.unwrap(), None);
        let cut = vec![&b"\0\0"[..], b"\0\x03o", b"ne\0\0\0\x01", b"x"];
        let mut arrived = Pieces::of(body(cut));
        assert_eq!(arrived.next().await.unwrap().unwrap(), "one");
        assert_eq!(arrived.next().await.unwrap().unwrap(), "x");
        assert_eq!(arrived.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_truncated_piece_and_one_that_is_too_long_end_the_stream() {
        let mut truncated = Pieces::of(body(vec![&b"\0\0\0\x03on"[..]]));
        let error = truncated.next().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let mut long = Pieces::of(body(vec![&b"\xff\xff\xff\xff"[..]]));
        let error = long.next().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
