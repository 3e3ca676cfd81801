//! `satchel cost --of-running`.

use std::fmt::Write as _;

use reqwest::Method;
use serde_json::Value;

use super::{CostArgs, CostFormat, Over};
use crate::cli::output;
use crate::error::{Exit, Failure};

/// Prints the bill of the running application.
pub(super) async fn run(args: &CostArgs) -> Result<(), Failure> {
    let client = args.admin.client()?;
    let over = match args.over {
        Over::Today => "today",
        Over::Recent => "recent",
    };
    let path = format!(
        "/api/cost?over={over}&function_memory={}&tasks={}",
        args.function_memory, args.tasks
    );
    let bill = client.json(client.request(Method::GET, &path)).await?;
    let text = match args.format {
        CostFormat::Json => bill.to_string(),
        CostFormat::Text => text(&bill).ok_or_else(|| {
            let message = "the application has not opened its state yet; retry later";
            Failure::new(Exit::Environment, message)
        })?,
    };
    output::line(text.as_bytes()).map(drop)
}

/// Formats a bill for people.
fn text(bill: &Value) -> Option<String> {
    let mut text = String::new();
    if !bill["paid"].as_bool()? {
        let _ = writeln!(
            text,
            "Nothing of this is paid: the state is on this machine. It is what the same would cost \
             on AWS.\n"
        );
    }
    for (part, title) in [("so_far", "so far"), ("month", "a month")] {
        let _ = writeln!(
            text,
            "{title:<24} {:>14} {:<10} {:>12} {:<6}",
            "", "", "$", "by"
        );
        for position in bill[part]["positions"].as_array()? {
            let _ = writeln!(
                text,
                "{:<24} {:>14} {:<10} {:>12} {:<6}",
                position["name"].as_str()?,
                number(position["quantity"].as_f64()?),
                position["unit"].as_str()?,
                number(position["dollars"].as_f64()?),
                position["by"].as_str().unwrap_or("count"),
            );
        }
        let sum = number(bill[part]["dollars"].as_f64()?);
        let _ = writeln!(text, "{:<50} {sum:>12}\n", "sum");
    }
    let present = bill["month"]["dollars"].as_f64()?;
    for dial in bill["dials"].as_array()? {
        let (name, unit) = (dial["dial"].as_str()?, dial["unit"].as_str()?);
        let _ = writeln!(
            text,
            "{name:<24} {:>14} {:>12} {:>12}",
            "$ a month", "change", "commit ms"
        );
        for option in dial["options"].as_array()? {
            let dollars = option["dollars"].as_f64()?;
            let mark = if option["present"].as_bool()? {
                " (now)"
            } else {
                ""
            };
            let _ = writeln!(
                text,
                "{:<24} {dollars:>14.2} {:>+12.2} {:>12.0}",
                format!("  {}{unit}{mark}", option["value"].as_f64()?),
                dollars - present,
                option["commit_ms"].as_f64()?,
            );
        }
        text.push('\n');
    }
    let _ = writeln!(text, "counted by:");
    for process in bill["processes"].as_array()? {
        let _ = writeln!(
            text,
            "- process {}, started {}, since {} ({:.0} s)",
            process["process"].as_str()?,
            process["started"].as_str()?,
            process["since"].as_str()?,
            process["seconds"].as_f64()?,
        );
    }
    let _ = writeln!(text, "\nassumptions:");
    for assumption in bill["assumptions"].as_array()? {
        let _ = writeln!(text, "- {}", assumption.as_str()?);
    }
    Some(text.trim_end().to_owned())
}

/// Formats a number with the digits that matter.
fn number(number: f64) -> String {
    match number {
        0.0 => "0".to_owned(),
        number if number.abs() < 0.01 => format!("{number:.2e}"),
        number if number.abs() < 10.0 => format!("{number:.3}"),
        number => format!("{number:.2}"),
    }
}
