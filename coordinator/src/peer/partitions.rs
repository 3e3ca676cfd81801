//! Requests between the processes of an application of several partitions.
//!
//! | `POST /partitions/…` | |
//! |---|---|
//! | `…/frames/{from}/{to}` | frames between two partitions ([`super::streams`]) |
//! | `…/administer/{partition}` | a request of the administration port to one partition |
//! | `…/look` | the roster has changed |

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use satchel_aws::lease::PeerPort;
use satchel_engine::forwarding::Owner;
use satchel_engine::input::Administration;
use satchel_engine::output::Answer;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::administration::{decode_answer, decode_request, encode_answer, encode_request};
use super::gate::Gate;
use super::identity::NAME;
use super::link::{LinkError, Links};
use super::server::PARTITIONS;
use super::streams::receive;
use crate::requests::Requests;
use crate::runtime::switch::{Pair, Switch};
use crate::sources::Sources;

/// Maximum size of an administration request and of its answer, in bytes.
const ADMINISTRATION_BYTES_MAX: usize = 128 << 20;

/// Pause before a partition that could not be asked is asked again.
const AGAIN: Duration = Duration::from_millis(200);

/// Maximum time for which a stream waits for a partition that is being taken over.
const ARRIVES_WITHIN: Duration = Duration::from_secs(10);

/// Answers to other processes about the partitions of this one. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct PartitionPort {
    /// Switch of the partitions.
    pub(crate) switch: Switch,
    /// Requests to the partitions.
    pub(crate) requests: Requests,
    /// Sources that this process reads.
    pub(crate) sources: Sources,
    /// Owners of the partitions.
    pub(crate) gate: Gate,
    /// Notified when the roster has changed.
    pub(crate) news: Arc<Notify>,
}

impl PartitionPort {
    /// Serves a request of another process.
    pub(super) async fn serve(&self, request: Request<Body>) -> Response {
        if request.method() != Method::POST {
            return StatusCode::METHOD_NOT_ALLOWED.into_response();
        }
        let path = request.uri().path().to_owned();
        let segments: Vec<&str> = path.split('/').skip(2).collect();
        let number = |text: &str| {
            let number = text.parse::<u32>().ok();
            number.filter(|number| *number < self.gate.partitions())
        };
        match segments[..] {
            ["look"] => {
                self.news.notify_one();
                StatusCode::NO_CONTENT.into_response()
            }
            ["frames", from, to] => match (number(from), number(to)) {
                (Some(from), Some(to)) if from != to => {
                    self.arrived(to).await;
                    receive(&self.switch, Pair { from, to }, request.into_body())
                }
                _ => StatusCode::NOT_FOUND.into_response(),
            },
            ["administer", partition] => match number(partition) {
                Some(partition) => self.administer(partition, request.into_body()).await,
                None => StatusCode::NOT_FOUND.into_response(),
            },
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }

    /// Waits while this process takes a partition over, for a limited time. A stream that was
    /// refused meanwhile would begin again only after a pause.
    async fn arrived(&self, partition: u32) {
        let mut owner = self.gate.owner(partition);
        let arrived = owner.wait_for(|owner| *owner != Owner::Arriving);
        // A stream to a partition that is not here then is refused.
        let _ = tokio::time::timeout(ARRIVES_WITHIN, arrived).await;
    }

    async fn administer(&self, partition: u32, body: Body) -> Response {
        let Some(_served) = self.gate.enter(partition) else {
            return StatusCode::MISDIRECTED_REQUEST.into_response();
        };
        let Ok(body) = to_bytes(body, ADMINISTRATION_BYTES_MAX).await else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        match decode_request(&body) {
            Ok(administration) => {
                if let Administration::ResumeIngress(ingress) = &administration {
                    self.sources.resume(ingress);
                }
                let answer = self.requests.administer_here(partition, administration);
                encode_answer(&answer.await).into_response()
            }
            Err(error) => {
                tracing::warn!(partition, %error, "request of another process not understood");
                (StatusCode::BAD_REQUEST, error.to_string()).into_response()
            }
        }
    }
}

/// Tells another process that the roster has changed. A process that does not hear it looks by
/// itself after a while.
pub(crate) async fn poke(links: &Links, peer: &PeerPort) {
    let request = Request::post(format!("https://{NAME}{PARTITIONS}/look"));
    if let Ok(request) = request.body(Body::empty()) {
        let _ = links.send(peer, request).await;
    }
}

/// Returns the way to ask partitions of other processes. A partition without an owner is waited for
/// during `patience`.
pub(crate) fn remote(
    gate: Gate,
    links: Links,
    requests: Requests,
    patience: Duration,
) -> impl Fn(u32, Administration) -> BoxFuture<'static, Answer> + Send + Sync {
    let remote = Remote {
        gate,
        links,
        requests,
        patience,
    };
    move |partition, administration| {
        let remote = remote.clone();
        async move { remote.ask(partition, administration).await }.boxed()
    }
}

#[derive(Clone)]
struct Remote {
    gate: Gate,
    links: Links,
    requests: Requests,
    patience: Duration,
}

/// End of an attempt to ask a partition.
enum End {
    Answered(Answer),
    /// The process took nothing.
    NotTaken,
    /// The answer is lost.
    Lost,
}

impl Remote {
    async fn ask(&self, partition: u32, administration: Administration) -> Answer {
        let until = Instant::now() + self.patience;
        let mut owner = self.gate.owner(partition);
        while Instant::now() < until {
            let known = owner.borrow_and_update().clone();
            let end = match &known {
                Owner::There(peer) => self.ask_at(peer, partition, &administration).await,
                Owner::Here => {
                    let here = self.requests.administer_here(partition, administration);
                    return here.await;
                }
                Owner::Arriving | Owner::Unreachable | Owner::Unknown => {
                    let _ = tokio::time::timeout_at(until, owner.changed()).await;
                    continue;
                }
            };
            match end {
                End::Answered(answer) => return answer,
                End::Lost if !is_read(&administration) => break,
                End::Lost | End::NotTaken => {
                    let _ = tokio::time::timeout(AGAIN, owner.changed()).await;
                }
            }
        }
        Answer::Stopping
    }

    async fn ask_at(
        &self,
        peer: &PeerPort,
        partition: u32,
        administration: &Administration,
    ) -> End {
        let path = format!("https://{NAME}{PARTITIONS}/administer/{partition}");
        let request = Request::post(path).body(Body::from(encode_request(administration)));
        let Ok(request) = request else {
            return End::NotTaken;
        };
        let answered = match self.links.send(peer, request).await {
            Ok(answered) => answered,
            Err(LinkError::Unreached(_)) => return End::NotTaken,
            Err(LinkError::Lost(_)) => return End::Lost,
        };
        let status = answered.status();
        if status == StatusCode::MISDIRECTED_REQUEST {
            return End::NotTaken;
        }
        let Ok(body) = to_bytes(Body::new(answered.into_body()), ADMINISTRATION_BYTES_MAX).await
        else {
            return End::Lost;
        };
        if status != StatusCode::OK {
            let reason = String::from_utf8_lossy(&body).into_owned();
            let peer = &peer.address;
            let text = format!("partition {partition} at {peer} answered {status}: {reason}");
            return End::Answered(Answer::Refused(text));
        }
        match decode_answer(&body) {
            // It has left that process in this moment.
            Ok(Answer::Elsewhere { .. }) => End::NotTaken,
            Ok(answer) => End::Answered(answer),
            Err(error) => {
                tracing::warn!(partition, peer = peer.address, %error, "answer not understood");
                let text = format!("the answer of partition {partition}: {error}");
                End::Answered(Answer::Refused(text))
            }
        }
    }
}

/// Returns true for a request that changes nothing, which may be repeated.
fn is_read(administration: &Administration) -> bool {
    matches!(
        administration,
        Administration::Inspect(_)
            | Administration::ShowMailbox { .. }
            | Administration::ListDeadLetters { .. }
            | Administration::ListAddresses { .. }
            | Administration::ListTimers { .. }
    )
}
