//! The official Python SDK of StateFun, unmodified, behind an HTTP endpoint of a module file: the real binary, real connections.
//!
//! pip gets the SDK when the tests run for the first time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use reqwest::Method;
use satchel_protocol::types::BuiltIn;
use satchel_testkit::{Client, Dev, Setup, python_with, until, until_true};
use serde_json::{Value, json};

/// The SDK as it was released; its generated code needs a protobuf before 4.
const PACKAGES: [&str; 2] = ["apache-flink-statefun==3.3.0", "protobuf<4"];

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python")
}

/// `serve.py` as a process. It ends with this value, or with the test's process, whose end it reads.
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
            port: port.trim().parse().expect("serve.py tells its port"),
        }
    }

    /// How often each function asked for states that it was not given.
    fn handshakes(&self) -> Value {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        connection
            .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap()
    }
}

impl Drop for Functions {
    fn drop(&mut self) {
        // An error means that it has ended.
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

    /// The states of an address as an administrator sees them: name, typename, value, whether they expire.
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
async fn states_are_declared_once_and_kept_over_restarts_and_expire() {
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
    until_true("what expires after a write has expired", async || {
        shop.call(basket, json!({})).await["offer"].is_null()
    })
    .await;
    until_true(
        "what expires after the last invocation has expired",
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
async fn values_of_every_built_in_type_come_back_as_they_were_zeros_too() {
    let shop = Shop::start().await;
    comes_back(&shop, [true, false]).await;
    comes_back(&shop, [i32::MIN, 0, 7]).await;
    comes_back(&shop, [i64::MAX, 0, -1]).await;
    comes_back(&shop, [0.1_f32, 0.0, f32::NEG_INFINITY]).await;
    comes_back(&shop, [-0.1_f64, 0.0, f64::MAX]).await;
    comes_back(&shop, ["ü\"\n".to_owned(), String::new(), "end".to_owned()]).await;
    shop.has_no_dead_letters().await;
}

async fn comes_back<T: BuiltIn, const N: usize>(shop: &Shop, values: [T; N]) {
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
async fn functions_send_each_other_messages_and_answer_the_caller_in_the_end() {
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
async fn delayed_messages_come_unless_they_are_cancelled_also_over_a_restart() {
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
    // Cancelled and set again in one invocation, as StateFun allows.
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
async fn records_of_an_ingress_come_without_a_caller_and_leave_by_an_egress() {
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
