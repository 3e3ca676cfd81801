//! Words of expressions, with names and values in place of their placeholders.

use std::collections::{BTreeMap, BTreeSet};

use super::Refused;
use super::attribute::{Attribute, Item};

/// Words of DynamoDB that need a placeholder as names: those that this project's attributes could
/// be. DynamoDB has 573.
const RESERVED: [&str; 14] = [
    "bytes", "count", "counter", "data", "hash", "key", "name", "number", "owner", "range", "size",
    "status", "time", "value",
];

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// Name of an attribute.
    Name(String),
    Value(Attribute),
    /// A keyword or the name of a function, in lower case.
    Word(String),
    /// One of `( ) , = <> < <= > >= + -`.
    Sign(&'static str),
}

/// Placeholders of a request. Each must be used.
#[derive(Debug, Default)]
pub(super) struct Placeholders {
    pub(super) names: BTreeMap<String, String>,
    pub(super) values: Item,
    pub(super) used: BTreeSet<String>,
}

impl Placeholders {
    /// Refuses placeholders that no expression used.
    pub(super) fn finish(&self) -> Result<(), Refused> {
        let all = self.names.keys().chain(self.values.keys());
        let mut unused = all.filter(|name| !self.used.contains(*name));
        match unused.next() {
            None => Ok(()),
            Some(name) => Err(Refused::invalid(format!(
                "Value provided in ExpressionAttributeNames or ExpressionAttributeValues unused \
                 in expressions: {name}"
            ))),
        }
    }
}

/// Words of one expression, read from its beginning.
#[derive(Debug)]
pub(super) struct Tokens {
    tokens: Vec<Token>,
    next: usize,
    /// The expression, for errors.
    text: String,
}

const SIGNS: [&str; 11] = ["<>", "<=", ">=", "<", ">", "=", "(", ")", ",", "+", "-"];

const WORDS: [&str; 13] = [
    "and",
    "or",
    "not",
    "between",
    "in",
    "attribute_exists",
    "attribute_not_exists",
    "begins_with",
    "size",
    "if_not_exists",
    "set",
    "remove",
    "add",
];

impl Tokens {
    pub(super) fn of(text: &str, placeholders: &mut Placeholders) -> Result<Self, Refused> {
        let mut tokens = Vec::new();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
                tokens.push(Token::Sign(sign));
                rest = rest[sign.len()..].trim_start();
                continue;
            }
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_#:.".contains(c)));
            let (word, behind) = rest.split_at(end.unwrap_or(rest.len()));
            if word.is_empty() {
                return Err(Refused::unknown(format!("{rest:?} in an expression")));
            }
            tokens.push(token(word, placeholders)?);
            rest = behind.trim_start();
        }
        Ok(Self {
            tokens,
            next: 0,
            text: text.to_owned(),
        })
    }

    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    pub(super) fn take(&mut self) -> Result<Token, Refused> {
        let token = self.peek().cloned();
        self.next += 1;
        token.ok_or_else(|| self.wrong("it ends early"))
    }

    /// Takes the next token if it is this word.
    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(next)) if next == word);
        self.next += usize::from(found);
        found
    }

    /// Takes the next token if it is this sign.
    pub(super) fn take_sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(next)) if *next == sign);
        self.next += usize::from(found);
        found
    }

    pub(super) fn expect_sign(&mut self, sign: &str) -> Result<(), Refused> {
        match self.take_sign(sign) {
            true => Ok(()),
            false => Err(self.wrong(&format!("it lacks a {sign}"))),
        }
    }

    pub(super) fn expect_name(&mut self) -> Result<String, Refused> {
        match self.take()? {
            Token::Name(name) => Ok(name),
            other => Err(self.wrong(&format!("{other:?} is not a name"))),
        }
    }

    pub(super) fn finish(&self) -> Result<(), Refused> {
        match self.peek() {
            None => Ok(()),
            Some(token) => Err(self.wrong(&format!("it does not end before {token:?}"))),
        }
    }

    pub(super) fn wrong(&self, why: &str) -> Refused {
        Refused::invalid(format!("Invalid expression {:?}: {why}", self.text))
    }
}

fn token(word: &str, placeholders: &mut Placeholders) -> Result<Token, Refused> {
    if word.contains('.') {
        return Err(Refused::unknown(format!("paths such as {word}")));
    }
    if word.starts_with('#') || word.starts_with(':') {
        placeholders.used.insert(word.to_owned());
        let name = placeholders.names.get(word).cloned().map(Token::Name);
        let value = || placeholders.values.get(word).cloned().map(Token::Value);
        return name
            .or_else(value)
            .ok_or_else(|| Refused::invalid(format!("the placeholder {word} is not defined")));
    }
    let lower = word.to_ascii_lowercase();
    if WORDS.contains(&lower.as_str()) {
        return Ok(Token::Word(lower));
    }
    if RESERVED.contains(&lower.as_str()) {
        return Err(Refused::invalid(format!(
            "Attribute name is a reserved keyword; reserved keyword: {word}"
        )));
    }
    Ok(Token::Name(word.to_owned()))
}
