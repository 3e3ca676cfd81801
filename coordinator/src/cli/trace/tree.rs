//! A trace as lines of text.

use std::collections::BTreeMap;

use serde_json::Value;

/// Maximum depth that is indented. Deeper hops stand below each other.
const DEPTH_MAX: usize = 24;

/// Returns the lines of a trace: hops as a tree, each with its times.
///
/// ```text
/// 3f2a…: 3 hops, 18.2 ms, begun 2026-12-01T09:00:00.000Z
///     0.0 ms  example/greeter/alice  done
///             by call; waited 0.2 ms; request b4; answered after 11.6 ms; durable +15.0 ms
///    11.9 ms  └ example/counter/alice  done
/// ```
pub(super) fn lines(trace: &Value) -> Vec<String> {
    let hops: Vec<&Value> = trace["hops"].as_array().into_iter().flatten().collect();
    let begun_us = hops.iter().filter_map(|hop| begun(hop)).min().unwrap_or(0);
    let mut lines = vec![format!(
        "{}: {}, {}, begun {}",
        text(&trace["trace"]),
        plural(hops.len(), "hop"),
        milliseconds(trace["duration_us"].as_u64().unwrap_or(0)),
        text(&trace["begun_at"]),
    )];
    let mut children: BTreeMap<Option<&str>, Vec<&Value>> = BTreeMap::new();
    let spans: Vec<&str> = hops.iter().filter_map(|hop| hop["span"].as_str()).collect();
    let mut unknown: Vec<&str> = Vec::new();
    for hop in &hops {
        let parent = hop["parent"].as_str();
        if let Some(parent) = parent
            && !spans.contains(&parent)
            && !unknown.contains(&parent)
        {
            unknown.push(parent);
        }
        children.entry(parent).or_default().push(hop);
    }
    let mut writer = Writer {
        begun_us,
        children: &children,
        written: Vec::new(),
        lines: &mut lines,
    };
    writer.siblings(None, "");
    for parent in unknown {
        let why = "not known here: outside, or of a process that ended";
        writer
            .lines
            .push(format!("{:>12}  span {parent} ({why})", ""));
        writer.siblings(Some(parent), "  ");
    }
    let omitted = trace["omitted_hops"].as_u64().unwrap_or(0);
    if omitted > 0 {
        lines.push(format!("{:>12}  {omitted} more hops were not kept", ""));
    }
    lines
}

struct Writer<'a> {
    begun_us: u64,
    children: &'a BTreeMap<Option<&'a str>, Vec<&'a Value>>,
    written: Vec<&'a str>,
    lines: &'a mut Vec<String>,
}

impl<'a> Writer<'a> {
    fn siblings(&mut self, parent: Option<&str>, indent: &str) {
        let children = self.children;
        // The key lives as long as the trace.
        let Some((_, siblings)) = children.iter().find(|(known, _)| **known == parent) else {
            return;
        };
        for (index, hop) in siblings.iter().enumerate() {
            let span = hop["span"].as_str().unwrap_or_default();
            // Damaged answers must not make it endless.
            if self.written.contains(&span) {
                continue;
            }
            self.written.push(span);
            let is_last = index + 1 == siblings.len();
            let (mark, below) = match (parent, is_last) {
                (None, _) => ("", ""),
                (_, true) => ("└ ", "  "),
                (_, false) => ("├ ", "│ "),
            };
            let at_us = begun(hop).unwrap_or(self.begun_us);
            let at = milliseconds(at_us.saturating_sub(self.begun_us));
            let target = hop["target"].as_str().unwrap_or("?");
            let state = state(hop);
            self.lines
                .push(format!("{at:>12}  {indent}{mark}{target}  {state}"));
            let below = format!("{indent}{below}");
            for line in story(hop, self.begun_us) {
                self.lines.push(format!("{:>12}  {below}  {line}", ""));
            }
            let deeper = match below.chars().count() / 2 < DEPTH_MAX {
                true => below,
                false => indent.to_owned(),
            };
            self.siblings(Some(span), &deeper);
        }
    }
}

fn state(hop: &Value) -> String {
    let state = text(&hop["state"]).replace('_', " ");
    match hop["durable"].as_bool() {
        Some(true) => state,
        _ if ["done", "left", "replied"].contains(&&*state) => format!("{state}, not durable yet"),
        _ => state,
    }
}

/// Events of a hop as a few lines.
fn story(hop: &Value, begun_us: u64) -> Vec<String> {
    let mut words = Vec::new();
    let mut problems = Vec::new();
    let mut waits_since = None;
    let mut asked = None;
    for step in hop["steps"].as_array().into_iter().flatten() {
        let at_us = step["at_us"].as_u64().unwrap_or(0);
        let since = |earlier: Option<u64>| {
            let earlier = earlier.unwrap_or(at_us);
            milliseconds(at_us.saturating_sub(earlier))
        };
        let after = milliseconds(at_us.saturating_sub(begun_us));
        match text(&step["step"]) {
            "received" => {
                waits_since = Some(at_us);
                words.push(match text(&step["by"]) {
                    "record" => format!("record of {}", text(&step["source"])),
                    "retry" => format!("retry of dead letter {}", text(&step["dead_letter"])),
                    "batch" => {
                        let links = step["links"].as_array().map_or(0, Vec::len);
                        format!("by a batch of {links} sampled messages")
                    }
                    "message" => continue,
                    by => format!("by {by}"),
                });
            }
            "queued" | "recovered" | "fired" => {
                waits_since = Some(at_us);
                if step["step"] != "queued" {
                    words.push(format!("{} +{after}", text(&step["step"])));
                }
            }
            "taken" => words.push(format!("taken from partition {}", step["from_partition"])),
            "forwarded" => words.push(format!("sent to partition {}", step["to_partition"])),
            "delayed" | "deferred" => {
                words.push(format!(
                    "{} until {}",
                    text(&step["step"]),
                    text(&step["until"])
                ));
            }
            "invoked" => {
                words.push(format!("waited {}", since(waits_since)));
                let messages = step["messages"].as_u64().unwrap_or(1);
                if messages > 1 {
                    words.push(format!("in a batch of {messages}"));
                }
                asked = Some(at_us);
            }
            "requested" => {
                words.push(format!(
                    "request {} after {}",
                    text(&step["request"]),
                    since(asked)
                ));
                asked = Some(at_us);
            }
            "answered" => {
                let outcome = match text(&step["outcome"]) {
                    "ok" => "answered",
                    "declared" => "declared its states",
                    _ => "failed",
                };
                words.push(format!("{outcome} after {}", since(asked)));
                waits_since = Some(at_us);
                if let Some(reason) = step["reason"].as_str() {
                    problems.push(format!("{}: {reason}", text(&step["kind"])));
                }
            }
            "committed" if step["concluded"] == true => words.push(format!("durable +{after}")),
            "committed" => {}
            name @ ("suspended" | "blocked" | "rejected" | "dead_letter") => {
                problems.push(format!(
                    "{}: {}",
                    name.replace('_', " "),
                    text(&step["reason"])
                ));
            }
            name => words.push(format!("{} +{after}", name.replace('_', " "))),
        }
    }
    let omitted = hop["omitted_steps"].as_u64().unwrap_or(0);
    if omitted > 0 {
        words.push(format!("{omitted} events left out"));
    }
    let mut lines = vec![words.join("; ")];
    // A message that is retried for hours fails in the same way each time.
    problems.dedup();
    lines.extend(problems);
    lines.retain(|line| !line.is_empty());
    lines
}

/// Returns a trace of a list as a line.
pub(super) fn summary(trace: &Value) -> String {
    let number = |name: &str| trace[name].as_u64().unwrap_or(0) as usize;
    let state = match (trace["failed"] == true, number("pending")) {
        (true, _) => "failed".to_owned(),
        (false, 0) => "done".to_owned(),
        (false, pending) => format!("{pending} pending"),
    };
    format!(
        "{}  {}  {:>10}  {:>8}  {:<10}  {}",
        text(&trace["trace"]),
        text(&trace["begun_at"]),
        milliseconds(trace["duration_us"].as_u64().unwrap_or(0)),
        plural(number("hops"), "hop"),
        state,
        text(&trace["first"]),
    )
}

fn begun(hop: &Value) -> Option<u64> {
    hop["steps"].get(0)?["at_us"].as_u64()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn plural(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

fn milliseconds(us: u64) -> String {
    format!("{:.1} ms", us as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hop(span: &str, parent: Option<&str>, target: &str, at_us: u64) -> Value {
        json!({
            "id": span, "span": span, "parent": parent, "target": target, "state": "done",
            "durable": true, "omitted_steps": 0,
            "steps": [
                {"at_us": at_us, "step": "received", "by": "call"},
                {"at_us": at_us, "step": "queued"},
                {"at_us": at_us + 200, "step": "invoked", "messages": 2},
                {"at_us": at_us + 300, "step": "requested", "request": "b4", "batches": 1},
                {"at_us": at_us + 900, "step": "answered", "outcome": "ok"},
                {"at_us": at_us + 2_000, "step": "committed", "concluded": true},
            ],
        })
    }

    #[test]
    fn a_trace_is_a_tree_with_times_from_its_beginning() {
        let trace = json!({
            "trace": "ab", "begun_at": "2026-12-01T09:00:00.000Z", "duration_us": 4_000,
            "omitted_hops": 0,
            "hops": [
                hop("1", None, "a/one/x", 1_000_000),
                hop("2", Some("1"), "a/two/x", 1_001_000),
                hop("3", Some("1"), "a/three/x", 1_002_000),
                hop("5", Some("4"), "a/late/x", 1_003_000),
            ],
        });
        let steps = "by call; waited 0.2 ms; in a batch of 2; request b4 after 0.1 ms; \
                     answered after 0.6 ms";
        let expected = [
            "ab: 4 hops, 4.0 ms, begun 2026-12-01T09:00:00.000Z".to_owned(),
            "      0.0 ms  a/one/x  done".to_owned(),
            format!("                {steps}; durable +2.0 ms"),
            "      1.0 ms  ├ a/two/x  done".to_owned(),
            format!("              │   {steps}; durable +3.0 ms"),
            "      2.0 ms  └ a/three/x  done".to_owned(),
            format!("                  {steps}; durable +4.0 ms"),
            "              span 4 (not known here: outside, or of a process that ended)".to_owned(),
            "      3.0 ms    └ a/late/x  done".to_owned(),
            format!("                    {steps}; durable +5.0 ms"),
        ];
        assert_eq!(lines(&trace), expected);
    }

    #[test]
    fn a_failure_says_why_once_and_a_circle_ends() {
        let mut failing = hop("1", Some("2"), "a/one/x", 1_000_000);
        let failed = json!({
            "at_us": 1_000_900, "step": "answered", "outcome": "failed", "kind": "function",
            "reason": "it panicked",
        });
        failing["steps"][4] = failed.clone();
        failing["steps"][5] = failed;
        failing["state"] = json!("failed");
        let circle = hop("2", Some("1"), "a/two/x", 1_000_500);
        let trace = json!({"trace": "ab", "hops": [failing, circle]});
        // Neither is a root, and each is the parent of the other.
        assert_eq!(lines(&trace).len(), 1);
        let mut alone = trace["hops"][0].clone();
        alone["parent"] = Value::Null;
        let lines = lines(&json!({"trace": "ab", "hops": [alone]}));
        let reasons = lines
            .iter()
            .filter(|line| line.contains("function: it panicked"));
        assert_eq!(reasons.count(), 1, "{lines:?}");
    }
}
