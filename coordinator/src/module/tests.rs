//! Module files as users write them: their results, and the refusal of wrong ones.

mod broken;
mod egresses;
mod kafka;
mod kinds;
mod kinesis;
mod queues;
mod refusals;
mod schema;
mod tables;

use std::path::Path;
use std::sync::Arc;

use satchel_engine::address::FunctionType;

use crate::module::{Application, Identifier, Problems, Source};

fn source(line: usize) -> Source {
    Source {
        file: Arc::from(Path::new("app/module.yaml")),
        line,
    }
}

fn function(text: &str) -> FunctionType {
    text.parse().unwrap()
}

fn id(namespace: &str, name: &str) -> Identifier {
    Identifier {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

/// Parses `text`, and holds that the schema accepts whatever the parser accepts.
fn parse(text: &str) -> Result<Application, Problems> {
    let application = Application::parse(Path::new("app/module.yaml"), text, &environment);
    if application.is_ok() {
        schema::assert_accepted(text);
    }
    application
}

fn environment(name: &str) -> Option<String> {
    match name {
        "SERVICE" => Some("http://localhost:8000".to_owned()),
        "BATCH" => Some("20".to_owned()),
        "KEY" => Some("AKIA".to_owned()),
        "SECRET" => Some("s3cr3t-value".to_owned()),
        _ => None,
    }
}

/// Returns all problems of `text`, one line each.
fn problems(text: &str) -> Vec<String> {
    let refused = parse(text).expect_err("the module file should be refused");
    refused.iter().map(ToString::to_string).collect()
}
