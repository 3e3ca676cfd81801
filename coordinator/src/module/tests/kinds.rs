//! Endpoints, the form of StateFun 3.0, and directories of module files.

use std::path::PathBuf;
use std::time::Duration;

use satchel_engine::endpoint::{Endpoint, FunctionPattern, Linger, OnPoison, Retries};

use super::{function, parse, source};
use crate::module::{
    Application, AwsAccess, AwsCredentials, AwsRegion, ClientCertificate, EgressAdapter,
    EndpointAdapter, EndpointSpec, HttpAuth, HttpEndpoint, IngressAdapter, LambdaEndpoint, Tls,
};

fn http_engine(functions: Vec<FunctionPattern>) -> Endpoint {
    Endpoint {
        functions,
        batch_messages_max: 1_000,
        bundle_batches_max: 1,
        bundle_bytes_max: 32 << 20,
        concurrency_max: 1_024,
        linger: Linger::Fixed(0),
        retries: Retries {
            attempts_max: 8,
            backoff_initial_ms: 100,
            backoff_max_ms: 30_000,
        },
        on_poison: OnPoison::DeadLetter,
    }
}

#[test]
fn a_lambda_endpoint_has_the_documented_defaults() {
    let application = parse(
        "kind: satchel.endpoints.v1/lambda\nspec: {functions: example/*, functionName: greeter}\n",
    );
    let endpoint = EndpointSpec {
        source: source(2),
        engine: Endpoint {
            functions: vec![FunctionPattern::Namespace("example".to_owned())],
            batch_messages_max: 1_000,
            bundle_batches_max: 500,
            bundle_bytes_max: (5 << 20) / 4 * 3,
            concurrency_max: 50,
            linger: Linger::Measured,
            retries: Retries {
                attempts_max: 8,
                backoff_initial_ms: 100,
                backoff_max_ms: 30_000,
            },
            on_poison: OnPoison::DeadLetter,
        },
        adapter: EndpointAdapter::Lambda(LambdaEndpoint {
            function_name: "greeter".to_owned(),
            qualifier: None,
            access: AwsAccess::default(),
            timeout: Duration::from_secs(30),
            dev_command: None,
        }),
    };
    let expected = Application {
        endpoints: vec![endpoint],
        ..Application::default()
    };
    assert_eq!(application, Ok(expected));
}

#[test]
fn every_field_of_a_lambda_endpoint_is_read() {
    let application = parse(
        r#"
kind: satchel.endpoints.v1/lambda
spec:
  functions: [example/a, other.ns/b]
  functionName: arn:aws:lambda:us-east-1:123456789012:function:fn
  qualifier: live
  maxBatchMessages: ${BATCH}
  maxBundleBatches: 10
  maxBundleBytes: 1MiB
  maxConcurrency: 7
  maxLinger: 5ms
  timeout: 1min
  retries: {maxAttempts: 3, backoff: {initial: 10ms, max: 1s}}
  onPoison: suspend
  dev:
    command: [python3, handler.py, "7"]
"#,
    )
    .unwrap();
    let expected = EndpointSpec {
        source: source(4),
        engine: Endpoint {
            functions: vec![
                FunctionPattern::One(function("example/a")),
                FunctionPattern::One(function("other.ns/b")),
            ],
            batch_messages_max: 20,
            bundle_batches_max: 10,
            bundle_bytes_max: 786_432,
            concurrency_max: 7,
            linger: Linger::Fixed(5),
            retries: Retries {
                attempts_max: 3,
                backoff_initial_ms: 10,
                backoff_max_ms: 1_000,
            },
            on_poison: OnPoison::Suspend,
        },
        adapter: EndpointAdapter::Lambda(LambdaEndpoint {
            function_name: "arn:aws:lambda:us-east-1:123456789012:function:fn".to_owned(),
            qualifier: Some("live".to_owned()),
            access: AwsAccess::default(),
            timeout: Duration::from_secs(60),
            dev_command: Some(vec![
                "python3".to_owned(),
                "handler.py".to_owned(),
                "7".to_owned(),
            ]),
        }),
    };
    assert_eq!(application.endpoints, vec![expected]);
}

const ASYNC: HttpEndpoint = HttpEndpoint {
    url_template: String::new(),
    call: Duration::from_secs(120),
    connect: Duration::from_secs(20),
    read: None,
    pool_idle: Duration::from_secs(4),
    pool_size: 1_024,
    payload_max_bytes: 32 << 20,
    tls: Tls {
        trust_cacerts: None,
        client: None,
    },
    auth: None,
};

fn okhttp(url_template: &str) -> HttpEndpoint {
    HttpEndpoint {
        url_template: url_template.to_owned(),
        call: Duration::from_secs(60),
        connect: Duration::from_secs(10),
        read: Some(Duration::from_secs(10)),
        ..ASYNC
    }
}

#[test]
fn an_http_endpoint_takes_the_defaults_of_its_transport() {
    let application = parse(
        "
kind: io.statefun.endpoints.v2/http
spec:
  functions: example/*
  urlPathTemplate: ${SERVICE}/{function.name}
---
kind: io.statefun.endpoints.v2/http
spec:
  functions: example/b
  urlPathTemplate: http+unix:///run/fn.sock/statefun
  transport: {type: io.statefun.transports.v1/okhttp}
",
    )
    .unwrap();
    let first = EndpointSpec {
        source: source(4),
        engine: http_engine(vec![FunctionPattern::Namespace("example".to_owned())]),
        adapter: EndpointAdapter::Http(HttpEndpoint {
            url_template: "http://localhost:8000/{function.name}".to_owned(),
            ..ASYNC
        }),
    };
    let second = EndpointSpec {
        source: source(9),
        engine: http_engine(vec![FunctionPattern::One(function("example/b"))]),
        adapter: EndpointAdapter::Http(okhttp("http+unix:///run/fn.sock/statefun")),
    };
    assert_eq!(application.endpoints, vec![first, second]);
}

#[test]
fn requests_to_a_function_url_are_signed_when_the_module_says_so() {
    let application = parse(
        "
kind: io.statefun.endpoints.v2/http
spec:
  functions: example/*
  urlPathTemplate: https://abc.lambda-url.eu-central-1.on.aws/
  auth:
    type: aws-iam
    awsRegion: {type: specific, id: eu-central-1}
",
    )
    .unwrap();
    let EndpointAdapter::Http(http) = &application.endpoints[0].adapter else {
        panic!("{application:?}");
    };
    let auth = HttpAuth {
        service: "lambda".to_owned(),
        access: AwsAccess {
            region: AwsRegion::Specific("eu-central-1".to_owned()),
            credentials: AwsCredentials::Default,
        },
    };
    assert_eq!(http.auth, Some(auth));
}

#[test]
fn every_field_of_the_transports_is_read_in_both_spellings() {
    let application = parse(
        "
kind: io.statefun.endpoints.v2/http
spec:
  functions: example/a
  urlPathTemplate: https://example.com/a
  maxNumBatchRequests: 10
  transport:
    type: io.statefun.transports.v1/async
    call: 3m
    connect: 4s
    pool_ttl: 5s
    pool_size: 6
    payload_max_bytes: 700
    trust_cacerts: ca.pem
    client_cert: /etc/cert.pem
    client_key: file:key.pem
    client_key_password: password.txt
---
kind: io.statefun.endpoints.v2/http
spec:
  functions: example/b
  urlPathTemplate: http://example.com/b
  transport:
    timeouts: {call: 1min, connect: 10sec}
---
kind: io.statefun.endpoints.v1/http
spec:
  functions: example/c
  urlPathTemplate: http://example.com/c
  timeouts: {call: 9s, connect: 8s, read: 7s, write: 6s}
",
    )
    .unwrap();
    let adapters: Vec<_> = application
        .endpoints
        .iter()
        .map(|endpoint| match &endpoint.adapter {
            EndpointAdapter::Http(http) => http.clone(),
            other => panic!("not HTTP: {other:?}"),
        })
        .collect();
    let a = HttpEndpoint {
        url_template: "https://example.com/a".to_owned(),
        call: Duration::from_secs(180),
        connect: Duration::from_secs(4),
        read: None,
        pool_idle: Duration::from_secs(5),
        pool_size: 6,
        payload_max_bytes: 700,
        tls: Tls {
            trust_cacerts: Some(PathBuf::from("app/ca.pem")),
            client: Some(ClientCertificate {
                certificate: PathBuf::from("/etc/cert.pem"),
                key: PathBuf::from("app/key.pem"),
                password: Some(PathBuf::from("app/password.txt")),
            }),
        },
        auth: None,
    };
    let b = HttpEndpoint {
        url_template: "http://example.com/b".to_owned(),
        call: Duration::from_secs(60),
        connect: Duration::from_secs(10),
        ..ASYNC
    };
    let c = HttpEndpoint {
        url_template: "http://example.com/c".to_owned(),
        call: Duration::from_secs(9),
        connect: Duration::from_secs(8),
        read: Some(Duration::from_secs(7)),
        ..ASYNC
    };
    assert_eq!(adapters, vec![a, b, c]);
    let first = &application.endpoints[0].engine;
    assert_eq!((first.batch_messages_max, first.concurrency_max), (10, 6));
}

#[test]
fn an_http_endpoint_is_shown_without_its_query() {
    for (url, place) in [
        (
            "https://host:8443/@f/{function.name}?code=hunter2",
            "https://host:8443/@f/{function.name}",
        ),
        ("http://host?code=hunter2", "http://host"),
        ("http://host/f#hunter2", "http://host/f"),
        (
            "http+unix:///run/f.sock/{function.name}?code=hunter2",
            "http+unix:///run/f.sock/{function.name}",
        ),
    ] {
        let application = parse(&format!(
            "kind: io.statefun.endpoints.v2/http
spec: {{functions: a/*, urlPathTemplate: \"{url}\"}}
"
        ))
        .unwrap();
        let EndpointAdapter::Http(http) = &application.endpoints[0].adapter else {
            panic!("an HTTP endpoint was written");
        };
        assert_eq!((http.url_template.as_str(), http.place()), (url, place));
        assert_eq!(application.summary(), [format!("functions a/* on {place}")]);
    }
}

#[test]
fn the_single_root_of_statefun_3_0_gives_the_same_as_its_documents_of_today() {
    let legacy = r#"
version: "3.0"
module:
  meta: {type: remote}
  spec:
    endpoints:
      - endpoint:
          meta: {kind: http}
          spec:
            functions: example/*
            urlPathTemplate: http://localhost:8000/statefun
            timeouts: {call: 2min}
    ingresses:
      - ingress:
          meta: {type: io.statefun.kinesis/ingress, id: example/names}
          spec:
            startupPosition: {type: earliest}
            streams: [{stream: names, valueType: example/name, targets: [example/greeter]}]
    egresses:
      - egress:
          meta: {type: io.statefun.kinesis/egress, id: example/greetings}
          spec: {awsRegion: {type: default}}
"#;
    let today = r#"
kind: io.statefun.endpoints.v1/http
spec:
  functions: example/*
  urlPathTemplate: http://localhost:8000/statefun
  timeouts: {call: 2min}
---
kind: io.statefun.kinesis.v1/ingress
spec:
  id: example/names
  startupPosition: {type: earliest}
  streams: [{stream: names, valueType: example/name, targets: [example/greeter]}]
---
kind: io.statefun.kinesis.v1/egress
spec:
  id: example/greetings
  awsRegion: {type: default}
"#;
    assert_eq!(
        without_lines(parse(legacy).unwrap()),
        without_lines(parse(today).unwrap())
    );
}

fn without_lines(mut application: Application) -> Application {
    for endpoint in &mut application.endpoints {
        endpoint.source.line = 0;
    }
    for ingress in &mut application.ingresses {
        ingress.source.line = 0;
        if let IngressAdapter::Kinesis(kinesis) = &mut ingress.adapter {
            for stream in &mut kinesis.streams {
                stream.source.line = 0;
            }
        }
    }
    for egress in &mut application.egresses {
        egress.source.line = 0;
    }
    application
}

#[test]
fn a_directory_stands_for_its_module_files_and_each_is_read_once() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, function: &str| {
        let text = format!(
            "kind: satchel.endpoints.v1/lambda\n\
             spec: {{functions: example/{function}, functionName: {function}}}\n"
        );
        std::fs::write(directory.path().join(name), text).unwrap();
    };
    write("module.yaml", "a");
    write("b.module.yaml", "b");
    write("other.yaml", "c");
    let paths = [
        directory.path().to_owned(),
        directory.path().join("module.yaml"),
    ];
    let application = Application::load(&paths, &|_| None).unwrap();
    let read: Vec<_> = application
        .endpoints
        .iter()
        .map(|endpoint| {
            (
                endpoint.engine.functions.clone(),
                endpoint.source.directory(),
            )
        })
        .collect();
    let pattern = |name| vec![FunctionPattern::One(function(name))];
    assert_eq!(
        read,
        vec![
            (pattern("example/b"), directory.path().to_owned()),
            (pattern("example/a"), directory.path().to_owned()),
        ]
    );
}

fn warnings(text: &str) -> Vec<String> {
    let application = parse(text).unwrap_or_else(|problems| panic!("{problems}"));
    let warnings = application.warnings.iter();
    warnings.map(ToString::to_string).collect()
}

#[test]
fn what_has_no_effect_is_accepted_with_a_warning() {
    let found = warnings(
        r#"kind: io.statefun.endpoints.v2/http
spec:
  functions: example/*
  urlPathTemplate: https://bar.foo.com:8080/{function.name}
  transport:
    maxNumBatchRequests: 500
    timeouts:
      call: 1 min
      read: 10 sec
      write: 10 sec
---
kind: io.statefun.endpoints.v1/http
spec:
  functions: com.example/*
  urlPathTemplate: https://bar.foo.com:8080/{function.name}
  timeouts:
    call: 1 min
    read: 10 sec
    write: 10 sec
---
kind: io.statefun.kinesis.v1/ingress
spec:
  id: example/orders
  awsCredentials: {type: profile, profile: default}
  startupPosition: {type: at-timestamp, timestamp: "2026-04-23T00:00:00.000Z"}
  streams:
    - stream: orders
      streamArn: arn:aws:kinesis:us-east-1:123456789012:stream/orders
      valueType: example/Order
      targets: [example/orders]
---
kind: io.statefun.kinesis.v1/egress
spec:
  id: example/notifications
  streamName: notifications
"#,
    );
    assert_eq!(
        found,
        [
            "app/module.yaml:6: 'maxNumBatchRequests' of transport has no effect: StateFun ignores \
             it in a transport; write it beside 'transport'",
            "app/module.yaml:9: 'read' of timeouts has no effect: the asynchronous transport \
             bounds the whole request by 'call'",
            "app/module.yaml:10: 'write' of timeouts has no effect: the asynchronous transport \
             bounds the whole request by 'call'",
            "app/module.yaml:19: 'write' of timeouts has no effect: the sending of a request is \
             bounded by 'call'",
            "app/module.yaml:28: 'streamArn' of an element of streams has no effect: the stream is \
             found by its name, in the region of 'awsRegion'",
            "app/module.yaml:35: 'streamName' of io.statefun.kinesis.v1/egress has no effect: each \
             record names its stream",
        ]
    );
}

#[test]
fn files_of_tls_are_paths_with_or_without_the_prefix_of_java() {
    let read = |path: &str| {
        let application = parse(&format!(
            "kind: io.statefun.endpoints.v2/http\nspec:\n  functions: example/*\n  \
             urlPathTemplate: https+unix:///run/f.sock/statefun\n  transport:\n    \
             pool_ttl: 0\n    \
             trust_cacerts: {path}\n"
        ));
        match &application.unwrap().endpoints[0].adapter {
            EndpointAdapter::Http(http) => {
                assert_eq!(http.pool_idle, Duration::ZERO);
                http.tls.trust_cacerts.clone().unwrap()
            }
            other => panic!("not HTTP: {other:?}"),
        }
    };
    assert_eq!(read("ca.pem"), PathBuf::from("app/ca.pem"));
    assert_eq!(read("file:ca.pem"), PathBuf::from("app/ca.pem"));
    assert_eq!(read("file:/etc/ca.pem"), PathBuf::from("/etc/ca.pem"));
    assert_eq!(read("file:///etc/ca.pem"), PathBuf::from("/etc/ca.pem"));
    let home = std::env::home_dir().unwrap();
    assert_eq!(read("~/ca.pem"), home.join("ca.pem"));
}

#[test]
fn the_endpoint_and_region_of_flinks_connectors_are_those_of_the_service() {
    let region = |fields: &str| {
        let application = parse(&format!(
            "kind: io.statefun.kinesis.v1/egress\nspec:\n  id: example/out\n{fields}"
        ));
        match &application.unwrap().egresses[0].adapter {
            EgressAdapter::Kinesis(kinesis) => kinesis.access.region.clone(),
            other => panic!("not Kinesis: {other:?}"),
        }
    };
    let custom = |region: &str| AwsRegion::CustomEndpoint {
        endpoint: "http://localhost:4567".to_owned(),
        region: region.to_owned(),
    };
    let endpoint = "  clientConfigProperties:\n    - aws.endpoint: http://localhost:4567\n";
    let with_region = format!("{endpoint}    - aws.region: eu-west-1\n");
    assert_eq!(region(&with_region), custom("eu-west-1"));
    let specific = format!("  awsRegion: {{type: specific, id: us-west-2}}\n{endpoint}");
    assert_eq!(region(&specific), custom("us-west-2"));
    let alone = "  clientConfigProperties: [aws.region: eu-west-1]\n";
    assert_eq!(region(alone), AwsRegion::Specific("eu-west-1".to_owned()));
}
