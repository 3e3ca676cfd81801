use std::path::Path;

use proptest::prelude::*;

use super::{environment, parse, problems};
use crate::module::Application;

#[test]
fn all_problems_are_reported_each_with_its_line_and_a_hint() {
    let found = problems(
        r#"kind: satchel.endpoints.v1/lambda
spec:
  funtions: example/*
  functionName: [a]
  maxConcurrency: many
  maxBatchMessages: 0
  timeout: 30 parsecs
  retries: {maxAttempts: 2, backof: {}}
  onPoison: ignore
---
kind: satchel.endpoints.v1/lamda
spec: {}
---
kid: io.statefun.kinesis.v1/egress
spec: {}
"#,
    );
    assert_eq!(
        found,
        vec![
            "app/module.yaml:3: satchel.endpoints.v1/lambda needs the field 'functions'",
            "app/module.yaml:3: unknown field 'funtions' in satchel.endpoints.v1/lambda, did you \
             mean 'functions'?",
            "app/module.yaml:4: 'functionName' of satchel.endpoints.v1/lambda must be a text, not \
             a list",
            "app/module.yaml:5: 'maxConcurrency' of satchel.endpoints.v1/lambda: `many` is not a \
             whole number",
            "app/module.yaml:6: 'maxBatchMessages' of satchel.endpoints.v1/lambda: 0 is not \
             between 1 and 1000000",
            "app/module.yaml:7: 'timeout' of satchel.endpoints.v1/lambda: `30 parsecs` is not a \
             duration: write a whole number and a unit, such as 100ms, 30s, 2m or 1h",
            "app/module.yaml:8: unknown field 'backof' in retries, did you mean 'backoff'?",
            "app/module.yaml:9: 'onPoison' of satchel.endpoints.v1/lambda: `ignore` is not one of \
             dead-letter, suspend",
            "app/module.yaml:11: 'kind' of a module document: unknown kind \
             'satchel.endpoints.v1/lamda', did you mean 'satchel.endpoints.v1/lambda'?",
            "app/module.yaml:14: a module document needs the field 'kind'",
            "app/module.yaml:14: unknown field 'kid' in a module document, did you mean 'kind'?",
        ]
    );
}

#[test]
fn no_problem_shows_the_value_of_a_placeholder() {
    let found = problems(
        r#"kind: ${SECRET}
spec: {}
---
kind: satchel.endpoints.v1/lambda
spec:
  functions: example/*
  functionName: x${SECRET}y
  maxConcurrency: ${SECRET}
  timeout: "${SERVICE}: ${SECRET}"
  onPoison: ${KEY}
"#,
    );
    assert!(found.len() >= 4, "{found:?}");
    let text = found.join("\n");
    for value in ["s3cr3t-value", "http://localhost:8000", "AKIA"] {
        assert!(!text.contains(value), "{text}");
    }
    for placeholder in ["`${SECRET}`", "`${SERVICE}: ${SECRET}`", "`${KEY}`"] {
        assert!(text.contains(placeholder), "{text}");
    }
}

#[test]
fn a_kind_that_resembles_none_is_refused_with_the_list_of_all() {
    let found = problems("kind: com.example.pulsar/ingress\nspec: {}\n");
    assert_eq!(
        found,
        vec![
            "app/module.yaml:1: 'kind' of a module document: unknown kind \
             'com.example.pulsar/ingress'; known kinds: satchel.endpoints.v1/lambda, \
             io.statefun.endpoints.v2/http, io.statefun.endpoints.v1/http, \
             io.statefun.kafka.v1/ingress, io.statefun.kafka.v1/egress, \
             io.statefun.kinesis.v1/ingress, io.statefun.kinesis.v1/egress, \
             io.statefun.playground.v1/ingress, io.statefun.playground.v1/egress, \
             satchel.sqs.v1/ingress, satchel.sqs.v1/egress, satchel.sns.v1/egress, \
             satchel.eventbridge.v1/egress, satchel.dynamodb.v1/egress, satchel.lambda.v1/egress"
        ]
    );
}

#[test]
fn contradictions_between_documents_are_reported() {
    let found = problems(
        r#"kind: satchel.endpoints.v1/lambda
spec: {functions: example/*, functionName: a}
---
kind: satchel.endpoints.v1/lambda
spec: {functions: [example/*, satchel/x], functionName: b}
---
kind: io.statefun.kinesis.v1/ingress
spec:
  id: example/in
  streams:
    - {stream: s, valueType: t/t, targets: [example/a, elsewhere/b, satchel/c]}
    - {stream: s, valueType: t/t, targets: [example/a]}
---
kind: io.statefun.kinesis.v1/egress
spec: {id: example/in}
---
kind: io.statefun.kinesis.v1/egress
spec: {id: example/in}
"#,
    );
    assert_eq!(
        found,
        vec![
            "app/module.yaml:5: functions `satchel/x`: the namespace 'satchel' is reserved for \
             external callers",
            "app/module.yaml:5: the functions pattern `example/*` is already declared at \
             app/module.yaml:2",
            "app/module.yaml:11: no endpoint serves the target `elsewhere/b`: add it to the \
             'functions' of an endpoint",
            "app/module.yaml:11: target `satchel/c`: the namespace 'satchel' is reserved for \
             external callers",
            "app/module.yaml:12: the stream of this ingress `s` is already declared at \
             app/module.yaml:11",
            "app/module.yaml:18: the egress `example/in` is already declared at app/module.yaml:15",
        ]
    );
}

#[test]
fn problems_of_a_kinesis_ingress_are_reported_with_their_lines() {
    let found = problems(
        r#"kind: satchel.endpoints.v1/lambda
spec: {functions: example/*, functionName: a}
---
kind: io.statefun.kinesis.v1/ingress
spec:
  id: example/in
  awsCredentials: {type: assume-role, roleArn: reader}
  onExpiredPosition: latest
  consumer: {type: fanout}
  streams:
    - {stream: a, valueType: t/t, targets: [example/a], id: customer.id}
    - {stream: b, valueType: t/t, targets: [example/a], router: {function: example/r}}
    - {stream: c, valueType: t/t, router: {function: example/r, ids: main}}
    - {stream: d, valueType: t/t, id: /customer~id, targets: [example/a]}
"#,
    );
    assert_eq!(
        found,
        vec![
            "app/module.yaml:7: 'roleArn' of awsCredentials: `reader` is not the ARN of a role: \
             write arn:aws:iam::<account>:role/<name>",
            "app/module.yaml:8: 'onExpiredPosition' of io.statefun.kinesis.v1/ingress: `latest` is \
             not one of stop, earliest",
            "app/module.yaml:9: 'type' of consumer: `fanout` is not one of polling, fan-out, did \
             you mean 'fan-out'?",
            "app/module.yaml:11: 'id' of an element of streams: `customer.id` is neither `key` nor \
             a JSON pointer: write it as /customer/id (RFC 6901)",
            "app/module.yaml:12: 'targets' of an element of streams: not allowed with 'router': \
             remove one of the two",
            "app/module.yaml:13: unknown field 'ids' in router, did you mean 'id'?",
            "app/module.yaml:14: 'id' of an element of streams: `/customer~id` is neither `key` \
             nor a JSON pointer: write it as /customer/id (RFC 6901)",
        ]
    );
}

#[test]
fn a_placeholder_without_a_value_is_reported_once_and_by_name() {
    let found = problems(
        "kind: satchel.endpoints.v1/lambda\nspec:\n  functions: example/*\n  functionName: f\n  \
         maxConcurrency: ${NOWHERE}\n",
    );
    assert_eq!(
        found,
        vec![
            "app/module.yaml:5: the placeholder `${NOWHERE}` has no value: set the environment \
             variable 'NOWHERE'"
        ]
    );
}

#[test]
fn files_that_java_finds_elsewhere_and_halves_of_a_pair_are_refused_by_name() {
    let found = problems(
        r#"kind: io.statefun.endpoints.v2/http
spec:
  functions: example/*
  urlPathTemplate: https+unix:///run/f
  transport:
    trust_cacerts: classpath:ca.pem
    client_cert: "file:"
    client_key_password: password.txt
"#,
    );
    assert_eq!(
        found,
        vec![
            "app/module.yaml:4: 'urlPathTemplate' of io.statefun.endpoints.v2/http: the URL names \
             no socket: the name of its file must end in `.sock`",
            "app/module.yaml:6: 'trust_cacerts' of transport: `classpath:ca.pem` refers to a Java \
             class path, which Satchel does not have: write the path of a file",
            "app/module.yaml:7: 'client_cert' of transport: `file:` is not the path of a file",
            "app/module.yaml:8: 'client_key_password' of transport: a password also needs its \
             'client_key'",
        ]
    );
}

#[test]
fn urls_that_cannot_be_reached_are_refused() {
    for url in [
        "localhost:8000",
        "ftp://host/",
        "http:///path",
        "http+unix:///run/no/socket",
        "http://host/{function.id}",
    ] {
        let text = format!(
            "kind: io.statefun.endpoints.v2/http\n\
             spec: {{functions: a/*, urlPathTemplate: \"{url}\"}}\n"
        );
        let found = problems(&text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("app/module.yaml:2: 'urlPathTemplate'"),
            "{found:?}"
        );
    }
}

#[test]
fn no_refusal_of_a_url_repeats_what_may_be_secret_in_it() {
    for url in [
        "http://joe:hunter2@host/f",
        "https://hunter2@host:8443/f?x=1#y",
        "http:///joe:hunter2@host/f",
        "joe:hunter2@host/f",
        "ftp://joe:hunter2@host/f",
        "http+unix:///run/no/socket?key=hunter2",
        "http://host/{function.id}?key=hunter2",
        "http://host/a b?key=hunter2",
    ] {
        let text = format!(
            "kind: io.statefun.endpoints.v2/http\n\
             spec: {{functions: a/*, urlPathTemplate: \"{url}\"}}\n"
        );
        let found = problems(&text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(!found[0].contains("hunter2"), "{found:?}");
    }
    let found = problems(
        "kind: io.statefun.endpoints.v2/http\n\
         spec: {functions: a/*, urlPathTemplate: \"http://joe:hunter2@host/f\"}\n",
    );
    assert_eq!(
        found,
        [
            "app/module.yaml:2: 'urlPathTemplate' of io.statefun.endpoints.v2/http: the URL must \
             not contain a user or a password, because metrics and logs show it"
        ]
    );
}

#[test]
fn a_text_that_is_not_yaml_is_refused_with_its_line() {
    let found = problems("kind: a\nspec: [1, 2\n");
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("app/module.yaml:3: invalid YAML: "),
        "{found:?}"
    );
    assert_eq!(problems(""), vec!["app/module.yaml:1: the file is empty"]);
}

#[test]
fn a_path_that_holds_no_module_file_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("nowhere.yaml");
    let paths = [directory.path().to_owned(), missing.clone()];
    let refused = Application::load(&paths, &|_| None).unwrap_err();
    let found: Vec<String> = refused.iter().map(ToString::to_string).collect();
    let empty = format!(
        "{}: the directory contains neither module.yaml nor *.module.yaml",
        directory.path().display()
    );
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0], empty);
    assert!(
        found[1].starts_with(&format!("{}: cannot be read: ", missing.display())),
        "{found:?}"
    );
}

/// Lines of module files, so that the garbage made of them passes the first checks.
fn fragment() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "kind: satchel.endpoints.v1/lambda",
        "kind: io.statefun.endpoints.v2/http",
        "kind: io.statefun.kinesis.v1/ingress",
        "kind: io.statefun.kafka.v1/ingress",
        "kind: io.statefun.kafka.v1/egress",
        "kind: io.statefun.playground.v1/egress",
        "  address: [kafka:9092]",
        "  topics: [{topic: a, targets: [a/b]}, a/, a]",
        "  startupPosition: {type: specific-offsets, offsets: [a/0: 1, a/: -1, {a/0: [], b: c}]}",
        "  deliverySemantic: exactly-once",
        "  transport: {client_key: \"file:\", client_key_password: ~/, pool_ttl: 0}",
        "version: \"3.0\"",
        "module: {meta: {type: remote}, spec: {endpoints: [{endpoint: {}}], ingresses: [1]}}",
        "spec:",
        "  functions: example/*",
        "  functionName: ${BATCH}",
        "  retries: {backoff: {initial: 1d, max: 0}}",
        "  streams: [{stream: .., targets: [a/b]}]",
        "  transport: {type: io.statefun.transports.v1/async, timeouts: 3}",
        "  startupPosition: {type: date, date: 2020-02-30 00:00:00.000 Z}",
        "  - &a [*a, !x y, ? z]",
        "---",
    ]);
    prop_oneof![3 => known.prop_map(str::to_owned), 1 => any::<String>(), 1 => "[ -~\n]{0,20}"]
}

proptest! {
    #[test]
    fn garbage_never_panics(lines in prop::collection::vec(fragment(), 0..12)) {
        let text = lines.join("\n");
        // Whether it is refused or not, every problem has a place in this file.
        if let Err(refused) = parse(&text) {
            prop_assert!(!refused.is_empty());
            for problem in refused.iter() {
                prop_assert!(problem.to_string().starts_with("app/module.yaml:"));
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let text = String::from_utf8_lossy(&bytes);
        let outcome = Application::parse(Path::new("x"), &text, &environment);
        prop_assert!(outcome.is_err() || outcome == Ok(Application::default()));
    }
}
