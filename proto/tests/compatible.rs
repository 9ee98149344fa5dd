//! Masters and agents of two neighbouring versions understand each other, so that a cluster can be upgraded while loads go: what `wire.txt` lists
//! stays as it is, and what is new is added there.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet};

/// Every field as `message.field = number, type, label`, every value of an enum, every call.
fn wire() -> BTreeSet<String> {
    let files = FileDescriptorSet::decode(volcanion_proto::DESCRIPTOR_SET).expect("it is compiled in");
    let mut lines = BTreeSet::new();
    for file in &files.file {
        for message in &file.message_type {
            fields(&mut lines, message.name(), message);
        }
        for kind in &file.enum_type {
            lines.extend(
                kind.value
                    .iter()
                    .map(|value| format!("{}.{} = {}", kind.name(), value.name(), value.number())),
            );
        }
        for service in &file.service {
            for call in &service.method {
                let arrow = if call.client_streaming() { "stream" } else { "one" };
                let back = if call.server_streaming() { "stream" } else { "one" };
                lines.insert(format!(
                    "{}/{}: {arrow} {} -> {back} {}",
                    service.name(),
                    call.name(),
                    call.input_type(),
                    call.output_type()
                ));
            }
        }
    }
    lines
}

fn fields(lines: &mut BTreeSet<String>, name: &str, message: &DescriptorProto) {
    for field in &message.field {
        let (kind, label) = (field.r#type().as_str_name(), field.label().as_str_name());
        lines.insert(format!(
            "{name}.{} = {}, {kind} {}, {label}",
            field.name(),
            field.number(),
            field.type_name()
        ));
    }
    for kind in &message.enum_type {
        lines.extend(
            kind.value
                .iter()
                .map(|value| format!("{name}.{}.{} = {}", kind.name(), value.name(), value.number())),
        );
    }
    for inner in &message.nested_type {
        fields(lines, &format!("{name}.{}", inner.name()), inner);
    }
}

#[test]
fn what_was_on_the_wire_stays_and_what_is_new_is_listed() {
    let listed: BTreeSet<String> = include_str!("wire.txt").lines().map(str::to_owned).collect();
    let wire = wire();
    let gone: Vec<_> = listed.difference(&wire).collect();
    assert!(
        gone.is_empty(),
        "these were on the wire, and the last version still speaks so; leave them, and give what is new a number of its own: {gone:#?}"
    );
    let new: Vec<_> = wire.difference(&listed).cloned().collect();
    assert!(new.is_empty(), "add these lines to proto/tests/wire.txt, in order:\n{}", new.join("\n"));
}
