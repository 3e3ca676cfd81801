//! Log lines of handlers and builds: a time, the name of their source, and the text.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

use crate::clock::now_ms;
use crate::log_limit::{LogLimit, Subject};
use crate::module::format_rfc3339;

/// Maximum length of a line in bytes. A longer line is split.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Time in which an error that a handler repeats is written once. A failing message is tried eight
/// times within about ten seconds.
const REPEATED_WITHIN: Duration = Duration::from_secs(30);

/// Span that the Lambda runtime for Rust puts before each line, with two ids of some hundred
/// characters that say nothing here.
const RUNTIME_SPAN: &str = "Lambda runtime invoke{";

/// Destination of lines, each of which gets the name of its source as a prefix. Cheap to clone.
#[derive(Clone)]
pub struct LogLines {
    write: Arc<dyn Fn(&str) + Send + Sync>,
    errors: Arc<LogLimit>,
}

impl LogLines {
    /// Sends lines to the standard error of this process, with the time.
    pub fn stderr() -> Self {
        Self::to(|line| {
            // One write per line keeps the lines of several processes apart. There is no way to
            // report that standard error is closed.
            let _ = std::io::stderr()
                .lock()
                .write_all(format!("{} {line}\n", format_rfc3339(now_ms())).as_bytes());
        })
    }

    /// Sends every line to `write`, without its line end.
    pub fn to(write: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self {
            write: Arc::new(write),
            errors: Arc::new(LogLimit::new(REPEATED_WITHIN)),
        }
    }

    /// Writes one line of `name`.
    pub(super) fn write(&self, name: &str, line: &str) {
        (self.write)(&format!("{name} | {line}"));
    }

    /// Writes a line of a handler's output. An error that was written a moment ago is not written
    /// again; the next time it is, with the number of repetitions.
    fn write_output(&self, name: &str, line: &str, is_error: bool) {
        let line = without_runtime_span(line);
        if !is_error {
            return self.write(name, &line);
        }
        let (subject, now) = (Subject::line(name, &line), Instant::now());
        if !self.errors.tells_apart(&subject, now) {
            // Rather too many lines than an error that is not seen.
            return self.write(name, &line);
        }
        match self.errors.admit(subject, 1, now) {
            None => {}
            Some(0) => self.write(name, &line),
            Some(times) => self.write(name, &format!("{line} (repeated {times} more times)")),
        }
    }

    /// Writes every line of `output` until it ends, and passes each to `seen` too. Invalid UTF-8 is
    /// replaced. Repeated errors are written once.
    pub(super) async fn copy(
        &self,
        name: &str,
        output: impl AsyncRead + Unpin,
        mut seen: impl FnMut(&str),
    ) {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        let mut errors = Errors::default();
        while let Ok(bytes) = output.fill_buf().await {
            let ended = bytes.is_empty();
            let newline = bytes.iter().position(|byte| *byte == b'\n');
            line.extend_from_slice(&bytes[..newline.unwrap_or(bytes.len())]);
            let used = newline.map_or(bytes.len(), |at| at + 1);
            output.consume(used);
            if newline.is_some() || line.len() >= LINE_BYTES_MAX || (ended && !line.is_empty()) {
                let text = String::from_utf8_lossy(&line);
                let text = text.trim_end_matches('\r');
                self.write_output(name, text, errors.contain(text));
                seen(text);
                line.clear();
            }
            if ended {
                break;
            }
        }
    }
}

/// Recognition of errors in the output of a handler.
#[derive(Debug, Default)]
struct Errors {
    /// True if the last line was the first of a panic, whose message follows.
    panicked: bool,
}

impl Errors {
    /// Returns whether the next line belongs to an error.
    fn contain(&mut self, line: &str) -> bool {
        let mut words = line.split_whitespace().take(4);
        let is_logged = words.any(|word| matches!(word, "WARN" | "ERROR"));
        let begins_panic = line.starts_with("thread '") && line.contains(" panicked at ");
        let follows_panic = std::mem::replace(&mut self.panicked, begins_panic);
        let is_note = line.starts_with("note: run with `RUST_BACKTRACE");
        is_logged || begins_panic || follows_panic || is_note
    }
}

/// Removes the span of the Lambda runtime from a line.
fn without_runtime_span(line: &str) -> Cow<'_, str> {
    let Some((before, span)) = line.split_once(RUNTIME_SPAN) else {
        return Cow::Borrowed(line);
    };
    let Some((_, after)) = span.split_once('}') else {
        return Cow::Borrowed(line);
    };
    let after = after.strip_prefix(':').unwrap_or(after);
    Cow::Owned(format!("{before}{}", after.trim_start()))
}

impl fmt::Debug for LogLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogLines")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn lines_carry_their_name_whatever_their_bytes_and_their_last_end() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let log_lines = LogLines::to(move |line| sink.lock().unwrap().push(line.to_owned()));
        let long = "x".repeat(LINE_BYTES_MAX + 1);
        let output = [b"one\r\n\n\xff two\n", long.as_bytes(), b"\nlast"].concat();
        let mut seen = 0;
        log_lines
            .copy("greeter-7", output.as_slice(), |_| seen += 1)
            .await;
        let lines = lines.lock().unwrap();
        assert_eq!(
            lines[..3],
            [
                "greeter-7 | one",
                "greeter-7 | ",
                "greeter-7 | \u{fffd} two"
            ]
        );
        assert_eq!(lines.last().unwrap(), "greeter-7 | last");
        let xs: usize = lines[3..lines.len() - 1]
            .iter()
            .map(|line| line.matches('x').count())
            .sum();
        assert_eq!(xs, long.len());
        assert_eq!(seen, lines.len());
    }

    fn shown(output: &str) -> Vec<String> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let log_lines = LogLines::to(move |line| sink.lock().unwrap().push(line.to_owned()));
        futures::executor::block_on(log_lines.copy("greeter", output.as_bytes(), |_| {}));
        lines.lock().unwrap().clone()
    }

    #[test]
    fn the_ids_of_the_lambda_runtime_are_left_out() {
        let span = r#"Lambda runtime invoke{requestId="1a2b" xrayTraceId="Root=1-5e1b"}:"#;
        let batch = r#"batch{address="example/greeter/alice"}: greeter: hello"#;
        let line = format!(" INFO {span}{batch}");
        assert_eq!(shown(&line), [format!("greeter |  INFO {batch}")]);
        assert_eq!(
            shown("INFO Lambda runtime invoke{unfinished"),
            ["greeter | INFO Lambda runtime invoke{unfinished"]
        );
    }

    #[test]
    fn an_error_is_written_once_and_anything_else_each_time() {
        let attempt = "thread 'tokio-rt-worker' (41) panicked at src/main.rs:7:9:\n\
                       no such customer\n\
                       note: run with `RUST_BACKTRACE=1` environment variable\n \
                       WARN batch{address=a}: batch failed\nhandled\n";
        let lines = shown(&attempt.repeat(8));
        let errors: Vec<_> = lines
            .iter()
            .filter(|line| !line.ends_with("handled"))
            .collect();
        assert_eq!(
            errors,
            [
                "greeter | thread 'tokio-rt-worker' (41) panicked at src/main.rs:7:9:",
                "greeter | no such customer",
                "greeter | note: run with `RUST_BACKTRACE=1` environment variable",
                "greeter |  WARN batch{address=a}: batch failed",
            ]
        );
        assert_eq!(
            lines.len() - errors.len(),
            8,
            "what is no error is never left out"
        );
    }
}
