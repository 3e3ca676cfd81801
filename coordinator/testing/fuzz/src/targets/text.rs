//! Module files, import files, and values of command lines and module files.

use std::path::Path;

use satchel::module::{Application, parse_bytes, parse_duration};
use satchel::offline::{StateLine, parse_address, parse_moment};

use super::outcome;
use crate::Target;

/// Module YAML.
pub(super) const MODULE: Target = Target {
    name: "module",
    dictionary: &[
        "kind: ",
        "spec:\n",
        "---\n",
        "- ",
        "  ",
        "\n",
        ": ",
        "{",
        "}",
        "[",
        "]",
        "&a ",
        "*a",
        "|-\n",
        ">\n",
        "!!",
        "? ",
        "# ",
        "\"",
        "'",
        "${",
        "${HOME}",
        "null",
        "~",
        "0x10",
        "1e999",
        "18446744073709551616",
        "type: ",
        "satchel.endpoints.v1/lambda",
        "functions: ",
        "functionName: ",
        "io.statefun.kinesis.v1/ingress",
        "io.statefun.endpoints.v2/http",
        "\u{feff}",
        "\t",
    ],
    seeds: Vec::new,
    decode: |input| {
        let text = String::from_utf8_lossy(input);
        let environment = |name: &str| (name == "HOME").then(|| "x: [1]".to_owned());
        let read = Application::parse(Path::new("module.yaml"), &text, &environment);
        if let Ok(application) = &read {
            application.summary();
        }
        outcome(&read)
    },
};

/// Lines of an import file.
pub(super) const IMPORT: Target = Target {
    name: "import",
    dictionary: &[
        "\"address\":",
        "\"value\":",
        "\"base64\":",
        "\"typename\":",
        "\"expires_at_ms\":",
        "\"state\":",
        "\"namespace\":",
        "null",
        "1e400",
        "-0",
        "\\ud800",
        "\\u0000",
        "io.statefun.types/long",
        "io.statefun.types/double",
        "io.statefun.types/string",
        "{",
        "}",
        ",",
        "\n",
    ],
    seeds: Vec::new,
    decode: |input| {
        let mut last = String::new();
        for line in input.split(|byte| *byte == b'\n') {
            let read = StateLine::parse(line);
            if let Ok(state) = &read {
                let again = StateLine::parse(state.to_json().as_bytes());
                assert_eq!(
                    again.as_ref(),
                    Ok(state),
                    "a line does not survive a round trip"
                );
            }
            last = outcome(&read);
        }
        last
    },
};

/// Durations, sizes, moments, addresses.
pub(super) const WORDS: Target = Target {
    name: "words",
    dictionary: &[
        "ms",
        "d",
        "MiB",
        "Z",
        "+14:00",
        "T",
        "-",
        "%2F",
        "/",
        "99999999999999999999",
        "µs",
    ],
    seeds: || {
        [
            "30s",
            "6 MiB",
            "2026-02-28T23:59:60.123456789+01:00",
            "example/greeter/a%2Fb",
            "1970-01-01T00:00:00Z",
        ]
        .map(|seed| seed.as_bytes().to_vec())
        .to_vec()
    },
    decode: |input| {
        let text = String::from_utf8_lossy(input);
        if let Ok(address) = parse_address(&text) {
            assert!(
                !address.function.namespace().is_empty() && !address.function.name().is_empty()
            );
        }
        [
            outcome(&parse_duration(&text)),
            outcome(&parse_bytes(&text)),
            outcome(&parse_moment(&text)),
            outcome(&parse_address(&text)),
        ]
        .map(|outcome| outcome.replace(&*text, "…"))
        .join("; ")
    },
};
