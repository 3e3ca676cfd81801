//! The tables against the parser: every declaration is used and has its effect.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::module::document::{self, KINDS, LEGACY};
use crate::module::fields::Reading;
use crate::module::table::{Absence, Field, Form, Kind, Tagged, Variant};
use crate::module::yaml::{self, Entry, Node, Value};
use crate::module::{Application, Problems, placeholder};

/// Every field, word and variant of every kind.
pub(super) const COMPLETE: &str = include_str!("complete.yaml");

fn environment(name: &str) -> Option<String> {
    let value = match name {
        "NAME" => "third",
        "NUMBER" => "8",
        "DURATION" => "40s",
        "WORD" => "suspend",
        _ => return None,
    };
    Some(value.to_owned())
}

fn read(document: &Node) -> Result<Application, Problems> {
    let mut reading = Reading {
        file: Arc::from(Path::new("complete.yaml")),
        problems: Problems::default(),
    };
    let mut document = document.clone();
    placeholder::resolve(&mut document, &environment, &mut reading);
    let mut application = Application::default();
    document::read(&mut reading, &document, &mut application);
    application.warnings = reading.problems.take_warnings();
    reading.problems.or(application)
}

/// A field of a document, as its table declares it.
struct Occurrence {
    /// Keys and indexes from the document to the mapping that has the field.
    mapping: Vec<String>,
    field: &'static Field,
    /// Name of the declaration, the same wherever a mapping with a type is used.
    declaration: String,
}

impl Occurrence {
    /// Returns `document` with this field set to `value`, or without it.
    fn with(&self, document: &Node, value: Option<Value>) -> Node {
        let mut document = document.clone();
        let mut node = &mut document;
        for step in &self.mapping {
            node = match &mut node.value {
                Value::Map(entries) => entries
                    .iter_mut()
                    .find(|entry| entry.key == *step)
                    .map(|entry| &mut entry.value)
                    .unwrap(),
                Value::List(items) => &mut items[step.parse::<usize>().unwrap()],
                other => panic!("{step} of {other:?}"),
            };
        }
        let Value::Map(entries) = &mut node.value else {
            panic!("{} is not in a mapping", self.declaration);
        };
        let at = entries.iter().position(|it| it.key == self.field.name);
        let at = at.unwrap();
        match value {
            Some(value) => entries[at].value.value = value,
            None => drop(entries.remove(at)),
        }
        document
    }
}

/// Lists the declared fields that stand in a document.
fn occurrences(document: &Node) -> Vec<Occurrence> {
    let mut found = Vec::new();
    let kind = match document.get("kind").map(|kind| &kind.value) {
        Some(Value::Text(name)) => KINDS.into_iter().find(|kind| kind.name == name),
        _ => None,
    };
    match kind {
        Some(kind) => {
            let spec = vec!["spec".to_owned()];
            let node = document.get("spec").unwrap();
            walk(node, &spec, kind.fields, kind.name, &mut found);
        }
        None => walk(document, &[], LEGACY, "legacy", &mut found),
    }
    found
}

fn walk(
    node: &Node,
    path: &[String],
    fields: &'static [Field],
    prefix: &str,
    found: &mut Vec<Occurrence>,
) {
    for field in fields {
        let Some(value) = node.get(field.name) else {
            continue;
        };
        let declaration = format!("{prefix}.{}", field.name);
        let inside: Vec<String> = path
            .iter()
            .cloned()
            .chain([field.name.to_owned()])
            .collect();
        match (&field.form, &value.value) {
            (Form::Mapping(inner), _) => walk(value, &inside, inner, &declaration, found),
            (Form::List(Form::Mapping(inner), _), Value::List(items)) => {
                for (index, item) in items.iter().enumerate() {
                    let path = inside.iter().cloned().chain([index.to_string()]);
                    let path: Vec<String> = path.collect();
                    walk(item, &path, inner, &declaration, found);
                }
            }
            (Form::Tagged(tagged), _) => {
                let variant = variant_of(value, tagged);
                let prefix = format!("{}.{}", tagged.title, variant.word);
                walk(value, &inside, variant.fields, &prefix, found);
            }
            _ => {}
        }
        found.push(Occurrence {
            mapping: path.to_vec(),
            field,
            declaration,
        });
    }
}

fn variant_of(node: &Node, tagged: &Tagged) -> &'static Variant {
    let word = match node.get("type").map(|node| &node.value) {
        Some(Value::Text(word)) => word,
        _ => tagged.untagged.unwrap(),
    };
    tagged.variant(word).unwrap()
}

/// Lists the declarations of a table that a document can use.
fn declarations(fields: &'static [Field], prefix: &str, found: &mut BTreeSet<String>) {
    for field in fields {
        let declaration = format!("{prefix}.{}", field.name);
        match field.form {
            Form::Mapping(inner) | Form::List(&Form::Mapping(inner), _) => {
                declarations(inner, &declaration, found);
            }
            Form::Tagged(tagged) => {
                for variant in tagged.variants {
                    let prefix = format!("{}.{}", tagged.title, variant.word);
                    found.insert(prefix.clone());
                    declarations(variant.fields, &prefix, found);
                }
            }
            Form::Choice(words) => {
                found.extend(words.iter().map(|it| format!("{declaration}={}", it.word)));
            }
            _ => {}
        }
        found.insert(declaration);
    }
}

fn all_declarations() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for kind in KINDS {
        declarations(kind.fields, kind.name, &mut all);
    }
    declarations(LEGACY, "legacy", &mut all);
    all
}

/// The documents of `complete.yaml`, with what stands in each of them.
fn complete() -> Vec<(Node, Vec<Occurrence>)> {
    let documents = yaml::parse(COMPLETE).unwrap().into_iter();
    documents
        .map(|document| {
            let found = occurrences(&document);
            (document, found)
        })
        .collect()
}

#[test]
fn the_complete_file_is_accepted_and_uses_every_declaration() {
    let mut used = BTreeSet::new();
    for (document, found) in complete() {
        read(&document).unwrap_or_else(|problems| panic!("{problems}"));
        for one in found {
            let value = value_of(&document, &one);
            match (one.field.form, &value.value) {
                (Form::Choice(_), Value::Text(word)) => {
                    used.insert(format!("{}={word}", one.declaration));
                }
                (Form::Tagged(tagged), _) => {
                    let word = variant_of(value, tagged).word;
                    used.insert(format!("{}.{word}", tagged.title));
                }
                _ => {}
            }
            used.insert(one.declaration);
        }
    }
    used.retain(|declaration| !declaration.ends_with("=${WORD}"));
    assert_eq!(used, all_declarations());
}

fn value_of<'a>(document: &'a Node, one: &Occurrence) -> &'a Node {
    let mut node = document;
    for step in &one.mapping {
        node = match &node.value {
            Value::List(items) => &items[step.parse::<usize>().unwrap()],
            _ => node.get(step).unwrap(),
        };
    }
    node.get(one.field.name).unwrap()
}

#[test]
fn every_optional_field_has_an_effect_and_no_required_one_may_be_absent() {
    let mut idle = BTreeSet::new();
    let mut effective = BTreeSet::new();
    for (document, found) in complete() {
        let before = read(&document);
        for one in found {
            let after = read(&one.with(&document, None));
            match one.field.absence {
                Absence::Required => assert!(after.is_err(), "{}", one.declaration),
                _ if after == before => drop(idle.insert(one.declaration)),
                _ => drop(effective.insert(one.declaration)),
            }
        }
    }
    let idle: Vec<&String> = idle.difference(&effective).collect();
    assert!(idle.is_empty(), "without effect: {idle:#?}");
}

#[test]
fn every_declared_default_is_what_an_absent_field_means() {
    for (document, found) in complete() {
        for one in found {
            let Absence::Default(default) = one.field.absence else {
                continue;
            };
            let value = match one.field.form {
                Form::Tagged(_) => tagged_value(default),
                _ => Value::Text(default.to_owned()),
            };
            let written = read(&one.with(&document, Some(value)));
            let absent = read(&one.with(&document, None));
            assert_eq!(written, absent, "{}", one.declaration);
            assert!(absent.is_ok(), "{}: {absent:?}", one.declaration);
        }
    }
}

#[test]
fn no_two_words_of_a_field_mean_the_same() {
    for (document, found) in complete() {
        for one in found {
            let values: Vec<Value> = match one.field.form {
                Form::Choice(words) => {
                    let words = words.iter().map(|word| word.word.to_owned());
                    words.map(Value::Text).collect()
                }
                // The fields of the other variants have effects of their own.
                Form::Tagged(tagged) => {
                    let variants = tagged.variants.iter().filter(|it| it.fields.is_empty());
                    variants.map(|it| tagged_value(it.word)).collect()
                }
                _ => continue,
            };
            let results = values.into_iter().map(|value| {
                let read = read(&one.with(&document, Some(value)));
                read.unwrap_or_else(|problems| panic!("{}: {problems}", one.declaration))
            });
            let results: Vec<Application> = results.collect();
            for (index, result) in results.iter().enumerate() {
                assert!(!results[..index].contains(result), "{}", one.declaration);
            }
        }
    }
}

fn tagged_value(word: &str) -> Value {
    Value::Map(vec![Entry {
        key: "type".to_owned(),
        line: 1,
        value: Node {
            line: 1,
            value: Value::Text(word.to_owned()),
        },
    }])
}

#[test]
fn the_example_of_every_kind_is_accepted() {
    for kind in KINDS {
        let Kind { name, example, .. } = kind;
        let documents = yaml::parse(example).unwrap();
        assert_eq!(documents.len(), 1, "{name}");
        assert!(example.starts_with(&format!("kind: {name}\n")), "{name}");
        let read = read(&documents[0]);
        assert!(read.is_ok(), "{name}: {read:?}");
    }
}
