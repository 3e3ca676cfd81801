//! The greeter without any server.

use greeter::{Greeting, Name, functions};
use satchel_sdk::FunctionType;
use satchel_sdk::egress::KinesisRecord;
use satchel_sdk::testing::{BatchScenario, Scenario};

fn name(name: &str) -> Name {
    Name {
        name: name.to_owned(),
    }
}

fn greeting(greeting: &str, seen: i64) -> Greeting {
    Greeting {
        greeting: greeting.to_owned(),
        seen,
    }
}

#[tokio::test]
async fn a_caller_is_counted_and_answered() {
    let functions = functions();
    let caller = "satchel/call/1".parse().unwrap();
    let outcome = BatchScenario::new(&functions, "example/greeter/alice")
        .json_from(&caller, r#"{"name":"Alice"}"#)
        .message_from(&caller, &name("Alice"))
        .run()
        .await
        .unwrap();
    assert_eq!(
        outcome.messages_to::<Greeting>(&caller),
        [
            greeting("Hello Alice, nice to meet you.", 1),
            greeting("Hello again Alice.", 2),
        ]
    );
    assert_eq!(outcome.state::<i64>("seen"), Some(2));
    assert_eq!(outcome.egressed(), []);

    let outcome = outcome
        .then()
        .message_from(&caller, &name("Alice"))
        .run()
        .await
        .unwrap();
    assert_eq!(
        outcome.messages_to::<Greeting>(&caller),
        [greeting("Hello Alice, we have met 3 times.", 3)]
    );
}

#[tokio::test]
async fn a_record_of_the_stream_is_greeted_on_the_other_stream() {
    let functions = functions();
    let outcome = BatchScenario::new(&functions, "example/greeter/bob")
        .message(&name("Bob"))
        .run()
        .await
        .unwrap();
    assert_eq!(outcome.sent(), []);
    assert_eq!(outcome.egressed().len(), 1);
    let egressed = &outcome.egressed()[0];
    assert_eq!(egressed.egress.to_string(), "example/greetings");
    let record: KinesisRecord = egressed.value.read();
    assert_eq!(record.stream(), "greetings");
    assert_eq!(record.partition_key(), "bob");
    assert_eq!(
        record.value_as_json::<Greeting>().unwrap(),
        greeting("Hello Bob, nice to meet you.", 1)
    );
}

#[tokio::test]
async fn a_guest_without_a_name_is_rejected_by_the_missing_field() {
    let functions = functions();
    let caller = "satchel/call/1".parse().unwrap();
    let error = BatchScenario::new(&functions, "example/greeter/alice")
        .json_from(&caller, r#"{"nam":"Alice"}"#)
        .run()
        .await
        .unwrap_err();
    assert_eq!(error.kind, "invalid_message");
    assert_eq!(error.terminal.map(|terminal| terminal.code), Some(400));
    assert_eq!(
        error.message,
        "the message is not a example/name: missing field `name` at line 1 column 15"
    );
}

#[tokio::test]
async fn each_id_counts_for_itself() {
    let mut app = Scenario::new(functions());
    for (id, seen) in [("alice", 1), ("bob", 1), ("alice", 2)] {
        let address = FunctionType::new("example/greeter").id(id);
        let reply: Greeting = app.call(&address, &name("guest")).await.unwrap();
        assert_eq!(reply.seen, seen, "{id}");
    }
    app.send("example/greeter/bob", &name("Bob"));
    app.run_to_rest().await.unwrap();
    assert_eq!(app.value::<i64>("example/greeter/bob", "seen"), Some(2));
    assert_eq!(app.egress::<KinesisRecord>("example/greetings").len(), 1);
}
