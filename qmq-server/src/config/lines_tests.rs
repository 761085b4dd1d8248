use std::fs;

use super::*;
use crate::config::told::log_of;
use crate::config::{ApiTokens, ClientLogSwitch, HttpPorts};

fn read<T: Lines>(text: &str) -> Result<(T, Vec<Warning>), ConfigError> {
    parse(Path::new("x.properties"), text.as_bytes())
}

#[test]
fn tokens_are_known_by_their_text_and_shown_by_their_descriptions() {
    let (tokens, warnings) = read::<ApiTokens>("# c\nhunter2=ci\na\\=b c=me\nlast\n").unwrap();
    assert_eq!(warnings, []);
    assert_eq!(tokens.contains("hunter2").as_deref(), Some("ci"));
    assert_eq!(tokens.contains("a=b").as_deref(), Some("c=me"));
    assert_eq!(tokens.contains("last").as_deref(), Some(""));
    for other in ["", "hunter", "hunter22", "ci", "HUNTER2"] {
        assert_eq!(tokens.contains(other), None, "{other}");
    }
    assert_eq!(tokens.len(), 3);
    assert!(!tokens.is_empty());
    let shown = format!("{tokens:?}");
    assert!(
        !shown.contains("hunter2") && shown.contains("ci"),
        "{shown}"
    );
}

#[test]
fn placeholders_are_no_tokens_and_repeated_tokens_are_told_by_their_lines() {
    let (tokens, warnings) =
        read::<ApiTokens>("<token 1>=<token 1 desc>\nhunter2=a\nhunter2=b\n").unwrap();
    assert_eq!(tokens.contains("<token"), None);
    assert_eq!(tokens.contains("hunter2").as_deref(), Some("b"));
    let shown: Vec<_> = warnings.iter().map(Warning::to_string).collect();
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert!(
        shown[0].starts_with("x.properties:1: a placeholder"),
        "{shown:?}"
    );
    assert!(
        shown[1].contains(":3: the same token as on line 2"),
        "{shown:?}"
    );
    assert!(!shown.concat().contains("hunter2"));
}

#[test]
fn a_line_without_a_token_is_refused_without_being_shown() {
    let error = read::<ApiTokens>("=hunter2\nok=x\nbad\\u12=hunter2\n").unwrap_err();
    assert_eq!(error.problems.len(), 2, "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[test]
fn a_subject_has_its_own_switch_or_the_default() {
    let (switch, warnings) =
        read::<ClientLogSwitch>("default=true\norder.changed=FALSE\nflight= true\n").unwrap();
    assert_eq!(warnings, []);
    assert!(!switch.is_on("order.changed"));
    assert!(switch.is_on("flight") && switch.is_on("other"));
    let (switch, warnings) =
        read::<ClientLogSwitch>("default\na/b=true\nx=true\nx=false\n<subject a>=true\ny=\n")
            .unwrap();
    assert_eq!(warnings.len(), 5, "{warnings:?}");
    assert!(!switch.is_on("x") && !switch.is_on("y") && !switch.is_on("<subject"));
    let shown = read::<ClientLogSwitch>("x=yes\n").unwrap_err().to_string();
    assert_eq!(
        shown,
        "x.properties:1: \"x\" = \"yes\" is refused; allowed is true or false"
    );
}

#[test]
fn the_port_of_a_slave_is_that_of_its_host_and_port_or_of_its_host() {
    let (ports, warnings) =
        read::<HttpPorts>("a=8080\na/20882=9090\n<host>[/<serverport>]=<httpport>\n").unwrap();
    assert_eq!(warnings.len(), 1);
    assert_eq!(ports.of("a", 20881), Some(8080));
    assert_eq!(ports.of("a", 20882), Some(9090));
    assert_eq!(ports.of("b", 20882), None);
    let error = read::<HttpPorts>("a=0\nb=65536\nc/x=1\nd e=1\n").unwrap_err();
    assert_eq!(error.problems.len(), 4, "{error}");
}

#[test]
fn a_changed_file_takes_effect_and_the_log_says_what_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client_log_switch.properties");
    let (switch, _) = WatchedLines::<ClientLogSwitch>::open(path.clone(), false).unwrap();
    assert_eq!(switch.poll().unwrap(), None);
    fs::write(&path, "default=false\norder=true\nbad/name=true\n").unwrap();
    let said = log_of(|| switch.poll().unwrap().unwrap().log(&path));
    assert!(
        said.contains("order has changed from false to true"),
        "{said}"
    );
    assert!(said.contains("no subject has this name"), "{said}");
    assert!(!said.contains("default"), "{said}");
    assert!(switch.current().is_on("order"));
    assert_eq!(switch.poll().unwrap(), None);
    fs::write(&path, "default=maybe\n").unwrap();
    assert!(switch.poll().is_err());
    assert_eq!(switch.poll().unwrap(), None);
    assert!(switch.current().is_on("order"));
    fs::remove_file(&path).unwrap();
    assert!(switch.poll().is_err());
    assert!(switch.current().is_on("order"));
}

#[test]
fn a_token_taken_from_the_file_counts_no_more_and_the_log_names_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("valid-api-tokens.properties");
    assert!(WatchedLines::<ApiTokens>::open(path.clone(), true).is_err());
    fs::write(&path, "hunter2=ci\ncorrecthorse=me\n").unwrap();
    let (tokens, _) = WatchedLines::<ApiTokens>::open(path.clone(), true).unwrap();
    assert!(tokens.current().contains("hunter2").is_some());
    fs::write(&path, "battery=you\ncorrecthorse=me\n\n").unwrap();
    let said = log_of(|| tokens.poll().unwrap().unwrap().log(&path));
    assert!(said.contains("1 new, 1 gone, 2 now, 2 before"), "{said}");
    for secret in ["hunter2", "correcthorse", "battery"] {
        assert!(!said.contains(secret), "{said}");
    }
    assert_eq!(tokens.current().contains("hunter2"), None);
    assert!(tokens.current().contains("battery").is_some());
}
