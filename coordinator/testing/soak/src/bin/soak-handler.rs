//! Handler of the soak's application.

fn main() -> std::process::ExitCode {
    satchel_function_handler::run(satchel_soak::functions())
}
