//! Handlers that use the Runtime API and answer wrongly or not at all.

use std::cell::Cell;
use std::time::Duration;

use futures::future::join_all;
use satchel_testkit::{Client, example};
use serde_json::{Value, json};

use super::{App, THREE_ATTEMPTS, call_patiently, lambda_endpoint, log_of, say, summary};

/// Each misbehaviour with its reported reason.
const MISBEHAVIOURS: [(&str, &str); 16] = [
    ("raise", "FunctionError: no such thing"),
    ("panic", "Panic: the handler panicked"),
    (
        "exit",
        "Runtime.ExitError: the handler process ended while it held the request: exit status: 3",
    ),
    ("hang", "Sandbox.Timedout: timed out after 2s"),
    ("no json", "the answer cannot be read: "),
    ("another form", "the answer cannot be read: "),
    ("no base64", "the result cannot be read: "),
    ("answer with garbage", "the result cannot be read: "),
    ("no result", "the response holds no result for this batch"),
    (
        "another attempt",
        "the response holds no result for this batch",
    ),
    (
        "another bundle",
        "the handler answered for another bundle: `b0` instead of `b",
    ),
    ("another request", "Sandbox.Timedout: timed out after 2s"),
    ("too large", "Function.ResponseSizeTooLarge: "),
    (
        "miss what it was given",
        "the answer was not accepted: it asks for states that the request held",
    ),
    (
        "miss ever more",
        "the answer was not accepted: it declares more than 1000 states",
    ),
    (
        "write another type",
        "the answer was not accepted: the state \"log\" was declared as faulty/log, \
         its new value is a faulty/other",
    ),
];

#[tokio::test]
async fn a_misbehaving_handler_costs_only_the_affected_message() {
    let fields = ["maxConcurrency: 4", "timeout: 2s", THREE_ATTEMPTS];
    let module = lambda_endpoint("faulty/*", "faulty", &fields);
    let app = App::start_with(&module, |setup| setup.module(example("greeter"))).await;
    let client = app.client();

    let over = Cell::new(false);
    let wrong = async {
        let replies = join_all(MISBEHAVIOURS.map(|(what, _)| async move {
            let message = json!({"do": what});
            call_patiently(client, &address_of(what), &message).await
        }));
        let replies = replies.await;
        over.set(true);
        replies
    };
    // Traffic that succeeds shows that the endpoint is not away.
    let lasting = async {
        while !over.get() {
            call_patiently(client, "faulty/log/lasting", &say(0)).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let good = join_all((0..8).map(async |each| {
        let address = format!("faulty/log/good {each}");
        for round in 0..5 {
            let reply = call_patiently(client, &address, &say(round)).await;
            assert_eq!(log_of(&reply), (0..=round).collect::<Value>(), "{address}");
        }
    }));
    let elsewhere = join_all((0..4).map(|each| greet_in_turn(client, each)));
    let (wrong, (), _, _) = futures::join!(wrong, lasting, good, elsewhere);

    for ((what, reason), reply) in MISBEHAVIOURS.iter().zip(&wrong) {
        assert_eq!(reply.status, 500, "{what}: {reply:?}");
        assert_eq!(reply.error_code(), "dead_letter", "{what}: {reply:?}");
        let message = reply.error_message();
        assert!(message.contains(reason), "{what}: {message}");
    }
    let mut letters: Vec<_> = client.dead_letters().await.iter().map(summary).collect();
    letters.sort_by_key(|(address, ..)| {
        MISBEHAVIOURS
            .map(|(what, _)| address_of(what))
            .iter()
            .position(|one| one == address)
    });
    assert_eq!(letters.len(), MISBEHAVIOURS.len(), "{letters:#?}");
    for ((what, reason), letter) in MISBEHAVIOURS.iter().zip(letters) {
        let (address, message, attempts, text) = letter;
        assert_eq!(
            (address, message, attempts),
            (address_of(what), json!({"do": what}), 3)
        );
        assert!(text.starts_with(reason), "{what}: {text}");
    }
}

#[tokio::test]
async fn addresses_that_share_a_request_with_a_poison_message_are_processed_once() {
    let fields = ["maxConcurrency: 1", "timeout: 20s", THREE_ATTEMPTS];
    let app = App::start(&lambda_endpoint("faulty/*", "faulty", &fields)).await;
    let client = app.client();

    // While the only process waits, everything else gathers in one request.
    let obstacle = app.obstacle();
    let first = client
        .send("faulty/log/first", &obstacle.message("wait"))
        .await;
    assert_eq!(first.status, 202);
    for each in 0..40 {
        let what = match each {
            13 => json!({"do": "exit"}),
            26 => json!({"do": "panic"}),
            _ => say(each),
        };
        let sent = client.send(&format!("faulty/log/{each}"), &what).await;
        assert_eq!(sent.status, 202);
    }
    obstacle.remove();

    for each in 0..40 {
        let log =
            log_of(&call_patiently(client, &format!("faulty/log/{each}"), &say("after")).await);
        let expected = match each {
            13 | 26 => json!(["after"]),
            _ => json!([each, "after"]),
        };
        assert_eq!(log, expected, "{each}");
    }
    let mut letters: Vec<_> = client.dead_letters().await.iter().map(summary).collect();
    letters.sort_by_key(|(address, ..)| address.clone());
    let exited =
        "Runtime.ExitError: the handler process ended while it held the request: exit status: 3";
    let panicked = "Panic: the handler panicked";
    assert_eq!(
        letters,
        [
            (
                "faulty/log/13".to_owned(),
                json!({"do": "exit"}),
                3,
                exited.to_owned()
            ),
            (
                "faulty/log/26".to_owned(),
                json!({"do": "panic"}),
                3,
                panicked.to_owned()
            ),
        ]
    );
}

/// A function that never stops declaring states has its own type, because its declarations stay.
fn address_of(what: &str) -> String {
    match what {
        "miss ever more" => format!("faulty/greedy/{what}"),
        _ => format!("faulty/log/{what}"),
    }
}

async fn greet_in_turn(client: &Client, each: usize) {
    let address = format!("example/greeter/{each}");
    for seen in 1..=5 {
        let reply = client.call(&address, &json!({"name": "Alice"})).await;
        assert_eq!((reply.status, &reply.json()["seen"]), (200, &json!(seen)));
    }
}
