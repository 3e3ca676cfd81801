//! Module files as people may see them: without values of placeholders, and without what may be a
//! secret.
//!
//! The text is made of the parsed documents before placeholders are replaced, so that nothing of
//! the environment is in it. Comments are left out, because they may hold anything.

use std::fmt::Write as _;
use std::path::Path;

use crate::module::yaml::{self, Node, Value};

/// Text in the place of a value that may be a secret.
const HIDDEN: &str = "(hidden)";

/// Parts of names whose values may be secrets, in lower case.
const SECRET_NAMES: [&str; 10] = [
    "password",
    "passphrase",
    "secret",
    "token",
    "credential",
    "authorization",
    "jaas",
    "oauthbearer",
    "accesskey",
    "key.pem",
];

/// Module file as people may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownFile {
    /// Path of the file, as it was named.
    pub file: String,
    /// Content.
    pub text: String,
}

impl ShownFile {
    /// Returns the file `file` with this text; none if it is no YAML.
    pub(crate) fn of(file: &Path, text: &str) -> Option<Self> {
        let documents = yaml::parse(text).ok()?;
        Some(Self {
            file: file.display().to_string(),
            text: self::text(&documents),
        })
    }
}

/// Returns the text of these documents.
fn text(documents: &[Node]) -> String {
    let mut text = String::new();
    for (index, document) in documents.iter().enumerate() {
        if index > 0 {
            text.push_str("---\n");
        }
        write(&mut text, document, 0, false);
    }
    text
}

/// Writes a node on lines of its own.
fn write(text: &mut String, node: &Node, depth: usize, is_secret: bool) {
    let indent = "  ".repeat(depth);
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => {
            for entry in entries {
                let _ = write!(text, "{indent}{}:", scalar(&entry.key));
                let is_secret = is_secret || may_be_secret(&entry.key);
                write_value(text, &entry.value, depth, is_secret);
            }
        }
        Value::List(items) if !items.is_empty() => {
            for item in items {
                let _ = write!(text, "{indent}-");
                write_value(text, item, depth, is_secret);
            }
        }
        other => {
            let _ = writeln!(text, "{indent}{}", inline(other, is_secret));
        }
    }
}

/// Writes a value behind its key or its dash.
fn write_value(text: &mut String, node: &Node, depth: usize, is_secret: bool) {
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => {
            text.push('\n');
            write(text, node, depth + 1, is_secret);
        }
        Value::List(items) if !items.is_empty() => {
            text.push('\n');
            write(text, node, depth + 1, is_secret);
        }
        other => {
            let _ = writeln!(text, " {}", inline(other, is_secret));
        }
    }
}

fn inline(value: &Value, is_secret: bool) -> String {
    match value {
        Value::Map(_) => "{}".to_owned(),
        Value::List(_) => "[]".to_owned(),
        Value::Null | Value::Unresolved => "null".to_owned(),
        Value::Text(text) if is_secret && !is_placeholder(text) => HIDDEN.to_owned(),
        Value::Text(text) => scalar(&without_query(text)),
    }
}

/// Returns whether a text is nothing but a placeholder.
fn is_placeholder(text: &str) -> bool {
    let name = text.strip_prefix("${").and_then(|it| it.strip_suffix('}'));
    name.is_some_and(|name| !name.contains(['$', '{', '}']))
}

fn may_be_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|part| name.contains(part))
}

/// Returns a URL without its query and its user, where a service may want a secret. Other texts
/// stay.
fn without_query(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let (rest, query) = match rest.split_once('?') {
        Some((rest, _)) => (rest, format!("?{HIDDEN}")),
        None => (rest, String::new()),
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let authority = match authority.rsplit_once('@') {
        Some((_, host)) => format!("{HIDDEN}@{host}"),
        None => authority.to_owned(),
    };
    format!("{scheme}://{authority}{path}{query}")
}

/// Quotes a scalar if YAML would read it as something else.
fn scalar(text: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "/._-${}*+@?&=%()".contains(char);
    let first = text.chars().next();
    let is_plain = first
        .is_some_and(|first| first.is_ascii_alphanumeric() || "/$.(".contains(first))
        && text.char_indices().all(|(at, char)| {
            let next = text[at + char.len_utf8()..].chars().next();
            // A colon is plain within a URL.
            plain(char) || (char == ':' && next.is_some_and(|next| next != ' '))
        });
    match is_plain {
        true => text.to_owned(),
        false => format!("\"{}\"", text.escape_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(file: &str) -> String {
        text(&yaml::parse(file).unwrap())
    }

    #[test]
    fn a_file_reads_as_it_was_written_and_means_the_same() {
        let file = "kind: io.statefun.kinesis.v1/ingress\nspec:\n  id: shop/orders\n  \
                    awsRegion:\n    type: default\n  streams:\n    -\n      stream: orders\n      \
                    targets:\n        - shop/order\n        - \"a b: #c\"\n---\nkind: x\n\
                    spec: {}\n";
        assert_eq!(shown(file), file);
        let commented = "kind: x # the password is hunter2\nspec: {a: [1, 2], b: null}\n";
        let text = shown(commented);
        assert!(!text.contains("hunter2"), "{text}");
        assert_eq!(
            yaml::parse(&shown(&text)).unwrap().len(),
            yaml::parse(commented).unwrap().len()
        );
    }

    #[test]
    fn what_may_be_a_secret_is_hidden_wherever_it_is() {
        let file = "spec:\n  credentials: {accessKeyId: AKIA1, secretAccessKey: s3cr3t}\n  \
                    properties:\n    - sasl.password: s3cr3t\n    - sasl.jaas.config: |\n        \
                    s3cr3t\n        s3cr3t\n    - sasl.username: shop\n  \
                    url: https://me:s3cr3t@host/path?code=s3cr3t\n  \
                    apiToken: [s3cr3t, {deep: s3cr3t}]\n  password: ${PASSWORD}\n";
        let text = shown(file);
        assert!(
            !text.contains("s3cr3t") && !text.contains("AKIA1"),
            "{text}"
        );
        for kept in [
            "sasl.username: shop",
            "https://(hidden)@host/path?(hidden)",
            "password: ${PASSWORD}",
        ] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
        let partly = shown("token: abc${PART}");
        assert_eq!(partly, "token: (hidden)\n");
    }
}
