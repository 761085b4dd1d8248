//! A folder in which something else has been at work: files of other stores and of other times, files that are none, files that are gone.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "strange_files/foreign.rs"]
mod foreign;
mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use qmq_store::disk::{Disk, SimulatedDisk};
use qmq_store::{DamageKind, Message, OpenError, Options, Store, offline};
use support::{House, contents, files, files_in, small_options};

const MESSAGES: u64 = 2_000;

fn options(seed: u64) -> Options {
    Options {
        identity_seed: Some(seed),
        ..small_options()
    }
}

fn fill(store: &Store, word: &str, count: u64) {
    for number in 0..count {
        let body = format!("{word}-{number:060}");
        store
            .append_with(&Message::new("s", body), qmq_store::Durability::Buffered)
            .unwrap();
    }
}

/// A folder with a closed store of several segments. Those of two stores with words of one length stand at the same offsets.
fn a_store(seed: u64, word: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), options(seed)).unwrap();
    fill(&store, word, MESSAGES);
    store.close().unwrap();
    folder
}

/// Sequences of the messages that are served, and of those that are damaged; all of them, and those served are all of `word`.
fn served(store: &Store, word: &str) -> (Vec<u64>, Vec<u64>) {
    let records = store.read("s", 0, usize::MAX).unwrap();
    let (mut good, mut damaged) = (Vec::new(), Vec::new());
    for (expected, one) in records.iter().enumerate() {
        assert_eq!(one.sequence(), expected as u64);
        match one.message() {
            Ok(message) => {
                assert!(message.body().starts_with(word.as_bytes()));
                good.push(one.sequence());
            }
            Err(_) => damaged.push(one.sequence()),
        }
    }
    (good, damaged)
}

fn kinds(folder: &Path) -> Vec<DamageKind> {
    let report = offline::verify(folder, &mut |_, _| {}).unwrap();
    report.damages.iter().map(|damage| damage.kind).collect()
}

#[test]
fn a_checkpoint_that_cannot_be_read_refuses_the_open_and_stays() {
    let mut house = House::new();
    fill(house.store(), "alice", MESSAGES);
    house.restart();
    let disk = house.disk.process_killed();
    let name = files(&disk, "checkpoint-").pop().unwrap();
    let before = contents(&disk);
    disk.faults(|faults| faults.read_error(&name, 0..u64::MAX));
    let open = || Store::open_on(Arc::new(disk.clone()), house.options.clone());
    let error = open().unwrap_err();
    assert!(
        matches!(&error, OpenError::Unreadable { file, .. } if *file == name),
        "{error}"
    );
    disk.faults(qmq_store::disk::SimulatedFaults::clear);
    let after = contents(&disk);
    assert!(before.iter().all(|file| after.contains(file)));
    assert_eq!(open().unwrap().open_report().damages, []);
}

#[test]
fn a_checkpoint_of_eight_terabytes_is_damage_and_takes_no_memory() {
    let folder = a_store(1, "alice");
    for checkpoint in files_in(folder.path(), "checkpoint-") {
        let file = fs::OpenOptions::new().write(true).open(checkpoint).unwrap();
        if file.set_len(8 << 40).is_err() {
            println!("skipped: the file system takes no file of 8 TiB");
            return;
        }
    }
    let store = Store::open(folder.path(), options(1)).unwrap();
    let report = store.open_report();
    assert!(
        report
            .damages
            .iter()
            .all(|damage| damage.kind == DamageKind::Checkpoint)
            && !report.damages.is_empty(),
        "{report:?}"
    );
    assert_eq!(served(&store, "alice").0.len() as u64, MESSAGES);
}

#[test]
fn a_backup_that_was_interrupted_is_no_store_and_says_so() {
    let house = House::new();
    fill(house.store(), "alice", 900);
    let whole = SimulatedDisk::new();
    house
        .store()
        .backup_on(Arc::new(whole.clone()), &mut |_, _| {})
        .unwrap();
    let mut unfinished = 0;
    for operations in 1..whole.operations() {
        let disk = SimulatedDisk::new();
        disk.power_off_after(operations);
        let _ = house
            .store()
            .backup_on(Arc::new(disk.clone()), &mut |_, _| {});
        for left in [disk.process_killed(), disk.crash(operations)] {
            if files(&left, "").iter().all(|name| name.ends_with(".tmp")) {
                continue;
            }
            match Store::open_on(Arc::new(left), options(2)) {
                Ok(copy) => assert_eq!(served(&copy, "alice").0.len(), 900),
                Err(error) => {
                    let told = matches!(
                        error,
                        OpenError::UnfinishedBackup { .. } | OpenError::DamagedIdentity { .. }
                    );
                    assert!(told, "{error}");
                    unfinished += 1;
                }
            }
        }
    }
    assert!(unfinished > 10);
    let disk = SimulatedDisk::new();
    disk.create("store.unfinished", 0).unwrap();
    let again = house.store().backup_on(Arc::new(disk), &mut |_, _| {});
    let error = again.unwrap_err();
    assert!(error.to_string().contains("unfinished backup"), "{error}");
    let folder = a_store(1, "alice");
    let store = folder.path().join("store");
    fs::rename(&store, folder.path().join("store.unfinished")).unwrap();
    let error = offline::repair(folder.path(), &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("unfinished backup"), "{error}");
    assert!(!store.exists());
}

#[test]
fn an_older_identity_that_is_put_back_costs_nothing() {
    for proof in ["published", "checkpoint-", "both"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let mut older = Vec::new();
        for round in 0..4 {
            let store = Store::open(path, options(1)).unwrap();
            fill(&store, "alice", 50);
            if round == 1 || round == 2 {
                // Not in order: the incarnation rises.
                store.sync().unwrap();
                drop(store);
            } else {
                store.close().unwrap();
            }
            if round == 0 {
                older = fs::read(path.join("store")).unwrap();
            }
        }
        fs::write(path.join("store"), older).unwrap();
        for file in ["published", "checkpoint-"] {
            if ![file, "both"].contains(&proof) {
                for file in files_in(path, file) {
                    fs::remove_file(file).unwrap();
                }
            }
        }
        for round in 4..6 {
            let store = Store::open(path, options(1)).unwrap();
            assert_eq!(served(&store, "alice").0.len(), round * 50, "{proof}");
            assert_eq!(store.open_report().cut_bytes, 0);
            fill(&store, "alice", 50);
            store.close().unwrap();
            assert_eq!(kinds(path), [], "{proof}");
        }
    }
}

#[test]
fn messages_lost_at_the_end_are_damaged_ever_after_until_they_are_retired() {
    let folder = a_store(1, "alice");
    let path = folder.path();
    fs::remove_file(files_in(path, "log-").pop().unwrap()).unwrap();
    assert!(kinds(path).contains(&DamageKind::LostTail));
    let mut lost = Vec::new();
    for round in 0..4 {
        let store = Store::open(path, options(1)).unwrap();
        if round == 0 {
            assert!(!store.open_report().clean);
        }
        let (good, damaged) = served(&store, "alice");
        assert_eq!((good.len() + damaged.len()) as u64, MESSAGES + 300 * round);
        if round == 0 {
            lost = damaged.clone();
        }
        assert!(!lost.is_empty() && damaged == lost, "round {round}");
        fill(&store, "alice", 300);
        if round == 2 {
            store.sync().unwrap();
        } else {
            store.close().unwrap();
        }
        assert!(!kinds(path).is_empty(), "round {round}");
    }
    let mut retiring = options(1);
    retiring.retention.max_bytes = Some(70_000);
    let store = Store::open(path, retiring).unwrap();
    fill(&store, "alice", 1_500);
    store.maintain().unwrap();
    let kept = store.read("s", 0, usize::MAX).unwrap();
    assert!(kept.iter().all(|one| one.message().is_ok()));
    store.close().unwrap();
    assert_eq!(kinds(path), []);
}

#[test]
fn what_is_no_regular_file_is_refused_by_name_and_waited_for_by_nobody() {
    for prefix in [
        "store",
        "published",
        "lock",
        "log-",
        "index-",
        "checkpoint-",
    ] {
        for kind in ["pipe", "link", "folder"] {
            let folder = a_store(1, "alice");
            let path = folder.path().to_owned();
            let file = files_in(&path, prefix)[0].clone();
            let away = tempfile::tempdir().unwrap();
            let moved = away.path().join("file");
            fs::rename(&file, &moved).unwrap();
            match kind {
                "pipe" => assert!(
                    Command::new("mkfifo")
                        .arg(&file)
                        .status()
                        .unwrap()
                        .success()
                ),
                "link" => std::os::unix::fs::symlink(&moved, &file).unwrap(),
                _ => fs::create_dir(&file).unwrap(),
            }
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            let (tell, told) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let nothing = &mut |_: u64, _: u64| {};
                let errors = [
                    Store::open(&path, options(1)).unwrap_err().to_string(),
                    offline::verify(&path, nothing).unwrap_err().to_string(),
                    offline::repair(&path, nothing).unwrap_err().to_string(),
                    offline::dump(&path, 0, u64::MAX, &mut |_| true)
                        .unwrap_err()
                        .to_string(),
                ];
                tell.send(errors).unwrap();
            });
            let errors = told.recv_timeout(Duration::from_secs(20)).unwrap();
            for error in errors {
                assert!(error.contains(&name), "{kind} {name}: {error}");
            }
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_while_the_store_is_open_is_named_and_is_not_called_damaged() {
    let folder = a_store(1, "alice");
    let path = folder.path();
    let away = tempfile::tempdir().unwrap();
    let mut mapped_few = options(1);
    mapped_few.mapped_files_max = 16;
    for prefix in ["log-", "index-"] {
        let store = Store::open(path, mapped_few.clone()).unwrap();
        let file = files_in(path, prefix)[0].clone();
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let moved = away.path().join(&name);
        fs::rename(&file, &moved).unwrap();
        std::os::unix::fs::symlink(&moved, &file).unwrap();
        let said = match store.read("s", 0, 1) {
            Ok(records) => records
                .iter()
                .next()
                .unwrap()
                .message()
                .unwrap_err()
                .to_string(),
            Err(error) => error.to_string(),
        };
        assert!(said.contains(&name) && !said.contains("damaged"), "{said}");
        assert!(file.is_symlink(), "nothing was made anew");
        fs::remove_file(&file).unwrap();
        fs::rename(&moved, &file).unwrap();
        assert!(
            store
                .read("s", 0, 1)
                .unwrap()
                .iter()
                .all(|one| one.message().is_ok())
        );
        store.close().unwrap();
    }
}

#[test]
fn a_published_end_that_is_cut_or_of_another_store_hinders_no_reader() {
    let (alice, bobby) = (a_store(1, "alice"), a_store(2, "bobby"));
    let path = alice.path().join("published");
    let foreign = fs::read(bobby.path().join("published")).unwrap();
    for bytes in [&[][..], &foreign[..10], &foreign] {
        fs::write(&path, bytes).unwrap();
        let store = Store::open_read_only(alice.path(), &options(1)).unwrap();
        assert_eq!(store.bounds("s").unwrap(), (0, MESSAGES));
        assert!(!store.refresh().unwrap());
    }
}
