//! `namespace/name` ids of ingresses and egresses.

use std::fmt;
use std::str::FromStr;

use crate::module::fields::Fields;
use crate::module::table::{Field, Form, Format};

/// The field `id` of every ingress and egress.
pub(crate) const ID: Field = Field::required(
    "id",
    Form::Format(&IDENTIFIER),
    "Identity of the ingress or egress. Functions name an egress by it, and the positions of an \
     ingress belong to it.",
);

static IDENTIFIER: Format = Format {
    name: "`namespace/name`",
    pattern: r"[\s\S]+/[^/]+",
    check: |text| text.parse::<Identifier>().map(drop),
};

/// `namespace/name` of an ingress or egress.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identifier {
    /// The part before the last `/`.
    pub namespace: String,
    /// The part after the last `/`.
    pub name: String,
}

impl FromStr for Identifier {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.rsplit_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok(Self {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err(format!("`{text}` is not an id: write `namespace/name`")),
        }
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Reads `id` of an ingress or egress.
pub(crate) fn identifier(fields: &mut Fields<'_, '_>) -> Identifier {
    let id = fields.parsed("id", str::parse);
    id.unwrap_or_else(|| Identifier {
        namespace: String::new(),
        name: String::new(),
    })
}
