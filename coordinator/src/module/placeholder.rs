//! `${NAME}` placeholders, which take their values from the environment.
//!
//! As in StateFun 3.3, they are replaced in every scalar value of a module file, by name only and
//! without defaults. They are replaced after the YAML is parsed, so that a value cannot change the
//! structure of a file.

use crate::module::fields::Reading;
use crate::module::yaml::{Node, Value};

/// Lookup of a name in the environment.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces every placeholder in the scalars of `node`.
///
/// A scalar whose placeholder cannot be replaced becomes a problem and [`Value::Unresolved`].
pub(crate) fn resolve(node: &mut Node, environment: Environment<'_>, reading: &mut Reading) {
    match &mut node.value {
        Value::Null | Value::Unresolved => {}
        Value::List(items) => {
            for item in items {
                resolve(item, environment, reading);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                resolve(&mut entry.value, environment, reading);
            }
        }
        Value::Text(text) => match replace(text, environment) {
            Ok(replaced) => {
                reading.problems.redact(&replaced, text);
                for (value, name) in values(text, environment) {
                    reading.problems.redact(&value, &name);
                }
                *text = replaced;
            }
            Err(message) => {
                reading.problem(node.line, message);
                node.value = Value::Unresolved;
            }
        },
    }
}

/// Returns the value of each placeholder in `text`, with the placeholder.
fn values(text: &str, environment: Environment<'_>) -> Vec<(String, String)> {
    let placeholders = text.split("${").skip(1);
    let names = placeholders.filter_map(|rest| Some(rest.split_once('}')?.0));
    names
        .filter_map(|name| Some((environment(name)?, format!("${{{name}}}"))))
        .collect()
}

fn replace(text: &str, environment: Environment<'_>) -> Result<String, String> {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else {
            return Err("the placeholder that begins with `${` has no closing `}`".to_owned());
        };
        let Some(value) = environment(name) else {
            return Err(format!(
                "the placeholder `${{{name}}}` has no value: set the environment variable '{name}'"
            ));
        };
        replaced.push_str(before);
        replaced.push_str(&value);
        rest = after;
    }
    replaced.push_str(rest);
    Ok(replaced)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("localhost".to_owned()),
            "ODD" => Some("${HOST}: [".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn placeholders_take_the_values_of_the_environment_once() {
        let replaced = replace("http://${HOST}:80/${HOST}/$x/{y}", &environment);
        assert_eq!(replaced.unwrap(), "http://localhost:80/localhost/$x/{y}");
        assert_eq!(replace("${ODD}", &environment).unwrap(), "${HOST}: [");
    }

    #[test]
    fn a_placeholder_without_a_value_is_refused_by_name() {
        let refused = replace("a${NOWHERE}b", &environment).unwrap_err();
        assert!(refused.contains("`${NOWHERE}`"), "{refused}");
        assert!(replace("a${HOST", &environment).is_err());
    }
}
