//! The official Python SDK of StateFun, unmodified, behind an HTTP endpoint of a module file: the
//! real binary, real connections.
//!
//! The first run installs the SDK with pip.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use reqwest::Method;
use satchel_protocol::types::BuiltIn;
use satchel_testkit::{Client, Dev, Setup, python_with, until, until_true};
use serde_json::{Value, json};

/// The SDK as released; its generated code needs a protobuf version before 4.
const PACKAGES: [&str; 2] = ["apache-flink-statefun==3.3.0", "protobuf<4"];

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dev/statefun_python")
}

/// `serve.py` as a process. It ends when this value is dropped, and at the latest with the process
/// of the test.
struct Functions {
    process: Child,
    _stdin: ChildStdin,
    port: u16,
}

impl Functions {
    fn start() -> Self {
        let mut process = Command::new(python_with(&PACKAGES))
            .args(["-B", "-u"])
            .arg(scripts().join("serve.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        stdout.read_line(&mut port).unwrap();
        Self {
            _stdin: process.stdin.take().unwrap(),
            process,
            port: port.trim().parse().expect("serve.py prints its port"),
        }
    }

    /// Number of times that each function requested missing states.
    fn handshakes(&self) -> Value {
        self.counted("/")
    }

    /// Number of times that each function declared its states because it was asked.
    fn probes(&self) -> Value {
        self.counted("/probes")
    }

    fn counted(&self, path: &str) -> Value {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        connection
            .write_all(
                format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    .as_bytes(),
            )
            .unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap()
    }
}

impl Drop for Functions {
    fn drop(&mut self) {
        // An error means that it has already ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Shop {
    dev: Dev,
    functions: Functions,
}

impl Shop {
    async fn start() -> Self {
        let functions = Functions::start();
        let setup = Setup::of(scripts()).env("PORT", functions.port.to_string());
        Self {
            dev: setup.start().await,
            functions,
        }
    }

    fn client(&self) -> &Client {
        &self.dev.client
    }

    async fn call(&self, address: &str, message: Value) -> Value {
        let reply = self.client().call(address, &message).await;
        assert_eq!(
            (reply.status, reply.typename.as_deref()),
            (200, Some("satchel/json")),
            "{reply:?}"
        );
        reply.json()
    }

    /// States of an address as an operator sees them: name, typename, value, and whether they
    /// expire.
    async fn states(&self, address: &str) -> Vec<(String, String, Value, bool)> {
        let shown = self.client().address(address).await;
        assert_eq!(shown.status, 200, "{shown:?}");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let shown = shown.json();
        let states = shown["state"].as_array().unwrap().iter().map(|state| {
            (
                text(&state["name"]),
                text(&state["typename"]),
                state["value"].clone(),
                state["expires_at"].is_string(),
            )
        });
        let mut states: Vec<_> = states.collect();
        states.sort_by_key(|state| state.0.clone());
        states
    }

    async fn timers(&self) -> Vec<Value> {
        let shown = self.client().admin(Method::GET, "/api/timers").await;
        assert_eq!(shown.status, 200, "{shown:?}");
        shown.json()["timers"].as_array().unwrap().clone()
    }

    async fn has_no_dead_letters(&self) {
        assert_eq!(self.client().dead_letters().await, [Value::Null; 0]);
    }
}

#[tokio::test]
async fn states_are_declared_once_kept_over_restarts_and_expire() {
    let mut shop = Shop::start().await;
    let basket = "shop/basket/alice";
    let empty = json!({"count": null, "last": null, "offer": null, "open": null, "kept": null});
    assert_eq!(shop.call(basket, json!({})).await, empty);
    let order = json!({"article": "Schuh", "kept": "ü"});
    let remembered = json!({"count": 1, "last": order, "offer": null, "open": null, "kept": "ü"});
    assert_eq!(shop.call(basket, order.clone()).await, remembered);
    assert_eq!(shop.functions.handshakes(), json!({"shop/basket": 1}));

    shop.dev.restart().await;
    assert_eq!(shop.call(basket, json!({})).await, remembered);
    assert_eq!(shop.call("shop/basket/bob", json!({})).await, empty);
    assert_eq!(
        shop.functions.handshakes(),
        json!({"shop/basket": 1}),
        "the declarations are durable"
    );
    until_true(
        "the new owner has asked for the declarations, once",
        async || shop.functions.probes() == json!({"shop/basket": 1}),
    )
    .await;
    let of = |name: &str, typename: &str, value: Value, expires| {
        (name.to_owned(), typename.to_owned(), value, expires)
    };
    assert_eq!(
        shop.states(basket).await,
        [
            of("count", "io.statefun.types/int", json!(1), false),
            of("kept", "io.statefun.types/string", json!("ü"), true),
            of("last", "shop/order", order, false),
        ]
    );

    assert_eq!(
        shop.call(
            basket,
            json!({"forget": true, "open": true, "offer": "half"})
        )
        .await["count"],
        Value::Null
    );
    until_true(
        "the state that expires after a write has expired",
        async || shop.call(basket, json!({})).await["offer"].is_null(),
    )
    .await;
    until_true(
        "the state that expires after an invocation has expired",
        async || {
            shop.states(basket).await == [of("kept", "io.statefun.types/string", json!("ü"), true)]
        },
    )
    .await;
    assert_eq!(
        shop.call(basket, json!({})).await,
        json!({"count": null, "last": null, "offer": null, "open": null, "kept": "ü"})
    );
    shop.has_no_dead_letters().await;
}

#[tokio::test]
async fn values_of_every_built_in_type_survive_a_round_trip_including_zeros() {
    let shop = Shop::start().await;
    round_trips(&shop, [true, false]).await;
    round_trips(&shop, [i32::MIN, 0, 7]).await;
    round_trips(&shop, [i64::MAX, 0, -1]).await;
    round_trips(&shop, [0.1_f32, 0.0, f32::NEG_INFINITY]).await;
    round_trips(&shop, [-0.1_f64, 0.0, f64::MAX]).await;
    round_trips(&shop, ["ü\"\n".to_owned(), String::new(), "end".to_owned()]).await;
    shop.has_no_dead_letters().await;
}

async fn round_trips<T: BuiltIn, const N: usize>(shop: &Shop, values: [T; N]) {
    let mut before = None;
    for value in values {
        let request = shop
            .client()
            .to_call("shop/types/x")
            .value(T::TYPENAME, value.to_wire());
        let reply = request.send().await.unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        match before.replace(value.to_wire()) {
            None => assert_eq!(reply.json(), "nothing was kept"),
            Some(before) => assert_eq!(
                (reply.typename.as_deref(), reply.body),
                (Some(T::TYPENAME), before)
            ),
        }
    }
}

#[tokio::test]
async fn functions_send_messages_to_each_other_and_answer_the_caller() {
    let shop = Shop::start().await;
    for asked in 1..=3 {
        let mut answer = shop
            .call("shop/warehouse/south", json!({"shelf": "a/1"}))
            .await;
        let caller = answer["for"].take();
        assert_eq!(caller.as_str().map(str::len), Some(32), "{caller}");
        let expected = json!({
            "for": null, "caller": "satchel/call", "asked": asked,
            "self": ["shop/shelf", "a/1"], "from": ["shop/warehouse", "south"],
        });
        assert_eq!(answer, expected);
    }
    shop.has_no_dead_letters().await;
}

#[tokio::test]
async fn delayed_messages_arrive_unless_cancelled_over_a_restart() {
    let mut shop = Shop::start().await;
    let alarm = "shop/alarm/kitchen";
    shop.call(
        alarm,
        json!({"set": "never", "ms": 3_600_000, "token": "egg"}),
    )
    .await;
    shop.call(alarm, json!({"set": "late", "ms": 500})).await;
    let timers = shop.timers().await;
    let shown = timers.iter().filter(|timer| timer["token"] == "egg");
    let shown: Vec<_> = shown
        .map(|timer| (&timer["owner"], &timer["target"], &timer["typename"]))
        .collect();
    assert_eq!(
        shown,
        [(&json!(alarm), &json!(alarm), &json!("satchel/json"))]
    );

    shop.dev.restart().await;
    until_true("the alarm rang", async || {
        shop.call(alarm, json!({})).await == json!(["late"])
    })
    .await;
    shop.call(alarm, json!({"set": "twice", "ms": 1, "token": "other"}))
        .await;
    // Cancelled and set again in one invocation, as StateFun permits.
    shop.call(
        alarm,
        json!({"cancel": "egg", "set": "soft", "ms": 1, "token": "egg"}),
    )
    .await;
    let rung = until("both have rung", async || {
        let rung = shop.call(alarm, json!({})).await;
        (rung.as_array().unwrap().len() == 3).then_some(rung)
    })
    .await;
    assert_eq!(rung, json!(["late", "twice", "soft"]));
    shop.call(alarm, json!({"cancel": "egg"})).await;
    assert_eq!(shop.timers().await, [Value::Null; 0]);
    shop.has_no_dead_letters().await;
}

#[tokio::test]
async fn records_of_an_ingress_have_no_caller_and_are_emitted_by_an_egress() {
    let shop = Shop::start().await;
    for (key, article) in [("alice", "shoe"), ("bob", "hat"), ("alice", "glove")] {
        shop.client()
            .put("orders", key, json!({"article": article}).to_string())
            .await;
    }
    let records = shop.client().records_when("shipped", 3).await;
    let mut shipped: Vec<_> = records
        .iter()
        .map(|record| (record.key.clone(), record.json()))
        .collect();
    shipped.sort_by_key(|(article, _)| article.clone());
    let expected = [
        ("glove", "alice", 2),
        ("hat", "bob", 1),
        ("shoe", "alice", 1),
    ]
    .map(|(article, to, seen)| {
        (
            article.to_owned(),
            json!({"to": to, "article": article, "seen": seen}),
        )
    });
    assert_eq!(shipped, expected);
    shop.has_no_dead_letters().await;
}

#[tokio::test]
async fn a_function_may_do_nothing() {
    let shop = Shop::start().await;
    let idle = "shop/idle/x";
    for _ in 0..3 {
        assert_eq!(shop.client().send(idle, &json!({})).await.status, 202);
    }
    until_true("its messages are processed", async || {
        let shown = shop.client().address(idle).await;
        shown.status == 404 || shown.json()["backlog"]["messages"] == 0
    })
    .await;
    assert_eq!(shop.functions.handshakes(), json!({"shop/idle": 1}));
    shop.has_no_dead_letters().await;
}

#[tokio::test]
async fn a_message_is_rejected_for_good_by_a_header_and_its_neighbours_are_processed_once() {
    let shop = Shop::start().await;
    let till = "shop/till/x";
    let calls = (0..20).map(async |each| match each {
        5 | 12 => shop.client().call(till, &json!("much")).await,
        _ => shop.client().call(till, &json!(1)).await,
    });
    let replies = futures::future::join_all(calls).await;
    let mut totals = Vec::new();
    for (each, reply) in replies.iter().enumerate() {
        if [5, 12].contains(&each) {
            assert_eq!(
                (reply.status, reply.error_code()),
                (422, "rejected".to_owned())
            );
            assert_eq!(reply.error_message(), "'much' is no amount");
        } else {
            totals.push(reply.json().as_i64().unwrap());
        }
    }
    totals.sort_unstable();
    assert_eq!(totals, (1..=18).collect::<Vec<_>>());
    shop.has_no_dead_letters().await;

    assert_eq!(shop.client().send(till, &json!("more")).await.status, 202);
    let letter = until("it is a dead letter", async || {
        shop.client().dead_letters().await.pop()
    })
    .await;
    assert_eq!(letter["attempts"], 1);
    assert_eq!(letter["reason"], "'more' is no amount");
}
