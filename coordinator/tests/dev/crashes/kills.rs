//! `kill -9`, between and during calls.

use std::time::Duration;

use satchel_testkit::{Setup, example, is_alive, kill, until_true};

use super::load::{Load, number};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_under_load_lose_nothing_and_double_nothing() {
    let mut app = Setup::of(example("greeter")).start().await;
    let mut load = Load::begin(&app.client);
    for kill in 0..number("SATCHEL_TEST_KILLS", 8) {
        load.answered(40).await;
        // Kills must not always follow an answer directly.
        tokio::time::sleep(Duration::from_millis(kill * 7 % 30)).await;
        app.kill9().await;
        app.restart().await;
        load.last_answers_are_given_again().await;
    }
    load.answered(40).await;
    load.everything_is_done_once(&app.client).await;
    let ended = app.terminate().await;
    assert_eq!(ended.code, Some(0), "{}", ended.printed);
}

/// Kills at different stages of a start: building the handler, taking over the state, serving.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_while_starting_lose_nothing_and_double_nothing() {
    let mut app = Setup::of(example("greeter")).start().await;
    let mut load = Load::begin(&app.client);
    load.answered(100).await;
    app.kill9().await;
    for wait_ms in [0, 600, 300, 150, 450, 75, 525, 225, 375, 675] {
        app.begin_restart();
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        app.kill9().await;
    }
    app.restart().await;
    load.last_answers_are_given_again().await;
    load.answered(100).await;
    load.everything_is_done_once(&app.client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_killed_under_load_are_replaced_and_their_work_counts_once() {
    let app = Setup::of(example("greeter")).start().await;
    let mut load = Load::begin(&app.client);
    for _ in 0..10 {
        load.answered(40).await;
        for handler in app.started_as("/greeter") {
            kill(handler);
        }
    }
    load.answered(40).await;
    load.everything_is_done_once(&app.client).await;
}

#[tokio::test]
async fn handlers_do_not_outlive_a_killed_satchel() {
    let mut app = Setup::of(example("greeter")).start().await;
    until_true("a handler runs", async || {
        !app.started_as("/greeter").is_empty()
    })
    .await;
    let handlers = app.started();
    app.kill9().await;
    // A process that is ending has no environment left by which `kill9` would find it.
    until_true("the handlers have ended", async || {
        !handlers.iter().any(|pid| is_alive(*pid))
    })
    .await;
}
