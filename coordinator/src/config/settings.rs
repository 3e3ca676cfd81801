//! Flags of a command line with their values, for people.

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

/// A flag with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The flag, such as `--retention`, or the name of a positional argument.
    pub flag: String,
    /// Its value. No flag takes a secret, only the location of one.
    pub value: String,
    /// Origin: `command line`, `environment` or `default`.
    pub origin: &'static str,
}

/// Lists the arguments of `command` that have a value, in the order of its help.
pub(crate) fn settings(command: &Command, matches: &ArgMatches) -> Vec<Setting> {
    let arguments = command.get_arguments();
    let settings = arguments.filter_map(|argument| {
        let id = argument.get_id().as_str();
        let values = matches.get_raw(id)?;
        let origin = match matches.value_source(id)? {
            ValueSource::CommandLine => "command line",
            ValueSource::EnvVariable => "environment",
            _ => "default",
        };
        let values: Vec<_> = values.map(|value| value.to_string_lossy()).collect();
        let value = values.join(" ");
        let is_unset_switch = origin == "default" && value == "false";
        (!is_unset_switch).then(|| Setting {
            flag: match argument.get_long() {
                Some(long) => format!("--{long}"),
                None => id.to_uppercase(),
            },
            value,
            origin,
        })
    });
    settings.collect()
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;
    use crate::config::DevConfig;

    #[test]
    fn values_are_listed_with_their_origins_and_switches_that_are_off_are_not() {
        let command = DevConfig::augment_args(Command::new("dev"));
        let arguments = ["dev", "a", "b", "--retention", "7d", "--watch"];
        let matches = command.clone().try_get_matches_from(arguments).unwrap();
        let settings = settings(&command, &matches);
        let find = |flag: &str| {
            let found = settings.iter().find(|it| it.flag == flag);
            found.map(|it| (it.value.as_str(), it.origin))
        };
        assert_eq!(find("PATHS"), Some(("a b", "command line")));
        assert_eq!(find("--retention"), Some(("7d", "command line")));
        assert_eq!(find("--watch"), Some(("true", "command line")));
        assert_eq!(find("--dead-letter-limit"), Some(("256MiB", "default")));
        assert_eq!(find("--ephemeral"), None);
        assert_eq!(find("--memory-limit"), None);
        let parsed = DevConfig::from_arg_matches(&matches).unwrap();
        assert_eq!(parsed.process.settings, []);
    }
}
