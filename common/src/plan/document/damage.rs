//! Damaged documents: whatever comes in, there is a valid plan or at least one problem, and never a panic.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use super::any_plan::any_plan;
use super::tests::{FULL_YAML, simple_json};
use super::*;

fn is_answered(bytes: &[u8], format: Format) -> bool {
    match read(bytes, format) {
        Ok(document) => from_json(&document.source).map(|again| again.plan) == Ok(document.plan),
        Err(Problems(problems)) => {
            !problems.is_empty() && problems.iter().all(|problem| !problem.message.is_empty())
        }
    }
}

/// Every value of a document, in order of depth.
fn nodes(value: &mut Value, visit: &mut impl FnMut(&mut Value)) {
    visit(value);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| nodes(item, visit)),
        Value::Object(entries) => entries.values_mut().for_each(|item| nodes(item, visit)),
        _ => {}
    }
}

fn replace(document: &mut Value, which: Index, new: &Value) {
    let mut count = 0;
    nodes(document, &mut |_| count += 1);
    let wanted = which.index(count);
    let mut at = 0;
    nodes(document, &mut |value| {
        if at == wanted {
            *value = new.clone();
        }
        at += 1;
    });
}

fn rename_a_key(document: &mut Value, which: Index, new: &str) {
    let mut keys: usize = 0;
    nodes(document, &mut |value| keys += value.as_object().map_or(0, serde_json::Map::len));
    let wanted = which.index(keys);
    let mut at = 0;
    nodes(document, &mut |value| {
        let Value::Object(entries) = value else { return };
        let names: Vec<String> = entries.keys().cloned().collect();
        for name in names {
            if at == wanted
                && let Some(value) = entries.shift_remove(&name)
            {
                let renamed = if new.is_empty() { format!("{name}x") } else { new.to_owned() };
                entries.insert(renamed, value);
            }
            at += 1;
        }
    });
}

fn poison() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!([])),
        Just(json!({})),
        Just(json!("")),
        Just(json!(-1)),
        Just(json!(0)),
        Just(json!(1.5)),
        Just(json!(u64::MAX)),
        Just(json!(1e300)),
        Just(json!(true)),
        Just(json!("{{ nobody }}")),
        Just(json!("{{")),
        Just(json!("a\r\nb: c")),
        Just(json!("http://")),
        Just(json!("999999999999999999999d")),
        Just(json!([[["deep"]]])),
        Just(json!({ "unknown": { "field": 1 } })),
        Just(json!("ä".repeat(5_000))),
        "\\PC{0,20}".prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_damaged_document_has_a_plan_or_problems(
        which in 0..3_usize,
        wounds in proptest::collection::vec((any::<Index>(), poison()), 1..4),
        rename in proptest::option::of((any::<Index>(), "(|name|steps|rate|[a-z]{0,5})")),
    ) {
        let mut document = match which {
            0 => simple_json(),
            1 => read(FULL_YAML.as_bytes(), Format::Yaml).unwrap().source,
            _ => to_json(&read(FULL_YAML.as_bytes(), Format::Yaml).unwrap().plan),
        };
        for (index, new) in wounds {
            replace(&mut document, index, &new);
        }
        if let Some((index, name)) = rename.filter(|_| document.as_object().is_some_and(|o| !o.is_empty())) {
            rename_a_key(&mut document, index, &name);
        }
        let text = serde_json::to_vec(&document).unwrap();
        prop_assert!(is_answered(&text, Format::Json));
        prop_assert!(is_answered(&text, Format::Yaml));
    }

    #[test]
    fn damaged_bytes_are_answered(
        wounds in proptest::collection::vec((any::<Index>(), 0..4_u8, any::<u8>(), "[-:{}\\[\\]\"'&*#|> \n\t!%@,?a0]{1,4}"), 1..8),
        is_yaml in any::<bool>(),
    ) {
        let (mut bytes, format) = if is_yaml {
            (FULL_YAML.as_bytes().to_vec(), Format::Yaml)
        } else {
            (simple_json().to_string().into_bytes(), Format::Json)
        };
        for (index, kind, byte, text) in wounds {
            let at = index.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
            match kind {
                0 if !bytes.is_empty() => bytes[at] = byte,
                1 => bytes.truncate(at),
                2 => { bytes.splice(at..at, text.bytes()); }
                _ => { bytes.drain(at..(at + 7).min(bytes.len())); }
            }
        }
        prop_assert!(is_answered(&bytes, format));
    }

    #[test]
    fn any_text_is_answered(text in "\\PC{0,60}|[-:{}\\[\\]\"'&*#|> \n\t!%@,?a0]{0,40}") {
        prop_assert!(is_answered(text.as_bytes(), Format::Yaml));
        prop_assert!(is_answered(text.as_bytes(), Format::Json));
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(plan in any_plan()) {
        let document = to_json(&plan);
        let read_back = from_json(&document).map_err(|problems| TestCaseError::fail(format!("{problems}\n{document}")))?;
        prop_assert_eq!(read_back.plan.plan(), &plan);
        prop_assert!(!read_back.is_simple);
        prop_assert_eq!(&read_back.source, &document);
        let bytes = serde_json::to_vec(&document).unwrap();
        prop_assert_eq!(read(&bytes, Format::Json), Ok(read_back));
    }
}

#[test]
fn depth_and_size_are_answered_not_suffered() {
    let check = |bytes: &[u8], format: Format, part: &str| {
        let problems = read(bytes, format).unwrap_err().to_string();
        assert!(problems.contains(part), "{problems}");
    };
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = open.repeat(100_000) + "1" + &close.repeat(100_000);
        check(deep.as_bytes(), Format::Json, "nested deeper than 64");
        check(open.repeat(100_000).as_bytes(), Format::Json, "nested deeper than 64");
        assert!(read(deep.as_bytes(), Format::Yaml).is_err());
    }
    check("- ".repeat(100_000).as_bytes(), Format::Yaml, "nested deeper than 64");
    let indented: String = (0..500).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    check(indented.as_bytes(), Format::Yaml, "nested deeper than 64");
    check(&vec![b' '; 60_000_000], Format::Json, "at most");
    check(format!("[{}1]", "1,".repeat(300_000)).as_bytes(), Format::Json, "more than 200000 values");
    check(&[b'"', 0xff, b'"'], Format::Json, "not UTF-8");
    let mut value = json!(1);
    for _ in 0..100 {
        value = json!([value]);
    }
    assert!(from_json(&value).is_err());
}

#[test]
fn a_few_lines_of_aliases_do_not_become_gigabytes() {
    let mut nodes = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    let mut text = format!("a0: &a0 [{}]\n", "y".repeat(100_000));
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        nodes += &format!("a{level}: &a{level} [{aliases}]\n");
        text += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    for document in [nodes, text] {
        let problems = read(document.as_bytes(), Format::Yaml).unwrap_err();
        assert!(problems.to_string().contains("more than"), "{problems}");
    }
    let itself = read(b"a: &a [*a]", Format::Yaml).unwrap_err();
    assert!(itself.to_string().contains("alias"), "{itself}");
}

#[test]
fn many_steps_of_one_path_are_numbered_in_no_time() {
    let steps = vec![json!({ "get": "/" }); 60_000];
    let document = json!({
        "name": "n", "target": "http://h",
        "scenarios": { "a": { "executor": "constant-vus", "duration": "1s", "steps": steps } }
    });
    let begun = std::time::Instant::now();
    assert!(from_json(&document).is_err());
    // Far above what it takes, and far below the minutes that looking for each number from the start would.
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
}
