//! Addresses on the command line.

use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Characters that are encoded in a path: all except RFC 3986's unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Address `namespace/name/id`. Neither namespace nor name contains a `/`; the id is the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddressArg {
    namespace: String,
    name: String,
    id: String,
}

impl AddressArg {
    /// Returns the address as percent-encoded parts of a URL's path.
    pub(crate) fn path(&self) -> String {
        [&self.namespace, &self.name, &self.id]
            .map(|part| encoded(part))
            .join("/")
    }
}

impl FromStr for AddressArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, '/');
        let (namespace, name, id) = (parts.next(), parts.next(), parts.next());
        match (namespace, name, id) {
            (Some(namespace), Some(name), Some(id))
                if [namespace, name, id].iter().all(|part| !part.is_empty()) =>
            {
                if [namespace, name, id]
                    .iter()
                    .any(|part| matches!(*part, "." | ".."))
                {
                    return Err(format!(
                        "`{text}` cannot be part of a URL: a part is `.` or `..`"
                    ));
                }
                Ok(Self {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                    id: id.to_owned(),
                })
            }
            _ => Err(format!(
                "`{text}` is not an address: write namespace/name/id, such as example/greeter/alice"
            )),
        }
    }
}

/// Percent-encodes one part of a URL's path or query.
pub(crate) fn encoded(part: &str) -> String {
    utf8_percent_encode(part, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_encoded_part_by_part_and_its_id_may_hold_anything() {
        let path = |text: &str| text.parse::<AddressArg>().unwrap().path();
        assert_eq!(path("example/greeter/alice"), "example/greeter/alice");
        assert_eq!(
            path("a.b/c/d/e?f#ü %2F"),
            "a.b/c/d%2Fe%3Ff%23%C3%BC%20%252F"
        );
    }

    #[test]
    fn what_is_not_an_address_is_refused_by_name() {
        for text in ["", "a", "a/b", "a/b/", "/b/c", "a//c", "a/b/.", "../b/c"] {
            let refused = text.parse::<AddressArg>().unwrap_err();
            assert!(refused.contains(&format!("`{text}`")), "{refused}");
        }
    }
}
