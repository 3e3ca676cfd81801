//! The layer before the routes of a port: it serves a request here, asks the owner, or lets it
//! wait.

mod messages;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderValue};
use axum::http::request::Parts;
use axum::http::{StatusCode, Version};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use satchel_aws::lease::PeerPort;
use satchel_engine::address::{Address, FunctionType};
use satchel_engine::forwarding::{Asked, Forwarding, Refusal, Step};

use self::messages::{from_peer, not_mine, owner_of, to_peer};
use super::gate::{Gate, Served};
use super::link::{LinkError, Links};
use super::merged::{List, Own};
use super::server::{ADMIN, TRAFFIC};
use crate::clock::boot_ms;
use crate::http::{
    AdminRights, ApiError, Client, ErrorCode, Exceeded, Ledger, Limit, NOT_HERE, NOT_TAKEN,
    Received, Share, TrafficLimits, UNKNOWN, Wait, WaitQuery, query,
};
use crate::metrics::Metrics;
use crate::readiness::Readiness;
use crate::requests::Requests;

/// Address of the client that reached the forwarding process.
pub(super) const CLIENT_HEADER: &str = "satchel-peer-client";

/// Result of a forwarded request, if it is none for the client: [`NOT_MINE`] or [`UNKNOWN`].
const OUTCOME_HEADER: &str = "satchel-peer-outcome";

/// The process is not the owner, and took nothing.
const NOT_MINE: &str = "not-mine";

/// Address and key of the owner that a process knows, separated by a blank.
const OWNER_HEADER: &str = "satchel-peer-owner";

/// Limit of the requests that wait for an owner.
const WAITING: Limit = Limit::of(2_560);

/// Limit of the bytes of their bodies.
const WAITING_BYTES: Limit = Limit::of(64 << 20);

/// Maximum size of a forwarded answer, in bytes: above what an endpoint may answer.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Origin of the requests of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hop {
    /// Clients.
    Client,
    /// Other processes of the application, which forward requests of their clients.
    Peer,
}

/// Port whose requests are forwarded.
#[derive(Debug, Clone)]
pub(crate) enum Surface {
    /// Calls and sends.
    Traffic,
    /// Administration, for clients with these rights. Health, readiness and metrics are those of
    /// the process that the client reached.
    Admin(AdminRights),
}

impl Surface {
    /// Path of the routes on the peer port.
    fn path(&self) -> &'static str {
        match self {
            Self::Traffic => TRAFFIC,
            Self::Admin(_) => ADMIN,
        }
    }

    /// Returns true if requests to this path are forwarded.
    fn forwards(&self, path: &str) -> bool {
        match self {
            Self::Traffic => true,
            Self::Admin(_) => path.starts_with("/api/"),
        }
    }

    /// Returns the address that a request to this path concerns, if it concerns only one.
    fn address(&self, path: &str) -> Option<Address> {
        let mut segments = path.strip_prefix('/')?.split('/');
        let is_about_one = match self {
            Self::Traffic => matches!(segments.next()?, "call" | "send"),
            Self::Admin(_) => segments.next()? == "api" && segments.next()? == "addresses",
        };
        let mut text = || {
            let text = percent_decode_str(segments.next()?).decode_utf8().ok()?;
            Some(text.into_owned()).filter(|text| !text.is_empty())
        };
        let (namespace, name) = (text()?, text()?);
        let function = FunctionType::new(&namespace, &name);
        let id = text()?;
        is_about_one.then(|| Address::new(function, id.as_str()))
    }
}

/// Layer before the routes of a port.
struct Layer {
    forwarder: Forwarder,
    hop: Hop,
    surface: Surface,
}

/// Forwards requests to the owner. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Forwarder {
    gate: Gate,
    links: Links,
    requests: Requests,
    patience: Duration,
    limits: TrafficLimits,
    waiting: Arc<Ledger>,
    waiting_bytes: Arc<Ledger>,
    metrics: Metrics,
}

impl Forwarder {
    /// Creates the forwarder of a process. A request waits for an owner for `patience`.
    pub(crate) fn new(
        gate: Gate,
        (links, requests): (Links, Requests),
        patience: Duration,
        metrics: Metrics,
    ) -> Self {
        let limits = (patience, WAITING, WAITING_BYTES);
        Self::with_limits(gate, (links, requests), limits, metrics)
    }

    pub(super) fn with_limits(
        gate: Gate,
        (links, requests): (Links, Requests),
        (patience, waiting, waiting_bytes): (Duration, Limit, Limit),
        metrics: Metrics,
    ) -> Self {
        Self {
            gate,
            links,
            requests,
            patience,
            limits: TrafficLimits::default(),
            waiting: Ledger::new(waiting),
            waiting_bytes: Ledger::new(waiting_bytes),
            metrics,
        }
    }
}

/// Puts the layer before `routes` of `surface`, whose requests come from `hop`.
pub(crate) fn layer(routes: Router, forwarder: Forwarder, hop: Hop, surface: Surface) -> Router {
    let layer = Layer {
        forwarder,
        hop,
        surface,
    };
    routes.layer(from_fn_with_state(Arc::new(layer), forward))
}

async fn forward(State(layer): State<Arc<Layer>>, request: Request, next: Next) -> Response {
    let (forwarder, hop) = (&layer.forwarder, layer.hop);
    if !layer.surface.forwards(request.uri().path()) {
        return next.run(request).await;
    }
    let _present = forwarder.gate.arrive();
    let version = request.version();
    let mut response = match layer.partition_of(request.uri().path()) {
        // The routes ask all partitions, or refuse the path.
        None => {
            let list = List::of(&request).filter(|_| hop == Hop::Client);
            match list {
                Some(list) => {
                    let (parts, body) = request.into_parts();
                    let own = Own::new(next, parts.clone());
                    let response = own.ask(Request::from_parts(parts, body)).await;
                    let (gate, links) = (&forwarder.gate, &forwarder.links);
                    Box::pin(list.complete((response, own), gate, links)).await
                }
                None => next.run(request).await,
            }
        }
        Some(partition) => match forwarder.gate.enter(partition) {
            Some(served) => layer.here(served, (partition, request), next).await,
            None => {
                layer
                    .elsewhere_or_error(partition, request, next, false)
                    .await
            }
        },
    };
    if hop == Hop::Peer {
        let unknown = response.extensions().get() == Some(&ErrorCode(UNKNOWN));
        if unknown {
            let headers = response.headers_mut();
            headers.insert(OUTCOME_HEADER, HeaderValue::from_static(UNKNOWN));
        }
    } else if forwarder.gate.is_stopping() && version <= Version::HTTP_11 {
        // The client's next request finds another process.
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A request that this process does not serve at present.
struct Elsewhere {
    /// Partition that it concerns.
    partition: u32,
    /// Path of its routes on the peer port.
    surface: &'static str,
    parts: Parts,
    body: Bytes,
    client: Option<Client>,
    repeatable: bool,
    /// True if this process may have taken it before.
    lost: bool,
}

impl Layer {
    /// Returns the partition that a request to this path concerns; none if it concerns all of
    /// several.
    fn partition_of(&self, path: &str) -> Option<u32> {
        let Forwarder { gate, requests, .. } = &self.forwarder;
        if gate.partitions() == 1 {
            return Some(0);
        }
        let address = self.surface.address(path)?;
        Some(requests.owner_of(&address))
    }

    /// Serves a request in this process. If the partition leaves meanwhile, and repeating the
    /// request is harmless, the next owner is asked, once (rule 32).
    async fn here(
        &self,
        served: Served,
        (partition, request): (u32, Request),
        next: Next,
    ) -> Response {
        let is_moving = self.forwarder.gate.partitions() > 1;
        if !(is_moving && matches!(self.surface, Surface::Traffic)) {
            let response = next.run(request).await;
            drop(served);
            return response;
        }
        if self.hop == Hop::Peer {
            let response = next.run(request).await;
            drop(served);
            return match was_not_taken(&response) {
                // The process that forwarded it asks the next owner.
                true => not_mine(None),
                false => response,
            };
        }
        let (parts, body) = request.into_parts();
        let limits = self.forwarder.limits;
        // A body that is complete can be sent again.
        let (body, share) = match limits.body.read(&parts.extensions, body).await {
            Ok(read) => read,
            Err(error) => return error.into_response(),
        };
        let request = Request::from_parts(parts.clone(), Body::from(body.clone()));
        let response = next.clone().run(request).await;
        drop((served, share));
        let is_unknown = response.extensions().get() == Some(&ErrorCode(UNKNOWN));
        let is_keyed = parts.headers.contains_key("idempotency-key");
        let is_repeated = was_not_taken(&response) || (is_unknown && is_keyed);
        if !is_repeated {
            return response;
        }
        tracing::debug!(partition, "the partition leaves; its next owner is asked");
        let request = Request::from_parts(parts, Body::from(body));
        self.elsewhere_or_error(partition, request, next, is_unknown)
            .await
    }

    /// As [`Self::elsewhere`], with the answer to an error.
    async fn elsewhere_or_error(
        &self,
        partition: u32,
        request: Request,
        next: Next,
        lost: bool,
    ) -> Response {
        match Box::pin(self.elsewhere(partition, request, next, lost)).await {
            Ok(response) => response,
            Err(error) => error.into_response(),
        }
    }

    /// Answers a request about a partition while this process is not its owner. `lost` says that it
    /// may have been taken here before.
    async fn elsewhere(
        &self,
        partition: u32,
        request: Request,
        next: Next,
        lost: bool,
    ) -> Result<Response, ApiError> {
        let (parts, body) = request.into_parts();
        let limits = self.forwarder.limits;
        let wanted = match (self.hop, &self.surface) {
            // The other process keeps the time, and cancels the request.
            (Hop::Peer, _) => None,
            (Hop::Client, Surface::Traffic) => Some(query(&parts)?),
            (Hop::Client, Surface::Admin(rights)) => {
                rights.check(&parts)?;
                Some(timeout_among_others(&parts))
            }
        };
        let wait = match wanted {
            Some(query) => Wait::parse(query, limits.timeout_default, limits.timeout_max)?,
            None => Wait::of(limits.timeout_max),
        };
        // A body that is complete can be sent again.
        let (body, _share) = limits.body.read(&parts.extensions, body).await?;
        let received = parts.extensions.get::<Arc<Received>>();
        let request = Elsewhere {
            partition,
            client: received.map(|received| received.client()),
            repeatable: match self.surface {
                Surface::Traffic => parts.headers.contains_key("idempotency-key"),
                Surface::Admin(_) => parts.method.is_safe(),
            },
            surface: self.surface.path(),
            parts,
            body,
            lost,
        };
        wait.until(self.forwarder.decide(self.hop, request, next))
            .await?
    }
}

/// Returns the timeout of a request to administration, whose routes check the rest of the query.
fn timeout_among_others(parts: &Parts) -> WaitQuery {
    let pairs = parts.uri.query().unwrap_or_default().split('&');
    let mut timeouts = pairs.filter_map(|pair| pair.strip_prefix("timeout="));
    WaitQuery {
        timeout: timeouts.next().map(str::to_owned),
    }
}

impl Forwarder {
    async fn decide(&self, hop: Hop, request: Elsewhere, next: Next) -> Result<Response, ApiError> {
        let patience_ms = u64::try_from(self.patience.as_millis()).unwrap_or(u64::MAX);
        let mut forwarding = match hop {
            Hop::Client => Forwarding::from_client(boot_ms(), patience_ms, request.repeatable),
            Hop::Peer => Forwarding::from_peer(boot_ms(), patience_ms),
        };
        if request.lost {
            forwarding.asked(boot_ms(), Asked::Lost);
        }
        let mut owner = self.gate.owner(request.partition);
        let mut waiting = None;
        loop {
            let known = owner.borrow_and_update().clone();
            match forwarding.next(boot_ms(), &known) {
                Step::Serve => {
                    let Some(_served) = self.gate.enter(request.partition) else {
                        // The gate was closed in this moment.
                        tokio::task::yield_now().await;
                        continue;
                    };
                    drop(waiting);
                    self.count(hop, "served_after_waiting");
                    let request = Request::from_parts(request.parts, Body::from(request.body));
                    return Ok(next.run(request).await);
                }
                Step::Ask(peer) => {
                    waiting = None;
                    match self.ask(&peer, &request).await {
                        Ok(response) => {
                            self.count(hop, "answered");
                            return Ok(response);
                        }
                        Err((end, reason)) => {
                            tracing::debug!(peer = peer.address, ?end, reason, "not answered");
                            self.count(hop, name(&end));
                            forwarding.asked(boot_ms(), end);
                        }
                    }
                }
                Step::Wait(until_ms) => {
                    if waiting.is_none() {
                        waiting = match self.place(hop, &request) {
                            Err(_) if forwarding.may_have_been_taken() => {
                                return self.refuse(hop, Refusal::Unknown);
                            }
                            place => Some(place?),
                        };
                    }
                    let pause = Duration::from_millis(until_ms.saturating_sub(boot_ms()).max(1));
                    // A closed channel means that the process ends.
                    let _ = tokio::time::timeout(pause, owner.changed()).await;
                }
                Step::Refuse(refusal) => return self.refuse(hop, refusal),
            }
        }
    }

    /// Takes a place among the requests that wait for an owner.
    fn place(&self, hop: Hop, request: &Elsewhere) -> Result<WaitingPlace, ApiError> {
        // Requests of tests need no connection.
        let client = request.client;
        let client = client.unwrap_or(Client::from(std::net::IpAddr::from([127, 0, 0, 1])));
        let place = self.waiting.take(client, 1);
        let bytes = self.waiting_bytes.take(client, request.body.len());
        let (place, bytes) = match (place, bytes) {
            (Ok(place), Ok(bytes)) => (place, bytes),
            (Err(exceeded), _) | (_, Err(exceeded)) => {
                self.count(hop, "too_many_waiting");
                return Err(too_many_waiting(exceeded));
            }
        };
        self.metrics.observe_forwarding_waiting(1);
        Ok(WaitingPlace {
            _shares: (place, bytes),
            metrics: self.metrics.clone(),
        })
    }

    /// Sends the request to the process `peer`. Returns its answer for the client, or how the
    /// attempt ended and why.
    async fn ask(
        &self,
        peer: &PeerPort,
        request: &Elsewhere,
    ) -> Result<Response, (Asked<PeerPort>, String)> {
        let unsendable = |error: axum::http::Error| (Asked::Unreached, error.to_string());
        let sent = to_peer(request).map_err(unsendable)?;
        let answer = self.links.send(peer, sent).await;
        let answer = answer.map_err(|error| match error {
            LinkError::Unreached(reason) => (Asked::Unreached, reason),
            LinkError::Lost(reason) => (Asked::Lost, reason),
        })?;
        let outcome = answer.headers().get(OUTCOME_HEADER);
        if outcome.is_some_and(|outcome| outcome == NOT_MINE) {
            let knows = owner_of(answer.headers());
            return Err((Asked::NotMine { knows }, NOT_MINE.to_owned()));
        }
        if request.repeatable && outcome.is_some_and(|outcome| outcome == UNKNOWN) {
            return Err((Asked::Lost, "the outcome is unknown there".to_owned()));
        }
        from_peer(answer)
            .await
            .map_err(|error| (Asked::Lost, error.to_string()))
    }

    fn refuse(&self, hop: Hop, refusal: Refusal<PeerPort>) -> Result<Response, ApiError> {
        match refusal {
            Refusal::NoOwner => {
                self.count(hop, "no_owner");
                Err(ApiError::unavailable(
                    "no_owner",
                    1,
                    format!(
                        "no process became the owner of the application within {:?}; \
                         the request had no effect, retry it",
                        self.patience
                    ),
                ))
            }
            Refusal::Unknown => {
                self.count(hop, "unknown");
                Err(ApiError::unavailable(
                    UNKNOWN,
                    1,
                    "the connection to the process that owns the application was lost and the \
                     outcome is unknown; retry with the same Idempotency-Key, which makes a \
                     repeat harmless",
                ))
            }
            Refusal::Unreachable => {
                self.count(hop, "owner_without_peer_port");
                let standby = ApiError::not_serving(Readiness::Standby);
                standby.map(|()| StatusCode::SERVICE_UNAVAILABLE.into_response())
            }
            Refusal::NotMine { knows } => Ok(not_mine(knows)),
        }
    }

    fn count(&self, hop: Hop, outcome: &'static str) {
        if hop == Hop::Client {
            self.metrics.observe_forwarded(outcome);
        }
    }
}

/// Place among the requests that wait for an owner.
struct WaitingPlace {
    _shares: (Share, Share),
    metrics: Metrics,
}

impl Drop for WaitingPlace {
    fn drop(&mut self) {
        self.metrics.observe_forwarding_waiting(-1);
    }
}

fn name(end: &Asked<PeerPort>) -> &'static str {
    match end {
        Asked::NotMine { .. } => "not_mine",
        Asked::Unreached => "unreached",
        Asked::Lost => "lost",
    }
}

fn too_many_waiting(exceeded: Exceeded) -> ApiError {
    let (Exceeded::All(limit) | Exceeded::Client(limit)) = exceeded;
    ApiError::unavailable(
        "too_many_waiting",
        1,
        format!(
            "the application has no owner at present, and the limit of requests that wait for \
             one is reached ({limit}); the request had no effect, retry it"
        ),
    )
}

/// Returns true if an answer of this process says that the partition leaves, or has left, and took
/// nothing of the request.
fn was_not_taken(response: &Response) -> bool {
    let code = response.extensions().get::<ErrorCode>();
    code.is_some_and(|ErrorCode(code)| [NOT_TAKEN, NOT_HERE].contains(code))
}
