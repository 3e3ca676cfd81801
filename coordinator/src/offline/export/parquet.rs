//! An export as a Parquet file.

use std::io;
use std::sync::Arc;

use parquet::basic::Type as Physical;
use parquet::basic::{Compression, ConvertedType, LogicalType, Repetition, TimeUnit, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{ColumnPath, Type as Field, TypePtr};
use satchel_protocol::types::BuiltIn;
use serde_json::value::RawValue;

use super::output::Output;
use super::rows::{Cell, Column, Row, Type};
use super::{Table, WriteError, Writer, rows};
use crate::error::{Exit, Failure};
use crate::offline::line::{BUILT_IN, lossless};

/// Size of the rows of a row group in memory, in bytes, from which it is written.
const GROUP_BYTES: usize = 8 << 20;

/// Maximum number of rows of a row group.
const GROUP_ROWS: usize = 100_000;

/// Level of compression, from 1 to 22.
const ZSTD_LEVEL: i32 = 3;

/// Columns whose values hardly repeat, for which a dictionary would only cost.
const WITHOUT_DICTIONARY: [&str; 4] = ["id", "message_id", "value", "value_json"];

/// A Parquet file that is being written.
pub(super) struct ParquetFile {
    columns: &'static [Column],
    schema: TypePtr,
    properties: WriterPropertiesPtr,
    /// Always present, except while the file begins again.
    writer: Option<SerializedFileWriter<Output>>,
    group: Group,
    rows: u64,
}

impl ParquetFile {
    /// Begins a file with the rows of `table`.
    pub(super) fn new(table: Table, output: Output) -> Result<Self, Failure> {
        if output.is_terminal() {
            return Err(Failure::usage(
                "a Parquet file is not for a terminal; name a file with --output",
            ));
        }
        let columns = rows::columns(table);
        let schema = Arc::new(schema(columns).map_err(|error| failure(&error))?);
        let level = ZstdLevel::try_new(ZSTD_LEVEL).map_err(|error| failure(&error))?;
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_created_by(concat!("satchel ", env!("CARGO_PKG_VERSION")).to_owned());
        for name in WITHOUT_DICTIONARY {
            let column = ColumnPath::from(name);
            properties = properties.set_column_dictionary_enabled(column, false);
        }
        let properties = Arc::new(properties.build());
        let writer = SerializedFileWriter::new(output, schema.clone(), properties.clone());
        Ok(Self {
            columns,
            schema,
            properties,
            writer: Some(writer.map_err(|error| failure(&error))?),
            group: Group::new(columns),
            rows: 0,
        })
    }

    fn write_group(&mut self) -> Result<(), WriteError> {
        let group = std::mem::replace(&mut self.group, Group::new(self.columns));
        if group.rows == 0 {
            return Ok(());
        }
        let writer = self.writer.as_mut().expect("it is present between calls");
        let written = writer
            .next_row_group()
            .and_then(|row_group| group.write(row_group));
        written.map_err(|error| write_error(&error))
    }
}

impl Writer for ParquetFile {
    fn push(&mut self, row: &Row) -> Result<(), WriteError> {
        self.group.push(row);
        self.rows += 1;
        if self.group.bytes >= GROUP_BYTES || self.group.rows >= GROUP_ROWS {
            self.write_group()?;
        }
        Ok(())
    }

    fn rows(&self) -> u64 {
        self.rows
    }

    fn restart(&mut self) -> Result<(), Failure> {
        let writer = self.writer.take().expect("it is present between calls");
        // This writes the end of a file, which the next line removes.
        let mut output = writer.into_inner().map_err(|error| failure(&error))?;
        output.restart()?;
        let writer =
            SerializedFileWriter::new(output, self.schema.clone(), self.properties.clone());
        self.writer = Some(writer.map_err(|error| failure(&error))?);
        self.group = Group::new(self.columns);
        self.rows = 0;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<u64, Failure> {
        let rows = self.rows;
        match self.write_group() {
            Ok(()) => {}
            Err(WriteError::Closed) => return Ok(rows),
            Err(WriteError::Failed(failure)) => return Err(failure),
        }
        let writer = self.writer.take().expect("it is present between calls");
        match writer.into_inner().map_err(|error| write_error(&error)) {
            Ok(output) => output.finish()?,
            Err(WriteError::Closed) => {}
            Err(WriteError::Failed(failure)) => return Err(failure),
        }
        Ok(rows)
    }
}

/// Rows of a row group, column by column.
struct Group {
    columns: Vec<Cells>,
    typename: Cells,
    json: Cells,
    string: Cells,
    int: Cells,
    double: Cells,
    bool: Cells,
    value: Cells,
    rows: usize,
    /// Approximate size in bytes.
    bytes: usize,
}

impl Group {
    fn new(columns: &[Column]) -> Self {
        let columns = columns.iter().map(|column| {
            Cells::new(
                column.required,
                match column.kind {
                    Type::Text => Values::Bytes(Vec::new()),
                    Type::Int => Values::Int(Vec::new()),
                    Type::Long | Type::Time => Values::Long(Vec::new()),
                },
            )
        });
        let bytes = |required| Cells::new(required, Values::Bytes(Vec::new()));
        Self {
            columns: columns.collect(),
            typename: bytes(true),
            json: bytes(false),
            string: bytes(false),
            int: Cells::new(false, Values::Long(Vec::new())),
            double: Cells::new(false, Values::Double(Vec::new())),
            bool: Cells::new(false, Values::Bool(Vec::new())),
            value: bytes(true),
            rows: 0,
            bytes: 0,
        }
    }

    fn push(&mut self, row: &Row) {
        for (cells, cell) in self.columns.iter_mut().zip(&row.cells) {
            match cell {
                Cell::Null => cells.push_null(),
                Cell::Text(text) => {
                    self.bytes += text.len();
                    cells.push_bytes(Some(ByteArray::from(&**text)));
                }
                Cell::Number(number) => cells.push_number(*number),
            }
        }
        let (typename, bytes) = (&*row.typename, &row.value);
        let json = json(typename, bytes);
        self.bytes += typename.len() + 2 * bytes.len() + 16 * self.columns.len();
        let is = |name: &str| typename == name;
        let int = match () {
            () if is(i32::TYPENAME) => i32::from_wire(bytes).ok().map(i64::from),
            () if is(i64::TYPENAME) => i64::from_wire(bytes).ok(),
            () => None,
        };
        let double = match () {
            () if is(f32::TYPENAME) => f32::from_wire(bytes).ok().map(f64::from),
            () if is(f64::TYPENAME) => f64::from_wire(bytes).ok(),
            () => None,
        };
        let bool = is(bool::TYPENAME).then(|| bool::from_wire(bytes).ok());
        let string = is(String::TYPENAME).then(|| String::from_wire(bytes).ok());
        self.typename.push_bytes(Some(ByteArray::from(typename)));
        self.json
            .push_bytes(json.map(|json| ByteArray::from(json.get())));
        let string = string.flatten();
        self.string
            .push_bytes(string.map(|text| ByteArray::from(text.as_str())));
        self.int.push(int, |values, int| match values {
            Values::Long(longs) => longs.push(int),
            _ => unreachable!("the column has whole numbers"),
        });
        self.double.push(double, |values, double| match values {
            Values::Double(doubles) => doubles.push(double),
            _ => unreachable!("the column has doubles"),
        });
        self.bool.push(bool.flatten(), |values, bool| match values {
            Values::Bool(bools) => bools.push(bool),
            _ => unreachable!("the column has truth values"),
        });
        self.value.push_bytes(Some(ByteArray::from(bytes.clone())));
        self.rows += 1;
    }

    /// Writes the columns in the order of [`schema`].
    fn write(self, mut group: SerializedRowGroupWriter<'_, Output>) -> Result<(), ParquetError> {
        let values = [
            self.typename,
            self.json,
            self.string,
            self.int,
            self.double,
            self.bool,
            self.value,
        ];
        for cells in self.columns.into_iter().chain(values) {
            let mut column = group.next_column()?.ok_or_else(|| {
                ParquetError::General("the schema has fewer columns than the rows".to_owned())
            })?;
            let levels = cells.levels.as_deref();
            match &cells.values {
                Values::Bytes(values) => column
                    .typed::<ByteArrayType>()
                    .write_batch(values, levels, None)?,
                Values::Int(values) => column
                    .typed::<Int32Type>()
                    .write_batch(values, levels, None)?,
                Values::Long(values) => column
                    .typed::<Int64Type>()
                    .write_batch(values, levels, None)?,
                Values::Double(values) => column
                    .typed::<DoubleType>()
                    .write_batch(values, levels, None)?,
                Values::Bool(values) => column
                    .typed::<BoolType>()
                    .write_batch(values, levels, None)?,
            };
            column.close()?;
        }
        group.close()?;
        Ok(())
    }
}

/// Cells of a column.
struct Cells {
    values: Values,
    /// For each row 1 if it has a value, else 0; `None` if every row has one.
    levels: Option<Vec<i16>>,
}

enum Values {
    Bytes(Vec<ByteArray>),
    Int(Vec<i32>),
    Long(Vec<i64>),
    Double(Vec<f64>),
    Bool(Vec<bool>),
}

impl Cells {
    fn new(required: bool, values: Values) -> Self {
        Self {
            values,
            levels: (!required).then(Vec::new),
        }
    }

    fn push<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Values, T)) {
        if let Some(levels) = &mut self.levels {
            levels.push(i16::from(value.is_some()));
        }
        if let Some(value) = value {
            put(&mut self.values, value);
        }
    }

    fn push_null(&mut self) {
        self.push(None, |_, (): ()| {});
    }

    fn push_bytes(&mut self, value: Option<ByteArray>) {
        self.push(value, |values, bytes| match values {
            Values::Bytes(all) => all.push(bytes),
            _ => unreachable!("the column has bytes"),
        });
    }

    fn push_number(&mut self, number: u64) {
        self.push(Some(number), |values, number| match values {
            Values::Int(ints) => ints.push(i32::try_from(number).unwrap_or(i32::MAX)),
            Values::Long(longs) => longs.push(i64::try_from(number).unwrap_or(i64::MAX)),
            _ => unreachable!("the column has numbers"),
        });
    }
}

/// Returns a value as JSON text: one of a built-in type if the text stands for exactly this value,
/// or a value that is JSON text.
fn json(typename: &str, bytes: &bytes::Bytes) -> Option<Box<RawValue>> {
    if typename.starts_with(BUILT_IN) {
        return lossless(typename, bytes);
    }
    RawValue::from_string(std::str::from_utf8(bytes).ok()?.to_owned()).ok()
}

/// Returns the schema of a table: its columns, then those of the value.
fn schema(columns: &[Column]) -> Result<Field, ParquetError> {
    let mut fields = Vec::new();
    for column in columns {
        fields.push(match column.kind {
            Type::Text => text(column.name, column.required)?,
            Type::Int => plain(column.name, column.required, Physical::INT32)?,
            Type::Long => plain(column.name, column.required, Physical::INT64)?,
            Type::Time => time(column.name, column.required)?,
        });
    }
    fields.extend([
        text("typename", true)?,
        text("value_json", false)?,
        text("value_string", false)?,
        plain("value_int", false, Physical::INT64)?,
        plain("value_double", false, Physical::DOUBLE)?,
        plain("value_bool", false, Physical::BOOLEAN)?,
        plain("value", true, Physical::BYTE_ARRAY)?,
    ]);
    let fields = fields.into_iter().map(Arc::new).collect();
    Field::group_type_builder("satchel")
        .with_fields(fields)
        .build()
}

fn repetition(required: bool) -> Repetition {
    match required {
        true => Repetition::REQUIRED,
        false => Repetition::OPTIONAL,
    }
}

fn plain(name: &str, required: bool, physical: Physical) -> Result<Field, ParquetError> {
    Field::primitive_type_builder(name, physical)
        .with_repetition(repetition(required))
        .build()
}

fn text(name: &str, required: bool) -> Result<Field, ParquetError> {
    Field::primitive_type_builder(name, Physical::BYTE_ARRAY)
        .with_repetition(repetition(required))
        .with_converted_type(ConvertedType::UTF8)
        .with_logical_type(Some(LogicalType::String))
        .build()
}

fn time(name: &str, required: bool) -> Result<Field, ParquetError> {
    Field::primitive_type_builder(name, Physical::INT64)
        .with_repetition(repetition(required))
        .with_logical_type(Some(LogicalType::timestamp(true, TimeUnit::MILLIS)))
        .build()
}

fn write_error(error: &ParquetError) -> WriteError {
    let cause = match error {
        ParquetError::External(cause) => cause.downcast_ref::<io::Error>(),
        _ => None,
    };
    match cause {
        Some(cause) if cause.kind() == io::ErrorKind::BrokenPipe => WriteError::Closed,
        _ => WriteError::Failed(failure(error)),
    }
}

fn failure(error: &ParquetError) -> Failure {
    Failure::new(
        Exit::Environment,
        format!("the Parquet file cannot be written: {error}"),
    )
}
