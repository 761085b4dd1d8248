//! A small file system for one test, in a mount namespace of its own.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot mount what it may has failed"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Set for the inner run: the folder to mount on.
const FOLDER: &str = "QMQ_FULL_DISK_FOLDER";

/// Runs the ignored test `inside_a_small_file_system` of this file where it may mount, if that is allowed here.
pub(crate) fn run_inside() {
    let allowed = Command::new("unshare")
        .args(["--mount", "sh", "-c", "mount -t tmpfs -o size=1m none /mnt"])
        .output();
    match allowed {
        Ok(output) if output.status.success() => {}
        other => {
            println!("skipped: no private mount is allowed here: {other:?}");
            return;
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .arg("--mount")
        .arg(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "inside_a_small_file_system",
            "--nocapture",
        ])
        .env(FOLDER, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    assert!(said.contains("1 passed"), "{said}");
}

/// The inner run's folder, with a file system of that size. `None`: this is no inner run.
pub(crate) fn mounted(size: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os(FOLDER) else {
        println!("skipped: only the test above starts this one");
        return None;
    };
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"])
        .arg(Path::new(&folder))
        .status()
        .unwrap();
    assert!(mounted.success());
    Some(folder.into())
}
