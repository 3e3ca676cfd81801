//! Rows of the tables: the same columns in every format.

use std::sync::Arc;

use bytes::Bytes;
use satchel_engine::address::{Address, RESERVED_NAMESPACE};
use satchel_engine::durable::{Change, DeadLetter, Key, Timer, Value};
use satchel_engine::message::Message;
use satchel_engine::placement::KeyGroup;

use super::Table;
use crate::offline::line::StateLine;

/// Type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    /// Text.
    Text,
    /// Whole number of 32 bits.
    Int,
    /// Whole number of 64 bits.
    Long,
    /// Time in ms since the epoch.
    Time,
}

/// Column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    /// Name of the column.
    pub(super) name: &'static str,
    /// Type of its cells.
    pub(super) kind: Type,
    /// True if every row has a cell.
    pub(super) required: bool,
}

const fn column(name: &'static str, kind: Type) -> Column {
    Column {
        name,
        kind,
        required: true,
    }
}

const fn optional(name: &'static str, kind: Type) -> Column {
    Column {
        name,
        kind,
        required: false,
    }
}

const STATES: &[Column] = &[
    column("namespace", Type::Text),
    column("name", Type::Text),
    column("id", Type::Text),
    column("state", Type::Text),
    optional("expires_at", Type::Time),
    column("partition_id", Type::Int),
    column("key_group", Type::Int),
    column("moment", Type::Time),
];

const MESSAGES: &[Column] = &[
    column("namespace", Type::Text),
    column("name", Type::Text),
    column("id", Type::Text),
    column("number", Type::Long),
    column("message_id", Type::Text),
    optional("caller", Type::Text),
    optional("corrects_state", Type::Text),
    column("partition_id", Type::Int),
    column("key_group", Type::Int),
    column("moment", Type::Time),
];

const TIMERS: &[Column] = &[
    column("namespace", Type::Text),
    column("name", Type::Text),
    column("id", Type::Text),
    column("number", Type::Long),
    column("due_at", Type::Time),
    optional("token", Type::Text),
    column("target", Type::Text),
    column("message_id", Type::Text),
    column("partition_id", Type::Int),
    column("key_group", Type::Int),
    column("moment", Type::Time),
];

const DEAD_LETTERS: &[Column] = &[
    optional("namespace", Type::Text),
    optional("name", Type::Text),
    optional("id", Type::Text),
    column("number", Type::Long),
    column("message_id", Type::Text),
    column("source", Type::Text),
    optional("caller", Type::Text),
    optional("egress", Type::Text),
    column("attempts", Type::Long),
    column("reason", Type::Text),
    column("failed_at", Type::Time),
    column("partition_id", Type::Int),
    column("key_group", Type::Int),
    column("moment", Type::Time),
];

/// Columns of a table, apart from those of the value.
pub(super) fn columns(table: Table) -> &'static [Column] {
    match table {
        Table::States => STATES,
        Table::Messages => MESSAGES,
        Table::Timers => TIMERS,
        Table::DeadLetters => DEAD_LETTERS,
    }
}

/// A cell.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Null,
    Text(Arc<str>),
    Number(u64),
}

/// A row of a table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// Cells in the order of [`columns`].
    pub(super) cells: Vec<Cell>,
    /// Typename of the value.
    pub(super) typename: Arc<str>,
    /// The value.
    pub(super) value: Bytes,
    /// The row as a line that an import reads, if it is a state.
    pub(super) state: Option<StateLine>,
}

/// Columns that all rows of a bucket share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) moment_ms: u64,
    pub(super) partition: u32,
    pub(super) key_group: KeyGroup,
}

impl Place {
    fn cells(&self) -> [Cell; 3] {
        [
            Cell::Number(u64::from(self.partition)),
            Cell::Number(u64::from(self.key_group.0)),
            Cell::Number(self.moment_ms),
        ]
    }
}

/// Returns the row of a fact; `None` for a state that has expired.
pub(super) fn row(fact: Change, place: &Place) -> Option<Row> {
    match (fact.key, fact.value?) {
        (Key::State { address, name }, Value::State(state)) => {
            if state
                .expires_at_ms
                .is_some_and(|end| end <= place.moment_ms)
            {
                return None;
            }
            let mut cells = address_cells(&address).to_vec();
            cells.push(Cell::Text(name.clone()));
            cells.push(state.expires_at_ms.map_or(Cell::Null, Cell::Number));
            cells.extend(place.cells());
            Some(Row {
                cells,
                typename: state.typename.clone(),
                value: state.value.clone(),
                state: Some(StateLine {
                    address,
                    name,
                    state,
                }),
            })
        }
        (Key::Message { address, number }, Value::Message(message)) => {
            let mut cells = address_cells(&address).to_vec();
            cells.push(Cell::Number(number));
            cells.push(text(message.id));
            cells.push(address_cell(message.caller.as_ref()));
            let corrected = message.correction.as_ref();
            cells.push(corrected.map_or(Cell::Null, |it| Cell::Text(it.state.clone())));
            cells.extend(place.cells());
            Some(of_message(cells, message))
        }
        (Key::Timer { owner, number }, Value::Timer(timer)) => {
            let Timer {
                due_ms,
                token,
                target,
                message,
            } = timer;
            let mut cells = address_cells(&owner).to_vec();
            cells.extend([
                Cell::Number(number),
                Cell::Number(due_ms),
                token.map_or(Cell::Null, Cell::Text),
                text(target),
                text(message.id),
            ]);
            cells.extend(place.cells());
            Some(of_message(cells, message))
        }
        (Key::DeadLetter { address, number }, Value::DeadLetter(letter)) => {
            Some(of_dead_letter(address.as_ref(), number, letter, place))
        }
        _ => None,
    }
}

fn of_message(cells: Vec<Cell>, message: Message) -> Row {
    Row {
        cells,
        typename: message.argument.typename.into(),
        value: message.argument.value,
        state: None,
    }
}

fn of_dead_letter(
    address: Option<&Address>,
    number: u64,
    letter: DeadLetter,
    place: &Place,
) -> Row {
    // One of a record or an egress lies under an address that stands for none.
    let address = address.filter(|it| it.function.namespace() != RESERVED_NAMESPACE);
    let mut cells = match address {
        Some(address) => address_cells(address).to_vec(),
        None => vec![Cell::Null; 3],
    };
    cells.extend([
        Cell::Number(number),
        text(letter.id),
        text(letter.source),
        address_cell(letter.caller.as_ref()),
        letter.egress.map_or(Cell::Null, Cell::Text),
        Cell::Number(u64::from(letter.attempts)),
        text(letter.reason),
        Cell::Number(letter.failed_at_ms),
    ]);
    cells.extend(place.cells());
    Row {
        cells,
        typename: letter.argument.typename.into(),
        value: letter.argument.value,
        state: None,
    }
}

fn address_cells(address: &Address) -> [Cell; 3] {
    [
        Cell::Text(address.function.namespace().into()),
        Cell::Text(address.function.name().into()),
        Cell::Text(address.id.clone()),
    ]
}

fn address_cell(address: Option<&Address>) -> Cell {
    address.map_or(Cell::Null, text)
}

fn text(shown: impl std::fmt::Display) -> Cell {
    Cell::Text(shown.to_string().into())
}
