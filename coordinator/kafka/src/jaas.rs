//! Login configurations of Java clients: the property `sasl.jaas.config`.
//!
//! ```text
//!  org.apache.kafka.common.security.scram.ScramLoginModule required
//!      username="alice" password="…";
//! ```

use std::collections::BTreeMap;

/// One login module with its options. There is no `Debug`, because options hold passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// Class of the module, without its package.
    pub module: String,
    /// Options of the module.
    pub options: BTreeMap<String, String>,
}

impl Login {
    /// Parses a configuration of one module.
    ///
    /// # Errors
    ///
    /// A description of what is wrong with the text. It quotes no value.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!("{what}; write `CLASS required NAME=\"VALUE\" …;`, with one login module")
        };
        let text = text.trim();
        let text = text
            .strip_suffix(';')
            .ok_or_else(|| wrong("the `;` at its end is missing"))?;
        let mut rest = text;
        let class = word(&mut rest);
        let flag = word(&mut rest);
        let flags = ["required", "requisite", "sufficient", "optional"];
        if !flags.contains(&flag.to_ascii_lowercase().as_str()) {
            return Err(wrong("`required` is missing after the class"));
        }
        let mut options = BTreeMap::new();
        while !rest.trim_start().is_empty() {
            let (name, value) = option(&mut rest).map_err(wrong)?;
            options.insert(name, value);
        }
        let module = class.rsplit('.').next().unwrap_or_default().to_owned();
        Ok(Self { module, options })
    }
}

/// Takes the next word.
fn word<'a>(rest: &mut &'a str) -> &'a str {
    let text = rest.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    *rest = &text[end..];
    &text[..end]
}

/// Takes the next option, `name="value"` or `name=value`.
fn option(rest: &mut &str) -> Result<(String, String), &'static str> {
    let (name, value) = rest.split_once('=').ok_or("an option has no `=`")?;
    let name = name.trim();
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '"' || c == ';') {
        return Err("an option has no name");
    }
    let value = value.trim_start();
    let Some(quoted) = value.strip_prefix('"') else {
        let mut left = value;
        let value = word(&mut left).to_owned();
        *rest = left;
        return Ok((name.to_owned(), value));
    };
    let mut text = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => {
                *rest = &quoted[at + 1..];
                return Ok((name.to_owned(), text));
            }
            '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
            other => text.push(other),
        }
    }
    Err("a quotation mark is not closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, Vec<(String, String)>) {
        let login = Login::parse(text)
            .map_err(|error| panic!("{error}"))
            .unwrap();
        (login.module, login.options.into_iter().collect())
    }

    #[test]
    fn module_and_options_are_read_with_quotes_escapes_and_line_breaks() {
        let (module, options) = parsed(
            "org.apache.kafka.common.security.scram.ScramLoginModule required\n  \
             username=\"alice\"\n  password=\"a \\\"b\\\\c; =d\" tokenauth=true;",
        );
        assert_eq!(module, "ScramLoginModule");
        let expected = [
            ("password", "a \"b\\c; =d"),
            ("tokenauth", "true"),
            ("username", "alice"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(options, expected);
        let iam = parsed("software.amazon.msk.auth.iam.IAMLoginModule required;");
        assert_eq!(iam, ("IAMLoginModule".to_owned(), Vec::new()));
    }

    #[test]
    fn a_text_of_another_form_is_refused_without_quoting_a_value() {
        for (text, why) in [
            ("PlainLoginModule required username=\"a\"", "the `;`"),
            ("PlainLoginModule username=\"hunter2\";", "`required`"),
            ("PlainLoginModule required username;", "no `=`"),
            (
                "PlainLoginModule required password=\"hunter2;",
                "not closed",
            ),
            ("PlainLoginModule required =\"hunter2\";", "no name"),
        ] {
            let error = Login::parse(text).err().unwrap();
            assert!(error.contains(why) && !error.contains("hunter2"), "{error}");
        }
    }
}
