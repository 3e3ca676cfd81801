//! Command line of a handler outside Lambda: the address to listen on.

const DEFAULT: &str = "127.0.0.1:8000";

/// Error in the command line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommandLineError {
    #[error(
        "unknown argument {0:?}; a handler takes `--http ADDR`, such as `--http 127.0.0.1:8000`"
    )]
    Unknown(String),
    #[error("`--http` needs an address, such as `--http 127.0.0.1:8000`")]
    NoAddress,
}

/// Address given by `--http`, else by the environment, else the default.
pub(crate) fn http_address(
    arguments: impl IntoIterator<Item = String>,
    environment: Option<String>,
) -> Result<String, CommandLineError> {
    let mut address = None;
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        if argument == "--http" {
            address = Some(arguments.next().ok_or(CommandLineError::NoAddress)?);
        } else if let Some(value) = argument.strip_prefix("--http=") {
            address = Some(value.to_owned());
        } else {
            return Err(CommandLineError::Unknown(argument));
        }
    }
    Ok(address
        .or(environment.filter(|value| !value.is_empty()))
        .unwrap_or_else(|| DEFAULT.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(arguments: &[&str], environment: Option<&str>) -> Result<String, CommandLineError> {
        http_address(
            arguments.iter().map(ToString::to_string),
            environment.map(ToOwned::to_owned),
        )
    }

    #[test]
    fn the_argument_overrides_the_environment_and_that_the_default() {
        assert_eq!(address(&[], None).unwrap(), "127.0.0.1:8000");
        assert_eq!(address(&[], Some("")).unwrap(), "127.0.0.1:8000");
        assert_eq!(address(&[], Some("[::1]:1")).unwrap(), "[::1]:1");
        assert_eq!(address(&["--http", "a:2"], Some("b:1")).unwrap(), "a:2");
        assert_eq!(address(&["--http=a:2"], Some("b:1")).unwrap(), "a:2");
    }

    #[test]
    fn anything_else_is_rejected_by_name() {
        assert_eq!(
            address(&["--port", "1"], None),
            Err(CommandLineError::Unknown("--port".into()))
        );
        assert_eq!(address(&["--http"], None), Err(CommandLineError::NoAddress));
    }
}
