//! `docs/protocol.md` names every kind, code and reason with its number.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod any_frame;

use std::path::Path;

use qmq_wire::{ALPN, BATCH_MESSAGES_MAX, CloseCode, Code, LEAST_FRAME_BYTES_MAX};

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    let text = std::fs::read_to_string(path).unwrap();
    let end = text.find("\n## Replication").unwrap();
    text[..end].to_owned()
}

#[test]
fn every_kind_code_and_reason_is_documented_under_its_number() {
    let document = document();
    let kinds = any_frame::kinds()
        .map(|kind| format!("| {} {} |", kind as u8, format!("{kind:?}").to_uppercase()));
    let codes = Code::ALL
        .iter()
        .map(|code| format!("\n| {} {code:?} |", code.number()));
    let reasons = (0..=u64::from(u8::MAX))
        .filter_map(CloseCode::from_number)
        .map(|reason| format!("\n| {} {reason:?} |", reason as u32));
    for row in kinds.chain(codes).chain(reasons) {
        assert!(document.contains(&row), "no row {row:?}");
    }
}

#[test]
fn the_documented_limits_are_those_of_the_code() {
    let document = document();
    assert_eq!(BATCH_MESSAGES_MAX, 10_000);
    assert_eq!(LEAST_FRAME_BYTES_MAX, 65_536);
    assert_eq!(qmq_wire::CONTROL_BYTES_MAX, 16 << 20);
    for said in ["10,000 at most", "65,536 bytes", "| 16 MiB |"] {
        assert!(document.contains(said), "{said}");
    }
    let alpn = std::str::from_utf8(ALPN).unwrap();
    assert!(document.contains(&format!("| ALPN | `{alpn}` |")));
}

#[test]
fn the_documented_example_is_what_is_written() {
    let document = document();
    let example = document.split("```text\n").nth(1).unwrap();
    let example = example.split("```").next().unwrap();
    let bytes: Vec<u8> = example
        .lines()
        .flat_map(|line| line.split_whitespace().map_while(byte))
        .collect();
    let request = qmq_wire::ControlRequest::Subjects {
        pattern: "a*".into(),
        after: String::new(),
        max: 100,
    };
    let frame = any_frame::AnyFrame::Control(7, request).encode();
    assert_eq!(bytes, frame[8..]);
}

fn byte(word: &str) -> Option<u8> {
    (word.len() == 2).then(|| u8::from_str_radix(word, 16).ok())?
}
