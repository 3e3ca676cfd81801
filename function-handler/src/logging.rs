//! Log of a handler, on the standard error output.

use tracing_subscriber::EnvFilter;

/// Sets up logging by Lambda's variables, unless the program has a subscriber already.
///
/// The level is `AWS_LAMBDA_LOG_LEVEL`, else `RUST_LOG`, else `info`. The format is JSON if
/// `AWS_LAMBDA_LOG_FORMAT` is `JSON`.
pub(crate) fn init() {
    let filter = ["AWS_LAMBDA_LOG_LEVEL", "RUST_LOG"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok())
        .and_then(|directives| EnvFilter::try_new(directives.to_lowercase()).ok())
        .unwrap_or_else(|| EnvFilter::new("info"));
    let json = std::env::var("AWS_LAMBDA_LOG_FORMAT")
        .is_ok_and(|format| format.eq_ignore_ascii_case("json"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    // An error means that the program has a subscriber already, which stays in place.
    let _ = if json {
        subscriber.json().try_init()
    } else {
        // CloudWatch and `satchel dev` add the time to each line.
        subscriber.without_time().try_init()
    };
}
