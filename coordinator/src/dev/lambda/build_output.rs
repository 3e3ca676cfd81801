//! Output of cargo during a build: its lines, and how far it is.

use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::LogLines;

/// Minimum interval between two lines about the progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(3);

/// Writes the lines of cargo's `output` to `log_lines` until it ends. Passes each to `seen` too.
///
/// Cargo repaints its progress bar in place. It becomes a line now and then.
pub(super) async fn show_build(
    log_lines: &LogLines,
    name: &str,
    mut output: impl AsyncRead + Unpin,
    mut seen: impl FnMut(&str),
) {
    let mut last_progress: Option<Instant> = None;
    let mut buffer = vec![0; 8 << 10];
    let mut line = Vec::new();
    loop {
        let read = output.read(&mut buffer).await.unwrap_or_default();
        for byte in &buffer[..read] {
            if !matches!(byte, b'\n' | b'\r') {
                line.push(*byte);
                continue;
            }
            let text = without_escapes(&String::from_utf8_lossy(&line));
            line.clear();
            match progress(&text) {
                Some((done, all)) => {
                    let due = last_progress.is_none_or(|last| last.elapsed() >= PROGRESS_INTERVAL);
                    if due {
                        last_progress = Some(Instant::now());
                        log_lines.write(name, &format!("{done} of {all} compilation steps done"));
                    }
                }
                None if text.trim().is_empty() => {}
                None => {
                    log_lines.write(name, text.trim_end());
                    seen(&text);
                }
            }
        }
        if read == 0 {
            break;
        }
    }
    let text = without_escapes(&String::from_utf8_lossy(&line));
    if !text.trim().is_empty() && progress(&text).is_none() {
        log_lines.write(name, text.trim_end());
        seen(&text);
    }
}

/// Parses cargo's progress bar, such as `    Building [===>   ] 12/80: serde, tokio`.
fn progress(text: &str) -> Option<(u64, u64)> {
    let bar = text.trim_start().strip_prefix("Building [")?;
    let (_, counts) = bar.split_once("] ")?;
    let counts = counts.split([':', ' ']).next()?;
    let (done, all) = counts.split_once('/')?;
    Some((done.parse().ok()?, all.parse().ok()?))
}

/// Removes the escape sequences with which a terminal's line is erased and colored.
fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char == '\u{1b}' {
            // A sequence ends with a letter.
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(char);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn lines_are_shown_and_the_progress_bar_becomes_a_line_now_and_then() {
        let output = "   Compiling serde v1.0.0\n    Building [=>    ] 1/80: serde\r\u{1b}[K\
                      \u{1b}[Kwarning: unused\n    Building [==>   ] 2/80: tokio\r\
                      error: mistake";
        let shown = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&shown);
        let log_lines = LogLines::to(move |line| lines.lock().unwrap().push(line.to_owned()));
        let mut seen = Vec::new();
        let see = |line: &str| seen.push(line.to_owned());
        show_build(&log_lines, "greeter build", output.as_bytes(), see).await;
        assert_eq!(
            *shown.lock().unwrap(),
            [
                "greeter build |    Compiling serde v1.0.0",
                "greeter build | 1 of 80 compilation steps done",
                "greeter build | warning: unused",
                "greeter build | error: mistake",
            ]
        );
        assert_eq!(seen.len(), 3);
    }
}
