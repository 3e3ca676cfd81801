//! The console: its files, its rights, and the routes that only it needs.

use std::io::Read;

use flate2::read::GzDecoder;
use satchel_engine::input::Verb;
use satchel_protocol::types::typed_value;
use serde_json::json;

use super::admin::silent;
use super::*;

fn token() -> AdminAccess {
    AdminAccess::Token(Token::new("s3cret").unwrap())
}

fn answers(input: &Input) -> Option<Answer> {
    match input {
        Input::CallReceived(call) if call.verb == Verb::Call => {
            Some(Answer::Replied(typed_value("example/greeting", "hello")))
        }
        Input::CallReceived(_) => Some(Answer::Accepted),
        _ => Some(Answer::Done),
    }
}

#[tokio::test]
async fn the_page_and_its_files_are_served_with_a_strict_policy() {
    let process = Process::answering(silent).await;
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/console/app.js", "text/javascript; charset=utf-8"),
        ("/console/style.css", "text/css; charset=utf-8"),
        (
            "/console/vendor/preact.js",
            "text/javascript; charset=utf-8",
        ),
    ] {
        let reply = ask(process.admin, "GET", path, &[], b"").await;
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(reply.header("content-type"), Some(content_type));
        assert_eq!(reply.header("content-encoding"), None);
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'; "));
        assert!(!policy.contains("unsafe"));
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-cache"),
            ("vary", "accept-encoding"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{path}");
        }
        let zip = [("accept-encoding", "br, gzip;q=0.8")];
        let zipped = ask(process.admin, "GET", path, &zip, b"").await;
        assert_eq!(zipped.header("content-encoding"), Some("gzip"));
        assert_ne!(zipped.header("etag"), reply.header("etag"));
        let mut unzipped = Vec::new();
        let mut decoder = GzDecoder::new(&zipped.body[..]);
        decoder.read_to_end(&mut unzipped).unwrap();
        assert_eq!(unzipped, reply.body);
        let tag = reply.header("etag").unwrap();
        let known = ask(process.admin, "GET", path, &[("if-none-match", tag)], b"").await;
        assert_eq!((known.status, known.body.len()), (304, 0));
        let refused = [("accept-encoding", "gzip;q=0")];
        let plain = ask(process.admin, "GET", path, &refused, b"").await;
        assert_eq!(plain.body, reply.body);
    }
    for path in ["/console/", "/console/nothing.js", "/console/../Cargo.toml"] {
        let reply = ask(process.admin, "GET", path, &[], b"").await;
        assert_eq!(reply.code(), (404, "no_such_path".to_owned()), "{path}");
    }
    process.stop().await;
}

#[tokio::test]
async fn no_answer_of_the_port_is_shown_as_a_page() {
    let process = Process::answering(answers).await;
    for (method, path) in [
        ("GET", "/metrics"),
        ("GET", "/api/process"),
        ("GET", "/api/nothing"),
        ("POST", "/api/addresses/example/greeter/alice/call"),
    ] {
        let reply = ask(process.admin, method, path, &[], b"1").await;
        assert_eq!(
            reply.header("x-content-type-options"),
            Some("nosniff"),
            "{path}"
        );
        let policy = reply.header("content-security-policy").unwrap_or_default();
        assert!(policy.starts_with("default-src 'none'"), "{path}");
    }
    process.stop().await;
}

#[tokio::test]
async fn a_process_says_what_it_is_and_what_the_client_may_do() {
    let setup = Setup {
        writes: token(),
        ..Setup::default()
    };
    let process = Process::start(setup, silent).await;
    for (authorization, may_change) in [
        ("Bearer s3cret", true),
        ("Bearer wrong", false),
        ("", false),
    ] {
        let headers = [("authorization", authorization)];
        let reply = ask(process.admin, "GET", "/api/process", &headers, b"").await;
        let body = reply.json();
        assert_eq!(body["may_change"], json!(may_change), "{authorization}");
        assert_eq!(body["changes_need"], "token");
        assert_eq!(
            (&body["application"], &body["state"]),
            (&json!("example"), &json!("serving"))
        );
    }
    process.stop().await;
}

#[tokio::test]
async fn beyond_loopback_the_page_is_served_if_a_token_can_be_shown_and_nothing_else_without_it() {
    for (access, page, listed) in [
        (token as fn() -> AdminAccess, 200, 401),
        (|| AdminAccess::Denied, 403, 403),
    ] {
        let setup = Setup {
            reads: access(),
            writes: access(),
            ..Setup::default()
        };
        let process = Process::start(setup, silent).await;
        for path in ["/", "/console/app.js"] {
            assert_eq!(ask(process.admin, "GET", path, &[], b"").await.status, page);
        }
        for path in ["/api/process", "/api/live", "/api/openapi.json"] {
            let reply = ask(process.admin, "GET", path, &[], b"").await;
            assert_eq!(reply.status, listed, "{path}");
        }
        process.stop().await;
    }
}

#[tokio::test]
async fn samples_follow_each_other_until_the_process_stops() {
    let process = Process::answering(silent).await;
    let call = ask(process.traffic, "POST", "/send/reserved", &[], b"").await;
    assert_eq!(call.status, 404);
    let admin = process.admin;
    let reading = tokio::spawn(async move { ask(admin, "GET", "/api/live", &[], b"").await });
    let listening = async {
        while !process
            .shows(r#"satchel_http_requests_total{port="admin",verb="other",code="200"} 1"#)
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, listening).await.unwrap();
    process.readiness.send_replace(Readiness::Stopping);
    let reply = reading.await.unwrap();
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    process.stop().await;
}

#[tokio::test]
async fn a_person_calls_and_sends_over_the_port_of_the_page() {
    let process = Process::answering(answers).await;
    let address = "/api/addresses/example/greeter/alice";
    let headers = [
        ("content-type", "application/vnd.example/name"),
        ("idempotency-key", "k-1"),
    ];
    let called = ask(
        process.admin,
        "POST",
        &format!("{address}/call"),
        &headers,
        b"Bob",
    )
    .await;
    assert_eq!((called.status, &called.body[..]), (200, &b"hello"[..]));
    assert_eq!(called.header("satchel-type"), Some("example/greeting"));
    let sent = ask(
        process.admin,
        "POST",
        &format!("{address}/send"),
        &headers,
        b"Bob",
    )
    .await;
    assert_eq!(sent.status, 202);
    let told = process.told();
    let verbs = told.iter().map(|input| match input {
        Input::CallReceived(call) => {
            assert_eq!(call.target, alice());
            assert_eq!(call.argument, typed_value("example/name", "Bob"));
            assert_eq!(call.idempotency_key.as_deref(), Some("k-1"));
            call.verb
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(verbs.collect::<Vec<_>>(), [Verb::Call, Verb::Send]);
    process.stop().await;

    for (writes, expected) in [(token(), 401), (AdminAccess::Denied, 403)] {
        let setup = Setup {
            writes,
            ..Setup::default()
        };
        let process = Process::start(setup, answers).await;
        for verb in ["call", "send"] {
            let path = format!("{address}/{verb}");
            let reply = ask(process.admin, "POST", &path, &headers, b"Bob").await;
            assert_eq!(reply.status, expected, "{verb}");
        }
        assert_eq!(process.told(), []);
        process.stop().await;
    }
}

#[tokio::test]
async fn pages_of_other_origins_change_nothing_and_the_own_page_may() {
    let process = Process::answering(answers).await;
    let own = format!("http://{}", process.admin);
    let host = process.admin.to_string();
    let path = "/api/addresses/example/greeter/alice/resume";
    for (origin, status) in [
        (own.as_str(), 200),
        ("http://localhost:3000", 403),
        ("http://127.0.0.1:1", 403),
        ("http://evil.example", 403),
        ("null", 403),
    ] {
        let headers = [("host", host.as_str()), ("origin", origin)];
        let reply = ask(process.admin, "POST", path, &headers, b"").await;
        assert_eq!(reply.status, status, "{origin}");
    }
    assert_eq!(process.told().len(), 1);
    // A page that rebinds its name to this machine.
    let headers = [("host", "evil.example"), ("origin", "http://evil.example")];
    for path in ["/", "/api/process", "/console/app.js"] {
        let reply = ask(process.admin, "GET", path, &headers, b"").await;
        assert_eq!(reply.code(), (403, "host_not_allowed".to_owned()));
    }
    process.stop().await;
}

#[tokio::test]
async fn without_a_configured_token_programs_may_change_things_and_pages_need_that_of_the_link() {
    let setup = Setup {
        writes: AdminAccess::Programs(Token::new("0f0f").unwrap()),
        ..Setup::default()
    };
    let process = Process::start(setup, answers).await;
    let host = process.admin.to_string();
    let own = format!("http://{host}");
    let host = ("host", host.as_str());
    let path = "/api/addresses/example/greeter/alice/resume";
    let (link, wrong) = (
        ("authorization", "Bearer 0f0f"),
        ("authorization", "Bearer 0f"),
    );
    let (origin, fetch) = (("origin", own.as_str()), ("sec-fetch-site", "same-origin"));
    for (headers, status, need, may_change) in [
        (&[host][..], 200, "nothing", true),
        (&[host, link], 200, "nothing", true),
        (&[host, origin], 401, "link", false),
        (&[host, fetch], 401, "link", false),
        (&[host, origin, fetch, wrong], 401, "link", false),
        (&[host, origin, fetch, link], 200, "link", true),
    ] {
        let reply = ask(process.admin, "POST", path, headers, b"").await;
        assert_eq!(reply.status, status, "{headers:?}");
        if status == 401 {
            let (_, code, message) = reply.error();
            assert_eq!(code, "unauthorized");
            assert!(message.contains("`satchel dev` printed"), "{message}");
        }
        let reply = ask(process.admin, "GET", "/api/process", headers, b"").await;
        let body = reply.json();
        assert_eq!(body["changes_need"], need, "{headers:?}");
        assert_eq!(body["may_change"], json!(may_change), "{headers:?}");
    }
    assert_eq!(process.told().len(), 3);
    process.stop().await;
}

#[tokio::test]
async fn a_moment_of_the_past_must_be_one_and_needs_an_open_root() {
    let process = Process::answering(silent).await;
    let path = "/api/addresses/example/greeter/alice/states";
    for (query, code) in [
        ("", (400, "invalid_query")),
        ("?at=yesterday", (400, "invalid_query")),
        ("?at=2999-01-01T00:00:00Z", (400, "invalid_query")),
        ("?at=2026-01-01T00:00:00Z&name=x", (400, "invalid_query")),
        ("?at=2026-01-01T00:00:00Z", (503, "starting")),
    ] {
        let reply = ask(process.admin, "GET", &format!("{path}{query}"), &[], b"").await;
        assert_eq!(reply.code(), (code.0, code.1.to_owned()), "{query}");
    }
    process.stop().await;
}
