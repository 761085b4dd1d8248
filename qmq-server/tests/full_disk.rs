//! A really full disk is an error that names itself, never a signal, and appends go on when there is room again.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;
#[path = "common/small_disk.rs"]
mod small_disk;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use common::{qmq, stderr, stdout, store};

/// Runs the inner test with a small file system of its own, if that is allowed here.
#[test]
fn a_full_disk_refuses_lines_and_takes_them_again_when_there_is_room() {
    small_disk::run_inside();
}

#[test]
#[ignore = "run by the test above, in a mount namespace of its own: cargo test -p qmq-server --test full_disk"]
fn inside_a_small_file_system() {
    let Some(folder) = small_disk::mounted("48m") else {
        return;
    };
    let folder = folder.as_path();
    let ballast = folder.join("ballast");
    fs::write(&ballast, vec![1; 24 << 20]).unwrap();
    let dir = folder.join("store");

    let mut append = qmq([
        "store",
        "append",
        "--segment-bytes",
        "1048576",
        "--subject",
        "s",
        "--dir",
    ])
    .arg(&dir)
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    let mut input = append.stdin.take().unwrap();
    let printed = lines(append.stdout.take().unwrap());
    let errors = lines(append.stderr.take().unwrap());

    let mut stored = Vec::new();
    let mut refusal = None;
    for n in 0..10_000 {
        match feed(&mut input, n, &printed, &errors) {
            Ok(line) => stored.push((n, line)),
            Err(error) => {
                refusal = Some(error);
                break;
            }
        }
    }
    let refusal = refusal.expect("48 MiB take no 10,000 lines of 65,000 bytes");
    assert!(
        refusal.contains("full") && refusal.starts_with("error: line "),
        "{refusal}"
    );
    assert!(
        stored.len() > 100,
        "{} lines before the disk was full",
        stored.len()
    );
    // Still refused, still alive.
    assert!(feed(&mut input, 20_000, &printed, &errors).is_err());

    fs::remove_file(&ballast).unwrap();
    let mut room = false;
    for n in 30_000..30_100 {
        if let Ok(line) = feed(&mut input, n, &printed, &errors) {
            stored.push((n, line));
            room = true;
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    assert!(room, "nothing was taken after 24 MiB became free");
    for n in 40_000..40_010 {
        stored.push((n, feed(&mut input, n, &printed, &errors).unwrap()));
    }
    drop(input);
    let ended = append.wait().unwrap();
    assert_eq!(
        (ended.code(), ended.signal()),
        (Some(1), None),
        "some lines were refused"
    );

    let output = store("read", &dir, &["--subject", "s"], b"");
    let bodies: Vec<_> = stdout(&output).lines().map(str::to_owned).collect();
    assert_eq!(bodies.len(), stored.len());
    for (at, (n, printed)) in stored.iter().enumerate() {
        assert_eq!(*printed, format!("s {at}"));
        assert!(bodies[at] == line(*n), "line {n} at {at}");
    }
    let output = store("verify", &dir, &[], b"");
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );

    // Many lines that find the disk full are counted, not told one by one.
    let mut fill = fs::File::create(&ballast).unwrap();
    while fill.write_all(&[1; 4096]).is_ok() {}
    let len = fill.metadata().unwrap().len();
    fill.set_len(len - (256 << 10)).unwrap();
    let many = b"x\n".repeat(60_000);
    let output = store(
        "append",
        &dir,
        &["--subject", "s", "--segment-bytes", "1048576"],
        &many,
    );
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    // A little room may come back in between, and a new count begins.
    let counted = said.matches("lines more were refused").count();
    assert!((1..=5).contains(&counted), "{said}");
    assert!(said.lines().count() <= 21 * (counted + 1), "{said}");
}

/// Feeds a line and gives what was printed for it, or the error.
fn feed(
    input: &mut ChildStdin,
    n: usize,
    printed: &Receiver<String>,
    errors: &Receiver<String>,
) -> Result<String, String> {
    input
        .write_all(format!("{}\n", line(n)).as_bytes())
        .unwrap();
    for _ in 0..4_000 {
        if let Ok(line) = printed.recv_timeout(Duration::from_millis(5)) {
            return Ok(line);
        }
        if let Ok(error) = errors.try_recv() {
            return Err(error);
        }
    }
    panic!("no answer to line {n} within 20 s");
}

fn line(n: usize) -> String {
    format!("{n:>65000}").replace(' ', ".")
}

fn lines(pipe: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (tell, told) = channel();
    thread::spawn(move || {
        BufReader::new(pipe)
            .lines()
            .map_while(Result::ok)
            .for_each(|line| drop(tell.send(line)));
    });
    told
}
