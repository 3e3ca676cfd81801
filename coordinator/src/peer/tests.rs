//! Several processes in one: each has its key, its peer port and a port for clients. The routes
//! are stand-ins for calls.

mod handover;
mod leaving;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, Request};
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::routing::post;
use satchel_aws::lease::{MemberItem, PeerPort};
use satchel_engine::forwarding::Owner;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::*;
use crate::http::Token;
use crate::http::{AdminAccess, AdminRights, ApiError, Guard, Limit, Port, ServeLimits, surface};
use crate::metrics::Metrics;
use crate::requests::Requests;

/// Items of the processes, by key.
type Members = Arc<Mutex<BTreeMap<String, MemberItem>>>;

/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(30);

struct Process {
    gate: Gate,
    metrics: Metrics,
    port: PeerPort,
    /// Keys of the processes that connected to this one.
    guests: Arc<Mutex<BTreeSet<String>>>,
    /// URL for clients.
    url: String,
    peer_port: JoinHandle<()>,
    /// Closes the peer port in an orderly way.
    close: Arc<Notify>,
    traffic: JoinHandle<()>,
}

impl Process {
    async fn start(members: &Members, routes: Router) -> Self {
        let wide = Limit::of(1_024);
        Self::with_waiting(members, routes, (wide, Limit::of(1 << 20))).await
    }

    /// Starts a process of an application of two partitions.
    async fn of_two(members: &Members, routes: Router) -> Self {
        let wide = (Limit::of(1_024), Limit::of(1 << 20));
        Self::with(members, routes, wide, 2).await
    }

    async fn with_waiting(members: &Members, routes: Router, waiting: (Limit, Limit)) -> Self {
        Self::with(members, routes, waiting, 1).await
    }

    async fn with(
        members: &Members,
        routes: Router,
        (waiting, waiting_bytes): (Limit, Limit),
        partitions: u32,
    ) -> Self {
        let identity = Arc::new(Identity::generate().unwrap());
        let gate = Gate::new(partitions);
        let links = Links::new(Arc::clone(&identity));
        let metrics = Metrics::new();
        let forwarder = Forwarder::with_limits(
            gate.clone(),
            (links, Requests::new(metrics.clone())),
            (Duration::from_secs(3), waiting, waiting_bytes),
            metrics.clone(),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = PeerPort {
            address: listener.local_addr().unwrap().to_string(),
            key: identity.key().to_owned(),
        };
        members
            .lock()
            .unwrap()
            .insert(port.key.clone(), member(&port));
        let known = Arc::clone(members);
        let guests: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let came = Arc::clone(&guests);
        let membership = Membership::new(move |key| {
            came.lock().unwrap().insert(key.clone());
            let item = known.lock().unwrap().get(&key).cloned();
            Box::pin(async move { Ok(item) })
        });
        let close = Arc::new(Notify::new());
        let serving = serve(
            PeerPortParts {
                listener,
                identity,
                membership,
                routes: super::routes(
                    (routes.clone(), administration()),
                    forwarder.clone(),
                    metrics.clone(),
                ),
                partitions: None,
                limits: ServeLimits::default(),
                metrics: metrics.clone(),
            },
            {
                let close = Arc::clone(&close);
                async move { close.notified().await }
            },
        );
        let clients = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bound = clients.local_addr().unwrap();
        let token = Token::new("secret").unwrap();
        let rights = AdminRights {
            reads: AdminAccess::Allowed,
            writes: AdminAccess::Token(token),
        };
        let admin = Surface::Admin(rights);
        let admin = layer(administration(), forwarder.clone(), Hop::Client, admin);
        let routes = layer(routes, forwarder, Hop::Client, Surface::Traffic).merge(admin);
        let routes = surface(Port::Traffic, routes, Guard::of(bound, []), metrics.clone());
        let traffic = crate::http::serve(
            clients,
            routes,
            Port::Traffic,
            ServeLimits::default(),
            metrics.clone(),
            std::future::pending(),
        );
        Self {
            gate,
            metrics,
            port,
            guests,
            url: format!("http://{bound}"),
            peer_port: tokio::spawn(serving.unwrap()),
            close,
            traffic: tokio::spawn(traffic),
        }
    }

    fn owns(&self) {
        self.gate.set(0, Owner::Here);
    }

    fn knows(&self, owner: &Process) {
        self.gate.set(0, Owner::There(owner.port.clone()));
    }

    /// Ends the peer port as a kill would.
    async fn dies(&mut self) {
        self.peer_port.abort();
        let _ = (&mut self.peer_port).await;
    }

    fn counted(&self, sample: &str) -> u64 {
        let text = self.metrics.encode();
        let mut values = text.lines().filter_map(|line| line.strip_prefix(sample));
        values
            .next()
            .map_or(0, |value| value.trim().parse().unwrap())
    }

    fn events(&self, outcome: &str) -> u64 {
        self.counted(&format!(
            "satchel_forwarding_events_total{{outcome=\"{outcome}\"}}"
        ))
    }

    async fn counts(&self, sample: &str, expected: u64) {
        let begun = Instant::now();
        while self.counted(sample) != expected {
            assert!(begun.elapsed() < LONG, "{sample} is not {expected}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.peer_port.abort();
        self.traffic.abort();
    }
}

fn member(port: &PeerPort) -> MemberItem {
    MemberItem {
        id: port.key.clone(),
        peer: port.clone(),
        software: "test".to_owned(),
        counter: 1,
        renewal_ms: 10_000,
        left: false,
        congested: false,
    }
}

/// Routes of administration that show the head of the request.
fn administration() -> Router {
    let show = |request: Request| async move {
        format!(
            "{} {} {:?}",
            request.method(),
            request.uri(),
            request.headers()
        )
    };
    Router::new()
        .route("/api/list", axum::routing::get(show).post(show))
        .route("/healthz", axum::routing::get(show))
}

/// Routes whose handler counts requests and says its name.
fn named(name: &'static str, served: &Arc<AtomicUsize>) -> Router {
    let served = Arc::clone(served);
    let handler = move |Path(id): Path<String>, body: String| async move {
        served.fetch_add(1, Ordering::SeqCst);
        format!("{name}: {id} {body}")
    };
    Router::new().route("/call/{id}", post(handler))
}

/// Routes whose handler reports a request and never answers.
fn hanging(reached: &Arc<Notify>, dropped: &Arc<Notify>) -> Router {
    struct Dropped(Arc<Notify>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let (reached, dropped) = (Arc::clone(reached), Arc::clone(dropped));
    let handler = move || async move {
        let _dropped = Dropped(dropped);
        reached.notify_one();
        std::future::pending::<()>().await;
    };
    Router::new().route("/call/{id}", post(handler))
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

fn call(process: &Process) -> reqwest::RequestBuilder {
    client()
        .post(format!("{}/call/alice", process.url))
        .body("1")
}

async fn answered(request: reqwest::RequestBuilder) -> (u16, String) {
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn error(request: reqwest::RequestBuilder) -> (u16, String) {
    let (status, body) = answered(request).await;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    (status, body["error"]["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_standby_forwards_a_request_as_it_came_without_its_token() {
    let members = Members::default();
    let echo = |request: Request| async move {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("satchel-type", "t".parse().unwrap());
        let seen = format!("{} {} {:?}", parts.uri, body.len(), parts.headers);
        (axum::http::StatusCode::IM_A_TEAPOT, headers, seen).into_response()
    };
    let owner = Process::start(&members, Router::new().route("/call/{id}", post(echo))).await;
    let standby = Process::start(&members, Router::new().route("/call/{id}", post(echo))).await;
    owner.owns();
    standby.knows(&owner);
    let answer = client()
        .post(format!("{}/call/a%2Fb?timeout=20s", standby.url))
        .header("traceparent", "00-1-2-01")
        .header("idempotency-key", "k")
        .header("authorization", "Bearer secret")
        .header("x-private", "1")
        .header("connection", "x-private")
        .header("satchel-peer-client", "6.6.6.6")
        .body(vec![7; 300_000])
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 418);
    assert_eq!(answer.headers()["satchel-type"], "t");
    let internal = |name: &&axum::http::HeaderName| name.as_str().starts_with("satchel-peer");
    assert_eq!(answer.headers().keys().find(internal), None);
    let seen = answer.text().await.unwrap();
    assert!(seen.contains("/call/a%2Fb?timeout=20s 300000"), "{seen}");
    for passed in ["00-1-2-01", "\"idempotency-key\": \"k\"", "127.0.0.1"] {
        assert!(seen.contains(passed), "{passed} in {seen}");
    }
    for kept in ["secret", "x-private", "6.6.6.6"] {
        assert!(!seen.contains(kept), "{kept} in {seen}");
    }
    assert_eq!(standby.events("answered"), 1);
    let requests = "satchel_http_requests_total{port=\"peer\",verb=\"call\",code=\"418\"}";
    assert_eq!(owner.counted(requests), 1);
}

#[tokio::test]
async fn a_forwarded_request_is_not_forwarded_again() {
    let members = Members::default();
    let served = Arc::default();
    let one = Process::start(&members, named("one", &served)).await;
    let other = Process::start(&members, named("other", &served)).await;
    // Each takes the other for the owner.
    one.knows(&other);
    other.knows(&one);
    let begun = Instant::now();
    let (status, code) = error(call(&one)).await;
    assert_eq!((status, code.as_str()), (503, "no_owner"));
    assert!(
        begun.elapsed() >= Duration::from_secs(3),
        "it waits for the table"
    );
    assert_eq!(served.load(Ordering::SeqCst), 0);
    assert_eq!(other.events("answered") + other.events("not_mine"), 0);
    let asked = one.events("not_mine");
    assert!((2..20).contains(&asked), "{asked}");
    // A request that was forwarded again would have come back over a connection of the other
    // process. One asks itself too, because the other names it as the owner.
    assert_eq!(*other.guests.lock().unwrap(), [one.port.key.clone()].into());
    let guests = one.guests.lock().unwrap();
    assert!(!guests.contains(&other.port.key), "{guests:?}");
}

#[tokio::test]
async fn the_head_of_a_forwarded_answer_may_be_as_large_as_that_of_a_request() {
    let members = Members::default();
    let routes = Router::new().route(
        "/call/{name}",
        post(async |Path(bytes): Path<usize>| {
            let mut response = "answered".into_response();
            let text = axum::http::HeaderValue::try_from("x".repeat(bytes)).unwrap();
            response.headers_mut().insert("x-long", text);
            response
        }),
    );
    let owner = Process::start(&members, routes.clone()).await;
    let standby = Process::start(&members, routes).await;
    owner.owns();
    standby.knows(&owner);
    for bytes in [10 << 10, 40 << 10, 70 << 10] {
        let url = format!("{}/call/{bytes}", standby.url);
        let answer = client().post(url).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{bytes}");
        assert_eq!(answer.headers()["x-long"].len(), bytes);
    }
}

#[tokio::test]
async fn a_process_that_is_not_the_owner_names_it() {
    let members = Members::default();
    let served = Arc::default();
    let owner = Process::start(&members, named("owner", &served)).await;
    let former = Process::start(&members, named("former", &served)).await;
    let standby = Process::start(&members, named("standby", &served)).await;
    owner.owns();
    former.knows(&owner);
    standby.knows(&former);
    assert_eq!(
        answered(call(&standby)).await,
        (200, "owner: alice 1".to_owned())
    );
    assert_eq!(standby.events("not_mine"), 1);
}

#[tokio::test]
async fn a_process_with_another_key_than_the_table_names_gets_no_request() {
    let members = Members::default();
    let served = Arc::default();
    let impostor = Process::start(&members, named("impostor", &served)).await;
    let standby = Process::start(&members, named("standby", &served)).await;
    impostor.owns();
    standby.gate.set(
        0,
        Owner::There(PeerPort {
            key: "00".repeat(32),
            ..impostor.port.clone()
        }),
    );
    let (status, code) = error(call(&standby)).await;
    assert_eq!((status, code.as_str()), (503, "no_owner"));
    assert_eq!(served.load(Ordering::SeqCst), 0);
    assert!(standby.events("unreached") > 0);
}

#[tokio::test]
async fn a_process_that_the_table_does_not_name_is_refused_until_it_does() {
    let members = Members::default();
    let served = Arc::default();
    let owner = Process::start(&members, named("owner", &served)).await;
    let stranger = Process::start(&members, named("stranger", &served)).await;
    owner.owns();
    stranger.knows(&owner);
    let item = members.lock().unwrap().remove(&stranger.port.key).unwrap();
    let request = tokio::spawn(answered(call(&stranger)));
    let refused = "satchel_peer_connections_refused_total{reason=\"unknown_key\"}";
    let begun = Instant::now();
    while owner.counted(refused) == 0 {
        assert!(begun.elapsed() < LONG);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(served.load(Ordering::SeqCst), 0);
    members
        .lock()
        .unwrap()
        .insert(stranger.port.key.clone(), item);
    let answer = request.await.unwrap();
    assert_eq!(answer, (200, "owner: alice 1".to_owned()));
}

#[tokio::test]
async fn a_client_without_a_certificate_gets_no_connection() {
    let members = Members::default();
    let owner = Process::start(&members, named("owner", &Arc::default())).await;
    owner.owns();
    let address: SocketAddr = owner.port.address.parse().unwrap();
    let refused = "satchel_peer_connections_refused_total{reason=\"handshake\"}";

    // Plain HTTP.
    let mut plain = TcpStream::connect(address).await.unwrap();
    let request = b"POST /traffic/call/alice HTTP/1.1\r\nhost: satchel-peer\r\n\r\n";
    plain.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    owner.counts(refused, 1).await;

    // TLS to the right key, without a certificate of its own.
    let config = Identity::generate().unwrap().anonymous(&owner.port.key);
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("satchel-peer").unwrap();
    let connected = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await;
    // In TLS 1.3, the client learns of the refusal with its first read.
    if let Ok(mut stream) = connected {
        let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        let read = stream.read(&mut [0; 64]).await;
        assert!(!matches!(read, Ok(1..)), "{read:?}");
    }
    owner.counts(refused, 2).await;
}

#[tokio::test]
async fn rule_32_when_the_owner_dies_a_request_is_repeated_only_with_a_key() {
    let members = Members::default();
    let (reached, dropped) = (Arc::default(), Arc::default());
    let mut owner = Process::start(&members, hanging(&reached, &dropped)).await;
    let served = Arc::default();
    let standby = Process::start(&members, named("standby", &served)).await;
    owner.owns();
    standby.knows(&owner);
    let without = tokio::spawn(error(call(&standby)));
    reached.notified().await;
    let with = call(&standby).header("idempotency-key", "k");
    let with = tokio::spawn(answered(with));
    reached.notified().await;
    owner.dies().await;
    let (status, code) = without.await.unwrap();
    assert_eq!((status, code.as_str()), (503, "unknown"));
    standby.counts("satchel_forwarding_waiting", 1).await;
    standby.owns();
    assert_eq!(with.await.unwrap(), (200, "standby: alice 1".to_owned()));
    assert_eq!(served.load(Ordering::SeqCst), 1);
    assert_eq!(standby.events("lost"), 2);
    assert_eq!(standby.events("unknown"), 1);
}

#[tokio::test]
async fn rule_32_an_owner_that_does_not_know_the_outcome_is_not_asked_again_without_a_key() {
    let members = Members::default();
    let unknown = || async { ApiError::of_answer(satchel_engine::output::Answer::Stopping) };
    let owner = Process::start(&members, Router::new().route("/call/{id}", post(unknown))).await;
    let standby = Process::start(&members, named("standby", &Arc::default())).await;
    owner.owns();
    standby.knows(&owner);
    let (status, code) = error(call(&standby)).await;
    assert_eq!((status, code.as_str()), (503, "unknown"));
    let keyed = call(&standby).header("idempotency-key", "k");
    let keyed = tokio::spawn(answered(keyed));
    standby.counts("satchel_forwarding_waiting", 1).await;
    standby.owns();
    assert_eq!(keyed.await.unwrap().0, 200);
}

#[tokio::test]
async fn without_an_owner_requests_wait_within_limits() {
    let members = Members::default();
    let served = Arc::default();
    let limits = (
        Limit {
            all: 2,
            each_client: 2,
        },
        Limit::of(1_000),
    );
    let process = Process::with_waiting(&members, named("new", &served), limits).await;
    let waiting: Vec<_> = (0..2)
        .map(|_| tokio::spawn(answered(call(&process))))
        .collect();
    process.counts("satchel_forwarding_waiting", 2).await;
    let (status, code) = error(call(&process)).await;
    assert_eq!((status, code.as_str()), (503, "too_many_waiting"));
    process.owns();
    for request in waiting {
        assert_eq!(request.await.unwrap(), (200, "new: alice 1".to_owned()));
    }
    process.counts("satchel_forwarding_waiting", 0).await;
    process.gate.set(0, Owner::Unknown);
    let (status, code) = error(call(&process).body(vec![b'x'; 800])).await;
    assert_eq!(
        (status, code.as_str()),
        (503, "too_many_waiting"),
        "its body is too large"
    );
    assert_eq!(served.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request_at_the_owner() {
    let members = Members::default();
    let (reached, dropped) = (Arc::default(), Arc::default());
    let owner = Process::start(&members, hanging(&reached, &dropped)).await;
    let standby = Process::start(&members, named("standby", &Arc::default())).await;
    owner.owns();
    standby.knows(&owner);
    let request = tokio::spawn(answered(call(&standby)));
    reached.notified().await;
    request.abort();
    tokio::time::timeout(LONG, dropped.notified())
        .await
        .unwrap();
}

#[tokio::test]
async fn the_timeout_of_a_request_ends_it_in_both_processes() {
    let members = Members::default();
    let (reached, dropped) = (Arc::default(), Arc::default());
    let owner = Process::start(&members, hanging(&reached, &dropped)).await;
    let standby = Process::start(&members, named("standby", &Arc::default())).await;
    owner.owns();
    standby.knows(&owner);
    let url = format!("{}/call/alice?timeout=300ms", standby.url);
    let (status, code) = error(client().post(url)).await;
    assert_eq!((status, code.as_str()), (504, "timeout"));
    tokio::time::timeout(LONG, dropped.notified())
        .await
        .unwrap();
}

#[tokio::test]
async fn administration_is_forwarded_for_clients_that_have_the_right_and_health_is_not() {
    let members = Members::default();
    let owner = Process::start(&members, named("owner", &Arc::default())).await;
    let standby = Process::start(&members, named("standby", &Arc::default())).await;
    owner.owns();
    standby.knows(&owner);
    let list = format!("{}/api/list?limit=3&timeout=9s", standby.url);
    let (status, seen) = answered(client().get(&list)).await;
    assert_eq!(status, 200);
    assert!(seen.contains("/api/list?limit=3&timeout=9s "), "{seen}");
    assert!(seen.contains("satchel-peer-client"), "{seen}");
    let (status, code) = error(client().post(&list)).await;
    assert_eq!((status, code.as_str()), (401, "unauthorized"));
    let (status, seen) = answered(client().post(&list).bearer_auth("secret")).await;
    assert_eq!(status, 200);
    assert!(!seen.contains("secret"), "{seen}");
    assert_eq!(standby.events("answered"), 2);
    let (status, seen) = answered(client().get(format!("{}/healthz", standby.url))).await;
    assert_eq!(status, 200);
    assert!(!seen.contains("satchel-peer-client"), "{seen}");
}

#[tokio::test]
async fn beside_an_owner_without_a_peer_port_a_standby_answers_503_as_before() {
    let members = Members::default();
    let standby = Process::start(&members, named("standby", &Arc::default())).await;
    standby.gate.set(0, Owner::Unreachable);
    let (status, code) = error(call(&standby)).await;
    assert_eq!((status, code.as_str()), (503, "standby"));
}
