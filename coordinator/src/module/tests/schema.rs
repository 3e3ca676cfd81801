//! The JSON Schema and the reference: current, and of one mind with the parser.
//!
//! The checker below knows the keywords that the schema uses and panics at any other. It replaces a
//! library for JSON Schema, whose dependencies would cost more build time than all of these tests.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proptest::prelude::*;
use regex_lite::Regex;
use serde_json::{Value, json};

use super::tables::COMPLETE;
use super::{parse, problems};
use crate::module::document::{KINDS, LEGACY};
use crate::module::table::{Field, Form, Format};
use crate::module::yaml::{self, Node};
use crate::module::{reference, schema, yaml::Value as Yaml};

static SCHEMA: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(&schema()).unwrap());

/// Asserts that the schema accepts every document of `text`.
pub(super) fn assert_accepted(text: &str) {
    for document in yaml::parse(text).unwrap() {
        for numbers in [true, false] {
            let value = json_of(&document, numbers);
            let checked = check(&SCHEMA, &value, "");
            assert_eq!(checked, Ok(()), "{value:#}");
        }
    }
}

/// Asserts that the schema refuses a document of `text`; `numbers` is that of [`json_of`].
fn assert_refused(text: &str, numbers: bool) {
    let documents = yaml::parse(text).unwrap();
    let refused = documents.iter().any(|document| {
        let value = json_of(document, numbers);
        check(&SCHEMA, &value, "").is_err()
    });
    assert!(refused, "{text}");
}

/// The document as an editor sees it. Nodes do not say whether a scalar was quoted; `numbers` takes
/// the scalars that could be numbers or truth values as such.
fn json_of(node: &Node, numbers: bool) -> Value {
    match &node.value {
        Yaml::Null => Value::Null,
        Yaml::Unresolved => panic!("placeholders are not resolved here"),
        Yaml::Text(text) if numbers => match serde_json::from_str(text) {
            Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
            _ => json!(text),
        },
        Yaml::Text(text) => json!(text),
        Yaml::List(items) => items.iter().map(|item| json_of(item, numbers)).collect(),
        Yaml::Map(entries) => {
            let entries = entries.iter();
            let entries = entries.map(|it| (it.key.clone(), json_of(&it.value, numbers)));
            Value::Object(entries.collect())
        }
    }
}

/// Checks `value` against `schema`; an error names the place.
fn check(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let keywords = schema.as_object().unwrap();
    for (keyword, argument) in keywords {
        let holds = match keyword.as_str() {
            "$schema"
            | "title"
            | "description"
            | "default"
            | "definitions"
            | "doNotSuggest"
            | "patternErrorMessage"
            | "then"
            | "else" => true,
            "$ref" => {
                let pointer = argument.as_str().unwrap().strip_prefix('#').unwrap();
                return check(SCHEMA.pointer(pointer).unwrap(), value, at);
            }
            "allOf" => {
                for schema in argument.as_array().unwrap() {
                    check(schema, value, at)?;
                }
                true
            }
            "anyOf" => {
                let mut schemas = argument.as_array().unwrap().iter();
                schemas.any(|schema| check(schema, value, at).is_ok())
            }
            "not" => check(argument, value, at).is_err(),
            "if" => {
                let branch = match check(argument, value, at) {
                    Ok(()) => "then",
                    Err(_) => "else",
                };
                if let Some(schema) = keywords.get(branch) {
                    check(schema, value, at)?;
                }
                true
            }
            "const" => argument == value,
            "type" => has_type(argument, value),
            _ => check_by_type(keywords, keyword, argument, value, at)?,
        };
        if !holds {
            return Err(format!(
                "{at}: {keyword} {argument} does not hold for {value}"
            ));
        }
    }
    Ok(())
}

/// Checks the keywords that apply to values of one type only.
fn check_by_type(
    keywords: &serde_json::Map<String, Value>,
    keyword: &str,
    argument: &Value,
    value: &Value,
    at: &str,
) -> Result<bool, String> {
    let limit = || argument.as_u64().unwrap();
    Ok(match (keyword, value) {
        ("required", Value::Object(map)) => {
            let mut names = argument.as_array().unwrap().iter();
            names.all(|name| map.contains_key(name.as_str().unwrap()))
        }
        ("properties", Value::Object(map)) => {
            for (name, schema) in argument.as_object().unwrap() {
                if let Some(value) = map.get(name) {
                    check(schema, value, &format!("{at}.{name}"))?;
                }
            }
            true
        }
        ("additionalProperties", Value::Object(map)) => {
            let known = keywords.get("properties").and_then(Value::as_object);
            let is_known = |name: &String| known.is_some_and(|known| known.contains_key(name));
            for (name, value) in map.iter().filter(|(name, _)| !is_known(name)) {
                match argument {
                    Value::Bool(false) => return Err(format!("{at}: unknown {name}")),
                    schema => check(schema, value, &format!("{at}.{name}"))?,
                }
            }
            true
        }
        ("propertyNames", Value::Object(map)) => {
            for name in map.keys() {
                check(argument, &json!(name), at)?;
            }
            true
        }
        ("minProperties", Value::Object(map)) => map.len() as u64 >= limit(),
        ("maxProperties", Value::Object(map)) => map.len() as u64 <= limit(),
        ("items", Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                check(argument, item, &format!("{at}[{index}]"))?;
            }
            true
        }
        ("minItems", Value::Array(items)) => items.len() as u64 >= limit(),
        ("maxItems", Value::Array(items)) => items.len() as u64 <= limit(),
        ("minLength", Value::String(text)) => text.chars().count() as u64 >= limit(),
        ("pattern", Value::String(text)) => Regex::new(argument.as_str().unwrap())
            .unwrap()
            .is_match(text),
        ("minimum", Value::Number(number)) => number.as_f64() >= argument.as_f64(),
        ("maximum", Value::Number(number)) => number.as_f64() <= argument.as_f64(),
        (
            "required"
            | "properties"
            | "additionalProperties"
            | "propertyNames"
            | "minProperties"
            | "maxProperties"
            | "items"
            | "minItems"
            | "maxItems"
            | "minLength"
            | "pattern"
            | "minimum"
            | "maximum",
            _,
        ) => true,
        (keyword, _) => panic!("the checker does not know the keyword {keyword}"),
    })
}

fn has_type(types: &Value, value: &Value) -> bool {
    match types {
        Value::Array(types) => types.iter().any(|one| has_type(one, value)),
        one => match one.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "number" => value.is_number(),
            "integer" => value.is_u64() || value.is_i64(),
            other => panic!("the checker does not know the type {other}"),
        },
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_committed_schema_is_current() {
    let file = repository().join("coordinator/docs/module.schema.json");
    let committed: Value = serde_json::from_str(&read(&file)).unwrap();
    assert!(
        committed == *SCHEMA,
        "run `satchel schema > {}`",
        file.display()
    );
}

#[test]
fn the_committed_reference_is_current() {
    let file = repository().join("coordinator/docs/module-files.md");
    assert!(
        read(&file) == reference(),
        "run `satchel schema --format markdown > {}`",
        file.display()
    );
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[test]
fn every_module_file_of_the_repository_is_accepted_and_the_examples_name_the_schema() {
    assert_accepted(COMPLETE);
    assert_accepted(&read(
        &repository().join("coordinator/tests/dev/statefun_python/module.yaml"),
    ));
    for kind in KINDS {
        assert_accepted(kind.example);
    }
    let mut examples = 0;
    for directory in std::fs::read_dir(repository().join("examples")).unwrap() {
        let text = read(&directory.unwrap().path().join("module.yaml"));
        let first = "# yaml-language-server: $schema=../../coordinator/docs/module.schema.json\n";
        assert!(text.starts_with(first), "{text}");
        assert_accepted(&text);
        examples += 1;
    }
    assert!(examples >= 3, "{examples}");
}

#[test]
fn the_schema_refuses_what_the_parser_refuses_within_a_document() {
    let lambda = "kind: satchel.endpoints.v1/lambda\nspec: {functions: a/*, functionName: a";
    let kinesis = "kind: io.statefun.kinesis.v1/ingress\nspec: {id: a/in, streams: [{stream: s";
    let http = "kind: io.statefun.endpoints.v2/http\nspec: {functions: a/*, urlPathTemplate: ";
    for broken in [
        "kind: satchel.endpoints.v1/lamda\nspec: {}".to_owned(),
        "kind: satchel.endpoints.v1/lambda".to_owned(),
        "kind: satchel.endpoints.v1/lambda\nspec: {functions: a/*}".to_owned(),
        "spec: {functions: a/*, functionName: a}".to_owned(),
        "[kind, spec]".to_owned(),
        format!("{lambda}}}\nmore: 1"),
        format!("{lambda}, colour: red}}"),
        format!("{lambda}, maxConcurrency: many}}"),
        format!("{lambda}, maxConcurrency: 0}}"),
        format!("{lambda}, maxConcurrency: 100001}}"),
        format!("{lambda}, maxLinger: 1001}}"),
        format!("{http}http://host/, maxLinger: 0}}"),
        format!("{lambda}, maxBundleBytes: 5 boxes}}"),
        format!("{lambda}, timeout: 30 parsecs}}"),
        format!("{lambda}, timeout: 900001}}"),
        format!("{lambda}, onPoison: ignore}}"),
        format!("{lambda}, retries: 3}}"),
        format!("{lambda}, retries: {{backoff: {{initial: 1s, least: 1s}}}}}}"),
        format!("{lambda}, dev: {{command: []}}}}"),
        format!("{lambda}, qualifier: [live]}}"),
        format!("{lambda}, awsRegion: {{}}}}"),
        format!("{lambda}, awsRegion: {{type: specific}}}}"),
        format!("{lambda}, awsRegion: {{type: default, id: eu-central-1}}}}"),
        format!("{lambda}, awsRegion: {{type: custom-endpoint, endpoint: here, id: a}}}}"),
        format!("{lambda}, awsCredentials: {{type: basic, accessKeyId: a}}}}"),
        "kind: satchel.endpoints.v1/lambda\nspec: {functions: [], functionName: a}".to_owned(),
        "kind: satchel.endpoints.v1/lambda\nspec: {functions: a, functionName: a}".to_owned(),
        format!("{http}ftp://host/}}"),
        format!("{http}http://host/, transport: {{type: carrier-pigeon}}}}"),
        format!("{http}http://host/, transport: {{read: 1s}}}}"),
        format!("{http}http://host/, transport: {{pool_ttl: soon}}}}"),
        format!("{kinesis}, valueType: a, targets: [a/b]}}]}}"),
        format!("{kinesis}, valueType: a/b, targets: [a/*]}}]}}"),
        format!("{kinesis}, valueType: a/b, targets: a/b}}]}}"),
        format!("{kinesis}, valueType: a/b, targets: [a/b], id: customer}}]}}"),
        format!("{kinesis}, valueType: a/b, router: {{id: main}}}}]}}"),
        "kind: io.statefun.kinesis.v1/ingress\nspec: {id: a/in, streams: []}".to_owned(),
        "kind: io.statefun.kinesis.v1/egress\nspec: {id: out}".to_owned(),
    ] {
        assert!(!problems(&broken).is_empty());
        assert_refused(&broken, true);
    }
    let legacy = "version: \"3.1\"\nmodule: {meta: {type: remote}, spec: {}}";
    assert!(!problems(legacy).is_empty());
    assert_refused(legacy, false);
    assert!(parse(&format!("{lambda}, timeout: 900000}}")).is_ok());
}

/// Lists the formats of all tables.
fn formats() -> Vec<&'static Format> {
    fn of_form(form: &'static Form, found: &mut Vec<&'static Format>) {
        match form {
            Form::Format(format) => found.push(format),
            Form::List(form, _) | Form::OneOrMore(form) => of_form(form, found),
            Form::Mapping(fields) => of_fields(fields, found),
            Form::Pairs(pairs) => {
                found.extend(pairs.key);
                of_form(&pairs.value, found);
            }
            Form::Tagged(tagged) => {
                for variant in tagged.variants {
                    of_fields(variant.fields, found);
                }
            }
            _ => {}
        }
    }
    fn of_fields(fields: &'static [Field], found: &mut Vec<&'static Format>) {
        for field in fields {
            of_form(&field.form, found);
        }
    }
    let mut found = Vec::new();
    for kind in KINDS {
        of_fields(kind.fields, &mut found);
    }
    of_fields(LEGACY, &mut found);
    found
}

/// Pieces of the texts that formats accept.
fn piece() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "a",
        "/",
        "/*",
        "*",
        "1",
        "3.0",
        ":",
        ".",
        "-",
        " ",
        "~0",
        "~",
        "key",
        "$id",
        "$typename",
        "$egress",
        "$messageId",
        "$messageGroupId",
        "$attribute:",
        "arn:",
        "aws:",
        "sns:",
        ":role/",
        "http://",
        "https://",
        "http+unix://",
        "HTTP://",
        "host",
        "f.sock",
        "remote",
        "Remote",
        "2026-02-01 ",
        "04:15:00.000 ",
        "Z",
        "+0100",
        "http",
        "satchel.sqs.v1/ingress",
    ]);
    prop_oneof![8 => known.prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)]
}

#[test]
fn a_pattern_matches_brokers_with_blanks_around_them_and_zeros_before_ports() {
    let formats = formats();
    let brokers = formats.iter().find(|it| it.name == "list of `host:port`");
    let brokers = brokers.unwrap();
    let pattern = Regex::new(&format!("^({})$", brokers.pattern)).unwrap();
    for text in ["a:1 ", " a:1", "a:1 , b:2 ", "a:000001"] {
        assert_eq!((brokers.check)(text), Ok(()), "{text:?}");
        assert!(pattern.is_match(text), "{text:?}");
    }
    for text in ["a:1\u{2003}", "a:1,", "a b:1", "a:"] {
        assert!((brokers.check)(text).is_err(), "{text:?}");
        assert!(!pattern.is_match(text), "{text:?}");
    }
}

proptest! {
    #[test]
    fn a_pattern_matches_whatever_the_parser_accepts(
        pieces in prop::collection::vec(piece(), 1..6)
    ) {
        let text = pieces.concat();
        for format in formats() {
            if (format.check)(&text).is_ok() {
                let pattern = Regex::new(&format!("^({})$", format.pattern)).unwrap();
                prop_assert!(pattern.is_match(&text), "{}: {text:?}", format.name);
            }
        }
    }
}
