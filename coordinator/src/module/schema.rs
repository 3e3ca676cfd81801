//! JSON Schema of module files, for editors.
//!
//! Draft 7, which yaml-language-server understands best. The schema accepts every document that
//! the parser accepts, except `null` in place of an absent field. It refuses less than the parser,
//! which also sees contradictions between fields and between documents.

use serde_json::{Map, Value, json};

use crate::module::document::{DOCUMENT, KINDS, LEGACY};
use crate::module::duration::{bytes_pattern, duration_pattern};
use crate::module::table::{Absence, Field, Form, Format, Kind, Tagged, Word};

/// Matches a text that contains a placeholder, whose value the schema cannot know.
const PLACEHOLDER: &str = r"\$\{";

/// Returns the JSON Schema (draft 7) of one document of a module file, as JSON text.
pub fn schema() -> String {
    let mut definitions = Definitions::default();
    definitions.add("document", document);
    for kind in KINDS {
        definitions.add(&definition_of(kind), |definitions| {
            let mut schema = mapping(kind.fields, definitions);
            schema["description"] = json!(kind.summary);
            schema
        });
    }
    definitions.add("statefun-3.0", |definitions| mapping(LEGACY, definitions));
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Satchel module file",
        "description": "One document of a module file of Satchel.",
        "if": {"anyOf": [{"required": ["version"]}, {"required": ["module"]}]},
        "then": {"$ref": "#/definitions/statefun-3.0"},
        "else": {"$ref": "#/definitions/document"},
        "definitions": definitions.0,
    });
    format!("{schema:#}\n")
}

/// Schemas that others refer to, by name.
#[derive(Default)]
struct Definitions(Map<String, Value>);

impl Definitions {
    /// Makes a schema, unless it is there, and returns a reference to it.
    fn add(&mut self, name: &str, make: impl FnOnce(&mut Self) -> Value) -> Value {
        if !self.0.contains_key(name) {
            let schema = make(self);
            self.0.insert(name.to_owned(), schema);
        }
        json!({"$ref": format!("#/definitions/{name}")})
    }
}

fn definition_of(kind: &Kind) -> String {
    kind.name.replace('/', "-")
}

fn document(definitions: &mut Definitions) -> Value {
    let mut schema = mapping(DOCUMENT, definitions);
    let words: Vec<(&str, &str)> = KINDS.iter().map(|kind| (kind.name, kind.summary)).collect();
    schema["properties"]["kind"] = choice(&words);
    schema["properties"]["kind"]["description"] = json!("Kind of the document.");
    let of_kind = |kind: &&Kind| {
        let spec = format!("#/definitions/{}", definition_of(kind));
        json!({
            "if": {"properties": {"kind": {"const": kind.name}}, "required": ["kind"]},
            "then": {"properties": {"spec": {"$ref": spec}}},
        })
    };
    schema["allOf"] = KINDS.iter().map(of_kind).collect();
    schema
}

fn mapping(fields: &[Field], definitions: &mut Definitions) -> Value {
    let required: Vec<&str> = fields
        .iter()
        .filter(|field| matches!(field.absence, Absence::Required))
        .map(|field| field.name)
        .collect();
    let mut properties = Map::new();
    for field in fields {
        properties.insert(field.name.to_owned(), property(field, definitions));
    }
    let mut schema = json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn property(field: &Field, definitions: &mut Definitions) -> Value {
    let mut schema = values(&field.form, definitions);
    let mut description = field.meaning.to_owned();
    match field.absence {
        Absence::Required => {}
        Absence::Default(default) => schema["default"] = default_value(&field.form, default),
        Absence::Means(absent) => description.push_str(&format!(" If absent: {absent}.")),
    }
    schema["description"] = json!(description);
    schema
}

/// A default as an editor would insert it.
fn default_value(form: &Form, default: &str) -> Value {
    match form {
        Form::Tagged(_) => json!({"type": default}),
        Form::Whole(..) | Form::WholeOr(..) => {
            default.parse::<u64>().map_or(Value::Null, Value::from)
        }
        _ => json!(default),
    }
}

fn values(form: &Form, definitions: &mut Definitions) -> Value {
    match form {
        // To the parser a number or a truth value is the text that was written.
        Form::Text => json!({"type": ["string", "number", "boolean"], "minLength": 1}),
        Form::Format(format) => text_of(format),
        Form::Whole(low, high) => number(*low, *high, r"\+?[0-9]+", "a whole number"),
        Form::WholeOr(low, high, word) => number(
            *low,
            *high,
            &format!(r"\+?[0-9]+|{word}"),
            &format!("a whole number or {word}"),
        ),
        Form::Bytes(low, high) => number(
            *low,
            *high,
            &bytes_pattern(),
            "a size, such as 1048576, 64KiB or 5MiB",
        ),
        Form::Duration(low, high) => number(
            low.as_millis() as u64,
            high.as_millis() as u64,
            &duration_pattern(),
            "a duration, such as 100ms, 30s, 2m or 1h",
        ),
        Form::Choice(words) => {
            let pair = |word: &Word| (word.word, word.meaning);
            choice(&words.iter().map(pair).collect::<Vec<_>>())
        }
        Form::Mapping(fields) => mapping(fields, definitions),
        Form::Tagged(tagged) => {
            let name = tagged.title.to_lowercase().replace(' ', "-");
            let reference = definitions.add(&name, |definitions| variants(tagged, definitions));
            // Draft 7 ignores what stands beside a reference.
            json!({"allOf": [reference]})
        }
        Form::List(form, len_min) => list(form, *len_min, definitions),
        Form::OneOrMore(form) => {
            json!({"anyOf": [values(form, definitions), list(form, 1, definitions)]})
        }
        Form::Pairs(pairs) => {
            let mut element = json!({
                "type": "object",
                "additionalProperties": values(&pairs.value, definitions),
            });
            if let Some(key) = pairs.key {
                element["propertyNames"] = json!({"pattern": format!("^({})$", key.pattern)});
            }
            if let Some(max) = pairs.element_max {
                element["minProperties"] = json!(1);
                element["maxProperties"] = json!(max);
            }
            let mut pairs_schema = json!({"type": "array", "items": element});
            if let Some(max) = pairs.len_max {
                pairs_schema["maxItems"] = json!(max);
            }
            pairs_schema
        }
        Form::AnyMapping => json!({"type": "object"}),
    }
}

fn list(form: &Form, len_min: usize, definitions: &mut Definitions) -> Value {
    let items = values(form, definitions);
    json!({"type": "array", "items": items, "minItems": len_min})
}

/// The texts of a format, or a placeholder. Numbers count as texts where the format allows them.
fn text_of(format: &Format) -> Value {
    let mut types = vec!["string"];
    if ["1", "3.0"].iter().any(|text| (format.check)(text).is_ok()) {
        types.push("number");
    }
    if (format.check)("true").is_ok() {
        types.push("boolean");
    }
    json!({
        "type": types,
        "pattern": or_placeholder(format.pattern),
        "patternErrorMessage": format!("This is not of the form: {}.", format.name),
    })
}

/// A number, or a text with a number; the range holds only for the former.
fn number(low: u64, high: u64, pattern: &str, what: &str) -> Value {
    json!({
        "type": ["integer", "string"],
        "minimum": low,
        "maximum": high,
        "pattern": or_placeholder(pattern),
        "patternErrorMessage": format!("This is not {what}."),
    })
}

fn choice(words: &[(&str, &str)]) -> Value {
    let words = words
        .iter()
        .map(|(word, meaning)| json!({"const": word, "description": meaning}));
    let placeholder = json!({"type": "string", "pattern": PLACEHOLDER});
    json!({"anyOf": words.chain([placeholder]).collect::<Vec<_>>()})
}

fn variants(tagged: &Tagged, definitions: &mut Definitions) -> Value {
    let words: Vec<(&str, &str)> = tagged
        .variants
        .iter()
        .map(|variant| (variant.word, variant.meaning))
        .collect();
    let mut all_of = Vec::new();
    for variant in tagged.variants {
        let mut condition = json!({"properties": {"type": {"const": variant.word}}});
        if tagged.untagged != Some(variant.word) {
            condition["required"] = json!(["type"]);
        }
        let mut schema = mapping(variant.fields, definitions);
        schema["properties"]["type"] = json!({"const": variant.word});
        all_of.push(json!({"if": condition, "then": schema}));
    }
    let mut schema = json!({
        "type": "object",
        "properties": {"type": choice(&words)},
        "allOf": all_of,
    });
    match tagged.untagged {
        None => schema["required"] = json!(["type"]),
        Some(word) => schema["properties"]["type"]["default"] = json!(word),
    }
    schema
}

fn or_placeholder(pattern: &str) -> String {
    format!("^({pattern})$|{PLACEHOLDER}")
}
