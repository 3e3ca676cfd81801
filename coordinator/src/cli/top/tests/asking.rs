//! Answers of processes that are not as they should be.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::cli::client::Client;
use crate::cli::top::source::Source;
use crate::error::{Exit, Failure};

const ALL: Wanted = Wanted {
    functions: true,
    dead_letters: true,
};

/// Serves `answer` on a free port of loopback until the test ends.
async fn serve(answer: fn(&str) -> Response) -> Source {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let url = format!("http://{}/", listener.local_addr().expect("it is bound"));
    let routes = Router::new().fallback(move |uri: Uri| async move { answer(&uri.to_string()) });
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Source::new(Client::new(&url, None).expect("the address is valid"))
}

fn not_found() -> Response {
    StatusCode::NOT_FOUND.into_response()
}

#[tokio::test]
async fn a_wrong_token_is_named() {
    let source = serve(|_| {
        let body = r#"{"error":{"code":"unauthorized","message":"the token is wrong"}}"#;
        (StatusCode::UNAUTHORIZED, body).into_response()
    })
    .await;
    let unloaded = source.load(ALL).await.unwrap_err();
    let failure = Failure::from(unloaded);
    assert_eq!(failure.exit, Exit::Refused);
    let text = format!(
        "{}: the token is wrong (unauthorized, HTTP 401)",
        source.url()
    );
    assert_eq!(failure.message, text);
}

#[tokio::test]
async fn a_server_that_is_no_coordinator_and_one_that_is_not_there_are_named() {
    let source = serve(|_| "<html>\u{1b}[2J".into_response()).await;
    let failure = Failure::from(source.load(ALL).await.unwrap_err());
    assert_eq!(failure.exit, Exit::Refused);
    let text = "this is not the administration port of a Satchel process";
    assert!(failure.message.contains(text), "{failure}");
    assert!(!failure.message.contains('\u{1b}'), "{failure}");

    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback has a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    drop(listener);
    let source = Source::new(Client::new(&url, None).expect("the address is valid"));
    let failure = Failure::from(source.load(ALL).await.unwrap_err());
    assert_eq!(failure.exit, Exit::Environment);
    assert!(failure.message.contains("cannot be reached"), "{failure}");
}

#[tokio::test]
async fn a_version_without_a_console_shows_what_it_has() {
    let source = serve(|uri| match uri {
        "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, r#"{"state":"starting"}"#).into_response(),
        "/api/endpoints?limit=1000" => {
            r#"{"endpoints":[{"name":"shop"}],"next":"shop"}"#.into_response()
        }
        "/api/endpoints?limit=1000&after=shop" => {
            r#"{"endpoints":[{"name":"bank"}]}"#.into_response()
        }
        _ => not_found(),
    })
    .await;
    let loaded = source.load(ALL).await.unwrap();
    assert_eq!(loaded.process, Answer::Absent);
    assert_eq!(
        loaded.readiness,
        Answer::Loaded(json!({"state": "starting"}))
    );
    let endpoints = json!([{"name": "shop"}, {"name": "bank"}]);
    assert_eq!(loaded.endpoints, Answer::Loaded(endpoints));
    assert_eq!(loaded.functions, Answer::Absent);
    assert_eq!(loaded.dead_letters, Answer::Absent);
}

#[tokio::test]
async fn a_list_whose_pages_do_not_end_is_cut() {
    let source = serve(|uri| match uri {
        "/readyz" => r#"{"state":"serving"}"#.into_response(),
        uri if uri.starts_with("/api/functions") => {
            static PAGES: AtomicUsize = AtomicUsize::new(0);
            let page = PAGES.fetch_add(1, Ordering::Relaxed);
            let names = (0..1_000).map(|at| json!({"function": format!("shop/{at}")}));
            let names: Vec<Value> = names.collect();
            json!({"functions": names, "next": page.to_string()})
                .to_string()
                .into_response()
        }
        uri if uri.starts_with("/api/endpoints") => {
            // The same page again and again.
            r#"{"endpoints":[{"name":"shop"}],"next":"shop"}"#.into_response()
        }
        _ => not_found(),
    })
    .await;
    let loaded = source.load(ALL).await.unwrap();
    assert_eq!(loaded.functions.entries().len(), 5_000);
    assert_eq!(loaded.endpoints.entries().len(), 2);
}

#[tokio::test]
async fn nothing_but_printable_text_reaches_the_screen() {
    let evil = "\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}日本\r\nx\u{200b}";
    static EVIL: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    EVIL.set(evil.to_owned()).unwrap();
    let source = serve(|uri| {
        let evil = &EVIL.get().unwrap();
        let path = uri.split('?').next().unwrap_or_default();
        let failure = json!({"at": evil, "kind": evil, "message": evil});
        let body = match path {
            "/readyz" => json!({
                "state": evil, "unhealthy_endpoints": [evil],
                "paused_functions": [{"function": evil, "reason": evil}],
                "stopped_ingresses": [{"id": evil, "source": evil, "problem": evil}],
            }),
            "/api/process" => {
                json!({"application": evil, "version": evil, "spread": true, "uptime_seconds": 1})
            }
            "/api/endpoints" => json!({"endpoints": [{
                "name": evil, "kind": evil, "functions": [evil], "state": evil, "since": evil,
                "last_failure": failure,
            }]}),
            "/api/functions" => json!({"functions": [{"function": evil, "stopped": evil}]}),
            "/api/ingresses" => json!({"ingresses": [{
                "id": evil, "paused": evil, "sources": [evil], "last_error": failure,
            }]}),
            "/api/partitions" => json!({"partitions": [{"partition": 0, "key_groups": [evil]}]}),
            "/api/members" => json!({
                "process": evil, "members": [{"process": evil, "peer": evil}],
                "partitions": [{"partition": 0, "owner": evil, "offered_to": evil}],
            }),
            "/api/dead-letters" => json!({"dead_letters": [{
                "id": evil, "address": evil, "reason": evil, "message": {evil.as_str(): [evil]},
            }]}),
            _ => {
                let body = json!({"error": {"code": evil, "message": evil}}).to_string();
                return (StatusCode::BAD_GATEWAY, body).into_response();
            }
        };
        body.to_string().into_response()
    })
    .await;
    let mut app = App::new(source.url());
    app.take(lists(Ok(source.load(ALL).await.unwrap())));
    let is_safe = |text: &str| {
        let forbidden = |it: char| it.is_control() || "\u{202e}\u{200b}".contains(it);
        !text.contains(forbidden)
    };
    for view in "12345".chars() {
        press(&mut app, &view.to_string());
        for (width, height) in [(200, 60), (80, 24), (21, 9), (5, 5)] {
            let buffer = drawn(&app, width, height, true);
            assert!(buffer.content().iter().all(|cell| is_safe(cell.symbol())));
        }
    }
    let once = plain::text(&app, NOW_MS);
    assert!(once.lines().all(is_safe), "{once:?}");
    assert!(once.contains("日本"), "{once}");
}

#[tokio::test]
async fn live_figures_are_followed_over_the_end_of_a_connection() {
    static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
    let mut source =
        serve(|uri| {
            assert_eq!(uri, "/api/live");
            match CONNECTIONS.fetch_add(1, Ordering::Relaxed) {
            0 => "event: sample\ndata: {\"at_ms\":1}\n\nevent: sample\ndata: {\"at_ms\":2}\n\ndata:"
                .into_response(),
            1 => not_found(),
            _ => ": comment\n\ndata: no json\n\ndata: {\"at_ms\":3,\"state\":\"a\\u001bb\"}\n\n"
                .into_response(),
        }
        })
        .await;
    source.pause = Duration::from_millis(1);
    let (sender, mut news) = mpsc::channel(4);
    let following = tokio::spawn(async move { source.follow(sender).await });
    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.push(match news.recv().await.unwrap() {
            News::Sample(sample) => sample.to_string(),
            News::Silent => "silent".to_owned(),
            News::Lists(_) => panic!("lists were not asked for"),
        });
    }
    drop(news);
    let third = r#"{"at_ms":3,"state":"a b"}"#;
    assert_eq!(
        seen,
        [
            r#"{"at_ms":1}"#,
            r#"{"at_ms":2}"#,
            "silent",
            "silent",
            third
        ]
    );
    following.await.unwrap();
}
