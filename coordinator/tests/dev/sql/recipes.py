"""Runs the SQL of docs/sql.md over the exported files in the current directory.

Standard input: a JSON list of blocks, each with `dialect`, `line` and `text`. Standard output: the
rows of each query, by dialect, and the names of Athena's tables.

DuckDB's queries run as they are. Athena's statements are parsed in its dialect. The columns of its
tables must be those of the files, and its queries run in DuckDB, translated.
"""

import json
import sys

import duckdb
import sqlglot
from sqlglot import exp

# Types of Athena's DDL, and how DuckDB names what lies in the files.
TYPES = {
    "string": "VARCHAR",
    "int": "INTEGER",
    "bigint": "BIGINT",
    "double": "DOUBLE",
    "boolean": "BOOLEAN",
    "binary": "BLOB",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
}
FILES = {"states": "states.parquet", "dead_letters": "dead-letters.parquet"}
DATE = "2026-11-30"

connection = duckdb.connect()


def rows(query):
    found = connection.execute(query).fetchall()
    plain = (str, int, float, bool, type(None))
    return [[cell if isinstance(cell, plain) else str(cell) for cell in row] for row in found]


def type_name(kind):
    """The type as the DDL writes it."""
    return kind.sql(dialect="hive").lower()


def properties(create):
    found = create.find_all(exp.Property)
    return {p.name: p.args["value"].name for p in found if isinstance(p.args.get("value"), exp.Literal)}


def make_table(create, text):
    """Checks a table of Athena, and makes a view of that name over the exported file."""
    schema = create.this
    name = schema.this.name
    columns = [(c.name, type_name(c.args["kind"])) for c in schema.expressions]
    location = create.find(exp.LocationProperty).this.name
    template = properties(create)["storage.location.template"]
    assert template == location + "dt=${dt}/", (location, template)
    assert "PARTITIONED BY (dt string)" in text, name
    if name in FILES:
        file = FILES[name]
        described = connection.execute(f"DESCRIBE SELECT * FROM '{file}'").fetchall()
        actual = [(row[0], row[1]) for row in described]
        expected = [(column, TYPES[kind]) for column, kind in columns]
        assert actual == expected, f"{name}:\n{actual}\n{expected}"
        source = f"'{file}'"
    else:
        with open("states.ndjson") as lines:
            fields = {field for line in lines for field in json.loads(line)}
        assert fields and fields <= {column for column, _ in columns}, fields
        types = ", ".join(f"{column}: '{TYPES[kind]}'" for column, kind in columns)
        source = f"read_json('states.ndjson', format = 'newline_delimited', columns = {{{types}}})"
    connection.execute(f"CREATE VIEW {name} AS SELECT *, '{DATE}' AS dt FROM {source}")
    return name


results = {"duckdb": [], "athena": [], "tables": []}
for block in json.load(sys.stdin):
    try:
        if block["dialect"] == "duckdb":
            results["duckdb"].append(rows(block["text"]))
            continue
        [statement] = sqlglot.parse(block["text"], read="athena")
        assert not isinstance(statement, exp.Command), "sqlglot does not understand the statement"
        if isinstance(statement, exp.Create):
            results["tables"].append(make_table(statement, block["text"]))
        else:
            results["athena"].append(rows(statement.sql(dialect="duckdb")))
    except Exception as error:
        print(f"docs/sql.md, line {block['line']}: {type(error).__name__}: {error}")
        sys.exit(1)
json.dump(results, sys.stdout)
