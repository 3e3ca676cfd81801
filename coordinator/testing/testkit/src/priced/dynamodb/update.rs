//! `UpdateExpression`.
//!
//! ```text
//! update = { SET name = term { , name = term } | REMOVE name { , name } | ADD name value { , … } }
//! term   = operand [ ( + | - ) operand ]
//! operand = name | value | if_not_exists ( name , operand )
//! ```

use super::Refused;
use super::attribute::{Attribute, Item};
use super::tokens::{Placeholders, Token, Tokens};

#[derive(Debug, Clone)]
pub(super) struct Update {
    set: Vec<(String, Term)>,
    remove: Vec<String>,
    add: Vec<(String, Attribute)>,
}

#[derive(Debug, Clone)]
enum Term {
    Name(String),
    Value(Attribute),
    IfNotExists(String, Box<Term>),
    Sum(Box<Term>, i128, Box<Term>),
}

impl Update {
    pub(super) fn of(text: &str, placeholders: &mut Placeholders) -> Result<Self, Refused> {
        let mut tokens = Tokens::of(text, placeholders)?;
        let mut update = Self {
            set: Vec::new(),
            remove: Vec::new(),
            add: Vec::new(),
        };
        while tokens.peek().is_some() {
            if tokens.take_word("set") {
                update.set.push(assignment(&mut tokens)?);
                while tokens.take_sign(",") {
                    update.set.push(assignment(&mut tokens)?);
                }
            } else if tokens.take_word("remove") {
                update.remove.push(tokens.expect_name()?);
                while tokens.take_sign(",") {
                    update.remove.push(tokens.expect_name()?);
                }
            } else if tokens.take_word("add") {
                update.add.push(addition(&mut tokens)?);
                while tokens.take_sign(",") {
                    update.add.push(addition(&mut tokens)?);
                }
            } else {
                return Err(tokens.wrong("a clause is SET, REMOVE or ADD"));
            }
        }
        Ok(update)
    }

    /// The item after the update of `item`. All terms see the attributes before it.
    pub(super) fn apply(&self, item: &Item) -> Result<Item, Refused> {
        let mut updated = item.clone();
        for (name, term) in &self.set {
            updated.insert(name.clone(), term.value(item)?);
        }
        for name in &self.remove {
            updated.remove(name);
        }
        for (name, value) in &self.add {
            let before = item.get(name).unwrap_or(&Attribute::Number(0));
            updated.insert(name.clone(), sum(before, 1, value)?);
        }
        Ok(updated)
    }
}

impl Term {
    fn value(&self, item: &Item) -> Result<Attribute, Refused> {
        match self {
            Self::Name(name) => item.get(name).cloned().ok_or_else(|| {
                Refused::invalid(format!(
                    "The provided expression refers to an attribute that does not exist: {name}"
                ))
            }),
            Self::Value(value) => Ok(value.clone()),
            Self::IfNotExists(name, other) => match item.get(name) {
                Some(value) => Ok(value.clone()),
                None => other.value(item),
            },
            Self::Sum(one, sign, other) => sum(&one.value(item)?, *sign, &other.value(item)?),
        }
    }
}

fn sum(one: &Attribute, sign: i128, other: &Attribute) -> Result<Attribute, Refused> {
    match (one, other) {
        (Attribute::Number(one), Attribute::Number(other)) => {
            Ok(Attribute::Number(one + sign * other))
        }
        _ => Err(Refused::invalid(
            "An operand in the update has the wrong type",
        )),
    }
}

fn assignment(tokens: &mut Tokens) -> Result<(String, Term), Refused> {
    let name = tokens.expect_name()?;
    tokens.expect_sign("=")?;
    let one = operand(tokens)?;
    let term = if tokens.take_sign("+") {
        Term::Sum(Box::new(one), 1, Box::new(operand(tokens)?))
    } else if tokens.take_sign("-") {
        Term::Sum(Box::new(one), -1, Box::new(operand(tokens)?))
    } else {
        one
    };
    Ok((name, term))
}

fn addition(tokens: &mut Tokens) -> Result<(String, Attribute), Refused> {
    let name = tokens.expect_name()?;
    match tokens.take()? {
        Token::Value(value @ Attribute::Number(_)) => Ok((name, value)),
        other => Err(Refused::unknown(format!("ADD of {other:?}"))),
    }
}

fn operand(tokens: &mut Tokens) -> Result<Term, Refused> {
    match tokens.take()? {
        Token::Name(name) => Ok(Term::Name(name)),
        Token::Value(value) => Ok(Term::Value(value)),
        Token::Word(word) if word == "if_not_exists" => {
            tokens.expect_sign("(")?;
            let name = tokens.expect_name()?;
            tokens.expect_sign(",")?;
            let other = operand(tokens)?;
            tokens.expect_sign(")")?;
            Ok(Term::IfNotExists(name, Box::new(other)))
        }
        other => Err(tokens.wrong(&format!("{other:?} is no operand"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_sets_adds_and_removes_by_the_attributes_before_it() {
        let mut placeholders = Placeholders {
            values: [
                (":one".to_owned(), Attribute::Number(1)),
                (":x".to_owned(), Attribute::Text("x".to_owned())),
            ]
            .into(),
            ..Placeholders::default()
        };
        let text = "SET a = a + :one, b = if_not_exists(b, :one), c = a REMOVE d ADD e :one";
        let update = Update::of(text, &mut placeholders).unwrap();
        let item = Item::from([
            ("a".to_owned(), Attribute::Number(5)),
            ("d".to_owned(), Attribute::Null),
        ]);
        let expected = Item::from([
            ("a".to_owned(), Attribute::Number(6)),
            ("b".to_owned(), Attribute::Number(1)),
            ("c".to_owned(), Attribute::Number(5)),
            ("e".to_owned(), Attribute::Number(1)),
        ]);
        assert_eq!(update.apply(&item).unwrap(), expected);
        let missing = Update::of("SET a = absent", &mut placeholders).unwrap();
        assert!(missing.apply(&item).is_err());
    }
}
