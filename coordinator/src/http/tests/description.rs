//! The description of the administration port (`docs/openapi.json`) and its routes agree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use regex_lite::Regex;
use serde_json::Value;

use super::*;

const METHODS: [&str; 4] = ["DELETE", "GET", "POST", "PUT"];

/// Files of this module whose routes belong to other ports.
const OTHER_PORTS: [&str; 2] = ["playground.rs", "traffic.rs"];

/// Routes of `satchel run` alone, which other modules add to the port.
const OF_RUN: [&str; 2] = ["/lease", "/readyz/traffic"];

/// Routes with a wish in their path, and the wishes.
const WISHES: [(&str, &[&str]); 2] = [
    (
        "/api/partitions/{partition}/{wish}",
        &["pin", "unpin", "freeze", "unfreeze"],
    ),
    ("/api/members/{process}/{wish}", &["drain", "undrain"]),
];

/// Methods by path.
type Routes = BTreeMap<String, BTreeSet<String>>;

fn description() -> Value {
    serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap()
}

fn described() -> Routes {
    let description = description();
    let paths = description["paths"].as_object().unwrap().iter();
    paths
        .map(|(path, operations)| {
            let methods = operations.as_object().unwrap().keys();
            (path.clone(), methods.map(|it| it.to_uppercase()).collect())
        })
        .collect()
}

/// Routes of this module, by its source.
fn routes() -> Routes {
    let method = Regex::new(r"\b(delete|get|post|put)\(").unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    let mut found = Routes::new();
    for folder in [&folder, &folder.join("admin"), &folder.join("components")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() || name == "tests.rs" || OTHER_PORTS.contains(&&*name) {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for call in text.split(".route(").skip(1).map(arguments) {
                let path = call.split('"').nth(1).expect("the path is a literal");
                let path = path.replace("{*", "{");
                let methods = method.captures_iter(call);
                let methods: BTreeSet<_> = methods.map(|it| it[1].to_uppercase()).collect();
                match WISHES.iter().find(|(wished, _)| *wished == path) {
                    None => drop(found.insert(path, methods)),
                    Some((_, wishes)) => {
                        let paths = wishes.iter().map(|wish| path.replace("{wish}", wish));
                        found.extend(paths.map(|path| (path, methods.clone())));
                    }
                }
            }
        }
    }
    found
}

/// Returns the arguments of a call whose opening parenthesis precedes `text`.
fn arguments(text: &str) -> &str {
    let mut depth = 1;
    let end = text.find(|char| {
        match char {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    &text[..end.expect("the call ends")]
}

#[test]
fn all_routes_are_described_and_nothing_else() {
    let mut described = described();
    described.retain(|path, _| !OF_RUN.contains(&&**path));
    assert_eq!(described, routes());
}

#[tokio::test]
async fn routes_take_the_methods_that_are_described_and_no_others() {
    let process = Process::answering(|_| Some(Answer::NotFound("it is not here".to_owned()))).await;
    let elsewhere = |path: &str| {
        let is_wish = path.starts_with("/api/partitions/") || path.starts_with("/api/members");
        is_wish || OF_RUN.contains(&path)
    };
    for (path, methods) in described() {
        if elsewhere(&path) {
            continue;
        }
        let named = path
            .replace("{file}", "app.js")
            .replace("{id}", &"0a".repeat(16))
            .replace(['{', '}'], "");
        for method in METHODS {
            let is_described = methods.contains(method);
            // Its answer does not end.
            if is_described && path == "/api/live" {
                continue;
            }
            let reply = ask(process.admin, method, &named, &[], b"1").await;
            assert_eq!(reply.status != 405, is_described, "{method} {path}");
            let is_missing = reply.status == 404 && reply.code().1 == "no_such_path";
            assert!(!is_missing, "{method} {path}");
        }
    }
    process.stop().await;
}

/// Collects what `$ref` names below a value.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                found.insert(reference.clone());
            }
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn all_parts_of_the_description_exist_and_are_used() {
    let description = description();
    let mut used = BTreeSet::new();
    references(&description, &mut used);
    let kinds = ["parameters", "responses", "schemas"].into_iter();
    let parts = kinds.flat_map(|kind| {
        let parts = description["components"][kind].as_object().unwrap().keys();
        parts
            .map(move |part| format!("#/components/{kind}/{part}"))
            .collect::<Vec<_>>()
    });
    // The events of a stream have no place for it.
    used.insert("#/components/schemas/Sample".to_owned());
    assert_eq!(used, parts.collect());
    let paths = description["paths"].as_object().unwrap().values();
    let operations = paths.flat_map(|path| path.as_object().unwrap().values());
    let ids: Vec<&str> = operations
        .map(|it| it["operationId"].as_str().unwrap())
        .collect();
    assert_eq!(
        ids.iter().collect::<BTreeSet<_>>().len(),
        ids.len(),
        "ids are unique"
    );
}

#[tokio::test]
async fn the_description_is_served() {
    let process = Process::answering(|_| None).await;
    let reply = ask(process.admin, "GET", "/api/openapi.json", &[], b"").await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.json(), description());
    process.stop().await;
}
