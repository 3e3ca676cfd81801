//! Exports for SQL: the recipes of docs/sql.md as they stand there, and what the page promises.

use std::path::Path;
use std::process::{Command, Stdio};

use satchel_testkit::{python_with, until_true};
use serde_json::{Value, json};

use crate::pages::{Reader, blocks, steps};
use crate::replay::story;

/// The engine, and a parser of Athena's dialect.
const PACKAGES: [&str; 2] = ["duckdb==2.0.1", "sqlglot==30.30.0"];

/// Runs `recipes.py` in `dir`. Returns what it prints.
fn recipes(dir: &Path, blocks: &Value) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dev/sql/recipes.py");
    let mut child = Command::new(python_with(&PACKAGES))
        .arg("-B")
        .arg(script)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    serde_json::to_writer(child.stdin.take().unwrap(), blocks).unwrap();
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}");
    serde_json::from_str(&printed).unwrap()
}

/// Waits until a table of the application has as many rows.
async fn rows_are(reader: &Reader, table: &str, rows: usize) {
    let export = format!("satchel state export --state .satchel/state --table {table}");
    until_true("the rows are durable", async || {
        reader.command(&export).1.lines().count() == rows
    })
    .await;
}

#[tokio::test]
async fn the_recipes_answer_their_questions_about_an_exported_application() {
    let mut reader = story::reader();
    for block in blocks("replay.md") {
        match block.info.as_str() {
            "python" | "yaml" => assert!(reader.write(&block)),
            _ => {}
        }
    }
    // The wallet of the other page, with a savepoint after its first payment.
    let mut console = blocks("replay.md");
    console.retain(|block| block.info == "console");
    reader.run(&console[0]).await;
    let pay = |reader: &Reader, command: &str| {
        let (code, printed) = reader.command(command);
        assert_eq!((code, printed.as_str()), (0, ""), "{command}");
    };
    let sends = steps(&console[1]);
    pay(&reader, &sends[0].command);
    rows_are(&reader, "states", 2).await;
    let create = "satchel savepoint create before-payday --state .satchel/state";
    assert_eq!(reader.command(create).0, 0);
    for send in &sends[1..] {
        pay(&reader, &send.command);
    }
    pay(
        &reader,
        "satchel send shop/wallet/bob '{\"cents\": 70}' --type shop/payment",
    );
    rows_are(&reader, "dead-letters", 1).await;
    rows_are(&reader, "timers", 3).await;
    reader.stop().await;

    let mut queries = Vec::new();
    for block in blocks("sql.md") {
        match block.info.as_str() {
            "console" => reader.run(&block).await,
            "sql duckdb" | "sql athena" => queries.push(json!({
                "dialect": block.info.trim_start_matches("sql "),
                "line": block.line,
                "text": block.text,
            })),
            _ => {}
        }
    }
    let results = recipes(reader.dir.path(), &json!(queries));
    println!("{results:#}");
    let duckdb = &results["duckdb"];
    assert_eq!(
        duckdb[0],
        json!([
            ["shop/wallet", "last", "shop/payment", 2, 54],
            ["shop/wallet", "balance", "io.statefun.types/long", 2, 18],
        ])
    );
    assert_eq!(duckdb[1], json!([["ada", 800, 300], ["bob", 70, 70]]));
    assert_eq!(
        duckdb[2],
        json!([
            [
                "shop",
                "wallet",
                "ada",
                "800",
                "{\"cents\": 300, \"share\": 37}"
            ],
            [
                "shop",
                "wallet",
                "bob",
                "70",
                "{\"cents\": 70, \"share\": 100}"
            ],
        ])
    );
    let letters = &duckdb[3][0];
    assert_eq!(letters[0], "shop/wallet");
    assert!(
        letters[1].as_str().unwrap().contains("ZeroDivisionError"),
        "{letters}"
    );
    assert_eq!((&letters[2], &letters[4]), (&json!(1), &json!(2)));
    let timers = duckdb[4].as_array().unwrap();
    // Those of an address may be due on two days.
    let timers_of = |target: &str| {
        let of_target = timers.iter().filter(|row| row[1] == target);
        of_target.map(|row| row[2].as_i64().unwrap()).sum::<i64>()
    };
    assert_eq!(
        (timers_of("shop/mail/ada"), timers_of("shop/mail/bob")),
        (2, 1)
    );
    assert_eq!(
        duckdb[5],
        json!([
            ["ada", "balance", "500", "800"],
            [
                "ada",
                "last",
                "{\"cents\": 500, \"share\": 100}",
                "{\"cents\": 300, \"share\": 37}"
            ],
            ["bob", "balance", null, "70"],
            ["bob", "last", null, "{\"cents\": 70, \"share\": 100}"],
        ])
    );
    assert_eq!(duckdb[6], json!([["ada", 800], ["bob", 70]]));

    let athena = &results["athena"];
    let balances = json!([["ada", 800], ["bob", 70]]);
    assert_eq!(athena[0], balances);
    assert_eq!(athena[1], json!([["ada", 300], ["bob", 70]]));
    assert_eq!(athena[2][0][0], "2026-11-30");
    assert_eq!(athena[2][0][2], 1);
    assert_eq!(athena[3], balances);
    assert_eq!(
        results["tables"],
        json!(["states", "dead_letters", "states_ndjson"])
    );
}
