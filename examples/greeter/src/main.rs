//! Handler of the greeter.

/// Small values come and go with every message, which glibc's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    satchel_function_handler::run(greeter::functions())
}
