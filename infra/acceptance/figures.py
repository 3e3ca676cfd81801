"""Figures of a run: what was measured, what was expected, and what could not be checked here."""

import json


class Figures:
    """The rows of the table, in the order in which they were found."""

    def __init__(self):
        self.rows = []
        self.skipped = []

    def add(self, check, figure, value, unit="", expected="", right=None):
        """Adds a figure. `right` is None where nothing is promised."""
        row = {
            "check": check,
            "figure": figure,
            "value": value,
            "unit": unit,
            "expected": expected,
            "right": right,
        }
        self.rows.append(row)
        print(line(row), flush=True)

    def expect(self, check, figure, value, expected, unit=""):
        """Adds a figure that has exactly one right value."""
        self.add(check, figure, value, unit, f"{expected}", value == expected)

    def skip(self, check, reason):
        """Says that something is not checked in this run, and why."""
        self.skipped.append({"check": check, "reason": reason})
        print(f"{check:<12} not checked: {reason}", flush=True)

    def latencies(self, check, what, seconds):
        """Adds the distribution of durations, in milliseconds."""
        ordered = sorted(seconds)
        for name, share in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)]:
            self.add(check, f"{what} {name}", round(1000 * percentile(ordered, share), 1), "ms")
        self.add(check, f"{what} samples", len(ordered))

    def wrong(self):
        return [row for row in self.rows if row["right"] is False]

    def json(self, **more):
        return json.dumps({**more, "figures": self.rows, "not_checked": self.skipped}, indent=2)


def percentile(ordered, share):
    """The smallest value that at least this share of the values does not exceed."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def line(row):
    verdict = {None: "", True: "ok", False: "WRONG"}[row["right"]]
    expected = f"  (expected {row['expected']})" if row["expected"] else ""
    value = f"{row['value']} {row['unit']} {verdict}{expected}".rstrip()
    return f"{row['check']:<12} {row['figure']:<46} {value}"
