//! Conditions on an item: `ConditionExpression`, `FilterExpression`, `KeyConditionExpression`.
//!
//! ```text
//! condition = both { OR both }
//! both      = simple { AND simple }
//! simple    = NOT simple | ( condition )
//!           | attribute_exists ( name ) | attribute_not_exists ( name )
//!           | begins_with ( operand , operand )
//!           | operand comparator operand
//!           | operand BETWEEN operand AND operand
//!           | operand IN ( operand { , operand } )
//! operand   = name | value | size ( name )
//! ```

use std::cmp::Ordering;

use super::Refused;
use super::attribute::{Attribute, Item};
use super::tokens::{Placeholders, Token, Tokens};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Condition {
    Or(Box<Condition>, Box<Condition>),
    And(Box<Condition>, Box<Condition>),
    Not(Box<Condition>),
    Exists(String),
    NotExists(String),
    BeginsWith(Operand, Operand),
    Compare(Operand, &'static str, Operand),
    Between(Operand, Operand, Operand),
    In(Operand, Vec<Operand>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    Name(String),
    Value(Attribute),
    /// Size of an attribute's value.
    Size(String),
}

impl Condition {
    pub(super) fn of(text: &str, placeholders: &mut Placeholders) -> Result<Self, Refused> {
        let mut tokens = Tokens::of(text, placeholders)?;
        let condition = either(&mut tokens)?;
        tokens.finish()?;
        Ok(condition)
    }

    /// True if the condition holds for an item. An item that does not exist has no attributes.
    pub(super) fn holds(&self, item: &Item) -> bool {
        let ordered = |one: &Operand, other: &Operand| {
            let (one, other) = (one.value(item)?, other.value(item)?);
            one.order(&other)
        };
        match self {
            Self::Or(one, other) => one.holds(item) || other.holds(item),
            Self::And(one, other) => one.holds(item) && other.holds(item),
            Self::Not(condition) => !condition.holds(item),
            Self::Exists(name) => item.contains_key(name),
            Self::NotExists(name) => !item.contains_key(name),
            Self::BeginsWith(text, beginning) => match (text.value(item), beginning.value(item)) {
                (Some(text), Some(beginning)) => text.begins_with(&beginning),
                _ => false,
            },
            Self::Compare(one, "=", other) => match (one.value(item), other.value(item)) {
                (Some(one), Some(other)) => one == other,
                _ => false,
            },
            Self::Compare(one, "<>", other) => one.value(item) != other.value(item),
            Self::Compare(one, comparator, other) => {
                ordered(one, other).is_some_and(|order| match *comparator {
                    "<" => order == Ordering::Less,
                    "<=" => order != Ordering::Greater,
                    ">" => order == Ordering::Greater,
                    _ => order != Ordering::Less,
                })
            }
            Self::Between(one, low, high) => {
                ordered(one, low).is_some_and(|order| order != Ordering::Less)
                    && ordered(one, high).is_some_and(|order| order != Ordering::Greater)
            }
            Self::In(one, others) => one.value(item).is_some_and(|one| {
                others
                    .iter()
                    .any(|other| other.value(item) == Some(one.clone()))
            }),
        }
    }
}

impl Operand {
    fn value(&self, item: &Item) -> Option<Attribute> {
        match self {
            Self::Name(name) => item.get(name).cloned(),
            Self::Value(value) => Some(value.clone()),
            Self::Size(name) => {
                let bytes = item.get(name)?.bytes();
                Some(Attribute::Number(i128::try_from(bytes).ok()?))
            }
        }
    }
}

fn either(tokens: &mut Tokens) -> Result<Condition, Refused> {
    let mut condition = both(tokens)?;
    while tokens.take_word("or") {
        condition = Condition::Or(Box::new(condition), Box::new(both(tokens)?));
    }
    Ok(condition)
}

fn both(tokens: &mut Tokens) -> Result<Condition, Refused> {
    let mut condition = simple(tokens)?;
    while tokens.take_word("and") {
        condition = Condition::And(Box::new(condition), Box::new(simple(tokens)?));
    }
    Ok(condition)
}

fn simple(tokens: &mut Tokens) -> Result<Condition, Refused> {
    if tokens.take_word("not") {
        return Ok(Condition::Not(Box::new(simple(tokens)?)));
    }
    if tokens.take_sign("(") {
        let condition = either(tokens)?;
        tokens.expect_sign(")")?;
        return Ok(condition);
    }
    for (word, make) in [
        (
            "attribute_exists",
            Condition::Exists as fn(String) -> Condition,
        ),
        ("attribute_not_exists", Condition::NotExists),
    ] {
        if tokens.take_word(word) {
            tokens.expect_sign("(")?;
            let name = tokens.expect_name()?;
            tokens.expect_sign(")")?;
            return Ok(make(name));
        }
    }
    if tokens.take_word("begins_with") {
        tokens.expect_sign("(")?;
        let text = operand(tokens)?;
        tokens.expect_sign(",")?;
        let beginning = operand(tokens)?;
        tokens.expect_sign(")")?;
        return Ok(Condition::BeginsWith(text, beginning));
    }
    let one = operand(tokens)?;
    if tokens.take_word("between") {
        let low = operand(tokens)?;
        if !tokens.take_word("and") {
            return Err(tokens.wrong("BETWEEN lacks its AND"));
        }
        return Ok(Condition::Between(one, low, operand(tokens)?));
    }
    if tokens.take_word("in") {
        tokens.expect_sign("(")?;
        let mut others = vec![operand(tokens)?];
        while tokens.take_sign(",") {
            others.push(operand(tokens)?);
        }
        tokens.expect_sign(")")?;
        return Ok(Condition::In(one, others));
    }
    match tokens.take()? {
        Token::Sign(sign @ ("=" | "<>" | "<" | "<=" | ">" | ">=")) => {
            Ok(Condition::Compare(one, sign, operand(tokens)?))
        }
        other => Err(tokens.wrong(&format!("{other:?} does not compare"))),
    }
}

fn operand(tokens: &mut Tokens) -> Result<Operand, Refused> {
    match tokens.take()? {
        Token::Name(name) => Ok(Operand::Name(name)),
        Token::Value(value) => Ok(Operand::Value(value)),
        Token::Word(word) if word == "size" => {
            tokens.expect_sign("(")?;
            let name = tokens.expect_name()?;
            tokens.expect_sign(")")?;
            Ok(Operand::Size(name))
        }
        other => Err(tokens.wrong(&format!("{other:?} is no operand"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str) -> bool {
        let mut placeholders = Placeholders::default();
        let names = [("#owner", "owner"), ("#epoch", "epoch")];
        placeholders.names = names.map(|(one, other)| (one.into(), other.into())).into();
        placeholders.values = [
            (":me".to_owned(), Attribute::Text("me".to_owned())),
            (":m".to_owned(), Attribute::Text("m".to_owned())),
            (":seven".to_owned(), Attribute::Number(7)),
            (":nine".to_owned(), Attribute::Number(9)),
        ]
        .into();
        let item = Item::from([
            ("owner".to_owned(), Attribute::Text("me".to_owned())),
            ("epoch".to_owned(), Attribute::Number(8)),
        ]);
        Condition::of(text, &mut placeholders).unwrap().holds(&item)
    }

    #[test]
    fn conditions_hold_as_in_dynamodb() {
        for (text, expected) in [
            ("attribute_not_exists(pk)", true),
            ("attribute_exists(#owner)", true),
            ("#owner = :me AND #epoch = :seven", false),
            ("#owner = :me and #epoch > :seven", true),
            ("#owner <> :me OR #epoch <= :nine", true),
            ("NOT (#owner = :me AND #epoch < :nine)", false),
            ("#epoch BETWEEN :seven AND :nine AND #owner = :me", true),
            ("#epoch IN (:seven, :nine)", false),
            ("begins_with(#owner, :m)", true),
            ("size(#owner) < :seven", true),
            // A missing attribute compares with nothing.
            ("absent = :me", false),
            ("absent <> :me", true),
            // A number is neither more nor less than a text.
            ("#owner > :seven", false),
        ] {
            assert_eq!(holds(text), expected, "{text}");
        }
    }

    #[test]
    fn an_expression_that_is_not_understood_is_refused() {
        for (text, named) in [
            ("owner = :me", "reserved"),
            ("#unknown = :me", "#unknown"),
            ("a.b = :me", "paths"),
            ("a = ", "ends early"),
            ("a = b c", "does not end"),
            ("contains(a, b)", "compare"),
        ] {
            let mut placeholders = Placeholders {
                values: [(":me".to_owned(), Attribute::Null)].into(),
                ..Placeholders::default()
            };
            let refused = Condition::of(text, &mut placeholders).unwrap_err();
            assert!(refused.message.contains(named), "{text}: {refused:?}");
        }
    }
}
