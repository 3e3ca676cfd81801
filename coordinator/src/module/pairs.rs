//! Lists of `name: value`, one in each element: properties and offsets.

use crate::module::fields::Fields;
use crate::module::table::{Form, Pairs};
use crate::module::yaml::{Node, Value};

/// Properties of a client, as StateFun's kinds have them.
pub(crate) const PROPERTIES: Form = Form::Pairs(&Pairs {
    key: None,
    value: Form::Text,
    element_max: Some(1),
    len_max: None,
});

/// An element of such a list.
pub(crate) struct Pair<'n> {
    /// Name, the key of the element.
    pub(crate) name: &'n str,
    /// Value.
    pub(crate) value: &'n Node,
    /// Position of the element.
    pub(crate) line: usize,
}

/// Reads the list `list`, whose elements are mappings with one entry each.
pub(crate) fn pairs<'n>(fields: &mut Fields<'n, '_>, list: &str, form: &str) -> Vec<Pair<'n>> {
    let mut found = Vec::new();
    for node in fields.list(list) {
        match &node.value {
            Value::Map(entries) if entries.len() == 1 => found.push(Pair {
                name: &entries[0].key,
                value: &entries[0].value,
                line: entries[0].line,
            }),
            _ => {
                let message = format!("an element of '{list}' must be one `{form}`");
                fields.problem(node.line, message);
            }
        }
    }
    found
}

/// Reads the list `list` of `property: value`, in order.
pub(crate) fn properties(fields: &mut Fields<'_, '_>, list: &str) -> Vec<(String, String)> {
    let pairs = pairs(fields, list, "property: value").into_iter();
    pairs
        .filter_map(|pair| {
            let value = fields.text_of(list, Some(pair.value))?;
            Some((pair.name.to_owned(), value))
        })
        .collect()
}
