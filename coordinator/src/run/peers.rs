//! The peer port of `satchel run`: what it knows of the owner, and its part of a planned stop.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use satchel_aws::lease::{LeaseItem, LeaseStatus, LeaseTable, MemberItem, PeerPort};
use satchel_engine::forwarding::Owner;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::PATIENCE_BEYOND;
use super::handover;
use super::lease::{LeaseHolder, LeaseItems};
use crate::assemble::{Layer, Process};
use crate::config::RunConfig;
use crate::error::{Exit, Failure};
use crate::http::{AdminRights, Port, ServeLimits, bind, traffic_routes};
use crate::peer::{
    self, Forwarder, Gate, Hop, Identity, Links, Membership, PartitionPort, PeerOwner,
    PeerPortParts, Registration, Surface,
};
use crate::readiness::Readiness;
use crate::servers::Servers;

/// Limits of the interval at which this process renews its item. Nothing but the admission of new
/// connections depends on it.
const RENEWAL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Renewals of this process's item in a lease time, if the item keeps its partitions.
const RENEWALS: u32 = 3;

/// Maximum interval of these renewals.
const RENEWAL_OF_OWNERS_MAX: Duration = Duration::from_millis(3_333);

/// Interval at which a former owner looks for the next one.
const LOOK: Duration = Duration::from_millis(100);

/// Time without a request after which a former owner, or a standby, ends: of clients, and of other
/// processes that do not know the next owner yet. Connections of load balancers are closed after
/// their next answer, and their checks have failed by then.
const QUIET: Duration = Duration::from_secs(2);

/// Part of the stop time that is left for the end of the ports.
const PORTS_END: Duration = Duration::from_millis(500);

/// The peer port of this process.
pub(super) struct Peers {
    gate: Gate,
    links: Links,
    forwarder: Forwarder,
    identity: Arc<Identity>,
    port: PeerPort,
    lease_time: Duration,
    /// Listener, until it is served.
    listener: Option<TcpListener>,
    registration: Option<Registration>,
    following: Mutex<Option<JoinHandle<()>>>,
}

impl Peers {
    /// Opens the peer port, if the configuration has one, and makes the key of this process.
    ///
    /// `partitions` is the number of partitions that are owned one by one: 1 if one process owns
    /// the whole application.
    pub(super) async fn open(
        config: &RunConfig,
        process: &Process,
        partitions: u32,
    ) -> Result<Option<Self>, Failure> {
        let Some(address) = config.peer else {
            return Ok(None);
        };
        let environment = |error| Failure::from_source(Exit::Environment, error);
        let listener = bind(address, Port::Peer).await;
        let listener = listener.map_err(|error| Failure::from_source(Exit::Environment, error))?;
        let bound = listener.local_addr().map_err(environment)?;
        let address = config.peer_address.clone();
        let address = address.or_else(|| handover::own_address(bound));
        let address = address.ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                "--peer: the address at which other machines reach this port is unknown; \
                 set --peer-address HOST:PORT",
            )
        })?;
        let identity = Arc::new(Identity::generate()?);
        let links = Links::new(Arc::clone(&identity));
        let gate = Gate::new(partitions);
        let forwarder = Forwarder::new(
            gate.clone(),
            (links.clone(), process.requests.clone()),
            config.lease_time + PATIENCE_BEYOND,
            process.metrics.clone(),
        );
        let port = PeerPort {
            address,
            key: identity.key().to_owned(),
        };
        Ok(Some(Self {
            gate,
            links,
            forwarder,
            identity,
            port,
            lease_time: config.lease_time,
            listener: Some(listener),
            registration: None,
            following: Mutex::default(),
        }))
    }

    /// Address and key of the port.
    pub(super) fn port(&self) -> PeerPort {
        self.port.clone()
    }

    /// Returns the layers before calls and sends, and before administration, of clients.
    pub(super) fn layers(&self) -> (Layer<()>, Layer<AdminRights>) {
        let (traffic, admin) = (self.forwarder.clone(), self.forwarder.clone());
        (
            Box::new(move |routes, ()| peer::layer(routes, traffic, Hop::Client, Surface::Traffic)),
            Box::new(move |routes, rights| {
                peer::layer(routes, admin, Hop::Client, Surface::Admin(rights))
            }),
        )
    }

    /// Registers this process and serves the port. `partitions` is what other processes ask about
    /// the partitions of this one, if they are owned one by one.
    pub(super) async fn begin(
        &mut self,
        process: &Process,
        items: &LeaseItems,
        (servers, partitions): (&mut Servers, Option<PartitionPort>),
    ) -> Result<(), Failure> {
        let Some(listener) = self.listener.take() else {
            return Ok(());
        };
        let renewal = match &partitions {
            Some(_) => (self.lease_time / RENEWALS).min(RENEWAL_OF_OWNERS_MAX),
            None => self.lease_time.clamp(RENEWAL.0, RENEWAL.1),
        };
        let congested = partitions.as_ref().map(|port| port.switch.congested());
        let item = MemberItem {
            id: items.id.clone(),
            peer: self.port(),
            software: env!("CARGO_PKG_VERSION").to_owned(),
            counter: 1,
            renewal_ms: u64::try_from(renewal.as_millis()).unwrap_or(u64::MAX),
            left: false,
            congested: false,
        };
        let (table, prefix) = (items.table.clone(), items.prefix.clone());
        let metrics = process.metrics.clone();
        let registration = Registration::begin(
            (table.clone(), prefix.clone()),
            item,
            congested,
            metrics.clone(),
        );
        self.registration = Some(registration.await);
        let AdminRights { reads, writes } = AdminRights::ALL;
        let routes = (
            traffic_routes(process.traffic()),
            process.admin(reads, writes),
        );
        let mut stopping = servers.stopping();
        let serving = peer::serve(
            PeerPortParts {
                listener,
                identity: Arc::clone(&self.identity),
                membership: Membership::of(table, prefix),
                routes: peer::routes(routes, self.forwarder.clone(), metrics.clone()),
                partitions,
                limits: ServeLimits::default(),
                metrics,
            },
            async move {
                // A dropped sender means the same.
                let _ = stopping.wait_for(|stopping| *stopping).await;
            },
        )?;
        servers.also(serving);
        tracing::info!(
            address = self.port.address,
            key = self.port.key,
            "peer port open; requests are forwarded to the owner"
        );
        Ok(())
    }

    /// Follows the owner of the whole application from now on.
    pub(super) fn follow(&self, lease: &LeaseHolder, process: &Process) {
        let following = follow(
            lease.status(),
            process.readiness.subscribe(),
            self.gate.clone(),
            self.links.clone(),
        );
        let before = self.following.lock();
        let mut before = before.unwrap_or_else(PoisonError::into_inner);
        *before = Some(tokio::spawn(following));
    }

    /// The gate of this process.
    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Connections to other processes.
    pub(super) fn links(&self) -> &Links {
        &self.links
    }

    /// Forwards requests until no more come, for at most `limit`.
    pub(super) async fn deserted(&self, limit: Duration) {
        let limit = limit.saturating_sub(PORTS_END);
        self.gate.deserted(QUIET, limit).await;
    }

    /// The process is to stop: load balancers should send no further requests.
    pub(super) fn stop(&self) {
        self.gate.stop();
    }

    /// Serves nothing new from now on, and waits for at most `limit` until the requests that this
    /// process serves are answered. Further requests wait for the next owner. Returns the time
    /// that it took.
    pub(super) async fn close(&self, limit: Duration) -> Duration {
        let begun = Instant::now();
        self.stop_following().await;
        self.gate.set(0, Owner::Unknown);
        let requests = self.gate.served(0);
        let answered = self.gate.quiet(0, limit).await;
        tracing::info!(
            requests,
            answered,
            took_ms = begun.elapsed().as_millis(),
            "requests wait for the next owner; those in progress were awaited"
        );
        begun.elapsed()
    }

    /// Forwards requests to the owner after this process `id` until no more come, for at most
    /// `limit`.
    pub(super) async fn forward_to_next_owner(&self, table: LeaseTable, id: &str, limit: Duration) {
        self.stop_following().await;
        let begun = Instant::now();
        let looking = look(table, id, &self.gate, &self.links);
        tokio::select! {
            () = looking => {}
            () = self.deserted(limit) => {}
        }
        tracing::info!(
            took_ms = begun.elapsed().as_millis(),
            "no more requests to forward"
        );
    }

    /// Ends the task that sets the gate by the lease. It has ended when this returns, so it cannot
    /// open the gate again.
    async fn stop_following(&self) {
        let following = self.following.lock();
        let following = following.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(following) = following {
            following.abort();
            // The result says only that it was aborted.
            let _ = following.await;
        }
    }

    /// Tells the other processes that this one ends.
    pub(super) async fn leave(&mut self) {
        if let Some(registration) = self.registration.take() {
            registration.leave().await;
        }
    }
}

/// Routes `GET /readyz/traffic`, for load balancers that send requests to all processes: 200 while
/// this process answers them, as the owner or by forwarding, and 503 once it is to stop.
pub(super) fn probe(process: &Process, peers: Option<&Peers>) -> Router {
    let gate = peers.map(|peers| peers.gate.clone());
    let readiness = process.readiness.subscribe();
    let answer = move || async move {
        let readiness = *readiness.borrow();
        let serves = matches!(
            readiness,
            Readiness::Serving | Readiness::Loading { .. } | Readiness::Held
        );
        let answers = match &gate {
            Some(gate) => !gate.is_stopping() && readiness != Readiness::Stopping,
            None => serves,
        };
        let (status, body) = match (answers, serves) {
            (true, true) => (StatusCode::OK, r#"{"state":"serving"}"#),
            (true, false) => (StatusCode::OK, r#"{"state":"forwarding"}"#),
            (false, _) => (
                StatusCode::SERVICE_UNAVAILABLE,
                r#"{"state":"unavailable"}"#,
            ),
        };
        (status, [(CONTENT_TYPE, "application/json")], body).into_response()
    };
    Router::new().route("/readyz/traffic", get(answer))
}

/// Keeps the gate up to date until the lease ends.
async fn follow(
    mut lease: watch::Receiver<LeaseStatus>,
    mut readiness: watch::Receiver<Readiness>,
    gate: Gate,
    links: Links,
) {
    loop {
        let owner = owner(&lease.borrow_and_update(), *readiness.borrow_and_update());
        know((&gate, 0), &links, owner);
        let changed = tokio::select! {
            changed = lease.changed() => changed,
            changed = readiness.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Sets what is known of the owner of a partition.
pub(super) fn know((gate, partition): (&Gate, u32), links: &Links, owner: PeerOwner) {
    let news = *gate.owner(partition).borrow() != owner;
    if let (true, Owner::There(peer)) = (news, &owner) {
        let (links, peer) = (links.clone(), peer.clone());
        // In advance, so that the first request finds a connection.
        tokio::spawn(async move { links.connect(&peer).await });
    }
    gate.set(partition, owner);
}

/// Owner of the partition, by the lease and the readiness of this process.
fn owner(lease: &LeaseStatus, readiness: Readiness) -> PeerOwner {
    match lease {
        LeaseStatus::Held { .. } => match readiness {
            Readiness::Serving | Readiness::Loading { .. } | Readiness::Held => Owner::Here,
            Readiness::Starting { .. } | Readiness::Standby => Owner::Arriving,
            Readiness::Stopping => Owner::Unknown,
        },
        LeaseStatus::Watching {
            holder: Some(holder),
        } => elsewhere(holder),
        LeaseStatus::Watching { holder: None }
        | LeaseStatus::Lost { .. }
        | LeaseStatus::Released
        | LeaseStatus::Refused(_) => Owner::Unknown,
    }
}

/// Owner by the item of another process.
fn elsewhere(item: &LeaseItem) -> PeerOwner {
    match &item.peer {
        _ if item.released => Owner::Unknown,
        Some(peer) => Owner::There(peer.clone()),
        None => Owner::Unreachable,
    }
}

/// Reads the table for the owner after the process `id`. Never ends.
async fn look(table: LeaseTable, id: &str, gate: &Gate, links: &Links) {
    loop {
        match table.read().await {
            Ok(Some(item)) if item.owner != id => know((gate, 0), links, elsewhere(&item)),
            Ok(_) => gate.set(0, Owner::Unknown),
            Err(error) => tracing::debug!(%error, "next owner unknown"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(released: bool, peer: Option<PeerPort>) -> LeaseItem {
        LeaseItem {
            owner: "other".to_owned(),
            epoch: 1,
            counter: 1,
            lease_ms: 10_000,
            released,
            address: None,
            peer,
        }
    }

    #[test]
    fn the_owner_follows_from_the_lease_and_from_what_this_process_does() {
        let port = PeerPort {
            address: "10.0.0.7:8082".to_owned(),
            key: "ab".to_owned(),
        };
        let held = LeaseStatus::Held {
            epoch: 1,
            confirmed_ms: 1,
        };
        let watching = |item| LeaseStatus::Watching { holder: item };
        let starting = Readiness::Starting { recovered: 0.0 };
        let loading = Readiness::Loading { recovered: 0.5 };
        for (lease, readiness, expected) in [
            (held.clone(), Readiness::Serving, Owner::Here),
            (held.clone(), loading, Owner::Here),
            (held.clone(), starting, Owner::Arriving),
            // The lease is acquired before the takeover begins.
            (held.clone(), Readiness::Standby, Owner::Arriving),
            (held, Readiness::Stopping, Owner::Unknown),
            (watching(None), Readiness::Standby, Owner::Unknown),
            (
                watching(Some(item(false, Some(port.clone())))),
                Readiness::Standby,
                Owner::There(port.clone()),
            ),
            (
                watching(Some(item(true, Some(port)))),
                Readiness::Standby,
                Owner::Unknown,
            ),
            // A process without `--peer`, or of a version that does not know it.
            (
                watching(Some(item(false, None))),
                Readiness::Standby,
                Owner::Unreachable,
            ),
        ] {
            assert_eq!(
                owner(&lease, readiness),
                expected,
                "{lease:?} {readiness:?}"
            );
        }
    }
}
