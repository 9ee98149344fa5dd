//! Compiles the wire's definition with the system's `protoc`, and keeps the descriptor set for gRPC reflection.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    tonic_prost_build::configure()
        .file_descriptor_set_path(out.join("volcanion.bin"))
        .bytes(".volcanion.v1.DeltaFrame.body")
        .compile_protos(&["volcanion/v1/agent.proto"], &["."])?;
    println!("cargo:rerun-if-changed=volcanion");
    Ok(())
}
