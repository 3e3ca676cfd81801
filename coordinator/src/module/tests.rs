//! Module files as a user writes them: what they give, and how wrong ones are refused.

mod egresses;
mod kinds;
mod queues;
mod refusals;

use std::path::Path;

use crate::module::{Application, Problems};

fn parse(text: &str) -> Result<Application, Problems> {
    Application::parse(Path::new("app/module.yaml"), text, &environment)
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

/// All problems of `text`, one line each.
fn problems(text: &str) -> Vec<String> {
    let refused = parse(text).expect_err("the module file should be refused");
    refused.iter().map(ToString::to_string).collect()
}
