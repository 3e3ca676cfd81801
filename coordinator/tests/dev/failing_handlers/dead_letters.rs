//! Handling of dead letters over HTTP and on the command line.

use std::process::{Command, Output};

use reqwest::Method;
use satchel_testkit::{Client, Reply, Setup, example, satchel, until};
use serde_json::{Value, json};

use super::{
    App, THREE_ATTEMPTS, call_patiently, id_of, kept_log, lambda_endpoint, log_of, say, summary,
};

const REASON: &str = "FunctionError: no such thing";

async fn app() -> App {
    App::start(&lambda_endpoint("faulty/*", "faulty", &[THREE_ATTEMPTS])).await
}

/// Runs `satchel dead-letters` on the application.
fn command(client: &Client, words: &[&str]) -> Output {
    let admin_url = client.admin_url();
    let command = [&["dead-letters"], words, &["--admin-url", &admin_url]].concat();
    Command::new(satchel()).args(command).output().unwrap()
}

/// JSON objects that a command printed, one per line.
fn printed(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{output:?}");
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Waits for `count` dead letters and returns them.
async fn letters_when(client: &Client, count: usize) -> Vec<Value> {
    until(&format!("there are {count} dead letters"), async || {
        let letters = client.dead_letters().await;
        (letters.len() == count).then_some(letters)
    })
    .await
}

#[tokio::test]
async fn dead_letters_are_listed_retried_and_dropped_on_the_command_line_and_survive_a_crash() {
    let mut app = app().await;
    let obstacle = app.obstacle();
    let message = obstacle.message("raise");
    for address in ["faulty/log/one", "faulty/log/two", "faulty/other/three"] {
        assert_eq!(app.client().send(address, &message).await.status, 202);
        letters_when(
            app.client(),
            1 + usize::from(address != "faulty/log/one") + usize::from(address.ends_with("three")),
        )
        .await;
    }
    app.dev.restart().await;
    let client = app.client();

    let letters = printed(&command(client, &["list"]));
    let expected = ["faulty/log/one", "faulty/log/two", "faulty/other/three"]
        .map(|address| (address.to_owned(), message.clone(), 3, REASON.to_owned()));
    assert_eq!(letters.iter().map(summary).collect::<Vec<_>>(), expected);
    let listed = printed(&command(client, &["list", "--function", "faulty/log"]));
    assert_eq!(listed, letters[..2]);
    assert_eq!(
        printed(&command(client, &["list", "--limit", "1"])),
        letters[..1]
    );
    let [one, two, three] = [0, 1, 2].map(|each| id_of(&letters[each]));
    let shown = command(client, &["show", &two]);
    assert_eq!(
        serde_json::from_slice::<Value>(&shown.stdout).unwrap(),
        letters[1]
    );

    obstacle.remove();
    assert!(command(client, &["retry", &one]).status.success());
    let log = log_of(&call_patiently(client, "faulty/log/one", &say("after")).await);
    assert_eq!(log, json!(["raise", "after"]));
    assert!(command(client, &["drop", &two]).status.success());
    let log = log_of(&call_patiently(client, "faulty/log/two", &say("after")).await);
    assert_eq!(log, json!(["after"]));
    assert_eq!(printed(&command(client, &["list"])), letters[2..]);

    for words in [["retry", &one], ["drop", &two], ["show", &two]] {
        let rejected = command(client, &words);
        assert_eq!(rejected.status.code(), Some(1), "{rejected:?}");
        let text = String::from_utf8_lossy(&rejected.stderr);
        assert!(text.contains("there is no dead letter"), "{text}");
        assert!(text.contains(words[1]), "{text}");
    }
    app.dev.restart().await;
    assert_eq!(printed(&command(app.client(), &["list"])), letters[2..]);
    assert_eq!(app.client().drop_dead_letter(&three).await.status, 200);
    assert_eq!(app.client().dead_letters().await, [Value::Null; 0]);
}

#[tokio::test]
async fn many_dead_letters_are_retried_or_dropped_by_function_reason_and_time() {
    let mut app = app().await;
    let client = app.client();
    let obstacle = app.obstacle();
    let failing = obstacle.message("raise");
    let rejected = json!({"do": "reject", "code": 400, "why": "no number"});
    for each in 0..7 {
        let address = format!("faulty/log/{each}");
        assert_eq!(client.send(&address, &failing).await.status, 202);
    }
    for address in ["faulty/log/x", "faulty/other/x"] {
        assert_eq!(client.send(address, &rejected).await.status, 202);
    }
    letters_when(client, 9).await;
    app.dev.restart().await;
    let client = app.client();

    let by_reason = ["--reason", "no such thing", "--since", "1h"];
    let listed = printed(&command(client, &[&["list"], &by_reason[..]].concat()));
    assert_eq!(listed.len(), 7, "the list shows what a change would select");
    let before = ["retry", "--all", "--since", "1h"];
    assert_eq!(
        command(client, &before).status.code(),
        Some(2),
        "either, or"
    );
    for words in [&["retry"][..], &["drop"], &["drop", "--cursor", "1-2"]] {
        let refused = command(client, words);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    }
    assert_eq!(client.dead_letters().await.len(), 9, "nothing was changed");

    let later = ["drop", "--since", "2100-01-01T00:00:00Z"];
    assert_eq!(
        printed(&command(client, &later)),
        [json!({"dropped": 0, "skipped": 0})]
    );
    let elsewhere = ["drop", "--function", "faulty/other"];
    assert_eq!(
        printed(&command(client, &elsewhere)),
        [json!({"dropped": 1, "skipped": 0})]
    );

    // While the obstacle is there, each fails again, and is retried once all the same.
    let retry = [&["retry"], &by_reason[..]].concat();
    assert_eq!(
        printed(&command(client, &retry)),
        [json!({"retried": 7, "skipped": 0})]
    );
    letters_when(client, 8).await;
    obstacle.remove();
    assert_eq!(
        printed(&command(client, &retry)),
        [json!({"retried": 7, "skipped": 0})]
    );
    for each in 0..7 {
        let address = format!("faulty/log/{each}");
        let log = log_of(&call_patiently(client, &address, &say("after")).await);
        assert_eq!(log, json!(["raise", "after"]));
    }
    assert_eq!(
        printed(&command(client, &["drop", "--all"])),
        [json!({"dropped": 1, "skipped": 0})]
    );
    app.dev.restart().await;
    assert_eq!(app.client().dead_letters().await, [Value::Null; 0]);
}

#[tokio::test]
async fn a_change_of_many_goes_on_from_a_cursor_in_requests_of_bounded_size() {
    let app = app().await;
    let client = app.client();
    let rejected = json!({"do": "reject", "code": 400, "why": "no number"});
    for each in 0..5 {
        let address = format!("faulty/log/{each}");
        assert_eq!(client.send(&address, &rejected).await.status, 202);
    }
    letters_when(client, 5).await;
    let change = async |path: &str| {
        let reply = client.admin(Method::POST, path).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    };
    let first = change("/api/dead-letters/drop?all=true&limit=2").await;
    assert_eq!(
        (&first["changed"], &first["skipped"]),
        (&json!(2), &json!(0))
    );
    let cursor = first["next"].as_str().unwrap().to_owned();
    // A dead letter that is made meanwhile is not part of the change.
    assert_eq!(client.send("faulty/log/new", &rejected).await.status, 202);
    letters_when(client, 4).await;
    let rest = command(client, &["drop", "--all", "--cursor", &cursor]);
    assert_eq!(printed(&rest), [json!({"dropped": 3, "skipped": 0})]);
    let left = client.dead_letters().await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["address"], "faulty/log/new");
    let refused = client.admin(Method::POST, "/api/dead-letters/drop").await;
    assert_eq!(
        (refused.status, refused.error_code()),
        (400, "invalid_query".to_owned())
    );
}

#[tokio::test]
async fn a_message_that_fails_again_becomes_a_new_dead_letter_and_does_not_block_its_address() {
    let app = app().await;
    let client = app.client();
    assert_eq!(
        client
            .send("faulty/log/x", &json!({"do": "raise"}))
            .await
            .status,
        202
    );
    let first = letters_when(client, 1).await.remove(0);

    assert_eq!(client.retry_dead_letter(&id_of(&first)).await.status, 200);
    let second = until("another dead letter took its place", async || {
        let letters = client.dead_letters().await;
        letters
            .into_iter()
            .find(|letter| id_of(letter) != id_of(&first))
    })
    .await;
    assert_eq!(summary(&second), summary(&first));
    assert_eq!(letters_when(client, 1).await, [second]);
    let log = log_of(&call_patiently(client, "faulty/log/x", &say("after")).await);
    assert_eq!(log, json!(["after"]));
    for answer in [
        client.retry_dead_letter(&id_of(&first)).await,
        client.drop_dead_letter(&id_of(&first)).await,
        client.drop_dead_letter("nonsense").await,
    ] {
        assert_eq!(
            (answer.status, answer.error_code()),
            (404, "not_found".to_owned())
        );
    }
}

#[tokio::test]
async fn the_caller_gets_the_reason_and_after_a_retry_the_answer() {
    let app = app().await;
    let client = app.client();
    let obstacle = app.obstacle();
    let request = client
        .to_call("faulty/log/x")
        .json(&obstacle.message("raise"))
        .key("once")
        .timeout("100s");

    let failed = request.send().await.unwrap();
    let letter = letters_when(client, 1).await.remove(0);
    assert_eq!(
        (failed.status, failed.error_code()),
        (500, "dead_letter".to_owned())
    );
    let id = id_of(&letter);
    assert_eq!(
        failed.error_message(),
        format!("the message failed and is kept as dead letter {id}: {REASON}")
    );
    let same = |reply: Reply| (reply.status, reply.body);
    assert_eq!(same(request.send().await.unwrap()), same(failed));

    obstacle.remove();
    assert_eq!(client.retry_dead_letter(&id).await.status, 200);
    let answered = request.send().await.unwrap();
    assert_eq!(log_of(&answered), json!(["raise"]));
    assert_eq!(kept_log(client, "faulty/log/x").await, json!(["raise"]));
    assert_eq!(client.dead_letters().await, [Value::Null; 0]);
}

#[tokio::test]
async fn a_corrected_state_lets_a_dead_letter_succeed() {
    let app = app().await;
    let client = app.client();
    let address = "faulty/log/x";
    log_of(&call_patiently(client, address, &say("first")).await);
    let broken = client
        .put_state(address, "log", "faulty/log", r#"{"not":"a list"}"#)
        .await;
    assert_eq!(broken.status, 200);

    let failed = call_patiently(client, address, &say("second")).await;
    assert_eq!(
        (failed.status, failed.error_code()),
        (500, "dead_letter".to_owned())
    );
    let letter = letters_when(client, 1).await.remove(0);
    let reason = "FunctionError: the log is no list: {'not': 'a list'}".to_owned();
    assert_eq!(
        summary(&letter),
        (address.to_owned(), say("second"), 3, reason)
    );

    let refused = client.put_state(address, "log", "faulty/other", "[]").await;
    assert_eq!(
        (refused.status, refused.error_code()),
        (409, "refused".to_owned())
    );
    let corrected = client
        .put_state(address, "log", "faulty/log", r#"["first"]"#)
        .await;
    assert_eq!(corrected.status, 200);
    assert_eq!(client.retry_dead_letter(&id_of(&letter)).await.status, 200);
    let log = log_of(&call_patiently(client, address, &say("third")).await);
    assert_eq!(log, json!(["first", "second", "third"]));
}

#[tokio::test]
async fn a_state_of_a_built_in_type_is_corrected_with_json() {
    let app = Setup::of(example("greeter")).start().await;
    let client = &app.client;
    let address = "example/greeter/alice";
    let greet =
        async || client.call(address, &json!({"name": "Alice"})).await.json()["seen"].clone();
    assert_eq!(greet().await, 1);

    let corrected = client
        .put_state(address, "seen", "satchel/json", "41")
        .await;
    assert_eq!(corrected.status, 200);
    assert_eq!(greet().await, 42);

    let refused = client
        .put_state(address, "seen", "satchel/json", r#""many""#)
        .await;
    assert_eq!(
        (refused.status, refused.error_code()),
        (409, "refused".to_owned())
    );
    let reason = refused.error_message();
    assert!(
        reason
            .starts_with("the state \"seen\" is a io.statefun.types/long, which the text is not: "),
        "{reason}"
    );
    assert_eq!(greet().await, 43);
}
