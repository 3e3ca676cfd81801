//! Declarations and readers that ingresses from streams and from topics share: targets of the
//! records, the source of their ids, and dates.

use satchel_engine::address::FunctionType;

use crate::module::date::parse_date;
use crate::module::fields::Fields;
use crate::module::ingress::{FUNCTION, parse_target, parse_value_type, targets};
use crate::module::problem::Source;
use crate::module::table::{Field, Form, Format};

/// The field `targets` of a stream or topic.
pub(crate) const TARGETS: Field = Field::optional(
    "targets",
    Form::List(&FUNCTION, 1),
    "required without `router`",
    "Functions that receive each record. Not allowed with `router`.",
);

/// The field `id` of a stream or topic.
pub(crate) const RECORD_ID: Field = Field::with_default(
    "id",
    Form::Format(&RECORD_ID_FORMAT),
    "key",
    "Source of the id at each target: `key` for the record's key, or a JSON pointer into its data, \
     such as `/customer/id`, to a text that is not empty or a whole number. Not allowed with \
     `router`.",
)
.extension();

/// The field `router` of a stream or topic.
pub(crate) const ROUTER: Field = Field::optional(
    "router",
    Form::Mapping(ROUTER_FIELDS),
    "`targets` receive the records",
    "A function that receives each record and sends it on, instead of `targets` and `id`.",
)
.extension();

const ROUTER_FIELDS: &[Field] = &[
    Field::required("function", FUNCTION, "Function that receives each record.").extension(),
    Field::optional(
        "id",
        Form::Text,
        "the record's key",
        "Id of the function, the same for every record.",
    )
    .extension(),
];

/// The field `date` of a startup position.
pub(crate) const DATE: Field = Field::required(
    "date",
    Form::Format(&DATE_FORMAT),
    "Time, such as `2026-02-01 04:15:00.000 +0100`. `Z` is UTC.",
);

static RECORD_ID_FORMAT: Format = Format {
    name: "`key` or a JSON pointer",
    pattern: r"key|/[\s\S]*",
    check: |text| parse_record_id(text).map(drop),
};

static DATE_FORMAT: Format = Format {
    name: "date `yyyy-MM-dd HH:mm:ss.SSS Z`",
    pattern: r" *[0-9]{4}-[0-9]{2}-[0-9]{2} +[0-9:]{8}\.[0-9]{3} +(Z|[+\-][0-9]{4}) *",
    check: |text| parse_date(text).map(drop),
};

/// One stream or topic of an ingress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngressStream {
    /// Position in the module file.
    pub source: Source,
    /// Name of the stream or topic.
    pub stream: String,
    /// Typename given to the bytes of its records.
    pub value_type: String,
    /// Functions that receive each record; at least one. With `router`, that function alone.
    pub targets: Vec<FunctionType>,
    /// Source of the id at each of them.
    pub id: RecordId,
}

/// Source of the id of a record's address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RecordId {
    /// The record's key, as in StateFun.
    #[default]
    Key,
    /// JSON pointer (RFC 6901) into the record's data, to a text that is not empty or a whole
    /// number.
    Pointer(String),
    /// The same id for every record: one instance receives them all, and may send them on.
    Constant(String),
}

/// Reads one stream or topic. `name` is the field of its name.
pub(crate) fn stream(
    mut fields: Fields<'_, '_>,
    name: &str,
    check_name: fn(&str) -> Result<(), String>,
) -> IngressStream {
    let source = fields.source();
    let stream = fields.parsed(name, |text| check_name(text).map(|()| text.to_owned()));
    let value_type = fields.parsed("valueType", parse_value_type);
    let (targets, id) = match fields.is_present("router") {
        true => {
            for name in ["targets", "id"] {
                if fields.is_present(name) {
                    fields.problem_with(name, "not allowed with 'router': remove one of the two");
                }
            }
            router(fields.mapping("router"))
        }
        false => {
            let id = fields.parsed("id", parse_record_id);
            (targets(&mut fields), id.unwrap_or_default())
        }
    };
    IngressStream {
        source,
        stream: stream.unwrap_or_default(),
        value_type: value_type.unwrap_or_default(),
        targets,
        id,
    }
}

fn parse_record_id(text: &str) -> Result<RecordId, String> {
    let is_pointer = text.starts_with('/')
        && text
            .split('~')
            .skip(1)
            .all(|rest| rest.starts_with(['0', '1']));
    match text {
        "key" => Ok(RecordId::Key),
        _ if is_pointer => Ok(RecordId::Pointer(text.to_owned())),
        _ => Err(format!(
            "`{text}` is neither `key` nor a JSON pointer: write it as /customer/id (RFC 6901)"
        )),
    }
}

fn router(mut fields: Fields<'_, '_>) -> (Vec<FunctionType>, RecordId) {
    let function = fields.parsed("function", parse_target);
    let id = fields.optional_text("id");
    let id = id.map_or(RecordId::Key, RecordId::Constant);
    (function.into_iter().collect(), id)
}
