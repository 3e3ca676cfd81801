//! One plain snapshot, for pipes and scripts.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use unicode_width::UnicodeWidthStr as _;

use super::app::{App, View};
use super::draw::{PLOTS, now_text, sign};
use super::format::{count, duration};
use super::source::{News, Source, Wanted};
use super::table::{GAP, Table, Tone};
use crate::cli::output;
use crate::clock::now_ms;
use crate::error::Failure;

/// Maximum time to wait for live figures.
const SAMPLES_TIME_MAX: Duration = Duration::from_secs(3);

/// Samples that make a rate.
const SAMPLES_MIN: usize = 2;

/// Loads everything, waits for two samples, and prints all.
pub(super) async fn run(source: &Source) -> Result<(), Failure> {
    let mut app = App::new(source.url());
    let wanted = Wanted {
        functions: true,
        dead_letters: true,
    };
    let loaded = source.load(wanted).await?;
    app.take(News::Lists(Box::new(Ok(loaded))));
    let (sender, mut news) = mpsc::channel(16);
    let sampled = async {
        while app.history.len() < SAMPLES_MIN {
            match news.recv().await {
                Some(News::Silent) | None => return,
                Some(sample) => app.take(sample),
            }
        }
    };
    // Without them the rates are left out.
    let _ = timeout(SAMPLES_TIME_MAX, async {
        tokio::select! {
            () = sampled => {}
            () = source.follow(sender) => {}
        }
    })
    .await;
    output::line(text(&app, now_ms()).as_bytes())?;
    Ok(())
}

/// Everything that is shown, as text without colours.
pub(super) fn text(app: &App, now_ms: u64) -> String {
    let name = app.process("application").as_str().unwrap_or("satchel");
    let mut text = format!("{name}: {}", app.state());
    if let Some(version) = app.process("version").as_str() {
        let _ = write!(text, ", satchel {version}");
    }
    if let Some(seconds) = app.process("uptime_seconds").as_f64() {
        let _ = write!(text, ", up {}", duration(seconds));
    }
    if let Some(partitions) = app.process("partitions").as_f64() {
        let noun = if partitions == 1.0 {
            "partition"
        } else {
            "partitions"
        };
        let _ = write!(text, ", {} {noun}", count(partitions));
    }
    let _ = writeln!(text, ", {}", app.url);
    let warnings = app.warnings();
    if warnings.is_empty() {
        text.push_str("Nothing needs a person.\n");
    }
    for warning in warnings {
        let line = format!("{} {} {}", sign(warning.tone), warning.text, warning.todo);
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if app.history.len() >= SAMPLES_MIN {
        let rates = PLOTS
            .iter()
            .map(|plot| format!("{} {}", plot.name, plot.last(app)));
        let _ = writeln!(text, "\n{}", rates.collect::<Vec<_>>().join(" · "));
        let _ = writeln!(text, "{}", now_text(app));
    }
    let views = [
        View::Overview,
        View::Functions,
        View::Connectors,
        View::DeadLetters,
    ];
    let mut shown: Vec<String> = Vec::new();
    for table in views.iter().flat_map(|view| app.tables_of(*view, now_ms)) {
        // Ingresses belong to two views.
        if !shown.contains(&table.title) {
            add_table(&mut text, &table);
            shown.push(table.title);
        }
    }
    text
}

/// Adds a table with columns as wide as their widest cell.
fn add_table(text: &mut String, table: &Table) {
    let _ = writeln!(text, "\n{}", table.title);
    if !table.rows.is_empty() {
        let headings = table.columns.iter().map(|it| it.name.to_uppercase());
        let mut rows: Vec<Vec<String>> = vec![headings.collect()];
        for row in &table.rows {
            rows.push(row.cells.iter().map(|cell| cell.text.clone()).collect());
        }
        let width = |at: usize| rows.iter().map(|row| row[at].width()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..table.columns.len()).map(width).collect();
        for row in rows {
            let mut line = String::new();
            for ((cell, wide), column) in row.iter().zip(&widths).zip(&table.columns) {
                let blanks = " ".repeat(wide - cell.width());
                let gap = " ".repeat(GAP);
                match column.is_number {
                    true => line.push_str(&format!("{blanks}{cell}{gap}")),
                    false => line.push_str(&format!("{cell}{blanks}{gap}")),
                }
            }
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    if let Some((tone, note)) = &table.note {
        let sign = if *tone == Tone::Bad { "!! " } else { "" };
        let _ = writeln!(text, "{sign}{note}");
    }
}
