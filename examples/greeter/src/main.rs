//! Handler of the greeter.

fn main() -> std::process::ExitCode {
    satchel_function_handler::run(greeter::functions())
}
