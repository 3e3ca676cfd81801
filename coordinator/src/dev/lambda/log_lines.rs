//! Log lines of handlers and builds.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

/// Maximum length of a line in bytes. A longer line is split.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Destination of lines, each of which gets the name of its source as a prefix. Cheap to clone.
#[derive(Clone)]
pub struct LogLines(Arc<dyn Fn(&str) + Send + Sync>);

impl LogLines {
    /// Sends lines to the standard error of this process.
    pub fn stderr() -> Self {
        Self::to(|line| {
            // One write per line keeps the lines of several processes apart. There is no way to
            // report that standard error is closed.
            let _ = std::io::stderr()
                .lock()
                .write_all(format!("{line}\n").as_bytes());
        })
    }

    /// Sends every line to `write`, without its line end.
    pub fn to(write: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(write))
    }

    /// Writes one line of `name`.
    pub(super) fn write(&self, name: &str, line: &str) {
        (self.0)(&format!("{name} | {line}"));
    }

    /// Writes every line of `output` until it ends, and passes each to `seen` too. Invalid UTF-8 is
    /// replaced.
    pub(super) async fn copy(
        &self,
        name: &str,
        output: impl AsyncRead + Unpin,
        mut seen: impl FnMut(&str),
    ) {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while let Ok(bytes) = output.fill_buf().await {
            let ended = bytes.is_empty();
            let newline = bytes.iter().position(|byte| *byte == b'\n');
            line.extend_from_slice(&bytes[..newline.unwrap_or(bytes.len())]);
            let used = newline.map_or(bytes.len(), |at| at + 1);
            output.consume(used);
            if newline.is_some() || line.len() >= LINE_BYTES_MAX || (ended && !line.is_empty()) {
                let text = String::from_utf8_lossy(&line);
                let text = text.trim_end_matches('\r');
                self.write(name, text);
                seen(text);
                line.clear();
            }
            if ended {
                break;
            }
        }
    }
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
}
