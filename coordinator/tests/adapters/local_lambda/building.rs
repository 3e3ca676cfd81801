//! Handlers that cargo builds.

use satchel::dev::lambda::{StartError, cargo_build::BuildError};

use super::*;

/// A handler without dependencies, so that its build needs no network and takes a second.
const MAIN: &str = r#"
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

fn call(api: &str, request: String) -> (String, String) {
    let mut stream = TcpStream::connect(api).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let (mut id, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim().to_lowercase();
        if line.is_empty() { break }
        if let Some(value) = line.strip_prefix("lambda-runtime-aws-request-id: ") {
            id = value.to_owned();
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (id, String::from_utf8(body).unwrap())
}

fn main() {
    let api = std::env::var("AWS_LAMBDA_RUNTIME_API").unwrap();
    loop {
        let invocation = "/2018-06-01/runtime/invocation";
        let next = format!("GET {invocation}/next HTTP/1.1\r\nhost: {api}\r\n\r\n");
        let (id, _) = call(&api, next);
        let body = "\"version one\"";
        let length = body.len();
        let head = format!("POST {invocation}/{id}/response HTTP/1.1\r\nhost: {api}\r\n");
        call(&api, format!("{head}content-length: {length}\r\n\r\n{body}"));
    }
}
"#;

fn package() -> Fixture {
    let fixture = Fixture::new();
    std::fs::create_dir_all(fixture.path("src")).unwrap();
    let manifest = "[package]
name = \"tiny\"
edition = \"2021\"
[[bin]]
name = \"greeter\"
path = \"src/main.rs\"
[workspace]
";
    std::fs::write(fixture.path("Cargo.toml"), manifest).unwrap();
    std::fs::write(fixture.path("src/main.rs"), MAIN).unwrap();
    fixture
}

fn cargo(bin: &str) -> Program {
    Program::Cargo {
        bin: bin.into(),
        release: false,
    }
}

#[tokio::test]
async fn a_handler_is_built_and_rebuilt_when_its_source_changes() {
    let fixture = package();
    let lambda = LocalLambda::start(FunctionSpec {
        watch: true,
        ..fixture.spec(cargo("greeter"))
    })
    .await
    .unwrap();
    assert_eq!(invoke(&lambda, json!({})).await, Ok(json!("version one")));
    fixture.shows("greeter build | ").await;

    // A broken build leaves the running handlers alone and is reported.
    std::fs::write(fixture.path("src/main.rs"), "fn main() { mistake }").unwrap();
    fixture
        .shows("greeter | build failed; the current handlers keep running")
        .await;
    fixture.shows("cannot find value `mistake`").await;
    assert_eq!(invoke(&lambda, json!({})).await, Ok(json!("version one")));

    std::fs::write(
        fixture.path("src/main.rs"),
        MAIN.replace("version one", "version two"),
    )
    .unwrap();
    fixture.shows("greeter | a source has changed").await;
    assert_eq!(invoke(&lambda, json!({})).await, Ok(json!("version two")));
    lambda.shutdown().await;
}

#[tokio::test]
async fn a_failed_build_is_reported_with_the_compilers_errors() {
    let fixture = package();
    std::fs::write(fixture.path("src/main.rs"), "fn main() { mistake }").unwrap();
    let error = LocalLambda::start(fixture.spec(cargo("greeter")))
        .await
        .unwrap_err();
    assert!(
        matches!(
            &error,
            StartError::Build {
                source: BuildError::Failed { .. },
                ..
            }
        ),
        "{error:?}"
    );
    assert!(
        error
            .to_string()
            .starts_with("function `greeter`: building `greeter` in "),
        "{error}"
    );
    fixture.shows("greeter build | error[E0425]").await;
}

#[tokio::test]
async fn a_missing_binary_is_named_with_a_remedy() {
    let fixture = package();
    let error = LocalLambda::start(fixture.spec(cargo("greter")))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "function `greeter`: there is no binary `greter` to build in {}: \
             give the function the name of its binary, \
             or name the command of the handler with `dev: {{command: […]}}`",
            fixture.dir.path().display()
        )
    );
}
