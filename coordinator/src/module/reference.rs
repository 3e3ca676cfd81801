//! Reference of all kinds and fields, in Markdown, made from their tables.

use std::fmt::Write;

use crate::module::document::KINDS;
use crate::module::duration::format_duration;
use crate::module::table::{Absence, Field, Form, Kind, Tagged};

/// Prose before the kinds.
const INTRODUCTION: &str = include_str!("reference/introduction.md");

/// Prose after the kinds.
const CLOSING: &str = include_str!("reference/closing.md");

/// Returns the reference of module files: `coordinator/docs/module-files.md`.
pub fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str("\n## The kinds\n\n");
    let mut tagged = Vec::new();
    for kind in KINDS {
        let purpose = kind.summary.split_inclusive(". ").next();
        let purpose = purpose.unwrap_or(kind.summary).trim_end();
        line(
            &mut text,
            &format!("- [`{}`](#{}): {purpose}", kind.name, anchor(kind.name)),
        );
        collect_tagged(kind.fields, &mut tagged);
    }
    for kind in KINDS {
        of_kind(&mut text, kind);
    }
    text.push_str(
        "\n## Mappings with a type\n\nThe `type` of each of these mappings decides about its other \
         fields.\n",
    );
    for tagged in tagged {
        of_tagged(&mut text, tagged);
    }
    line(&mut text, "");
    text.push_str(CLOSING);
    text
}

fn of_kind(text: &mut String, kind: &Kind) {
    line(text, &format!("\n## {}\n", kind.name));
    line(text, kind.summary);
    line(text, &format!("\n```yaml\n{}```\n", kind.example));
    if kind.is_statefun() {
        line(
            text,
            "| Field of `spec` | Type | Default | Meaning | From |",
        );
        line(text, "|---|---|---|---|---|");
    } else {
        line(text, "| Field of `spec` | Type | Default | Meaning |");
        line(text, "|---|---|---|---|");
    }
    let origin = kind.is_statefun().then_some(Origin::StateFun);
    rows(text, "", kind.fields, origin);
}

fn of_tagged(text: &mut String, tagged: &'static Tagged) {
    line(text, &format!("\n### {}\n", tagged.title));
    line(text, "| `type` | Meaning |\n|---|---|");
    for variant in tagged.variants {
        let meaning = cell(variant.meaning);
        line(text, &format!("| `{}` | {meaning} |", variant.word));
    }
    for variant in tagged.variants {
        if variant.fields.is_empty() {
            continue;
        }
        line(text, &format!("\nWith `type: {}`:\n", variant.word));
        line(
            text,
            "| Field | Type | Default | Meaning |\n|---|---|---|---|",
        );
        rows(text, "", variant.fields, None);
    }
}

/// Origin of a field in a kind of StateFun.
#[derive(Clone, Copy)]
enum Origin {
    StateFun,
    Satchel,
}

fn rows(text: &mut String, prefix: &str, fields: &'static [Field], origin: Option<Origin>) {
    for field in fields {
        let origin = origin.map(|origin| match field.is_extension {
            true => Origin::Satchel,
            false => origin,
        });
        let name = format!("{prefix}{}", field.name);
        let mut row = format!(
            "| `{name}` | {} | {} | {} |",
            cell(&type_of(&field.form)),
            cell(&default_of(field)),
            cell(&meaning_of(field))
        );
        match origin {
            None => {}
            Some(Origin::StateFun) => row.push_str(" StateFun |"),
            Some(Origin::Satchel) => row.push_str(" Satchel |"),
        }
        line(text, &row);
        match field.form {
            Form::Mapping(inner) => rows(text, &format!("{name}."), inner, origin),
            Form::List(Form::Mapping(inner), _) => {
                rows(text, &format!("{name}[]."), inner, origin);
            }
            _ => {}
        }
    }
}

fn type_of(form: &Form) -> String {
    match form {
        Form::Text => "text".to_owned(),
        Form::Format(format) => format.name.to_owned(),
        Form::Whole(low, high) => format!("whole number, {low} to {high}"),
        Form::WholeOr(low, high, word) => {
            format!("whole number, {low} to {high}, or `{word}`")
        }
        Form::Bytes(low, high) => format!("size, {} to {}", bytes(*low), bytes(*high)),
        Form::Duration(low, high) => format!(
            "duration, {} to {}",
            format_duration(*low),
            format_duration(*high)
        ),
        Form::Choice(words) => {
            let words: Vec<String> = words.iter().map(|it| format!("`{}`", it.word)).collect();
            words.join(" or ")
        }
        Form::Mapping(_) | Form::AnyMapping => "mapping".to_owned(),
        Form::Tagged(tagged) => format!("[{}](#{})", tagged.title, anchor(tagged.title)),
        Form::List(form, _) => match form {
            Form::Mapping(_) => "list of mappings".to_owned(),
            form => format!("list: {}", type_of(form)),
        },
        Form::OneOrMore(form) => format!("{}, or a list of them", type_of(form)),
        Form::Pairs(pairs) => format!("list of `name: value`; value: {}", type_of(&pairs.value)),
    }
}

fn default_of(field: &Field) -> String {
    match (field.absence, &field.form) {
        (Absence::Required, _) => "**required**".to_owned(),
        (Absence::Default(word), Form::Tagged(_)) => format!("`{{type: {word}}}`"),
        (Absence::Default(default), _) => format!("`{default}`"),
        (Absence::Means(absent), _) => format!("({absent})"),
    }
}

fn meaning_of(field: &Field) -> String {
    let mut meaning = field.meaning.to_owned();
    if let Form::Choice(words) = field.form {
        for word in words {
            // Writing to a text cannot fail.
            let _ = write!(meaning, "<br>`{}`: {}", word.word, word.meaning);
        }
    }
    meaning
}

fn bytes(number: u64) -> String {
    match number {
        n if n % (1 << 20) == 0 => format!("{}MiB", n >> 20),
        n if n % (1 << 10) == 0 => format!("{}KiB", n >> 10),
        n if n % 1_000_000 == 0 => format!("{}MB", n / 1_000_000),
        n => n.to_string(),
    }
}

/// Lists every mapping with a type once, those inside of others after them.
fn collect_tagged(fields: &'static [Field], found: &mut Vec<&'static Tagged>) {
    for field in fields {
        match field.form {
            Form::Mapping(inner) | Form::List(&Form::Mapping(inner), _) => {
                collect_tagged(inner, found);
            }
            Form::Tagged(tagged) if !found.iter().any(|it| it.title == tagged.title) => {
                found.push(tagged);
                for variant in tagged.variants {
                    collect_tagged(variant.fields, found);
                }
            }
            _ => {}
        }
    }
}

/// The anchor of a heading, as renderers of Markdown make it.
fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || " -".contains(*c));
    kept.map(|c| match c {
        ' ' => '-',
        c => c.to_ascii_lowercase(),
    })
    .collect()
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}
