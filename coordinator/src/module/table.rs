//! Tables of the kinds and fields of module files.
//!
//! ```text
//!             ┌─► fields.rs      known fields, defaults, ranges, words
//!  Kind ──────┼─► reference.rs   coordinator/docs/module-files.md
//!   └ Field   └─► schema.rs      coordinator/docs/module.schema.json
//! ```
//!
//! A default and a range exist once: the parser reads a default as it would read the same text in a
//! module file. A kind's table stands in the file that reads the kind. `tests/tables.rs` checks
//! that every declared field and word has an effect and that every default is the one in use.

use std::time::Duration;

use crate::module::Application;
use crate::module::fields::Fields;

/// A kind of document.
pub(crate) struct Kind {
    /// Value of the document's `kind`.
    pub(crate) name: &'static str,
    /// One or more sentences about the kind, in Markdown.
    pub(crate) summary: &'static str,
    /// A document of this kind, for the reference.
    pub(crate) example: &'static str,
    /// Fields of the document's `spec`.
    pub(crate) fields: &'static [Field],
    /// Reads a `spec` into the application.
    pub(crate) read: fn(Fields<'_, '_>, &mut Application),
}

impl Kind {
    /// Returns true if StateFun defines the kind, so that a field can be StateFun's or Satchel's.
    pub(crate) fn is_statefun(&self) -> bool {
        self.name.starts_with("io.statefun.")
    }
}

/// A field of a mapping.
#[derive(Clone, Copy)]
pub(crate) struct Field {
    /// Key in the mapping.
    pub(crate) name: &'static str,
    /// Values that the field takes.
    pub(crate) form: Form,
    /// Meaning of its absence.
    pub(crate) absence: Absence,
    /// True if Satchel adds this field to a kind of StateFun.
    pub(crate) is_extension: bool,
    /// One or more sentences about the field, in Markdown.
    pub(crate) meaning: &'static str,
}

/// Meaning of a field's absence.
#[derive(Clone, Copy)]
pub(crate) enum Absence {
    /// The field must be present.
    Required,
    /// The parser takes this text as if it stood in the module file. For a [`Form::Tagged`] it is
    /// the word of a variant without further fields.
    Default(&'static str),
    /// The parser sees that the field is absent; these words tell the reader what happens then.
    Means(&'static str),
}

/// Values that a field takes.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    /// Any scalar that is not empty, as text.
    Text,
    /// A text of a certain form.
    Format(&'static Format),
    /// A whole number from the first to the second.
    Whole(u64, u64),
    /// A whole number from the first to the second, or a word.
    WholeOr(u64, u64, &'static str),
    /// A size in bytes from the first to the second.
    Bytes(u64, u64),
    /// A duration from the first to the second.
    Duration(Duration, Duration),
    /// One of some words.
    Choice(&'static [Word]),
    /// A mapping.
    Mapping(&'static [Field]),
    /// A mapping whose `type` decides about its other fields.
    Tagged(&'static Tagged),
    /// A list with at least this number of elements, 0 or 1.
    List(&'static Form, usize),
    /// One value, or a list of them that is not empty.
    OneOrMore(&'static Form),
    /// A list of mappings from names to values.
    Pairs(&'static Pairs),
    /// Any mapping; another table has its fields.
    AnyMapping,
}

/// A form of texts.
pub(crate) struct Format {
    /// Noun phrase for the reference.
    pub(crate) name: &'static str,
    /// Regular expression that matches every accepted text as a whole. It may match others.
    pub(crate) pattern: &'static str,
    /// The check that the parser applies.
    pub(crate) check: fn(&str) -> Result<(), String>,
}

/// One of the values of a [`Form::Choice`].
pub(crate) struct Word {
    /// The value.
    pub(crate) word: &'static str,
    /// Its meaning, in Markdown.
    pub(crate) meaning: &'static str,
}

/// A mapping whose `type` decides about its other fields.
pub(crate) struct Tagged {
    /// Heading in the reference.
    pub(crate) title: &'static str,
    /// Its variants.
    pub(crate) variants: &'static [Variant],
    /// The `type` of a mapping that has none; without it, `type` is required.
    pub(crate) untagged: Option<&'static str>,
}

/// A variant of a [`Tagged`].
pub(crate) struct Variant {
    /// Value of `type`.
    pub(crate) word: &'static str,
    /// Fields besides `type`.
    pub(crate) fields: &'static [Field],
    /// Its meaning, in Markdown.
    pub(crate) meaning: &'static str,
}

/// A list of mappings from names to values.
pub(crate) struct Pairs {
    /// Form of the names.
    pub(crate) key: Option<&'static Format>,
    /// Form of the values.
    pub(crate) value: Form,
    /// Maximum number of names in one element.
    pub(crate) element_max: Option<u64>,
    /// Maximum number of elements.
    pub(crate) len_max: Option<u64>,
}

impl Field {
    /// A field that must be present.
    pub(crate) const fn required(name: &'static str, form: Form, meaning: &'static str) -> Self {
        Self::new(name, form, Absence::Required, meaning)
    }

    /// A field with a default, written as in a module file.
    pub(crate) const fn with_default(
        name: &'static str,
        form: Form,
        default: &'static str,
        meaning: &'static str,
    ) -> Self {
        Self::new(name, form, Absence::Default(default), meaning)
    }

    /// A field whose absence has a meaning of its own.
    pub(crate) const fn optional(
        name: &'static str,
        form: Form,
        absent: &'static str,
        meaning: &'static str,
    ) -> Self {
        Self::new(name, form, Absence::Means(absent), meaning)
    }

    /// The same field, as Satchel's addition to a kind of StateFun.
    pub(crate) const fn extension(self) -> Self {
        Self {
            is_extension: true,
            ..self
        }
    }

    const fn new(name: &'static str, form: Form, absence: Absence, meaning: &'static str) -> Self {
        Self {
            name,
            form,
            absence,
            is_extension: false,
            meaning,
        }
    }
}

impl Tagged {
    /// The variant of the name `word`.
    pub(crate) fn variant(&self, word: &str) -> Option<&'static Variant> {
        self.variants.iter().find(|variant| variant.word == word)
    }

    /// The values of `type`.
    pub(crate) fn words(&self) -> impl Iterator<Item = &'static str> + Clone + use<> {
        self.variants.iter().map(|variant| variant.word)
    }
}
