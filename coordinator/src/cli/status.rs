//! `satchel status`.

use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value};

use crate::cli::client::Client;
use crate::cli::output;
use crate::cli::target::AdminArgs;
use crate::error::Failure;

/// Maximum number of entries of each list.
const ENTRIES_MAX: usize = 100;

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    admin: AdminArgs,
}

/// A list of the administration port, and the columns of its table.
struct List {
    name: &'static str,
    columns: &'static [Column],
}

/// Heading of a column, and its cell of an entry.
type Column = (&'static str, fn(&Value) -> String);

const LISTS: [List; 4] = [
    List {
        name: "endpoints",
        columns: &[
            ("ENDPOINT", |it| text(&it["name"])),
            ("STATE", |it| match it["since"].as_str() {
                Some(since) => format!("{} since {}", text(&it["state"]), second(since)),
                None => text(&it["state"]),
            }),
            ("REQUESTS", |it| {
                let (now, max) = (text(&it["requests_in_flight"]), text(&it["requests_max"]));
                format!("{now} of {max}")
            }),
            ("WAITING", |it| text(&it["batches_waiting"])),
            ("LAST SUCCESS", |it| time(&it["last_success"])),
            ("LAST FAILURE", |it| failure(&it["last_failure"])),
        ],
    },
    List {
        name: "functions",
        columns: &[
            ("FUNCTION", |it| text(&it["function"])),
            ("ENDPOINT", |it| match it["endpoint_state"].as_str() {
                Some("down") => format!("{} (down)", text(&it["endpoint"])),
                _ => text(&it["endpoint"]),
            }),
            ("ADDRESSES", |it| text(&it["addresses"])),
            ("BACKLOG", |it| text(&it["backlog"]["messages"])),
            ("IN FLIGHT", |it| text(&it["in_flight"])),
            ("BACKING OFF", |it| text(&it["backing_off"])),
            ("SUSPENDED", |it| text(&it["suspended"])),
            ("STOPPED", |it| text(&it["stopped"])),
            ("DEAD LETTERS", |it| text(&it["dead_letters"])),
        ],
    },
    List {
        name: "ingresses",
        columns: &[
            ("INGRESS", |it| text(&it["id"])),
            ("FROM", |it| {
                let sources = it["sources"].as_array().into_iter().flatten();
                sources.map(text).collect::<Vec<_>>().join(", ")
            }),
            ("STATE", |it| match it["paused"].as_str() {
                Some(cause) => format!("paused: {cause}"),
                None => match it["stopped"][0]["problem"].as_str() {
                    Some(problem) => format!("stopped: {problem}"),
                    None => "reading".to_owned(),
                },
            }),
            ("RECEIVED", |it| text(&it["received"])),
            ("LAG (S)", |it| text(&it["lag_seconds"])),
            ("BACKLOG", |it| text(&it["backlog_messages"])),
            ("LAST ERROR", |it| failure(&it["last_error"])),
        ],
    },
    List {
        name: "egresses",
        columns: &[
            ("EGRESS", |it| text(&it["id"])),
            ("STATE", |it| match it["stopped"]["problem"].as_str() {
                Some(problem) => format!("stopped: {problem}"),
                None => "delivering".to_owned(),
            }),
            ("WAITING", |it| text(&it["waiting"])),
            ("DELIVERED", |it| text(&it["delivered"])),
            ("RETRIED", |it| text(&it["retried"])),
            ("REFUSED", |it| text(&it["refused"])),
            ("LAST SUCCESS", |it| time(&it["last_success"])),
            ("LAST ERROR", |it| failure(&it["last_error"])),
        ],
    },
];

/// Prints the status of a process: its readiness, and each component with its health.
pub(crate) async fn run(args: &StatusArgs) -> Result<(), Failure> {
    let client = args.admin.client()?;
    let readiness = client.readiness().await?;
    let mut all = Map::from_iter([("readiness".to_owned(), readiness.clone())]);
    if readiness["state"] == "serving" {
        // A process of an earlier version does not know the path.
        if let Ok(placement) = client
            .json(client.request(Method::GET, "/api/placement"))
            .await
        {
            all.insert("placement".to_owned(), placement);
        }
        for list in &LISTS {
            all.insert(list.name.to_owned(), entries(&client, list.name).await?);
        }
    }
    let shown = if args.json {
        format!("{:#}", Value::Object(all))
    } else {
        tables(&all)
    };
    output::line(shown.as_bytes())?;
    Ok(())
}

async fn entries(client: &Client, list: &str) -> Result<Value, Failure> {
    let path = format!("/api/{list}?limit={ENTRIES_MAX}");
    client.json(client.request(Method::GET, &path)).await
}

fn tables(all: &Map<String, Value>) -> String {
    let mut shown = headline(&all["readiness"]);
    if let Some(placement) = all.get("placement") {
        let tags = match placement["hash_tags"] == true {
            true => " with hash tags",
            false => "",
        };
        let (kind, key_groups) = (
            text(&placement["placement"]),
            text(&placement["key_groups"]),
        );
        let partitions = match placement["partitions"].as_u64() {
            None | Some(1) => String::new(),
            Some(partitions) => format!(", in {partitions} partitions"),
        };
        shown.push_str(&format!(
            "placement: {kind}{tags} over {key_groups} key groups{partitions}\n"
        ));
    }
    for list in &LISTS {
        let page = all.get(list.name).unwrap_or(&Value::Null);
        let entries = page[list.name].as_array().map_or(&[][..], Vec::as_slice);
        if entries.is_empty() {
            continue;
        }
        shown.push('\n');
        shown.push_str(&table(list, entries));
        if !page["next"].is_null() {
            let name = list.name;
            shown.push_str(&format!(
                "… more {name}: GET /api/{name}?after={}\n",
                text(&page["next"])
            ));
        }
    }
    shown
}

fn headline(readiness: &Value) -> String {
    let mut line = text(&readiness["state"]);
    if let Some(recovered) = readiness["recovered"].as_f64() {
        line.push_str(&format!(", {:.0} % of the state loaded", recovered * 100.0));
    }
    if readiness["held"] == true {
        line.push_str(", held: ingresses, timers and outbox wait for a start with --resume-io");
    }
    line.push('\n');
    if let Some(jumped) = readiness["clock_jump_seconds"].as_f64() {
        line.push_str(&format!(
            "the calendar jumped by {jumped:.0} s and is not followed: a restart accepts it\n"
        ));
    } else if let Some(ahead) = readiness["partition_time_ahead_seconds"].as_f64() {
        let side = if ahead < 0.0 { "behind" } else { "ahead of" };
        let seconds = ahead.abs();
        line.push_str(&format!(
            "partition time is {seconds:.0} s {side} the calendar: timers and expiries go by it\n"
        ));
    }
    line
}

/// Returns a table with a line of headings, and columns as wide as their widest cell.
fn table(list: &List, entries: &[Value]) -> String {
    let headings = list
        .columns
        .iter()
        .map(|(heading, _)| (*heading).to_owned());
    let mut rows = vec![headings.collect::<Vec<_>>()];
    for entry in entries {
        rows.push(list.columns.iter().map(|(_, cell)| cell(entry)).collect());
    }
    let widths: Vec<usize> = (0..list.columns.len())
        .map(|column| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        })
        .collect();
    let mut table = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let padding = width - cell.chars().count() + 2;
            line.push_str(cell);
            line.push_str(&" ".repeat(padding));
        }
        table.push_str(line.trim_end());
        table.push('\n');
    }
    table
}

/// Returns a value as a cell: a dash for none.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => output::printable(text),
        other => other.to_string(),
    }
}

/// Returns a time without the fraction of its second.
fn second(time: &str) -> String {
    match time.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => time.to_owned(),
    }
}

fn time(value: &Value) -> String {
    value.as_str().map_or("-".to_owned(), second)
}

/// Returns time, kind and message of a failure.
fn failure(value: &Value) -> String {
    let Some(at) = value["at"].as_str() else {
        return "-".to_owned();
    };
    let message = text(&value["message"]);
    match value["kind"].as_str() {
        Some(kind) => format!("{} {kind}: {message}", second(at)),
        None => format!("{} {message}", second(at)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_is_shown_in_columns_and_a_list_without_entries_not_at_all() {
        let endpoint = |name: &str, since: Option<&str>| {
            json!({
                "name": name, "state": if since.is_some() { "down" } else { "up" },
                "since": since, "requests_in_flight": 1, "requests_max": 8,
                "batches_waiting": 40, "last_success": null,
                "last_failure": since.map(|since| json!({
                    "at": since, "kind": "unavailable", "message": "refused\u{1b}[31m",
                })),
            })
        };
        let all = json!({
            "readiness": {"state": "serving", "held": true},
            "placement": {
                "placement": "id-md5", "key_groups": 1024, "hash_tags": true, "partitions": 4,
            },
            "endpoints": {
                "endpoints": [
                    endpoint("greeter", Some("2026-01-02T03:04:05.678Z")),
                    endpoint("a-longer-name", None),
                ],
                "next": "100",
            },
            "ingresses": {"ingresses": [], "next": null},
        });
        assert_eq!(
            tables(all.as_object().unwrap()),
            "\
serving, held: ingresses, timers and outbox wait for a start with --resume-io
placement: id-md5 with hash tags over 1024 key groups, in 4 partitions

ENDPOINT       STATE                            REQUESTS  WAITING  LAST SUCCESS  LAST FAILURE
greeter        down since 2026-01-02T03:04:05Z  1 of 8    40       -             \
2026-01-02T03:04:05Z unavailable: refused [31m
a-longer-name  up                               1 of 8    40       -             -
… more endpoints: GET /api/endpoints?after=100
"
        );
        let standby = json!({"readiness": {"state": "standby"}});
        assert_eq!(tables(standby.as_object().unwrap()), "standby\n");
        for (field, value, named) in [
            (
                "partition_time_ahead_seconds",
                3600.4,
                "partition time is 3600 s ahead of the calendar: timers and expiries go by it",
            ),
            (
                "partition_time_ahead_seconds",
                -9.0,
                "partition time is 9 s behind the calendar: timers and expiries go by it",
            ),
            (
                "clock_jump_seconds",
                86400.0,
                "the calendar jumped by 86400 s and is not followed: a restart accepts it",
            ),
        ] {
            let differs = json!({"readiness": {"state": "serving", field: value}});
            let shown = tables(differs.as_object().unwrap());
            assert_eq!(shown, format!("serving\n{named}\n"));
        }
    }
}
