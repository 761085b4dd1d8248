//! The recorded frames of the native protocol.

use std::path::Path;

/// Each by its name, header included.
pub(crate) fn frames() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../qmq-wire/tests/recorded/v1");
    let mut frames: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, bytes(&std::fs::read_to_string(&path).unwrap()))
        })
        .collect();
    frames.sort();
    frames
}

/// Hexadecimal; `#` begins a comment.
fn bytes(text: &str) -> Vec<u8> {
    text.lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().split(' '))
        .filter(|byte| !byte.is_empty())
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

/// What the target of that frame's kind is given: the kind, then the payload.
pub(crate) fn input(frame: &[u8]) -> Vec<u8> {
    [&frame[4..5], &frame[8..]].concat()
}
