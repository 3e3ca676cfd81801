//! YAML documents as trees of nodes with line numbers.
//!
//! Supports mappings with text keys, sequences, scalars and aliases. Refuses tags outside YAML's
//! core schema, duplicate keys, and documents that grow too large when their aliases are expanded.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

/// Maximum depth of nesting.
const DEPTH_MAX: usize = 64;
/// Maximum number of nodes in a file, counted after aliases are expanded.
const NODES_MAX: usize = 100_000;

/// A value and its position.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// Line on which the value begins, from 1.
    pub(crate) line: usize,
    /// Value.
    pub(crate) value: Value,
}

/// A YAML value. The reader of a scalar decides its type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// An empty scalar, `~` or `null`.
    Null,
    /// A text whose placeholder has no value. The problem is recorded already.
    Unresolved,
    /// Text of a scalar.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<Entry>),
}

/// One entry of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// Text of the key.
    pub(crate) key: String,
    /// Line of the key, from 1.
    pub(crate) line: usize,
    /// Value of the key.
    pub(crate) value: Node,
}

/// Error in the YAML of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct YamlError {
    /// Line, from 1.
    pub(crate) line: usize,
    /// Description of the error.
    pub(crate) message: String,
}

impl Node {
    /// Names the type of the value, for messages.
    pub(crate) fn describe(&self) -> &'static str {
        match self.value {
            Value::Null => "an empty value",
            Value::Unresolved | Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// Returns the value of `key`, if this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries
                .iter()
                .find(|entry| entry.key == key)
                .map(|entry| &entry.value),
            _ => None,
        }
    }
}

/// Parses `text` into its documents, without the empty ones.
pub(crate) fn parse(text: &str) -> Result<Vec<Node>, YamlError> {
    let mut loader = Loader::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| YamlError {
            line: error.marker().line(),
            message: error.info().to_owned(),
        })?;
        loader.take(event, span)?;
    }
    Ok(loader.documents)
}

#[derive(Default)]
struct Loader {
    documents: Vec<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
}

/// A collection whose end was not read yet.
struct Open {
    line: usize,
    anchor: usize,
    nodes_before: usize,
    items: Items,
}

enum Items {
    List(Vec<Node>),
    Map(Vec<Entry>, Option<(String, usize)>),
}

impl Loader {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlError> {
        let line = span.start.line();
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                check_tag(tag.as_deref(), line)?;
                self.count(1, line)?;
                let value = scalar(&text, style);
                self.close(Node { line, value }, anchor, 1)
            }
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), line)?;
                self.open(Items::List(Vec::new()), anchor, line)
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), line)?;
                self.open(Items::Map(Vec::new(), None), anchor, line)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else {
                    return Ok(());
                };
                let value = match open.items {
                    Items::List(items) => Value::List(items),
                    Items::Map(entries, _) => Value::Map(entries),
                };
                let nodes = self.nodes - open.nodes_before;
                let node = Node {
                    line: open.line,
                    value,
                };
                self.close(node, open.anchor, nodes)
            }
            Event::Alias(anchor) => {
                let Some((node, nodes)) = self.anchors.get(&anchor).cloned() else {
                    return Err(error(
                        line,
                        "this alias refers to an anchor that contains it",
                    ));
                };
                self.count(nodes, line)?;
                self.close(Node { line, ..node }, 0, nodes)
            }
            Event::DocumentStart(_) => {
                self.anchors.clear();
                Ok(())
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn open(&mut self, items: Items, anchor: usize, line: usize) -> Result<(), YamlError> {
        if self.open.len() == DEPTH_MAX {
            return Err(error(
                line,
                &format!("nested deeper than {DEPTH_MAX} levels"),
            ));
        }
        let nodes_before = self.nodes;
        self.count(1, line)?;
        self.open.push(Open {
            line,
            anchor,
            nodes_before,
            items,
        });
        Ok(())
    }

    /// Adds a complete node to the open collection or to the documents.
    fn close(&mut self, node: Node, anchor: usize, nodes: usize) -> Result<(), YamlError> {
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), nodes));
        }
        match self.open.last_mut().map(|open| &mut open.items) {
            None if node.value == Value::Null => {}
            None => self.documents.push(node),
            Some(Items::List(items)) => items.push(node),
            Some(Items::Map(entries, key @ None)) => match node.value {
                Value::Text(text) if entries.iter().any(|entry| entry.key == text) => {
                    return Err(error(node.line, &format!("the key `{text}` appears twice")));
                }
                Value::Text(text) => *key = Some((text, node.line)),
                _ => {
                    return Err(error(
                        node.line,
                        &format!("a key must be a text, not {}", node.describe()),
                    ));
                }
            },
            Some(Items::Map(entries, key)) => {
                if let Some((key, line)) = key.take() {
                    entries.push(Entry {
                        key,
                        line,
                        value: node,
                    });
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, nodes: usize, line: usize) -> Result<(), YamlError> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            return Err(error(
                line,
                &format!("more than {NODES_MAX} values after aliases are expanded"),
            ));
        }
        Ok(())
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    match (style, text) {
        (ScalarStyle::Plain, "" | "~" | "null" | "Null" | "NULL") => Value::Null,
        _ => Value::Text(text.to_owned()),
    }
}

fn check_tag(tag: Option<&Tag>, line: usize) -> Result<(), YamlError> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() => Err(error(
            line,
            &format!("the tag `{tag}` is not supported in a module file"),
        )),
        _ => Ok(()),
    }
}

fn error(line: usize, message: &str) -> YamlError {
    YamlError {
        line,
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: usize, text: &str) -> Node {
        Node {
            line,
            value: Value::Text(text.to_owned()),
        }
    }

    #[test]
    fn every_node_knows_its_line() {
        let documents = parse("# first\nkind: a\nlist:\n  - x\n  - 'null'\n---\n---\nb\n").unwrap();
        let first = Node {
            line: 2,
            value: Value::Map(vec![
                Entry {
                    key: "kind".to_owned(),
                    line: 2,
                    value: text(2, "a"),
                },
                Entry {
                    key: "list".to_owned(),
                    line: 3,
                    value: Node {
                        line: 4,
                        value: Value::List(vec![text(4, "x"), text(5, "null")]),
                    },
                },
            ]),
        };
        assert_eq!(documents, vec![first, text(8, "b")]);
    }

    #[test]
    fn a_key_written_twice_is_refused_at_its_second_place() {
        let refused = parse("a: 1\nb: 2\na: 3\n").unwrap_err();
        assert_eq!(refused, error(3, "the key `a` appears twice"));
    }

    #[test]
    fn an_alias_repeats_the_value_of_its_anchor() {
        let documents = parse("a: &x [1, 2]\nb: *x\n").unwrap();
        let b = documents[0].get("b").unwrap();
        assert_eq!(b.value, documents[0].get("a").unwrap().value);
        assert_eq!(b.line, 2);
    }

    #[test]
    fn aliases_that_explode_are_refused() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let below = format!("*a{}, ", level - 1).repeat(10);
            bomb.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        let refused = parse(&bomb).unwrap_err();
        assert_eq!(
            refused.message,
            "more than 100000 values after aliases are expanded"
        );
    }

    #[test]
    fn documents_nested_too_deeply_are_refused() {
        let refused = parse(&"[".repeat(100)).unwrap_err();
        assert_eq!(refused, error(1, "nested deeper than 64 levels"));
    }
}
