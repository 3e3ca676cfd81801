#!/usr/bin/env python3
"""Checks what rustfmt and clippy do not: columns, file length, and the English of comments.

  .ci/tidy.py               check all Rust files of this repository; exit code 1 if something is wrong
  .ci/tidy.py PATH...       check only these files and directories
  .ci/tidy.py --figures     print figures of the whole repository instead
"""

import collections
import pathlib
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
COLUMNS_MAX = 100
LINES_MAX = 600

DOC = re.compile(r"^\s*//[/!](?!/)")
EMPTY_DOC = re.compile(r"^\s*//[/!]\s*$")
# A doc comment opens with a noun phrase or a verb, never with one of these.
OPENERS = ("What", "Who", "Whose", "Whom", "Whether", "How", "Which", "Where", "Why", "So", "From")
OPENER = re.compile(rf"^\s*//[/!] ({'|'.join(OPENERS)})\b")
# Words that are never used, in code and texts either.
WORDS = re.compile(
    r"\b(can not|for ever|goes on|gone on with|go on with|so many|so long as|so long|"
    r"is told|are told|somebody|nobody|someone wants)\b",
    re.IGNORECASE,
)
FIRST_WORD = re.compile(r"^\s*//[/!]\s+\W*(\w+)")
MODULE_USE = re.compile(r"\bcrate::(\w+)")


def main():
    arguments = sys.argv[1:]
    if arguments in (["-h"], ["--help"]):
        print(__doc__.strip())
        return 0
    if arguments == ["--figures"]:
        figures(rust_files([ROOT]))
        return 0
    problems = [
        problem
        for path in rust_files([pathlib.Path(argument) for argument in arguments] or [ROOT])
        for problem in check(path)
    ]
    for problem in problems:
        print(problem)
    if problems:
        print(f"tidy: {len(problems)} problems", file=sys.stderr)
    return 1 if problems else 0


def rust_files(places):
    """All Rust files of these places that git does not ignore, in order."""
    found = []
    for place in places:
        if place.is_file():
            found.append(place)
            continue
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.rs"],
            cwd=place, check=True, capture_output=True, text=True)
        found += [place / name for name in listed.stdout.split("\0") if name]
    return sorted(path for path in set(found) if path.is_file())


def lines_of(path):
    return path.read_text(encoding="utf-8").split("\n")


def check(path):
    lines = lines_of(path)
    name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    # A text ends with a line break, so its last line is empty.
    if len(lines) - 1 > LINES_MAX:
        yield f"{name}: {len(lines) - 1} lines, more than {LINES_MAX}"
    for number, line, opens in doc_openings(lines):
        if len(line) > COLUMNS_MAX:
            yield f"{name}:{number}: {len(line)} columns, more than {COLUMNS_MAX}"
        if opens and OPENER.match(line):
            yield f"{name}:{number}: doc comment opens with a question word: {line.strip()}"
        word = WORDS.search(line)
        if word:
            yield f"{name}:{number}: `{word[0]}`: {line.strip()}"


def doc_openings(lines):
    """Each line with its number, and whether it opens a paragraph of a doc comment."""
    before = ""
    for number, line in enumerate(lines, 1):
        is_doc = DOC.match(line) is not None and EMPTY_DOC.match(line) is None
        opens = is_doc and (DOC.match(before) is None or EMPTY_DOC.match(before) is not None)
        yield number, line, opens
        before = line


def figures(paths):
    openers, paragraphs, wide = collections.Counter(), 0, 0
    lengths = {}
    for path in paths:
        lines = lines_of(path)
        lengths[path] = len(lines) - 1
        wide += sum(len(line) > COLUMNS_MAX for line in lines)
        before = ""
        for line in lines:
            # The first line of each doc comment.
            word = FIRST_WORD.match(line)
            if DOC.match(line) and not DOC.match(before) and word:
                paragraphs += 1
                openers[word[1]] += 1
            before = line
    asked = sum(openers[word] for word in OPENERS)
    largest = max(lengths, key=lengths.get)
    print(f"Rust files: {len(paths)}, {sum(lengths.values())} lines")
    print(f"median file: {statistics.median(lengths.values()):.0f} lines")
    print(f"largest file: {lengths[largest]} lines, {largest.relative_to(ROOT)}")
    print(f"lines over {COLUMNS_MAX} columns: {wide}")
    print(f"doc comments: {paragraphs}, of which {100 * asked / max(paragraphs, 1):.1f} % "
          f"open with {', '.join(OPENERS)}")
    print("most frequent first words: " + ", ".join(
        f"{word} {100 * count / paragraphs:.1f} %" for word, count in openers.most_common(12)))
    for manifest in sorted(ROOT.glob("**/Cargo.toml")):
        source = manifest.parent / "src"
        if "target" in manifest.parts or not source.is_dir():
            continue
        cycles = module_cycles(source)
        if cycles:
            print(f"modules in cycles, {manifest.parent.relative_to(ROOT)}: "
                  f"{sum(map(len, cycles))}: {'; '.join(' '.join(cycle) for cycle in cycles)}")


def module_cycles(source):
    """Groups of top-level modules that use each other, by their paths `crate::<module>`."""
    uses = collections.defaultdict(set)
    for path in source.rglob("*.rs"):
        module = path.relative_to(source).parts[0].removesuffix(".rs")
        if module not in ("lib", "main", "bin"):
            text = re.sub(r"//.*", "", path.read_text(encoding="utf-8"))
            # Items may be listed in braces: `use crate::{clock, error::Error};`.
            for group in re.findall(r"\bcrate::\{([^;]*)\};", text):
                flat = re.sub(r"\{[^{}]*\}", "", group)
                uses[module].update(re.findall(r"(?:^|,)\s*(\w+)", flat))
            uses[module].update(MODULE_USE.findall(text))
    for module in list(uses):
        uses[module] = {used for used in uses[module] if used in uses and used != module}

    def reached(start):
        seen, waiting = set(), [start]
        while waiting:
            for used in uses[waiting.pop()]:
                if used not in seen:
                    seen.add(used)
                    waiting.append(used)
        return seen

    reach = {module: reached(module) for module in uses}
    groups = {
        frozenset(other for other in uses if other in reach[module] and module in reach[other])
        for module in uses
    }
    return sorted(sorted(group) for group in groups if len(group) > 1)


if __name__ == "__main__":
    sys.exit(main())
