//! Folders that cannot be opened: a clear error each, and nothing in them changed.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use qmq_store::{Error, Message, OpenError, Store, offline};
use support::{everything, small_options};

/// A folder with a closed store of three messages.
fn a_store() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), small_options()).unwrap();
    for number in 0..3 {
        store
            .append(&Message::new("s", number.to_string()))
            .unwrap();
    }
    store.close().unwrap();
    folder
}

/// Opens a folder that must be refused, and checks that nothing in it changes by that.
fn refused(folder: &Path) -> OpenError {
    let before = everything(folder);
    let error = Store::open(folder, small_options()).unwrap_err();
    assert!(everything(folder) == before, "changed by {error}");
    error
}

#[test]
fn a_folder_of_another_program_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["holiday.jpg", "log-1", "store.old"] {
        let path = folder.path().join(file);
        std::fs::write(&path, "mine").unwrap();
        let error = refused(folder.path());
        assert!(
            matches!(&error, OpenError::NotAStore { found, .. } if found == file),
            "{error:?}"
        );
        std::fs::remove_file(path).unwrap();
    }
    // Its name taken by something else: not a store's either.
    std::fs::write(
        folder.path().join("store"),
        "something else, and long enough to be read as one: 64 bytes",
    )
    .unwrap();
    let error = refused(folder.path());
    assert!(
        matches!(error, OpenError::DamagedIdentity { .. }),
        "{error:?}"
    );
}

#[test]
fn a_file_of_another_program_is_never_taken_for_a_stores_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    for file in [
        "report.tmp",
        "store.tmp",
        "spare",
        "reserve-0",
        "published",
        "lost-photo",
        "lock",
        "index-00000000000000000000",
        "index-00000000000000000000.tmp",
    ] {
        let path = folder.path().join(file);
        std::fs::write(&path, "mine").unwrap();
        let error = refused(folder.path());
        assert!(
            matches!(&error, OpenError::NotAStore { found, .. } if found == file),
            "{file}: {error:?}"
        );
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_repair_of_a_folder_without_a_log_changes_nothing_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let repair = || {
        let before = everything(folder.path());
        let error = offline::repair(folder.path(), &mut |_, _| {}).unwrap_err();
        assert!(everything(folder.path()) == before, "changed by {error}");
        error
    };
    let error = repair();
    assert!(
        matches!(error, Error::Open(OpenError::NoStore { .. })),
        "{error:?}"
    );
    for file in ["holiday.jpg", "store", "log-00000000000000000000"] {
        let path = folder.path().join(file);
        std::fs::write(&path, [b'm'; 100]).unwrap();
        let error = repair();
        assert!(
            matches!(&error, Error::Open(OpenError::NotAStore { found, .. }) if found == file),
            "{error:?}"
        );
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_folder_with_only_a_folder_or_a_link_in_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    std::fs::create_dir(&photos).unwrap();
    let error = refused(folder.path());
    assert!(
        matches!(&error, OpenError::NotAStore { found, .. } if found == "photos"),
        "{error:?}"
    );
    std::fs::remove_dir(&photos).unwrap();
    std::os::unix::fs::symlink("/dev/null", folder.path().join("link")).unwrap();
    let error = refused(folder.path());
    assert!(
        matches!(&error, OpenError::NotAStore { found, .. } if found == "link"),
        "{error:?}"
    );
}

#[test]
fn a_file_system_that_is_mounted_only_for_the_store_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("lost+found")).unwrap();
    Store::open(folder.path(), small_options()).unwrap();
}

#[test]
fn what_a_crash_left_of_a_store_that_was_being_created_is_taken_over() {
    let good = std::fs::read(a_store().path().join("store")).unwrap();
    for begun in [&[][..], &[0; 64], &good] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("lock"), "").unwrap();
        std::fs::write(folder.path().join("store.tmp"), begun).unwrap();
        let store = Store::open(folder.path(), small_options()).unwrap();
        store.append(&Message::new("s", "first")).unwrap();
        store.close().unwrap();
        assert!(!folder.path().join("store.tmp").exists());
    }
}

#[test]
fn an_open_removes_what_a_store_left_half_written_and_no_other_file() {
    let folder = a_store();
    let number = "00000000000000000064";
    let ours = [
        "store.tmp".to_owned(),
        "spare".to_owned(),
        format!("index-{number}.tmp"),
        format!("checkpoint-{number}.tmp"),
    ];
    let others = ["report.tmp", "index-1.tmp", "lost-photo", "reserve-2"];
    for file in ours.iter().map(String::as_str).chain(others) {
        std::fs::write(folder.path().join(file), "half").unwrap();
    }
    std::fs::create_dir(folder.path().join("photos")).unwrap();
    Store::open(folder.path(), small_options()).unwrap();
    for file in &ours {
        assert!(!folder.path().join(file).exists(), "{file}");
    }
    for file in others {
        assert_eq!(std::fs::read(folder.path().join(file)).unwrap(), b"half");
    }
    assert!(folder.path().join("photos").is_dir());
}

#[test]
fn a_backup_goes_into_no_folder_that_holds_anything() {
    let from = a_store();
    let store = Store::open(from.path(), small_options()).unwrap();
    let to = tempfile::tempdir().unwrap();
    std::fs::create_dir(to.path().join("photos")).unwrap();
    let before = everything(to.path());
    let error = store.backup(to.path(), &mut |_, _| {}).unwrap_err();
    assert!(
        matches!(&error, Error::Open(OpenError::NotAStore { found, .. }) if found == "photos"),
        "{error:?}"
    );
    assert!(everything(to.path()) == before);
}

#[test]
fn a_path_that_is_no_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = Store::open(&path, small_options()).unwrap_err();
        assert!(
            error.to_string().contains(&path.display().to_string()),
            "{error}"
        );
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
}

#[test]
fn there_is_nothing_to_open_read_only_where_there_is_no_store() {
    let folder = tempfile::tempdir().unwrap();
    let error = Store::open_read_only(folder.path(), &small_options()).unwrap_err();
    assert!(matches!(error, OpenError::NoStore { .. }), "{error:?}");
    let error = Store::open_read_only(folder.path().join("none"), &small_options()).unwrap_err();
    assert!(error.to_string().contains("none"), "{error}");
    assert!(everything(folder.path()).is_empty());
}

fn version(path: &Path) -> u32 {
    let bytes = std::fs::read(path).unwrap();
    u32::from_le_bytes(bytes[8..12].try_into().unwrap())
}

fn raise_version(path: &Path) {
    set_version(path, version(path) + 1);
}

/// Sets the version in a file's header and makes the checksum fit.
fn set_version(path: &Path, version: u32) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[8..12]);
    hasher.update(&bytes[16..64]);
    bytes[12..16].copy_from_slice(&hasher.finalize().to_le_bytes());
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_folder_of_a_newer_format_is_refused_with_both_versions() {
    let folder = a_store();
    raise_version(&folder.path().join("store"));
    let error = refused(folder.path());
    assert!(
        matches!(&error, OpenError::NewerVersion { found: 3, known: 2, file } if file.ends_with("store")),
        "{error:?}"
    );
    let error = Store::open_read_only(folder.path(), &small_options()).unwrap_err();
    assert!(matches!(error, OpenError::NewerVersion { .. }), "{error:?}");
}

#[test]
fn a_store_from_before_there_were_notes_is_opened_and_refused_by_older_readers_from_then_on() {
    let folder = a_store();
    let identity = folder.path().join("store");
    set_version(&identity, 1);
    let reader = Store::open_read_only(folder.path(), &small_options()).unwrap();
    let before = reader.end_offset();
    drop(reader);
    assert_eq!(version(&identity), 1, "who only reads changes nothing");
    let store = Store::open(folder.path(), small_options()).unwrap();
    assert_eq!(store.watermarks().written, before);
    assert_eq!(store.open_report().damages, []);
    // Before the first note is written.
    assert_eq!(version(&identity), 2);
}

#[test]
fn a_segment_of_a_newer_format_is_refused_and_not_taken_for_damage() {
    let folder = a_store();
    let segment = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains("log-"))
        .unwrap();
    raise_version(&segment);
    let before = std::fs::read(&segment).unwrap();
    let error = Store::open(folder.path(), small_options()).unwrap_err();
    assert!(
        matches!(&error, OpenError::NewerVersion { file, .. } if file.contains("log-")),
        "{error:?}"
    );
    assert!(std::fs::read(&segment).unwrap() == before);
}

#[test]
fn a_damaged_identity_is_refused_wherever_it_is_damaged() {
    let folder = a_store();
    let path = folder.path().join("store");
    let good = std::fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&path, bad).unwrap();
        let error = refused(folder.path());
        assert!(
            matches!(error, OpenError::DamagedIdentity { .. }),
            "byte {at}: {error:?}"
        );
    }
    for len in [0, 1, 63] {
        std::fs::write(&path, &good[..len]).unwrap();
        let error = refused(folder.path());
        assert!(
            matches!(error, OpenError::DamagedIdentity { .. }),
            "{error:?}"
        );
    }
    std::fs::remove_file(&path).unwrap();
    let error = refused(folder.path());
    assert!(
        error.to_string().contains("missing beside a log"),
        "{error}"
    );
    std::fs::write(&path, good).unwrap();
    let store = Store::open(folder.path(), small_options()).unwrap();
    assert_eq!(store.read("s", 0, 10).unwrap().len(), 3);
}

/// Runs one of the ignored tests below in a process of its own.
fn another_process(command: &mut Command, test: &str, folder: &Path) -> Child {
    command
        .args([
            "--exact",
            test,
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("QMQ_TEST_FOLDER", folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn this_program() -> std::path::PathBuf {
    std::env::current_exe().unwrap()
}

#[test]
#[ignore = "a process started by the test below: cargo test -p qmq-store --test bad_folders a_folder_that_another_process"]
fn other_process_holds_the_store() {
    let Ok(folder) = std::env::var("QMQ_TEST_FOLDER") else {
        return;
    };
    let _store = Store::open(folder, small_options()).unwrap();
    println!("\nopened");
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn a_folder_that_another_process_has_open_is_refused_until_that_process_is_gone() {
    use std::io::BufRead;
    let folder = a_store();
    let mut other = another_process(
        &mut Command::new(this_program()),
        "other_process_holds_the_store",
        folder.path(),
    );
    let mut lines = std::io::BufReader::new(other.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "opened"));
    let error = refused(folder.path());
    assert!(matches!(error, OpenError::Locked { .. }), "{error:?}");
    assert!(Store::open_read_only(folder.path(), &small_options()).is_ok());
    // The lock is the folder's: a file can be removed and made anew.
    std::fs::remove_file(folder.path().join("lock")).unwrap();
    let error = refused(folder.path());
    assert!(matches!(error, OpenError::Locked { .. }), "{error:?}");
    other.kill().unwrap();
    other.wait().unwrap();
    let store = Store::open(folder.path(), small_options()).unwrap();
    // Also another handle of this process is refused.
    let error = Store::open(folder.path(), small_options()).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error:?}");
    let clone = store.clone();
    drop(store);
    let error = Store::open(folder.path(), small_options()).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error:?}");
    drop(clone);
    Store::open(folder.path(), small_options()).unwrap();
}

#[test]
#[ignore = "a process started by the test below: cargo test -p qmq-store --test bad_folders a_read_only_mount"]
fn other_process_opens_the_store() {
    let Ok(folder) = std::env::var("QMQ_TEST_FOLDER") else {
        return;
    };
    match Store::open(&folder, small_options()) {
        Ok(_) => println!("\nwritable: opened"),
        Err(error @ OpenError::NotWritable { .. }) => println!("\nwritable: not writable: {error}"),
        Err(error) => println!("\nwritable: {error}"),
    }
    match Store::open_read_only(&folder, &small_options()) {
        Ok(store) => println!("read only: {}", store.read("s", 0, 10).unwrap().len()),
        Err(error) => println!("read only: {error}"),
    }
}

#[test]
fn a_read_only_mount_cannot_be_opened_for_writing_and_can_be_read() {
    let folder = a_store();
    let before = everything(folder.path());
    let script = r#"mount --bind "$QMQ_TEST_FOLDER" "$QMQ_TEST_FOLDER" &&
        mount -o remount,ro,bind "$QMQ_TEST_FOLDER" && exec "$0" "$@""#;
    let mut unshare = Command::new("unshare");
    unshare.args(["-m", "sh", "-c", script]).arg(this_program());
    let other = another_process(&mut unshare, "other_process_opens_the_store", folder.path());
    let output = other.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    if !said.contains("writable:") {
        let why = String::from_utf8_lossy(&output.stderr);
        println!("skipped: no read-only mount can be made here: {why}");
        return;
    }
    assert!(said.contains("writable: not writable:"), "{said}");
    assert!(said.contains("read only: 3"), "{said}");
    assert!(everything(folder.path()) == before);
}
