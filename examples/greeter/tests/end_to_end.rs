//! The greeter as a user runs it: the real `satchel dev`, a real handler process, and restarts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod mistakes;

use mistakes::mistakes_are_answered_as_mistakes;
use satchel_testkit::{Setup, example};
use serde_json::{Value, json};

#[tokio::test]
async fn calls_are_counted_for_each_id_and_a_kill_loses_none() {
    let mut app = Setup::of(example("greeter")).start().await;
    let mut alice = Caller::of(&app, "alice", "Alice");
    let mut bob = Caller::of(&app, "bob", "Bob");
    assert_eq!(
        alice.call().await,
        json!({"greeting": "Hello Alice, nice to meet you.", "seen": 1})
    );
    assert_eq!(
        alice.call().await,
        json!({"greeting": "Hello again Alice.", "seen": 2})
    );
    app.kill9().await;
    app.restart().await;
    assert_eq!(
        alice.call().await,
        json!({"greeting": "Hello Alice, we have met 3 times.", "seen": 3})
    );
    assert_eq!(
        bob.call().await,
        json!({"greeting": "Hello Bob, nice to meet you.", "seen": 1})
    );
    let ended = app.terminate().await;
    assert_eq!(ended.code, Some(0), "{}", ended.printed);
}

#[tokio::test]
async fn a_name_on_the_stream_becomes_one_greeting_also_over_a_kill() {
    let mut app = Setup::of(example("greeter")).start().await;
    app.client.put("names", "bob", r#"{"name":"Bob"}"#).await;
    let greeting = app.client.records_when("greetings", 1).await;
    assert_eq!(
        (greeting[0].key.as_str(), greeting[0].json()),
        (
            "bob",
            json!({"greeting": "Hello Bob, nice to meet you.", "seen": 1})
        )
    );

    // The record is read before the kill or after it. Either way it is greeted once.
    app.client.put("names", "bob", r#"{"name":"Bob"}"#).await;
    app.kill9().await;
    app.restart().await;
    app.client.put("names", "bob", r#"{"name":"Bob"}"#).await;
    let greetings = app.client.records_when("greetings", 3).await;
    let seen: Vec<Value> = greetings
        .iter()
        .map(|record| record.json()["seen"].clone())
        .collect();
    assert_eq!(seen, [1, 2, 3]);
    assert_eq!(app.client.dead_letters().await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_mistake_of_a_caller_is_answered_at_once_and_of_a_record_kept_as_a_dead_letter() {
    let app = Setup::of(example("greeter")).start().await;
    mistakes_are_answered_as_mistakes(&app.client).await;
}

#[tokio::test]
async fn the_banner_says_what_runs_where_and_a_command_that_works() {
    let app = Setup::of(example("greeter")).start().await;
    let printed = app.printed();
    for line in [
        "functions example/* on Lambda greeter".to_owned(),
        "ingress example/names from stream names (from earliest, as example/name) \
         to example/greeter"
            .to_owned(),
        "egress example/greetings to streams".to_owned(),
        format!(
            "state      {} (epoch 1, new)",
            app.setup().data_dir().join("state").display()
        ),
    ] {
        assert!(printed.contains(&line), "{line}\n{printed}");
    }
    let command = format!(
        "curl -d 'MESSAGE' {}/call/example/greeter/ID",
        app.client.url()
    );
    assert!(printed.contains(&command), "{printed}");
    assert_eq!(Caller::of(&app, "alice", "Alice").call().await["seen"], 1);
}

#[tokio::test]
async fn ephemeral_state_and_streams_end_with_the_process() {
    let mut app = Setup::of(example("greeter"))
        .arg("--ephemeral")
        .start()
        .await;
    let mut alice = Caller::of(&app, "alice", "Alice");
    assert_eq!(alice.call().await["seen"], 1);
    assert_eq!(alice.call().await["seen"], 2);
    app.client.put("names", "bob", r#"{"name":"Bob"}"#).await;
    app.client.records_when("greetings", 1).await;
    let ended = app.terminate().await;
    assert_eq!(ended.code, Some(0), "{}", ended.printed);
    let left = std::fs::read_dir(app.setup().data_dir()).unwrap().count();
    assert_eq!(left, 0, "nothing is written to the data directory");

    app.restart().await;
    assert_eq!(alice.call().await["seen"], 1);
    assert_eq!(app.client.records("names").await, []);
    assert_eq!(app.client.records("greetings").await, []);
}

/// A client that calls the greeter repeatedly.
struct Caller {
    client: satchel_testkit::Client,
    address: String,
    body: Value,
}

impl Caller {
    fn of(app: &satchel_testkit::Dev, id: &str, name: &str) -> Self {
        Self {
            client: app.client.clone(),
            address: format!("example/greeter/{id}"),
            body: json!({ "name": name }),
        }
    }

    async fn call(&mut self) -> Value {
        let reply = self.client.call(&self.address, &self.body).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.typename.as_deref(), Some("example/greeting"));
        assert_eq!(reply.content_type.as_deref(), Some("application/json"));
        reply.json()
    }
}
