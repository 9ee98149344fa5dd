//! The wire between master and agents: generated code and nothing else.
//!
//! The definitions are in `proto/volcanion/v1/`. No logic lives here, so that a change elsewhere never rebuilds it.

#[allow(clippy::all, missing_docs)]
pub mod v1 {
    tonic::include_proto!("volcanion.v1");
}

/// The encoded `FileDescriptorSet` of the wire, for gRPC reflection.
pub const DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("volcanion");
