use std::fs;

use super::*;

fn check(kind: FileKind, text: &[u8]) -> Checked {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.properties");
    fs::write(&path, text).unwrap();
    Checked::read(kind, &Sources::of_file(path))
}

#[test]
fn a_required_key_left_empty_is_an_error_unless_the_file_is_a_template() {
    let filled = "jdbc.url=jdbc:mysql://h/db\njdbc.username=\n";
    let checked = check(FileKind::Datasource, filled.as_bytes());
    let shown: Vec<_> = checked.problems.iter().map(Problem::to_string).collect();
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert!(
        shown[0].contains("x.properties:2: jdbc.username is required and left empty"),
        "{shown:?}"
    );
    assert!(!checked.is_usable() && checked.to_fill_in.is_empty());
    let template = "jdbc.url=jdbc:mysql://<address>/<db>\njdbc.username=\n";
    let checked = check(FileKind::Datasource, template.as_bytes());
    assert!(checked.is_usable());
    assert_eq!(checked.to_fill_in.len(), 2);
    let template = "jdbc.url=jdbc:mysql://<address>/<db>\njdbc.username=\npool.size.max=none\n";
    let checked = check(FileKind::Datasource, template.as_bytes());
    assert!(!checked.is_usable(), "{checked:?}");
}

#[test]
fn rules_between_keys_are_checked_also_in_a_template() {
    let text = "meta.server.endpoint=http://<meta>/meta/address\nbroker.port=60000\n";
    let checked = check(FileKind::Broker, text.as_bytes());
    assert_eq!(checked.to_fill_in.len(), 1, "{checked:?}");
    assert_eq!(checked.problems.len(), 1, "{checked:?}");
    let text = "broker.port=<port>\n";
    let checked = check(FileKind::Broker, text.as_bytes());
    assert!(
        checked.is_usable() && checked.to_fill_in.len() == 1,
        "{checked:?}"
    );
}

#[test]
fn every_status_is_told() {
    let text =
        "broker.port=1\nsubject.auto.create=false\nsmt.enable=true\nbroker.prot=2\nstreams.max=\n";
    let checked = check(FileKind::Broker, text.as_bytes());
    let shown: Vec<_> = checked.warnings.iter().map(Warning::to_string).collect();
    assert_eq!(shown.len(), 3, "{shown:?}");
    assert!(
        shown[0].contains(":3: smt.enable is accepted without effect: the store has one index")
    );
    assert!(shown[1].contains(":4: \"broker.prot\" is no known key"));
    assert!(shown[2].contains(":5: streams.max has no value; its default counts: 1024"));
}

#[test]
fn what_is_said_of_huge_files_is_bounded() {
    let mut text = String::new();
    for number in 0..200_000 {
        text.push_str(&format!("{}\n", base36(number)));
    }
    assert!(text.len() < 1 << 20);
    let begun = std::time::Instant::now();
    let checked = check(FileKind::Broker, text.as_bytes());
    assert!(checked.is_usable());
    assert!(checked.warnings.len() <= 201, "{}", checked.warnings.len());
    let last = checked.warnings.last().map(Warning::to_string);
    assert_eq!(last.as_deref(), Some("199800 more of this are not shown"));
    for kind in [FileKind::ApiTokens, FileKind::ClientLogSwitch] {
        let checked = check(kind, text.as_bytes());
        assert!(checked.is_usable() && checked.warnings.len() <= 201);
    }
    let broken = b"a=\xff\n".repeat(150_000);
    let checked = check(FileKind::Delay, &broken);
    // A hundred lines, how many more, and the required key.
    assert_eq!(checked.problems.len(), 102);
    assert!(
        checked.problems[100]
            .to_string()
            .contains("149900 more lines")
    );
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
}

fn base36(mut number: u32) -> String {
    let mut digits = Vec::new();
    for _ in 0..4 {
        digits.push(char::from_digit(number % 36, 36).unwrap());
        number /= 36;
    }
    digits.into_iter().collect()
}

#[test]
fn odd_bytes_are_refused_or_passed_over_and_never_more() {
    for kind in FileKind::ALL {
        for bytes in [
            &b""[..],
            b"\0\0\0\n",
            b"\xff\xfe\x00=\x00\n",
            b"=\n:\n \\\n\\",
            b"\xef\xbb\xbf# only a comment",
        ] {
            let _ = check(kind, bytes);
        }
        let huge = check(kind, &vec![b'a'; 10 << 20]);
        assert!(!huge.is_usable(), "{kind:?}");
        let shown = huge.problems[0].to_string();
        assert!(shown.contains("more than 1048576 bytes"), "{shown}");
    }
    let checked = check(
        FileKind::Broker,
        b"store.root=a\0b\nbroker.group=\0\nbroker.listen=\0\n",
    );
    assert_eq!(checked.problems.len(), 3, "{checked:?}");
}

#[test]
fn secrets_are_in_nothing_that_is_shown() {
    let text = "jdbc.url=jdbc:mysql://u:hunter2@h/db?password=hunter2\njdbc.username=x\njdbc.password=hunter2\u{7}\n";
    let shown = format!("{:?}", check(FileKind::Datasource, text.as_bytes()));
    assert!(!shown.contains("hunter2"), "{shown}");
    let text =
        "jdbc.url=jdbc:mysql://h/db?password=hunter2\njdbc.username=x\njdbc.password=hunter2\n";
    let checked = check(FileKind::Datasource, text.as_bytes());
    let shown = format!("{checked:?}");
    assert!(checked.is_usable() && !shown.contains("hunter2"), "{shown}");
}
