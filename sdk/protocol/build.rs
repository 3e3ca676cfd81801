//! Generates the Rust types of `proto/*.proto` with a protobuf compiler written in Rust, so that no `protoc` need be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["request-reply.proto", "types.proto", "egress.proto"];
    for file in files {
        println!("cargo:rerun-if-changed=proto/{file}");
    }
    let descriptors = protox::compile(files, ["proto"])?;
    prost_build::Config::new()
        .bytes([".io.statefun"])
        .compile_fds(descriptors)?;
    Ok(())
}
