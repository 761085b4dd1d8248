//! What operators wrote down: commands and the answers that QMQ gave, byte for byte.

use crate::common::{code, run, stderr, stdout};
use crate::door::open;

#[tokio::test(flavor = "multi_thread")]
async fn tools_answer_as_the_operators_wrote_down() {
    let door = open(true).await;
    let metaserver = format!("--metaserver={}", door.address);
    let mut lines = include_str!("data/operators_transcript.txt")
        .lines()
        .peekable();
    let mut compared = 0;
    while let Some(line) = lines.next() {
        let command = line.strip_prefix("$ ").unwrap();
        let mut args = vec!["tools".to_owned()];
        // As a shell takes it.
        args.extend(command.split(' ').map(|arg| arg.replace('\'', "")));
        let args: Vec<&str> = args
            .iter()
            .map(|arg| match arg.as_str() {
                "--metaserver=127.0.0.1:8080" => metaserver.as_str(),
                other => other,
            })
            .collect();
        let output = run(&args, b"");
        assert_eq!(code(&output), Some(0), "{line}: {}", stderr(&output));
        assert_eq!(stderr(&output), "", "{line}");
        // One of them was not written down.
        if let Some(answer) = lines.next_if(|next| !next.starts_with("$ ")) {
            assert_eq!(stdout(&output), format!("{answer}\n"), "{line}");
            compared += 1;
        }
    }
    assert_eq!(compared, 12);
}
