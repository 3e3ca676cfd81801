//! Generates the Rust types of `proto/*.proto`.
//!
//! The protobuf compiler is written in Rust, so a build needs no installed `protoc`.

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
