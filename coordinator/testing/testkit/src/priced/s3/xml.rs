//! The little XML of S3's bodies.

/// Texts of all elements with this name, as they are written. Elements of that name do not contain
/// elements.
pub(super) fn values<'t>(text: &'t str, name: &str) -> impl Iterator<Item = &'t str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = text;
    std::iter::from_fn(move || {
        let begin = rest.find(&open)? + open.len();
        let end = begin + rest[begin..].find(&close)?;
        let value = &rest[begin..end];
        rest = &rest[end..];
        Some(value)
    })
}

/// Text for an element.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Text of an element.
pub(super) fn decode(text: &str) -> String {
    text.replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&#39;", "'")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_elements_are_found_in_order_and_text_survives_escaping() {
        let text = "<D><Object><Key>a&amp;b</Key></Object><Object><Key>c</Key></Object></D>";
        let keys: Vec<String> = values(text, "Key").map(decode).collect();
        assert_eq!(keys, ["a&b", "c"]);
        let odd = r#"<a> & "b" &amp;"#;
        assert_eq!(decode(&escape(odd)), odd);
    }
}
