//! Environment of handler processes, and their number.

use super::*;

#[tokio::test]
async fn a_handler_has_the_environment_of_lambda() {
    let fixture = Fixture::new();
    let lambda = LocalLambda::start(fixture.python()).await.unwrap();
    let seen = invoke(&lambda, json!({"do": "describe"})).await.unwrap();

    let headers = &seen["headers"];
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let deadline: u128 = headers["lambda-runtime-deadline-ms"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(deadline > now.as_millis() && deadline <= (now + LONG).as_millis());
    let arn = headers["lambda-runtime-invoked-function-arn"]
        .as_str()
        .unwrap();
    assert!(arn.ends_with(":function:greeter"), "{arn}");
    let trace = headers["lambda-runtime-trace-id"].as_str().unwrap();
    assert!(trace.starts_with("Root=1-"), "{trace}");
    assert_eq!(headers["content-type"], "application/json");

    let env = &seen["env"];
    let address = env["AWS_LAMBDA_RUNTIME_API"].as_str().unwrap();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    for (name, value) in [
        ("AWS_LAMBDA_FUNCTION_NAME", "greeter"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
        ("_HANDLER", "greeter"),
        ("GREETING", "Hello"),
    ] {
        assert_eq!(env[name], value, "{name}");
    }
    assert!(env["AWS_REGION"].is_string());
    assert_eq!(env["CARGO_MANIFEST_DIR"], Value::Null);
    assert_eq!(
        seen["dir"].as_str().map(std::path::Path::new),
        Some(fixture.dir.path().canonicalize().unwrap().as_path())
    );
    lambda.shutdown().await;
}

#[tokio::test]
async fn the_lines_of_a_handler_carry_its_name() {
    let fixture = Fixture::new();
    let lambda = LocalLambda::start(fixture.python()).await.unwrap();
    let said = invoke(&lambda, json!({"do": "echo", "say": "hi"}))
        .await
        .unwrap();
    assert_eq!(said["said"], "hi");
    fixture.shows("greeter | ready to serve").await;
    lambda.shutdown().await;
}

#[tokio::test]
async fn processes_are_started_while_requests_wait_up_to_the_limit() {
    let fixture = Fixture::new();
    let lambda = LocalLambda::start(FunctionSpec {
        processes_max: 3,
        ..fixture.python()
    })
    .await
    .unwrap();
    let file = fixture.path("go");
    let event = json!({"do": "wait for", "file": &file});
    let requests: Vec<_> = (0..5).map(|_| invoke(&lambda, event.clone())).collect();
    let watch = async {
        let busy = || {
            let processes = lambda.describe().processes;
            let busy = processes
                .iter()
                .filter(|process| process.state == ProcessState::Busy);
            (busy.count(), processes.len(), lambda.describe().queued)
        };
        eventually("three busy processes", || busy() == (3, 3, 2)).await;
        std::fs::write(&file, "").unwrap();
    };
    let (answers, ()) = tokio::join!(futures::future::join_all(requests), watch);
    let pids: std::collections::BTreeSet<u64> = answers
        .into_iter()
        .map(|answer| answer.unwrap()["pid"].as_u64().unwrap())
        .collect();
    assert_eq!(pids.len(), 3);
    assert_eq!(lambda.describe().started, 3);
    lambda.shutdown().await;
    assert!(pids.into_iter().all(|pid| !is_alive(pid)));
}

#[tokio::test]
async fn stopping_fails_held_requests_as_unreachable_and_leaves_no_process() {
    let fixture = Fixture::new();
    let lambda = LocalLambda::start(fixture.python()).await.unwrap();
    let pid = invoke(&lambda, json!({"do": "echo"})).await.unwrap()["pid"].clone();
    let stop = async {
        eventually("a busy process", || {
            lambda.describe().processes[0].state == ProcessState::Busy
        })
        .await;
        lambda.shutdown().await;
    };
    let (held, ()) = tokio::join!(invoke(&lambda, json!({"do": "hang"})), stop);
    assert_eq!(
        unreachable(held.unwrap_err()),
        "the handler was stopped while it held the request"
    );
    assert!(!is_alive(pid.as_u64().unwrap()));
    assert_eq!(lambda.describe().processes, []);
    let later = invoke(&lambda, json!({"do": "echo"})).await;
    assert_eq!(unreachable(later.unwrap_err()), "the handlers were stopped");
}

#[tokio::test]
async fn an_extension_gets_the_shutdown_event_and_a_process_that_ignores_it_is_killed() {
    let fixture = Fixture::new();
    let lambda = LocalLambda::start(fixture.python()).await.unwrap();
    let pid = invoke(&lambda, json!({"do": "echo"})).await.unwrap()["pid"].clone();
    let file = fixture.path("told");
    let registered = invoke(&lambda, json!({"do": "extension", "file": &file})).await;
    assert_eq!(
        registered,
        Ok(json!([
            200,
            {"functionName": "greeter", "functionVersion": "$LATEST", "handler": "greeter"}
        ]))
    );
    lambda.shutdown().await;
    let event: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(event["eventType"], "SHUTDOWN");
    assert_eq!(event["shutdownReason"], "spindown");
    assert!(event["deadlineMs"].is_u64());
    assert!(!is_alive(pid.as_u64().unwrap()));
}

#[tokio::test]
async fn a_changed_script_replaces_its_processes_without_losing_a_request() {
    let fixture = Fixture::new();
    let lambda = LocalLambda::start(FunctionSpec {
        watch: true,
        ..fixture.python()
    })
    .await
    .unwrap();
    let script = fixture.path("handler.py");
    let first = invoke(&lambda, json!({"do": "echo"})).await.unwrap();
    assert_eq!(first["version"], "one");
    let newer = include_str!("handler.py").replace("VERSION = \"one\"", "VERSION = \"number two\"");
    std::fs::write(&script, newer).unwrap();
    let begun = std::time::Instant::now();
    loop {
        assert!(begun.elapsed() < LONG, "the change was not seen");
        match invoke(&lambda, json!({"do": "echo"})).await {
            Ok(answer) if answer["version"] == "number two" => break,
            Ok(answer) => assert_eq!(answer, first),
            Err(error) => {
                // A request in flight when its process was replaced is retried without counting as
                // an attempt.
                unreachable(error);
            }
        }
    }
    fixture.shows("greeter | a source has changed").await;
    assert!(!is_alive(first["pid"].as_u64().unwrap()) || lambda.describe().processes.len() > 1);
    lambda.shutdown().await;
}
