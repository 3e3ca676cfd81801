//! Lists of endpoints, functions, ingresses, egresses and addresses.

use satchel_engine::dispatcher::EndpointHealth;
use satchel_engine::endpoint::Endpoints;
use satchel_engine::input::{Administration, Call, CallId, Verb};
use satchel_engine::invocation::FailureKind;
use satchel_engine::output::{AddressSummary, AddressView, Stoppage};
use satchel_engine::partition::{Config, Notice, Ownership, Partition, PauseCause, Recovery};
use satchel_protocol::types::typed_value;
use serde_json::{Value, json};

use super::*;
use crate::module::Application;
use crate::status::fixture;

fn silent(_: &Input) -> Option<Answer> {
    None
}

/// A partition in which two messages for alice wait, the first of them in flight.
fn partition(application: &Application) -> Partition {
    let endpoints = application.endpoints.iter();
    let config = Config {
        endpoints: Endpoints::new(endpoints.map(|it| it.engine.clone()).collect()),
        ..Config::default()
    };
    let ownership = Ownership {
        epoch: 1,
        committed_at_ms: 0,
        clean: true,
    };
    let mut partition = Recovery::new(config).start(ownership, 1_000);
    for number in 1..=2 {
        let call = Call {
            request: RequestId(number),
            id: CallId([7; 16]),
            verb: Verb::Send,
            target: alice(),
            argument: typed_value("satchel/json", &b"{}"[..]),
            idempotency_key: None,
            trace: None,
        };
        partition.handle_input(1_000, Input::CallReceived(call));
        while partition.poll_output().is_some() {}
    }
    partition
}

/// A process with the components of the fixture and a partition.
async fn process(script: Script) -> Process {
    let process = Process::answering(script).await;
    let application = fixture::application();
    process.metrics.status().declare(&application);
    let partition = partition(&application);
    let mut observations = process.metrics.status().observe_partition(0);
    tokio::spawn(async move {
        while let Some(read) = observations.recv().await {
            read(&partition);
        }
    });
    process
}

async fn show(process: &Process, path: &str) -> Value {
    let reply = ask(process.admin, "GET", path, &[], b"").await;
    assert_eq!(reply.status, 200, "{path}: {reply:?}");
    reply.json()
}

/// Lets a request to the Lambda function fail, which is down by that.
fn fail_greeter(process: &Process) {
    let at_ms = 1_767_225_599_001;
    let health = EndpointHealth {
        in_flight: 3,
        waiting: 40,
        ..fixture::down_since(at_ms)
    };
    let refused = fixture::failure(FailureKind::Unavailable, "connection refused");
    let batches = [fixture::batch("alice", 1)];
    let status = process.metrics.status();
    status.greeter_ended(at_ms, &batches, refused, health);
}

#[tokio::test]
async fn the_placement_is_that_of_the_partition() {
    let process = process(silent).await;
    let shown = show(&process, "/api/placement").await;
    let expected = json!({
        "placement": "id-md5", "key_groups": 1024, "hash_tags": false, "partitions": 1,
    });
    assert_eq!(shown, expected);
    process.stop().await;
}

#[tokio::test]
async fn endpoints_are_listed_with_their_health_and_readyz_names_those_that_are_down() {
    let process = process(silent).await;
    assert_eq!(show(&process, "/readyz").await, json!({"state": "serving"}));
    fail_greeter(&process);
    let shown = show(&process, "/api/endpoints").await;
    let [greeter, web] = &shown["endpoints"].as_array().unwrap()[..] else {
        panic!("two endpoints: {shown}");
    };
    assert_eq!(
        *greeter,
        json!({
            "name": "greeter", "kind": "lambda", "functions": ["example/*"],
            "state": "down", "since": "2025-12-31T23:59:59.001Z", "last_success": null,
            "last_failure": {
                "at": "2025-12-31T23:59:59.001Z", "kind": "unavailable",
                "message": "connection refused",
            },
            "requests_in_flight": 3, "requests_max": greeter["requests_max"],
            "batches_waiting": 40,
        })
    );
    assert!(greeter["requests_max"].as_u64() > Some(0));
    assert_eq!(
        (&web["state"], &web["kind"]),
        (&json!("up"), &json!("http"))
    );
    assert_eq!(shown["next"], Value::Null);
    assert_eq!(
        show(&process, "/readyz").await,
        json!({"state": "serving", "unhealthy_endpoints": ["greeter"]}),
        "the process still serves"
    );
    process.stop().await;
}

#[tokio::test]
async fn lists_have_pages_and_refuse_what_they_do_not_know() {
    let process = process(silent).await;
    let first = show(&process, "/api/endpoints?limit=1").await;
    assert_eq!(first["endpoints"].as_array().unwrap().len(), 1);
    let next = first["next"].as_str().unwrap();
    let second = show(&process, &format!("/api/endpoints?limit=1&after={next}")).await;
    assert_eq!(second["endpoints"][0]["kind"], "http");
    assert_eq!(second["next"], Value::Null);
    let first = show(&process, "/api/functions?limit=1").await;
    assert_eq!(first["functions"][0]["function"], "example/greeter");
    let second = show(&process, "/api/functions?limit=1&after=example/greeter").await;
    assert_eq!(second["functions"][0]["function"], "web/one");
    assert_eq!(second["next"], Value::Null);
    for path in [
        "/api/endpoints?limit=0",
        "/api/endpoints?limit=1001",
        "/api/endpoints?after=x",
        "/api/ingresses?what=1",
        "/api/addresses?after=x",
        "/api/addresses?function=x",
    ] {
        let reply = ask(process.admin, "GET", path, &[], b"").await;
        assert_eq!(reply.status, 400, "{path}: {reply:?}");
    }
    process.readiness.send_replace(Readiness::Standby);
    for list in [
        "endpoints",
        "functions",
        "ingresses",
        "egresses",
        "addresses",
    ] {
        let reply = ask(process.admin, "GET", &format!("/api/{list}"), &[], b"").await;
        assert_eq!(reply.status, 503, "{list}");
    }
    process.stop().await;
}

#[tokio::test]
async fn functions_are_those_that_are_named_or_have_addresses_with_their_figures() {
    let process = process(silent).await;
    fail_greeter(&process);
    let shown = show(&process, "/api/functions").await;
    let [greeter, one] = &shown["functions"].as_array().unwrap()[..] else {
        panic!("two functions: {shown}");
    };
    assert!(greeter["backlog"]["bytes"].as_u64() > Some(0));
    assert_eq!(
        *greeter,
        json!({
            "function": "example/greeter", "endpoint": "greeter", "endpoint_state": "down",
            "addresses": 1,
            "backlog": {"messages": 2, "bytes": greeter["backlog"]["bytes"]},
            "in_flight": 1, "backing_off": 0, "suspended": 0, "dead_letters": 0, "states": [],
            "stopped": null,
        })
    );
    assert_eq!(one["addresses"], 0);
    process.stop().await;
}

#[tokio::test]
async fn ingresses_and_egresses_are_listed_with_lag_pause_and_last_error() {
    let process = process(silent).await;
    let status = process.metrics.status();
    status.ingress_lag("example/names", "shardId-0", 1_500);
    status.ingress_received("example/names", 7);
    status.ingress_failed("example/names", "GetRecords: denied");
    let paused = Notice::IngressPaused {
        cause: PauseCause::Memory,
    };
    status.noticed(&paused, 0);
    let shown = show(&process, "/api/ingresses").await;
    let ingress = &shown["ingresses"][0];
    assert_eq!(ingress["last_error"]["message"], "GetRecords: denied");
    assert_eq!(
        *ingress,
        json!({
            "id": "example/names", "kind": "stream", "sources": ["names"],
            "paused": "memory_limit", "stopped": [], "received": 7, "lag_seconds": 1.5,
            "backlog_messages": null, "in_flight_messages": null,
            "last_error": ingress["last_error"],
        })
    );
    process.readiness.send_replace(Readiness::Held);
    let shown = show(&process, "/api/ingresses").await;
    assert_eq!(shown["ingresses"][0]["paused"], "held");
    let stoppage = |name: &str, reason: &str| Stoppage {
        name: name.to_owned(),
        reason: reason.to_owned(),
        since_ms: 1_000,
    };
    process.stoppages.send_replace(Stoppages {
        paused_ingresses: vec![stoppage("example/names", "a flood")],
        ..Stoppages::default()
    });
    let shown = show(&process, "/api/ingresses").await;
    assert_eq!(shown["ingresses"][0]["paused"], "person");

    process.metrics.observe_egress_acked("example/out", 5);
    process
        .metrics
        .observe_egress_retried("example/out", 2, "throttled");
    let shown = show(&process, "/api/egresses").await;
    let egress = &shown["egresses"][0];
    assert_eq!(egress["last_error"]["message"], "throttled");
    assert_eq!(
        (&egress["delivered"], &egress["retried"]),
        (&json!(5), &json!(2))
    );
    assert_eq!(egress["waiting"], 0);
    process.stop().await;
}

/// Buckets 0 and 2 have two addresses each, which a page may cut; there is no bucket 4.
fn buckets(input: &Input) -> Option<Answer> {
    let Input::Administered {
        administration:
            Administration::ListAddresses {
                bucket,
                after,
                limit,
                ..
            },
        ..
    } = input
    else {
        return None;
    };
    if *bucket == 4 {
        return Some(Answer::NotFound("there is no bucket 4".to_owned()));
    }
    let ids: &[&str] = if bucket % 2 == 0 { &["a", "b/ü"] } else { &[] };
    let addresses = ids
        .iter()
        .map(|id| AddressSummary {
            address: Address::new(
                FunctionType::new("example", "greeter"),
                format!("{bucket}{id}"),
            ),
            states: 1,
            backlog_messages: 2,
            backlog_bytes: 3,
            in_flight: false,
            suspended: None,
            failing: Some((4, "it panicked".to_owned())),
        })
        .filter(|summary| after.as_ref().is_none_or(|after| summary.address > *after));
    Some(Answer::Addresses(addresses.take(*limit).collect()))
}

#[tokio::test]
async fn addresses_are_listed_in_pages_over_all_buckets() {
    let process = process(buckets).await;
    for limit in 1..=5 {
        let mut found = Vec::new();
        let mut after = String::new();
        loop {
            let path = format!("/api/addresses?prefix=&limit={limit}{after}");
            let page = show(&process, &path).await;
            let addresses = page["addresses"].as_array().unwrap();
            assert!(addresses.len() <= limit);
            found.extend(
                addresses
                    .iter()
                    .map(|it| it["id"].as_str().unwrap().to_owned()),
            );
            match page["next"].as_str() {
                None => break,
                Some(next) => after = format!("&after={}", next.replace('%', "%25")),
            }
        }
        assert_eq!(found, ["0a", "0b/ü", "2a", "2b/ü"], "pages of {limit}");
    }
    let page = show(&process, "/api/addresses?function=example/greeter&limit=1").await;
    assert_eq!(
        page["addresses"][0],
        json!({
            "address": "example/greeter/0a", "namespace": "example", "name": "greeter",
            "id": "0a", "states": 1, "backlog": {"messages": 2, "bytes": 3}, "in_flight": false,
            "suspended": null, "failing": {"attempts": 4, "reason": "it panicked"},
        })
    );
    process.stop().await;
}

/// Two buckets with three addresses each, of which the second one is suspended.
fn suspended(input: &Input) -> Option<Answer> {
    let Input::Administered {
        administration:
            Administration::ListAddresses {
                bucket,
                after,
                limit,
                ..
            },
        ..
    } = input
    else {
        return None;
    };
    if *bucket == 2 {
        return Some(Answer::NotFound("there is no such bucket".to_owned()));
    }
    let addresses = ["a", "b", "c"].into_iter().map(|id| AddressSummary {
        address: Address::new(
            FunctionType::new("example", "greeter"),
            format!("{bucket}{id}"),
        ),
        states: 1,
        backlog_messages: usize::from(id != "c"),
        backlog_bytes: 3,
        in_flight: false,
        suspended: (id == "b").then(|| "it panicked".to_owned()),
        failing: None,
    });
    let later = addresses.filter(|it| after.as_ref().is_none_or(|after| it.address > *after));
    Some(Answer::Addresses(later.take(*limit).collect()))
}

#[tokio::test]
async fn addresses_are_listed_by_their_condition() {
    let process = process(suspended).await;
    for (condition, expected) in [
        ("suspended", &["0b", "1b"][..]),
        ("waiting", &["0a", "0b", "1a", "1b"]),
        ("failing", &[]),
    ] {
        for limit in 1..=4 {
            let mut found = Vec::new();
            let mut after = String::new();
            loop {
                let path = format!("/api/addresses?condition={condition}&limit={limit}{after}");
                let page = show(&process, &path).await;
                let addresses = page["addresses"].as_array().unwrap();
                assert!(addresses.len() <= limit);
                let ids = addresses
                    .iter()
                    .map(|it| it["id"].as_str().unwrap().to_owned());
                found.extend(ids);
                match page["next"].as_str() {
                    None => break,
                    Some(next) => after = format!("&after={}", next.replace('%', "%25")),
                }
            }
            assert_eq!(found, expected, "{condition} in pages of {limit}");
        }
    }
    let path = "/api/addresses?condition=happy";
    let reply = ask(process.admin, "GET", path, &[], b"").await;
    assert_eq!(reply.code(), (400, "invalid_query".to_owned()));
    process.stop().await;
}

/// An address with waiting messages that never failed by themselves.
fn waiting(input: &Input) -> Option<Answer> {
    let Input::Administered {
        administration: Administration::Inspect(address),
        ..
    } = input
    else {
        return None;
    };
    Some(Answer::Address(Box::new(AddressView {
        address: address.clone(),
        state: vec![],
        backlog_messages: usize::from(&*address.id == "alice"),
        backlog_bytes: 1,
        in_flight: false,
        suspended: None,
        function_stopped: None,
        failing: None,
    })))
}

#[tokio::test]
async fn an_address_that_waits_shows_the_last_failure_of_its_endpoint() {
    let process = process(waiting).await;
    let alice = "/api/addresses/example/greeter/alice";
    assert_eq!(show(&process, alice).await.get("endpoint"), None);
    fail_greeter(&process);
    assert_eq!(
        show(&process, alice).await["endpoint"],
        json!({
            "name": "greeter", "state": "down", "since": "2025-12-31T23:59:59.001Z",
            "last_failure": {
                "at": "2025-12-31T23:59:59.001Z", "kind": "unavailable",
                "message": "connection refused",
            },
        })
    );
    for idle in ["example/greeter/bob", "web/one/alice"] {
        let shown = show(&process, &format!("/api/addresses/{idle}")).await;
        assert_eq!(shown.get("endpoint"), None, "{idle}");
    }
    process.stop().await;
}
