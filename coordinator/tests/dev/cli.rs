//! The `satchel` binary as a client, against a server on a free port.

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::IntoResponse;
use satchel::streams::{Streams, http};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::watch;

/// Runs `satchel` with arguments, variables and standard input.
async fn satchel_with(
    arguments: &[&str],
    variables: &[(&str, &str)],
    input: &str,
) -> (i32, String, String) {
    let mut child = satchel(arguments)
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writing = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        // A command that does not read its input may close it.
        let _ = stdin.write_all(input.as_bytes()).await;
    });
    let output = child.wait_with_output().await.unwrap();
    writing.await.unwrap();
    parts(&output)
}

async fn run(arguments: &[&str]) -> (i32, String, String) {
    satchel_with(arguments, &[], "").await
}

fn satchel(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_satchel"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SATCHEL_")) {
        command.env_remove(name);
    }
    command
        .args(arguments)
        // Must not be used for loopback addresses.
        .env("http_proxy", "http://127.0.0.1:9")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Exit code, standard output, standard error.
fn parts(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

/// Record of the requests, and the answer to all of them.
#[derive(Clone)]
struct Scripted {
    requests: Arc<Mutex<Vec<String>>>,
    answer: (StatusCode, [(&'static str, &'static str); 1], &'static [u8]),
}

async fn scripted(
    status: u16,
    typename: &'static str,
    body: &'static [u8],
) -> (String, Arc<Mutex<Vec<String>>>) {
    let requests = Arc::<Mutex<Vec<String>>>::default();
    let status = StatusCode::from_u16(status).unwrap();
    let script = Scripted {
        requests: Arc::clone(&requests),
        answer: (status, [("satchel-type", typename)], body),
    };
    let router = Router::new().fallback(answer).with_state(script);
    (serve(router).await, requests)
}

async fn answer(
    State(script): State<Scripted>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let mut request = format!("{method} {uri}");
    for name in ["satchel-type", "content-type", "idempotency-key"] {
        if let Some(value) = headers.get(name) {
            request.push_str(&format!(" {name}={}", value.to_str().unwrap()));
        }
    }
    request.push_str(&format!(" {:?}", String::from_utf8_lossy(&body)));
    script.requests.lock().unwrap().push(request);
    script.answer
}

#[tokio::test]
async fn a_call_prints_the_reply() {
    let (url, requests) = scripted(200, "satchel/json", b"{\"seen\":3}").await;
    let done = run(&[
        "call",
        "example/greeter/a b/c",
        "{\"name\":\"Alice\"}",
        "--url",
        &url,
        "--idempotency-key",
        "k-1",
        "--timeout",
        "90s",
    ])
    .await;
    assert_eq!(done, (0, "{\"seen\":3}\n".to_owned(), String::new()));
    assert_eq!(
        *requests.lock().unwrap(),
        [
            "POST /call/example/greeter/a%20b%2Fc?timeout=90s content-type=application/json \
             idempotency-key=k-1 \"{\\\"name\\\":\\\"Alice\\\"}\""
        ]
    );
}

#[tokio::test]
async fn a_value_of_a_built_in_type_is_json_on_the_command_line() {
    let (url, requests) = scripted(200, "io.statefun.types/string", b"\x0a\x02hi").await;
    let variables = [("SATCHEL_URL", url.as_str())];
    let arguments = ["call", "a/b/c", "-", "--type", "io.statefun.types/string"];
    let done = satchel_with(&arguments, &variables, "\"yo\"").await;
    assert_eq!(done, (0, "\"hi\"\n".to_owned(), String::new()));
    assert_eq!(
        *requests.lock().unwrap(),
        ["POST /call/a/b/c?timeout=30s satchel-type=io.statefun.types/string \"\\n\\u{2}yo\""]
    );
}

#[tokio::test]
async fn a_send_prints_nothing() {
    let (url, requests) = scripted(202, "satchel/json", b"").await;
    let done = run(&["send", "a/b/c", "1", "--url", &url]).await;
    assert_eq!(done, (0, String::new(), String::new()));
    assert_eq!(requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn errors_are_written_to_standard_error_and_each_kind_has_its_exit_code() {
    let error = b"{\"error\":{\"code\":\"dead_letter\",\"message\":\"it panicked\"}}";
    let (refusing, _) = scripted(500, "satchel/json", error).await;
    let (starting, _) = scripted(503, "satchel/json", b"not yet").await;
    let cases = [
        (
            vec!["call", "a/b/c", "{}", "--url", &refusing],
            1,
            "satchel: it panicked (dead_letter, HTTP 500)\n",
        ),
        (
            vec!["call", "a/b/c", "{}", "--url", &starting],
            5,
            "satchel: HTTP 503 Service Unavailable: not yet\n",
        ),
        (
            vec!["call", "a/b/c", "{name: 1}", "--url", &refusing],
            2,
            "satchel: the message is not JSON: key must be a string at line 1 column 2\n",
        ),
    ];
    for (arguments, code, message) in cases {
        let done = run(&arguments).await;
        assert_eq!(done, (code, String::new(), message.to_owned()));
    }
    // A port that was free a moment ago: no process listens there.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let (code, _, message) = run(&["send", "a/b/c", "{}", "--url", &url]).await;
    assert_eq!(code, 5, "{message}");
    assert!(
        message.contains(&format!("{url} cannot be reached: ")),
        "{message}"
    );
    let (code, _, message) = run(&["call", "a/b", "{}"]).await;
    assert_eq!(code, 2, "{message}");
    assert!(message.contains("`a/b` is not an address"), "{message}");
}

async fn streams() -> (String, watch::Sender<bool>) {
    let (stop, stopping) = watch::channel(false);
    (
        serve(http::router(Streams::ephemeral(), stopping)).await,
        stop,
    )
}

#[tokio::test]
async fn records_that_are_put_are_printed_by_tail() {
    let (url, _stop) = streams().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("data");
    std::fs::write(&file, [0xff, 0xfe]).unwrap();
    let at = ["--url", &url];
    let put = |rest: &[&'static str]| {
        ["stream", "put", "names"]
            .iter()
            .chain(rest)
            .chain(&at)
            .copied()
            .collect::<Vec<_>>()
    };

    let (exit, first, error) = run(&put(&["--key", "bob", "--data", "{\"name\":\"Bob\"}"])).await;
    assert_eq!((exit, error), (0, String::new()));
    let first = put_number(&first);
    let with_file = [
        "stream",
        "put",
        "names",
        "--key",
        "raw",
        "--file",
        file.to_str().unwrap(),
        "--url",
        &url,
    ];
    assert_eq!(run(&with_file).await.0, 0);
    let lines =
        "{\"key\":\"k1\",\"data\":\"one\",\"time\":7}\n{\"key\":\"k2\",\"base64\":\"dHdv\"}\n";
    let (exit, numbers, _) = satchel_with(&put(&[]), &[], lines).await;
    assert_eq!(exit, 0);
    let third = put_number(&numbers);
    assert_eq!(
        satchel_with(&put(&["--key", "k3"]), &[], "three\nfour\n")
            .await
            .0,
        0
    );

    let text = "bob\t{\"name\":\"Bob\"}\nraw\tbase64://4=\nk1\tone\nk2\ttwo\nk3\tthree\nk3\tfour\n";
    let done = run(&["stream", "tail", "names", "--no-follow", "--url", &url]).await;
    assert_eq!(done, (0, text.to_owned(), String::new()));
    let done = run(&[
        "stream", "tail", "names", "--limit", "2", "--from", &third, "--url", &url,
    ])
    .await;
    assert_eq!(done, (0, "k1\tone\nk2\ttwo\n".to_owned(), String::new()));
    let (_, json, _) = run(&[
        "stream", "tail", "names", "--json", "--limit", "1", "--url", &url,
    ])
    .await;
    let mut record: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(record["time"].take().is_u64());
    assert_eq!(
        record,
        serde_json::json!({
            "sequence_number": first,
            "key": "bob",
            "data": "{\"name\":\"Bob\"}",
            "time": null,
        })
    );
}

/// Sequence number in the first line of output of `stream put`.
fn put_number(printed: &str) -> String {
    let line = printed.lines().next().unwrap();
    let put: serde_json::Value = serde_json::from_str(line).unwrap();
    let number = put["sequence_number"].as_str().unwrap();
    assert_eq!(line, format!("{{\"sequence_number\":\"{number}\"}}"));
    number.to_owned()
}

#[tokio::test]
async fn tail_follows_until_the_server_stops() {
    let (url, stop) = streams().await;
    let tail = satchel(&["stream", "tail", "names", "--url", &url])
        .spawn()
        .unwrap();
    let mut tail = tail;
    let mut lines = {
        use tokio::io::{AsyncBufReadExt, BufReader};
        BufReader::new(tail.stdout.take().unwrap()).lines()
    };
    for data in ["1", "2"] {
        assert_eq!(
            run(&[
                "stream", "put", "names", "--key", "k", "--data", data, "--url", &url
            ])
            .await
            .0,
            0
        );
        let line = lines.next_line().await.unwrap();
        assert_eq!(line, Some(format!("k\t{data}")));
    }
    stop.send(true).unwrap();
    assert_eq!(lines.next_line().await.unwrap(), None);
    assert!(tail.wait().await.unwrap().success());
}

#[tokio::test]
async fn invalid_records_and_streams_are_rejected_before_a_request_is_sent() {
    let (url, requests) = scripted(500, "satchel/json", b"").await;
    for arguments in [
        vec![
            "stream", "put", "a/b", "--key", "k", "--data", "d", "--url", &url,
        ],
        vec!["stream", "put", "names", "--data", "d", "--url", &url],
        vec![
            "stream", "put", "names", "--key", "k\n", "--data", "d", "--url", &url,
        ],
        vec![
            "stream",
            "put",
            "names",
            "--key",
            "k",
            "--file",
            "/nowhere/data",
            "--url",
            &url,
        ],
    ] {
        let (code, _, message) = run(&arguments).await;
        assert_eq!(code, 2, "{arguments:?}: {message}");
    }
    let (code, _, message) = satchel_with(
        &["stream", "put", "names", "--url", &url],
        &[],
        "{\"key\":\"k\"}\n",
    )
    .await;
    assert_eq!(
        (code, message.as_str()),
        (
            2,
            "satchel: standard input, line 1: a record needs either `data` or `base64`\n"
        )
    );
    assert_eq!(*requests.lock().unwrap(), Vec::<String>::new());
}

/// Three dead letters on two pages.
async fn pages(uri: Uri) -> impl IntoResponse {
    let query = uri.query().unwrap_or_default();
    let body = if query.contains("after=02") {
        r#"{"dead_letters":[{"id":"03","reason":"c"}],"next":null}"#
    } else {
        r#"{"dead_letters":[{"id":"01","reason":"a"},{"id":"02","reason":"b"}],"next":"02"}"#
    };
    ([("content-type", "application/json")], body)
}

#[tokio::test]
async fn dead_letters_are_listed_over_all_pages_and_shown_individually() {
    let router = Router::new().route("/api/dead-letters", axum::routing::get(pages));
    let url = serve(router).await;
    let listed = run(&["dead-letters", "list", "--admin-url", &url]).await;
    let lines = "{\"id\":\"01\",\"reason\":\"a\"}\n{\"id\":\"02\",\"reason\":\"b\"}\n\
                 {\"id\":\"03\",\"reason\":\"c\"}\n";
    assert_eq!(listed, (0, lines.to_owned(), String::new()));
    let shown = run(&["dead-letters", "show", "03", "--admin-url", &url]).await;
    assert_eq!(
        shown,
        (
            0,
            "{\n  \"id\": \"03\",\n  \"reason\": \"c\"\n}\n".to_owned(),
            String::new()
        )
    );
    let missing = run(&["dead-letters", "show", "04", "--admin-url", &url]).await;
    assert_eq!(
        missing,
        (
            1,
            String::new(),
            "satchel: there is no dead letter `04`\n".to_owned()
        )
    );
}

#[tokio::test]
async fn dead_letters_and_addresses_are_changed_through_the_administration_port() {
    let (url, requests) = scripted(200, "satchel/json", b"{\"backlog\":0}").await;
    let variables = [("SATCHEL_ADMIN_URL", url.as_str())];
    for arguments in [
        ["dead-letters", "retry", "0a"],
        ["dead-letters", "drop", "0b"],
        ["address", "resume", "example/f/ü"],
        ["address", "skip", "example/f/ü"],
    ] {
        let done = satchel_with(&arguments, &variables, "").await;
        assert_eq!(done, (0, String::new(), String::new()));
    }
    let got = satchel_with(&["address", "get", "example/f/1"], &variables, "").await;
    assert_eq!(
        got,
        (0, "{\n  \"backlog\": 0\n}\n".to_owned(), String::new())
    );
    assert_eq!(
        *requests.lock().unwrap(),
        [
            "POST /api/dead-letters/0a/retry \"\"",
            "DELETE /api/dead-letters/0b \"\"",
            "POST /api/addresses/example/f/%C3%BC/resume \"\"",
            "POST /api/addresses/example/f/%C3%BC/skip \"\"",
            "GET /api/addresses/example/f/1 \"\"",
        ]
    );
}

#[tokio::test]
async fn health_exits_with_0_only_if_the_coordinator_answers() {
    use axum::routing::get;
    let health = |url: String| async move {
        let flags = ["health", "--timeout", "300ms", "--admin-url"];
        run(&[&flags[..], &[&url]].concat()).await
    };

    let alive = serve(Router::new().route("/healthz", get(|| async { "ok" }))).await;
    assert_eq!(health(alive).await, (0, String::new(), String::new()));

    let failing = get(|| async { (StatusCode::SERVICE_UNAVAILABLE, "stuck") });
    let failing = serve(Router::new().route("/healthz", failing)).await;
    let (code, printed, error) = health(failing).await;
    assert_eq!((code, printed.as_str()), (5, ""));
    assert!(error.contains("503") && error.contains("stuck"), "{error}");

    let silent = get(|| async { std::future::pending::<()>().await });
    let silent = serve(Router::new().route("/healthz", silent)).await;
    let (code, _, error) = health(silent).await;
    assert_eq!(code, 5);
    assert!(error.contains("did not answer in time"), "{error}");

    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let (code, _, error) = health(closed).await;
    assert_eq!(code, 5);
    assert!(error.contains("cannot be reached"), "{error}");
}

fn module_file(directory: &Path, text: &str) -> String {
    let path = directory.join("module.yaml");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn validate_lists_functions_ingresses_and_egresses() {
    let directory = tempfile::tempdir().unwrap();
    let file = module_file(
        directory.path(),
        "kind: satchel.endpoints.v1/lambda
spec: {functions: example/*, functionName: \"${FUNCTION}\"}
---
kind: io.statefun.kinesis.v1/ingress
spec:
  id: example/names
  startupPosition: {type: earliest}
  streams: [{stream: names, valueType: example/name, targets: [example/greeter]}]
---
kind: io.statefun.kinesis.v1/egress
spec: {id: example/greetings}
",
    );
    let done = satchel_with(&["validate", &file], &[("FUNCTION", "greeter")], "").await;
    let expected = "functions example/* on Lambda greeter
ingress example/names from stream names (from earliest, as example/name) to example/greeter
egress example/greetings to streams
";
    assert_eq!(done, (0, expected.to_owned(), String::new()));
}

#[tokio::test]
async fn validate_reports_all_problems_and_exits_with_2() {
    let directory = tempfile::tempdir().unwrap();
    let text = "kind: satchel.endpoints.v1/lambda\nspec:\n  funtions: a/*\n  functions: a/*\n  \
                functionName: ${MISSING_NAME}\n";
    let file = module_file(directory.path(), text);
    let done = run(&["validate", &file]).await;
    let expected = format!(
        "satchel: {file}:3: unknown field 'funtions' in satchel.endpoints.v1/lambda, \
        did you mean 'functions'?\n\
        {file}:5: the placeholder `${{MISSING_NAME}}` has no value: \
        set the environment variable 'MISSING_NAME'\n"
    );
    assert_eq!(done, (2, String::new(), expected));
}

#[tokio::test]
async fn validate_finds_what_a_start_would_find_in_files_and_names() {
    let directory = tempfile::tempdir().unwrap();
    let text = "kind: io.statefun.endpoints.v2/http\nspec:\n  functions: a/*\n  \
                urlPathTemplate: https://functions\n  transport:\n    \
                trust_cacerts: absent.pem\n";
    let file = module_file(directory.path(), text);
    let (code, shown, problems) = run(&["validate", &file]).await;
    assert_eq!(code, 2, "{problems}");
    assert!(shown.starts_with("functions a/* on "), "{shown}");
    let absent = directory.path().join("absent.pem");
    let expected = format!("satchel: {file}:3: {}: No such file", absent.display());
    assert!(problems.starts_with(&expected), "{problems}");

    let text = "kind: satchel.endpoints.v1/lambda\nspec: {functions: a/.., functionName: a}\n";
    let file = module_file(directory.path(), text);
    let (code, _, problems) = run(&["validate", &file]).await;
    assert_eq!(code, 2, "{problems}");
    assert!(problems.contains("no function is named `..`"), "{problems}");
}

#[tokio::test]
async fn metrics_for_cloudwatch_are_lines_of_standard_output() {
    use tokio::io::{AsyncBufReadExt, BufReader};

    let dir = tempfile::tempdir().unwrap();
    let module = dir.path().join("module.yaml");
    let text = "kind: io.statefun.endpoints.v2/http\nspec:\n  functions: example/*\n  \
                urlPathTemplate: http://127.0.0.1:9/\n";
    std::fs::write(&module, text).unwrap();
    let arguments = ["dev", "--ephemeral", "--emf", "--application=orders"];
    let ports = ["--http=127.0.0.1:0", "--admin=127.0.0.1:0"];
    let mut process = satchel(&[&arguments[..], &ports[..]].concat())
        .arg(&module)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    let signal = std::process::Command::new("kill")
        .arg(process.id().unwrap().to_string())
        .status();
    assert!(signal.unwrap().success());
    let mut last = None;
    while let Some(line) = lines.next_line().await.unwrap() {
        // `dev` also prints for people.
        last = Some(line).filter(|line| line.starts_with('{')).or(last);
    }
    let last = last.unwrap();
    assert!(process.wait().await.unwrap().success());
    for (line, starts) in [(first, Some(1)), (last, None)] {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Namespace"], "Satchel");
        assert_eq!(line["Application"], "orders");
        assert_eq!(line["Starts"].as_u64(), starts);
        assert_eq!(line["DeadLettersMade"], 0);
    }
}
