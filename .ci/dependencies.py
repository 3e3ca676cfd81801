#!/usr/bin/env python3
"""Checks dependencies by what their manifests say: the short form of `cargo deny check`.

Reads deny.toml: allowed licences, banned crates, and that nothing comes from elsewhere than the
registry. Exit code 1 if something is wrong. It reads no licence texts and no advisories, which
`cargo deny` does.
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    allowed = set(rules["licenses"]["allow"])
    seen = set()
    problems = []
    metadata = resolved(rules["graph"]["targets"])
    packages = {package["id"]: package for package in metadata["packages"]}
    for package in packages.values():
        if package["source"] is None:
            continue
        name = f"{package['name']} {package['version']}"
        if not package["source"].startswith("registry+"):
            problems.append(f"{name}: comes from {package['source']}")
        expression = package["license"]
        if not expression:
            problems.append(f"{name}: its manifest names no licence")
        elif not fits(expression, allowed, seen):
            problems.append(f"{name}: licence {expression} is not allowed")
    for unused in sorted(allowed - seen):
        problems.append(f"deny.toml allows {unused}, which no dependency has")
    for package in packages.values():
        wildcards = [it["name"] for it in package["dependencies"] if it["req"] == "*" and it["source"]]
        if package["source"] is None and wildcards:
            problems.append(f"{package['name']}: any version of {', '.join(wildcards)}")
    problems += bans(rules["bans"]["deny"], metadata, packages)
    for problem in problems:
        print(problem)
    print(f"dependencies: {len(packages)} packages, {len(problems)} problems")
    return 1 if problems else 0


def resolved(targets):
    """The metadata of all packages that any feature selects on one of these targets."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--all-features"]
    for target in targets:
        command += ["--filter-platform", target]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    return json.loads(output)


def fits(expression, allowed, seen):
    """Whether an SPDX expression can be met by allowed licences alone. Adds those that occur."""
    # Before SPDX expressions, a slash stood for OR.
    tokens = re.findall(r"\(|\)|[^\s()/]+|/", expression)

    def either():
        met = both()
        while tokens and tokens[0] in ("OR", "/"):
            tokens.pop(0)
            other = both()
            met = met or other
        return met

    def both():
        met = single()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            other = single()
            met = met and other
        return met

    def single():
        token = tokens.pop(0)
        if token == "(":
            met = either()
            tokens.pop(0)
            return met
        if tokens and tokens[0] == "WITH":
            tokens.pop(0)
            token = f"{token} WITH {tokens.pop(0)}"
        seen.add(token)
        return token in allowed

    return either()


def bans(rules, metadata, packages):
    """Banned crates that are there, unless only their wrappers depend on them."""
    dependents = {}
    for node in metadata["resolve"]["nodes"]:
        for dependency in node["dependencies"]:
            dependents.setdefault(dependency, set()).add(packages[node["id"]]["name"])
    for rule in rules:
        name, _, version = rule["crate"].partition("@")
        for package in packages.values():
            of_version = package["version"] == version or package["version"].startswith(f"{version}.")
            if package["name"] != name or (version and not of_version):
                continue
            others = dependents.get(package["id"], set()) - set(rule.get("wrappers", []))
            if others or "wrappers" not in rule:
                yield f"{name} {package['version']}: banned, needed by {', '.join(sorted(others))}"


if __name__ == "__main__":
    sys.exit(main())
