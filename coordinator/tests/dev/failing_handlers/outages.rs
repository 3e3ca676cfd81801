//! A function server behind a gateway that fails in every way for a while, under load from a
//! stream.
//!
//! `SATCHEL_TEST_OUTAGE_SECONDS` is the duration of each outage, 4 by default.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use satchel_testkit::{Fault, Proxy, until_true};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use super::{App, Endpoint, kept_log, say, summary};

const KEYS: usize = 12;

/// State of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Requests pass.
    Well,
    /// Requests are answered with this status.
    Answers(u16),
    /// Connections are closed without an answer.
    Resets,
    /// Requests are never answered.
    Hangs,
    /// Connections are refused.
    Refuses,
}

struct Gateway {
    proxy: Proxy,
    port: u16,
    door: Option<JoinHandle<()>>,
    state: Arc<Mutex<State>>,
}

struct State {
    mode: Mode,
    /// Time at which the gateway became well, until the first request passes.
    well_since: Option<Instant>,
    /// Time until the first request passed, after each outage.
    resumed_after: Vec<Duration>,
    held: Vec<oneshot::Sender<()>>,
}

impl Gateway {
    async fn start(endpoint: &Endpoint) -> Self {
        let proxy = Proxy::start(&endpoint.url()).await;
        let state = Arc::new(Mutex::new(State {
            mode: Mode::Well,
            well_since: None,
            resumed_after: Vec::new(),
            held: Vec::new(),
        }));
        let decided = Arc::clone(&state);
        proxy.decide_with(move |_| decided.lock().unwrap().fault());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut gateway = Self {
            proxy,
            port,
            door: None,
            state,
        };
        gateway.open(listener);
        gateway
    }

    fn open(&mut self, listener: TcpListener) {
        let inside = self.proxy.endpoint();
        let inside = inside.strip_prefix("http://").unwrap().to_owned();
        self.door = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut outer, _)) = listener.accept().await {
                let inside = inside.clone();
                connections.spawn(async move {
                    let Ok(mut inner) = TcpStream::connect(inside).await else {
                        return;
                    };
                    let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
                });
            }
        }));
    }

    async fn turn(&mut self, mode: Mode) {
        if let Some(door) = self.door.take_if(|_| mode == Mode::Refuses) {
            door.abort();
            // The listener closes when the task has ended.
            let _ = door.await;
        }
        if mode != Mode::Refuses && self.door.is_none() {
            let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
            self.open(listener);
        }
        let mut state = self.state.lock().unwrap();
        state.mode = mode;
        state.well_since = (mode == Mode::Well).then(Instant::now);
    }

    fn resumed_after(&self) -> Vec<Duration> {
        self.state.lock().unwrap().resumed_after.clone()
    }
}

impl State {
    fn fault(&mut self) -> Option<Fault> {
        match self.mode {
            Mode::Well | Mode::Refuses => {
                if let Some(since) = self.well_since.take() {
                    self.resumed_after.push(since.elapsed());
                }
                None
            }
            Mode::Answers(status) => Some(Fault::Answer(status, "<p>Bad gateway</p>".to_owned())),
            Mode::Resets => Some(Fault::LoseRequest),
            Mode::Hangs => {
                let (arrived, _) = oneshot::channel();
                let (held, release) = oneshot::channel();
                self.held.push(held);
                Some(Fault::HoldRequest(arrived, release))
            }
        }
    }
}

fn module(gateway: &Gateway) -> String {
    format!(
        "kind: io.statefun.endpoints.v2/http
spec:
  functions: web/*
  urlPathTemplate: http://127.0.0.1:{}/{{function.name}}
  transport: {{type: io.statefun.transports.v1/async, call: 1s}}
---
kind: io.statefun.kinesis.v1/ingress
spec:
  id: web/said
  awsRegion: {{type: default}}
  startupPosition: {{type: earliest}}
  streams: [{{stream: said, valueType: satchel/json, targets: [web/log]}}]
",
        gateway.port
    )
}

#[tokio::test]
async fn an_outage_of_any_form_loses_and_reorders_nothing_and_poison_still_ends_alone() {
    let seconds = std::env::var("SATCHEL_TEST_OUTAGE_SECONDS").ok();
    let outage = Duration::from_secs(seconds.map_or(4, |seconds| seconds.parse().unwrap()));
    let endpoint = Endpoint::start();
    let mut gateway = Gateway::start(&endpoint).await;
    let app = App::start(&module(&gateway)).await;
    let client = app.client();

    let modes = [
        Mode::Answers(502),
        Mode::Answers(504),
        Mode::Answers(404),
        Mode::Answers(500),
        Mode::Refuses,
        Mode::Resets,
        Mode::Hangs,
    ];
    let mut said = 0;
    let put_round = async |said: &mut u64| {
        for key in 0..KEYS {
            let message = say(*said).to_string();
            client.put("said", &format!("key-{key}"), message).await;
        }
        *said += 1;
    };
    put_round(&mut said).await;
    client
        .put("said", "poison", json!({"do": "raise"}).to_string())
        .await;
    for mode in modes {
        gateway.turn(mode).await;
        let until = Instant::now() + outage;
        while Instant::now() < until {
            put_round(&mut said).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let resumed = gateway.resumed_after().len();
        gateway.turn(Mode::Well).await;
        put_round(&mut said).await;
        until_true("traffic resumes", async || {
            gateway.resumed_after().len() > resumed
        })
        .await;
    }
    let expected: Value = (0..said).collect();
    for key in 0..KEYS {
        let address = format!("web/log/key-{key}");
        until_true("everything said is logged, in order", async || {
            // Other traffic succeeds, so the poisonous message is no outage.
            client.call("web/log/another", &say(0)).await;
            kept_log(client, &address).await == expected
        })
        .await;
    }
    until_true("the poisonous message is given up", async || {
        client.call("web/log/another", &say(0)).await;
        !client.dead_letters().await.is_empty()
    })
    .await;

    let letters: Vec<_> = client.dead_letters().await.iter().map(summary).collect();
    let [(address, message, attempts, _)] = &letters[..] else {
        panic!("{letters:#?}");
    };
    let found = (address.as_str(), message, *attempts);
    assert_eq!(found, ("web/log/poison", &json!({"do": "raise"}), 8));
    // A probe is due every 2 s. The rest is for slow machines; without probes it was 13 s.
    let resumed_after = gateway.resumed_after();
    println!("traffic resumed after {resumed_after:?}");
    let slow = resumed_after.iter().any(|it| *it > Duration::from_secs(6));
    assert!(!slow, "{resumed_after:?}");
}
