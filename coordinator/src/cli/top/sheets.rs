//! Tables of what was loaded.

use serde_json::Value;

use super::format::{bytes, count, duration, moment, relative};
use super::source::{Answer, Loaded};
use super::table::{Cell, Column, Row, Table, Tone};
use super::warnings::problem;

/// Heading of a column, and whether it holds numbers.
type Heading = (&'static str, bool);

/// Endpoints with health and load.
pub(super) fn endpoints(loaded: &Loaded, now_ms: u64) -> Table {
    const COLUMNS: [Heading; 6] = [
        ("Endpoint", false),
        ("State", false),
        ("In flight", true),
        ("Waiting", true),
        ("Last success", false),
        ("Last failure", false),
    ];
    let row = |it: &Value| {
        let in_flight = format!(
            "{} of {}",
            text(&it["requests_in_flight"]),
            text(&it["requests_max"])
        );
        let since = it["since"].as_str().and_then(moment);
        let state = match since.map(|since| (now_ms as f64 - since) / 1_000.0) {
            Some(seconds) => format!("{} for {}", text(&it["state"]), duration(seconds)),
            None => text(&it["state"]),
        };
        Row {
            cells: vec![
                Cell::text(text(&it["name"])),
                Cell::text(state).toned(health(&it["state"])),
                Cell::number(in_flight, number(&it["requests_in_flight"])),
                counted(&it["batches_waiting"]),
                time(&it["last_success"], now_ms),
                failure(&it["last_failure"], now_ms),
            ],
            details: vec![
                ("Kind", text(&it["kind"])),
                ("Functions", joined(&it["functions"])),
                ("Last failure", whole_failure(&it["last_failure"])),
            ],
        }
    };
    let empty = "No module file names an endpoint.";
    let entries = loaded.endpoints.entries();
    table(
        "Endpoints",
        &COLUMNS,
        entries.iter().map(row),
        &loaded.endpoints,
        empty,
    )
}

/// Functions with sums over their addresses.
pub(super) fn functions(loaded: &Loaded) -> Table {
    const COLUMNS: [Heading; 8] = [
        ("Function", false),
        ("State", false),
        ("Addresses", true),
        ("Backlog", true),
        ("In flight", true),
        ("Backing off", true),
        ("Suspended", true),
        ("Dead letters", true),
    ];
    let row = |it: &Value| {
        let state = match (it["stopped"].as_str(), it["endpoint_state"].as_str()) {
            (Some(stopped), _) => Cell::text(stopped).toned(Tone::Warn),
            (None, Some("down")) => Cell::text("endpoint down").toned(Tone::Bad),
            _ if it["endpoint"].is_null() => Cell::text("no endpoint").toned(Tone::Dim),
            _ => Cell::text("runs").toned(Tone::Ok),
        };
        let states = it["states"].as_array().into_iter().flatten();
        let states = states.map(|it| format!("{} ({})", text(&it["name"]), text(&it["typename"])));
        Row {
            cells: vec![
                Cell::text(text(&it["function"])),
                state,
                counted(&it["addresses"]),
                counted(&it["backlog"]["messages"]),
                counted(&it["in_flight"]),
                counted(&it["backing_off"]),
                alarming(&it["suspended"]),
                alarming(&it["dead_letters"]),
            ],
            details: vec![
                ("Endpoint", text(&it["endpoint"])),
                ("Backlog", bytes(number(&it["backlog"]["bytes"]))),
                ("States", states.collect::<Vec<_>>().join(", ")),
                ("Stopped", text(&it["stopped"])),
            ],
        }
    };
    let empty = "No function has an address yet.";
    let entries = loaded.functions.entries();
    table(
        "Functions",
        &COLUMNS,
        entries.iter().map(row),
        &loaded.functions,
        empty,
    )
}

/// Ingresses with their lag.
pub(super) fn ingresses(loaded: &Loaded, now_ms: u64) -> Table {
    const COLUMNS: [Heading; 6] = [
        ("Ingress", false),
        ("State", false),
        ("Lag", true),
        ("Backlog", true),
        ("Received", true),
        ("Last error", false),
    ];
    let row = |it: &Value| {
        let stopped = it["stopped"].as_array().into_iter().flatten();
        let stopped: Vec<String> = stopped
            .map(|it| {
                format!(
                    "{}: {}",
                    text(&it["source"]),
                    problem(&text(&it["problem"]))
                )
            })
            .collect();
        let state = match it["paused"].as_str() {
            Some(cause) => Cell::text(paused(cause)).toned(Tone::Warn),
            None if !stopped.is_empty() => Cell::text("stopped").toned(Tone::Bad),
            None => Cell::text("reads").toned(Tone::Ok),
        };
        let lag = match it["lag_seconds"].as_f64() {
            Some(lag) => Cell::number(duration(lag), lag).toned(match lag > 60.0 {
                true => Tone::Warn,
                false => Tone::Plain,
            }),
            None => missing(),
        };
        Row {
            cells: vec![
                Cell::text(text(&it["id"])),
                state,
                lag,
                counted(&it["backlog_messages"]),
                counted(&it["received"]),
                failure(&it["last_error"], now_ms),
            ],
            details: vec![
                ("Kind", text(&it["kind"])),
                ("From", joined(&it["sources"])),
                ("Stopped", stopped.join("; ")),
                ("Last error", whole_failure(&it["last_error"])),
            ],
        }
    };
    let empty = "No module file names an ingress.";
    let entries = loaded.ingresses.entries();
    table(
        "Ingresses",
        &COLUMNS,
        entries.iter().map(row),
        &loaded.ingresses,
        empty,
    )
}

/// Egresses with what waits for them.
pub(super) fn egresses(loaded: &Loaded, now_ms: u64) -> Table {
    const COLUMNS: [Heading; 7] = [
        ("Egress", false),
        ("State", false),
        ("Waiting", true),
        ("Delivered", true),
        ("Retried", true),
        ("Refused", true),
        ("Last error", false),
    ];
    let row = |it: &Value| {
        let stopped = it["stopped"]["problem"].as_str().map(problem);
        let state = match &stopped {
            Some(_) => Cell::text("stopped").toned(Tone::Bad),
            None => Cell::text("delivers").toned(Tone::Ok),
        };
        Row {
            cells: vec![
                Cell::text(text(&it["id"])),
                state,
                counted(&it["waiting"]),
                counted(&it["delivered"]),
                counted(&it["retried"]),
                alarming(&it["refused"]),
                failure(&it["last_error"], now_ms),
            ],
            details: vec![
                ("Last success", text(&it["last_success"])),
                ("Stopped", stopped.unwrap_or_default()),
                ("Last error", whole_failure(&it["last_error"])),
            ],
        }
    };
    let empty = "No module file names an egress.";
    let entries = loaded.egresses.entries();
    table(
        "Egresses",
        &COLUMNS,
        entries.iter().map(row),
        &loaded.egresses,
        empty,
    )
}

/// Partitions with their owners.
pub(super) fn partitions(loaded: &Loaded) -> Table {
    const COLUMNS: [Heading; 10] = [
        ("Partition", true),
        ("Owner", false),
        ("Key groups", false),
        ("Processed", true),
        ("Commits", true),
        ("In flight", true),
        ("Waiting", true),
        ("Outbox", true),
        ("Timers", true),
        ("State", true),
    ];
    let known = array(&loaded.partitions.value()["partitions"]);
    let places = array(&loaded.members.value()["partitions"]);
    let numbers = known
        .iter()
        .chain(places)
        .filter_map(|it| it["partition"].as_u64());
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    numbers.dedup();
    let of = |entries: &'_ [Value], number: u64| {
        let mut entries = entries.iter();
        entries
            .find(|it| it["partition"] == number)
            .cloned()
            .unwrap_or_default()
    };
    let rows = numbers.into_iter().map(|at| {
        let (one, place) = (of(known, at), of(places, at));
        let owner = match (place.is_null(), place["owner"].as_str()) {
            (true, _) => Cell::text("this process"),
            (false, Some(owner)) => Cell::text(owner),
            (false, None) => Cell::text("none").toned(Tone::Bad),
        };
        let groups = array(&one["key_groups"]).iter().map(text);
        let figures = [
            "processed",
            "durable",
            "in_flight",
            "pending_bytes",
            "outbox",
            "timers",
        ];
        let mut cells = vec![
            Cell::number(at.to_string(), at as f64),
            owner,
            Cell::text(groups.collect::<Vec<_>>().join(" – ")),
        ];
        cells.extend(figures.map(|name| match name {
            "pending_bytes" => sized(&one[name]),
            _ => counted(&one[name]),
        }));
        cells.push(sized(&one["state_bytes"]));
        let mut details = vec![
            ("Messages to others", text(&one["sent_to_peers"])),
            ("Messages from others", text(&one["taken_from_peers"])),
            ("Dead letters", text(&one["dead_letters"])),
        ];
        for (name, field) in [("Offered to", "offered_to"), ("Pinned to", "pinned_to")] {
            if let Some(process) = place[field].as_str() {
                details.push((name, process.to_owned()));
            }
        }
        if place["frozen"] == true {
            details.push((
                "Frozen",
                "it stays where it is while its owner lives".to_owned(),
            ));
        }
        if one.is_null() {
            details = vec![("Figures", "its owner did not answer".to_owned())];
        }
        Row { cells, details }
    });
    let empty = "This process owns no partition.";
    table("Partitions", &COLUMNS, rows, &loaded.partitions, empty)
}

/// Processes of an application whose partitions are spread.
pub(super) fn processes(loaded: &Loaded) -> Option<Table> {
    const COLUMNS: [Heading; 5] = [
        ("Process", false),
        ("Peer address", false),
        ("Partitions", false),
        ("Weight", true),
        ("Silent for", true),
    ];
    if loaded.members == Answer::Absent {
        return None;
    }
    let members = loaded.members.value();
    let row = |it: &Value| {
        let process = text(&it["process"]);
        let name = match (it["process"] == members["process"], it["draining"] == true) {
            (true, true) => format!("{process} (answers here, draining)"),
            (true, false) => format!("{process} (answers here)"),
            (false, true) => format!("{process} (draining)"),
            (false, false) => process,
        };
        let silent = match it["silent_ms"].as_f64() {
            Some(ms) => Cell::number(duration(ms / 1_000.0), ms),
            None => missing(),
        };
        Row {
            cells: vec![
                Cell::text(name),
                Cell::text(text(&it["peer"])),
                Cell::text(joined(&it["partitions"])),
                counted(&it["weight"]),
                silent,
            ],
            details: Vec::new(),
        }
    };
    let rows = array(&members["members"]).iter().map(row);
    Some(table(
        "Processes",
        &COLUMNS,
        rows,
        &loaded.members,
        "There is no process.",
    ))
}

/// Oldest dead letters.
pub(super) fn dead_letters(loaded: &Loaded, kept: Option<f64>, now_ms: u64) -> Table {
    const COLUMNS: [Heading; 4] = [
        ("Failed", false),
        ("Address", false),
        ("Attempts", true),
        ("Reason", false),
    ];
    let row = |it: &Value| {
        let message = match (&it["message"], it["base64"].as_str()) {
            (Value::Null, Some(base64)) => format!("{base64} (base64)"),
            (message, _) => message.to_string(),
        };
        Row {
            cells: vec![
                time(&it["failed_at"], now_ms),
                Cell::text(text(&it["address"])),
                counted(&it["attempts"]),
                Cell::text(text(&it["reason"])),
            ],
            details: vec![
                ("Id", text(&it["id"])),
                ("Address", text(&it["address"])),
                ("Source", text(&it["source"])),
                ("Reason", text(&it["reason"])),
                ("Message", format!("{} {message}", text(&it["typename"]))),
            ],
        }
    };
    let entries = loaded.dead_letters.entries();
    let empty = "There is no dead letter.";
    let rows = entries.iter().map(row);
    let mut table = table("Dead letters", &COLUMNS, rows, &loaded.dead_letters, empty);
    let shown = entries.len() as f64;
    if let Some(kept) = kept.filter(|kept| *kept > shown && shown > 0.0) {
        let note = format!("These are the oldest {} of {}.", count(shown), count(kept));
        table.note = Some((Tone::Dim, note));
    }
    table
}

fn table(
    title: &str,
    columns: &[Heading],
    rows: impl Iterator<Item = Row>,
    answer: &Answer,
    empty: &str,
) -> Table {
    let rows: Vec<Row> = rows.collect();
    let columns = columns
        .iter()
        .map(|&(name, is_number)| Column { name, is_number });
    let note = match answer {
        Answer::Failed(reason) => Some((Tone::Bad, format!("Not loaded: {reason}"))),
        Answer::Absent if rows.is_empty() => Some((Tone::Dim, "Not loaded yet.".to_owned())),
        Answer::Loaded(_) if rows.is_empty() => Some((Tone::Dim, empty.to_owned())),
        _ => None,
    };
    Table {
        title: title.to_owned(),
        columns: columns.collect(),
        rows,
        note,
    }
}

/// Words for the cause of a pause.
fn paused(cause: &str) -> String {
    match cause {
        "person" => "paused by a person".to_owned(),
        "held" => "held".to_owned(),
        cause => format!("paused: {}", cause.replace('_', " ")),
    }
}

fn health(state: &Value) -> Tone {
    match state.as_str() {
        Some("up") => Tone::Ok,
        Some("down") => Tone::Bad,
        _ => Tone::Plain,
    }
}

fn missing() -> Cell {
    Cell::text("–").toned(Tone::Dim)
}

fn counted(value: &Value) -> Cell {
    value
        .as_f64()
        .map_or_else(missing, |it| Cell::number(count(it), it))
}

fn sized(value: &Value) -> Cell {
    value
        .as_f64()
        .map_or_else(missing, |it| Cell::number(bytes(it), it))
}

/// A count that should be 0.
fn alarming(value: &Value) -> Cell {
    let cell = counted(value);
    match number(value) > 0.0 {
        true => cell.toned(Tone::Bad),
        false => cell,
    }
}

fn time(value: &Value, now_ms: u64) -> Cell {
    match value.as_str() {
        Some(at) => Cell::number(relative(at, now_ms), moment(at).unwrap_or(0.0)),
        None => missing(),
    }
}

fn failure(value: &Value, now_ms: u64) -> Cell {
    let Some(at) = value["at"].as_str() else {
        return missing();
    };
    let kind = value["kind"]
        .as_str()
        .map_or(String::new(), |kind| format!(" {kind}:"));
    let shown = format!("{}{kind} {}", relative(at, now_ms), text(&value["message"]));
    Cell::number(shown, moment(at).unwrap_or(0.0))
}

fn whole_failure(value: &Value) -> String {
    let parts = ["at", "kind", "message"]
        .iter()
        .filter_map(|name| value[*name].as_str());
    parts.collect::<Vec<_>>().join(" ")
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn joined(value: &Value) -> String {
    let texts: Vec<String> = array(value).iter().map(text).collect();
    texts.join(", ")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

/// A value as text; a dash for none.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
