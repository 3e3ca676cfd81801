//! Messages that fail among others: their predecessors and successors at the same address, and
//! other addresses.

use futures::future::join_all;
use satchel_testkit::{example, until, until_true};
use serde_json::{Value, json};

use super::{
    App, Endpoint, THREE_ATTEMPTS, call_patiently, http_endpoint, kept_log, lambda_endpoint,
    log_of, say, summary,
};

#[tokio::test]
async fn a_poison_message_among_good_ones_is_isolated_and_their_order_is_kept() {
    let endpoint = Endpoint::start();
    let fields = ["timeout: 20s", THREE_ATTEMPTS];
    let lambda = lambda_endpoint("faulty/*", "faulty", &fields);
    let app = App::start(&(http_endpoint("web/*", &endpoint) + &lambda)).await;

    let exits = json!({"do": "exit"});
    poison_among_good_ones(&app, "faulty/log/x", &exits).await;
    let closes = json!({"do": "close at once"});
    poison_among_good_ones(&app, "web/log/x", &closes).await;
}

async fn poison_among_good_ones(app: &App, address: &str, worst: &Value) {
    let client = app.client();
    let obstacle = app.obstacle();
    let raises = json!({"do": "raise"});
    // Messages that arrive while the first one is processed form one batch.
    let first = client.send(address, &obstacle.message("wait")).await;
    assert_eq!(first.status, 202);
    for each in 0..60 {
        let message = match each {
            20 => worst.clone(),
            45 | 46 => raises.clone(),
            _ => say(each),
        };
        assert_eq!(client.send(address, &message).await.status, 202);
    }
    obstacle.remove();

    let log = log_of(&call_patiently(client, address, &say("last")).await);
    let good = (0..60)
        .filter(|each| ![20, 45, 46].contains(each))
        .map(Value::from);
    let expected: Value = [json!("wait")]
        .into_iter()
        .chain(good)
        .chain([json!("last")])
        .collect();
    assert_eq!(log, expected);
    let letters: Vec<_> = client.dead_letters().await.iter().map(summary).collect();
    let of_here: Vec<_> = letters
        .iter()
        .filter(|(at, ..)| at == address)
        .map(|(_, message, ..)| message)
        .collect();
    assert_eq!(of_here, [worst, &raises, &raises]);
}

#[tokio::test]
async fn while_an_address_fails_others_continue_and_it_continues_once_it_is_healed() {
    let retries = "retries: {maxAttempts: 1000000, backoff: {initial: 10ms, max: 50ms}}";
    let module = lambda_endpoint("faulty/*", "faulty", &[retries]);
    let app = App::start_with(&module, |setup| setup.module(example("greeter"))).await;
    let client = app.client();

    let obstacle = app.obstacle();
    for address in ["faulty/log/raises", "faulty/log/exits"] {
        let what = if address.ends_with("exits") {
            "exit"
        } else {
            "raise"
        };
        assert_eq!(client.send(address, &say("before")).await.status, 202);
        assert_eq!(
            client.send(address, &obstacle.message(what)).await.status,
            202
        );
        assert_eq!(client.send(address, &say("behind")).await.status, 202);
    }
    for (address, reason) in [
        ("faulty/log/raises", "FunctionError: no such thing"),
        (
            "faulty/log/exits",
            "Runtime.ExitError: the handler process ended while it held the request: \
             exit status: 3",
        ),
    ] {
        let shown = until(&format!("{address} failed twice"), async || {
            let shown = client.address(address).await.json();
            (shown["failing"]["attempts"].as_u64() >= Some(2)).then_some(shown)
        })
        .await;
        assert_eq!(shown["failing"]["reason"], reason);
        assert_eq!(
            (&shown["backlog"]["messages"], &shown["suspended"]),
            (&json!(2), &Value::Null)
        );
        assert_eq!(kept_log(client, address).await, json!(["before"]));
    }

    for round in 1..=10 {
        let expected: Value = (1..=round).collect();
        let neighbour = call_patiently(client, "faulty/log/good", &say(round)).await;
        assert_eq!(log_of(&neighbour), expected);
        let elsewhere = client
            .call("example/greeter/alice", &json!({"name": "Alice"}))
            .await;
        assert_eq!(
            (elsewhere.status, &elsewhere.json()["seen"]),
            (200, &json!(round))
        );
    }

    obstacle.remove();
    for (address, what) in [("faulty/log/raises", "raise"), ("faulty/log/exits", "exit")] {
        let log = log_of(&call_patiently(client, address, &say("last")).await);
        assert_eq!(log, json!(["before", what, "behind", "last"]));
        assert_eq!(client.address(address).await.json()["failing"], Value::Null);
    }
    assert_eq!(client.dead_letters().await, [Value::Null; 0]);
}

#[tokio::test]
async fn callers_in_one_batch_with_a_poison_message_get_their_own_answers() {
    let app = App::start(&lambda_endpoint(
        "faulty/*",
        "faulty",
        &["timeout: 20s", THREE_ATTEMPTS],
    ))
    .await;
    let client = app.client();
    let address = "faulty/log/x";
    let obstacle = app.obstacle();
    let first = client.send(address, &obstacle.message("wait")).await;
    assert_eq!(first.status, 202);
    let calls = join_all((0..30).map(async |each| {
        let message = if each == 17 {
            json!({"do": "exit"})
        } else {
            say(each)
        };
        call_patiently(client, address, &message).await
    }));
    let release = async {
        until_true("every call waits in the mailbox", async || {
            client.address(address).await.json()["backlog"]["messages"] == 31
        })
        .await;
        obstacle.remove();
    };
    let (replies, ()) = futures::join!(calls, release);

    for (each, reply) in replies.iter().enumerate() {
        if each == 17 {
            assert_eq!(
                (reply.status, reply.error_code()),
                (500, "dead_letter".to_owned())
            );
        } else {
            let log = log_of(reply);
            assert_eq!(log.as_array().unwrap().last(), Some(&json!(each)));
        }
    }
    let log = kept_log(client, address).await;
    let mut said: Vec<_> = log.as_array().unwrap()[1..]
        .iter()
        .map(|said| said.as_u64().unwrap())
        .collect();
    said.sort_unstable();
    assert_eq!(said, (0..30).filter(|each| *each != 17).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_message_too_large_for_any_request_is_rejected_and_large_ones_are_sent_separately() {
    let app = App::start(&lambda_endpoint(
        "faulty/*",
        "faulty",
        &["timeout: 20s", THREE_ATTEMPTS],
    ))
    .await;
    let client = app.client();
    let address = "faulty/log/x";
    let obstacle = app.obstacle();
    let first = client.send(address, &obstacle.message("wait")).await;
    assert_eq!(first.status, 202);
    for each in 0..12 {
        let bytes = if each == 5 { 5_000_000 } else { 1_000_000 };
        let message = json!({"say": each, "padding": "x".repeat(bytes)});
        let sent = client.send(address, &message).await;
        if each == 5 {
            let error = &sent.json()["error"];
            let text = "the endpoint of this function accepts at most 3932160 bytes per message";
            assert_eq!((sent.status, error["message"].as_str()), (413, Some(text)));
        } else {
            assert_eq!(sent.status, 202);
        }
    }
    obstacle.remove();

    let log = log_of(&call_patiently(client, address, &say("last")).await);
    assert_eq!(
        log,
        json!(["wait", 0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, "last"])
    );
    assert_eq!(client.dead_letters().await.len(), 0);
}
