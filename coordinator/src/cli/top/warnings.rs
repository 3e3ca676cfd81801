//! Warnings in plain words with what to do: the texts of the console, from its own file.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;

use super::app::View;
use super::format::{count, duration};
use super::source::Loaded;
use super::table::Tone;

/// Lag of an ingress from which on there is a warning, in seconds.
const LAG_SECONDS_MIN: f64 = 60.0;

/// Causes for which all ingress is paused, by the name of their text.
const PAUSES: [&str; 4] = [
    "pending_limit",
    "memory_limit",
    "dead_letter_limit",
    "congestion",
];

/// A script of the console that holds nothing but an object.
const FILE: &str = include_str!("../../../console/warning-texts.js");

static TEXTS: LazyLock<Texts> = LazyLock::new(|| {
    let (_, object) = FILE.split_once("export default").expect("it has an object");
    let object = object.trim().trim_end_matches(';');
    serde_json::from_str(object).expect("the object is JSON")
});

#[derive(Debug, Deserialize)]
struct Texts {
    warnings: BTreeMap<String, Text>,
    problems: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Text {
    tone: Tone,
    text: String,
    todo: String,
    page: Option<String>,
}

/// Something that stands still or fails.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Warning {
    /// Weight of the warning.
    pub(super) tone: Tone,
    /// Sentence that states it.
    pub(super) text: String,
    /// Sentence about what to do; may be empty.
    pub(super) todo: String,
    /// View that shows more.
    pub(super) view: Option<View>,
}

/// Warnings about an application. What was not loaded gives none.
pub(super) fn warnings_of(loaded: &Loaded) -> Vec<Warning> {
    let mut found = Vec::new();
    of_readiness(loaded.readiness.value(), &mut found);
    let ingresses = loaded.ingresses.entries();
    for cause in PAUSES {
        if ingresses.iter().any(|it| it["paused"] == cause) {
            add(&mut found, cause, &[]);
        }
    }
    for ingress in ingresses {
        let lag = ingress["lag_seconds"].as_f64();
        if let Some(lag) = lag.filter(|lag| *lag > LAG_SECONDS_MIN) {
            let values = [("name", text(&ingress["id"])), ("duration", duration(lag))];
            add(&mut found, "lag", &values);
        }
    }
    let functions = loaded.functions.entries();
    for function in functions {
        let suspended = number(&function["suspended"]);
        if suspended > 0.0 {
            let kind = match suspended == 1.0 {
                true => "address_suspended",
                false => "addresses_suspended",
            };
            let name = text(&function["function"]);
            let values = [("name", name), ("count", count(suspended))];
            add(&mut found, kind, &values);
        }
    }
    let letters: f64 = functions.iter().map(|it| number(&it["dead_letters"])).sum();
    if letters > 0.0 {
        let kind = match letters == 1.0 {
            true => "dead_letter",
            false => "dead_letters",
        };
        add(&mut found, kind, &[("count", count(letters))]);
    }
    for place in list(loaded.members.value(), "partitions") {
        if place["owner"].is_null() {
            let values = [("name", text(&place["partition"]))];
            add(&mut found, "partition_unowned", &values);
        }
    }
    found
}

fn of_readiness(ready: &Value, found: &mut Vec<Warning>) {
    if let Some(state @ ("starting" | "standby" | "stopping")) = ready["state"].as_str() {
        add(found, state, &[]);
    }
    if ready["held"] == true {
        add(found, "held", &[]);
    }
    for name in list(ready, "unhealthy_endpoints") {
        add(found, "endpoint_down", &[("name", text(name))]);
    }
    for it in list(ready, "suspended_functions") {
        let values = [
            ("name", text(&it["function"])),
            ("reason", text(&it["reason"])),
        ];
        add(found, "function_suspended", &values);
    }
    for (kind, entries, name) in [
        ("function_paused", "paused_functions", "function"),
        ("ingress_paused", "paused_ingresses", "ingress"),
    ] {
        for it in list(ready, entries) {
            let reason = match it["reason"].as_str() {
                None | Some("") => ".".to_owned(),
                Some(reason) => format!(": {reason}"),
            };
            add(
                found,
                kind,
                &[("name", text(&it[name])), ("reason", reason)],
            );
        }
    }
    for (kind, entries) in [
        ("ingress_stopped", "stopped_ingresses"),
        ("egress_stopped", "stopped_egresses"),
    ] {
        for it in list(ready, entries) {
            let problem = problem(&text(&it["problem"]));
            let values = [
                ("name", text(&it["id"])),
                ("source", text(&it["source"])),
                ("problem", problem),
            ];
            add(found, kind, &values);
        }
    }
    for (kind, field) in [
        ("time_ahead", "partition_time_ahead_seconds"),
        ("clock_jump", "clock_jump_seconds"),
    ] {
        let seconds = number(&ready[field]).abs();
        if seconds > 0.0 {
            add(found, kind, &[("duration", duration(seconds))]);
        }
    }
}

fn add(found: &mut Vec<Warning>, kind: &str, values: &[(&str, String)]) {
    let text = &TEXTS.warnings[kind];
    found.push(Warning {
        tone: text.tone,
        text: filled(&text.text, values),
        todo: text.todo.clone(),
        view: text.page.as_deref().and_then(|page| match page {
            "addresses" => Some(View::Functions),
            "connectors" => Some(View::Connectors),
            "dead-letters" => Some(View::DeadLetters),
            _ => None,
        }),
    });
}

/// Replaces each `{name}` of a template. What a value holds is not read as a template.
fn filled(template: &str, values: &[(&str, String)]) -> String {
    let mut parts = template.split('{');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').unwrap_or((part, ""));
        let value = values.iter().find(|(known, _)| *known == name);
        text.push_str(value.map_or("", |(_, value)| value));
        text.push_str(rest);
    }
    text
}

/// The problem of a source or an egress in words.
pub(super) fn problem(name: &str) -> String {
    let known = TEXTS.problems.get(name);
    known.cloned().unwrap_or_else(|| name.to_owned())
}

/// The list in a field, or nothing where an older version has none.
fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::source::Answer;
    use super::*;

    /// Cases that the test of the console tries too, with the console's own code.
    const CASES: &str = include_str!("../../../tests/console/warnings.json");

    #[derive(Deserialize)]
    struct Case {
        name: String,
        given: Value,
        shown: Vec<(Tone, String, String)>,
    }

    #[test]
    fn warnings_are_those_of_the_console() {
        let cases: Vec<Case> = serde_json::from_str(CASES).unwrap();
        assert!(cases.len() > 10);
        for Case { name, given, shown } in cases {
            let answer = |name: &str| match given.get(name) {
                Some(value) => Answer::Loaded(value.clone()),
                None => Answer::Absent,
            };
            let loaded = Loaded {
                readiness: answer("ready"),
                ingresses: answer("ingresses"),
                functions: answer("functions"),
                members: answer("members"),
                ..Loaded::default()
            };
            let found: Vec<_> = warnings_of(&loaded)
                .into_iter()
                .map(|it| (it.tone, it.text, it.todo))
                .collect();
            assert_eq!(found, shown, "{name}");
        }
    }

    #[test]
    fn a_value_that_looks_like_a_placeholder_is_a_value() {
        let values = [
            ("name", "{reason}".to_owned()),
            ("reason", "{name}".to_owned()),
        ];
        let shown = filled("Function {name} is suspended as a whole: {reason}", &values);
        assert_eq!(shown, "Function {reason} is suspended as a whole: {name}");
        assert_eq!(filled("nothing to fill", &values), "nothing to fill");
    }

    #[test]
    fn a_readiness_of_another_version_gives_no_warning_and_no_panic() {
        for ready in [
            json!(null),
            json!({"state": 7}),
            json!({"unhealthy_endpoints": "x"}),
        ] {
            let loaded = Loaded {
                readiness: Answer::Loaded(ready),
                ..Loaded::default()
            };
            assert_eq!(warnings_of(&loaded), []);
        }
    }
}
