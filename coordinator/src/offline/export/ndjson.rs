//! An export as lines of NDJSON.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::output::Output;
use super::rows::{Cell, Column, Row, Type};
use super::{Table, WriteError, Writer, rows};
use crate::error::Failure;
use crate::module::format_rfc3339;
use crate::offline::line::lossless;

/// Lines of NDJSON.
pub(super) struct Lines {
    columns: &'static [Column],
    output: Output,
    rows: u64,
}

impl Lines {
    /// Begins to write the rows of `table`.
    pub(super) fn new(table: Table, output: Output) -> Self {
        Self {
            columns: rows::columns(table),
            output,
            rows: 0,
        }
    }
}

impl Writer for Lines {
    fn push(&mut self, row: &Row) -> Result<(), WriteError> {
        let mut line = match &row.state {
            Some(state) => state.to_json(),
            None => to_json(self.columns, row),
        };
        line.push('\n');
        let written = self.output.write_all(line.as_bytes());
        written.map_err(|error| self.output.failed(error))?;
        self.rows += 1;
        Ok(())
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn restart(&mut self) -> Result<(), Failure> {
        self.rows = 0;
        self.output.restart()
    }

    fn finish(self: Box<Self>) -> Result<u64, Failure> {
        self.output.finish()?;
        Ok(self.rows)
    }
}

/// Returns a row as an object: its cells, `typename`, and `value` or `base64` as in a line of a
/// state.
fn to_json(columns: &[Column], row: &Row) -> String {
    let mut fields = Map::new();
    for (column, cell) in columns.iter().zip(&row.cells) {
        let value = match cell {
            Cell::Null => Value::Null,
            Cell::Text(text) => Value::String(text.to_string()),
            Cell::Number(ms) if column.kind == Type::Time => Value::String(format_rfc3339(*ms)),
            Cell::Number(number) => Value::from(*number),
        };
        fields.insert(column.name.to_owned(), value);
    }
    let typename = row.typename.to_string();
    fields.insert("typename".to_owned(), Value::String(typename));
    let value = lossless(&row.typename, &row.value);
    if value.is_none() {
        let base64 = STANDARD.encode(&row.value);
        fields.insert("base64".to_owned(), Value::String(base64));
    }
    let mut line = Value::Object(fields).to_string();
    if let Some(value) = value {
        // As it is, so that large numbers keep their digits.
        line.pop();
        line.push_str(",\"value\":");
        line.push_str(value.get());
        line.push('}');
    }
    line
}
